/*
 * Bytes that were durable here and are gone: a torn tail is dropped silently, as nobody had been told
 * of it; a witness says that somebody had. What it knows of comes back from elsewhere and is appended
 * as it was, in a part of its own, which is sealed.
 *
 * A crash in the middle leaves a beginning of what was lost; the witness, which is asked at every start,
 * has the rest brought back then.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/core.h"

enum {
	COMPARE_SIZE = 64 << 10,
	/* Read at once: what the place holds in a few requests. */
	PIECE_SIZE = APPEND_PIECE_MAX,
};

void segment_set_emptied(struct engine_segment *segment)
{
	segment_unlist_open(segment);
	segment_lock(segment);
	segment->emptied = true;
	segment->state = ENGINE_SEGMENT_VOLATILE;
	segment_unlock(segment);
}

/*
 * Bytes [from, from + SIZE) are here and must be the same there: a segment that was removed and made
 * anew under its name has lost nothing. -EBADMSG they differ.
 */
static int compare(struct engine_segment *segment, uint64_t from, size_t size, uint8_t *buffer,
		   struct reterr *err)
{
	struct engine *e = segment->engine;
	size_t got = 0;

	int r = engine_read(e, segment, buffer, size, from, 0, &got, err);
	if (r == 0 && got != size)
		r = -EIO;
	if (r == 0)
		r = remote_read(e, &segment->uuid, buffer + size, size, from, err);
	if (r == 0 && memcmp(buffer, buffer + size, size) != 0)
		r = reterr_set(err, -EBADMSG, "the bytes from %" PRIu64 " on are others there",
			       from);
	return r;
}

/* The first and the last of what is here: all of it may be much. */
static int compare_ends(struct engine_segment *segment, uint64_t here, uint8_t *buffer,
			struct reterr *err)
{
	size_t size = here < COMPARE_SIZE ? (size_t)here : COMPARE_SIZE;

	if (size == 0)
		return 0;
	int r = compare(segment, 0, size, buffer, err);
	if (r == 0 && here > size)
		r = compare(segment, here - size, size, buffer, err);
	return r;
}

/* AT is how far it came. */
static int bring_back(struct engine_segment *segment, uint64_t to, uint8_t *buffer, uint64_t *at,
		      struct reterr *err)
{
	struct engine *e = segment->engine;
	const struct engine_position position = {.segment = segment, .length = to};
	int r = 0;

	while (r == 0 && *at < to) {
		size_t size = to - *at < PIECE_SIZE ? (size_t)(to - *at) : PIECE_SIZE;
		r = remote_read(e, &segment->uuid, buffer, size, *at, err);
		if (r < 0)
			return r;
		r = segment_append_owned(segment, buffer, size);
		*at += r == 0 ? size : 0;
	}
	if (r == 0)
		r = commit_positions(e, &position, 1, err);
	if (r < 0 && err->code == 0)
		(void)reterr_set(err, r, "they cannot be written: %s", strerror(-r));
	return r;
}

static void tell(struct engine_segment *segment, uint64_t from, uint64_t to)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct reterr event;

	(void)reterr_set(&event, 0,
			 "segment %s: %" PRIu64 " bytes from byte %" PRIu64
			 " on, which this disk had lost, were brought back from the cloud",
			 uuid_format(&segment->uuid, text), to - from, from);
	engine_report(segment->engine, &event);
}

/* The engine is read-only from now on. */
static int refuse(struct engine_segment *segment, uint64_t from, uint64_t to, int r,
		  const struct reterr *why, struct reterr *err)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct reterr reason;

	(void)reterr_set(
		&reason, r,
		"segment %s: bytes %" PRIu64 " to %" PRIu64
		" are missing on this disk, but were in the cloud or on their way there, and "
		"cannot be brought back: %.250s; %s",
		uuid_format(&segment->uuid, text), from, to, why->text,
		r == -EBADMSG ? "`protofs fsck --repair` goes on without them"
			      : "mount it again when that is mended");
	if (r == -EBADMSG)
		engine_note_damage(segment->engine, &reason);
	else
		engine_turn_read_only(segment->engine, &reason);
	if (err)
		*err = reason;
	return r;
}

/* What is here now is as recovery leaves it: sealed. A full disk has that wait for room. */
static int settle(struct engine_segment *segment, struct reterr *err)
{
	int r = engine_seal(segment->engine, segment, err);
	return r == -ENOSPC ? 0 : r;
}

int engine_restore_tail(struct engine *e, const struct uuid *uuid, uint64_t length,
			struct reterr *err)
{
	struct engine_segment *segment = engine_segment_find(e, uuid);
	struct engine_segment_info info;
	struct reterr why = {0};

	if (!segment)
		return 0;
	engine_segment_info(e, segment, &info);
	if (info.inherited || info.durable >= length)
		return 0;
	int r = engine_check_writable(e, err);
	if (r < 0)
		return r;

	uint64_t at = info.durable;
	uint8_t *buffer = malloc(PIECE_SIZE);
	r = buffer ? 0 : reterr_set(&why, -ENOMEM, "no memory");
	if (r == 0 && length > ENGINE_FOREIGN_LENGTH_MAX)
		r = reterr_set(&why, -EBADMSG, "no segment has so many");
	if (r == 0)
		r = compare_ends(segment, at, buffer, &why);
	segment_lock(segment);
	segment->restoring = true;
	segment_unlock(segment);
	if (r == 0)
		r = bring_back(segment, length, buffer, &at, &why);
	if (r == 0)
		r = settle(segment, &why);
	segment_lock(segment);
	segment->restoring = false;
	segment->emptied = segment->emptied && segment->length == 0;
	segment_unlock(segment);
	free(buffer);
	if (r < 0)
		return refuse(segment, at, length, r, &why, err);
	tell(segment, info.durable, length);
	return 0;
}

int engine_restore_root(struct engine *e, const struct engine_root *root, struct reterr *err)
{
	struct reterr event, why = {0};

	int r = engine_check_writable(e, err);
	if (r == 0)
		r = roots_put_back(e, root, &why);
	else
		return r;
	if (r == 1)
		(void)reterr_set(&event, 0,
				 "root %" PRIu64
				 ", which this disk had lost, was brought back from the cloud",
				 root->seq);
	if (r == 1)
		engine_report(e, &event);
	if (r >= 0)
		return 0;
	(void)reterr_set(&event, r,
			 "root %" PRIu64
			 " is missing on this disk, but is in the cloud, and cannot be "
			 "written again: %.300s; mount it again when that is mended",
			 root->seq, why.code ? why.text : strerror(-r));
	engine_turn_read_only(e, &event);
	return reterr_set(err, r, "%s", event.text);
}

int engine_tails_restored(struct engine *e, struct reterr *err)
{
	struct engine_segment *segment;
	int r = 0;

	if (atomic_load(&e->read_only))
		return 0;
	for (uint32_t number = 0; r == 0 && (segment = engine_segment_next(e, number));
	     number = segment->number) {
		segment_lock(segment);
		bool empty = segment->emptied && segment->length == 0;
		segment_unlock(segment);
		if (empty)
			r = engine_segment_remove(e, segment);
	}
	return r < 0 ? reterr_set(err, r, "an empty segment cannot be removed: %s", strerror(-r))
		     : 0;
}
