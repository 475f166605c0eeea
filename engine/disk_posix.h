/*
 * Inside disk_posix: a directory of the operating system.
 *
 *   disk_posix.c    names, files, sizes
 *   disk_lock.c     the lock on the store, and what tells a store from its copy
 *   disk_commit.c   the recipe of a commit: all writes in parallel, then one flush a file
 *   disk_write.c    one write, one flush: short, interrupted, refused, failed
 *   disk_uring.c    submits through io_uring
 *   disk_threads.c  submits through helper threads
 *
 * A DISK_DIRECT file has two descriptors: an O_DIRECT one for commits, a buffered one for all else. The
 * kernel drops cached pages under a direct write, so that both see the same bytes. Every flush is an
 * fdatasync of the buffered one, which covers the whole inode.
 */
#ifndef PROTOFS_ENGINE_DISK_POSIX_H
#define PROTOFS_ENGINE_DISK_POSIX_H

#include <stdatomic.h>
#include <stdbool.h>

#include "engine/disk.h"

struct disk_helpers;
struct disk_rings;
struct disk_ring;

struct posix_disk {
	struct disk base;
	struct disk_ops ops; /* base.ops: the name in it depends on what the system allows */
	int dir_fd;
	int lock_fd; /* -1 until posix_lock() */
	bool no_direct;
	struct disk_rings *rings; /* NULL: helpers only */
	struct disk_helpers *helpers;
};

struct posix_file {
	struct disk_file base;
	int fd;
	int direct_fd; /* for commits; -1: none */
	int once_fd;   /* O_DIRECT, for long reads; -1: none */
	bool direct;   /* opened DISK_DIRECT: writes must be aligned, whichever way they go */
	/* The kernel took O_DIRECT at open but refused the first write: commits are buffered from then on. */
	atomic_bool direct_refused;
	/* Something other than a write that was durable by itself may wait for a flush. */
	atomic_bool unflushed;
};

static inline struct posix_disk *posix_disk_of(struct disk *disk)
{
	return (struct posix_disk *)disk;
}

static inline struct posix_file *posix_file_of(struct disk_file *file)
{
	return (struct posix_file *)file;
}

/* ---- disk_commit.c ---- */

int posix_commit(struct disk *disk, struct disk_job *jobs, size_t count);
int posix_flush(struct disk_file *file);

/* ---- disk_write.c ---- */

enum {
	POSIX_WRITE_GO_ON = 0,   /* make another attempt */
	POSIX_WRITE_DONE = 1,    /* all written; a flush makes it durable */
	POSIX_WRITE_DURABLE = 2, /* all written and flushed */
};

/* A write under way. Between the attempts the fields say how the next one is made. */
struct posix_write {
	struct posix_file *file;
	const struct disk_write *write;
	size_t size;
	size_t done;
	unsigned stalls; /* attempts in a row without progress */
	bool direct;
	bool durable; /* RWF_DSYNC */
};

bool posix_file_is_direct(const struct posix_file *file);

void posix_write_begin(struct posix_write *w, struct posix_file *file,
		       const struct disk_write *write, bool durable);
/* How the first attempt is made, by somebody else. */
int posix_write_fd(const struct posix_write *w);
int posix_write_flags(const struct posix_write *w);
int posix_write_iov_count(const struct posix_write *w);
/* The result of an attempt, bytes or -errno: POSIX_WRITE_... or -errno, which ends the write. */
MUST_CHECK int posix_write_account(struct posix_write *w, ssize_t result);
/* Makes attempts until it is over: POSIX_WRITE_DONE, _DURABLE, or -errno. */
MUST_CHECK int posix_write_run(struct posix_write *w);

/* Around an fdatasync that somebody else makes; the second says POSIX_WRITE_GO_ON, _DURABLE or -errno. */
void posix_flush_begin(struct posix_file *file);
MUST_CHECK int posix_flush_account(struct posix_file *file, int result);
MUST_CHECK int posix_file_flush(struct posix_file *file);

/* ---- disk_lock.c ---- */

int posix_lock(struct disk *disk, bool exclusive, struct reterr *err);
int posix_identity(struct disk *disk, struct disk_identity *ret);

/* ---- disk_uring.c ---- */

enum { DISK_RING_OPS_MAX = 128 };

struct disk_ring_op {
	int fd;
	const struct iovec *iov; /* NULL: an fdatasync */
	int iov_count;
	uint64_t offset;
	int flags; /* RWF_... */
};

/* -ENOSYS, -EPERM, ... where io_uring cannot be used. */
MUST_CHECK int disk_rings_new(struct disk_rings **ret);
void disk_rings_free(struct disk_rings *rings); /* accepts NULL; no ring is taken */

/* A ring for the caller alone, until it is put back; waits while all are taken. NULL: none can be made. */
struct disk_ring *disk_ring_take(struct disk_rings *rings);
/* Nothing is under way in it. */
void disk_ring_put(struct disk_rings *rings, struct disk_ring *ring);

/*
 * Starts OPS[FIRST] to OPS[LAST], LAST not included, at most DISK_RING_OPS_MAX under way at a time. Returns how many
 * the kernel took; the rest were not begun. The iovecs are in use until disk_ring_wait() has returned each index.
 */
MUST_CHECK size_t disk_ring_submit(struct disk_ring *ring, const struct disk_ring_op *ops,
				   size_t first, size_t last);
/* Waits for one that is under way. Returns its index; RET is its result, bytes or -errno. */
size_t disk_ring_wait(struct disk_ring *ring, int *ret);

/* ---- disk_threads.c ---- */

typedef void disk_task_fn(void *arg, size_t index);

MUST_CHECK int disk_helpers_new(struct disk_helpers **ret);
void disk_helpers_free(struct disk_helpers *helpers); /* accepts NULL; nothing is running */
/* Calls FN for each index below COUNT, in the caller and idle helpers in parallel; returns after the last. */
void disk_helpers_run(struct disk_helpers *helpers, disk_task_fn *fn, void *arg, size_t count);

#endif
