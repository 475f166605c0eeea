#include "cmd/clone_fetch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/io.h"
#include "cmd/progress.h"
#include "cmd/settings.h"
#include "cmd/store.h"
#include "engine/engine.h"

enum { CHUNK_SIZE = 1 << 20, ROOM_PART = 8, ROOM_LEAST = 64 << 20 };

/* Bytes of all segments; of those of which something is not on this disk. */
static uint64_t remote_bytes(struct engine *e)
{
	struct engine_segment *segment = engine_segment_next(e, 0);
	uint64_t bytes = 0;

	for (; segment; segment = engine_segment_next(e, engine_segment_number(segment))) {
		struct engine_segment_info info;
		engine_segment_info(e, segment, &info);
		bytes += info.remote;
	}
	return bytes;
}

static int fetch_segment(struct engine *e, struct engine_segment *segment, void *chunk,
			 struct reterr *err)
{
	char uuid[UUID_TEXT_LENGTH + 1];
	struct engine_segment_info info;

	engine_segment_info(e, segment, &info);
	if (info.remote == 0)
		return 0;
	for (uint64_t at = 0; at < info.durable;) {
		struct reterr cause = {0};
		size_t n = 0;
		int r = engine_read(e, segment, chunk, CHUNK_SIZE, at, 0, &n, &cause);
		if (r == 0 && n == 0)
			r = reterr_set(&cause, -ENODATA, "it ends there");
		if (r < 0)
			return reterr_set(err, r, "segment %s, byte %" PRIu64 ": %.380s",
					  uuid_format(&info.uuid, uuid), at, store_why(&cause, r));
		at += n;
		progress_add(n);
	}
	return 0;
}

static int fetch_all(struct engine *e, struct reterr *err)
{
	struct engine_segment *segment = engine_segment_next(e, 0);
	void *chunk = io_alloc(CHUNK_SIZE);
	int r = chunk ? 0 : reterr_set(err, -ENOMEM, "out of memory");

	progress_begin("fetching", remote_bytes(e));
	for (; r == 0 && segment; segment = engine_segment_next(e, engine_segment_number(segment)))
		r = fetch_segment(e, segment, chunk, err);
	progress_end();
	free(chunk);
	return r;
}

static int open_clone(const char *path, const struct settings *settings, struct store *ret,
		      struct reterr *err)
{
	int r = store_disk(path, 0, err, ret);
	if (r < 0)
		return r;
	r = store_open_with_cloud(ret, path, settings, STORE_CLOUD_LOOK,
				  &(struct engine_options){0}, err);
	if (r < 0)
		store_abandon(ret);
	return r;
}

/* With room for what is uploaded later, so that the first new block evicts nothing. */
static int make_room(const char *path, struct settings *settings, struct reterr *err)
{
	struct store store;
	int r = open_clone(path, settings, &store, err);
	if (r < 0)
		return r;
	uint64_t bytes = remote_bytes(store.engine);
	r = store_close(&store, err);
	uint64_t wanted = bytes + bytes / ROOM_PART + ROOM_LEAST;
	if (r < 0 || settings->cache_max >= wanted)
		return r;
	settings->cache_max = wanted;
	return settings_save(path, settings, err);
}

int clone_fetch(const char *path, struct reterr *err)
{
	struct settings settings = {0};
	struct store store;

	int r = settings_load(path, &settings, err);
	if (r == 0)
		r = make_room(path, &settings, err);
	if (r == 0)
		r = open_clone(path, &settings, &store, err);
	if (r == 0) {
		struct reterr cause = {0};
		r = fetch_all(store.engine, err);
		int closed = store_close(&store, &cause);
		if (r == 0 && closed < 0)
			r = reterr_set(err, closed, "%s", store_why(&cause, closed));
	}
	settings_done(&settings);
	return r;
}
