/*
 * Reading the root log while it is published to. Bytes and invariants: root_log_format.c.
 *
 * A reader takes what it needs to know under the lock, then reads without it: a file that prune
 * removes meanwhile is -ENOENT, which is then the truth. Records of the current block come from
 * memory, lest a reader meets a block that is being written.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "engine/root_log.h"
#include "engine/root_log_state.h"

enum { CHUNK_RECORDS = 64, CHUNK_SIZE = CHUNK_RECORDS * ROOT_LOG_RECORD_SIZE };

bool root_log_find_file(const struct root_log *log, uint64_t seq, uint64_t *ret_first,
			uint64_t *ret_end)
{
	size_t low = 0, high = log->file_count; /* firsts[low - 1] <= seq < firsts[high] */
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (log->firsts[middle] <= seq)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return false;
	uint64_t end = log->firsts[low - 1] + ROOT_LOG_FILE_RECORDS;
	*ret_first = log->firsts[low - 1];
	*ret_end = low < log->file_count && log->firsts[low] < end ? log->firsts[low] : end;
	return seq < *ret_end;
}

static int read_from_file(struct root_log *log, uint64_t first, uint64_t seq,
			  struct root_log_entry *ret)
{
	char path[ROOT_LOG_PATH_SIZE];
	uint8_t bytes[ROOT_LOG_RECORD_SIZE];
	struct disk_file *file;
	int r = disk_open(log->disk, root_log_path(first, path), DISK_READ, &file);
	if (r < 0)
		return r;
	r = disk_read_full(file, bytes, sizeof(bytes), (seq - first) * ROOT_LOG_RECORD_SIZE);
	disk_close(file);
	if (r < 0)
		return r;

	struct root_log_entry entry;
	r = root_log_decode((struct slice){.data = bytes, .size = sizeof(bytes)}, &entry);
	if (r < 0 || entry.record.root.seq != seq)
		return -EBADMSG;
	*ret = entry;
	return 0;
}

int root_log_read_record(struct root_log *log, uint64_t seq, struct root_log_entry *ret)
{
	uint64_t first, end;
	pthread_mutex_lock(&log->lock);
	bool found = root_log_find_file(log, seq, &first, &end);
	pthread_mutex_unlock(&log->lock);
	return found ? read_from_file(log, first, seq, ret) : -ENOENT;
}

int root_log_last(struct root_log *log, struct root_record *ret)
{
	pthread_mutex_lock(&log->lock);
	int r = log->last.record.root.seq ? 0 : -ENOENT;
	if (r == 0)
		*ret = log->last.record;
	pthread_mutex_unlock(&log->lock);
	return r;
}

/* 1 if SEQ was in memory, 0 if it has to be read, -ENOENT if there is none. */
static int get_from_memory(struct root_log *log, uint64_t seq, struct root_record *ret)
{
	uint8_t bytes[ROOT_LOG_RECORD_SIZE];
	bool in_block = false;

	pthread_mutex_lock(&log->lock);
	uint64_t last = log->last.record.root.seq;
	int r = seq == 0 || seq > last || seq < log->kept.first ? -ENOENT : 0;
	if (r == 0 && seq == last) {
		*ret = log->last.record;
		r = 1;
	} else if (r == 0 && log->block_seq && seq >= log->block_seq) {
		memcpy(bytes, log->block + (seq - log->block_seq) * ROOT_LOG_RECORD_SIZE,
		       sizeof(bytes));
		in_block = true;
	}
	pthread_mutex_unlock(&log->lock);
	if (!in_block)
		return r;

	struct root_log_entry entry;
	r = root_log_decode((struct slice){.data = bytes, .size = sizeof(bytes)}, &entry);
	if (r == 0 && entry.lost)
		return -ENOENT;
	if (r < 0 || entry.record.root.seq != seq)
		return 0; /* the block was read with damage in it: let the disk have the last word */
	*ret = entry.record;
	return 1;
}

int root_log_get(struct root_log *log, uint64_t seq, struct root_record *ret)
{
	int r = get_from_memory(log, seq, ret);
	if (r != 0)
		return r < 0 ? r : 0;

	struct root_log_entry entry;
	r = root_log_read_record(log, seq, &entry);
	if (r == 0 && entry.lost)
		return -ENOENT;
	if (r == 0) {
		*ret = entry.record;
		return 0;
	}
	if (r != -ENOENT && r != -ENODATA)
		return r;
	uint64_t first, last;
	root_log_range(log, &first, &last);
	return seq < first ? -ENOENT : -EBADMSG;
}

void root_log_range(struct root_log *log, uint64_t *ret_first, uint64_t *ret_last)
{
	pthread_mutex_lock(&log->lock);
	bool any = log->last.record.root.seq >= log->kept.first;
	*ret_last = any ? log->last.record.root.seq : 0;
	*ret_first = any ? log->kept.first : 0;
	pthread_mutex_unlock(&log->lock);
}

/* The first readable record in [FROM, END): 0, -ENOENT if there is none, or the disk's error. */
static int next_readable(struct root_log *log, uint64_t from, uint64_t end, struct root_record *ret)
{
	for (uint64_t seq = from; seq < end; seq++) {
		int r = root_log_get(log, seq, ret);
		if (r != -EBADMSG && r != -ENOENT)
			return r;
	}
	return -ENOENT;
}

int root_log_since(struct root_log *log, uint64_t time_ns, struct root_record *ret)
{
	uint64_t low, high; /* all below LOW are older, all from HIGH on are not */
	struct root_record record;
	root_log_range(log, &low, &high);
	if (high == 0)
		return -ENOENT;
	uint64_t end = ++high;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		int r = next_readable(log, middle, high, &record);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r == 0 && record.root.time_ns < time_ns)
			low = record.root.seq + 1;
		else
			high = middle;
	}
	return next_readable(log, low, end, ret);
}

/* ---- Check ---- */

struct checker {
	struct root_log *log;
	bool deep;
	root_log_found_fn *found;
	void *arg;
	struct root_log_checked result;
	struct root_log_entry before; /* the record before, if it verified; else its seq is 0 */
};

static void found(struct checker *c, uint64_t first, uint64_t seq, const char *what)
{
	struct reterr finding;
	char path[ROOT_LOG_PATH_SIZE];
	c->result.problems++;
	if (!c->found)
		return;
	(void)reterr_set(&finding, -EBADMSG, "%s: root %" PRIu64 " at byte %" PRIu64 " %s",
			 root_log_path(first, path), seq, (seq - first) * ROOT_LOG_RECORD_SIZE,
			 what);
	c->found(c->arg, &finding);
}

static void check_entry(struct checker *c, uint64_t first, uint64_t seq, struct slice bytes)
{
	struct root_log_entry entry;
	const struct root_log_entry *before = &c->before;
	int r = root_log_decode(bytes, &entry);
	if (r < 0 || entry.record.root.seq != seq) {
		found(c, first, seq,
		      r == -ENOENT ? "is missing: its bytes are zero"
				   : "does not verify: its bytes are damaged");
		c->before.record.root.seq = 0;
		return;
	}
	if (!entry.lost)
		c->result.records++;
	if (before->record.root.seq + 1 == seq && before->record.root.seq != 0) {
		if (!hash_equal(&entry.previous, &before->self))
			found(c, first, seq, "does not continue the root before it");
		else if (entry.record.root.time_ns < before->record.root.time_ns)
			found(c, first, seq, "is older than the root before it");
	}
	c->before = entry;
}

/* Records [FROM, END) of the file that begins with FIRST, all of them. */
static int check_records(struct checker *c, struct disk_file *file, uint64_t first, uint64_t from,
			 uint64_t end)
{
	uint8_t *chunk = malloc(CHUNK_SIZE);
	int r = chunk ? 0 : -ENOMEM;
	while (r == 0 && from < end) {
		size_t want = end - from < CHUNK_RECORDS ? (size_t)(end - from) : CHUNK_RECORDS;
		size_t size;
		r = disk_read(file, chunk, want * ROOT_LOG_RECORD_SIZE,
			      (from - first) * ROOT_LOG_RECORD_SIZE, &size);
		if (r < 0)
			break;
		/* Behind the end of a file that is too short lies what was never written: zeros. */
		memset(chunk + size, 0, CHUNK_SIZE - size);
		struct slice rest = {.data = chunk, .size = want * ROOT_LOG_RECORD_SIZE};
		struct slice bytes;
		while (slice_take(&rest, ROOT_LOG_RECORD_SIZE, &bytes) == 0)
			check_entry(c, first, from++, bytes);
	}
	free(chunk);
	return r;
}

static int check_file(struct checker *c, uint64_t first, uint64_t from, uint64_t end)
{
	char path[ROOT_LOG_PATH_SIZE];
	struct disk_file *file;
	int r = disk_open(c->log->disk, root_log_path(first, path), DISK_READ, &file);
	if (r == -ENOENT) {
		found(c, first, from, "is missing: there is no such file");
		c->before.record.root.seq = 0;
		return 0;
	}
	if (r < 0)
		return r;
	if (c->deep || end - from <= 2) {
		r = check_records(c, file, first, from, end);
	} else {
		r = check_records(c, file, first, from, from + 1);
		if (r == 0)
			r = check_records(c, file, first, end - 1, end);
	}
	disk_close(file);
	return r;
}

int root_log_check(struct root_log *log, bool deep, root_log_found_fn *found_fn, void *arg,
		   struct root_log_checked *ret)
{
	struct checker c = {.log = log, .deep = deep, .found = found_fn, .arg = arg};
	uint64_t seq, last;
	int r = 0;

	root_log_range(log, &seq, &last);
	while (r == 0 && last != 0 && seq <= last) {
		uint64_t first, end;
		pthread_mutex_lock(&log->lock);
		bool known = root_log_find_file(log, seq, &first, &end);
		uint64_t kept = log->kept.first;
		pthread_mutex_unlock(&log->lock);
		if (kept > seq) { /* pruned meanwhile */
			seq = kept;
			continue;
		}
		if (!known) {
			found(&c, seq, seq, "is missing: no file holds it");
			c.before.record.root.seq = 0;
			seq++;
			continue;
		}
		end = end > last ? last + 1 : end;
		r = check_file(&c, first, seq, end);
		seq = end;
	}
	*ret = c.result;
	return r;
}
