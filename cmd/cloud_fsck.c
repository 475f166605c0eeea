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
		(void)printf("cloud: %" PRIu64 " objects belong to no segment of this store: nothing "
			     "needs them\n",
			     result->orphans);
	if (result->problems == 0)
		(void)puts("cloud: clean");
	else
		(void)printf("cloud: %" PRIu64 " problems, %" PRIu64 " mended\n", result->problems,
			     result->fixed);
}

static int check(struct cloud_fsck *fsck, struct store *store,
		 struct cloud_check_result *result, struct reterr *err)
{
	const struct cloud_check_options options = {
		.deep = fsck->deep,
		.repair = fsck->repair,
		.found = on_finding,
		.progress = on_progress,
		.arg = fsck,
	};
	struct block_store *place;
	struct cloud_source source;
	struct engine_stats stats;

	int r = store_cloud_place(store->cloud, err, &place);
	if (r < 0)
		return r;
	engine_stats(store->engine, &stats);
	cloud_source_init(&source, store->engine);
	progress_begin("checking the cloud", 0);
	r = cloud_check(&source.source, place, stats.block_size, &options, result, err);
	progress_end();
	return r;
}

int cloud_fsck(struct cloud_fsck *fsck, uint64_t *ret_left, struct reterr *err)
{
	const struct engine_options options = {.read_only = true};
	struct cloud_check_result result = {0};
	struct settings settings = {0};
	struct store store = {0};

	int r = settings_load(fsck->store, &settings, err);
	if (r == 0 && !settings.cloud)
		r = reterr_set(err, -EINVAL, "it has no cloud to check: there is none in %s",
			       SETTINGS_FILE);
	if (r == 0)
		r = store_disk(fsck->store, 0, err, &store);
	if (r == 0) {
		r = store_open_with_cloud(&store, fsck->store, &settings, STORE_CLOUD_LOOK,
					  &options, err);
		if (r == 0)
			r = check(fsck, &store, &result, err);
		store_abandon(&store); /* it was only read */
	}
	settings_done(&settings);
	if (r < 0)
		return r;
	print_result(fsck, &result);
	*ret_left = result.problems - result.fixed;
	return 0;
}
