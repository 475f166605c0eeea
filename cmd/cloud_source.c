#include "cmd/cloud_source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

enum { SUMS_BATCH = 64 };

static struct engine *engine_of(struct segment_source *source)
{
	return ((struct cloud_source *)source)->engine;
}

static void source_root(struct segment_source *source, struct source_root *ret)
{
	struct engine_root root;

	*ret = (struct source_root){0};
	if (engine_root_current(engine_of(source), &root) < 0)
		return;
	*ret = (struct source_root){
		.seq = root.seq,
		.segment = root.pointer.segment,
		.offset = root.pointer.offset,
		.time_ns = root.time_ns,
		.node = root.node,
		.payload_size = root.payload_size,
	};
	_Static_assert(sizeof(ret->payload) == sizeof(root.payload), "the payload of a root");
	memcpy(ret->payload, root.payload, root.payload_size);
}

/* ---- Segments ------------------------------------------------------------------------------- */

static void describe(struct engine *e, struct engine_segment *segment, struct source_segment *ret)
{
	struct engine_segment_info info;

	engine_segment_info(e, segment, &info);
	*ret = (struct source_segment){
		.uuid = info.uuid,
		.number = info.number,
		.class = (uint8_t)info.class,
		.foreign = info.class == ENGINE_CLASS_FOREIGN,
		.final = info.final,
		.inherited = info.inherited,
		.durable = info.durable,
	};
}

static bool source_next(struct segment_source *source, uint32_t after, struct source_segment *ret)
{
	struct engine *e = engine_of(source);
	struct engine_segment *segment = engine_segment_next(e, after);

	/* A volatile segment is on no disk and may never be: it is nothing to carry away. */
	for (; segment; segment = engine_segment_next(e, engine_segment_number(segment))) {
		struct engine_segment_info info;
		engine_segment_info(e, segment, &info);
		if (info.state == ENGINE_SEGMENT_VOLATILE || info.state == ENGINE_SEGMENT_REMOVED)
			continue;
		describe(e, segment, ret);
		return true;
	}
	return false;
}

static bool source_find(struct segment_source *source, const struct uuid *uuid,
			struct source_segment *ret)
{
	struct engine_segment *segment = engine_segment_find(engine_of(source), uuid);
	if (!segment)
		return false;
	describe(engine_of(source), segment, ret);
	return true;
}

static int no_segment(const struct uuid *uuid, struct reterr *err)
{
	char text[UUID_TEXT_LENGTH + 1];
	return reterr_set(err, -ENOENT, "segment %s was removed", uuid_format(uuid, text));
}

static int source_read(struct segment_source *source, const struct uuid *uuid, void *data,
		       size_t size, uint64_t offset, size_t *ret, struct reterr *err)
{
	struct engine *e = engine_of(source);
	struct engine_segment *segment = engine_segment_find(e, uuid);
	struct engine_segment_info info;

	if (!segment)
		return no_segment(uuid, err);
	/* The engine also reads what is accepted and not durable yet. */
	engine_segment_info(e, segment, &info);
	uint64_t left = offset < info.durable ? info.durable - offset : 0;
	*ret = 0;
	if (left == 0)
		return 0;
	return engine_read(e, segment, data, left < size ? (size_t)left : size, offset, 0, ret,
			   err);
}

static int source_sums(struct segment_source *source, const struct uuid *uuid, uint64_t from,
		       uint64_t length, struct hash *hashes, size_t count, size_t *ret)
{
	struct engine *e = engine_of(source);
	struct engine_segment *segment = engine_segment_find(e, uuid);
	struct engine_sum sums[SUMS_BATCH];
	size_t done = 0;

	if (!segment)
		return -ENOENT;
	while (done < count) {
		size_t want = count - done < SUMS_BATCH ? count - done : SUMS_BATCH;
		size_t n = 0;
		int r = engine_sums(e, segment, from, length, sums, want, &n);
		if (r < 0)
			return r;
		for (size_t i = 0; i < n; i++) {
			if (sums[i].length < SOURCE_SUM_SIZE)
				goto out; /* the last one, of less than a MiB */
			hashes[done++] = sums[i].hash;
			from = sums[i].offset + sums[i].length;
		}
		if (n < want)
			break;
	}
out:
	*ret = done;
	return 0;
}

static int source_first_frame(struct segment_source *source, const struct uuid *uuid, uint64_t from,
			      uint64_t to, uint64_t *ret)
{
	struct engine *e = engine_of(source);
	struct engine_segment *segment = engine_segment_find(e, uuid);
	struct engine_segment_info info;
	struct engine_frame frame;
	size_t count = 0;

	if (!segment)
		return -ENOENT;
	int r = engine_frames(e, segment, from, &frame, 1, &count);
	if (r < 0)
		return r;
	uint64_t begin = frame.offset;
	if (count == 0) {
		/* The header of one that is not whole yet is a header, too. */
		engine_segment_info(e, segment, &info);
		begin = info.frames_end;
		if (info.frames_bad || begin < from || begin >= info.length)
			return -ENOENT;
	}
	if (begin >= to)
		return -ENOENT;
	*ret = begin;
	return 0;
}

static void source_listen(struct segment_source *source, segment_source_changed_fn *fn, void *arg)
{
	engine_listen(engine_of(source), fn, arg);
}

/* ---- The journal ---------------------------------------------------------------------------- */

enum { RECORD_MAX = SOURCE_RECORD_MAX };
_Static_assert(RECORD_MAX == ENGINE_JOURNAL_RECORD_MAX, "records of the journal");

static int source_journal_load(struct segment_source *source, segment_source_record_fn *fn,
			       void *arg, struct reterr *err)
{
	return engine_journal_load(engine_of(source), fn, arg, err);
}

static int source_journal_append(struct segment_source *source, const void *record, size_t size,
				 struct reterr *err)
{
	return engine_journal_append(engine_of(source), record, size, err);
}

static int source_journal_replace(struct segment_source *source, const void *const *records,
				  const size_t *sizes, size_t count, struct reterr *err)
{
	return engine_journal_replace(engine_of(source), records, sizes, count, err);
}

/* ---- The disk ------------------------------------------------------------------------------- */

/*
 * Asked for when the store takes too much of the disk. Where most of that is in parts that are still
 * open, they are ended first, and our own segments with them: a part can only go when its last block is
 * full or final.
 */
static size_t sealed_parts(struct engine *e, struct engine_part *parts, size_t count)
{
	size_t n = engine_parts(e, parts, count);
	uint64_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		bytes += parts[i].size;
	if (n == count || 2 * bytes >= engine_disk_used(e))
		return n;
	engine_roll(e, ENGINE_CLASS_LOG);
	engine_roll(e, ENGINE_CLASS_META);
	return engine_seal(e, NULL, NULL) < 0 ? n : engine_parts(e, parts, count);
}

static size_t source_parts(struct segment_source *source, struct source_part *ret, size_t count)
{
	struct engine_part *parts = calloc(count ? count : 1, sizeof(*parts));
	if (!parts)
		return 0; /* without memory nothing is evicted now */
	size_t n = sealed_parts(engine_of(source), parts, count);
	for (size_t i = 0; i < n; i++)
		ret[i] = (struct source_part){
			.segment = *engine_segment_uuid(parts[i].segment),
			.start = parts[i].start,
			.end = parts[i].end,
			.size = parts[i].size,
			.used_ns = parts[i].used_ns,
		};
	free(parts);
	return n;
}

static uint64_t source_disk_used(struct segment_source *source)
{
	return engine_disk_used(engine_of(source));
}

static int source_evict(struct segment_source *source, const struct uuid *uuid, uint64_t start,
			struct reterr *err)
{
	struct engine_segment *segment = engine_segment_find(engine_of(source), uuid);
	return segment ? engine_evict(engine_of(source), segment, start, err)
		       : no_segment(uuid, err);
}

static void source_fence(struct segment_source *source, const struct reterr *reason)
{
	engine_fence(engine_of(source), reason);
}

static const struct segment_source_ops source_ops = {
	.root = source_root,
	.next = source_next,
	.find = source_find,
	.read = source_read,
	.sums = source_sums,
	.first_frame = source_first_frame,
	.listen = source_listen,
	.journal_load = source_journal_load,
	.journal_append = source_journal_append,
	.journal_replace = source_journal_replace,
	.parts = source_parts,
	.disk_used = source_disk_used,
	.evict = source_evict,
	.fence = source_fence,
};

void cloud_source_init(struct cloud_source *ret, struct engine *engine)
{
	*ret = (struct cloud_source){.source.ops = &source_ops, .engine = engine};
}
