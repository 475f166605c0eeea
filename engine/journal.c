/*
 * The journal at run time: one file, one writer. Bytes, validity and invariants: journal_format.c.
 *
 * `rewrite` is set from the first failure on whose traces in the file or in the directory are
 * unknown: the next append writes a whole new file, from the records that were acknowledged, which
 * the old file, open all the while, still holds.
 */
#include "engine/journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/journal_format.h"

#define JOURNAL_TEMPORARY_PATH JOURNAL_PATH ".new"
#define LOST_FOUND "lost+found"

enum { WINDOW_SIZE = 64 << 10, COPY_SIZE = 1 << 20 };

struct journal {
	struct disk *disk;
	struct uuid store;
	bool read_only;

	struct disk_file *file; /* NULL: not looked at yet, or there is none */
	bool looked;
	struct journal_scan at; /* where the file ends, and what it is */
	uint64_t room;          /* bytes of the file that have space */
	bool settled;           /* invariant 4 */
	bool appended;          /* since it was opened: a clean stop leaves a mark */
	bool rewrite;
	atomic_ullong bytes;
};

int journal_is_there(struct disk *disk)
{
	struct disk_file *file;
	int r = disk_open(disk, JOURNAL_PATH, DISK_READ, &file);
	if (r == 0)
		disk_close(file);
	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

int journal_new(struct disk *disk, const struct uuid *store, bool read_only, struct journal **ret)
{
	struct journal *j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	j->disk = disk;
	j->store = *store;
	j->read_only = read_only;
	*ret = j;
	return 0;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	disk_close(j->file);
	free(j);
}

uint64_t journal_size(struct journal *j)
{
	return atomic_load(&j->bytes);
}

static void set_room(struct journal *j, uint64_t room)
{
	j->room = room;
	atomic_store(&j->bytes, room);
}

/* ---- Reading -------------------------------------------------------------------------------- */

static int cannot(struct reterr *err, int code, const char *what)
{
	return reterr_set(err, code, "cannot %s %s: %s", what, JOURNAL_PATH, strerror(-code));
}

/* The records that were acknowledged: a failed append may have left more behind them. */
struct known {
	engine_journal_fn *fn; /* may be NULL */
	void *arg;
	uint64_t left;
	bool done;
};

static int tell_known(void *arg, const void *record, size_t size)
{
	struct known *known = arg;

	known->done = known->left == 0;
	if (known->done)
		return -ECANCELED;
	known->left--;
	return known->fn ? known->fn(known->arg, record, size) : 0;
}

/* Tells FN of each of them. -EBADMSG they are not all there any more. */
static int each_known(struct journal *j, engine_journal_fn *fn, void *arg, struct reterr *err)
{
	struct known known = {.fn = fn, .arg = arg, .left = j->at.records};
	struct journal_scan scan;

	int r = journal_scan(j->file, &j->store, tell_known, &known, err, &scan);
	if (known.done)
		return 0;
	return r == 0 && known.left ? -EBADMSG : r;
}

/* -ENOENT there is no journal. */
static int open_file(struct journal *j, struct reterr *err)
{
	if (j->file)
		return 0;
	int r = disk_open(j->disk, JOURNAL_PATH, j->read_only ? DISK_READ : DISK_WRITE, &j->file);
	if (r < 0 && r != -ENOENT)
		return cannot(err, r, "open");
	return r;
}

int journal_load(struct journal *j, engine_journal_fn *fn, void *arg, struct reterr *err)
{
	struct reterr why = {0};
	int r = open_file(j, err);
	if (r == -ENOENT) {
		j->looked = true;
		return 0;
	}
	if (r < 0)
		return r;

	if (j->looked && !j->at.damaged) {
		r = each_known(j, fn, arg, &why);
	} else {
		struct journal_scan scan;
		r = journal_scan(j->file, &j->store, fn, arg, &why, &scan);
		if (r == 0) {
			j->at = scan;
			set_room(j, scan.size);
			j->looked = true;
			r = scan.damaged ? -EBADMSG : 0;
		}
	}
	if (r < 0)
		return reterr_set(err, r, "%s", why.code ? why.text : "the journal cannot be read");
	return 0;
}

/* Before the first append: what is there, and that it can be appended to. */
static int look(struct journal *j, struct reterr *err)
{
	if (j->read_only)
		return reterr_set(err, -EROFS, "%s is open for reading only", JOURNAL_PATH);
	int r = j->looked ? 0 : journal_load(j, NULL, NULL, err);
	if (r == 0 && j->at.damaged)
		r = reterr_set(err, -EBADMSG,
			       "%s is damaged at byte %" PRIu64
			       "; `protofs fsck --repair` keeps what is before",
			       JOURNAL_PATH, j->at.end);
	return r;
}

/* ---- A whole new file ----------------------------------------------------------------------- */

struct replacement {
	struct disk_file *file;
	struct journal_scan at; /* as a reader would find it */
	uint64_t total;         /* of which so many bytes will be written */
};

/* One write without a flush. */
static int write_at(struct disk_file *file, void *data, size_t size, uint64_t offset)
{
	struct iovec iov = {.iov_base = data, .iov_len = size};
	struct disk_job job = {.file = file,
			       .writes = {{.iov = &iov, .iov_count = 1, .offset = offset}},
			       .write_count = 1,
			       .no_flush = true};
	return size ? disk_commit(file->disk, &job, 1) : 0;
}

/* A record as it lies in the file, malloc'ed. NULL without memory. */
static uint8_t *encode(const struct journal_scan *at, enum journal_kind kind, const void *payload,
		       size_t size)
{
	struct journal_record record = {.kind = kind,
					.size = (uint32_t)size,
					.sequence = at->sequence,
					.hash = hash_of(payload, size)};
	uint8_t *bytes = calloc(1, (size_t)journal_record_span(size));
	if (!bytes)
		return NULL;
	journal_encode_record(&record, at->header.seed, bytes);
	if (size)
		memcpy(bytes + JOURNAL_RECORD_HEADER_SIZE, payload, size);
	return bytes;
}

/* The record behind AT is there now. */
static void advance(struct journal_scan *at, enum journal_kind kind, size_t size)
{
	at->last_at = at->end;
	at->last_is_mark = kind == JOURNAL_MARK;
	at->records += kind == JOURNAL_RECORD;
	at->sequence++;
	at->end += journal_record_span(size);
}

/* An engine_journal_fn: adds a record to a new file. */
static int add_record(void *arg, const void *payload, size_t size)
{
	struct replacement *new = arg;
	uint8_t *bytes = encode(&new->at, JOURNAL_RECORD, payload, size);
	if (!bytes)
		return -ENOMEM;
	int r = write_at(new->file, bytes, (size_t)journal_record_span(size), new->at.end);
	free(bytes);
	if (r == 0)
		advance(&new->at, JOURNAL_RECORD, size);
	return r;
}

/* The temporary file, with space for all that will come; its header comes last. */
static int replacement_begin(struct journal *j, struct replacement *new)
{
	struct uuid seed;

	if (new->total > JOURNAL_SIZE_MAX)
		return -EFBIG;
	int r = uuid_random(&seed);
	if (r == 0)
		r = disk_open(j->disk, JOURNAL_TEMPORARY_PATH,
			      DISK_WRITE | DISK_CREATE | DISK_REPLACE, &new->file);
	if (r < 0)
		return r;
	new->at = (struct journal_scan){.end = JOURNAL_HEADER_SIZE, .size = new->total};
	new->at.header.store = j->store;
	new->at.header.seed = load_le64(seed.bytes);
	return disk_reserve(new->file, 0, new->total);
}

static int write_new_header(struct replacement *new)
{
	uint8_t bytes[JOURNAL_HEADER_SIZE];

	new->at.header.base_size = new->at.end;
	journal_encode_header(&new->at.header, bytes);
	return disk_write_flush(new->file, bytes, sizeof(bytes), 0);
}

/* Gives the new file the name, durably, and makes it J's. */
static int replacement_end(struct journal *j, struct replacement *new, int r)
{
	if (r == 0)
		r = write_new_header(new);
	if (r == 0) {
		/* From here on it is unknown which file a crash brings back. */
		j->rewrite = true;
		r = disk_rename(j->disk, JOURNAL_TEMPORARY_PATH, JOURNAL_PATH);
	}
	if (r == 0)
		r = disk_sync_dir(j->disk, "");
	if (r < 0) {
		disk_close(new->file);
		(void)!disk_unlink(j->disk, JOURNAL_TEMPORARY_PATH); /* its space */
		return r;
	}
	disk_close(j->file);
	j->file = new->file;
	j->at = new->at;
	set_room(j, new->total);
	j->looked = j->settled = true;
	j->rewrite = false;
	return 0;
}

/* What was acknowledged and RECORD, in a new file. */
static int rewrite_with(struct journal *j, const void *record, size_t size)
{
	uint64_t kept = j->file ? j->at.end : JOURNAL_HEADER_SIZE;
	struct replacement new = {.total = kept + journal_record_span(size)};

	int r = replacement_begin(j, &new);
	if (r == 0 && j->file)
		r = each_known(j, add_record, &new, NULL);
	if (r == 0)
		r = add_record(&new, record, size);
	return new.file ? replacement_end(j, &new, r) : r;
}

int journal_replace(struct journal *j, const void *const *records, const size_t *sizes,
		    size_t count, struct reterr *err)
{
	struct replacement new = {.total = JOURNAL_HEADER_SIZE};

	if (j->read_only)
		return reterr_set(err, -EROFS, "%s is open for reading only", JOURNAL_PATH);
	for (size_t i = 0; i < count; i++) {
		if (sizes[i] > ENGINE_JOURNAL_RECORD_MAX || new.total > JOURNAL_SIZE_MAX)
			return cannot(err, -EFBIG, "write");
		new.total += journal_record_span(sizes[i]);
	}
	/* What is there now must be known if this fails: the next append builds on it. */
	struct reterr ignored;
	if (!j->looked)
		(void)!journal_load(j, NULL, NULL, &ignored);
	int r = replacement_begin(j, &new);
	for (size_t i = 0; i < count && r == 0; i++)
		r = add_record(&new, records[i], sizes[i]);
	if (new.file)
		r = replacement_end(j, &new, r);
	return r < 0 ? cannot(err, r, "write") : 0;
}

/* ---- Appending ------------------------------------------------------------------------------ */

/* Invariant 4, and nothing of a torn record stays that could come to life behind a later one. */
static int settle(struct journal *j)
{
	int r = 0;

	if (j->at.torn) {
		r = disk_truncate(j->file, j->at.end);
		if (r == 0)
			r = disk_flush(j->file);
		if (r == 0)
			set_room(j, j->at.end);
	}
	if (r == 0 && j->at.last_at) {
		size_t size = (size_t)(j->at.end - j->at.last_at);
		uint8_t *bytes = malloc(size);
		if (!bytes)
			return -ENOMEM;
		r = disk_read_full(j->file, bytes, size, j->at.last_at);
		if (r == 0)
			r = disk_write_flush(j->file, bytes, size, j->at.last_at);
		free(bytes);
	}
	if (r == 0)
		r = disk_sync_dir(j->disk, "");
	j->settled = r == 0;
	return r;
}

/* -ENOSPC: nothing was written. */
static int make_room(struct journal *j, uint64_t size)
{
	uint64_t end = j->at.end + size;

	if (end <= j->room)
		return 0;
	if (end > JOURNAL_SIZE_MAX)
		return -EFBIG;
	int r = disk_reserve(j->file, j->room, end + WINDOW_SIZE - j->room);
	if (r == 0) {
		set_room(j, end + WINDOW_SIZE);
		return 0;
	}
	if (r != -ENOSPC)
		return r;
	r = disk_reserve(j->file, j->room, end - j->room);
	if (r == 0)
		set_room(j, end);
	return r;
}

static int append_behind(struct journal *j, enum journal_kind kind, const void *record, size_t size)
{
	uint64_t span = journal_record_span(size);

	int r = make_room(j, span);
	if (r < 0)
		return r;
	uint8_t *bytes = encode(&j->at, kind, record, size);
	if (!bytes)
		return -ENOMEM;
	r = disk_write_flush(j->file, bytes, (size_t)span, j->at.end);
	free(bytes);
	if (r < 0)
		j->rewrite = true; /* invariant 3 */
	else
		advance(&j->at, kind, size);
	return r;
}

int journal_append(struct journal *j, const void *record, size_t size, struct reterr *err)
{
	if (size > ENGINE_JOURNAL_RECORD_MAX)
		return reterr_set(err, -EFBIG, "a record of the journal has at most %zu bytes",
				  ENGINE_JOURNAL_RECORD_MAX);
	int r = look(j, err);
	if (r < 0)
		return r;
	if (j->file && !j->rewrite && !j->settled) {
		r = settle(j);
		j->rewrite = r < 0;
	}
	r = !j->file || j->rewrite ? rewrite_with(j, record, size)
				   : append_behind(j, JOURNAL_RECORD, record, size);
	if (r < 0)
		return cannot(err, r, "write");
	j->appended = true;
	return 0;
}

int journal_mark(struct journal *j, struct reterr *err)
{
	if (j->read_only || !j->appended || j->rewrite || j->at.last_is_mark)
		return 0;
	int r = append_behind(j, JOURNAL_MARK, NULL, 0);
	return r < 0 ? cannot(err, r, "write") : 0;
}

/* ---- Repair --------------------------------------------------------------------------------- */

/* The file as it is, into lost+found/. */
static int copy_out(struct journal *j)
{
	struct disk_file *copy = NULL;
	uint8_t *piece = malloc(COPY_SIZE);
	int r = piece ? disk_mkdir(j->disk, LOST_FOUND) : -ENOMEM;

	if (r == 0 || r == -EEXIST)
		r = disk_open(j->disk, LOST_FOUND "/" JOURNAL_PATH,
			      DISK_WRITE | DISK_CREATE | DISK_REPLACE, &copy);
	for (uint64_t at = 0; r == 0;) {
		size_t got;
		r = disk_read(j->file, piece, COPY_SIZE, at, &got);
		if (r < 0 || got == 0)
			break;
		r = write_at(copy, piece, got, at);
		at += got;
	}
	if (r == 0)
		r = disk_flush(copy);
	disk_close(copy);
	free(piece);
	if (r == 0)
		r = disk_sync_dir(j->disk, LOST_FOUND);
	return r == 0 ? disk_sync_dir(j->disk, "") : r;
}

int journal_repair(struct disk *disk, const struct uuid *store, struct reterr *err)
{
	struct journal *j;
	struct journal_scan scan;
	int r = journal_new(disk, store, false, &j);

	if (r < 0)
		return r;
	r = journal_load(j, NULL, NULL, err);
	if (r == -EBADMSG) {
		struct replacement new = {.total = j->at.end};
		r = copy_out(j);
		if (r == 0)
			r = replacement_begin(j, &new);
		/* A file whose header is damaged has no record that could be believed. */
		if (r == 0 && j->at.header.base_size)
			r = journal_scan(j->file, store, add_record, &new, NULL, &scan);
		if (new.file)
			r = replacement_end(j, &new, r);
		if (r < 0)
			(void)cannot(err, r, "repair");
	}
	journal_free(j);
	return r;
}
