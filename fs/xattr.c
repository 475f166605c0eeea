#include "fs/xattr.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "fs/render.h"

#define PREFIX "user.protofs."

enum xattr { XATTR_FORMAT, XATTR_POINTER, XATTR_XXH3, XATTR_DURABLE, XATTR_STATE, XATTR_OTHER };

static const char *const names[] = {
	[XATTR_FORMAT] = PREFIX "format", [XATTR_POINTER] = PREFIX "pointer",
	[XATTR_XXH3] = PREFIX "xxh3",     [XATTR_DURABLE] = PREFIX "durable",
	[XATTR_STATE] = PREFIX "state",
};

static enum xattr xattr_of(const char *name)
{
	if (strncmp(name, PREFIX, sizeof(PREFIX) - 1) != 0)
		return XATTR_OTHER;
	size_t i = 0;
	while (i < ARRAY_SIZE(names) && strcmp(name, names[i]) != 0)
		i++;
	return (enum xattr)i;
}

MUST_CHECK static int list_from(enum xattr first, struct buf *ret)
{
	int r = 0;
	for (size_t i = first; r == 0 && i < ARRAY_SIZE(names); i++)
		r = buf_append(ret, names[i], strlen(names[i]) + 1);
	return r;
}

int xattr_segment_list(struct buf *ret)
{
	return list_from(XATTR_POINTER, ret); /* its frames may have many formats */
}

int xattr_atom_list(struct buf *ret)
{
	return list_from(XATTR_FORMAT, ret);
}

int xattr_root_list(struct buf *ret)
{
	return list_from(XATTR_FORMAT, ret);
}

MUST_CHECK static int put_hash(const struct hash *hash, struct buf *ret)
{
	char text[HASH_TEXT_LENGTH + 1];
	return buf_append_text(ret, hash_format(hash, text));
}

MUST_CHECK static int put_pointer(const struct uuid *uuid, uint64_t offset, struct buf *ret)
{
	char text[UUID_TEXT_LENGTH + 1];
	return buf_printf(ret, "%s/%" PRIu64, uuid_format(uuid, text), offset);
}

/* There is no cluster: nothing has reached one. */
MUST_CHECK static int put_durable(uint64_t local, uint64_t in_cloud, struct buf *ret)
{
	return buf_printf(ret, "local=%" PRIu64 " quorum=0 cloud=%" PRIu64, local, in_cloud);
}

/* How many bytes of SEGMENT from 0 are in the cloud. */
static uint64_t in_cloud(const struct call *call, const struct uuid *segment)
{
	const struct fs_cloud *cloud = fs_options(call->fs)->cloud;
	return cloud ? cloud->safe_length(cloud->arg, segment) : 0;
}

/* ---- Segments ------------------------------------------------------------------------------- */

static const char *segment_state(enum engine_segment_state state)
{
	switch (state) {
	case ENGINE_SEGMENT_VOLATILE:
		return "volatile";
	case ENGINE_SEGMENT_OPEN:
		return "open";
	case ENGINE_SEGMENT_SEALED:
		return "sealed";
	case ENGINE_SEGMENT_DAMAGED:
		return "damaged";
	case ENGINE_SEGMENT_REMOVED:
		break;
	}
	return "removed";
}

MUST_CHECK static int hash_sums(struct call *call, struct engine_segment *segment,
				struct hash_stream *stream)
{
	struct engine_sum sums[64];
	uint64_t from = 0;

	for (;;) {
		size_t count;
		int r = engine_sums(call->engine, segment, from, UINT64_MAX, sums, ARRAY_SIZE(sums),
				    &count);
		if (r < 0)
			return r;
		for (size_t i = 0; i < count; i++)
			hash_stream_update(stream, sums[i].hash.bytes, HASH_SIZE);
		/* The last one is partial, or there was none. */
		if (count == 0 || sums[count - 1].length < ENGINE_SUM_SIZE)
			return 0;
		from = sums[count - 1].offset + sums[count - 1].length;
	}
}

MUST_CHECK static int segment_hash(struct call *call, struct engine_segment *segment,
				   struct buf *ret)
{
	struct hash_stream *stream;
	call_block(call);
	int r = hash_stream_new(&stream);
	if (r < 0)
		return r;
	r = hash_sums(call, segment, stream);
	struct hash hash = hash_stream_sum(stream);
	hash_stream_free(stream);
	return r < 0 ? r : put_hash(&hash, ret);
}

int xattr_segment(struct call *call, struct engine_segment *segment, const char *name,
		  struct buf *ret)
{
	enum xattr which = xattr_of(name);
	if (which == XATTR_OTHER)
		return -ENODATA;

	char text[UUID_TEXT_LENGTH + 1];
	struct engine_segment_info info;
	engine_segment_info(call->engine, segment, &info);
	switch (which) {
	case XATTR_POINTER:
		return buf_append_text(ret, uuid_format(&info.uuid, text));
	case XATTR_XXH3:
		return segment_hash(call, segment, ret);
	case XATTR_DURABLE:
		return put_durable(info.durable, in_cloud(call, &info.uuid), ret);
	case XATTR_STATE:
		return buf_append_text(ret, segment_state(info.state));
	case XATTR_FORMAT:
	case XATTR_OTHER:
		break;
	}
	return -ENODATA;
}

/* ---- Atoms ---------------------------------------------------------------------------------- */

MUST_CHECK static int hash_payload(struct call *call, struct engine_segment *segment,
				   const struct engine_frame *frame, struct hash_stream *stream)
{
	enum { PIECE = 64 << 10 };
	uint64_t at = frame->offset + ENGINE_FRAME_HEADER_SIZE, end = at + frame->size;
	uint8_t *data = malloc(PIECE);
	if (!data)
		return -ENOMEM;

	int r = 0;
	while (r == 0 && at < end) {
		size_t size = end - at < PIECE ? (size_t)(end - at) : PIECE;
		size_t n;
		r = call_interrupted(call)
			    ? -EINTR
			    : engine_read(call->engine, segment, data, size, at, 0, &n, &call->err);
		if (r == 0 && n == 0)
			r = -EIO; /* a whole frame has its bytes */
		if (r == 0)
			hash_stream_update(stream, data, n);
		at += r == 0 ? n : 0;
	}
	free(data);
	return r;
}

MUST_CHECK static int atom_hash(struct call *call, struct engine_segment *segment,
				const struct engine_frame *frame, struct buf *ret)
{
	struct hash_stream *stream;
	int r = hash_stream_new(&stream);
	if (r < 0)
		return r;
	r = hash_payload(call, segment, frame, stream);
	struct hash hash = hash_stream_sum(stream);
	hash_stream_free(stream);
	return r < 0 ? r : put_hash(&hash, ret);
}

/* How many of the frame's bytes lie below LENGTH. */
static uint64_t frame_below(const struct engine_frame *frame, uint64_t length)
{
	uint64_t size = ENGINE_FRAME_HEADER_SIZE + frame->size;
	if (length <= frame->offset)
		return 0;
	return length - frame->offset < size ? length - frame->offset : size;
}

int xattr_atom(struct call *call, struct engine_segment *segment, uint64_t offset, const char *name,
	       struct buf *ret)
{
	enum xattr which = xattr_of(name);
	if (which == XATTR_OTHER)
		return -ENODATA;

	call_block(call);
	struct engine_frame frame;
	int r = engine_frame_at(call->engine, segment, offset, &frame);
	if (r < 0)
		return r;
	struct engine_segment_info info;
	engine_segment_info(call->engine, segment, &info);
	bool sealed = frame_below(&frame, info.sealed) == ENGINE_FRAME_HEADER_SIZE + frame.size;

	switch (which) {
	case XATTR_FORMAT:
		return buf_append_text(ret, render_format_name(frame.format));
	case XATTR_POINTER:
		return put_pointer(&info.uuid, offset, ret);
	case XATTR_XXH3:
		return atom_hash(call, segment, &frame, ret);
	case XATTR_DURABLE:
		return put_durable(frame_below(&frame, info.durable),
				   frame_below(&frame, in_cloud(call, &info.uuid)), ret);
	case XATTR_STATE:
		return buf_append_text(ret, sealed ? "sealed" : "open");
	case XATTR_OTHER:
		break;
	}
	return -ENODATA;
}

/* ---- Roots ---------------------------------------------------------------------------------- */

MUST_CHECK static int root_durable(struct call *call, const struct engine_root *root,
				   struct buf *ret)
{
	struct engine_segment *segment = engine_segment_find(call->engine, &root->pointer.segment);
	struct engine_frame frame;
	struct engine_segment_info info;

	/* Dangling, or its segment was given up. */
	if (!segment)
		return put_durable(0, 0, ret);
	call_block(call);
	int r = engine_frame_at(call->engine, segment, root->pointer.offset, &frame);
	if (r == -ENOENT)
		return put_durable(0, 0, ret);
	if (r < 0)
		return r;
	engine_segment_info(call->engine, segment, &info);
	/* Without the manifest that names it, a root can not be had from the cloud. */
	const struct fs_cloud *cloud = fs_options(call->fs)->cloud;
	bool is_there = cloud && root->seq != 0 && cloud->safe_root(cloud->arg) >= root->seq;
	return put_durable(frame_below(&frame, info.durable),
			   is_there ? frame_below(&frame, in_cloud(call, &info.uuid)) : 0, ret);
}

int xattr_root(struct call *call, const struct engine_root *root, struct slice text,
	       const char *name, struct buf *ret)
{
	struct hash hash;

	switch (xattr_of(name)) {
	case XATTR_FORMAT:
		return buf_append_text(ret, render_format_name(ENGINE_FORMAT_JSON));
	case XATTR_POINTER:
		return put_pointer(&root->pointer.segment, root->pointer.offset, ret);
	case XATTR_XXH3:
		hash = hash_of(text.data, text.size);
		return put_hash(&hash, ret);
	case XATTR_DURABLE:
		return root_durable(call, root, ret);
	case XATTR_STATE:
		return buf_append_text(ret, root->seq == 0 ? "dangling" : "published");
	case XATTR_OTHER:
		break;
	}
	return -ENODATA;
}
