/*
 * From a URL to a stack of block stores:
 *
 *	verifying  compares what comes with what was put
 *	retrying   tries again what may work later
 *	counting   counts every attempt
 *	the place  s3://bucket[/prefix], file:///dir, mem:
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cloud/cloud.h"

#define MEMORY_SIZE_DEFAULT ((uint64_t)1 << 30)
#define FORMS "s3://bucket/prefix, file:///directory or mem:"

/* The rest of URL behind SCHEME, or NULL. */
static const char *behind(const char *url, const char *scheme)
{
	size_t length = strlen(scheme);
	return strncmp(url, scheme, length) == 0 ? url + length : NULL;
}

/* ---- mem: ---- */

static int open_memory(const char *rest, const struct cloud_options *options, struct reterr *err,
		       struct block_store **ret)
{
	if (*rest)
		return reterr_set(err, -EINVAL, "mem:%.100s: nothing can follow \"mem:\"", rest);
	uint64_t size = options->memory_size_max ? options->memory_size_max : MEMORY_SIZE_DEFAULT;
	int r = block_store_memory_new(size, ret);
	return r < 0 ? reterr_set(err, r, "no memory for the cloud") : 0;
}

/* ---- file:///directory ---- */

/* As mkdir -p does. */
static int make_dirs(const char *dir, struct reterr *err)
{
	char *path = strdup(dir);
	if (!path)
		return reterr_set(err, -ENOMEM, "no memory to make %s", dir);
	int r = 0;
	for (char *at = path + 1; r == 0; at++) {
		if (*at && *at != '/')
			continue;
		char end = *at;
		*at = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST && errno != EISDIR)
			r = reterr_set(err, -errno, "cannot make the directory %s: %s", path,
				       strerror(errno));
		*at = end;
		if (!end)
			break;
	}
	free(path);
	return r;
}

static int open_directory(const char *dir, const struct cloud_options *options, struct reterr *err,
			  struct block_store **ret)
{
	if (*dir != '/')
		return reterr_set(err, -EINVAL,
				  "file://%.200s: the directory must be absolute, behind three "
				  "slashes: file:///directory",
				  dir);
	if (options->make) {
		int r = make_dirs(dir, err);
		if (r < 0)
			return r;
	}
	return block_store_dir_open(dir, err, ret);
}

/* ---- s3://bucket/prefix: the S3 client judges the names ---- */

static int open_s3(const char *url, const char *rest, const struct cloud_options *options,
		   struct reterr *err, struct block_store **ret)
{
	char *bucket = strdup(rest);
	if (!bucket)
		return reterr_set(err, -ENOMEM, "no memory for the cloud");
	char *prefix = strchr(bucket, '/');
	if (prefix)
		*prefix++ = '\0';
	else
		prefix = bucket + strlen(bucket);
	size_t length = strlen(prefix);
	if (length > 0 && prefix[length - 1] == '/')
		prefix[length - 1] = '\0';

	int r;
	if (!*bucket) {
		r = reterr_set(err, -EINVAL,
			       "%.200s has no bucket: it is s3://bucket or s3://bucket/prefix",
			       url);
	} else if (strpbrk(prefix, "?#")) {
		r = reterr_set(
			err, -EINVAL,
			"%.200s: nothing can follow the prefix, neither \"?\" nor \"#\": the "
			"rest are options of their own",
			url);
	} else {
		struct s3_options s3 = options->s3;
		s3.bucket = bucket;
		s3.prefix = prefix;
		r = block_store_s3_open(&s3, err, ret);
	}
	free(bucket);
	return r;
}

/* ---- The stack ---- */

static int open_place(const char *url, const struct cloud_options *options, struct reterr *err,
		      struct block_store **ret)
{
	const char *rest = behind(url, "s3://");
	if (rest)
		return open_s3(url, rest, options, err, ret);
	rest = behind(url, "file://");
	if (rest)
		return open_directory(rest, options, err, ret);
	rest = behind(url, "mem:");
	if (rest)
		return open_memory(rest, options, err, ret);
	if (behind(url, "https://") || behind(url, "http://"))
		return reterr_set(err, -EINVAL,
				  "%.200s: a cloud is named by its bucket, s3://bucket/prefix, and "
				  "the server by the option endpoint",
				  url);
	return reterr_set(err, -EINVAL, "\"%.200s\" is no cloud: it is " FORMS, url);
}

int cloud_open(const char *url, const struct cloud_options *options, struct reterr *err,
	       struct block_store **ret)
{
	struct block_store *store;
	int r = open_place(url, options, err, &store);
	if (r < 0)
		return r;
	r = block_store_counting_new(store, &store);
	if (r == 0)
		r = block_store_retrying_new(store, &options->retry, &store);
	if (r == 0)
		r = block_store_verifying_new(store, &store);
	if (r < 0)
		return reterr_set(err, r, "no memory for the cloud");
	*ret = store;
	return 0;
}
