/*
 * Restoring the directory of a bucket: what a file:// cloud is, or what any S3 tool has downloaded.
 * Its newest manifest says what is there; blocks and deltas make the segments.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <protofs/block_store.h>
#include <protofs/remote.h>

#include "cloud/block_key.h"
#include "cloud/cloud.h"
#include "cmd/progress.h"
#include "cmd/restore_from.h"
#include "cmd/settings.h"
#include "cmd/store.h"
#include "cmd/store_cloud.h"
#include "engine/engine.h"

struct bucket {
	struct restore_from from;
	struct settings settings; /* cloud = file://DIR */
	struct restore_point point;
	struct store_cloud *cloud;
};

static struct bucket *bucket_of(struct restore_from *from)
{
	return (struct bucket *)from;
}

/* ---- Is it one ------------------------------------------------------------------------------ */

bool restore_is_bucket(const char *dir)
{
	char path[PATH_MAX];
	const struct dirent *entry;
	bool found = false;

	int n = snprintf(path, sizeof(path), "%s/roots", dir);
	DIR *roots = n > 0 && (size_t)n < sizeof(path) ? opendir(path) : NULL;
	if (!roots)
		return false;
	while (!found && (entry = readdir(roots))) {
		char key[BLOCK_KEY_MAX + 1];
		n = snprintf(key, sizeof(key), "roots/%s", entry->d_name);
		found = n > 0 && (size_t)n < sizeof(key) && block_key_parse(key, NULL) == 0;
	}
	(void)closedir(roots);
	return found;
}

/* ---- What it holds -------------------------------------------------------------------------- */

static int bucket_root(struct restore_from *from, struct engine_root *ret, struct reterr *err)
{
	const struct source_root *root = &bucket_of(from)->point.root;

	if (root->seq == 0)
		return reterr_set(err, -ENOENT, "its newest manifest names no root");
	if (root->payload_size > sizeof(ret->payload))
		return reterr_set(err, -EBADMSG, "the root of its newest manifest is damaged");
	*ret = (struct engine_root){
		.pointer = {.segment = root->segment, .offset = root->offset},
		.time_ns = root->time_ns,
		.node = root->node,
		.payload_size = root->payload_size,
	};
	memcpy(ret->payload, root->payload, root->payload_size);
	return 0;
}

static int bucket_list(struct restore_from *from, restore_segment_fn *fn, void *arg,
		       struct reterr *err)
{
	const struct restore_point *point = &bucket_of(from)->point;
	int r = 0;

	(void)err;
	for (size_t i = 0; r == 0 && i < point->segment_count; i++)
		r = fn(arg, &point->segments[i].uuid, point->segments[i].length);
	return r;
}

struct fetch {
	struct remote_reader *reader;
	struct uuid segment;
	struct reterr err;
};

static int read_fetch(void *arg, void *data, size_t size, uint64_t offset)
{
	struct fetch *fetch = arg;
	uint8_t *to = data;

	while (size > 0) {
		size_t n = 0;
		int r = fetch->reader->ops->read(fetch->reader, &fetch->segment, to, size, offset,
						 &n, &fetch->err);
		if (r == 0 && n == 0)
			r = reterr_set(&fetch->err, -ENODATA, "byte %" PRIu64 " is not there",
				       offset);
		if (r < 0)
			return r;
		to += n;
		size -= n;
		offset += n;
		progress_add(n);
	}
	return 0;
}

static uint64_t length_of(const struct restore_point *point, const struct uuid *segment)
{
	for (size_t i = 0; i < point->segment_count; i++)
		if (uuid_equal(&point->segments[i].uuid, segment))
			return point->segments[i].length;
	return 0;
}

static int bucket_import(struct restore_from *from, struct engine *e, const struct uuid *segment,
			 uint64_t *ret_bytes, uint64_t *ret_unverified, struct reterr *err)
{
	struct bucket *bucket = bucket_of(from);
	struct fetch fetch = {
		.reader = store_cloud_reader(bucket->cloud),
		.segment = *segment,
	};
	struct reterr cause = {0};

	*ret_unverified = 0; /* each object is verified as it is read */
	*ret_bytes = length_of(&bucket->point, segment);
	if (*ret_bytes == 0)
		return 0;
	int r = engine_import_from(e, segment, *ret_bytes, read_fetch, &fetch, &cause);
	return r < 0 ? reterr_set(err, r, "%s", store_why(fetch.err.code ? &fetch.err : &cause, r))
		     : 0;
}

/* ---- The whole ------------------------------------------------------------------------------ */

static void bucket_close(struct restore_from *from)
{
	struct bucket *bucket = bucket_of(from);
	store_cloud_stop(bucket->cloud);
	store_cloud_free(bucket->cloud);
	restore_point_done(&bucket->point);
	settings_done(&bucket->settings);
	free(bucket);
}

static const struct restore_from_ops bucket_ops = {
	.what = "bucket",
	.root = bucket_root,
	.list = bucket_list,
	.import = bucket_import,
	.close = bucket_close,
};

static int open_bucket(struct bucket *bucket, const char *dir, struct reterr *err)
{
	char real[PATH_MAX];
	struct block_store *place;

	if (!realpath(dir, real))
		return reterr_set(err, -errno, "%s", strerror(errno));
	if (asprintf(&bucket->settings.cloud, "file://%s", real) < 0) {
		bucket->settings.cloud = NULL;
		return reterr_set(err, -ENOMEM, "out of memory");
	}
	int r = store_cloud_open_place(&bucket->settings, false, err, &place);
	if (r < 0)
		return r;
	r = restore_point_find(place, true, err, &bucket->point);
	block_store_free(place);
	if (r < 0)
		return r;
	const struct store_cloud_options options = {
		.settings = &bucket->settings,
		.read_only = true,
		.block_size = bucket->point.block_size,
	};
	r = store_cloud_new(&options, err, &bucket->cloud);
	return r < 0 ? r : store_cloud_connect(bucket->cloud, err);
}

int restore_from_bucket(const char *dir, struct reterr *err, struct restore_from **ret)
{
	struct bucket *bucket = calloc(1, sizeof(*bucket));
	if (!bucket)
		return reterr_set(err, -ENOMEM, "out of memory");
	bucket->from.ops = &bucket_ops;
	int r = open_bucket(bucket, dir, err);
	if (r < 0) {
		bucket_close(&bucket->from);
		return r;
	}
	*ret = &bucket->from;
	return 0;
}
