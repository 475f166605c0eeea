#include "cmd/cloud_witness.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/cloud.h"
#include "cmd/cloud_source.h"
#include "cmd/settings.h"
#include "cmd/store.h"
#include "engine/engine.h"

struct restoring {
	struct engine *engine;
	struct reterr why; /* is in engine_stats, too */
};

static int restore(void *arg, const struct uuid *segment, uint64_t length)
{
	struct restoring *restoring = arg;
	return engine_restore_tail(restoring->engine, segment, length, &restoring->why);
}

static int restore_root(struct engine *engine, const struct source_root *root, struct reterr *err)
{
	struct engine_root copy = {
		.seq = root->seq,
		.pointer = {.segment = root->segment, .offset = root->offset},
		.time_ns = root->time_ns,
		.node = root->node,
		.payload_size = root->payload_size,
	};
	_Static_assert(sizeof(copy.payload) == sizeof(root->payload), "the payload of a root");
	memcpy(copy.payload, root->payload, root->payload_size);
	return engine_restore_root(engine, &copy, err);
}

int cloud_witness_restore(struct engine *engine, struct reterr *err)
{
	struct restoring restoring = {.engine = engine};
	struct cloud_source source;
	struct engine_stats stats;

	engine_stats(engine, &stats);
	if (stats.read_only)
		return 0;
	cloud_source_init(&source, engine);
	struct source_root root;
	int r = upload_witness(&source.source, &stats.store, stats.block_size, restore, &restoring,
			       &root, err);
	if (r == 0 && root.seq)
		r = restore_root(engine, &root, err);
	if (r < 0 && engine_check_writable(engine, NULL) < 0)
		return 0;
	/* A damaged journal is no witness; who uploads says what is to be done about it. */
	if (r == -EBADMSG)
		return 0;
	return r < 0 ? r : engine_tails_restored(engine, err);
}

/* ---- fsck ----------------------------------------------------------------------------------- */

struct shortfall {
	struct uuid segment;
	uint64_t here, there;
};

struct shortfalls {
	struct engine *engine;
	struct shortfall *items;
	size_t count, capacity;
};

static int note_shortfall(void *arg, const struct uuid *uuid, uint64_t length)
{
	struct shortfalls *list = arg;
	struct engine_segment *segment = engine_segment_find(list->engine, uuid);
	struct engine_segment_info info;

	if (!segment)
		return 0;
	engine_segment_info(list->engine, segment, &info);
	if (info.inherited || info.durable >= length)
		return 0;
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? 2 * list->capacity : 16;
		void *items = realloc(list->items, capacity * sizeof(*list->items));
		if (!items)
			return -ENOMEM;
		list->items = items;
		list->capacity = capacity;
	}
	list->items[list->count++] =
		(struct shortfall){.segment = *uuid, .here = info.durable, .there = length};
	return 0;
}

/* What is missing now; the caller frees ITEMS. A journal that is damaged knows of nothing. */
static int look(const char *path, struct shortfalls *ret, struct reterr *err)
{
	const struct engine_options options = {.read_only = true};
	struct cloud_source source;
	struct engine_stats stats;
	struct store store;

	*ret = (struct shortfalls){0};
	int r = store_disk(path, 0, err, &store);
	if (r < 0)
		return r;
	r = store_open(&store, &options, err);
	if (r == 0) {
		ret->engine = store.engine;
		engine_stats(store.engine, &stats);
		cloud_source_init(&source, store.engine);
		r = upload_witness(&source.source, &stats.store, stats.block_size, note_shortfall,
				   ret, NULL, err);
		r = r == -EBADMSG ? 0 : r;
	}
	store_abandon(&store);
	return r;
}

/* Opening it does that. RET_LOST: what is still missing cannot be had, ever. */
static int bring_back(const char *path, bool *ret_lost, struct reterr *err)
{
	const struct engine_options options = {0};
	struct settings settings = {0};
	struct engine_stats stats;
	struct store store;

	int r = settings_resolve(path, &settings, err);
	if (r == 0)
		r = store_disk(path, 0, err, &store);
	if (r == 0) {
		r = store_open_with_cloud(&store, path, &settings, STORE_CLOUD_READ, &options, err);
		if (r == 0) {
			engine_stats(store.engine, &stats);
			*ret_lost = stats.damaged;
			r = store_close(&store, err);
		} else {
			store_abandon(&store);
		}
	}
	settings_done(&settings);
	return r;
}

static int give_up(const char *path, const struct shortfalls *list, struct reterr *err)
{
	const struct engine_options options = {.witnesses = true};
	struct cloud_source source;
	struct engine_stats stats;
	struct store store;

	int r = store_disk(path, 0, err, &store);
	if (r < 0)
		return r;
	r = store_open(&store, &options, err);
	if (r < 0) {
		store_abandon(&store);
		return r;
	}
	engine_stats(store.engine, &stats);
	cloud_source_init(&source, store.engine);
	for (size_t i = 0; i < list->count && r == 0; i++)
		r = upload_give_up(&source.source, &stats.store, stats.block_size,
				   &list->items[i].segment, err);
	int closed = store_close(&store, r == 0 ? err : NULL);
	return r < 0 ? r : closed;
}

static void tell(struct cloud_witness_fsck *fsck, const struct shortfall *missing, const char *what,
		 bool fixed)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct reterr finding;

	(void)reterr_set(&finding, -EBADMSG,
			 "segment %s: bytes %" PRIu64 " to %" PRIu64
			 ", which were in the cloud or on their way there, are missing here%s",
			 uuid_format(&missing->segment, text), missing->here, missing->there, what);
	fsck->problems++;
	fsck->fixed += fixed;
	fsck->found(fsck->arg, &finding, fixed);
}

static bool holds(const struct shortfalls *list, const struct uuid *segment)
{
	for (size_t i = 0; i < list->count; i++)
		if (uuid_equal(&list->items[i].segment, segment))
			return true;
	return false;
}

static int mend(struct cloud_witness_fsck *fsck, const struct shortfalls *missing,
		struct reterr *err)
{
	struct shortfalls left = {0};
	bool lost = false;

	int r = bring_back(fsck->store, &lost, err);
	if (r == 0)
		r = look(fsck->store, &left, err);
	if (r == 0 && lost)
		r = give_up(fsck->store, &left, err);
	for (size_t i = 0; i < missing->count && r == 0; i++) {
		bool still = holds(&left, &missing->items[i].segment);
		tell(fsck, &missing->items[i],
		     !still ? ": they were brought back from there"
		     : lost ? ", and cannot be had any more: nothing of it is uploaded from now on"
			    : "; the cloud cannot be asked now",
		     !still || lost);
	}
	free(left.items);
	return r;
}

int cloud_witness_fsck(struct cloud_witness_fsck *fsck, struct reterr *err)
{
	struct reterr busy = {0};
	struct shortfalls missing;

	int r = look(fsck->store, &missing, &busy);
	if (r < 0) {
		free(missing.items);
		return r == -EBUSY ? 0 : reterr_set(err, r, "%s", store_why(&busy, r));
	}
	if (fsck->repair && missing.count)
		r = mend(fsck, &missing, err);
	for (size_t i = 0; i < missing.count && !fsck->repair; i++)
		tell(fsck, &missing.items[i], "; the next mount brings them back, if it can",
		     false);
	free(missing.items);
	return r;
}
