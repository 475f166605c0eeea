#include "store.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "engine/disk.h"
#include "engine/engine.h"
#include "raw.h"

enum { WALK_FDS = 16 };

static int failed(const char *what, const char *path, int code, const struct reterr *err)
{
	(void)fprintf(stderr, "%s %s: %s\n", what, path, err->code ? err->text : "failed");
	return code;
}

int store_open(struct store *store, const char *path)
{
	struct reterr err = {.code = 0};

	*store = (struct store){.engine = NULL};
	int r = disk_posix_open(path, DISK_PATH_AUTO, &err, &store->disk);
	if (r < 0)
		return failed("open disk", path, r, &err);
	r = engine_open(store->disk, NULL, &err, &store->engine);
	return r < 0 ? failed("open", path, r, &err) : 0;
}

int store_make(struct store *store, const char *dir, const char *name)
{
	struct reterr err = {.code = 0};
	char path[512];

	*store = (struct store){.engine = NULL};
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return -errno;
	int r = disk_posix_open(path, DISK_PATH_AUTO, &err, &store->disk);
	if (r < 0)
		return failed("open disk", path, r, &err);
	r = engine_format(store->disk, NULL, &err);
	if (r < 0)
		return failed("format", path, r, &err);
	r = engine_open(store->disk, NULL, &err, &store->engine);
	return r < 0 ? failed("open", path, r, &err) : 0;
}

int store_close(struct store *store)
{
	struct reterr err = {.code = 0};
	int r = engine_close(store->engine, &err);

	disk_free(store->disk);
	*store = (struct store){.engine = NULL};
	return r < 0 ? failed("close", "store", r, &err) : 0;
}

int store_fill(struct store *store, uint64_t count, uint64_t size)
{
	void *data = malloc(size ? size : 1);
	struct iovec iov = {.iov_base = data, .iov_len = size};
	struct engine_pointer at;
	int r = data ? 0 : -ENOMEM;

	if (data)
		raw_fill(data, size, 5);
	for (uint64_t i = 0; r == 0 && i < count; i++)
		r = engine_append(store->engine, ENGINE_CLASS_LOG, ENGINE_FORMAT_RAW, &iov, 1, &at);
	free(data);
	return r;
}

static int remove_path(const char *path, const struct stat *st, int type, struct FTW *walk)
{
	(void)st;
	(void)type;
	(void)walk;
	return remove(path) < 0 ? -errno : 0;
}

int store_remove(const char *path)
{
	return nftw(path, remove_path, WALK_FDS, FTW_PHYS | FTW_DEPTH);
}
