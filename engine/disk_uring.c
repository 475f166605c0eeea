/*
 * A few io_uring instances. A ring belongs to one thread while it is taken, so that nothing in it needs a lock;
 * a semaphore bounds the takers, hence whoever passed it finds a free ring.
 *
 * A ring whose submission failed is made anew before the next use: what the kernel took is waited for, the
 * rest is the caller's, who makes it in the ordinary way.
 */
#include <errno.h>
#include <liburing.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>

#include "base/invariant.h"
#include "engine/disk_posix.h"

enum { RINGS_MAX = 4 };

struct disk_ring {
	struct io_uring uring;
	atomic_bool taken;
	/* The rest belongs to who has taken it. */
	bool ready;
	bool broken;
};

struct disk_rings {
	sem_t free;
	struct disk_ring rings[RINGS_MAX];
};

/* Setting up may be allowed where entering is not (a sandbox), so one empty operation is made. */
static int ring_init(struct disk_ring *ring)
{
	/* Without interrupting the submitter for each completion, where the kernel can (5.19). */
	int r = io_uring_queue_init(DISK_RING_OPS_MAX, &ring->uring, IORING_SETUP_COOP_TASKRUN);
	if (r == -EINVAL)
		r = io_uring_queue_init(DISK_RING_OPS_MAX, &ring->uring, 0);
	if (r < 0)
		return r;

	struct io_uring_cqe *cqe;
	io_uring_prep_nop(io_uring_get_sqe(&ring->uring));
	r = io_uring_submit_and_wait(&ring->uring, 1);
	if (r >= 0)
		r = io_uring_peek_cqe(&ring->uring, &cqe);
	if (r < 0) {
		io_uring_queue_exit(&ring->uring);
		return r;
	}
	io_uring_cqe_seen(&ring->uring, cqe);
	ring->ready = true;
	return 0;
}

int disk_rings_new(struct disk_rings **ret)
{
	struct disk_rings *rings = calloc(1, sizeof(*rings));
	if (!rings)
		return -ENOMEM;
	int r = ring_init(&rings->rings[0]);
	if (r < 0) {
		free(rings);
		return r;
	}
	(void)sem_init(&rings->free, 0, RINGS_MAX);
	*ret = rings;
	return 0;
}

void disk_rings_free(struct disk_rings *rings)
{
	if (!rings)
		return;
	for (unsigned i = 0; i < RINGS_MAX; i++) {
		if (rings->rings[i].ready)
			io_uring_queue_exit(&rings->rings[i].uring);
	}
	(void)sem_destroy(&rings->free);
	free(rings);
}

struct disk_ring *disk_ring_take(struct disk_rings *rings)
{
	while (sem_wait(&rings->free) < 0)
		; /* EINTR */
	struct disk_ring *ring = NULL;
	for (unsigned i = 0; i < RINGS_MAX && !ring; i++) {
		if (!atomic_exchange(&rings->rings[i].taken, true))
			ring = &rings->rings[i];
	}
	invariant(ring);

	if (ring->broken && ring->ready) {
		io_uring_queue_exit(&ring->uring);
		ring->ready = false;
		ring->broken = false;
	}
	if (ring->ready || ring_init(ring) == 0)
		return ring;
	disk_ring_put(rings, ring);
	return NULL;
}

void disk_ring_put(struct disk_rings *rings, struct disk_ring *ring)
{
	atomic_store(&ring->taken, false);
	(void)sem_post(&rings->free);
}

static void prepare(struct io_uring_sqe *sqe, const struct disk_ring_op *op)
{
	if (op->iov)
		io_uring_prep_writev2(sqe, op->fd, op->iov, (unsigned)op->iov_count, op->offset,
				      op->flags);
	else
		io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
}

size_t disk_ring_submit(struct disk_ring *ring, const struct disk_ring_op *ops, size_t first,
			size_t last)
{
	if (ring->broken)
		return 0;
	for (size_t i = first; i < last; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
		invariant(
			sqe); /* all earlier ones were submitted, and the ring holds DISK_RING_OPS_MAX */
		prepare(sqe, &ops[i]);
		io_uring_sqe_set_data64(sqe, i);
	}
	size_t submitted = 0;
	while (submitted < last - first && !ring->broken) {
		int r = io_uring_submit(&ring->uring);
		if (r > 0)
			submitted += (size_t)r;
		else if (r != -EINTR)
			ring->broken = true;
	}
	return submitted;
}

/* What is under way uses memory of our caller, so this never gives up. */
size_t disk_ring_wait(struct disk_ring *ring, int *ret)
{
	struct io_uring_cqe *cqe;
	int r;
	while ((r = io_uring_wait_cqe(&ring->uring, &cqe)) < 0) {
		if (r == -EINTR)
			continue;
		ring->broken = true;
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	size_t index = (size_t)io_uring_cqe_get_data64(cqe);
	*ret = cqe->res;
	io_uring_cqe_seen(&ring->uring, cqe);
	return index;
}
