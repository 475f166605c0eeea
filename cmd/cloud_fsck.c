#include "cmd/cloud_fsck.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <protofs/block_store.h>

#include "cloud/cloud.h"
#include "cmd/cloud_source.h"
#include "cmd/log.h"
#include "cmd/progress.h"
#include "cmd/settings.h"
#include "cmd/store.h"
#include "cmd/store_cloud.h"
#include "cmd/text.h"
#include "cmd/where_source.h"
#include "engine/engine.h"

static void on_finding(void *arg, const struct reterr *finding, bool fixed)
{
	const struct cloud_fsck *fsck = arg;
	log_error("'%s', cloud: %s%s", fsck->store, finding->text, fixed ? " (mended)" : "");
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	progress_total(total);
	progress_at(done);
}

static void print_result(const struct cloud_fsck *fsck, const struct cloud_check_result *result)
{
	char bytes[TEXT_SIZE_LENGTH];

	if (fsck->json) {
		(void)printf("{\"objects\": %" PRIu64 ", \"bytes\": %" PRIu64
			     ", \"problems\": %" PRIu64 ", \"fixed\": %" PRIu64
			     ", \"orphans\": %" PRIu64 "}\n",
			     result->objects, result->bytes, result->problems, result->fixed,
			     result->orphans);
		return;
	}
	(void)printf("cloud: %" PRIu64 " objects, %s%s\n", result->objects,
		     text_size(result->bytes, bytes), fsck->deep ? ", all read and compared" : "");
	if (result->orphans)
		(void)printf("cloud: %" PRIu64
			     " objects belong to no segment of this store: nothing "
			     "needs them\n",
			     result->orphans);
	if (result->problems == 0)
		(void)puts("cloud: clean");
	else
		(void)printf("cloud: %" PRIu64 " problems, %" PRIu64 " mended\n", result->problems,
			     result->fixed);
}

/* Compares, and prints what came of it. */
static int check(struct cloud_fsck *fsck, struct segment_source *source, struct block_store *place,
		 uint64_t block_size, uint64_t *ret_left, struct reterr *err)
{
	const struct cloud_check_options options = {
		.deep = fsck->deep,
		.repair = fsck->repair,
		.found = on_finding,
		.progress = on_progress,
		.arg = fsck,
	};
	struct cloud_check_result result = {0};

	progress_begin("checking the cloud", 0);
	int r = cloud_check(source, place, block_size, &options, &result, err);
	progress_end();
	if (r < 0)
		return r;
	print_result(fsck, &result);
	*ret_left = result.problems - result.fixed;
	return 0;
}

static int load_settings(const char *store, struct settings *ret, struct reterr *err)
{
	int r = settings_load(store, ret, err);
	return r == 0 && !ret->cloud
		       ? reterr_set(err, -EINVAL, "it has no cloud to check: there is none in %s",
				    SETTINGS_FILE)
		       : r;
}

static int check_store(struct cloud_fsck *fsck, struct store *store, uint64_t *ret_left,
		       struct reterr *err)
{
	struct cloud_source source;
	struct engine_stats stats;
	struct block_store *place;

	int r = store_cloud_place(store->cloud, err, &place);
	if (r < 0)
		return r;
	engine_stats(store->engine, &stats);
	cloud_source_init(&source, store->engine);
	return check(fsck, &source.source, place, stats.block_size, ret_left, err);
}

int cloud_fsck(struct cloud_fsck *fsck, uint64_t *ret_left, struct reterr *err)
{
	const struct engine_options options = {.read_only = true};
	struct settings settings = {0};
	struct store store = {0};

	int r = load_settings(fsck->store, &settings, err);
	if (r == 0)
		r = store_disk(fsck->store, 0, err, &store);
	if (r == 0) {
		r = store_open_with_cloud(&store, fsck->store, &settings, STORE_CLOUD_LOOK,
					  &options, err);
		if (r == 0)
			r = check_store(fsck, &store, ret_left, err);
		store_abandon(&store); /* it was only read */
	}
	settings_done(&settings);
	return r;
}

/* ---- Through a mount ------------------------------------------------------------------------ */

static int geometry_of(const char *path, struct store_geometry *ret, struct reterr *err)
{
	struct store store;
	int r = store_disk(path, 0, err, &store);
	if (r < 0)
		return r;
	r = store_geometry(&store, ret, err);
	store_abandon(&store);
	return r;
}

static int check_where(struct cloud_fsck *fsck, struct where *where,
		       const struct settings *settings, uint64_t *ret_left, struct reterr *err)
{
	struct store_geometry geometry;
	struct where_source source;
	struct block_store *place;

	int r = geometry_of(fsck->store, &geometry, err);
	if (r == 0)
		r = where_source_init(&source, where, err);
	if (r < 0)
		return r;
	r = store_cloud_open_place(settings, false, err, &place);
	if (r == 0) {
		r = check(fsck, &source.source, place, geometry.block_size, ret_left, err);
		block_store_free(place);
	}
	where_source_done(&source);
	return r;
}

int cloud_fsck_where(struct cloud_fsck *fsck, struct where *where, uint64_t *ret_left,
		     struct reterr *err)
{
	struct settings settings = {0};
	int r = load_settings(fsck->store, &settings, err);

	if (r == 0)
		r = check_where(fsck, where, &settings, ret_left, err);
	settings_done(&settings);
	return r;
}
