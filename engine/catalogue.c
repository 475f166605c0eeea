/*
 * The catalogue at run time: a table of live records, and one writer at a time.
 *
 * catalogue_put is a group commit. Callers queue; one of them, the leader, takes a group from the
 * queue, writes it behind the end in one write, flushes once, applies it to the table and wakes the
 * others.
 *
 * Bytes, validity and the reader: catalogue_format.c. What this file adds to its invariants:
 *  6. The table is what the acknowledged records of the file say; a group enters it only after its
 *     flush.
 *  7. `rewrite` is set from the first failure on whose traces in the file or in the directory are
 *     unknown, until a whole new file, made from the table, has taken the name durably.
 *  8. RESERVE_RECORDS slots are kept for records that are not OPEN while the disk is full.
 *
 * Lock: `lock` guards the queue and the table. What only the leader uses is guarded by `leading`,
 * which is taken under the lock; I/O happens without the lock.
 */
#include "engine/catalogue.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/invariant.h"
#include "engine/catalogue_format.h"
#include "engine/catalogue_table.h"

enum {
	GROUP_MAX = 64, /* records a flush */
	RESERVE_RECORDS = 64,
	WINDOW_RECORDS = 128, /* reserved at once: 16 KiB */
	COMPACT_FACTOR = 4,
	COMPACT_SIZE_MIN = 64 << 10,
};

#define CATALOGUE_TEMPORARY_PATH CATALOGUE_PATH ".new"

/* One call of catalogue_put, on its caller's stack. */
struct put {
	struct catalogue_record record;
	struct put *next;
	int result;
	bool done;
};

struct catalogue {
	struct disk *disk;
	struct uuid store;
	bool read_only; /* or damaged */

	pthread_mutex_t lock;
	pthread_cond_t finished; /* a leader has finished */
	struct put *first, **last;
	struct catalogue_table table;
	uint64_t end; /* slots in use; changed by the leader, under the lock */
	bool leading;

	/* The leader's. */
	struct disk_file *file;
	uint64_t room; /* slots that the file has space for */
	bool rewrite;
	bool last_is_mark;
	uint8_t buffer[GROUP_MAX * CATALOGUE_RECORD_SIZE];
};

/* ---- A whole new file ---- */

static int encode_table(const struct uuid *store, const struct catalogue_table *table,
			struct buf *buf)
{
	if (table->count > CATALOGUE_SLOT_MAX)
		return -EFBIG;
	buf->max = catalogue_slot_offset(table->count);
	int r = buf_append_zeros(buf, buf->max);
	if (r < 0)
		return r;

	struct catalogue_header header = {.store = *store, .base_count = (uint32_t)table->count};
	catalogue_encode_header(&header, buf->data);
	for (size_t i = 0; i < table->count; i++) {
		struct catalogue_entry entry = {.record = table->records[i], .slot = (uint32_t)i};
		catalogue_encode(&entry, store, buf->data + catalogue_slot_offset(i));
	}
	return 0;
}

static int reserve(struct disk_file *file, uint64_t from, uint64_t to)
{
	return disk_reserve(file, catalogue_slot_offset(from),
			    catalogue_slot_offset(to) - catalogue_slot_offset(from));
}

/* A new file under the catalogue's name. */
struct replacement {
	struct disk_file *file;
	uint64_t room; /* slots that it has space for */
	/* The name may have moved: after a failure it is unknown which file a crash brings back. */
	bool touched;
};

/* Writes TABLE to a new file and gives it the name. RET's file is set on success only. */
static int replace_file(struct disk *disk, const struct uuid *store,
			const struct catalogue_table *table, struct replacement *ret)
{
	CLEANUP(buf_done) struct buf buf = {0};
	struct disk_file *file;
	int r = encode_table(store, table, &buf);
	if (r < 0)
		return r;
	r = disk_open(disk, CATALOGUE_TEMPORARY_PATH, DISK_WRITE | DISK_CREATE | DISK_REPLACE,
		      &file);
	if (r < 0)
		return r;

	*ret = (struct replacement){.room = table->count + WINDOW_RECORDS};
	r = reserve(file, 0, ret->room);
	if (r == -ENOSPC) { /* room to grow is not worth a failure */
		ret->room = table->count;
		r = 0;
	}
	if (r == 0)
		r = disk_write_flush(file, buf.data, buf.size, 0);
	if (r == 0) {
		ret->touched = true;
		r = disk_rename(disk, CATALOGUE_TEMPORARY_PATH, CATALOGUE_PATH);
	}
	if (r == 0)
		r = disk_sync_dir(disk, "");
	if (r < 0) {
		disk_close(file);
		return r;
	}
	ret->file = file;
	return 0;
}

int catalogue_create(struct disk *disk, const struct uuid *store)
{
	struct disk_file *file;
	int r = disk_open(disk, CATALOGUE_PATH, DISK_READ, &file);
	if (r == 0) {
		disk_close(file);
		return -EEXIST;
	}
	if (r != -ENOENT)
		return r;

	struct catalogue_table empty = {0};
	struct replacement new = {0};
	r = replace_file(disk, store, &empty, &new);
	disk_close(new.file);
	return r;
}

int catalogue_rebuild(struct disk *disk, const struct uuid *store,
		      const struct catalogue_record *records, size_t count, struct reterr *err)
{
	CLEANUP(catalogue_table_done) struct catalogue_table table = {0};
	int r = catalogue_table_reserve(&table, count);
	if (r < 0)
		return reterr_set(err, r, "no memory for %zu records", count);
	for (size_t i = 0; i < count; i++) {
		r = catalogue_check(&records[i], err);
		if (r < 0)
			return r;
		if (catalogue_table_find(&table, records[i].number))
			return reterr_set(err, -EINVAL, "the number %" PRIu32 " occurs twice",
					  records[i].number);
		catalogue_table_apply(&table, &records[i]);
	}

	const struct catalogue_record *twice;
	r = catalogue_table_check_uuids(&table, &twice);
	if (r == -EEXIST)
		return reterr_set(err, -EINVAL, "the UUID of number %" PRIu32 " occurs twice",
				  twice->number);
	struct replacement new = {0};
	if (r == 0)
		r = replace_file(disk, store, &table, &new);
	if (r < 0)
		return reterr_set(err, r, "cannot rewrite %s: %s", CATALOGUE_PATH, strerror(-r));
	disk_close(new.file);
	return 0;
}

/* ---- The leader ---- */

/* -ENOSPC: COUNT slots cannot be had, or an OPEN record would take what is kept for the others. */
static int make_room(struct catalogue *c, size_t count, bool open)
{
	if (c->end + count + RESERVE_RECORDS <= c->room)
		return 0;
	uint64_t from = c->room > c->end ? c->room : c->end;
	uint64_t to = c->end + count + WINDOW_RECORDS;
	int r = reserve(c->file, from, to);
	if (r == 0) {
		c->room = to;
		return 0;
	}
	if (r == -ENOSPC && !open && c->end + count <= c->room)
		return 0;
	return r;
}

/* One write and one flush behind the end. */
static int append_group(struct catalogue *c, const struct put *group, size_t count)
{
	if (c->end + count > CATALOGUE_SLOT_MAX)
		return -EFBIG;
	int r = make_room(c, count, group->record.state == CATALOGUE_OPEN);
	if (r < 0)
		return r;

	struct catalogue_entry entry = {.group = (uint32_t)c->end};
	for (size_t i = 0; i < count; i++, group = group->next) {
		entry.record = group->record;
		entry.slot = (uint32_t)(c->end + i);
		catalogue_encode(&entry, &c->store, c->buffer + i * CATALOGUE_RECORD_SIZE);
	}
	r = disk_write_flush(c->file, c->buffer, count * CATALOGUE_RECORD_SIZE,
			     catalogue_slot_offset(c->end));
	if (r < 0)
		c->rewrite = true;
	return r;
}

/* The table as it will be with GROUP, in a new file. The table itself is only read here. */
static int rewrite_with(struct catalogue *c, const struct put *group, size_t count,
			uint64_t *ret_end)
{
	CLEANUP(catalogue_table_done) struct catalogue_table next = {0};
	int r = catalogue_table_reserve(&next, c->table.count + count);
	if (r < 0)
		return r;
	if (c->table.count)
		memcpy(next.records, c->table.records, c->table.count * sizeof(*next.records));
	next.count = c->table.count;
	for (size_t i = 0; i < count; i++, group = group->next)
		catalogue_table_apply(&next, &group->record);

	struct replacement new = {0};
	r = replace_file(c->disk, &c->store, &next, &new);
	if (r < 0) {
		c->rewrite |= new.touched;
		return r;
	}
	disk_close(c->file);
	c->file = new.file;
	c->room = new.room;
	c->rewrite = false;
	*ret_end = next.count;
	return 0;
}

/* Called and left with the lock held. At most GROUP_MAX, all OPEN or none (invariant 8). */
static size_t take_group(struct catalogue *c, struct put **ret)
{
	bool open = c->first->record.state == CATALOGUE_OPEN;
	size_t count = 0;
	struct put **end = &c->first;

	*ret = c->first;
	while (*end && count < GROUP_MAX && ((*end)->record.state == CATALOGUE_OPEN) == open) {
		end = &(*end)->next;
		count++;
	}
	c->first = *end;
	*end = NULL;
	if (!c->first)
		c->last = &c->first;
	return count;
}

/* Called and left with the lock held. */
static void finish_group(struct catalogue *c, struct put *group, int result)
{
	while (group) {
		struct put *next = group->next;
		if (result == 0) {
			catalogue_table_apply(&c->table, &group->record);
			c->last_is_mark = group->record.state == CATALOGUE_MARK;
		}
		group->result = result;
		group->done = true; /* from here on it may be gone */
		group = next;
	}
}

/* Worth it, and never necessary: a failure leaves the old file or sets `rewrite`. */
static void compact(struct catalogue *c)
{
	uint64_t used = catalogue_slot_offset(c->end);
	if (used <= COMPACT_SIZE_MIN ||
	    used <= COMPACT_FACTOR * catalogue_slot_offset(c->table.count))
		return;
	uint64_t end = c->end;
	int r = rewrite_with(c, NULL, 0, &end);
	if (r < 0)
		return;
	pthread_mutex_lock(&c->lock);
	c->end = end;
	c->last_is_mark = false;
	pthread_mutex_unlock(&c->lock);
}

/* Called and left with the lock held, which it gives up for the I/O. */
static void lead(struct catalogue *c)
{
	struct put *group;
	size_t count = take_group(c, &group);
	int r = catalogue_table_reserve(&c->table, count);

	c->leading = true;
	pthread_mutex_unlock(&c->lock);
	uint64_t end = c->end + count;
	if (r == 0)
		r = c->rewrite ? rewrite_with(c, group, count, &end)
			       : append_group(c, group, count);
	pthread_mutex_lock(&c->lock);

	if (r == 0)
		c->end = end;
	finish_group(c, group, r);
	pthread_cond_broadcast(&c->finished);
	pthread_mutex_unlock(&c->lock);
	if (r == 0)
		compact(c);
	pthread_mutex_lock(&c->lock);
	c->leading = false;
	pthread_cond_broadcast(&c->finished);
}

static int put(struct catalogue *c, const struct catalogue_record *record, struct reterr *err)
{
	struct put mine = {.record = *record};

	pthread_mutex_lock(&c->lock);
	const struct catalogue_record *other = catalogue_table_find(&c->table, record->number);
	if (other && !uuid_equal(&other->uuid, &record->uuid)) {
		pthread_mutex_unlock(&c->lock);
		return reterr_set(err, -EINVAL, "the number %" PRIu32 " is another segment's",
				  record->number);
	}
	*c->last = &mine;
	c->last = &mine.next;
	while (!mine.done) {
		if (c->leading)
			pthread_cond_wait(&c->finished, &c->lock);
		else
			lead(c);
	}
	pthread_mutex_unlock(&c->lock);
	if (mine.result < 0)
		return reterr_set(err, mine.result, "cannot write %s: %s", CATALOGUE_PATH,
				  strerror(-mine.result));
	return 0;
}

int catalogue_put(struct catalogue *c, const struct catalogue_record *record, struct reterr *err)
{
	if (c->read_only)
		return reterr_set(err, -EROFS, "%s is open for reading only", CATALOGUE_PATH);
	int r = catalogue_check(record, err);
	return r < 0 ? r : put(c, record, err);
}

int catalogue_mark(struct catalogue *c, struct reterr *err)
{
	if (c->read_only)
		return reterr_set(err, -EROFS, "%s is open for reading only", CATALOGUE_PATH);

	pthread_mutex_lock(&c->lock);
	bool needed = !c->last_is_mark && c->end > 0;
	pthread_mutex_unlock(&c->lock);
	struct catalogue_record mark = {.state = CATALOGUE_MARK};
	return needed ? put(c, &mark, err) : 0;
}

void catalogue_counts(struct catalogue *c, uint64_t *ret_records, uint64_t *ret_live)
{
	pthread_mutex_lock(&c->lock);
	*ret_records = c->end;
	*ret_live = c->table.count;
	pthread_mutex_unlock(&c->lock);
}

/* ---- Open and close ---- */

static int visit(void *arg, const struct catalogue_record *record)
{
	struct catalogue *c = arg;
	int r = catalogue_table_reserve(&c->table, 1);
	if (r < 0)
		return r;
	/* A number that changes its owner breaks invariant 5: -EEXIST cannot come from the disk. */
	const struct catalogue_record *old = catalogue_table_find(&c->table, record->number);
	if (old && !uuid_equal(&old->uuid, &record->uuid))
		return -EEXIST;
	catalogue_table_apply(&c->table, record);
	return 0;
}

/* Durably, before anything is appended: catalogue_format.c says why. */
static int cut_torn(struct catalogue *c, const struct catalogue_scan *scan)
{
	int r = disk_truncate(c->file, catalogue_slot_offset(scan->end));
	if (r == 0)
		r = disk_flush(c->file);
	if (r == 0)
		c->room = scan->end;
	return r;
}

/* Invariant 4. A group larger than we write is not ours: then the first put makes a new file. */
static int settle(struct catalogue *c, const struct catalogue_scan *scan)
{
	if (scan->end > scan->settled && scan->end - scan->settled > GROUP_MAX) {
		c->rewrite = true;
		return 0;
	}
	int r = 0;
	if (scan->end > scan->settled) {
		size_t size = (size_t)(scan->end - scan->settled) * CATALOGUE_RECORD_SIZE;
		uint64_t offset = catalogue_slot_offset(scan->settled);
		r = disk_read_full(c->file, c->buffer, size, offset);
		if (r == 0)
			r = disk_write_flush(c->file, c->buffer, size, offset);
	}
	/* A mark was written after the file's name had been flushed. */
	return r < 0 || scan->last_is_mark ? r : disk_sync_dir(c->disk, "");
}

/* 0, -EBADMSG with the table filled as far as it goes, or why it cannot be opened at all. */
static int load(struct catalogue *c, struct reterr *err)
{
	struct catalogue_scan scan;
	int r = catalogue_scan(c->file, &c->store, visit, c, err, &scan);
	if (r == -EEXIST)
		return reterr_set(err, -EBADMSG, "%s gives one number to two segments",
				  CATALOGUE_PATH);
	if (r == -ENOTSUP)
		return r;
	if (r < 0)
		return reterr_set(err, r, "cannot read %s: %s", CATALOGUE_PATH, strerror(-r));
	/*
	 * A mark is overwritten by what comes next: its own flush may have failed, and so it need
	 * not be settled. After a clean stop nothing at all is written here.
	 */
	if (scan.last_is_mark && !scan.damaged)
		scan.end--;
	c->end = scan.end;
	c->room = scan.slots;
	c->last_is_mark = scan.last_is_mark;

	const struct catalogue_record *twice;
	r = catalogue_table_check_uuids(&c->table, &twice);
	if (r == -EEXIST)
		return reterr_set(err, -EBADMSG,
				  "%s gives number %" PRIu32 " to a segment that has one",
				  CATALOGUE_PATH, twice->number);
	if (r < 0)
		return r;
	if (scan.damaged)
		return -EBADMSG; /* catalogue_scan said why */
	if (c->read_only)
		return 0;
	if (scan.torn)
		r = cut_torn(c, &scan);
	if (r == 0)
		r = settle(c, &scan);
	if (r < 0)
		return reterr_set(err, r, "cannot write %s: %s", CATALOGUE_PATH, strerror(-r));
	return 0;
}

static int tell_each(const struct catalogue_table *table, catalogue_each_fn *each, void *arg)
{
	int r = 0;
	for (size_t i = 0; i < table->count && r >= 0; i++)
		r = each(arg, &table->records[i]);
	return r < 0 ? r : 0;
}

int catalogue_open(struct disk *disk, const struct uuid *store, bool read_only,
		   catalogue_each_fn *each, void *arg, struct reterr *err, struct catalogue **ret)
{
	*ret = NULL;
	struct catalogue *c = calloc(1, sizeof(*c));
	if (!c)
		return reterr_set(err, -ENOMEM, "no memory for the catalogue");
	c->disk = disk;
	c->store = *store;
	c->read_only = read_only;
	c->last = &c->first;
	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_cond_init(&c->finished, NULL);

	int r = disk_open(disk, CATALOGUE_PATH, read_only ? DISK_READ : DISK_WRITE, &c->file);
	if (r < 0) {
		catalogue_close(c);
		return reterr_set(err, r, "cannot open %s: %s", CATALOGUE_PATH, strerror(-r));
	}
	r = load(c, err);
	if (r == -EBADMSG)
		c->read_only = true;
	int told = r == 0 || r == -EBADMSG ? tell_each(&c->table, each, arg) : 0;
	if (told < 0 || (r < 0 && r != -EBADMSG)) {
		catalogue_close(c);
		return told < 0 ? told : r;
	}
	*ret = c;
	return r;
}

void catalogue_close(struct catalogue *c)
{
	if (!c)
		return;
	invariant(!c->leading && !c->first);
	disk_close(c->file);
	catalogue_table_done(&c->table);
	(void)pthread_mutex_destroy(&c->lock);
	(void)pthread_cond_destroy(&c->finished);
	free(c);
}
