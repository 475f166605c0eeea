#include "cmd/store_cloud.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <protofs/clock.h>
#include <protofs/remote.h>

#include "cloud/cloud.h"
#include "cmd/cloud_source.h"
#include "cmd/io.h"
#include "cmd/settings.h"
#include "engine/engine.h"
#include "fs/cloud_status.h"
#include "fs/fs.h"

#define CACHE_MAX_DEFAULT ((uint64_t)500 * 1000 * 1000)

enum {
	CACHE_PART = 10,    /* of disk_max, where cache_max is not set */
	DISK_PARTS_MIN = 4, /* parts that disk_max must have room for */
	PART_BLOCKS = 64,
	ROOM_WAIT_MS = 30000,
	ROOM_POLL_MS = 10,
	EVICT_EARLY_PART = 8,        /* of what the store's files may take: eviction begins there */
	CACHE_TEMPORARY_BLOCKS = 64, /* what a read-only opening keeps */
	HOST_SIZE = 65,
};

struct store_cloud {
	struct remote_reader reader; /* what the engine gets: connects, then passes on */
	struct fs_cloud fs;
	struct store_cloud_options options;
	char temporary[PATH_MAX]; /* the cache's directory, to be removed; "" none */

	pthread_mutex_t connecting; /* held while it connects, which speaks to nobody */
	atomic_bool connected;
	atomic_bool stopping;
	/* Set once, before `connected`. */
	struct block_store *place;
	struct block_cache *cache;
	struct remote_reader *blocks;

	/* From store_cloud_start to store_cloud_stop; nobody else is there then. */
	struct cloud_source source;
	_Atomic(struct engine *) engine;     /* from store_cloud_set_engine on */
	_Atomic(struct uploader *) uploader; /* NULL: nothing is uploaded */
};

static struct store_cloud *cloud_of(struct remote_reader *reader)
{
	return (struct store_cloud *)reader;
}

/* ---- Place, cache, reader ------------------------------------------------------------------- */

int store_cloud_open_place(const struct settings *settings, bool make, struct reterr *err,
			   struct block_store **ret)
{
	const struct cloud_options options = {
		.s3 =
			{
				.endpoint = settings->endpoint,
				.region = settings->region,
				.profile = settings->profile,
				.credentials_file = settings->credentials,
				.ca_bundle = settings->ca_bundle,
				.virtual_host = settings->virtual_host,
			},
		.make = make,
	};
	struct reterr cause = {0};

	int r = cloud_open(settings->cloud, &options, &cause, ret);
	return r < 0 ? reterr_set(err, r, "the cloud '%s': %.280s", settings->cloud,
				  cause.text[0] ? cause.text : strerror(-r))
		     : 0;
}

static uint64_t cache_max(const struct store_cloud *cloud)
{
	const struct settings *settings = cloud->options.settings;
	if (cloud->temporary[0])
		return CACHE_TEMPORARY_BLOCKS * cloud->options.block_size;
	if (settings->cache_max)
		return settings->cache_max;
	return settings->disk_max ? settings->disk_max / CACHE_PART : CACHE_MAX_DEFAULT;
}

static int make_temporary(struct store_cloud *cloud, struct reterr *err)
{
	const char *base = getenv("TMPDIR");
	int n = snprintf(cloud->temporary, sizeof(cloud->temporary), "%s/protofs-cache-XXXXXX",
			 base && *base ? base : "/tmp");

	if (n > 0 && (size_t)n < sizeof(cloud->temporary) && mkdtemp(cloud->temporary))
		return 0;
	int r = n > 0 && (size_t)n < sizeof(cloud->temporary) ? -errno : -ENAMETOOLONG;
	cloud->temporary[0] = '\0';
	return reterr_set(err, r, "cannot make a directory for the cache in '%s': %s",
			  base && *base ? base : "/tmp", strerror(-r));
}

static int open_cache(struct store_cloud *cloud, struct reterr *err)
{
	const struct settings *settings = cloud->options.settings;
	int r = cloud->options.read_only || !cloud->options.store ? make_temporary(cloud, err) : 0;
	if (r < 0)
		return r;

	const struct block_cache_options options = {
		.dir = cloud->temporary[0] ? cloud->temporary : cloud->options.store,
		.server = settings->server_id ? (uint32_t)settings->server_id : cloud->options.node,
		.size_max = cache_max(cloud),
		.block_size = cloud->options.block_size,
	};
	return block_cache_open(&options, cloud->place, err, &cloud->cache);
}

static void disconnect(struct store_cloud *cloud)
{
	cloud_reader_free(cloud->blocks);
	block_cache_close(cloud->cache);
	block_store_free(cloud->place);
	if (cloud->temporary[0])
		io_remove_tree(cloud->temporary);
	cloud->temporary[0] = '\0';
	cloud->blocks = NULL;
	cloud->cache = NULL;
	cloud->place = NULL;
}

static uint64_t segment_length(void *arg, const struct uuid *uuid)
{
	struct store_cloud *cloud = arg;
	struct engine *engine = atomic_load(&cloud->engine);
	struct engine_segment *segment = engine ? engine_segment_find(engine, uuid) : NULL;
	struct engine_segment_info info;

	if (!segment)
		return UINT64_MAX;
	engine_segment_info(engine, segment, &info);
	return info.durable;
}

void store_cloud_set_engine(struct store_cloud *cloud, struct engine *engine)
{
	atomic_store(&cloud->engine, engine);
}

static int connect_parts(struct store_cloud *cloud, struct reterr *err)
{
	const struct cloud_reader_options options = {
		.block_size = cloud->options.block_size,
		.length = segment_length,
		.length_arg = cloud,
	};

	int r = store_cloud_open_place(cloud->options.settings, !cloud->options.read_only, err,
				       &cloud->place);
	if (r < 0) {
		cloud->place = NULL;
		return r;
	}
	r = open_cache(cloud, err);
	if (r < 0)
		cloud->cache = NULL;
	if (r == 0)
		r = cloud_reader_new(cloud->cache, cloud->place, &options, &cloud->blocks);
	if (r < 0) {
		cloud->blocks = NULL;
		disconnect(cloud);
		return err && err->code ? r : reterr_set(err, r, "the cloud: %s", strerror(-r));
	}
	return 0;
}

int store_cloud_connect(struct store_cloud *cloud, struct reterr *err)
{
	int r = 0;

	if (atomic_load(&cloud->connected))
		return 0;
	(void)pthread_mutex_lock(&cloud->connecting);
	if (!atomic_load(&cloud->connected)) {
		r = atomic_load(&cloud->stopping)
			    ? reterr_set(err, -ECANCELED, "it is being closed")
			    : connect_parts(cloud, err);
		atomic_store(&cloud->connected, r == 0);
	}
	(void)pthread_mutex_unlock(&cloud->connecting);
	return r;
}

int store_cloud_place(struct store_cloud *cloud, struct reterr *err, struct block_store **ret)
{
	int r = store_cloud_connect(cloud, err);
	if (r == 0)
		*ret = cloud->place;
	return r;
}

bool store_cloud_cached(struct store_cloud *cloud, const char *key, char *ret_path, size_t size)
{
	return atomic_load(&cloud->connected) && block_cache_has(cloud->cache, key, ret_path, size);
}

/* ---- The engine's reader -------------------------------------------------------------------- */

static int reader_read(struct remote_reader *reader, const struct uuid *segment, void *data,
		       size_t size, uint64_t offset, size_t *ret, struct reterr *err)
{
	struct store_cloud *cloud = cloud_of(reader);
	int r = store_cloud_connect(cloud, err);
	return r < 0 ? r
		     : cloud->blocks->ops->read(cloud->blocks, segment, data, size, offset, ret,
						err);
}

static int reader_frame_before(struct remote_reader *reader, const struct uuid *segment,
			       uint64_t offset, uint64_t *ret, struct reterr *err)
{
	struct store_cloud *cloud = cloud_of(reader);
	int r = store_cloud_connect(cloud, err);
	return r < 0 ? r
		     : cloud->blocks->ops->frame_before(cloud->blocks, segment, offset, ret, err);
}

/* The place first: a fetch that hangs there then lets the others go. */
static void reader_stop(struct remote_reader *reader)
{
	struct store_cloud *cloud = cloud_of(reader);

	atomic_store(&cloud->stopping, true);
	(void)pthread_mutex_lock(&cloud->connecting);
	bool connected = atomic_load(&cloud->connected);
	(void)pthread_mutex_unlock(&cloud->connecting);
	if (!connected)
		return;
	block_store_stop(cloud->place);
	block_cache_stop(cloud->cache);
	cloud->blocks->ops->stop(cloud->blocks);
}

static const struct remote_reader_ops reader_ops = {
	.read = reader_read,
	.frame_before = reader_frame_before,
	.stop = reader_stop,
};

struct remote_reader *store_cloud_reader(struct store_cloud *cloud)
{
	return &cloud->reader;
}

/* ---- What the mount shows ------------------------------------------------------------------- */

static enum cloud_state state_of(enum uploader_state state)
{
	switch (state) {
	case UPLOADER_IDLE:
		return CLOUD_IDLE;
	case UPLOADER_BUSY:
		return CLOUD_BUSY;
	case UPLOADER_WAITING:
		return CLOUD_WAITING;
	case UPLOADER_PAUSED:
		return CLOUD_PAUSED;
	case UPLOADER_FENCED:
		return CLOUD_FENCED;
	case UPLOADER_FAILED:
		break;
	}
	return CLOUD_FAILED;
}

static void add_upload(const struct store_cloud *cloud, struct cloud_status *ret)
{
	struct uploader_status status = {0};

	uploader_status(cloud->uploader, &status);
	ret->state = state_of(status.state);
	ret->bytes_behind = status.bytes_behind;
	ret->ms_behind = status.ms_behind;
	ret->bytes_uploaded = status.bytes_uploaded;
	ret->blocks_uploaded = status.blocks_uploaded;
	ret->deltas_uploaded = status.deltas_uploaded;
	ret->manifests = status.manifests;
	ret->manifest = status.manifest;
	ret->root_seq = status.root_seq;
	ret->in_flight = status.in_flight;
	ret->retry_ms = status.retry_ms;
	ret->conditional = status.conditional;
	ret->error = status.error;
}

/*
 * The uploader hears of a failure when its attempts are over. While nothing moves but calls that wait
 * for their next one, the place is away for whoever looks.
 */
static void note_retries(struct cloud_status *ret)
{
	const struct clock *clock = clock_system();
	const uint64_t at_ms = ret->place.next_retry_ms, now_ms = clock->now_ms(clock);

	if (ret->state != CLOUD_BUSY || ret->place.retrying == 0 ||
	    ret->place.retrying < ret->in_flight)
		return;
	ret->state = CLOUD_WAITING;
	ret->error = ret->place.last_error;
	ret->retry_ms = at_ms > now_ms ? at_ms - now_ms : 1;
}

static void fs_status(void *arg, struct cloud_status *ret)
{
	struct store_cloud *cloud = arg;
	const struct settings *settings = cloud->options.settings;
	struct block_cache_status cache = {0};

	*ret = (struct cloud_status){
		.durability = settings->durability == DURABILITY_CLOUD ? "cloud" : "local",
		.state = CLOUD_READING,
	};
	(void)snprintf(ret->url, sizeof(ret->url), "%s", settings->cloud);
	block_store_status(cloud->place, &ret->place);
	ret->conditional = ret->place.conditional;
	if (cloud->uploader) {
		add_upload(cloud, ret);
		note_retries(ret);
	}
	block_cache_status(cloud->cache, &cache);
	ret->cache_hits = cache.hits;
	ret->cache_misses = cache.misses;
	ret->cache_evictions = cache.evictions;
	ret->cache_damaged = cache.damaged;
	ret->cache_blocks = cache.blocks;
	ret->cache_bytes = cache.bytes;
	ret->cache_size_max = cache.size_max;
	ret->cache_read_ahead = cache.read_ahead;
}

static uint64_t fs_safe_length(void *arg, const struct uuid *segment)
{
	struct store_cloud *cloud = arg;
	struct engine_segment_info info;

	if (cloud->uploader) {
		struct remote_keeper *keeper = uploader_keeper(cloud->uploader);
		return keeper->ops->safe_length(keeper, segment);
	}
	/* Nobody asks the place; but what came from there is there. */
	struct engine_segment *found = engine_segment_find(cloud->engine, segment);
	if (!found)
		return 0;
	engine_segment_info(cloud->engine, found, &info);
	return info.inherited ? info.durable : 0;
}

static uint64_t fs_safe_root(void *arg)
{
	struct store_cloud *cloud = arg;
	struct engine_stats stats;

	if (cloud->uploader) {
		struct remote_keeper *keeper = uploader_keeper(cloud->uploader);
		return keeper->ops->safe_root(keeper);
	}
	engine_stats(cloud->engine, &stats);
	return stats.clone ? stats.roots_last : 0;
}

int store_cloud_flush(struct store_cloud *cloud, uint64_t timeout_ms, struct reterr *err)
{
	if (!cloud->uploader)
		return reterr_set(err, -EROFS,
				  "this mount is read-only and uploads nothing to '%s'",
				  cloud->options.settings->cloud);
	return uploader_flush(cloud->uploader, timeout_ms, err);
}

static int fs_flush(void *arg, uint64_t timeout_ms, struct reterr *err)
{
	return store_cloud_flush(arg, timeout_ms, err);
}

static void fs_stop_waiting(void *arg)
{
	struct store_cloud *cloud = arg;
	if (cloud->uploader) {
		struct remote_keeper *keeper = uploader_keeper(cloud->uploader);
		keeper->ops->stop(keeper);
	}
	reader_stop(&cloud->reader);
}

const struct fs_cloud *store_cloud_fs(struct store_cloud *cloud)
{
	return &cloud->fs;
}

/* ---- Life ----------------------------------------------------------------------------------- */

int store_cloud_new(const struct store_cloud_options *options, struct reterr *err,
		    struct store_cloud **ret)
{
	const uint64_t disk_min = DISK_PARTS_MIN * PART_BLOCKS * options->block_size;
	uint64_t disk_max = options->settings->disk_max;
	if (disk_max && disk_max < disk_min)
		return reterr_set(err, -EINVAL,
				  "disk_max is %" PRIu64 " bytes, but with blocks of %" PRIu64
				  " it must be %" PRIu64
				  " at least: what is still written to stays here",
				  disk_max, options->block_size, disk_min);

	struct store_cloud *cloud = calloc(1, sizeof(*cloud));
	if (!cloud)
		return reterr_set(err, -ENOMEM, "out of memory");
	cloud->options = *options;
	cloud->reader.ops = &reader_ops;
	cloud->fs = (struct fs_cloud){
		.status = fs_status,
		.safe_length = fs_safe_length,
		.safe_root = fs_safe_root,
		.flush = fs_flush,
		.stop = fs_stop_waiting,
		.arg = cloud,
	};
	(void)pthread_mutex_init(&cloud->connecting, NULL);
	*ret = cloud;
	return 0;
}

/* What the store's own files may take of the disk, beside the cache. 0: no limit. */
static uint64_t parts_max(const struct store_cloud *cloud)
{
	uint64_t disk_max = cloud->options.settings->disk_max;
	uint64_t cache = cache_max(cloud);
	if (disk_max == 0)
		return 0;
	return cache < disk_max ? disk_max - cache : 1;
}

/*
 * For an append that found the store at its limit. While the upload goes on, so does eviction, and
 * the writer waits for it; while the place is away he is told so.
 */
static int wait_for_room(void *arg)
{
	const struct timespec pause = {.tv_nsec = ROOM_POLL_MS * 1000000L};
	struct store_cloud *cloud = arg;
	struct engine *engine = atomic_load(&cloud->engine);

	for (unsigned waited_ms = 0; waited_ms < ROOM_WAIT_MS; waited_ms += ROOM_POLL_MS) {
		struct uploader_status status = {0};
		struct uploader *uploader = atomic_load(&cloud->uploader);
		if (!engine || !uploader || atomic_load(&cloud->stopping))
			return -ENOSPC;
		uploader_status(uploader, &status);
		if (status.state != UPLOADER_BUSY && status.state != UPLOADER_IDLE)
			return -ENOSPC;
		(void)nanosleep(&pause, NULL);
		if (engine_disk_used(engine) <= parts_max(cloud))
			return 0;
	}
	return -ENOSPC;
}

void store_cloud_engine_options(struct store_cloud *cloud, struct engine_options *ret)
{
	ret->reader = &cloud->reader;
	ret->disk_max = parts_max(cloud);
	ret->wait_for_room = wait_for_room;
	ret->room_arg = cloud;
}

int store_cloud_start(struct store_cloud *cloud, struct engine *engine, bool take_over,
		      struct reterr *err)
{
	const struct settings *settings = cloud->options.settings;
	struct engine_stats stats;
	char host[HOST_SIZE] = "";

	engine_stats(engine, &stats);
	if (stats.read_only)
		return 0;
	if (gethostname(host, sizeof(host) - 1) < 0)
		host[0] = '\0';
	const uint64_t disk_max = parts_max(cloud);
	const struct uploader_options options = {
		.block_size = stats.block_size,
		.upload_interval_ms = settings->upload_interval_ms,
		.transfers = (unsigned)settings->transfers,
		.bandwidth = settings->bandwidth,
		/* Before it is full, so that what is written meanwhile finds room. */
		.disk_max = disk_max - disk_max / EVICT_EARLY_PART,
		.store = stats.store,
		.host = host,
		.take_over = take_over,
		.report = cloud->options.report,
		.report_arg = cloud->options.report_arg,
	};
	cloud_source_init(&cloud->source, engine);
	struct uploader *uploader = NULL;
	int r = uploader_start(&cloud->source.source, cloud->place, &options, err, &uploader);
	if (r < 0)
		return r;
	atomic_store(&cloud->uploader, uploader);
	if (settings->durability == DURABILITY_CLOUD)
		engine_set_keeper(engine, uploader_keeper(uploader));
	return 0;
}

void store_cloud_stop(struct store_cloud *cloud)
{
	if (!cloud)
		return;
	fs_stop_waiting(cloud);
	if (!cloud->uploader)
		return;
	engine_set_keeper(cloud->engine, NULL);
	uploader_free(cloud->uploader);
	cloud->uploader = NULL;
}

void store_cloud_free(struct store_cloud *cloud)
{
	if (!cloud)
		return;
	disconnect(cloud);
	(void)pthread_mutex_destroy(&cloud->connecting);
	free(cloud);
}
