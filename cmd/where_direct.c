/* WHERE is a store directory that no daemon holds: the engine itself. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <protofs/clock.h>

#include "base/buf.h"
#include "cmd/io.h"
#include "cmd/log.h"
#include "cmd/progress.h"
#include "cmd/settings.h"
#include "cmd/source.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/where.h"
#include "engine/disk.h"
#include "fs/cloud_status.h"
#include "fs/render.h"
#include "fs/status.h"

enum { CHUNK_SIZE = 1 << 20, ATOMS_BATCH = 512 };

struct direct {
	struct where where;
	struct settings settings; /* that the store remembers */
	struct store store;
	struct engine *engine;
	uint8_t *chunk; /* CHUNK_SIZE bytes */
};

static struct direct *direct_of(struct where *where)
{
	return (struct direct *)where;
}

static void free_direct(struct direct *direct)
{
	settings_done(&direct->settings);
	free(direct->chunk);
	free(direct);
}

static int direct_close(struct where *where, struct reterr *err)
{
	struct direct *direct = direct_of(where);
	int r = store_close(&direct->store, err);
	free_direct(direct);
	return r;
}

/* ---- Atoms ---------------------------------------------------------------------------------- */

static int read_source(void *arg, void *data, size_t size, uint64_t offset)
{
	int r = source_read_at(arg, data, size, offset);
	if (r == 0)
		progress_add(size);
	return r;
}

static int read_stage(void *arg, void *data, size_t size, uint64_t offset)
{
	size_t n;
	int r = engine_stage_read(arg, data, size, offset, &n);
	return r < 0 ? r : n < size ? -EIO : 0;
}

static int append_failed(struct direct *direct, const struct source *source, int r,
			 struct reterr *err)
{
	struct engine_stats stats;

	if (r == -ENODATA)
		return reterr_set(err, r, "it became shorter while it was read");
	if (r == -EFBIG)
		return reterr_set(err, r, "an atom has at most %" PRIu64 " bytes",
				  ENGINE_FRAME_PAYLOAD_MAX);
	engine_stats(direct->engine, &stats);
	if (r == -EROFS && stats.read_only_reason[0])
		return reterr_set(err, r, "the store is read-only: %.400s", stats.read_only_reason);
	return reterr_set(err, r, "after %" PRIu64 " bytes read: %s", source->at, strerror(-r));
}

/* Bytes that come once, of unknown number, wait in the store until all are there and checked. */
static int put_staged(struct direct *direct, struct source *source, struct engine_pointer *ret,
		      struct reterr *err)
{
	struct engine_stage *stage;
	size_t n = 1;

	int r = engine_stage_new(direct->engine, &stage);
	if (r < 0)
		return reterr_set(err, r, "no place for its bytes in the store: %s", strerror(-r));
	while (n > 0) {
		uint64_t at = source->at;
		r = source_next(source, direct->chunk, CHUNK_SIZE, &n, err);
		if (r == 0 && n > 0) {
			r = engine_stage_write(stage, direct->chunk, n, at);
			if (r < 0)
				(void)append_failed(direct, source, r, err);
		}
		if (r < 0)
			goto out;
		progress_add(n);
	}
	if (source->at == 0) {
		r = reterr_set(err, -EINVAL, "it is empty, and an atom has at least one byte");
		goto out;
	}
	r = engine_append_from(direct->engine, ENGINE_CLASS_LOG, source->format, source->at,
			       read_stage, stage, ret);
	if (r < 0)
		(void)append_failed(direct, source, r, err);
out:
	engine_stage_free(stage);
	return r;
}

static int direct_put(struct where *where, struct source *source, struct engine_pointer *ret,
		      struct reterr *err)
{
	struct direct *direct = direct_of(where);

	if (!source->sized)
		return put_staged(direct, source, ret, err);
	int r = source_check(source, err);
	if (r < 0)
		return r;
	r = engine_append_from(direct->engine, ENGINE_CLASS_LOG, source->format, source->size,
			       read_source, source, ret);
	return r < 0 ? append_failed(direct, source, r, err) : 0;
}

static int direct_sync(struct where *where, struct reterr *err)
{
	return engine_sync(direct_of(where)->engine, err);
}

static int find_segment(struct direct *direct, const struct uuid *uuid, struct engine_segment **ret,
			struct reterr *err)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct engine_segment *segment = engine_segment_find(direct->engine, uuid);
	if (!segment)
		return reterr_set(err, -ENOENT, "there is no segment %s", uuid_format(uuid, text));
	*ret = segment;
	return 0;
}

/* Says which byte of which segment, where the engine did not. */
static int read_failed(int r, const struct uuid *uuid, uint64_t offset, struct reterr *err)
{
	char text[UUID_TEXT_LENGTH + 1];
	if (err && err->text[0])
		return r;
	return reterr_set(err, r, "segment %s, byte %" PRIu64 ": %s", uuid_format(uuid, text),
			  offset, r == -EBADMSG ? "it does not match its checksum" : strerror(-r));
}

static int copy_range(struct direct *direct, struct engine_segment *segment, uint64_t offset,
		      uint64_t size, int fd, struct reterr *err)
{
	while (size > 0) {
		size_t want = size < CHUNK_SIZE ? (size_t)size : CHUNK_SIZE;
		size_t n = 0;
		int r = engine_read(direct->engine, segment, direct->chunk, want, offset, 0, &n,
				    err);
		if (r == 0 && n == 0)
			r = -ENODATA;
		if (r < 0)
			return read_failed(r, engine_segment_uuid(segment), offset, err);
		r = io_write(fd, direct->chunk, n);
		if (r < 0)
			return reterr_set(err, r, "cannot write it out: %s", strerror(-r));
		offset += n;
		size -= n;
	}
	return 0;
}

static int write_json(struct direct *direct, struct engine_segment *segment,
		      const struct engine_frame *frame, int fd, struct reterr *err)
{
	CLEANUP(buf_done) struct buf text = {.max = RENDER_TEXT_MAX};

	if (frame->size > RENDER_PAYLOAD_MAX)
		return reterr_set(err, -EFBIG, "%" PRIu64 " bytes are too large for --json",
				  frame->size);
	size_t size = (size_t)frame->size, n = 0;
	uint64_t offset = frame->offset + ENGINE_FRAME_HEADER_SIZE;
	uint8_t *payload = malloc(size ? size : 1);
	if (!payload)
		return reterr_set(err, -ENOMEM, "out of memory");
	int r = engine_read(direct->engine, segment, payload, size, offset, 0, &n, err);
	if (r == 0 && n < size)
		r = -ENODATA;
	if (r < 0) {
		(void)read_failed(r, engine_segment_uuid(segment), offset, err);
	} else {
		struct slice bytes = {.data = payload, .size = size};
		r = render_atom(frame->format, bytes, &text, err);
		if (r == 0)
			r = io_write(fd, text.data, text.size);
	}
	free(payload);
	return r;
}

static int direct_cat(struct where *where, const struct engine_pointer *pointer,
		      enum where_form form, int fd, struct reterr *err)
{
	struct direct *direct = direct_of(where);
	struct engine_segment_info info;
	struct engine_segment *segment = NULL;
	struct engine_frame frame;

	int r = find_segment(direct, &pointer->segment, &segment, err);
	if (r < 0)
		return r;
	r = engine_frame_at(direct->engine, segment, pointer->offset, &frame);
	if (r == -ENOENT) {
		engine_segment_info(direct->engine, segment, &info);
		return reterr_set(err, r,
				  pointer->offset >= info.length
					  ? "it points past the end: the segment has %" PRIu64
					    " bytes"
					  : "no atom begins there (the segment has %" PRIu64
					    " bytes; `protofs ls ... atoms` lists them)",
				  info.length);
	}
	if (r < 0)
		return read_failed(r, &pointer->segment, pointer->offset, err);
	if (form == WHERE_JSON)
		return write_json(direct, segment, &frame, fd, err);
	if (form == WHERE_FRAME)
		return copy_range(direct, segment, frame.offset,
				  frame.size + ENGINE_FRAME_HEADER_SIZE, fd, err);
	return copy_range(direct, segment, frame.offset + ENGINE_FRAME_HEADER_SIZE, frame.size, fd,
			  err);
}

/* ---- Segments ------------------------------------------------------------------------------- */

static const char *state_name(enum engine_segment_state state)
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
		return "removed";
	}
	return "?";
}

static int direct_segments(struct where *where, where_segment_fn *fn, void *arg, struct reterr *err)
{
	struct engine *e = direct_of(where)->engine;
	struct engine_segment *segment = engine_segment_next(e, 0);

	(void)err;
	for (; segment; segment = engine_segment_next(e, engine_segment_number(segment))) {
		struct engine_segment_info info;
		engine_segment_info(e, segment, &info);
		struct where_segment found = {
			.uuid = info.uuid,
			.length = info.length,
			.durable = info.durable,
			.modified_ns = info.modified_ns,
		};
		(void)snprintf(found.state, sizeof(found.state), "%s", state_name(info.state));
		int r = fn(arg, &found);
		if (r < 0)
			return r;
	}
	return 0;
}

static int direct_atoms(struct where *where, const struct uuid *uuid, where_atom_fn *fn, void *arg,
			struct reterr *err)
{
	struct direct *direct = direct_of(where);
	struct engine_frame frames[ATOMS_BATCH];
	struct engine_segment *segment = NULL;
	uint64_t from = 0;

	int r = find_segment(direct, uuid, &segment, err);
	while (r == 0) {
		size_t count = 0;
		r = engine_frames(direct->engine, segment, from, frames, ATOMS_BATCH, &count);
		if (r < 0)
			return read_failed(r, uuid, from, err);
		if (count == 0)
			return 0;
		for (size_t i = 0; r == 0 && i < count; i++)
			r = fn(arg, frames[i].offset, frames[i].size);
		from = frames[count - 1].offset + 1;
	}
	return r;
}

static int direct_read(struct where *where, const struct uuid *uuid, void *data, size_t size,
		       uint64_t offset, bool from_disk, size_t *ret, struct reterr *err)
{
	struct direct *direct = direct_of(where);
	struct engine_segment *segment = NULL;

	int r = find_segment(direct, uuid, &segment, err);
	if (r < 0)
		return r;
	r = engine_read(direct->engine, segment, data, size, offset,
			from_disk ? ENGINE_READ_DISK : 0, ret, err);
	return r < 0 ? read_failed(r, uuid, offset, err) : 0;
}

static int direct_sums(struct where *where, const struct uuid *uuid, struct sum_file *ret,
		       struct reterr *err)
{
	struct direct *direct = direct_of(where);
	struct engine_segment_info info;
	struct engine_segment *segment = NULL;
	struct sum_file file = {0};

	int r = find_segment(direct, uuid, &segment, err);
	if (r < 0)
		return r;
	engine_segment_info(direct->engine, segment, &info);
	if (info.durable == 0) {
		*ret = file;
		return 0;
	}
	size_t lines = (size_t)((info.durable + ENGINE_SUM_SIZE - 1) / ENGINE_SUM_SIZE);
	file.sums = calloc(lines, sizeof(*file.sums));
	if (!file.sums)
		return reterr_set(err, -ENOMEM, "out of memory");
	while (r == 0 && file.count < lines) {
		size_t n = 0;
		r = engine_sums(direct->engine, segment, file.length, info.durable,
				file.sums + file.count, lines - file.count, &n);
		if (r == 0 && n == 0)
			r = -EBADMSG;
		if (r == 0) {
			file.count += n;
			file.length =
				file.sums[file.count - 1].offset + file.sums[file.count - 1].length;
		}
	}
	if (r < 0) {
		uint64_t at = file.length;
		sum_file_done(&file);
		return read_failed(r, uuid, at, err);
	}
	*ret = file;
	return 0;
}

/* ---- Roots ---------------------------------------------------------------------------------- */

static int direct_roots(struct where *where, uint64_t *ret_first, uint64_t *ret_last,
			struct reterr *err)
{
	(void)err;
	engine_root_range(direct_of(where)->engine, ret_first, ret_last);
	return 0;
}

static int direct_root(struct where *where, uint64_t seq, struct engine_root *ret,
		       struct reterr *err)
{
	int r = engine_root_get(direct_of(where)->engine, seq, ret);
	if (r == -ENOENT)
		return reterr_set(err, r,
				  "root %" PRIu64 " is not kept; `protofs root ... log` "
				  "lists those that are",
				  seq);
	return r < 0 ? reterr_set(err, r, "root %" PRIu64 ": %s", seq, strerror(-r)) : 0;
}

static int direct_publish(struct where *where, uint64_t expected, const struct engine_root *wanted,
			  struct engine_root *ret, struct reterr *err)
{
	char text[TEXT_POINTER_LENGTH];
	struct reterr cause = {0};
	struct engine_segment *segment = NULL;
	struct engine_frame frame;

	/* The engine asks only whether the bytes look like a frame. */
	int r = find_segment(direct_of(where), &wanted->pointer.segment, &segment, err);
	if (r < 0)
		return r;
	r = engine_frame_at(direct_of(where)->engine, segment, wanted->pointer.offset, &frame);
	if (r == -ENOENT)
		return reterr_set(err, -ENODATA, "no whole atom begins at %s",
				  text_pointer(&wanted->pointer, text));
	if (r < 0)
		return read_failed(r, &wanted->pointer.segment, wanted->pointer.offset, err);
	r = engine_root_publish(direct_of(where)->engine, expected, &wanted->pointer,
				wanted->payload, wanted->payload_size, ret, &cause);
	if (r == -ESTALE)
		return reterr_set(err, r, "the newest root is %" PRIu64 ", not %" PRIu64, ret->seq,
				  expected);
	if (r > 0 || r == -ENODATA)
		return reterr_set(err, -ENODATA, "no whole atom begins at %s",
				  text_pointer(&wanted->pointer, text));
	return r < 0 ? reterr_set(err, r, "%s", store_why(&cause, r)) : 0;
}

static int direct_prune(struct where *where, uint64_t keep_from, bool dry_run,
			uint64_t *ret_dropped, struct reterr *err)
{
	return engine_root_prune(direct_of(where)->engine, keep_from, dry_run, ret_dropped, err);
}

/* ---- The rest ------------------------------------------------------------------------------- */

/* How fast it grows only a daemon can tell. */
static int direct_status(struct where *where, bool json, struct buf *ret, struct reterr *err)
{
	const struct status_growth growth = {0};
	uint64_t now_ns = clock_system()->wall_ns(clock_system());
	struct engine_stats stats;

	const struct settings *settings = &direct_of(where)->settings;
	struct cloud_status cloud = {
		.durability = settings->durability == DURABILITY_CLOUD ? "cloud" : "local",
		.state = CLOUD_UNMOUNTED,
	};
	(void)snprintf(cloud.url, sizeof(cloud.url), "%s", settings->cloud ? settings->cloud : "");
	const struct cloud_status *shown = settings->cloud ? &cloud : NULL;

	engine_stats(direct_of(where)->engine, &stats);
	/* That we opened it for reading says nothing about the store. */
	if (!stats.damaged)
		stats.read_only = false;
	int r = json ? status_as_json(&stats, &growth, shown, now_ns, ret)
		     : status_as_text(&stats, &growth, shown, now_ns, ret);
	return r < 0 ? reterr_set(err, r, "%s", strerror(-r)) : 0;
}

static const struct where_ops direct_ops = {
	.close = direct_close,
	.put = direct_put,
	.sync = direct_sync,
	.cat = direct_cat,
	.segments = direct_segments,
	.atoms = direct_atoms,
	.read = direct_read,
	.sums = direct_sums,
	.roots = direct_roots,
	.root = direct_root,
	.publish = direct_publish,
	.prune = direct_prune,
	.status = direct_status,
};

/*
 * What is put into a store that is to have it in its cloud is not done before it is there; else the
 * cloud is only asked for what is not on the disk.
 */
static enum store_cloud_use cloud_use(const struct direct *direct, enum where_access access)
{
	return access == WHERE_WRITE && direct->settings.durability == DURABILITY_CLOUD
		       ? STORE_CLOUD_UPLOAD
		       : STORE_CLOUD_READ;
}

static int open_direct(struct direct *direct, const char *path, enum where_access access,
		       struct reterr *err)
{
	/* A dangling root would be gone with this process: it is refused. */
	const struct engine_options options = {
		.read_only = access == WHERE_READ,
		.strict_root = true,
	};
	direct->chunk = io_alloc(CHUNK_SIZE);
	if (!direct->chunk)
		return reterr_set(err, -ENOMEM, "out of memory");
	int r = store_disk(path, 0, err, &direct->store);
	if (r < 0)
		return r;
	r = settings_resolve(path, &direct->settings, err);
	if (r == 0)
		r = store_open_with_cloud(&direct->store, path, &direct->settings,
					  cloud_use(direct, access), &options, err);
	if (r < 0)
		store_abandon(&direct->store);
	return r;
}

int where_direct_open(const char *path, enum where_access access, struct reterr *err,
		      struct where **ret)
{
	struct direct *direct = calloc(1, sizeof(*direct));
	if (!direct)
		return reterr_set(err, -ENOMEM, "out of memory");
	direct->where.ops = &direct_ops;
	int r = open_direct(direct, path, access, err);
	if (r < 0) {
		free_direct(direct);
		return r;
	}
	direct->engine = direct->store.engine;
	*ret = &direct->where;
	return 0;
}
