/*
 * Ended parts become sealed ones, oldest first, so that each finds the state of the frames in the
 * table before it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/core.h"

enum { SEAL_RETRY_MS = 60 * 1000 };

/* Where the frames stand at START: what the table of the part before says. */
static int frames_before(struct engine_segment *segment, struct part *before, uint64_t start,
			 struct seal_request *request, uint8_t *carry, struct reterr *err)
{
	struct engine *e = segment->engine;
	struct sealed *sealed;
	size_t got = 0;

	request->header_start = 0;
	if (!before)
		return 0;
	int r = part_acquire_sealed(e, &segment->uuid, before, err, &sealed);
	if (r < 0)
		return r;
	request->header_start = sealed->header.frames_next;
	request->frames_bad = sealed->header.frames_bad;
	part_release_sealed(e, before, sealed);
	if (request->frames_bad || request->header_start >= start) {
		if (request->frames_bad)
			request->header_start = start;
		return 0;
	}
	size_t size = (size_t)(start - request->header_start);
	if (size >= ENGINE_FRAME_HEADER_SIZE)
		return reterr_set(err, -EBADMSG, "the table of a part contradicts the next part");
	r = engine_read(e, segment, carry, size, request->header_start, 0, &got, err);
	request->header = carry;
	return r == 0 && got != size ? -EIO : r;
}

/* L: the oldest part that is ended and not sealed, referenced, and the one before it. */
static struct part *next_ended(struct engine_segment *segment, struct part **ret_before)
{
	*ret_before = NULL;
	for (size_t i = 0; i < segment->part_count; i++) {
		struct part *part = segment->parts[i];
		if (!part->wal || part->wal == segment->wal)
			continue;
		if (i > 0) {
			*ret_before = segment->parts[i - 1];
			part_ref(*ret_before);
		}
		part_ref(part);
		return part;
	}
	return NULL;
}

static int seal_one(struct engine_segment *segment, struct part *part, struct part *before,
		    struct reterr *err)
{
	struct engine *e = segment->engine;
	uint8_t carry[ENGINE_FRAME_HEADER_SIZE];
	uint8_t *head;
	struct sealed_header header;
	struct seal_request request = {.disk = e->disk,
				       .geometry = e->geometry,
				       .segment = segment->uuid,
				       .start = part->start,
				       .limit = part->end,
				       .length_min = part->end - part->start,
				       .cached = part->wal->recovered};

	int r = frames_before(segment, before, part->start, &request, carry, err);
	if (r == 0)
		r = segment_read_head(segment, part->start, &head, err);
	if (r < 0)
		return r;
	request.head = head;
	r = seal_part(&request, &header, err);
	if (r == -ENOSPC && reserve_release(e))
		r = seal_part(&request, &header, err);
	free(head);
	if (r == 0 && header.length != part->end - part->start)
		r = reterr_set(err, -EBADMSG,
			       "a sealed part has another length than was acknowledged");
	return r;
}

/* L: the sealed part takes the place of the ended one. */
static int replace_part(struct engine_segment *segment, struct part *ended)
{
	struct part *sealed;
	int r = part_new(ended->start, ended->end, NULL, &sealed);
	if (r < 0)
		return r;
	for (size_t i = 0; i < segment->part_count; i++) {
		if (segment->parts[i] != ended)
			continue;
		segment->parts[i] = sealed;
		segment->sealed = sealed->end;
		part_unref(ended);
		return 0;
	}
	part_unref(sealed); /* the segment was removed meanwhile */
	return 0;
}

static void seal_failed(struct engine_segment *segment, int result, const struct reterr *err)
{
	struct engine *e = segment->engine;

	segment_lock(segment);
	segment->seal_retry_ms = e->clock->now_ms(e->clock) + SEAL_RETRY_MS;
	if (result == -EBADMSG)
		segment->state = ENGINE_SEGMENT_DAMAGED;
	segment_unlock(segment);
	if (result == -EBADMSG)
		engine_note_damage(e, err);
}

/* L: all that is left to say when no ended part is left. Drops the lock. */
static int all_sealed(struct engine_segment *segment, struct reterr *err)
{
	if (segment->wal || segment->state != ENGINE_SEGMENT_OPEN || segment->appending ||
	    segment->importing)
		return 0;
	/* An append that comes now waits: its new part must be recorded after this. */
	segment->appending = true;
	segment_unlock(segment);
	int r = segment_record(segment, CATALOGUE_SEALED, err);
	if (r == 0)
		segment_unlist_open(segment);
	segment_lock(segment);
	if (r == 0)
		segment->state = ENGINE_SEGMENT_SEALED;
	segment->appending = false;
	(void)pthread_cond_broadcast(&segment->changed);
	return r;
}

int segment_seal_ended(struct engine_segment *segment, struct reterr *err)
{
	struct engine *e = segment->engine;
	struct reterr cause = {0};
	int r = 0;

	segment_lock(segment);
	while (segment->sealing)
		(void)pthread_cond_wait(&segment->changed, &segment->lock);
	if (segment->state == ENGINE_SEGMENT_REMOVED || segment->state == ENGINE_SEGMENT_DAMAGED ||
	    e->clock->now_ms(e->clock) < segment->seal_retry_ms) {
		segment_unlock(segment);
		return 0;
	}
	segment->sealing = true;
	for (;;) {
		struct part *before;
		struct part *part = next_ended(segment, &before);
		if (!part)
			break;
		segment_unlock(segment);
		r = seal_one(segment, part, before, &cause);
		segment_lock(segment);
		if (r == 0)
			r = replace_part(segment, part);
		part_unref(part);
		part_unref(before);
		if (r < 0)
			break;
		atomic_fetch_add(&e->parts_sealed, 1);
	}
	if (r == 0)
		r = all_sealed(segment, &cause);
	segment->sealing = false;
	(void)pthread_cond_broadcast(&segment->changed);
	segment_unlock(segment);
	if (r < 0) {
		seal_failed(segment, r, &cause);
		return reterr_set(err, r, "%s", cause.text);
	}
	reserve_restore(e);
	engine_changed(e); /* it may be final now */
	return 0;
}

static int seal_segment(struct engine_segment *segment, struct reterr *err)
{
	int r = 0;

	segment_lock(segment);
	while (segment->appending && !segment->failed)
		(void)pthread_cond_wait(&segment->changed, &segment->lock);
	if (segment->wal && !segment->failed) {
		segment->appending = true;
		r = segment_end_part(segment, err);
		segment->appending = false;
		(void)pthread_cond_broadcast(&segment->changed);
	}
	segment->seal_retry_ms = 0;
	bool failed = segment->failed;
	segment_unlock(segment);
	if (failed && r == 0)
		r = reterr_set(err, -EIO, "the disk failed; what was not acknowledged is lost");
	return r < 0 ? r : segment_seal_ended(segment, err);
}

int engine_seal(struct engine *e, struct engine_segment *segment, struct reterr *err)
{
	if (segment)
		return seal_segment(segment, err);

	struct engine_segment **list;
	size_t count = segment_open_list(e, &list);
	int result = list ? 0 : -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		int r = seal_segment(list[i], result == 0 ? err : NULL);
		if (r < 0 && result == 0)
			result = r;
	}
	free(list);
	return result;
}
