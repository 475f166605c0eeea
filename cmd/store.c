#include "cmd/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/cloud_witness.h"
#include "cmd/io.h"
#include "cmd/settings.h"
#include "cmd/store_cloud.h"
#include "engine/disk.h"
#include "engine/engine.h"
#include "engine/superblock.h"

bool store_is_memory(const char *path)
{
	return strcmp(path, "mem:") == 0;
}

static int chosen_disk_path(struct reterr *err, enum disk_path *ret)
{
	static const struct {
		const char *name;
		enum disk_path path;
	} choices[] = {
		{"auto", DISK_PATH_AUTO},
		{"io_uring", DISK_PATH_IO_URING},
		{"threads", DISK_PATH_THREADS},
		{"buffered", DISK_PATH_BUFFERED},
	};
	const char *wanted = getenv("PROTOFS_DISK_PATH");

	*ret = DISK_PATH_AUTO;
	if (!wanted || !*wanted)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(choices); i++) {
		if (strcmp(wanted, choices[i].name) == 0) {
			*ret = choices[i].path;
			return 0;
		}
	}
	return reterr_set(
		err, -EINVAL,
		"PROTOFS_DISK_PATH is '%s', but must be auto, io_uring, threads or buffered",
		wanted);
}

int store_disk(const char *path, uint64_t memory_size, struct reterr *err, struct store *ret)
{
	struct disk *disk;
	enum disk_path disk_path;
	int r;

	if (store_is_memory(path)) {
		r = disk_memory_new(memory_size, &disk);
		if (r == 0)
			r = engine_format(disk, &(struct engine_format_options){0}, err);
		else
			(void)reterr_set(err, r, "no memory for it: %s", strerror(-r));
	} else {
		r = chosen_disk_path(err, &disk_path);
		if (r < 0)
			return r;
		r = disk_posix_open(path, disk_path, err, &disk);
	}
	if (r == 0)
		*ret = (struct store){.disk = disk};
	return r;
}

static int format(const char *path, const struct engine_format_options *options, struct reterr *err)
{
	struct reterr cause = {0};
	struct store store = {0};
	int r = store_disk(path, 0, err, &store);
	if (r < 0)
		return r;
	r = engine_format(store.disk, options, &cause);
	disk_free(store.disk);
	if (r == -EEXIST)
		return reterr_set(err, r, "it holds a store already");
	if (r == -ENOTEMPTY)
		return reterr_set(err, r, "%.300s; a store wants an empty directory, or a new one",
				  store_why(&cause, r));
	return r < 0 ? reterr_set(err, r, "%s", store_why(&cause, r)) : 0;
}

int store_make(const char *path, const struct engine_format_options *options, struct reterr *err)
{
	bool made = mkdir(path, 0700) == 0;
	int r = made || errno == EEXIST ? 0 : -errno;

	if (r == 0 && made)
		r = io_sync_parent(path);
	if (r < 0)
		return reterr_set(err, r, "%s", strerror(-r));
	r = format(path, options, err);
	if (r < 0 && made)
		io_remove_tree(path); /* so that it can be tried again */
	return r;
}

/* Why a store cannot be opened, with what to do about it. */
static int explain(int r, const struct reterr *cause, struct reterr *err)
{
	const char *why = store_why(cause, r);
	switch (-r) {
	case ENOENT:
		return reterr_set(err, r, "it is not a store; `protofs init` makes one");
	case EBUSY:
		return reterr_set(err, r,
				  "%.400s; unmount it first, or name the mountpoint instead", why);
	case ENOTSUP:
		return reterr_set(err, r, "%.400s; use a newer protofs", why);
	case EBADMSG:
		return reterr_set(err, r, "%.400s; see `protofs fsck`", why);
	default:
		return reterr_set(err, r, "%s", why);
	}
}

int store_geometry(const struct store *store, struct store_geometry *ret, struct reterr *err)
{
	struct reterr cause = {0};
	struct superblock superblock;

	int r = superblock_read(store->disk, &superblock, &cause);
	if (r < 0)
		return explain(r, &cause, err);
	*ret = (struct store_geometry){
		.block_size = superblock.block_size,
		.node = superblock.node,
	};
	return 0;
}

int store_lock(struct store *store, bool exclusive, struct reterr *err)
{
	struct reterr cause = {0};
	int r = store->disk->ops->lock(store->disk, exclusive, &cause);
	return r < 0 ? explain(r, &cause, err) : 0;
}

int store_open(struct store *store, const struct engine_options *options, struct reterr *err)
{
	struct reterr cause = {0};
	int r = engine_open(store->disk, options, &cause, &store->engine);

	if (r == 0)
		return 0;
	store->engine = NULL;
	return explain(r, &cause, err);
}

/* Under the store's lock: the cache lies in it. */
static int add_cloud(struct store *store, const char *path, const struct settings *settings,
		     const struct engine_options *options, struct reterr *err)
{
	struct store_geometry geometry;

	int r = store_geometry(store, &geometry, err);
	if (r == 0)
		r = store_lock(store, !options->read_only, err);
	if (r < 0)
		return r;
	const struct store_cloud_options cloud = {
		.settings = settings,
		.store = store_is_memory(path) ? NULL : path,
		.block_size = geometry.block_size,
		.node = geometry.node,
		.read_only = options->read_only,
		.report = options->report,
		.report_arg = options->report_arg,
	};
	return store_cloud_new(&cloud, err, &store->cloud);
}

int store_open_with_cloud(struct store *store, const char *path, const struct settings *settings,
			  enum store_cloud_use use, const struct engine_options *options,
			  struct reterr *err)
{
	struct engine_options with = *options;

	with.witnesses = true;
	if (!settings->cloud) {
		int opened = store_open(store, &with, err);
		return opened < 0 ? opened : cloud_witness_restore(store->engine, err);
	}
	int r = add_cloud(store, path, settings, options, err);
	if (r == 0 && use != STORE_CLOUD_READ)
		r = store_cloud_connect(store->cloud, err);
	if (r < 0)
		return r;
	store_cloud_engine_options(store->cloud, &with);
	r = store_open(store, &with, err);
	if (r == 0)
		store_cloud_set_engine(store->cloud, store->engine);
	if (r == 0)
		r = cloud_witness_restore(store->engine, err);
	if (r == 0 && use == STORE_CLOUD_UPLOAD)
		r = store_cloud_start(store->cloud, store->engine, options->take_over, err);
	return r;
}

int store_close(struct store *store, struct reterr *err)
{
	store_cloud_stop(store->cloud);
	int r = engine_close(store->engine, err);
	disk_free(store->disk);
	store_cloud_free(store->cloud);
	*store = (struct store){0};
	return r;
}

void store_abandon(struct store *store)
{
	store_cloud_stop(store->cloud);
	if (store->engine)
		engine_abandon(store->engine);
	disk_free(store->disk);
	store_cloud_free(store->cloud);
	*store = (struct store){0};
}

int store_is_free(const char *path, struct reterr *err)
{
	struct disk *disk;
	int r = disk_posix_open(path, DISK_PATH_BUFFERED, err, &disk);

	if (r < 0)
		return r;
	r = disk->ops->lock(disk, false, err);
	disk_free(disk);
	return r;
}

const char *store_why(const struct reterr *err, int code)
{
	return err->text[0] ? err->text : strerror(-code);
}
