/*
 * cache_mappings.json: which bytes of which segment lie in the cache, for people and for clients that
 * know ProtoDB's. An export, replaced as a whole; nothing ever reads it back.
 *
 *	{"wal/<uuid>/<position>": {"transaction_id": "<uuid>", "offset": 0, "size": 5242880,
 *	                           "file": "<name beside this file>"}, ...}
 *
 * ProtoDB's transaction_id is our segment.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <yajl/yajl_gen.h>

#include "cloud/block_cache.h"
#include "cloud/block_key.h"

struct mapping {
	struct block_key key;
	uint64_t size;
};

struct mappings {
	struct mapping *mappings;
	size_t count;
};

/* A copy, so that nothing is written under the lock. Manifests belong to no segment. */
static int snapshot(struct block_cache *cache, struct mappings *ret)
{
	pthread_mutex_lock(&cache->lock);
	size_t count = cache->table.count;
	struct mapping *mappings = count ? calloc(count, sizeof(*mappings)) : NULL;
	size_t n = 0;
	const struct cache_entry *entry = NULL;
	while (mappings && (entry = cache_table_next(&cache->table, entry)) != NULL) {
		struct mapping *mapping = &mappings[n];
		mapping->size = entry->file.head.size;
		n += block_key_parse(entry->file.key, &mapping->key) == 0 &&
		     (mapping->key.kind == BLOCK_KEY_BLOCK || mapping->key.kind == BLOCK_KEY_DELTA);
	}
	pthread_mutex_unlock(&cache->lock);
	if (count && !mappings)
		return -ENOMEM;
	*ret = (struct mappings){.mappings = mappings, .count = n};
	return 0;
}

static void print(void *arg, const char *text, size_t size)
{
	(void)fwrite(text, 1, size, arg); /* ferror tells */
}

static void put_text(yajl_gen gen, const char *text)
{
	(void)yajl_gen_string(gen, (const unsigned char *)text, strlen(text));
}

static void put_number(yajl_gen gen, uint64_t value)
{
	char text[24];
	int length = snprintf(text, sizeof(text), "%" PRIu64, value);
	(void)yajl_gen_number(gen, text, (size_t)length);
}

static void put_mapping(yajl_gen gen, const struct mapping *mapping)
{
	char key[BLOCK_KEY_MAX + 1], uuid[UUID_TEXT_LENGTH + 1], name[CACHE_FILE_NAME_SIZE];
	uint64_t offset = mapping->key.position;
	if (mapping->key.kind == BLOCK_KEY_DELTA)
		offset += mapping->key.from;
	put_text(gen, block_key_format(&mapping->key, key));
	(void)yajl_gen_map_open(gen);
	put_text(gen, "transaction_id");
	put_text(gen, uuid_format(&mapping->key.segment, uuid));
	put_text(gen, "offset");
	put_number(gen, offset);
	put_text(gen, "size");
	put_number(gen, mapping->size);
	put_text(gen, "file");
	put_text(gen, cache_file_name(key, name));
	(void)yajl_gen_map_close(gen);
}

/* 0 or an error of the stream. */
static int write_json(FILE *file, const struct mappings *mappings)
{
	yajl_gen gen = yajl_gen_alloc(NULL);
	if (!gen)
		return -ENOMEM;
	(void)yajl_gen_config(gen, yajl_gen_print_callback, print, file);
	(void)yajl_gen_config(gen, yajl_gen_beautify, 1);
	(void)yajl_gen_map_open(gen);
	for (size_t i = 0; i < mappings->count; i++)
		put_mapping(gen, &mappings->mappings[i]);
	(void)yajl_gen_map_close(gen);
	yajl_gen_free(gen);
	return ferror(file) ? -EIO : 0;
}

static int write_file(int dir_fd, const char *name, const struct mappings *mappings)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	FILE *file = fdopen(fd, "w");
	if (!file) {
		(void)close(fd);
		return -ENOMEM;
	}
	int r = write_json(file, mappings);
	return fclose(file) != 0 && r == 0 ? -EIO : r;
}

void cache_export(struct block_cache *cache)
{
	static const char temporary[] = CACHE_FILE_TEMPORARY "mappings";
	struct mappings mappings;
	int r = snapshot(cache, &mappings);
	if (r < 0)
		return; /* the next one comes */
	r = write_file(cache->dir_fd, temporary, &mappings);
	if (r == 0 && renameat(cache->dir_fd, temporary, cache->dir_fd, CACHE_MAPPINGS) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(cache->dir_fd, temporary, 0);
	free(mappings.mappings);
}
