/*
 * The log of published roots on this disk: fixed, checksummed, chained records in files of a
 * directory.
 *
 * Internal to the engine (include/protofs/root_log.h is another thing: the seam to the log that
 * nodes share). The bytes are described at the top of root_log.c.
 *
 * Threads: one publisher at a time (open, cut_last, prepare, done, close: under the caller's
 * publish lock). prepare_ahead may run beside it in one thread; get, last, range, since, prune and
 * check from any thread. A reader never sees a record that root_log_done has not confirmed.
 */
#ifndef PROTOFS_ENGINE_ROOT_LOG_H
#define PROTOFS_ENGINE_ROOT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "base/slice.h"
#include "base/uuid.h"
#include "engine/disk.h"
#include "engine/engine.h"

#define ROOT_LOG_DIR "rootlog"
#define ROOT_LOG_KEPT_PATH "rootlog/kept"

enum {
	ROOT_LOG_RECORD_SIZE = 1024,
	ROOT_LOG_FILE_RECORDS = 65536,      /* 64 MiB a file */
	ROOT_LOG_WINDOW_SIZE = 1024 * 1024, /* zero-written ahead at once */
};

/* Bytes that must be durable before the record means anything. */
struct root_barrier {
	struct uuid segment;
	uint64_t length; /* of the stream, from 0 */
};

struct root_record {
	struct engine_root root;
	uint32_t epoch;
	unsigned barrier_count;
	struct root_barrier barrier[ENGINE_ROOT_BARRIER_MAX];
};

struct root_log;

/* Makes an empty log, durably. -EEXIST if its directory is there. */
MUST_CHECK int root_log_create(struct disk *disk);

/*
 * Opens the log and finds its last record. A torn last record is dropped; it may be what a caller
 * was never told of, no more. Whether the last record's barrier is met is the caller's to judge
 * (root_log_cut_last). 0
 * -EBADMSG damage: ERR names the seq, the file and the byte. RET is set nevertheless: what verifies
 * can be read, and
 *          prepare, cut_last and prune answer -EROFS.
 * -ENOENT  there is no such directory. RET is NULL on this and every other failure.
 */
MUST_CHECK int root_log_open(struct disk *disk, bool read_only, struct reterr *err,
			     struct root_log **ret);

/* The last record. -ENOENT if there is none. */
MUST_CHECK int root_log_last(struct root_log *log, struct root_record *ret);

/*
 * Takes the last record away, durably, before anything else is written: its barrier is not met.
 * Called once, after open and before the first prepare. -ENOENT there is none, or the one before it
 * cannot be read; -EROFS. READ_ONLY logs forget it in memory only, and answer 0.
 */
MUST_CHECK int root_log_cut_last(struct root_log *log, struct reterr *err);

/*
 * Makes JOB the write of RECORD, whose seq is the last one's + 1 (invariant), for the caller to
 * submit by disk_commit, together with others. JOB's buffers belong to LOG until root_log_done,
 * which must follow. Usually no I/O; at the end of a file and after a failure it creates the next
 * file and returns the disk's error if it cannot: then nothing is prepared.
 * -EROFS.
 */
MUST_CHECK int root_log_prepare(struct root_log *log, const struct root_record *record,
				struct disk_job *job);

/*
 * Ends what root_log_prepare began. RESULT 0: the record is durable and is the last one from now
 * on. Otherwise it never was: its slot may hold anything, and the next prepare begins a new file at
 * that seq, behind which the old file's slot is ignored.
 */
void root_log_done(struct root_log *log, int result);

/*
 * A kept record. -ENOENT pruned or never published; -EBADMSG damaged (ERR of root_log_check says
 * where); the disk's errors.
 */
MUST_CHECK int root_log_get(struct root_log *log, uint64_t seq, struct root_record *ret);

/* The first kept and the last seq, both 0 if there is none. */
void root_log_range(struct root_log *log, uint64_t *ret_first, uint64_t *ret_last);

/*
 * The first kept record published at or after TIME_NS. -ENOENT if there is none; the errors of
 * root_log_get.
 */
MUST_CHECK int root_log_since(struct root_log *log, uint64_t time_ns, struct root_record *ret);

/*
 * Gives up every record below KEEP_FROM, capped to the last one, durably. Space comes back in whole
 * files. -EROFS. After a crash either all of them are kept or none.
 */
MUST_CHECK int root_log_prune(struct root_log *log, uint64_t keep_from, struct reterr *err);

/* What root_log_check found. */
struct root_log_checked {
	uint64_t records; /* that verify */
	uint64_t problems;
};
typedef void root_log_found_fn(void *arg, const struct reterr *finding);

/*
 * Reads every kept record (DEEP; otherwise the first and last of each file) and tells FOUND (may be
 * NULL; no lock held) of each that is damaged, out of order or breaks the chain. Problems are no
 * error: 0, or the disk's.
 */
MUST_CHECK int root_log_check(struct root_log *log, bool deep, root_log_found_fn *found, void *arg,
			      struct root_log_checked *ret);

/*
 * Writes the next window of zeros, if less than half of one lies ahead of the publisher, so that a
 * publication overwrites instead of allocating. Also creates the next file before the current one
 * is full. Blocks on I/O: for a background thread. An error costs speed, nothing else.
 */
MUST_CHECK int root_log_prepare_ahead(struct root_log *log);

/* Accepts NULL. */
void root_log_close(struct root_log *log);

/*
 * The codec of one record: PREVIOUS is the hash in the record before it, all zero in front of seq
 * 1.
 */
void root_log_encode(const struct root_record *record, const struct hash *previous,
		     uint8_t bytes[static ROOT_LOG_RECORD_SIZE]);
/*
 * 0; -ENODATA short; -ENOENT all zero: never written; -EBADMSG. RET_SELF is the record's own hash,
 * RET_PREVIOUS the one it names.
 */
MUST_CHECK int root_log_decode(struct slice in, struct root_record *ret, struct hash *ret_self,
			       struct hash *ret_previous);

#endif
