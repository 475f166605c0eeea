/*
 * What the files of the root log share: root_log_open.c builds it, root_log.c publishes,
 * root_log_read.c reads, root_log_space.c makes room.
 *
 * Locks: `lock` guards what is marked so, and is never held across I/O. What is marked "publisher"
 * belongs to the one thread that holds the caller's publish lock.
 */
#ifndef PROTOFS_ENGINE_ROOT_LOG_STATE_H
#define PROTOFS_ENGINE_ROOT_LOG_STATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "engine/disk.h"
#include "engine/root_log.h"
#include "engine/root_log_format.h"

enum {
	ROOT_LOG_WINDOW_SIZE = 1 << 20, /* zero-written ahead at once: 1024 records */
	ROOT_LOG_STEP_SIZE = 64 << 10,  /* reserved by a publisher that finds nothing ahead */
	ROOT_LOG_FILES_MAX = 1 << 20,
};

enum root_log_spare { ROOT_LOG_SPARE_NONE, ROOT_LOG_SPARE_BUSY, ROOT_LOG_SPARE_READY };

struct root_log {
	struct disk *disk;
	bool read_only; /* set by open and cut_last only */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* zeroing, spare or keeping has */

	/* lock: */
	uint64_t *firsts; /* of the files, ascending; the last one is the current file */
	size_t file_count;
	size_t file_capacity;
	struct root_log_kept kept;
	struct root_log_entry last; /* seq 0: none */
	uint64_t ready;             /* bytes of the current file that have space */
	uint64_t generation;        /* of the current file: a new number for each */
	bool poisoned;              /* the current file takes no more records */
	bool zeroing;               /* space behind `ready` is being written */
	bool keeping;               /* the file "kept" is being replaced */
	enum root_log_spare spare;

	/*
	 * The current block as it is on the disk, and the record that is being published behind it.
	 * The publisher writes its own slot without the lock, the rest with it; readers read slots
	 * up to `last`, with it.
	 */
	uint8_t *block;
	uint64_t block_seq; /* of its first slot; lock */

	/* publisher: */
	struct disk_file *file; /* the current one; NULL when read-only */
	uint64_t first;         /* its first seq */
	struct root_log_entry pending;
	bool prepared;
	struct iovec iov;
};

/*
 * The record of SEQ from disk. -ENOENT if no file can hold it or its file is gone; -ENODATA the
 * file is shorter;
 * -EBADMSG if it does not verify, is zero, or is not SEQ.
 */
MUST_CHECK int root_log_read_record(struct root_log *log, uint64_t seq, struct root_log_entry *ret);

/*
 * What lies in FIRSTS for SEQ: its file's first seq, and the first seq of the next file. The lock
 * is held.
 */
bool root_log_find_file(const struct root_log *log, uint64_t seq, uint64_t *ret_first,
			uint64_t *ret_end);

/* Appends a file to FIRSTS: -ENOMEM, -ENFILE. The lock is held, or LOG is not yet shared. */
MUST_CHECK int root_log_add_file(struct root_log *log, uint64_t first);

/*
 * Makes a new, empty file that begins at SEQ the current one, durably. Publisher. On failure
 * nothing has changed, except that a file of that name may exist, empty.
 */
MUST_CHECK int root_log_roll(struct root_log *log, uint64_t seq);

/* Space for SIZE bytes of the current file. Publisher. */
MUST_CHECK int root_log_make_room(struct root_log *log, uint64_t size);

/* Writes zeros to [FROM, TO) of FILE (opened DISK_DIRECT) in slices, then flushes it. */
MUST_CHECK int root_log_write_zeros(struct disk_file *file, uint64_t from, uint64_t to);

/* Replaces the file "kept". */
MUST_CHECK int root_log_write_kept(struct disk *disk, const struct root_log_kept *kept);

#endif
