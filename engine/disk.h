/*
 * The engine's one seam to the operating system: a directory tree that a store lives in.
 *
 * Implementations: disk_posix (a directory; io_uring, two-thread or buffered commits), disk_memory
 * (a `mem:` store), and the simulated disk of tests/lib, which loses power between any two sectors.
 *
 * Paths are relative to the store's directory, at most DISK_PATH_MAX bytes, without "..". All
 * methods may be called from any thread; calls on one file may run in parallel, but the caller never
 * has two writes to one block in flight. Methods return 0 or -errno of the operating system; none
 * ever retries a failed write or flush.
 *
 * What survives a power cut: a file's bytes and size after a successful flush of that file
 * (disk_commit, disk_flush); a name after a successful disk_sync_dir of its directory. Anything else may
 * be there, in part, or not at all, sector by sector.
 */
#ifndef PROTOFS_ENGINE_DISK_H
#define PROTOFS_ENGINE_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/attr.h"
#include "base/reterr.h"

/* The unit of direct I/O: offsets, sizes and buffers of DISK_DIRECT commits are multiples of it. */
enum { DISK_BLOCK_SIZE = 4096, DISK_SECTOR_SIZE = 512, DISK_PATH_MAX = 256, DISK_WRITES_MAX = 4 };

enum disk_open_flags {
	DISK_READ = 0,
	DISK_WRITE = 1 << 0,
	DISK_CREATE = 1 << 1, /* must not exist yet: -EEXIST */
	DISK_DIRECT = 1 << 2, /* commits bypass the page cache where the disk can; reads never do */
	DISK_REPLACE = 1 << 3, /* with DISK_CREATE: an existing file is emptied instead */
	/*
	 * For bytes that are read once: long reads of whole blocks into aligned memory bypass the page cache where the
	 * disk can. All others are as without it.
	 */
	DISK_READ_ONCE = 1 << 4,
	/* Reads have the size that is wanted: each is one request to the disk, without read-ahead. */
	DISK_READ_EXACT = 1 << 5,
};

struct disk;
struct disk_file;

/* One contiguous write; the iovecs are borrowed until the commit returns. */
struct disk_write {
	const struct iovec *iov;
	int iov_count;
	uint64_t offset;
};

/* Writes to one file followed by one flush of it. */
struct disk_job {
	struct disk_file *file;
	struct disk_write writes[DISK_WRITES_MAX];
	unsigned write_count;
	bool no_flush; /* paced background writes, flushed later by somebody */
	int result;    /* set by disk_commit: 0 or -errno of the first failure in this job */
};

struct disk_space {
	uint64_t total;     /* bytes */
	uint64_t available; /* bytes that this user may still reserve */
};

/* Tells a store directory from a copy of it. All zero where the disk has no such thing. */
struct disk_identity {
	uint64_t inode;
	uint8_t machine[16];
};

/* Called for every name but "." and ".."; a negative return ends the listing with that value. */
typedef int disk_list_fn(void *arg, const char *name, bool is_dir);

struct disk_ops {
	const char *name; /* "io_uring", "threads", "buffered", "memory", ...: shown by status */

	int (*open)(struct disk *disk, const char *path, unsigned flags, struct disk_file **ret);
	void (*close)(struct disk_file *file);

	/* Reads up to SIZE bytes; fewer only at the end of the file. Returns the count. */
	int (*read)(struct disk_file *file, void *data, size_t size, uint64_t offset, size_t *ret);

	/*
	 * Submits the writes of all jobs in parallel; each file is flushed once after its own writes, the
	 * flushes in parallel. Short writes are continued; no progress is -EIO. Returns 0 if every job
	 * succeeded, else the first failed job's result; every job's result is set. A failed job's bytes may be
	 * on the disk wholly, in part or not at all, and a later flush proves nothing about them.
	 */
	int (*commit)(struct disk *disk, struct disk_job *jobs, size_t count);
	int (*flush)(struct disk_file *file);

	int (*size)(struct disk_file *file, uint64_t *ret);
	int (*truncate)(struct disk_file *file, uint64_t size);
	/* Makes writes to the range unable to fail with ENOSPC; the bytes read as zeros until written. */
	int (*reserve)(struct disk_file *file, uint64_t offset, uint64_t size);

	int (*mkdir)(struct disk *disk, const char *path); /* -EEXIST if there */
	int (*rmdir)(struct disk *disk, const char *path);
	int (*unlink)(struct disk *disk, const char *path);
	int (*rename)(struct disk *disk, const char *from, const char *to); /* replaces TO */
	int (*sync_dir)(struct disk *disk, const char *path); /* "" is the store's own directory */
	int (*list)(struct disk *disk, const char *path, disk_list_fn *fn, void *arg);

	int (*space)(struct disk *disk, struct disk_space *ret);
	int (*identity)(struct disk *disk, struct disk_identity *ret);
	/*
	 * Takes the store for this process until the disk is freed, by a lock on the file "lock"; shared for
	 * readers. -EBUSY if another process holds it: ERR names its pid.
	 */
	int (*lock)(struct disk *disk, bool exclusive, struct reterr *err);
	void (*free)(struct disk *disk);
};

/* Implementations put this first in their own struct. */
struct disk {
	const struct disk_ops *ops;
};

struct disk_file {
	struct disk *disk;
};

enum disk_path {
	DISK_PATH_AUTO,     /* io_uring, else threads */
	DISK_PATH_IO_URING, /* -ENOSYS or -EPERM where the kernel or a sandbox refuses it */
	DISK_PATH_THREADS,  /* parallel pwrites from two threads, one fdatasync */
	DISK_PATH_BUFFERED, /* no O_DIRECT; parallel submission as AUTO has it */
};

/*
 * The directory DIR (an existing one; opened once, then used only by descriptor). Where O_DIRECT is refused
 * its commits are buffered. Freed by disk_free.
 */
PROTOFS_API MUST_CHECK int disk_posix_open(const char *dir, enum disk_path path, struct reterr *err,
					   struct disk **ret);

/* An empty tree in memory, at most SIZE_MAX bytes: -ENOSPC beyond. Flushes cost nothing. */
PROTOFS_API MUST_CHECK int disk_memory_new(uint64_t size_max, struct disk **ret);

/* Accepts NULL. All files must be closed. */
PROTOFS_API void disk_free(struct disk *disk);

/* Short forms of the methods, so that call sites read well. */
MUST_CHECK int disk_open(struct disk *disk, const char *path, unsigned flags,
			 struct disk_file **ret);
void disk_close(struct disk_file *file); /* accepts NULL */
MUST_CHECK int disk_read(struct disk_file *file, void *data, size_t size, uint64_t offset,
			 size_t *ret);
/* Exactly SIZE bytes: -ENODATA if the file ends before. */
MUST_CHECK int disk_read_full(struct disk_file *file, void *data, size_t size, uint64_t offset);
MUST_CHECK int disk_commit(struct disk *disk, struct disk_job *jobs, size_t count);
/* One write and one flush of a file that was not opened DISK_DIRECT. */
MUST_CHECK int disk_write_flush(struct disk_file *file, const void *data, size_t size,
				uint64_t offset);
MUST_CHECK int disk_flush(struct disk_file *file);
MUST_CHECK int disk_size(struct disk_file *file, uint64_t *ret);
MUST_CHECK int disk_truncate(struct disk_file *file, uint64_t size);
MUST_CHECK int disk_reserve(struct disk_file *file, uint64_t offset, uint64_t size);
MUST_CHECK int disk_mkdir(struct disk *disk, const char *path);
MUST_CHECK int disk_unlink(struct disk *disk, const char *path);
MUST_CHECK int disk_rename(struct disk *disk, const char *from, const char *to);
MUST_CHECK int disk_sync_dir(struct disk *disk, const char *path);
MUST_CHECK int disk_list(struct disk *disk, const char *path, disk_list_fn *fn, void *arg);

/*
 * Replaces PATH atomically and durably: writes PATH.tmp, flushes, renames, syncs DIR (PATH's
 * directory). After a crash PATH holds the old bytes or the new ones, whole.
 */
MUST_CHECK int disk_replace_file(struct disk *disk, const char *dir, const char *path,
				 const void *data, size_t size);
/* The whole of PATH, at most SIZE_MAX bytes (-EFBIG), into malloc'ed memory of the caller. */
MUST_CHECK int disk_read_file(struct disk *disk, const char *path, size_t size_max, void **ret_data,
			      size_t *ret_size);

#endif
