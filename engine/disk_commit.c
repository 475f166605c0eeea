/*
 * A commit: the writes of all jobs in parallel, then one fdatasync for each file, in parallel.
 *
 * 1. Every write is handed out: to one submission of a ring, or to the caller and the helper threads. A single
 *    write is simply made.
 * 2. A write that the kernel cut short, or did not begin (EINTR, EAGAIN), goes on here from where it stopped.
 *    One that failed has failed: it is never made again, and its job gets no flush.
 * 3. When all writes are over, the files are flushed. One file: by the caller itself, since io_uring would
 *    only pass it on to a worker thread.
 *
 * Nothing is allocated on the way: a commit never fails for want of memory.
 */
#include <errno.h>
#include <limits.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/disk_path.h"
#include "engine/disk_posix.h"

enum {
	WINDOW_MAX = 32,          /* iovecs of a write that is continued */
	INTERRUPTIONS_MAX = 1000, /* in a row, without a byte written */
};

/* ---- One write ---- */

static bool file_is_direct(const struct posix_file *file)
{
	return file->direct_fd >= 0 && !atomic_load(&file->direct_refused);
}

static int file_write_fd(const struct posix_file *file)
{
	return file_is_direct(file) ? file->direct_fd : file->fd;
}

/* The iovecs of WRITE from byte SKIP on, as many as fit. */
static int iov_window(const struct disk_write *write, size_t skip, struct iovec out[WINDOW_MAX])
{
	int count = 0;
	for (int i = 0; i < write->iov_count && count < WINDOW_MAX; i++) {
		const struct iovec *iov = &write->iov[i];
		if (skip >= iov->iov_len) {
			skip -= iov->iov_len;
			continue;
		}
		out[count++] = (struct iovec){.iov_base = (char *)iov->iov_base + skip,
					      .iov_len = iov->iov_len - skip};
		skip = 0;
	}
	return count;
}

/* One system call. The first one passes the caller's own iovecs. */
static ssize_t write_some(int fd, const struct disk_write *write, size_t done)
{
	if (done == 0) {
		int count = write->iov_count < IOV_MAX ? write->iov_count : IOV_MAX;
		return pwritev(fd, write->iov, count, (off_t)write->offset);
	}
	struct iovec window[WINDOW_MAX];
	int count = iov_window(write, done, window);
	return pwritev(fd, window, count, (off_t)(write->offset + done));
}

/*
 * Makes WRITE from byte DONE on. A direct write goes on at a block's boundary: it repeats the bytes of the block that was
 * cut, which are the same.
 */
static int write_from(struct posix_file *file, const struct disk_write *write, size_t done)
{
	size_t size = disk_write_size(write);
	unsigned idle = 0;

	while (done < size) {
		bool direct = file_is_direct(file);
		ssize_t n = write_some(file_write_fd(file), write, done);
		if (n == 0)
			return -EIO;
		if (n < 0 && errno == EINVAL && direct) {
			atomic_store(&file->direct_refused, true);
			continue;
		}
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n < 0 && ++idle > INTERRUPTIONS_MAX)
			return -errno;
		if (n < 0)
			continue;

		size_t reached = done + (size_t)n;
		if (direct && reached < size)
			reached -= reached % DISK_BLOCK_SIZE;
		/* Less than a block: the next call says why (ENOSPC), unless there is no reason. */
		if (reached <= done && ++idle > INTERRUPTIONS_MAX)
			return -EIO;
		if (reached > done) {
			done = reached;
			idle = 0;
		}
	}
	return 0;
}

/* What a ring's result RESULT makes of WRITE, finished here if it was cut short. */
static int write_conclude(struct posix_file *file, bool was_direct, const struct disk_write *write,
			  int result)
{
	if (result > 0) {
		size_t done = (size_t)result;
		if (done >= disk_write_size(write))
			return 0;
		return write_from(file, write, was_direct ? done - done % DISK_BLOCK_SIZE : done);
	}
	if (result == -EINVAL && was_direct) {
		atomic_store(&file->direct_refused, true);
		return write_from(file, write, 0);
	}
	if (result == -EINTR || result == -EAGAIN || result == DISK_RING_NOT_RUN)
		return write_from(file, write, 0);
	return result < 0 || disk_write_size(write) == 0 ? result : -EIO;
}

/* A failed fdatasync is final: the kernel may have marked the pages clean. */
static int file_flush(const struct posix_file *file)
{
	unsigned interruptions = 0;
	while (fdatasync(file->fd) < 0) {
		if (errno != EINTR || ++interruptions > INTERRUPTIONS_MAX)
			return -errno;
	}
	return 0;
}

/* ---- Parts: what can run in parallel ---- */

struct part {
	struct disk_job *job;
	const struct disk_write *write; /* NULL: the flush of the job's file */
	int result;
};

enum { PARTS_MAX = DISK_RING_OPS_MAX };

static void part_run(void *parts, size_t index)
{
	struct part *part = (struct part *)parts + index;
	struct posix_file *file = posix_file_of(part->job->file);

	part->result = part->write ? write_from(file, part->write, 0) : file_flush(file);
}

static void part_conclude(struct part *part, const struct disk_ring_op *op)
{
	struct posix_file *file = posix_file_of(part->job->file);

	if (part->write)
		part->result = write_conclude(file, op->fd != file->fd, part->write, op->result);
	else if (op->result == DISK_RING_NOT_RUN || op->result == -EINTR)
		part->result = file_flush(file);
	else
		part->result = op->result;
}

static void ring_run_parts(struct disk_ring *ring, struct part *parts, size_t count)
{
	struct disk_ring_op ops[PARTS_MAX];

	for (size_t i = 0; i < count; i++) {
		const struct posix_file *file = posix_file_of(parts[i].job->file);
		const struct disk_write *write = parts[i].write;
		ops[i] = (struct disk_ring_op){.fd = file->fd};
		if (write) {
			ops[i].fd = file_write_fd(file);
			ops[i].iov = write->iov;
			ops[i].iov_count = write->iov_count < IOV_MAX ? write->iov_count : IOV_MAX;
			ops[i].offset = write->offset;
		}
	}
	if (parts[0].write) {
		disk_ring_run(ring, ops, count);
	} else {
		/* One flush needs no worker: this thread would only wait for it. */
		count--;
		disk_ring_start(ring, ops, count);
		part_run(parts, count);
		disk_ring_finish(ring, ops, count);
	}
	for (size_t i = 0; i < count; i++)
		part_conclude(&parts[i], &ops[i]);
}

/* All writes, or all flushes. */
static void run_parts(struct posix_disk *disk, struct part *parts, size_t count)
{
	if (count == 0)
		return;
	if (count == 1) {
		part_run(parts, 0);
	} else {
		struct disk_ring *ring = disk->rings ? disk_ring_take(disk->rings) : NULL;
		if (ring) {
			ring_run_parts(ring, parts, count);
			disk_ring_put(disk->rings, ring);
		} else {
			disk_helpers_run(disk->helpers, part_run, parts, count);
		}
	}
	for (size_t i = 0; i < count; i++) {
		if (parts[i].job->result == 0)
			parts[i].job->result = parts[i].result;
	}
}

static void run_writes(struct posix_disk *disk, struct disk_job *jobs, size_t count)
{
	struct part parts[PARTS_MAX];
	size_t used = 0;

	for (size_t i = 0; i < count; i++) {
		for (unsigned w = 0; w < jobs[i].write_count && jobs[i].result == 0; w++) {
			if (disk_write_size(&jobs[i].writes[w]) == 0)
				continue;
			parts[used++] = (struct part){.job = &jobs[i], .write = &jobs[i].writes[w]};
			if (used < PARTS_MAX)
				continue;
			run_parts(disk, parts, used);
			used = 0;
		}
	}
	run_parts(disk, parts, used);
}

static void run_flushes(struct posix_disk *disk, struct disk_job *jobs, size_t count)
{
	struct part parts[PARTS_MAX];
	size_t used = 0;

	for (size_t i = 0; i < count; i++) {
		if (jobs[i].result != 0 || jobs[i].no_flush)
			continue;
		parts[used++] = (struct part){.job = &jobs[i]};
		if (used < PARTS_MAX)
			continue;
		run_parts(disk, parts, used);
		used = 0;
	}
	run_parts(disk, parts, used);
}

/* ---- Entry points ---- */

/* Asked of every DISK_DIRECT file, so that a misaligned caller fails everywhere, not only where it must. */
static int job_check(const struct disk_job *job)
{
	if (!posix_file_of(job->file)->direct)
		return 0;
	for (unsigned w = 0; w < job->write_count; w++) {
		if (!disk_write_is_aligned(&job->writes[w]))
			return -EINVAL;
	}
	return 0;
}

int posix_commit(struct disk *base, struct disk_job *jobs, size_t count)
{
	struct posix_disk *disk = posix_disk_of(base);

	for (size_t i = 0; i < count; i++)
		jobs[i].result = job_check(&jobs[i]);
	run_writes(disk, jobs, count);
	run_flushes(disk, jobs, count);
	for (size_t i = 0; i < count; i++) {
		if (jobs[i].result < 0)
			return jobs[i].result;
	}
	return 0;
}

int posix_flush(struct disk_file *file)
{
	return file_flush(posix_file_of(file));
}
