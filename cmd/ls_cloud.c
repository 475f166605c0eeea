#include "cmd/ls_cloud.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <protofs/block_store.h>

#include "cloud/block_cache_file.h"
#include "cmd/log.h"
#include "cmd/print.h"
#include "cmd/settings.h"
#include "cmd/store.h"
#include "cmd/store_cloud.h"
#include "cmd/verb.h"
#include "cmd/where.h"
#include "fs/utc.h"

struct listing {
	struct print *print;
	struct block_store *place;
	char cache[PATH_MAX]; /* the directory of the cache */
	struct reterr err;
};

/* The path of KEY's file in the cache, if it is there. The name is a hash, never the key. */
static bool is_cached(const struct listing *listing, const char *key, char path[static PATH_MAX])
{
	char name[CACHE_FILE_NAME_SIZE];
	int n = snprintf(path, PATH_MAX, "%s/%s", listing->cache, cache_file_name(key, name));
	return n > 0 && n < PATH_MAX && access(path, F_OK) == 0;
}

static void print_object(struct listing *listing, const char *key, const struct block_head *head)
{
	char path[PATH_MAX], time[UTC_TEXT_SIZE] = "", hash[HASH_TEXT_LENGTH + 1] = "";
	bool cached = is_cached(listing, key, path);

	if (head->modified_ns)
		(void)utc_format(head->modified_ns, time);
	if (head->recorded)
		(void)hash_format(&head->hash, hash);
	if (!listing->print->json) {
		(void)printf("%12" PRIu64 "  %-30s  %-34s  %-6s  %s\n", head->size,
			     time[0] ? time : "-", head->etag[0] ? head->etag : "-",
			     cached ? "cached" : "-", key);
		return;
	}
	print_next(listing->print);
	(void)printf("{\"key\": \"%s\", \"size\": %" PRIu64, key, head->size);
	print_member("etag", head->etag[0] ? head->etag : NULL);
	print_member("last_modified", time[0] ? time : NULL);
	print_member("xxh3", hash[0] ? hash : NULL);
	(void)printf(", \"cached\": %s", cached ? "true" : "false");
	print_member("cache_path", cached ? path : NULL);
	(void)fputs("}", stdout);
}

/* One that goes between the listing and the question was a delta whose block has come. */
static int on_object(void *arg, const char *key, uint64_t size)
{
	struct listing *listing = arg;
	struct block_head head = {0};

	(void)size;
	int r = block_store_head(listing->place, key, &head, &listing->err);
	if (r == 0)
		print_object(listing, key, &head);
	return r == -ENOENT ? 0 : r;
}

static int find_cache(const char *path, const struct settings *settings, struct listing *listing,
		      struct reterr *err)
{
	struct store_geometry geometry;
	struct store store;

	int r = store_disk(path, 0, err, &store);
	if (r < 0)
		return r;
	r = store_geometry(&store, &geometry, err);
	store_abandon(&store);
	if (r < 0)
		return r;
	int n = snprintf(listing->cache, sizeof(listing->cache),
			 "%s/cloud_page_cache/server_%" PRIu64, path,
			 settings->server_id ? settings->server_id : geometry.node);
	return n > 0 && (size_t)n < sizeof(listing->cache)
		       ? 0
		       : reterr_set(err, -ENAMETOOLONG, "the store's path is too long");
}

static int list(const char *path, const struct settings *settings, struct listing *listing,
		struct reterr *err)
{
	int r = find_cache(path, settings, listing, err);
	if (r == 0)
		r = store_cloud_open_place(settings, false, err, &listing->place);
	if (r < 0)
		return r;
	print_begin(listing->print);
	r = block_store_list(listing->place, "", "", on_object, listing, &listing->err);
	print_end(listing->print);
	block_store_free(listing->place);
	return r < 0 ? reterr_set(err, r, "%s", store_why(&listing->err, r)) : 0;
}

int ls_cloud(const char *where, struct print *print)
{
	struct listing listing = {.print = print};
	struct settings settings = {0};
	struct reterr err = {0};
	char *store = NULL;

	int r = where_store(where, &store, &err);
	if (r == 0)
		r = settings_load(store, &settings, &err);
	if (r == 0 && !settings.cloud)
		r = reterr_set(&err, -EINVAL, "the store has no cloud");
	if (r == 0)
		r = list(store, &settings, &listing, &err);
	if (r < 0)
		log_error("cannot list the cloud of '%s': %s", where, store_why(&err, r));
	settings_done(&settings);
	free(store);
	return r == -EINVAL ? EXIT_CODE_USAGE : r < 0 ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
}
