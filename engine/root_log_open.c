/*
 * Making and opening the root log. Bytes, the reader's algorithm and the invariants:
 * root_log_format.c.
 *
 * How the end is found in a file of zero-written space: a binary search finds one valid record
 * whose next slot is not valid; everything behind is then read in order, because damage may have
 * misled the search: a valid record there is a witness of it. What lies far before the end is not
 * read: root_log_check does that.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "engine/root_log.h"
#include "engine/root_log_state.h"

enum {
	CHUNK_SIZE = 64 << 10,
	TAIL_RECORDS = 64,                  /* before the end whose chain is checked at each open */
	SEARCH_MAX = ROOT_LOG_FILE_RECORDS, /* before a damaged end, for one that can be shown */
	LIST_MAX = 2 * ROOT_LOG_FILES_MAX,
};

int root_log_create(struct disk *disk)
{
	char path[ROOT_LOG_PATH_SIZE];
	struct disk_file *file;
	int r = disk_mkdir(disk, ROOT_LOG_DIR);
	if (r < 0)
		return r;
	r = disk_open(disk, root_log_path(1, path), DISK_WRITE | DISK_CREATE | DISK_DIRECT, &file);
	if (r < 0)
		return r;
	r = disk_reserve(file, 0, ROOT_LOG_WINDOW_SIZE);
	if (r == 0)
		r = root_log_write_zeros(file, 0, ROOT_LOG_WINDOW_SIZE);
	disk_close(file);
	if (r == 0)
		r = root_log_write_kept(disk, &(struct root_log_kept){.first = 1});
	return r < 0 ? r : disk_sync_dir(disk, "");
}

/* ---- The files ---- */

struct listing {
	struct root_log *log;
	size_t names;
};

static int list_name(void *arg, const char *name, bool is_dir)
{
	struct listing *listing = arg;
	uint64_t first;
	if (listing->names++ >= LIST_MAX)
		return -E2BIG;
	if (is_dir || root_log_parse_name(name, &first) < 0)
		return 0;
	return root_log_add_file(listing->log, first);
}

static int compare_firsts(const void *a, const void *b)
{
	const uint64_t *left = a, *right = b;
	return (*left > *right) - (*left < *right);
}

/* The names in order, and no room for a lost file between them. */
static int load_files(struct root_log *log, struct reterr *err)
{
	struct listing listing = {.log = log};
	int r = disk_list(log->disk, ROOT_LOG_DIR, list_name, &listing);
	if (r < 0)
		return reterr_set(err, r, "cannot list %s: %s", ROOT_LOG_DIR, strerror(-r));
	if (log->file_count == 0)
		return reterr_set(err, -EBADMSG, "%s holds no file of roots", ROOT_LOG_DIR);
	qsort(log->firsts, log->file_count, sizeof(*log->firsts), compare_firsts);

	for (size_t i = 1; i < log->file_count; i++) {
		if (log->firsts[i] - log->firsts[i - 1] > ROOT_LOG_FILE_RECORDS)
			return reterr_set(err, -EBADMSG,
					  "%s: the file that held root %" PRIu64 " is missing",
					  ROOT_LOG_DIR, log->firsts[i] - 1);
	}
	return 0;
}

static int load_kept(struct root_log *log, struct reterr *err)
{
	uint8_t bytes[ROOT_LOG_KEPT_SIZE];
	struct disk_file *file;
	size_t size = 0;
	int r = disk_open(log->disk, ROOT_LOG_KEPT_PATH, DISK_READ, &file);
	if (r == 0) {
		r = disk_read(file, bytes, sizeof(bytes), 0, &size);
		disk_close(file);
	}
	if (r < 0 && r != -ENOENT)
		return reterr_set(err, r, "cannot read %s: %s", ROOT_LOG_KEPT_PATH, strerror(-r));
	if (r == 0)
		r = root_log_decode_kept((struct slice){.data = bytes, .size = size}, &log->kept);
	if (r < 0) {
		/* All that is there, then. */
		log->kept = (struct root_log_kept){.first = log->file_count ? log->firsts[0] : 1};
		return reterr_set(err, -EBADMSG, "%s is %s", ROOT_LOG_KEPT_PATH,
				  r == -ENOENT ? "missing" : "damaged at byte 0");
	}
	if (log->file_count && log->firsts[0] > log->kept.first)
		return reterr_set(err, -EBADMSG,
				  "%s: the file that held root %" PRIu64 " is missing",
				  ROOT_LOG_DIR, log->kept.first);
	return 0;
}

/* ---- The end ---- */

/* A file on the way to its last valid record. */
struct tail {
	struct disk_file *file;
	uint64_t first;
	uint64_t from; /* slots below it are given up: nobody minds what is in them */
	uint64_t slots;
	struct root_log_entry last; /* the highest valid record; seq 0 if there is none */
	uint64_t damaged;           /* the first seq that should verify and does not; 0 none */
};

static bool judge(const struct tail *tail, uint64_t slot, struct slice bytes,
		  struct root_log_entry *ret)
{
	return root_log_decode(bytes, ret) == 0 && ret->record.root.seq == tail->first + slot;
}

/* 1 valid, 0 not, or the disk's error. */
static int probe(const struct tail *tail, uint64_t slot, struct root_log_entry *ret)
{
	uint8_t bytes[ROOT_LOG_RECORD_SIZE];
	int r = disk_read_full(tail->file, bytes, sizeof(bytes), slot * ROOT_LOG_RECORD_SIZE);
	if (r < 0)
		return r;
	return judge(tail, slot, (struct slice){.data = bytes, .size = sizeof(bytes)}, ret);
}

/*
 * The record that was the last one at the last clean stop is where to begin: usually it still is,
 * and two reads are all. Returns the slot behind it, or the first one that counts.
 */
static int search_begin(struct tail *tail, uint64_t acknowledged, uint64_t *ret_low,
			uint64_t *ret_high)
{
	struct root_log_entry entry;
	*ret_low = tail->from < tail->slots ? tail->from : tail->slots;
	*ret_high = tail->slots;
	if (acknowledged < tail->first + *ret_low || acknowledged - tail->first >= tail->slots)
		return 0;
	int r = probe(tail, acknowledged - tail->first, &entry);
	if (r <= 0)
		return r;
	tail->last = entry;
	*ret_low = acknowledged - tail->first + 1;
	if (*ret_low < tail->slots && probe(tail, *ret_low, &entry) == 0)
		*ret_high = *ret_low;
	return 0;
}

/* Slot HIGH - 1 is valid (or HIGH is FROM), and slot HIGH is not (or HIGH is the end). */
static int search_end(struct tail *tail, uint64_t acknowledged, uint64_t *ret_high)
{
	uint64_t low, high;
	int r = search_begin(tail, acknowledged, &low, &high);
	while (r >= 0 && low < high) {
		uint64_t middle = low + (high - low) / 2;
		struct root_log_entry entry;
		r = probe(tail, middle, &entry);
		if (r > 0) {
			tail->last = entry;
			low = middle + 1;
		} else if (r == 0) {
			high = middle;
		}
	}
	*ret_high = high;
	return r < 0 ? r : 0;
}

/* Reads on from slot FROM: whatever verifies there makes slot FROM damage. */
static int look_behind(struct tail *tail, uint64_t from)
{
	uint8_t *chunk = malloc(CHUNK_SIZE);
	int r = chunk ? 0 : -ENOMEM;
	for (uint64_t slot = from; r == 0 && slot < tail->slots;) {
		size_t size;
		struct slice bytes;
		struct root_log_entry entry;
		r = disk_read(tail->file, chunk, CHUNK_SIZE, slot * ROOT_LOG_RECORD_SIZE, &size);
		struct slice rest = {.data = chunk, .size = r < 0 ? 0 : size};
		if (r == 0 && rest.size < ROOT_LOG_RECORD_SIZE)
			r = -EIO; /* the file shrank under us */
		for (; slot < tail->slots && slice_take(&rest, ROOT_LOG_RECORD_SIZE, &bytes) == 0;
		     slot++) {
			if (!judge(tail, slot, bytes, &entry))
				continue;
			tail->last = entry;
			tail->damaged = tail->first + from;
		}
	}
	free(chunk);
	return r;
}

static int find_last(struct root_log *log, struct tail *tail)
{
	char path[ROOT_LOG_PATH_SIZE];
	uint64_t size, end = 0;
	int r = disk_open(log->disk, root_log_path(tail->first, path), DISK_READ, &tail->file);
	if (r < 0)
		return r;
	r = disk_size(tail->file, &size);
	if (r == 0) {
		if (size > ROOT_LOG_FILE_SIZE)
			size = ROOT_LOG_FILE_SIZE;
		tail->slots = size / ROOT_LOG_RECORD_SIZE;
		log->ready = size / DISK_BLOCK_SIZE * DISK_BLOCK_SIZE;
		r = search_end(tail, log->kept.acknowledged, &end);
	}
	if (r == 0)
		r = look_behind(tail, end);
	disk_close(tail->file);
	tail->file = NULL;
	return r;
}

static int damage(struct root_log *log, uint64_t seq, struct reterr *err)
{
	uint64_t first, end;
	char path[ROOT_LOG_PATH_SIZE];
	if (!root_log_find_file(log, seq, &first, &end))
		return reterr_set(err, -EBADMSG, "%s: no file holds root %" PRIu64, ROOT_LOG_DIR,
				  seq);
	return reterr_set(err, -EBADMSG,
			  "%s: root %" PRIu64 " at byte %" PRIu64 " does not verify, "
			  "though it was published",
			  root_log_path(first, path), seq, (seq - first) * ROOT_LOG_RECORD_SIZE);
}

/* From the last record back: each there, and each naming the one before. */
static int check_tail(struct root_log *log, struct reterr *err)
{
	struct root_log_entry next = log->last, entry;
	for (unsigned i = 0; i < TAIL_RECORDS && next.record.root.seq > log->kept.first; i++) {
		uint64_t seq = next.record.root.seq - 1;
		int r = root_log_read_record(log, seq, &entry);
		if (r == -EBADMSG || r == -ENOENT || r == -ENODATA)
			return damage(log, seq, err);
		if (r < 0)
			return reterr_set(err, r, "cannot read root %" PRIu64 ": %s", seq,
					  strerror(-r));
		if (!hash_equal(&next.previous, &entry.self))
			return damage(log, seq + 1, err);
		next = entry;
	}
	return 0;
}

/* Fills `last`, however much is damaged; -EBADMSG tells that something is. */
static int load_last(struct root_log *log, struct reterr *err)
{
	struct tail tail = {.first = log->firsts[log->file_count - 1]};
	if (log->kept.first > tail.first)
		tail.from = log->kept.first - tail.first;
	int r = find_last(log, &tail);
	if (r < 0)
		return reterr_set(err, r, "cannot read %s: %s", ROOT_LOG_DIR, strerror(-r));
	log->last = tail.last;

	/* A file that was begun says that everything before it was published. */
	uint64_t seq = tail.first - 1;
	if (log->last.record.root.seq == 0 && seq > 0) {
		r = root_log_read_record(log, seq, &log->last);
		if (r < 0 && tail.damaged == 0)
			tail.damaged = seq;
		for (unsigned i = 0; r < 0 && i < SEARCH_MAX && --seq > 0; i++)
			r = root_log_read_record(log, seq, &log->last);
	}
	if (tail.damaged == 0 && log->last.record.root.seq < log->kept.acknowledged)
		tail.damaged = log->last.record.root.seq + 1;
	/* Repair leaves a real record behind each lost one. */
	if (tail.damaged == 0 && log->last.lost)
		tail.damaged = log->last.record.root.seq;
	if (tail.damaged != 0)
		return damage(log, tail.damaged, err);
	return check_tail(log, err);
}

/* The block in which the last record lies, and nothing behind it: a torn record becomes zeros. */
static int load_block(struct root_log *log)
{
	uint64_t last = log->last.record.root.seq;
	uint64_t slot = (last - log->first) % ROOT_LOG_BLOCK_RECORDS;
	log->block_seq = last - slot;
	return disk_read_full(log->file, log->block, (size_t)(slot + 1) * ROOT_LOG_RECORD_SIZE,
			      (log->block_seq - log->first) * ROOT_LOG_RECORD_SIZE);
}

/*
 * Invariant 7: what we read is on the medium before anything is written behind it. What `kept`
 * calls acknowledged is: whoever wrote that had seen the flushes return.
 */
static int settle(struct root_log *log)
{
	char path[ROOT_LOG_PATH_SIZE];
	int r = disk_open(log->disk, root_log_path(log->first, path), DISK_WRITE | DISK_DIRECT,
			  &log->file);
	if (r == 0 && log->last.record.root.seq >= log->first) {
		r = load_block(log);
		if (r < 0 || log->last.record.root.seq <= log->kept.acknowledged)
			return r;
		struct iovec iov = {.iov_base = log->block, .iov_len = DISK_BLOCK_SIZE};
		struct disk_job job = {
			.file = log->file,
			.writes = {{.iov = &iov,
				    .iov_count = 1,
				    .offset = (log->block_seq - log->first) * ROOT_LOG_RECORD_SIZE}},
			.write_count = 1,
		};
		r = disk_commit(log->disk, &job, 1);
	}
	return r < 0 ? r : disk_sync_dir(log->disk, ROOT_LOG_DIR);
}

/* ---- Open and close ---- */

static int root_log_new(struct disk *disk, bool read_only, struct root_log **ret)
{
	struct root_log *log = calloc(1, sizeof(*log));
	if (!log)
		return -ENOMEM;
	log->disk = disk;
	log->read_only = read_only;
	(void)pthread_mutex_init(&log->lock, NULL);
	(void)pthread_cond_init(&log->changed, NULL);
	log->block = aligned_alloc(DISK_BLOCK_SIZE, DISK_BLOCK_SIZE);
	if (!log->block) {
		root_log_close(log);
		return -ENOMEM;
	}
	memset(log->block, 0, DISK_BLOCK_SIZE);
	*ret = log;
	return 0;
}

/* Goes on after damage as far as it can, and reports the first it met. */
static int load(struct root_log *log, struct reterr *err)
{
	struct reterr ignored;
	int damaged = 0;
	int r = load_files(log, err);
	if (r == -EBADMSG)
		damaged = r;
	else if (r < 0)
		return r;

	r = load_kept(log, damaged ? &ignored : err);
	if (r == -EBADMSG)
		damaged = r;
	else if (r < 0)
		return r;

	r = log->file_count ? load_last(log, damaged ? &ignored : err) : 0;
	if (r == -EBADMSG)
		damaged = r;
	else if (r < 0)
		return r;
	if (damaged)
		log->read_only = true;
	if (log->file_count)
		log->first = log->firsts[log->file_count - 1];
	if (log->read_only)
		return damaged;
	r = settle(log);
	if (r < 0)
		return reterr_set(err, r, "cannot write to %s: %s", ROOT_LOG_DIR, strerror(-r));
	return 0;
}

int root_log_open(struct disk *disk, bool read_only, struct reterr *err, struct root_log **ret)
{
	struct root_log *log;
	*ret = NULL;
	int r = root_log_new(disk, read_only, &log);
	if (r < 0)
		return reterr_set(err, r, "no memory for the root log");
	r = load(log, err);
	if (r < 0 && r != -EBADMSG) {
		root_log_close(log);
		return r;
	}
	*ret = log;
	return r;
}

void root_log_close(struct root_log *log)
{
	if (!log)
		return;
	invariant(!log->prepared);
	disk_close(log->file);
	free(log->firsts);
	free(log->block);
	(void)pthread_mutex_destroy(&log->lock);
	(void)pthread_cond_destroy(&log->changed);
	free(log);
}
