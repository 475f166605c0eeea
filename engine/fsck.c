/*
 * The check of a whole store, structure by structure, without opening it as an engine: what an engine would refuse must still
 * be described. Nothing is written here; repair.c mends what was found.
 *
 *   superblock -> catalogue -> each segment: its parts, their tables and indexes, with DEEP every byte -> root log
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/core.h"
#include "engine/fsck.h"
#include "engine/part_scan.h"

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

		int read = disk_read_full(sealed->data, page, size, at);
		got = hash_of(page, size);
		r = sealed_page_sum(sealed, i, &wanted);
		progress(f, size);
		if (r < 0)
			break;
		if (read == 0 && hash_equal(&got, &wanted)) {
			f->result.bytes_verified += size;
			continue;
		}
		(void)reterr_set(
			&finding, -EBADMSG,
			"segment %s: bytes %" PRIu64 " to %" PRIu64 " %s; restore them from a "
			"backup",
			uuid_format(&h->segment, text), h->start + at, h->start + at + size,
			read == 0 ? "do not match their checksum" : "cannot be read");
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
	f->result.frames += sealed->header.frame_count;
	*ret_end = start + sealed->header.length;
	if (f->options.deep)
		r = check_pages(f, sealed);
	sealed_close(sealed);
	return r < 0 ? r : 1;
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

	part_path(PART_DATA, &segment->record.uuid, start, path);
	int r = disk_open(f->disk, path, DISK_READ | DISK_READ_ONCE, &scan.file);
	if (r == 0)
		r = part_scan(&scan);
	disk_close(scan.file);
	if (r < 0)
		return r;
	progress(f, scan.length);
	f->result.parts++;
	f->result.bytes_verified += scan.length;
	*ret_end = start + scan.length;
	segment->open = true;
	segment->open_start = start;
	if (scan.torn && !scan.damaged)
		f->result.torn_bytes++;
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

static int collect_start(void *arg, const char *name, bool is_dir)
{
	struct fsck_starts *list = arg;
	uint64_t start;

	if (is_dir ||
	    (part_name_parse(name, "", &start) < 0 && part_name_parse(name, ".table", &start) < 0))
		return 0;
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 64;
		uint64_t *starts = realloc(list->starts, capacity * sizeof(*starts));
		if (!starts)
			return -ENOMEM;
		list->starts = starts;
		list->capacity = capacity;
	}
	list->starts[list->count++] = start;
	return 0;
}

static int compare_u64(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

int fsck_list_starts(struct disk *disk, const struct uuid *segment, struct fsck_starts *ret)
{
	char path[DISK_PATH_MAX];
	size_t unique = 0;

	*ret = (struct fsck_starts){0};
	part_dir(PART_DATA, segment, path);
	int r = disk_list(disk, path, collect_start, ret);
	if (r == 0 || r == -ENOENT) {
		part_dir(PART_TABLE, segment, path);
		r = disk_list(disk, path, collect_start, ret);
	}
	if (r < 0 && r != -ENOENT) {
		free(ret->starts);
		return r;
	}
	if (ret->count)
		qsort(ret->starts, ret->count, sizeof(*ret->starts), compare_u64);
	for (size_t i = 0; i < ret->count; i++)
		if (unique == 0 || ret->starts[unique - 1] != ret->starts[i])
			ret->starts[unique++] = ret->starts[i];
	ret->count = unique;
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

static int check_parts(struct fsck *f, struct fsck_segment *segment, const struct fsck_starts *list)
{
	bool sealed_state = segment->record.state == CATALOGUE_SEALED;
	int r = 0;

	for (size_t i = 0; i < list->count && r == 0 && !segment->damaged; i++) {
		struct reterr finding = {0};
		uint64_t start = list->starts[i], end = start;
		uint64_t limit = i + 1 < list->count ? list->starts[i + 1] : UINT64_MAX;

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
			segment->bad_tables++;
			segment->length = limit != UINT64_MAX ? limit : segment->record.length;
			continue;
		}
		if (sealed < 0)
			r = sealed;
		if (sealed == 0)
			r = check_open(f, segment, start, limit, &end);
		segment->length = end;
	}
	if (r == 0 && sealed_state && !segment->damaged && segment->length < segment->record.length)
		length_finding(f, segment, segment->length);
	return r;
}

/* What the disk refuses to give is a finding as well: the other segments are checked all the same. */
static int check_segment(struct fsck *f, struct fsck_segment *segment)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct reterr finding;
	struct fsck_starts list;

	f->result.segments++;
	int r = fsck_list_starts(f->disk, &segment->record.uuid, &list);
	if (r == 0) {
		r = check_parts(f, segment, &list);
		free(list.starts);
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
	f->total += record->state == CATALOGUE_SEALED ? record->length : 0;
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
