/*
 * What can be done for a damaged root log. Bytes and invariants: root_log_format.c.
 *
 * The log is opened read-only, which finds the last record L that verifies (and is no lost one),
 * and then mended on disk:
 *
 *  1. What lies in front of a missing file is given up: `first` becomes the first seq behind it.
 *  2. Each record from `first` to L that does not verify, or that the next one does not name,
 *     becomes a lost record.
 *  3. `kept` is written: {first, L}. From here on nothing behind L was ever published.
 *  4. Files behind L + 1, and files in front of `first`, move to lost+found/.
 *  5. The slots behind L are zeroed: that of L + 1, and lost records.
 *
 * Each step can be repeated, and the log is no worse after any of them than before.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "engine/root_log.h"
#include "engine/root_log_state.h"

#define LOST_FOUND "lost+found"

enum { LOST_PATH_SIZE = 64, BAD_MAX = 1 << 20 };

struct repairer {
	struct root_log *log;
	struct disk *disk;
	root_log_found_fn *fixed;
	void *arg;
	struct root_log_kept kept; /* as it will be */
	uint64_t last;
	uint64_t *bad; /* seqs of records that are to be written off, ascending */
	size_t bad_count;
	size_t bad_capacity;
	struct root_log_entry
		before; /* while looking for them: the record before, seq 0 if it is bad */
};

static void repairer_done(struct repairer *p)
{
	root_log_close(p->log);
	free(p->bad);
}

static void PRINTF_LIKE(2, 3) tell(const struct repairer *p, const char *format, ...)
{
	struct reterr event = {.code = -EBADMSG};
	va_list args;
	va_start(args, format);
	(void)vsnprintf(event.text, sizeof(event.text), format, args);
	va_end(args);
	if (p->fixed)
		p->fixed(p->arg, &event);
}

/* ---- lost+found ---- */

static char *lost_path(uint64_t seq, char path[static LOST_PATH_SIZE])
{
	(void)snprintf(path, LOST_PATH_SIZE, LOST_FOUND "/rootlog.%020" PRIu64, seq);
	return path;
}

static int make_lost_found(const struct repairer *p)
{
	int r = disk_mkdir(p->disk, LOST_FOUND);
	if (r == 0)
		r = disk_sync_dir(p->disk, "");
	return r == -EEXIST ? 0 : r;
}

/* Overwrites the slot of SEQ; what was in it is copied first. */
static int overwrite(const struct repairer *p, uint64_t seq,
		     const uint8_t bytes[static ROOT_LOG_RECORD_SIZE])
{
	static const uint8_t zeros[ROOT_LOG_RECORD_SIZE];
	uint8_t old[ROOT_LOG_RECORD_SIZE] = {0};
	char path[LOST_PATH_SIZE];
	uint64_t first, end;
	struct disk_file *file;
	size_t size;
	if (!root_log_find_file(p->log, seq, &first, &end))
		return 0;
	uint64_t offset = (seq - first) * ROOT_LOG_RECORD_SIZE;
	int r = disk_open(p->disk, root_log_path(first, path), DISK_WRITE, &file);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* it moved away */
	r = disk_read(file, old, sizeof(old), offset, &size);
	if (r == 0 && memcmp(old, zeros, sizeof(old)) != 0)
		r = disk_replace_file(p->disk, LOST_FOUND, lost_path(seq, path), old, sizeof(old));
	if (r == 0)
		r = disk_write_flush(file, bytes, ROOT_LOG_RECORD_SIZE, offset);
	disk_close(file);
	return r;
}

/* The file moves away, with all that is in it. */
static int move_away(const struct repairer *p, uint64_t first)
{
	char from[ROOT_LOG_PATH_SIZE], to[LOST_PATH_SIZE];
	int r = disk_rename(p->disk, root_log_path(first, from), lost_path(first, to));
	if (r == 0)
		r = disk_sync_dir(p->disk, LOST_FOUND);
	if (r == 0)
		r = disk_sync_dir(p->disk, ROOT_LOG_DIR);
	if (r == 0)
		tell(p, "%s is moved to %s", from, to);
	return r;
}

/* ---- 1: where the log begins ---- */

static void find_first(struct repairer *p)
{
	const struct root_log *log = p->log;
	uint64_t first = log->kept.first > log->firsts[0] ? log->kept.first : log->firsts[0];
	for (size_t i = 1; i < log->file_count && log->firsts[i] <= p->last; i++) {
		if (log->firsts[i] - log->firsts[i - 1] > ROOT_LOG_FILE_RECORDS &&
		    log->firsts[i] > first)
			first = log->firsts[i];
	}
	if (first != log->kept.first)
		tell(p, "the roots before %" PRIu64 " are given up: a file of theirs is missing",
		     first);
	p->kept = (struct root_log_kept){.first = first, .acknowledged = p->last};
}

/* ---- 2: records to be written off ---- */

static int add_bad(struct repairer *p, uint64_t seq)
{
	if (p->bad_count && p->bad[p->bad_count - 1] >= seq)
		return 0;
	if (p->bad_count == p->bad_capacity) {
		size_t capacity = p->bad_capacity ? p->bad_capacity * 2 : 64;
		uint64_t *bad = capacity > BAD_MAX ? NULL
						   : realloc(p->bad, capacity * sizeof(*bad));
		if (!bad)
			return -ENOMEM;
		p->bad = bad;
		p->bad_capacity = capacity;
	}
	p->bad[p->bad_count++] = seq;
	return 0;
}

static int judge(struct repairer *p, uint64_t seq)
{
	struct root_log_entry entry;
	int r = root_log_read_record(p->log, seq, &entry);
	if (r == -EBADMSG || r == -ENOENT || r == -ENODATA || r == -EIO) {
		p->before.record.root.seq = 0;
		return add_bad(p, seq);
	}
	if (r < 0)
		return r;
	/*
	 * Of two that do not fit the later one is believed: it names the earlier one, not the
	 * reverse.
	 */
	if (p->before.record.root.seq != 0 && !hash_equal(&p->before.self, &entry.previous))
		r = add_bad(p, seq - 1);
	p->before = entry;
	return r;
}

static int find_bad(struct repairer *p)
{
	int r = 0;
	for (uint64_t seq = p->kept.first; seq <= p->last && r == 0; seq++)
		r = judge(p, seq);
	return r;
}

/* From the last one down, so that the next record is always one that can be read. */
static int write_off(struct repairer *p)
{
	for (size_t i = p->bad_count; i-- > 0;) {
		struct root_log_entry before = {0}, next;
		uint8_t bytes[ROOT_LOG_RECORD_SIZE];
		uint64_t seq = p->bad[i];
		int r = root_log_read_record(p->log, seq + 1, &next);
		if (r < 0)
			return r;
		/*
		 * A bad one before this becomes a lost one, and stands for whatever we name here:
		 * zeros.
		 */
		bool before_is_bad = i > 0 && p->bad[i - 1] == seq - 1;
		if (!before_is_bad && seq > 1 && root_log_read_record(p->log, seq - 1, &before) < 0)
			before = (struct root_log_entry){0};
		root_log_encode_lost(seq, next.record.root.time_ns, &before.self, &next.previous,
				     bytes);
		r = overwrite(p, seq, bytes);
		if (r < 0)
			return r;
		tell(p, "root %" PRIu64 " cannot be read, and is written off", seq);
	}
	return 0;
}

/* ---- 4 and 5: what is left over ---- */

static int clear_files(struct repairer *p)
{
	const struct root_log *log = p->log;
	int r = 0;
	for (size_t i = log->file_count; i-- > 0 && r == 0;) {
		bool in_front = i + 1 < log->file_count && log->firsts[i + 1] <= p->kept.first;
		if (in_front || log->firsts[i] > p->last + 1)
			r = move_away(p, log->firsts[i]);
	}
	return r;
}

static int clear_end(struct repairer *p, uint64_t acknowledged)
{
	static const uint8_t zeros[ROOT_LOG_RECORD_SIZE];
	if (acknowledged > p->last)
		tell(p, "the roots from %" PRIu64 " to %" PRIu64 " are lost", p->last + 1,
		     acknowledged);
	/* Usually one slot; more where lost records had been left at the end. */
	uint64_t end = p->log->last.record.root.seq > p->last ? p->log->last.record.root.seq
							      : p->last + 1;
	int r = 0;
	for (uint64_t seq = end; seq > p->last && r == 0; seq--)
		r = overwrite(p, seq, zeros);
	return r;
}

/* The last record that is more than a placeholder; 0 if there is none. */
static uint64_t find_last(struct root_log *log)
{
	struct root_log_entry entry = log->last;
	uint64_t seq = entry.record.root.seq;
	bool found = seq > 0 && !entry.lost;
	while (!found && seq > log->kept.first)
		found = root_log_read_record(log, --seq, &entry) == 0 && !entry.lost;
	return found ? seq : 0;
}

static int repair(struct repairer *p, struct reterr *err)
{
	uint64_t acknowledged = p->log->kept.acknowledged;
	p->last = find_last(p->log);
	bool new = p->log->file_count && p->log->firsts[0] == 1 && p->log->kept.first == 1;
	if (p->last < p->log->kept.first && !(p->last == 0 && new))
		return reterr_set(err, -EBADMSG, "no root can be read any more");

	find_first(p);
	int r = make_lost_found(p);
	if (r == 0)
		r = find_bad(p);
	if (r == 0)
		r = write_off(p);
	if (r == 0)
		r = root_log_write_kept(p->disk, &p->kept);
	if (r == 0)
		r = clear_files(p);
	if (r == 0)
		r = clear_end(p, acknowledged);
	return r < 0 ? reterr_set(err, r, "cannot repair %s: %s", ROOT_LOG_DIR, strerror(-r)) : 0;
}

/* Whether a thorough look finds anything. */
static int is_sound(struct root_log *log)
{
	struct root_log_checked checked;
	int r = root_log_check(log, true, NULL, NULL, &checked);
	return r < 0 ? r : checked.problems == 0;
}

int root_log_repair(struct disk *disk, root_log_found_fn *fixed, void *arg, struct reterr *err)
{
	CLEANUP(repairer_done) struct repairer p = {.disk = disk, .fixed = fixed, .arg = arg};
	int r = root_log_open(disk, true, err, &p.log);
	if (!p.log)
		return r;
	if (r == 0) {
		int sound = is_sound(p.log);
		if (sound != 0)
			return sound < 0 ? reterr_set(err, sound, "cannot read %s: %s",
						      ROOT_LOG_DIR, strerror(-sound))
					 : 0;
	}
	return repair(&p, err);
}
