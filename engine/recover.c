/*
 * Recovery: DESIGN 4.4.
 *
 * 1. The catalogue says which segments had an open part; only those are looked at. Their parts are
 *    taken in order; one without a valid table is scanned (part_scan.c). Nothing is written in this
 *    step.
 * 2. The last root record is judged: if its barrier is not met it is the record of a torn
 *    publication. Every earlier record, and the last one's if its own barrier names them durable,
 *    is a witness of bytes that must be there.
 * 3. Damage, or a witness that is contradicted, leaves the store read-only, as it was found, with
 *    the reason.
 * 4. Otherwise the torn root is cut, and all parts that were scanned are sealed: later bytes begin
 *    new parts, under a new epoch.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/core.h"
#include "engine/part_list.h"
#include "engine/part_scan.h"

/* ---- One segment ---------------------------------------------------------------------------- */

/*
 * The part's bytes are the segment's from now on. Recovery is single-threaded: no lock needed, but
 * cheap.
 */
static int adopt(struct engine_segment *segment, uint64_t start, uint64_t end, struct wal *wal,
		 bool remote)
{
	struct part *part;
	int r = part_new(start, end, wal, &part);
	if (r < 0) {
		wal_free(wal);
		return r;
	}
	atomic_store(&part->remote, remote);
	atomic_store(&part->used_ns, segment->modified_ns);
	segment_lock(segment);
	r = segment_push_part(segment, part);
	if (r == 0)
		segment->length = segment->durable = end;
	if (r == 0 && remote) {
		segment->remote += end - start;
		segment->has_remote = true;
	}
	if (r == 0 && !wal)
		segment->sealed = end;
	segment_unlock(segment);
	if (r < 0)
		part_unref(part);
	return r;
}

/*
 * Nothing is fetched from elsewhere here: the network may not be up. What the frames need of a part
 * that is not here is read when somebody asks; a part that can be followed by an open one keeps its
 * end here (evict.c).
 */
static int adopt_sealed(struct engine_segment *segment, const struct sealed *sealed, bool remote)
{
	const struct sealed_header *header = &sealed->header;
	uint64_t end = header->start + header->length;

	uint64_t last = frame_scan_end(&segment->frames);
	int r = adopt(segment, header->start, end, NULL, remote);
	segment->frames_known = !(remote && header->frames_next < end);
	segment->frames_end = header->frames_next;
	if (r < 0 || !segment->frames_known)
		return r;
	return segment_frames_behind(segment, sealed, last, &segment->frames, NULL);
}

static int damage_at(struct engine_segment *segment, uint64_t at, const char *why)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct reterr damage;

	segment->state = ENGINE_SEGMENT_DAMAGED;
	(void)reterr_set(&damage, -EBADMSG,
			 "segment %s: damage at byte %" PRIu64
			 ": %s; `protofs fsck --repair` keeps a copy of what it cuts",
			 uuid_format(&segment->uuid, text), at, why);
	engine_note_damage(segment->engine, &damage);
	return 0;
}

/* 0 also for damage, which ends the segment: 1 is returned if the next part can follow. */
static int recover_part(struct engine_segment *segment, const struct part_found *found,
			uint64_t limit)
{
	struct engine *e = segment->engine;
	uint64_t start = found->start;
	struct sealed *sealed;
	struct reterr err = {0};
	uint8_t *head;
	struct wal *wal;

	int r = sealed_open(e->disk, &segment->uuid, start, false, &err, &sealed);
	if (r == 0) {
		r = adopt_sealed(segment, sealed, part_is_remote(found));
		sealed_close(sealed);
		return r < 0 ? r : 1;
	}
	if (r == -EBADMSG || r == -EIO)
		return damage_at(segment, start, err.text);
	if (r != -ENOENT)
		return r;

	struct part_scan scan = {
		.geometry = e->geometry, .segment = segment->uuid, .start = start, .limit = limit};
	r = segment_load_frames(segment, &err);
	if (r == 0)
		r = segment_read_head(segment, start, &head, &err);
	if (r == -EBADMSG || r == -EIO)
		return damage_at(segment, start, err.text);
	if (r < 0)
		return r;
	r = wal_recover(e->disk, e->pool, &scan, head, &segment->frames, &wal);
	free(head);
	if (r == -EIO)
		return damage_at(segment, start, "the part cannot be read");
	if (r < 0)
		return r;
	if (scan.length == 0)
		wal_free(wal); /* never held a byte that was acknowledged */
	else
		r = adopt(segment, start, start + scan.length, wal, false);
	if (r < 0)
		return r;
	if (scan.damaged)
		return damage_at(segment, start + scan.length,
				 "acknowledged bytes do not match their checksum");
	return 1;
}

/* 1 if all of them were taken; 0 for damage. */
static int recover_parts(struct engine_segment *segment, const struct part_list *list)
{
	int r = 1;

	for (size_t i = 0; i < list->count && r == 1; i++) {
		uint64_t limit = i + 1 < list->count ? list->items[i + 1].start : UINT64_MAX;
		if (list->items[i].start != segment->length)
			return damage_at(segment, segment->length, "bytes are missing");
		r = recover_part(segment, &list->items[i], limit);
	}
	return r;
}

static int recover_segment(struct engine_segment *segment)
{
	struct part_list list;
	uint64_t recorded = segment->length; /* there were so many when the last part began */

	segment->length = segment->durable = segment->sealed = 0;
	segment->parts_loaded = true;
	segment->frames_known = true;
	frame_scan_init(&segment->frames, 0, 0, NULL);
	int r = part_list_load(segment->engine->disk, &segment->uuid, &list);
	if (r < 0)
		return r;
	r = recover_parts(segment, &list);
	part_list_done(&list);
	if (r <= 0)
		return r;
	if (segment->length < recorded)
		return damage_at(segment, segment->length, "bytes are missing");
	segment_list_open(segment);
	return 0;
}

/* ---- Roots as witnesses --------------------------------------------------------------------- */

/*
 * Whether bytes of a segment below NEEDED, which RECORD relies on, are missing; RET is how many
 * there are. A segment is in the catalogue before a record can name it: one that is not, or was
 * born later, was removed since, on purpose, and witnesses nothing.
 */
static bool is_short(struct engine *e, const struct root_record *record, const struct uuid *uuid,
		     uint64_t needed, uint64_t *ret)
{
	struct engine_segment *segment = engine_segment_find(e, uuid);

	*ret = segment ? segment->durable : 0;
	return segment && segment->born_root < record->root.seq && *ret < needed;
}

/* Bytes that damage has taken may have been there: they make no publication a torn one. */
static bool is_damaged(struct engine *e, const struct uuid *uuid)
{
	struct engine_segment *segment = engine_segment_find(e, uuid);
	return segment && segment->state == ENGINE_SEGMENT_DAMAGED;
}

static bool barrier_met(struct engine *e, const struct root_record *record)
{
	uint64_t length;

	for (unsigned i = 0; i < record->barrier_count; i++)
		if (!is_damaged(e, &record->barrier[i].segment) &&
		    is_short(e, record, &record->barrier[i].segment, record->barrier[i].length,
			     &length))
			return false;
	return true;
}

static bool in_barrier(const struct root_record *record, const struct uuid *uuid)
{
	for (unsigned i = 0; i < record->barrier_count; i++)
		if (uuid_equal(&record->barrier[i].segment, uuid))
			return true;
	return false;
}

/* The bytes that the root's frame needs: it was whole when the root was published. */
static uint64_t frame_end(struct engine *e, const struct engine_pointer *pointer)
{
	uint8_t header[ENGINE_FRAME_HEADER_SIZE];
	struct engine_segment *segment = engine_segment_find(e, &pointer->segment);
	uint64_t end = pointer->offset + sizeof(header), size;
	size_t got;

	/* What is elsewhere is not asked for: the network may not be up. */
	if (!segment || segment->durable < end || segment_is_remote_at(segment, pointer->offset) ||
	    segment_is_remote_at(segment, end - 1) ||
	    engine_read(e, segment, header, sizeof(header), pointer->offset, 0, &got, NULL) < 0 ||
	    got < sizeof(header))
		return end;
	size = load_le64(header);
	return size <= ENGINE_FRAME_PAYLOAD_MAX ? end + size : end;
}

static void witness(struct engine *e, const struct root_record *record)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct reterr damage;
	struct uuid segment = record->root.pointer.segment;
	uint64_t needed = frame_end(e, &record->root.pointer);
	uint64_t length;

	bool missing = is_short(e, record, &segment, needed, &length);
	for (unsigned i = 0; i < record->barrier_count && !missing; i++) {
		segment = record->barrier[i].segment;
		needed = record->barrier[i].length;
		missing = is_short(e, record, &segment, needed, &length);
	}
	if (!missing)
		return;
	(void)reterr_set(&damage, -EBADMSG,
			 "segment %s: bytes %" PRIu64 " to %" PRIu64
			 " are missing, but root %" PRIu64 " was published after them",
			 uuid_format(&segment, text), length, needed, record->root.seq);
	engine_note_damage(e, &damage);
}

/* 1: the last record is of a torn publication. */
static int judge_roots(struct engine *e)
{
	struct root_record record;
	int torn = 0;

	int r = root_log_last(e->root_log, &record);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	torn = !barrier_met(e, &record);
	/*
	 * A pointer into bytes that were durable before the record went out is not part of the
	 * publication.
	 */
	if (!torn || !in_barrier(&record, &record.root.pointer.segment)) {
		struct root_record bare = record;
		bare.barrier_count = 0;
		witness(e, &bare);
	}
	/* After a clean stop there was no tail to tear. */
	for (uint64_t i = 1; e->recovered && i < ROOT_WITNESSES_MAX && record.root.seq > i; i++) {
		struct root_record earlier;
		r = root_log_get(e->root_log, record.root.seq - i, &earlier);
		if (r == 0 && earlier.epoch != record.epoch)
			break;
		if (r == -ENOENT || r == -EBADMSG)
			continue; /* given up, or damage that the log's open has told of */
		if (r < 0)
			return r;
		witness(e, &earlier);
	}
	return torn;
}

/* ---- The whole ------------------------------------------------------------------------------ */

static int recover_open_segments(struct engine *e)
{
	for (uint32_t number = 1; number <= atomic_load(&e->number_last); number++) {
		struct engine_segment *segment = engine_segment_at(e, number);
		if (!segment || segment->state != ENGINE_SEGMENT_OPEN)
			continue;
		e->recovered = true;
		int r = recover_segment(segment);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * What a crash left half done. A part that begins at the end never held an acknowledged byte; it
 * would be in the way of `cat`. A table that a killed process had just renamed is seen by us, but
 * nobody has synced its name; with the record that comes next the catalogue would rely on it. Its
 * part may not be cut yet.
 */
static int seal_recovered(struct engine_segment *segment, struct reterr *err)
{
	char path[DISK_PATH_MAX];

	part_path(PART_DATA, &segment->uuid, segment->length, path);
	int unlinked = disk_unlink(segment->engine->disk, path);
	if (unlinked < 0 && unlinked != -ENOENT)
		return reterr_set(err, unlinked, "%s: %s", path, strerror(-unlinked));
	if (segment->sealed) {
		part_dir(PART_TABLE, &segment->uuid, path);
		int r = disk_sync_dir(segment->engine->disk, path);
		if (r < 0)
			return reterr_set(err, r, "%s: %s", path, strerror(-r));
	}
	for (size_t i = 0; i < segment->part_count; i++) {
		const struct part *part = segment->parts[i];
		int r = part->wal ? wal_rewrite_last(part->wal)
				  : seal_cut(segment->engine->disk, &segment->uuid, part->start,
					     part->end - part->start, err);
		if (r < 0 && part->wal)
			(void)reterr_set(err, r, "a recovered part cannot be written: %s",
					 strerror(-r));
		if (r < 0)
			return r;
	}
	return segment_seal_ended(segment, err);
}

/* An import that a crash cut short is no segment: its source is still where it was. */
static int finish_segments(struct engine *e, struct reterr *err)
{
	for (uint32_t number = 1; number <= atomic_load(&e->number_last); number++) {
		struct engine_segment *segment = segment_at_number(e, number);
		int r = 0;
		/* Else the next open does it, or a segment of the same UUID. */
		if (segment && segment->state == ENGINE_SEGMENT_REMOVED)
			(void)!segment_remove_files(segment);
		if (!segment || segment->state != ENGINE_SEGMENT_OPEN)
			continue;
		/*
		 * A restored one's epoch stays 1, unless repair had it opened again. One without a byte
		 * is as if nobody had begun it.
		 */
		bool half = segment->class == ENGINE_CLASS_RESTORED && segment->epoch <= 1;
		if (half || (segment->length == 0 && !e->options.witnesses))
			r = engine_segment_remove(e, segment);
		else if (segment->length == 0)
			segment_set_emptied(segment);
		else
			r = seal_recovered(segment, err);
		/*
		 * On a full disk the part stays as it is; the background seals it when there is
		 * room.
		 */
		if (r < 0 && r != -ENOSPC)
			return r;
	}
	return 0;
}

int engine_recover(struct engine *e, struct reterr *err)
{
	int r = recover_open_segments(e);
	int torn_root = r < 0 ? r : judge_roots(e);
	if (torn_root < 0)
		return reterr_set(err, torn_root, "recovery failed: %s", strerror(-torn_root));
	if (torn_root) {
		e->recovered = true;
		r = root_log_cut_last(e->root_log, err);
		if (r == -EBADMSG)
			engine_note_damage(e, err);
		else if (r < 0)
			return r;
	}
	if (atomic_load(&e->read_only))
		return 0;
	r = finish_segments(e, err);
	return r == -EBADMSG ? 0 : r; /* damage: read-only by now */
}
