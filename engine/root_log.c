/*
 * The publisher's side of the root log. Bytes, validity and invariants: root_log_format.c.
 *
 * The states of the current file, as the publisher sees them:
 *
 *   idle ---- prepare ----> prepared ---- done(0) ----> idle, the record is the last one
 *    ^                          |
 *    |                          +---- done(error) ----> poisoned
 *    +-- prepare: roll to a new file at the same seq ------+
 *
 * A full file is left in the same way as a poisoned one.
 */
#include "engine/root_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "engine/root_log_state.h"

static uint8_t *slot_of(struct root_log *log, uint64_t index)
{
	return log->block + index % ROOT_LOG_BLOCK_RECORDS * ROOT_LOG_RECORD_SIZE;
}

static uint64_t block_offset_of(uint64_t index)
{
	return index / ROOT_LOG_BLOCK_RECORDS * DISK_BLOCK_SIZE;
}

/* JOB becomes the write of the block that holds slot INDEX of the current file. */
static void fill_job(struct root_log *log, uint64_t index, struct disk_job *job)
{
	log->iov = (struct iovec){.iov_base = log->block, .iov_len = DISK_BLOCK_SIZE};
	*job = (struct disk_job){
		.file = log->file,
		.writes = {{.iov = &log->iov, .iov_count = 1, .offset = block_offset_of(index)}},
		.write_count = 1,
	};
}

/* The slot for SEQ is in the current file, has space, and its block is in memory. */
static int prepare_slot(struct root_log *log, uint64_t seq)
{
	bool unusable = log->poisoned || !log->file || seq - log->first >= ROOT_LOG_FILE_RECORDS;
	int r = unusable ? root_log_roll(log, seq) : 0;
	if (r < 0)
		return r;

	uint64_t index = seq - log->first;
	r = root_log_make_room(log, block_offset_of(index) + DISK_BLOCK_SIZE);
	if (r < 0 || index % ROOT_LOG_BLOCK_RECORDS != 0)
		return r;

	pthread_mutex_lock(&log->lock);
	memset(log->block, 0, DISK_BLOCK_SIZE);
	log->block_seq = seq;
	pthread_mutex_unlock(&log->lock);
	return 0;
}

int root_log_prepare(struct root_log *log, const struct root_record *record, struct disk_job *job)
{
	if (log->read_only)
		return -EROFS;
	uint64_t seq = record->root.seq;
	invariant(!log->prepared && seq == log->last.record.root.seq + 1);
	invariant(seq <= ROOT_LOG_SEQ_MAX);
	int r = prepare_slot(log, seq);
	if (r < 0)
		return r;

	uint64_t index = seq - log->first;
	log->pending = (struct root_log_entry){.record = *record, .previous = log->last.self};
	log->pending.self = root_log_encode(record, &log->last.self, slot_of(log, index));
	log->prepared = true;
	fill_job(log, index, job);
	return 0;
}

void root_log_done(struct root_log *log, int result)
{
	invariant(log->prepared);
	log->prepared = false;

	pthread_mutex_lock(&log->lock);
	if (result == 0)
		log->last = log->pending;
	else
		log->poisoned = true;
	pthread_mutex_unlock(&log->lock);
}

/* ---- Cutting the last record ---- */

/* The record before the last one, or none. */
static int read_previous(struct root_log *log, struct root_log_entry *ret)
{
	uint64_t seq = log->last.record.root.seq - 1;
	*ret = (struct root_log_entry){0};
	if (seq == 0)
		return 0;
	if (seq < log->kept.first)
		return -EBADMSG;
	int r = root_log_read_record(log, seq, ret);
	if (r < 0)
		return r;
	return !ret->lost && hash_equal(&ret->self, &log->last.previous) ? 0 : -EBADMSG;
}

/* Zeroes the slot of the last record; where that fails, a new file takes its place. */
static int cut_slot(struct root_log *log)
{
	uint64_t seq = log->last.record.root.seq;
	struct disk_job job;

	pthread_mutex_lock(&log->lock);
	memset(slot_of(log, seq - log->first), 0, ROOT_LOG_RECORD_SIZE);
	pthread_mutex_unlock(&log->lock);
	fill_job(log, seq - log->first, &job);
	int r = disk_commit(log->disk, &job, 1);
	return r < 0 ? root_log_roll(log, seq) : 0;
}

int root_log_cut_last(struct root_log *log, struct reterr *err)
{
	uint64_t seq = log->last.record.root.seq;
	invariant(!log->prepared);
	if (seq == 0)
		return reterr_set(err, -ENOENT, "there is no root to cut");
	/* A file behind it was begun only after it had been acknowledged, with its barrier. */
	if (seq <= log->kept.acknowledged || seq < log->first) {
		log->read_only = true;
		return reterr_set(err, -EBADMSG,
				  "root %" PRIu64 " was published, "
				  "but bytes that it needs are missing",
				  seq);
	}

	struct root_log_entry previous;
	int r = read_previous(log, &previous);
	if (r < 0) {
		log->read_only = true;
		return reterr_set(err, r, "root %" PRIu64 " cannot be read: %s", seq - 1,
				  strerror(-r));
	}
	r = log->read_only ? 0 : cut_slot(log);
	if (r < 0)
		return reterr_set(err, r, "cannot cut root %" PRIu64 ": %s", seq, strerror(-r));

	pthread_mutex_lock(&log->lock);
	log->last = previous;
	pthread_mutex_unlock(&log->lock);
	return 0;
}

/* ---- Giving up old records ---- */

static void keeping_begin(struct root_log *log)
{
	pthread_mutex_lock(&log->lock);
	while (log->keeping)
		pthread_cond_wait(&log->changed, &log->lock);
	log->keeping = true;
	pthread_mutex_unlock(&log->lock);
}

static void keeping_end(struct root_log *log)
{
	pthread_mutex_lock(&log->lock);
	log->keeping = false;
	pthread_cond_broadcast(&log->changed);
	pthread_mutex_unlock(&log->lock);
}

/* What `kept` would say now with FIRST; whether that is more than it says. */
static bool next_kept(struct root_log *log, uint64_t first, struct root_log_kept *ret)
{
	pthread_mutex_lock(&log->lock);
	struct root_log_kept now = log->kept;
	uint64_t last = log->last.record.root.seq;
	pthread_mutex_unlock(&log->lock);

	*ret = (struct root_log_kept){.first = now.first, .acknowledged = now.acknowledged};
	if (first > last)
		first = last;
	if (first > now.first)
		ret->first = first;
	if (last > now.acknowledged)
		ret->acknowledged = last;
	return ret->first != now.first || ret->acknowledged != now.acknowledged;
}

static int write_kept(struct root_log *log, const struct root_log_kept *next)
{
	int r = root_log_write_kept(log->disk, next);
	if (r < 0)
		return r;
	pthread_mutex_lock(&log->lock);
	log->kept = *next;
	pthread_mutex_unlock(&log->lock);
	return 0;
}

/* The oldest file holds nothing that is kept. The lock is held. */
static bool oldest_is_dropped(const struct root_log *log)
{
	return log->file_count >= 2 && log->firsts[1] <= log->kept.first;
}

static bool has_dropped(struct root_log *log)
{
	pthread_mutex_lock(&log->lock);
	bool dropped = oldest_is_dropped(log);
	pthread_mutex_unlock(&log->lock);
	return dropped;
}

/* Takes the oldest file from the list if nothing in it is kept. */
static bool take_dropped(struct root_log *log, uint64_t *ret_first)
{
	pthread_mutex_lock(&log->lock);
	bool dropped = oldest_is_dropped(log);
	if (dropped) {
		*ret_first = log->firsts[0];
		memmove(log->firsts, log->firsts + 1, --log->file_count * sizeof(*log->firsts));
	}
	pthread_mutex_unlock(&log->lock);
	return dropped;
}

static int unlink_dropped(struct root_log *log, struct reterr *err)
{
	char path[ROOT_LOG_PATH_SIZE];
	uint64_t first;
	int result = 0;
	while (take_dropped(log, &first)) {
		int r = disk_unlink(log->disk, root_log_path(first, path));
		if (r < 0 && r != -ENOENT && result == 0)
			result = reterr_set(err, r, "cannot remove %s: %s", path, strerror(-r));
	}
	int r = disk_sync_dir(log->disk, ROOT_LOG_DIR);
	if (r < 0 && result == 0)
		result = reterr_set(err, r, "cannot flush %s: %s", ROOT_LOG_DIR, strerror(-r));
	return result;
}

int root_log_prune(struct root_log *log, uint64_t keep_from, struct reterr *err)
{
	if (log->read_only)
		return reterr_set(err, -EROFS, "the root log is open for reading only");
	keeping_begin(log);

	struct root_log_kept next;
	int r = 0;
	uint64_t before = log->kept.first; /* changes only while keeping */
	(void)next_kept(log, keep_from, &next);
	/* Written anew also where only files are left over: they may go once `kept` is durable. */
	if (next.first != before || has_dropped(log)) {
		r = write_kept(log, &next);
		if (r < 0)
			(void)reterr_set(err, r, "cannot write %s: %s", ROOT_LOG_KEPT_PATH,
					 strerror(-r));
		else
			r = unlink_dropped(log, err);
	}
	keeping_end(log);
	return r;
}

int root_log_begin_at(struct root_log *log, uint64_t seq)
{
	if (log->read_only)
		return -EROFS;
	if (log->last.record.root.seq || log->kept.first > 1 || seq == 0 || seq > ROOT_LOG_SEQ_MAX)
		return -EINVAL;
	if (seq == 1)
		return 0;
	int r = root_log_roll(log, seq);
	if (r < 0)
		return r;
	/* A record that nobody can read, until root_log_prune has said that none is kept before SEQ. */
	pthread_mutex_lock(&log->lock);
	log->last.record.root.seq = seq - 1;
	pthread_mutex_unlock(&log->lock);
	return 0;
}

uint64_t root_log_disk_size(struct root_log *log)
{
	pthread_mutex_lock(&log->lock);
	uint64_t size = log->ready;
	for (size_t i = 0; i + 1 < log->file_count; i++)
		size += (log->firsts[i + 1] - log->firsts[i]) * ROOT_LOG_RECORD_SIZE;
	pthread_mutex_unlock(&log->lock);
	return size;
}

int root_log_mark(struct root_log *log, struct reterr *err)
{
	if (log->read_only)
		return reterr_set(err, -EROFS, "the root log is open for reading only");
	keeping_begin(log);

	struct root_log_kept next;
	int r = 0;
	if (next_kept(log, 0, &next))
		r = write_kept(log, &next);
	keeping_end(log);
	if (r < 0)
		return reterr_set(err, r, "cannot write %s: %s", ROOT_LOG_KEPT_PATH, strerror(-r));
	return 0;
}
