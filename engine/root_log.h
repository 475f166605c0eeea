/*
 * The log of published roots on this disk: fixed, checksummed, chained records in files of a
 * directory.
 *
 * Internal to the engine (include/protofs/root_log.h is another thing: the seam to the log that
 * nodes share). The bytes are described in root_log_format.c.
 *
 * Threads: one publisher at a time (open, cut_last, prepare, done, close: under the caller's
 * publish lock). prepare_ahead may run beside it in one thread; get, last, range, since, prune,
 * mark and check in any. A reader never sees a record that root_log_done has not confirmed.
 */
#ifndef PROTOFS_ENGINE_ROOT_LOG_H
#define PROTOFS_ENGINE_ROOT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "base/uuid.h"
#include "engine/disk.h"
#include "engine/engine.h"

#define ROOT_LOG_DIR "rootlog"

/* Bytes that must be durable before the record means anything. */
struct root_barrier {
	struct uuid segment;
	uint64_t length; /* of the stream, from 0 */
};

/*
 * So many of the newest roots are asked, after a crash, whether the bytes are there that were
 * durable when they were published: a tail that one of them needs was not torn off.
 */
enum { ROOT_WITNESSES_MAX = 64 };

struct root_record {
	struct engine_root root;
	uint32_t epoch; /* grows with each repair that lost bytes of roots: those before it are no witnesses */
	unsigned barrier_count;
	struct root_barrier barrier[ENGINE_ROOT_BARRIER_MAX];
};

struct root_log;

/* Makes an empty log, durably. -EEXIST if its directory is there. */
MUST_CHECK int root_log_create(struct disk *disk);

/*
 * Opens the log and finds its last record. A torn record behind it is dropped: nobody was ever told
 * of it. Whether the last record's barrier is met is the caller's to judge (root_log_cut_last).
 *
 *  -EBADMSG  damage: ERR names the seq, the file and the byte. RET is set nevertheless: what
 *            verifies can be read; prepare, mark and prune answer -EROFS.
 *  -ENOENT   there is no such directory
 *
 * RET is NULL on every failure but -EBADMSG.
 */
MUST_CHECK int root_log_open(struct disk *disk, bool read_only, struct reterr *err,
			     struct root_log **ret);

/* The last record. -ENOENT if there is none. */
MUST_CHECK int root_log_last(struct root_log *log, struct root_record *ret);

/*
 * Takes the last record away, durably: its barrier is not met. Called once, after open and before
 * anything else is written. A read-only log only forgets it.
 *
 *  -ENOENT   there is no record
 *  -EBADMSG  the record is known to have been acknowledged (root_log_mark), so the unmet barrier is
 *            damage; or the one before it cannot be read. The log is read-only from then on.
 *  others    the disk's; the record still is the last one
 */
MUST_CHECK int root_log_cut_last(struct root_log *log, struct reterr *err);

/*
 * The first record of a log that never had one will be SEQ, as in a clone; under the publish lock.
 * The caller publishes it, and then gives up what is before it (root_log_prune). Until that is done
 * the log on disk is a damaged one: it begins with records that are not there. -EINVAL it has
 * records, or no seq is that large; -EROFS; the disk's errors, after which it can only be thrown
 * away.
 */
MUST_CHECK int root_log_begin_at(struct root_log *log, uint64_t seq);

/*
 * Makes JOB the write of RECORD, whose seq is the last one's + 1 (an invariant), for the caller to
 * submit by disk_commit, alone or with others. JOB's buffers belong to LOG until root_log_done,
 * which must follow. There is no I/O in the usual case; at the end of a file, after a failure, and
 * when nobody calls prepare_ahead, it makes room first, and returns the disk's error if it cannot:
 * then nothing is prepared, and root_log_done must not be called. -EROFS.
 */
MUST_CHECK int root_log_prepare(struct root_log *log, const struct root_record *record,
				struct disk_job *job);

/*
 * Ends what root_log_prepare began. RESULT 0: the record is durable, and the last one from now on.
 * Otherwise it never was: its slot may hold anything, and the next prepare begins a new file at
 * that seq, durably, before which the old file's slot is ignored.
 */
void root_log_done(struct root_log *log, int result);

/*
 * A kept record. -ENOENT pruned, never published, or lost and written off by root_log_repair;
 * -EBADMSG damaged; the disk's errors.
 */
MUST_CHECK int root_log_get(struct root_log *log, uint64_t seq, struct root_record *ret);

/* The first kept and the last seq, both 0 if there is none. */
void root_log_range(struct root_log *log, uint64_t *ret_first, uint64_t *ret_last);

/*
 * The first kept record published at or after TIME_NS; damaged ones are passed over. -ENOENT if
 * there is none; the disk's errors.
 */
MUST_CHECK int root_log_since(struct root_log *log, uint64_t time_ns, struct root_record *ret);

/*
 * Gives up every record below KEEP_FROM, capped to the last one, durably. Space comes back in whole
 * files. After a crash all of them are there or none. -EROFS.
 */
MUST_CHECK int root_log_prune(struct root_log *log, uint64_t keep_from, struct reterr *err);

/*
 * Notes durably that all records up to the last one were acknowledged: for a clean stop. If one of
 * them cannot be read at the next open, that is damage, not a torn end. -EROFS; the disk's errors.
 */
MUST_CHECK int root_log_mark(struct root_log *log, struct reterr *err);

/* What root_log_check found. */
struct root_log_checked {
	uint64_t records; /* that verify */
	uint64_t problems;
};
typedef void root_log_found_fn(void *arg, const struct reterr *finding);

/*
 * Reads every kept record (DEEP; otherwise the first and the last of each file) and tells FOUND
 * (may be NULL; no lock is held) of each that is damaged, out of order or breaks the chain.
 * Problems are no error: 0, or the disk's.
 */
MUST_CHECK int root_log_check(struct root_log *log, bool deep, root_log_found_fn *found, void *arg,
			      struct root_log_checked *ret);

/*
 * Makes a damaged log one that opens without complaint, losing as little as can be: a record that
 * cannot be read is written off (root_log_get: -ENOENT), one at the end that is lost is forgotten,
 * and behind a lost file the log begins anew. What is overwritten or removed is kept in lost+found/
 * as rootlog.<seq>. Tells FIXED (may be NULL) of each. No log may be open on DISK. Bears a crash at
 * any point: run it again.
 *
 *  0         the log is sound, now or before
 *  -EBADMSG  nothing of it can be read; ERR says so
 *  others    the disk's
 */
MUST_CHECK int root_log_repair(struct disk *disk, root_log_found_fn *fixed, void *arg,
			       struct reterr *err);

/*
 * Keeps zero-written space ahead of the publisher, so that a publication overwrites and never meets
 * ENOSPC half-way, and a spare file for the day when the current one is full or fails. Cheap when
 * there is nothing to do; blocks on I/O otherwise: for a background thread, about every 500
 * publications. An error costs speed, nothing else.
 */
MUST_CHECK int root_log_prepare_ahead(struct root_log *log);

/* Bytes of disk that its files take, about. */
uint64_t root_log_disk_size(struct root_log *log);

/* Frees LOG and writes nothing. Accepts NULL. */
void root_log_close(struct root_log *log);

#endif
