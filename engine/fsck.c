/*
 * The check of a whole store, structure by structure, without opening it as an engine: what an engine would refuse must still
 * be described. Nothing is written here; repair.c mends what was found.
 *
 *   superblock -> catalogue -> each segment: its parts, their tables and indexes, with DEEP every byte -> root log -> journal
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/core.h"
#include "engine/fsck.h"
#include "engine/part_list.h"
#include "engine/part_scan.h"
#include "engine/wal.h"

void fsck_found(struct fsck *f, const struct reterr *finding)
{
	f->result.problems++;
	if (f->options.found)
		f->options.found(f->options.arg, finding, false);
}

static void progress(struct fsck *f, uint64_t bytes)
{
	f->done += bytes;
	if (f->options.progress)
		f->options.progress(f->options.arg, f->done, f->total);
}

/* ---- Parts ---------------------------------------------------------------------------------- */

/* Exactly SIZE bytes of a segment from whoever has them. */
static int read_elsewhere(struct fsck *f, const struct uuid *segment, uint8_t *data, size_t size,
			  uint64_t offset)
{
	struct remote_reader *reader = f->options.reader;

	for (size_t done = 0; done < size;) {
		size_t got = 0;
		int r = reader->ops->read(reader, segment, data + done, size - done, offset + done,
					  &got, NULL);
		if (r < 0 || got == 0 || got > size - done)
			return r < 0 ? r : -EBADMSG;
		done += got;
	}
	return 0;
}

/* 1: read; 0: it is elsewhere, and nobody is there to bring it; or why it cannot be read. */
static int read_page(struct fsck *f, const struct sealed *sealed, uint64_t at, uint8_t *page,
		     size_t size)
{
	const struct sealed_header *h = &sealed->header;
	int r;

	if (sealed->data)
		r = disk_read_full(sealed->data, page, size, at);
	else if (at >= sealed->local_from)
		r = disk_read_full(sealed->note, page, size, at - sealed->local_from);
	else if (f->options.reader)
		r = read_elsewhere(f, &h->segment, page, size, h->start + at);
	else
		return 0;
	return r < 0 ? r : 1;
}

/* Every page of a sealed part against its sum. */
static int check_pages(struct fsck *f, const struct sealed *sealed)
{
	const struct sealed_header *h = &sealed->header;
	char text[UUID_TEXT_LENGTH + 1];
	uint8_t *page = malloc(PART_PAGE_SIZE);
	int r = page ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < h->page_count && r == 0; i++) {
		uint64_t at = i * PART_PAGE_SIZE;
		size_t size = h->length - at < PART_PAGE_SIZE ? (size_t)(h->length - at)
							      : PART_PAGE_SIZE;
		struct hash wanted, got;
		struct reterr finding;

		int read = read_page(f, sealed, at, page, size);
		r = sealed_page_sum(sealed, i, &wanted);
		progress(f, size);
		if (read == 0)
			f->result.bytes_unverified += size;
		if (r < 0 || read == 0)
			continue;
		got = hash_of(page, size);
		if (read == 1 && hash_equal(&got, &wanted)) {
			f->result.bytes_verified += size;
			continue;
		}
		(void)reterr_set(
			&finding, -EBADMSG,
			"segment %s: bytes %" PRIu64 " to %" PRIu64 " %s%s; restore them from a "
			"backup",
			uuid_format(&h->segment, text), h->start + at, h->start + at + size,
			read == 1 ? "do not match their checksum" : "cannot be read",
			sealed->data ? "" : " from elsewhere");
		fsck_found(f, &finding);
	}
	free(page);
	return r;
}

/* 1: a valid sealed part; 0: no table, so an open one; FINDING is set for a damaged one. */
static int check_sealed(struct fsck *f, struct fsck_segment *segment, uint64_t start,
			uint64_t *ret_end, struct reterr *finding)
{
	struct sealed *sealed;

	int r = sealed_open(f->disk, &segment->record.uuid, start, true, finding, &sealed);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	f->result.parts++;
	f->result.parts_remote += sealed->data == NULL;
	f->result.bytes_remote += sealed->local_from;
	f->result.frames += sealed->header.frame_count;
	*ret_end = start + sealed->header.length;
	if (f->options.deep)
		r = check_pages(f, sealed);
	sealed_close(sealed);
	return r < 0 ? r : 1;
}

/*
 * Bytes that were written behind what was acknowledged: no entry need speak of them. Nobody writes
 * further ahead than that.
 */
static int torn_bytes(const struct part_scan *scan, uint64_t *ret)
{
	enum { PIECE = 64 << 10 };
	uint8_t *piece = malloc(PIECE);
	uint64_t end = scan->length + WAL_PENDING_MAX;
	int r = piece ? 0 : -ENOMEM;

	*ret = 0;
	if (end > scan->geometry.data_size)
		end = scan->geometry.data_size;
	for (uint64_t at = scan->length; r == 0 && at < end; at += PIECE) {
		size_t want = end - at < PIECE ? (size_t)(end - at) : PIECE, got;
		r = disk_read(scan->file, piece, want, at, &got);
		if (r < 0 || got == 0)
			break;
		while (got && piece[got - 1] == 0)
			got--;
		if (got)
			*ret = at + got - scan->length;
	}
	free(piece);
	return r;
}

static int check_open(struct fsck *f, struct fsck_segment *segment, uint64_t start, uint64_t limit,
		      uint64_t *ret_end)
{
	char path[DISK_PATH_MAX], text[UUID_TEXT_LENGTH + 1];
	struct reterr finding;
	struct part_scan scan = {.geometry = f->geometry,
				 .segment = segment->record.uuid,
				 .start = start,
				 .limit = limit};
	uint64_t torn = 0;

	part_path(PART_DATA, &segment->record.uuid, start, path);
	int r = disk_open(f->disk, path, DISK_READ | DISK_READ_ONCE, &scan.file);
	if (r == 0)
		r = part_scan(&scan);
	if (r == 0 && limit == UINT64_MAX && !scan.damaged)
		r = torn_bytes(&scan, &torn);
	disk_close(scan.file);
	if (r < 0)
		return r;
	progress(f, scan.length);
	f->result.parts++;
	f->result.bytes_verified += scan.length;
	*ret_end = start + scan.length;
	segment->open = true;
	segment->open_start = start;
	f->result.torn_bytes += torn;
	if (scan.copy_damaged) {
		(void)reterr_set(
			&finding, -EBADMSG,
			"segment %s: a copy of the commit table of the part at byte %" PRIu64
			" is damaged; the other one serves",
			uuid_format(&segment->record.uuid, text), start);
		fsck_found(f, &finding);
	}
	if (!scan.damaged)
		return 0;
	segment->damaged = true;
	segment->damaged_start = start;
	(void)reterr_set(&finding, -EBADMSG,
			 "segment %s: damage at byte %" PRIu64
			 ": acknowledged bytes do not match their checksum",
			 uuid_format(&segment->record.uuid, text), *ret_end);
	fsck_found(f, &finding);
	return 0;
}

/* ---- Segments ------------------------------------------------------------------------------- */

static void length_finding(struct fsck *f, struct fsck_segment *segment, uint64_t length)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct reterr finding;

	segment->damaged = true;
	segment->damaged_start = length;
	(void)reterr_set(&finding, -EBADMSG,
			 "segment %s: bytes from %" PRIu64 " on are missing: no part holds them",
			 uuid_format(&segment->record.uuid, text), length);
	fsck_found(f, &finding);
}

static int check_parts(struct fsck *f, struct fsck_segment *segment, const struct part_list *list)
{
	bool sealed_state = segment->record.state == CATALOGUE_SEALED;
	int r = 0;

	for (size_t i = 0; i < list->count && r == 0 && !segment->damaged; i++) {
		struct reterr finding = {0};
		uint64_t start = list->items[i].start, end = start;
		uint64_t limit = i + 1 < list->count ? list->items[i + 1].start : UINT64_MAX;

		/* Behind the end of a sealed segment only a part that never held a byte can begin. */
		if (sealed_state && start >= segment->record.length)
			break;
		if (start != segment->length) {
			length_finding(f, segment, segment->length);
			break;
		}
		segment->open = false;
		int sealed = check_sealed(f, segment, start, &end, &finding);
		if (sealed == -EBADMSG) {
			fsck_found(f, &finding);
			/* Without its bytes nobody can make a table for them. */
			segment->bad_tables += list->items[i].data;
			segment->length = limit != UINT64_MAX ? limit : segment->record.length;
			continue;
		}
		if (sealed < 0)
			r = sealed;
		if (sealed == 0)
			r = check_open(f, segment, start, limit, &end);
		segment->length = end;
	}
	/* Open: so many bytes were there when the open part was begun. */
	if (r == 0 && !segment->damaged && segment->length < segment->record.length)
		length_finding(f, segment, segment->length);
	return r;
}

/* What the disk refuses to give is a finding as well: the other segments are checked all the same. */
static int check_segment(struct fsck *f, struct fsck_segment *segment)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct reterr finding;
	struct part_list list;

	f->result.segments++;
	if (segment->record.flags & CATALOGUE_INHERITED) {
		segment->length = segment->record.length;
		f->result.bytes_remote += segment->length;
		f->result.bytes_unverified += f->options.deep ? segment->length : 0;
		return 0; /* who brings its bytes verifies them: nothing here could */
	}
	int r = part_list_load(f->disk, &segment->record.uuid, &list);
	if (r == 0) {
		r = check_parts(f, segment, &list);
		part_list_done(&list);
	}
	if (r == 0 || r == -ENOMEM)
		return r;
	(void)reterr_set(&finding, r, "segment %s: cannot be read at byte %" PRIu64 ": %s",
			 uuid_format(&segment->record.uuid, text), segment->length, strerror(-r));
	fsck_found(f, &finding);
	return 0;
}

/* ---- Catalogue ------------------------------------------------------------------------------ */

int fsck_add_segment(struct fsck *f, struct fsck_segment **ret)
{
	if (f->segment_count == f->segment_capacity) {
		size_t capacity = f->segment_capacity ? f->segment_capacity * 2 : 64;
		struct fsck_segment *segments = realloc(f->segments, capacity * sizeof(*segments));
		if (!segments)
			return -ENOMEM;
		f->segments = segments;
		f->segment_capacity = capacity;
	}
	*ret = &f->segments[f->segment_count++];
	**ret = (struct fsck_segment){0};
	return 0;
}

static int collect_record(void *arg, const struct catalogue_record *record)
{
	struct fsck *f = arg;
	struct fsck_segment *segment;

	if (record->state != CATALOGUE_OPEN && record->state != CATALOGUE_SEALED)
		return 0;
	int r = fsck_add_segment(f, &segment);
	if (r < 0)
		return r;
	segment->record = *record;
	if (record->state == CATALOGUE_SEALED && !(record->flags & CATALOGUE_INHERITED))
		f->total += record->length;
	return 0;
}

static int check_catalogue(struct fsck *f)
{
	struct catalogue *catalogue = NULL;
	struct reterr finding = {0};

	int r = catalogue_open(f->disk, &f->superblock.store, true, collect_record, f, &finding,
			       &catalogue);
	catalogue_close(catalogue);
	if (r == -EBADMSG || r == -ENOENT) {
		f->catalogue_damaged = true;
		fsck_found(f, &finding);
		return 0;
	}
	return r;
}

/* ---- Journal -------------------------------------------------------------------------------- */

static int check_journal(struct fsck *f)
{
	struct reterr finding = {0};
	struct journal *journal;

	int r = journal_new(f->disk, &f->superblock.store, true, &journal);
	if (r < 0)
		return r;
	r = journal_load(journal, NULL, NULL, &finding);
	journal_free(journal);
	if (r != -EBADMSG)
		return r;
	f->journal_damaged = true;
	fsck_found(f, &finding);
	return 0;
}

/* ---- The whole ------------------------------------------------------------------------------ */

int fsck_check(struct fsck *f, struct reterr *err)
{
	int r = superblock_read(f->disk, &f->superblock, err);
	if (r < 0)
		return r;
	f->geometry = part_geometry_of(f->superblock.block_size);
	if (f->superblock.bad_copies) {
		struct reterr finding;
		(void)reterr_set(
			&finding, -EBADMSG,
			"superblock: one of its two copies is damaged; the other one serves");
		fsck_found(f, &finding);
	}
	r = check_catalogue(f);
	for (size_t i = 0; i < f->segment_count && r == 0; i++)
		r = check_segment(f, &f->segments[i]);
	if (r == 0)
		r = fsck_check_roots(f);
	if (r == 0)
		r = check_journal(f);
	if (r < 0)
		return reterr_set(err, r, "the check cannot go on: %s", strerror(-r));
	return 0;
}

void fsck_done(struct fsck *f)
{
	free(f->segments);
}

/* What is left after the repair, counted without telling anybody again. */
static int count_left(struct disk *disk, bool deep, uint64_t *ret, struct reterr *err)
{
	struct fsck f = {.disk = disk, .options = {.deep = deep}};
	int r = fsck_check(&f, err);

	*ret = f.result.problems;
	fsck_done(&f);
	return r;
}

int engine_fsck(struct disk *disk, const struct engine_fsck_options *options,
		struct engine_fsck_result *ret, struct reterr *err)
{
	struct fsck f = {.disk = disk, .options = *options};
	uint64_t left = 0;

	*ret = (struct engine_fsck_result){0};
	int r = superblock_is_there(disk, err);
	if (r == 0)
		r = disk->ops->lock(disk, options->repair, err);
	if (r < 0)
		return r;
	r = fsck_check(&f, err);
	if (r == 0 && options->repair && f.result.problems) {
		r = fsck_repair(&f, err);
		if (r == 0)
			r = count_left(disk, options->deep, &left, err);
		if (r == 0 && left < f.result.problems)
			f.result.fixed = f.result.problems - left;
	}
	*ret = f.result;
	fsck_done(&f);
	return r;
}
