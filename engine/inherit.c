/*
 * Clones: stores that begin with another one's segments, of which no byte is here.
 *
 * An inherited segment is one bare part, [0, length), without a table: its bytes come from the
 * reader, which verifies them, and its frames are found by following their headers. Nobody appends
 * to it. The catalogue's record is all there is of it on disk.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/core.h"

/* The longest stream that a store can have made: one atom of the largest size is one segment. */
#define INHERITED_LENGTH_MAX (2 * ENGINE_FRAME_PAYLOAD_MAX)

int segment_set_inherited(struct engine_segment *segment, uint64_t length)
{
	struct part *part;
	int r = part_new(0, length, NULL, &part);
	if (r < 0)
		return r;
	part->bare = true;
	atomic_store(&part->remote, true);
	r = segment_push_part(segment, part);
	if (r < 0) {
		part_unref(part);
		return r;
	}
	segment->inherited = true;
	segment->state = ENGINE_SEGMENT_SEALED;
	segment->length = segment->durable = segment->sealed = segment->remote = length;
	segment->frames_end = length; /* as far as anybody knows without reading it */
	segment->frames_known = false;
	segment->parts_loaded = true;
	return 0;
}

static int check(const struct engine_inherited *inherited, struct reterr *err)
{
	char text[UUID_TEXT_LENGTH + 1];

	if (uuid_is_zero(&inherited->uuid) || inherited->length == 0 ||
	    inherited->length > INHERITED_LENGTH_MAX ||
	    (unsigned)inherited->class > ENGINE_CLASS_RESTORED)
		return reterr_set(err, -EINVAL,
				  "segment %s of %" PRIu64 " bytes and class %u cannot be",
				  uuid_format(&inherited->uuid, text), inherited->length,
				  (unsigned)inherited->class);
	return 0;
}

int engine_inherit(struct engine *e, const struct engine_inherited *inherited, struct reterr *err)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct engine_segment *segment = NULL;

	int r = engine_check_writable(e, err);
	if (r == 0)
		r = check(inherited, err);
	if (r == 0)
		r = superblock_require(e, SUPERBLOCK_INCOMPAT_REMOTE, 0, err);
	if (r < 0)
		return r;
	r = segment_add_inherited(e, inherited, &segment);
	if (r == -EEXIST)
		return reterr_set(err, r, "there is a segment %s already",
				  uuid_format(&inherited->uuid, text));
	if (r == 0)
		r = segment_record(segment, CATALOGUE_SEALED, err);
	if (segment) {
		segment_lock(segment);
		segment->registered = r == 0;
		if (r < 0)
			segment->state = ENGINE_SEGMENT_REMOVED;
		segment_unlock(segment);
	}
	if (r == 0)
		engine_changed(e);
	return r;
}

/* ---- A whole store -------------------------------------------------------------------------- */

static int check_empty(struct engine *e, struct reterr *err)
{
	struct engine_segment *segment;
	uint64_t first, last;

	engine_root_range(e, &first, &last);
	if (last)
		return reterr_set(err, -ENOTEMPTY, "the store has a root already");
	for (uint32_t number = 0; (segment = engine_segment_next(e, number));
	     number = segment->number) {
		struct engine_segment_info info;
		engine_segment_info(e, segment, &info);
		if (!info.inherited && info.state != ENGINE_SEGMENT_VOLATILE)
			return reterr_set(err, -ENOTEMPTY, "the store has segments of its own");
	}
	return 0;
}

static int check_root(struct engine *e, const struct engine_root *root, struct reterr *err)
{
	struct engine_segment *segment = engine_segment_find(e, &root->pointer.segment);
	char text[UUID_TEXT_LENGTH + 1];

	(void)uuid_format(&root->pointer.segment, text);
	if (!segment || !segment->inherited)
		return reterr_set(err, -EINVAL,
				  "the root points into segment %s, which is not there", text);
	if (root->pointer.offset >= segment->length)
		return reterr_set(err, -EINVAL,
				  "the root points at byte %" PRIu64
				  " of segment %s, which has %" PRIu64,
				  root->pointer.offset, text, segment->length);
	if (root->seq == 0 || root->seq >= (uint64_t)1 << 62 ||
	    root->payload_size > ENGINE_ROOT_PAYLOAD_MAX)
		return reterr_set(err, -EINVAL, "%" PRIu64 " is no root's number", root->seq);
	return 0;
}

int engine_make_clone(struct engine *e, const struct engine_root *root, struct reterr *err)
{
	int r = engine_check_writable(e, err);
	if (r == 0)
		r = check_empty(e, err);
	if (r == 0 && root)
		r = check_root(e, root, err);
	/* First: whatever else a crash leaves, nobody writes to half a clone. */
	if (r == 0)
		r = superblock_require(e, SUPERBLOCK_INCOMPAT_REMOTE, SUPERBLOCK_RO_COMPAT_CLONE,
				       err);
	if (r == 0 && root)
		r = roots_begin(e, root, err);
	if (r == 0)
		engine_changed(e);
	return r;
}
