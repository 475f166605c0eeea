/*
 * What `fsck --repair` does about what fsck.c found. It mends just so much that the ordinary recovery can do the rest
 * at the next open, and writes in an order that bears a crash after each step; running it again goes on.
 *
 *   a damaged copy of the superblock       is written again from the good one
 *   an open part, damaged in the middle    what lies behind the damage is copied to lost+found/, and the entries of the
 *                                          commit table from there on are zeroed: the part ends at the damage
 *   its end torn off, below a root         the same
 *   missing bytes                          the parts behind them move to lost+found/; the segment ends before them
 *   a damaged table or index of a sealed part  the part gets a commit table again (its bytes are verified by the table, if
 *                                          that is good) and becomes an open part, which recovery seals anew
 *   a root whose bytes are missing         the newest one that is whole is published again, on top (fsck_roots.c)
 *   a damaged journal                      a copy goes to lost+found/; the records before the damage stay
 *   a damaged catalogue                    is made again from what verifies of it and from the directories of segments
 *
 * A page that does not match its sum cannot be mended here: it stays, is named, and reads of it fail.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "engine/fsck.h"
#include "engine/journal.h"
#include "engine/part_list.h"
#include "engine/part_scan.h"
#include "engine/sealed.h"

#define LOST_FOUND "lost+found"

enum { COPY_PIECE = 1 << 20, RESEAL_ENTRY = 1 << 20 };

void fsck_fixed(struct fsck *f, const char *format, ...)
{
	struct reterr finding = {0};
	va_list args;

	va_start(args, format);
	(void)vsnprintf(finding.text, sizeof(finding.text), format, args);
	va_end(args);
	if (f->options.found)
		f->options.found(f->options.arg, &finding, true);
}

/* ---- lost+found ----------------------------------------------------------------------------- */

static int make_lost_found(struct fsck *f)
{
	int r = disk_mkdir(f->disk, LOST_FOUND);
	return r == -EEXIST ? 0 : r;
}

static void lost_path(const struct uuid *segment, uint64_t offset, char path[static DISK_PATH_MAX])
{
	char text[UUID_TEXT_LENGTH + 1];
	(void)snprintf(path, DISK_PATH_MAX, LOST_FOUND "/%s.%020" PRIu64,
		       uuid_format(segment, text), offset);
}

static int write_at(struct disk *disk, struct disk_file *file, void *data, size_t size,
		    uint64_t offset)
{
	struct iovec iov = {.iov_base = data, .iov_len = size};
	struct disk_job job = {.file = file,
			       .writes = {{.iov = &iov, .iov_count = 1, .offset = offset}},
			       .write_count = 1,
			       .no_flush = true};
	return disk_commit(disk, &job, 1);
}

/* Bytes [from, to) of FILE into a new file PATH, durably. */
static int copy_out(struct fsck *f, struct disk_file *file, uint64_t from, uint64_t to,
		    const char *path)
{
	struct disk_file *copy = NULL;
	uint8_t *piece = malloc(COPY_PIECE);
	int r = piece ? make_lost_found(f) : -ENOMEM;

	if (r == 0)
		r = disk_open(f->disk, path, DISK_WRITE | DISK_CREATE | DISK_REPLACE, &copy);
	for (uint64_t at = from; r == 0 && at < to;) {
		size_t got, want = to - at < COPY_PIECE ? (size_t)(to - at) : COPY_PIECE;
		r = disk_read(file, piece, want, at, &got);
		if (r < 0 || got == 0)
			break;
		r = write_at(f->disk, copy, piece, got, at - from);
		at += got;
	}
	if (r == 0)
		r = disk_flush(copy);
	disk_close(copy);
	free(piece);
	if (r == 0)
		r = disk_sync_dir(f->disk, LOST_FOUND);
	return r == 0 ? disk_sync_dir(f->disk, "") : r;
}

/* ---- An open part that is damaged in the middle --------------------------------------------- */

static int zero_entries(struct fsck *f, struct disk_file *file, uint32_t from_slot)
{
	uint8_t *zeros = calloc(1, COPY_PIECE);
	int r = zeros ? 0 : -ENOMEM;

	for (unsigned copy = 0; copy < PART_TABLE_COPIES && r == 0; copy++) {
		uint64_t at = (uint64_t)from_slot * PART_ENTRY_SIZE;
		while (r == 0 && at < f->geometry.table_size) {
			uint64_t left = f->geometry.table_size - at;
			size_t size = left < COPY_PIECE ? (size_t)left : COPY_PIECE;
			r = write_at(f->disk, file, zeros, size,
				     part_table_offset(&f->geometry, copy) + at);
			at += size;
		}
	}
	free(zeros);
	return r == 0 ? disk_flush(file) : r;
}

/* The part ends where its bytes no longer verify. What lies behind is kept, as far as anybody knows of it. */
static int cut_open_part(struct fsck *f, struct fsck_segment *segment)
{
	char path[DISK_PATH_MAX], lost[DISK_PATH_MAX], text[UUID_TEXT_LENGTH + 1];
	struct part_scan scan = {.geometry = f->geometry,
				 .segment = segment->record.uuid,
				 .start = segment->damaged_start,
				 .limit = UINT64_MAX};

	part_path(PART_DATA, &segment->record.uuid, segment->damaged_start, path);
	int r = disk_open(f->disk, path, DISK_WRITE, &scan.file);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = part_scan(&scan);
	uint64_t at = scan.start + scan.length;
	if (r == 0 && (scan.damaged || segment->needed > at)) {
		uint64_t to = scan.damaged ? scan.later_end : segment->needed - scan.start;
		if (to > f->geometry.data_size)
			to = f->geometry.data_size;
		lost_path(&segment->record.uuid, at, lost);
		r = copy_out(f, scan.file, scan.length, to, lost);
		if (r == 0)
			r = zero_entries(f, scan.file, scan.entries);
		if (r == 0)
			fsck_fixed(f,
				   "segment %s ends at byte %" PRIu64
				   " now; what was behind is in %s",
				   uuid_format(&segment->record.uuid, text), at, lost);
	}
	disk_close(scan.file);
	return r;
}

/* ---- Missing bytes -------------------------------------------------------------------------- */

static int move_part_away(struct fsck *f, const struct uuid *segment, uint64_t start)
{
	char path[DISK_PATH_MAX], lost[DISK_PATH_MAX], dir[DISK_PATH_MAX];

	lost_path(segment, start, lost);
	part_path(PART_DATA, segment, start, path);
	int r = make_lost_found(f);
	if (r == 0)
		r = disk_rename(f->disk, path, lost);
	if (r == -ENOENT)
		r = 0;
	if (r == 0)
		r = disk_sync_dir(f->disk, LOST_FOUND);
	part_dir(PART_DATA, segment, dir);
	if (r == 0)
		r = disk_sync_dir(f->disk, dir);
	if (r < 0)
		return r;
	part_path(PART_TABLE, segment, start, path);
	(void)!disk_unlink(f->disk, path);
	part_path(PART_INDEX, segment, start, path);
	(void)!disk_unlink(f->disk, path);
	part_path(PART_NOTE, segment, start, path);
	(void)!disk_unlink(f->disk, path);
	return 0;
}

static int move_parts_from(struct fsck *f, struct fsck_segment *segment, uint64_t from)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct part_list list;
	int r = part_list_load(f->disk, &segment->record.uuid, &list);

	if (r < 0)
		return r;
	for (size_t i = 0; i < list.count && r == 0; i++) {
		if (list.items[i].start < from)
			continue;
		r = move_part_away(f, &segment->record.uuid, list.items[i].start);
		if (r == 0)
			fsck_fixed(f,
				   "segment %s: the part at byte %" PRIu64 " is in " LOST_FOUND
				   " now",
				   uuid_format(&segment->record.uuid, text), list.items[i].start);
	}
	part_list_done(&list);
	return r;
}

/* ---- A sealed part whose table or index is damaged ------------------------------------------ */

struct reseal {
	struct fsck *f;
	struct uuid segment;
	uint64_t start;
	uint64_t length;
	struct disk_file *file;
	uint8_t *piece;
};

/* Whether the part's own table is good, so that its bytes can be verified, and whether they do verify. */
static int verify_by_table(struct reseal *reseal, bool *ret_has_table)
{
	char path[DISK_PATH_MAX];
	void *table = NULL;
	size_t size;
	struct sealed_header h;

	*ret_has_table = false;
	part_path(PART_TABLE, &reseal->segment, reseal->start, path);
	int r = disk_read_file(reseal->f->disk, path, SEALED_TABLE_SIZE_MAX, &table, &size);
	if (r == 0 && sealed_header_load(table, size, &h) == 0) {
		*ret_has_table = true;
		reseal->length = h.length;
		const uint8_t *sums = (const uint8_t *)table + SEALED_HEADER_SIZE;
		for (uint32_t i = 0; i < h.page_count && r == 0; i++) {
			uint64_t at = (uint64_t)i * PART_PAGE_SIZE;
			size_t n = h.length - at < PART_PAGE_SIZE ? (size_t)(h.length - at)
								  : PART_PAGE_SIZE;
			r = disk_read_full(reseal->file, reseal->piece, n, at);
			struct hash sum = hash_of(reseal->piece, n);
			if (r == 0 &&
			    memcmp(sum.bytes, sums + (size_t)i * HASH_SIZE, HASH_SIZE) != 0)
				r = -EBADMSG;
		}
	}
	free(table);
	return r == -ENOENT ? 0 : r;
}

/* Gives the part the commit table of an open one, in both copies, over the bytes as they are. */
static int write_entries(struct reseal *reseal)
{
	const struct part_geometry *g = &reseal->f->geometry;
	CLEANUP(buf_done) struct buf table = {.max = (size_t)g->table_size};
	uint64_t tag = part_tag(&reseal->segment, reseal->start);
	int r = 0;

	for (uint64_t at = 0, slot = 0; at < reseal->length && r == 0; slot++) {
		uint8_t bytes[PART_ENTRY_SIZE];
		size_t n = reseal->length - at < RESEAL_ENTRY ? (size_t)(reseal->length - at)
							      : RESEAL_ENTRY;
		r = disk_read_full(reseal->file, reseal->piece, n, at);
		if (r < 0)
			break;
		struct part_entry entry = {.offset = reseal->start + at,
					   .length = (uint32_t)n,
					   .sequence = slot + 1,
					   .hash = hash_of(reseal->piece, n)};
		part_entry_store(bytes, &entry, tag);
		r = buf_append(&table, bytes, sizeof(bytes));
		at += n;
	}
	if (r == 0)
		r = buf_append_zeros(&table, (size_t)g->table_size - table.size);
	for (unsigned copy = 0; copy < PART_TABLE_COPIES && r == 0; copy++)
		r = write_at(reseal->f->disk, reseal->file, table.data, table.size,
			     part_table_offset(g, copy));
	return r == 0 ? disk_flush(reseal->file) : r;
}

static int drop_table(struct reseal *reseal)
{
	char path[DISK_PATH_MAX];

	part_path(PART_TABLE, &reseal->segment, reseal->start, path);
	int r = disk_unlink(reseal->f->disk, path);
	if (r == -ENOENT)
		r = 0;
	part_dir(PART_TABLE, &reseal->segment, path);
	if (r == 0)
		r = disk_sync_dir(reseal->f->disk, path);
	return r == -ENOENT ? 0 : r;
}

static int unseal_part(struct fsck *f, struct fsck_segment *segment, uint64_t start,
		       uint64_t length)
{
	char path[DISK_PATH_MAX], text[UUID_TEXT_LENGTH + 1];
	struct reseal reseal = {
		.f = f, .segment = segment->record.uuid, .start = start, .length = length};
	bool has_table = false;

	part_path(PART_DATA, &reseal.segment, start, path);
	int r = disk_open(f->disk, path, DISK_WRITE, &reseal.file);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* the part itself is missing: nothing to seal */
	reseal.piece = malloc(RESEAL_ENTRY);
	if (!reseal.piece)
		r = -ENOMEM;
	if (r == 0)
		r = verify_by_table(&reseal, &has_table);
	if (r == 0)
		r = write_entries(&reseal);
	if (r == 0)
		r = drop_table(&reseal);
	if (r == 0)
		fsck_fixed(
			f,
			"segment %s: the part at byte %" PRIu64
			" is sealed anew at the next open%s",
			uuid_format(&reseal.segment, text), start,
			has_table ? ""
				  : "; its bytes could not be verified and were taken as they are");
	free(reseal.piece);
	disk_close(reseal.file);
	/* A page that does not verify has been reported: its table is what still tells. */
	return r == -EBADMSG || r == -ENODATA ? 0 : r;
}

static int unseal_bad_parts(struct fsck *f, struct fsck_segment *segment)
{
	struct part_list list;
	int r = part_list_load(f->disk, &segment->record.uuid, &list);

	if (r < 0)
		return r;
	for (size_t i = 0; i < list.count && r == 0; i++) {
		uint64_t start = list.items[i].start;
		uint64_t end = i + 1 < list.count ? list.items[i + 1].start : segment->length;
		struct sealed *sealed;
		int judged =
			sealed_open(f->disk, &segment->record.uuid, start, false, NULL, &sealed);
		if (judged == 0)
			sealed_close(sealed);
		if (judged == -EBADMSG && end > start)
			r = unseal_part(f, segment, start, end - start);
	}
	part_list_done(&list);
	return r;
}

/* ---- Segments and catalogue ----------------------------------------------------------------- */

static int repair_segment(struct fsck *f, struct fsck_segment *segment)
{
	int r = 0;

	if (segment->bad_tables)
		r = unseal_bad_parts(f, segment);
	if (r == 0 && segment->damaged) {
		r = cut_open_part(f, segment);
		if (r == 0)
			r = move_parts_from(f, segment, segment->length);
	}
	if (segment->bad_tables || segment->damaged) {
		/* Recovery goes through its parts again and says what it ends up with. */
		segment->record.state = CATALOGUE_OPEN;
		segment->record
			.epoch++; /* tells a restored segment from an import that was cut short */
		segment->record.part_start = 0;
		segment->record.length = 0;
		segment->record.frames_next = 0;
		f->catalogue_changed = true;
	}
	return r;
}

struct unknown {
	struct fsck *f;
	uint32_t number_last;
};

/* 1 if SEGMENT's directories hold bytes, 0 if all that is left is of a first append that failed. */
static int has_bytes(struct fsck *f, const struct uuid *segment)
{
	struct part_list list;
	bool tables = false;

	int r = part_list_load(f->disk, segment, &list);
	if (r < 0)
		return r;
	for (size_t i = 0; i < list.count; i++)
		tables |= list.items[i].table;
	uint64_t start = list.count ? list.items[0].start : 0;
	bool parts = list.count > 0;
	part_list_done(&list);
	if (tables || !parts)
		return tables;

	char path[DISK_PATH_MAX];
	struct part_scan scan = {
		.geometry = f->geometry, .segment = *segment, .start = start, .limit = UINT64_MAX};
	part_path(PART_DATA, segment, start, path);
	r = disk_open(f->disk, path, DISK_READ, &scan.file);
	if (r == 0)
		r = part_scan(&scan);
	disk_close(scan.file);
	return r < 0 ? r : scan.length > 0 || scan.damaged;
}

/* A directory of segments/ that the catalogue does not know. Its class is in no other place: it is taken as foreign. */
static int adopt_unknown(void *arg, const char *name, bool is_dir)
{
	struct unknown *unknown = arg;
	struct fsck *f = unknown->f;
	struct uuid uuid;

	if (!is_dir || uuid_parse(name, &uuid) < 0)
		return 0;
	for (size_t i = 0; i < f->segment_count; i++)
		if (uuid_equal(&f->segments[i].record.uuid, &uuid))
			return 0;
	struct fsck_segment *segment;
	int r = has_bytes(f, &uuid);
	if (r <= 0)
		return r;
	r = fsck_add_segment(f, &segment);
	if (r < 0)
		return r;
	segment->record = (struct catalogue_record){.uuid = uuid,
						    .number = ++unknown->number_last,
						    .node = f->superblock.node,
						    .epoch = 1,
						    .class = ENGINE_CLASS_FOREIGN,
						    .state = CATALOGUE_OPEN};
	fsck_fixed(f, "segment %s: found without a record, taken in as a foreign one", name);
	return 0;
}

static int repair_catalogue(struct fsck *f, struct reterr *err)
{
	struct unknown unknown = {.f = f};
	int r = 0;

	for (size_t i = 0; i < f->segment_count; i++)
		if (f->segments[i].record.number > unknown.number_last)
			unknown.number_last = f->segments[i].record.number;
	if (f->catalogue_damaged)
		r = disk_list(f->disk, "segments", adopt_unknown, &unknown);
	if (r < 0 || (!f->catalogue_damaged && !f->catalogue_changed))
		return r;

	struct catalogue_record *records = calloc(f->segment_count + 1, sizeof(*records));
	if (!records)
		return -ENOMEM;
	for (size_t i = 0; i < f->segment_count; i++)
		records[i] = f->segments[i].record;
	r = catalogue_rebuild(f->disk, &f->superblock.store, records, f->segment_count, err);
	free(records);
	if (r == 0 && f->catalogue_damaged)
		fsck_fixed(f, "catalogue: made anew, with %zu segments", f->segment_count);
	return r;
}

static int repair_superblock(struct fsck *f, struct reterr *err)
{
	if (!f->superblock.bad_copies)
		return 0;
	int r = superblock_write(f->disk, &f->superblock, err);
	if (r == 0)
		fsck_fixed(f, "superblock: both copies are good again");
	return r;
}

static int repair_journal(struct fsck *f, struct reterr *err)
{
	if (!f->journal_damaged)
		return 0;
	int r = journal_repair(f->disk, &f->superblock.store, err);
	if (r == 0)
		fsck_fixed(
			f,
			"journal: holds what is before the damage; the whole of it is in " LOST_FOUND
			"/journal");
	return r;
}

int fsck_repair(struct fsck *f, struct reterr *err)
{
	int r = repair_superblock(f, err);

	for (size_t i = 0; i < f->segment_count && r == 0; i++)
		r = repair_segment(f, &f->segments[i]);
	if (r == 0)
		r = repair_catalogue(f, err);
	if (r == 0)
		r = fsck_repair_roots(f, err);
	if (r == 0)
		r = repair_journal(f, err);
	if (r < 0 && !(err && err->code))
		(void)reterr_set(err, r, "the repair cannot go on: %s", strerror(-r));
	return r;
}
