/*
 * The shared root in files of one machine, agreed on by the kernel's locks: what several daemons on
 * one host, and tests, use in place of etcd.
 *
 *   root         the newest root (root_log_codec.c), replaced atomically
 *   root.mutex   locked (flock) while `root` is read (shared) or replaced (exclusive): a short time
 *   root.lock    locked (flock) while somebody holds the lock that orders publishers: as long as
 *   they like root.epoch   the last epoch given, replaced atomically: {magic "protoepo", u64 epoch,
 *   32 zeros, XXH3-128 of the
 *                48 bytes before}
 *
 * Invariants:
 *  1. A root is durable before anybody is told of it: a reader that is the first to see one flushes
 *     the directory itself, because its publisher may have died between rename and flush.
 *  2. An epoch is durable before it is given.
 *  3. A lock dies with the process that holds it, at once.
 *
 * Locks, outermost first: root.lock, root.mutex, then `lock` in memory, under which there is no
 * I/O. A publisher without the lock takes the first two the other way round, but does not wait for
 * root.lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/le.h"
#include "cluster/cluster.h"
#include "cluster/root_log_codec.h"

#define ROOT_NAME "root"
#define MUTEX_NAME "root.mutex"
#define LOCK_NAME "root.lock"
#define EPOCH_NAME "root.epoch"

enum {
	EPOCH_SIZE = 64,
	EPOCH_SUM_OFFSET = EPOCH_SIZE - HASH_SIZE,
	POLL_MS = 10,    /* between two tries to get the lock */
	WATCH_MS = 1000, /* between two looks, should a notification be missed */
};

static const char epoch_magic[8] = {'p', 'r', 'o', 't', 'o', 'e', 'p', 'o'};

struct file_log {
	struct shared_root_log base;
	int dir_fd;
	int stop_fd;                  /* an eventfd: readable once it is stopped */
	atomic_uint_fast64_t settled; /* roots up to this seq are known to be durable */
	pthread_mutex_t lock;         /* guards the rest */
	int held_fd;                  /* of root.lock, -1 if it is not ours */
	uint64_t held_epoch;
};

static struct file_log *log_of(struct shared_root_log *base)
{
	return (struct file_log *)base;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

/* The descriptor, which the caller's cleanup is not to close any more. */
static int take_fd(int *fd)
{
	int taken = *fd;
	*fd = -1;
	return taken;
}

static int fail(struct reterr *err, int r, const char *what)
{
	int code = r == -EBADMSG || r == -ENOMEM || r == -ECANCELED ? r : -EIO;
	return reterr_set(err, code, "cannot %s: %s", what, strerror(-r));
}

/* ---- Files ---- */

/* The bytes of NAME, fewer at its end. -ENOENT. */
static int read_file(const struct file_log *log, const char *name, uint8_t *bytes, size_t size,
		     size_t *ret)
{
	CLEANUP(close_fd) int fd = openat(log->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	size_t done = 0;
	while (done < size) {
		ssize_t n = pread(fd, bytes + done, size - done, (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	*ret = done;
	return 0;
}

/*
 * Atomically and durably. The caller has the lock that goes with NAME, so nobody else uses the
 * temporary name.
 */
static int replace_file(const struct file_log *log, const char *name, const uint8_t *bytes,
			size_t size)
{
	char temporary[32];
	(void)snprintf(temporary, sizeof(temporary), "%s.tmp", name);
	CLEANUP(close_fd)
	int fd = openat(log->dir_fd, temporary,
			O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, bytes, size); /* a short write of a few bytes is a full disk */
	if (n < 0)
		return -errno;
	if ((size_t)n != size)
		return -ENOSPC;
	if (fsync(fd) < 0 || renameat(log->dir_fd, temporary, log->dir_fd, name) < 0 ||
	    fsync(log->dir_fd) < 0)
		return -errno;
	return 0;
}

/* Opens NAME and locks it. -EWOULDBLOCK if that would have to wait and OPERATION has LOCK_NB. */
static int lock_file(const struct file_log *log, const char *name, int operation, int *ret_fd)
{
	CLEANUP(close_fd)
	int fd = openat(log->dir_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	while (flock(fd, operation) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

/* ---- The root ---- */

/* root.mutex is held. -ENOENT there is none. */
static int load(struct file_log *log, struct shared_root *ret)
{
	uint8_t bytes[SHARED_ROOT_SIZE];
	size_t size;
	int r = read_file(log, ROOT_NAME, bytes, sizeof(bytes), &size);
	if (r < 0)
		return r;
	if (shared_root_decode((struct slice){.data = bytes, .size = size}, ret) < 0)
		return -EBADMSG;

	if (ret->seq > atomic_load(&log->settled)) { /* invariant 1 */
		if (fsync(log->dir_fd) < 0)
			return -errno;
		atomic_store(&log->settled, ret->seq);
	}
	return 0;
}

static int file_read(struct shared_root_log *base, struct shared_root *ret, struct reterr *err)
{
	struct file_log *log = log_of(base);
	CLEANUP(close_fd) int mutex_fd = -1;
	int r = lock_file(log, MUTEX_NAME, LOCK_SH, &mutex_fd);
	if (r == 0)
		r = load(log, ret);
	if (r == -ENOENT)
		return reterr_set(err, r, "no root was published yet");
	return r < 0 ? fail(err, r, "read the root") : 0;
}

/*
 * Whether a publisher with EPOCH may go on. Without one it takes root.lock in RET_FD until it is
 * done, so that nobody is granted it meanwhile.
 */
static int may_publish(struct file_log *log, uint64_t epoch, int *ret_fd, struct reterr *err)
{
	if (epoch != 0) {
		pthread_mutex_lock(&log->lock);
		bool held = log->held_epoch == epoch;
		pthread_mutex_unlock(&log->lock);
		return held ? 0
			    : reterr_set(err, -ENOLCK, "lock %" PRIu64 " is not held any more",
					 epoch);
	}
	int r = lock_file(log, LOCK_NAME, LOCK_EX | LOCK_NB, ret_fd);
	if (r == -EWOULDBLOCK)
		return reterr_set(err, -EPERM, "somebody else holds the lock");
	return r < 0 ? fail(err, r, "test the lock") : 0;
}

static int file_publish(struct shared_root_log *base, uint64_t expected,
			const struct shared_root *next, uint64_t epoch, struct shared_root *ret,
			struct reterr *err)
{
	struct file_log *log = log_of(base);
	CLEANUP(close_fd) int mutex_fd = -1; /* closed last: see below */
	CLEANUP(close_fd) int lock_fd = -1;
	int r = shared_root_check(expected, next, err);
	if (r < 0)
		return r;
	/* The mutex first: publishers without the lock must not take one another for its holder. */
	r = lock_file(log, MUTEX_NAME, LOCK_EX, &mutex_fd);
	if (r < 0)
		return fail(err, r, "lock the root");
	r = may_publish(log, epoch, &lock_fd, err);
	if (r < 0)
		return r;

	struct shared_root current = {.seq = 0};
	r = load(log, &current);
	if (r < 0 && r != -ENOENT)
		return fail(err, r, "read the root");
	if (current.seq != expected) {
		if (ret)
			*ret = current;
		return reterr_set(err, -ESTALE, "the root moved to %" PRIu64, current.seq);
	}
	uint8_t bytes[SHARED_ROOT_SIZE];
	shared_root_encode(next, bytes);
	r = replace_file(log, ROOT_NAME, bytes, sizeof(bytes));
	return r < 0 ? fail(err, r, "publish the root") : 0;
}

/* ---- Waiting ---- */

static uint64_t now_ms(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint64_t deadline_of(uint64_t timeout_ms)
{
	uint64_t now = now_ms();
	return timeout_ms > UINT64_MAX - now ? UINT64_MAX : now + timeout_ms;
}

/* Sleeps until FD (may be -1) is readable, STEP_MS or DEADLINE. -ETIMEDOUT, -ECANCELED. */
static int nap(const struct file_log *log, int fd, uint64_t step_ms, uint64_t deadline_ms)
{
	uint64_t now = now_ms();
	if (now >= deadline_ms)
		return -ETIMEDOUT;
	if (step_ms > deadline_ms - now)
		step_ms = deadline_ms - now;
	struct pollfd fds[] = {{.fd = log->stop_fd, .events = POLLIN},
			       {.fd = fd, .events = POLLIN}};
	(void)poll(fds, 2, (int)step_ms);
	return fds[0].revents ? -ECANCELED : 0;
}

/* An inotify descriptor that becomes readable when a name appears in the directory. -1: without. */
static int notifier_new(const struct file_log *log)
{
	char path[64];
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (fd < 0)
		return -1;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", log->dir_fd);
	if (inotify_add_watch(fd, path, IN_MOVED_TO) < 0) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

static void drain(int fd)
{
	char events[4096];
	while (fd >= 0 && read(fd, events, sizeof(events)) > 0)
		;
}

static int file_watch(struct shared_root_log *base, uint64_t seen, uint64_t timeout_ms,
		      struct shared_root *ret, struct reterr *err)
{
	struct file_log *log = log_of(base);
	struct shared_root root;
	uint64_t deadline_ms = deadline_of(timeout_ms);
	CLEANUP(close_fd)
	int fd = notifier_new(log); /* before the first look, lest one is missed */
	int r = 0;
	while (r == 0) {
		drain(fd);
		int got = file_read(base, &root, err);
		if (got < 0 && got != -ENOENT)
			return got;
		if (got == 0 && root.seq > seen) {
			*ret = root;
			return 0;
		}
		r = nap(log, fd, fd < 0 ? POLL_MS : WATCH_MS, deadline_ms);
	}
	return reterr_set(err, r, "no newer root than %" PRIu64 ": %s", seen, strerror(-r));
}

/* ---- The lock ---- */

/* root.lock is held. */
static int next_epoch(const struct file_log *log, uint64_t *ret)
{
	uint8_t bytes[EPOCH_SIZE];
	size_t size = 0;
	uint64_t epoch = 0;
	int r = read_file(log, EPOCH_NAME, bytes, sizeof(bytes), &size);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0) {
		struct hash sum = hash_of(bytes, size < EPOCH_SUM_OFFSET ? size : EPOCH_SUM_OFFSET);
		if (size != EPOCH_SIZE || memcmp(bytes, epoch_magic, sizeof(epoch_magic)) != 0 ||
		    memcmp(sum.bytes, bytes + EPOCH_SUM_OFFSET, HASH_SIZE) != 0)
			return -EBADMSG;
		epoch = load_le64(bytes + 8);
	}
	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, epoch_magic, sizeof(epoch_magic));
	store_le64(bytes + 8, ++epoch);
	struct hash sum = hash_of(bytes, EPOCH_SUM_OFFSET);
	memcpy(bytes + EPOCH_SUM_OFFSET, sum.bytes, HASH_SIZE);
	*ret = epoch;
	return replace_file(log, EPOCH_NAME, bytes, sizeof(bytes));
}

static int file_lock(struct shared_root_log *base, uint64_t timeout_ms, uint64_t *ret_epoch,
		     struct reterr *err)
{
	struct file_log *log = log_of(base);
	uint64_t deadline_ms = deadline_of(timeout_ms);
	CLEANUP(close_fd) int fd = -1;
	int r = nap(log, -1, 0, UINT64_MAX); /* stopped already? */
	if (r == 0)
		r = lock_file(log, LOCK_NAME, LOCK_EX | LOCK_NB, &fd);
	while (r == -EWOULDBLOCK) {
		r = nap(log, -1, POLL_MS, deadline_ms);
		if (r == 0)
			r = lock_file(log, LOCK_NAME, LOCK_EX | LOCK_NB, &fd);
	}
	if (r == -ETIMEDOUT)
		return reterr_set(err, r, "somebody else holds the lock");
	uint64_t epoch = 0;
	if (r == 0)
		r = next_epoch(log, &epoch);
	if (r < 0)
		return fail(err, r, "take the lock");

	pthread_mutex_lock(&log->lock);
	log->held_fd = take_fd(&fd);
	log->held_epoch = epoch;
	pthread_mutex_unlock(&log->lock);
	*ret_epoch = epoch;
	return 0;
}

static int file_unlock(struct shared_root_log *base, uint64_t epoch, struct reterr *err)
{
	struct file_log *log = log_of(base);
	CLEANUP(close_fd) int fd = -1;
	pthread_mutex_lock(&log->lock);
	if (epoch != 0 && log->held_epoch == epoch) {
		fd = log->held_fd;
		log->held_fd = -1;
		log->held_epoch = 0;
	}
	pthread_mutex_unlock(&log->lock);
	return fd >= 0 ? 0 : reterr_set(err, -ENOLCK, "lock %" PRIu64 " is not held", epoch);
}

/* ---- Open, stop, free ---- */

static void file_stop(struct shared_root_log *base)
{
	const uint64_t one = 1;
	ssize_t n = write(log_of(base)->stop_fd, &one,
			  sizeof(one)); /* fails only if it is set already */
	(void)n;
}

static void file_free(struct shared_root_log *base)
{
	struct file_log *log = log_of(base);
	close_fd(&log->held_fd);
	close_fd(&log->stop_fd);
	close_fd(&log->dir_fd);
	(void)pthread_mutex_destroy(&log->lock);
	free(log);
}

static const struct shared_root_log_ops file_ops = {
	.name = "file",
	.read = file_read,
	.publish = file_publish,
	.watch = file_watch,
	.lock = file_lock,
	.unlock = file_unlock,
	.stop = file_stop,
	.free = file_free,
};

int shared_root_log_file_open(const char *dir, struct reterr *err, struct shared_root_log **ret)
{
	struct file_log *log = calloc(1, sizeof(*log));
	if (!log)
		return reterr_set(err, -ENOMEM, "no memory");
	log->base.ops = &file_ops;
	log->held_fd = -1;
	(void)pthread_mutex_init(&log->lock, NULL);
	log->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	log->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (log->dir_fd < 0 || log->stop_fd < 0) {
		int r = -errno;
		file_free(&log->base);
		return reterr_set(err, r, "cannot open the directory %s: %s", dir, strerror(-r));
	}
	*ret = &log->base;
	return 0;
}
