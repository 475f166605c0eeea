/*
 * Roots, checked and mended: are the bytes there that were durable when a root was published?
 *
 * After a crash recovery asks the newest ROOT_WITNESSES_MAX roots of one epoch, and refuses to write when bytes are missing
 * that one of them needs. Repair has looked at that, and cannot bring them back: it publishes the newest root that is
 * whole once more, with an epoch above the others', which are no witnesses from then on. They stay in the log.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include <protofs/clock.h>

#include "base/le.h"
#include "engine/fsck.h"
#include "engine/part_list.h"
#include "engine/root_log.h"

static struct fsck_segment *find_segment(struct fsck *f, const struct uuid *uuid)
{
	for (size_t i = 0; i < f->segment_count; i++)
		if (uuid_equal(&f->segments[i].record.uuid, uuid))
			return &f->segments[i];
	return NULL;
}

/* ---- The bytes that a root needs ------------------------------------------------------------ */

/* As many bytes at OFFSET as one part has, without verifying them. */
static int read_part(struct fsck *f, const struct uuid *segment, const struct part_list *list,
		     uint64_t offset, void *data, size_t size, size_t *ret)
{
	char path[DISK_PATH_MAX];
	struct disk_file *file = NULL;
	size_t i = list->count;

	*ret = 0;
	while (i > 0 && list->items[i - 1].start > offset)
		i--;
	if (i == 0)
		return 0;
	if (i < list->count && list->items[i].start - offset < size)
		size = (size_t)(list->items[i].start - offset);
	part_path(PART_DATA, segment, list->items[i - 1].start, path);
	int r = disk_open(f->disk, path, DISK_READ, &file);
	if (r == 0)
		r = disk_read(file, data, size, offset - list->items[i - 1].start, ret);
	disk_close(file);
	return r;
}

/* Where the frame at POINTER ends: behind its header, if that cannot be read. */
static uint64_t frame_end(struct fsck *f, const struct engine_pointer *pointer)
{
	uint8_t header[ENGINE_FRAME_HEADER_SIZE];
	struct part_list list;
	size_t have = 0, got = 1;
	uint64_t end = pointer->offset + sizeof(header);

	int r = part_list_load(f->disk, &pointer->segment, &list);
	if (r < 0)
		return end;
	while (r == 0 && got > 0 && have < sizeof(header)) {
		r = read_part(f, &pointer->segment, &list, pointer->offset + have, header + have,
			      sizeof(header) - have, &got);
		have += got;
	}
	part_list_done(&list);
	uint64_t size = r == 0 && have == sizeof(header) ? load_le64(header) : 0;
	return size <= ENGINE_FRAME_PAYLOAD_MAX ? end + size : end;
}

static bool barrier_met(struct fsck *f, const struct root_record *record)
{
	for (unsigned i = 0; i < record->barrier_count; i++) {
		const struct fsck_segment *segment = find_segment(f, &record->barrier[i].segment);
		if (segment && segment->length < record->barrier[i].length)
			return false;
	}
	return true;
}

/* A segment that the catalogue does not know was removed, on purpose: it makes no root worse. */
static uint64_t needed_of(struct fsck *f, const struct root_record *record,
			  struct fsck_segment **ret_segment)
{
	struct fsck_segment *segment = find_segment(f, &record->root.pointer.segment);
	*ret_segment = segment;
	if (!segment)
		return 0;
	if (record->root.pointer.offset + ENGINE_FRAME_HEADER_SIZE > segment->length)
		return record->root.pointer.offset + ENGINE_FRAME_HEADER_SIZE;
	return frame_end(f, &record->root.pointer);
}

/* ---- The check ------------------------------------------------------------------------------ */

static void check_witness(struct fsck *f, const struct root_record *record)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct reterr finding;
	struct fsck_segment *segment;
	uint64_t needed = needed_of(f, record, &segment);

	if (!segment || segment->length >= needed)
		return;
	f->root_broken = true;
	(void)reterr_set(&finding, -EBADMSG,
			 "root %" PRIu64 " needs segment %s up to byte %" PRIu64
			 ", which ends at %" PRIu64,
			 record->root.seq, uuid_format(&segment->record.uuid, text), needed,
			 segment->length);
	fsck_found(f, &finding);
	if (needed > segment->needed)
		segment->needed = needed;
	if (!segment->damaged && segment->open) {
		segment->damaged = true;
		segment->damaged_start = segment->open_start;
	}
}

static void check_witnesses(struct fsck *f, struct root_log *log)
{
	struct root_record newest, record;

	if (root_log_last(log, &newest) < 0)
		return;
	/* With an unmet barrier it is a torn publication, which recovery cuts. */
	if (barrier_met(f, &newest))
		check_witness(f, &newest);
	for (uint64_t i = 1; i < ROOT_WITNESSES_MAX && newest.root.seq > i; i++) {
		int r = root_log_get(log, newest.root.seq - i, &record);
		if (r == 0 && record.epoch != newest.epoch)
			break;
		if (r == 0)
			check_witness(f, &record);
	}
}

static void root_finding(void *arg, const struct reterr *finding)
{
	fsck_found(arg, finding);
}

int fsck_check_roots(struct fsck *f)
{
	struct root_log *log = NULL;
	struct reterr finding = {0};
	struct root_log_checked checked = {0};
	uint64_t before = f->result.problems;

	int r = root_log_open(f->disk, true, &finding, &log);
	if (!log) {
		if (r != -EBADMSG && r != -ENOENT)
			return r;
		f->roots_damaged = true;
		fsck_found(f, &finding);
		return 0;
	}
	int opened = r;
	r = root_log_check(log, f->options.deep || opened == -EBADMSG, root_finding, f, &checked);
	f->result.roots = checked.records;
	if (opened == -EBADMSG && f->result.problems == before)
		fsck_found(f, &finding);
	f->roots_damaged = f->result.problems > before;
	check_witnesses(f, log);
	root_log_close(log);
	return r;
}

/* ---- The repair ----------------------------------------------------------------------------- */

/* The newest root whose bytes are all there. -ENOENT. */
static int find_whole(struct fsck *f, struct root_log *log, struct root_record *ret)
{
	uint64_t first, last;

	root_log_range(log, &first, &last);
	for (uint64_t seq = last; seq >= first && seq > 0; seq--) {
		struct fsck_segment *segment;
		if (root_log_get(log, seq, ret) < 0)
			continue;
		uint64_t needed = needed_of(f, ret, &segment);
		if (segment && segment->length >= needed)
			return 0;
	}
	return -ENOENT;
}

static int publish_again(struct fsck *f, struct root_log *log, const struct root_record *whole,
			 const struct root_record *newest)
{
	struct root_record record = {.root = whole->root, .epoch = newest->epoch + 1};
	struct disk_job job;
	uint64_t now_ns = clock_system()->wall_ns(clock_system());

	record.root.seq = newest->root.seq + 1;
	record.root.time_ns = now_ns > newest->root.time_ns ? now_ns : newest->root.time_ns;
	int r = root_log_prepare(log, &record, &job);
	if (r < 0)
		return r;
	r = disk_commit(f->disk, &job, 1);
	root_log_done(log, r);
	if (r == 0)
		fsck_fixed(f,
			   "root %" PRIu64
			   ", the newest one that is whole, is published again as root %" PRIu64,
			   whole->root.seq, record.root.seq);
	return r;
}

static int repair_opened(struct fsck *f, struct root_log *log, struct reterr *err)
{
	struct root_record whole, newest;

	int r = root_log_last(log, &newest);
	if (r == 0 && !barrier_met(f, &newest)) {
		r = root_log_cut_last(log, err);
		if (r == 0)
			r = root_log_last(log, &newest);
	}
	if (r == 0)
		r = find_whole(f, log, &whole);
	if (r == 0)
		r = publish_again(f, log, &whole, &newest);
	/* Nothing to go back to, or a log that cannot be written: said by the check, and still true. */
	return r == -ENOENT || r == -EBADMSG || r == -EROFS ? 0 : r;
}

static void root_fixed(void *arg, const struct reterr *event)
{
	fsck_fixed(arg, "%s", event->text);
}

int fsck_repair_roots(struct fsck *f, struct reterr *err)
{
	struct root_log *log;
	int r = f->roots_damaged ? root_log_repair(f->disk, root_fixed, f, err) : 0;

	/* A log of which nothing can be read stays as it is: said by the check. */
	if (r < 0)
		return r == -EBADMSG || r == -ENOENT ? 0 : r;
	if (!f->root_broken)
		return 0;
	r = root_log_open(f->disk, false, err, &log);
	if (r == 0)
		r = repair_opened(f, log, err);
	root_log_close(log);
	return r == -EBADMSG ? 0 : r;
}
