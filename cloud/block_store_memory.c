/*
 * Blocks in memory, for `mem:` and for tests. An array sorted by key; the lock guards all of it.
 * Blocks never change, but can be deleted: what a caller gets is copied under the lock, which is
 * memory to memory, no I/O.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "cloud/block_key.h"
#include "cloud/cloud.h"

struct entry {
	char *key;
	void *data;
	size_t size;
	struct hash hash;
};

struct memory_store {
	struct block_store base;
	uint64_t size_max;
	pthread_mutex_t lock; /* guards the rest */
	struct entry *entries;
	size_t count;
	size_t capacity;
	uint64_t size;
};

static struct memory_store *store_of(struct block_store *base)
{
	return (struct memory_store *)base;
}

static void entry_done(struct entry *entry)
{
	free(entry->key);
	free(entry->data);
}

/* The first entry whose key is not below KEY. The lock is held. */
static size_t lower_bound(const struct memory_store *store, const char *key)
{
	size_t low = 0, high = store->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (strcmp(store->entries[middle].key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* NULL if there is none. The lock is held. */
static struct entry *find(struct memory_store *store, const char *key)
{
	size_t i = lower_bound(store, key);
	return i < store->count && strcmp(store->entries[i].key, key) == 0 ? &store->entries[i]
									   : NULL;
}

static int bad_key(struct reterr *err, const char *key)
{
	return reterr_set(err, -EINVAL, "\"%.100s\" is no key of a block", key);
}

static int no_block(struct reterr *err, const char *key)
{
	return reterr_set(err, -ENOENT, "there is no block %s", key);
}

/* Takes over ENTRY on success. The lock is held. */
static int insert(struct memory_store *store, const struct entry *entry)
{
	if (find(store, entry->key))
		return -EEXIST;
	if (entry->size > store->size_max - store->size)
		return -ENOSPC;
	if (store->count == store->capacity) {
		size_t capacity = store->capacity ? store->capacity * 2 : 16;
		struct entry *entries = realloc(store->entries, capacity * sizeof(*entries));
		if (!entries)
			return -ENOMEM;
		store->entries = entries;
		store->capacity = capacity;
	}
	size_t i = lower_bound(store, entry->key);
	memmove(store->entries + i + 1, store->entries + i,
		(store->count++ - i) * sizeof(*store->entries));
	store->entries[i] = *entry;
	store->size += entry->size;
	return 0;
}

static int memory_put(struct block_store *base, const char *key, const void *data, size_t size,
		      struct reterr *err)
{
	struct memory_store *store = store_of(base);
	if (block_key_parse(key, NULL) < 0)
		return bad_key(err, key);
	if (size > BLOCK_STORE_SIZE_MAX)
		return reterr_set(err, -EFBIG, "%s: %zu bytes are too many for a block", key, size);

	struct entry entry = {
		.key = strdup(key),
		.data = malloc(size ? size : 1),
		.size = size,
		.hash = hash_of(data, size),
	};
	int r = entry.key && entry.data ? 0 : -ENOMEM;
	if (r == 0) {
		if (size)
			memcpy(entry.data, data, size);
		pthread_mutex_lock(&store->lock);
		r = insert(store, &entry);
		pthread_mutex_unlock(&store->lock);
	}
	if (r < 0) {
		entry_done(&entry);
		return reterr_set(err, r, "cannot store %s: %s", key, strerror(-r));
	}
	return 0;
}

static int memory_get_range(struct block_store *base, const char *key, void *data, size_t size,
			    uint64_t offset, size_t *ret, struct reterr *err)
{
	struct memory_store *store = store_of(base);
	if (block_key_parse(key, NULL) < 0)
		return bad_key(err, key);

	size_t got = 0;
	pthread_mutex_lock(&store->lock);
	const struct entry *entry = find(store, key);
	if (entry && offset < entry->size) {
		got = size < entry->size - offset ? size : entry->size - (size_t)offset;
		memcpy(data, (const uint8_t *)entry->data + offset, got);
	}
	pthread_mutex_unlock(&store->lock);
	if (!entry)
		return no_block(err, key);
	*ret = got;
	return 0;
}

static int memory_head(struct block_store *base, const char *key, struct block_head *ret,
		       struct reterr *err)
{
	struct memory_store *store = store_of(base);
	if (block_key_parse(key, NULL) < 0)
		return bad_key(err, key);

	pthread_mutex_lock(&store->lock);
	const struct entry *entry = find(store, key);
	if (entry)
		*ret = (struct block_head){
			.size = entry->size, .hash = entry->hash, .recorded = true};
	pthread_mutex_unlock(&store->lock);
	return entry ? 0 : no_block(err, key);
}

/* The first key from FROM on, or behind it. False if there is none. */
static bool next_key(struct memory_store *store, const char *from, bool behind,
		     char key[static BLOCK_KEY_MAX + 1], uint64_t *ret_size)
{
	pthread_mutex_lock(&store->lock);
	size_t i = lower_bound(store, from);
	if (behind && i < store->count && strcmp(store->entries[i].key, from) == 0)
		i++;
	bool found = i < store->count;
	if (found) {
		(void)snprintf(key, BLOCK_KEY_MAX + 1, "%s", store->entries[i].key);
		*ret_size = store->entries[i].size;
	}
	pthread_mutex_unlock(&store->lock);
	return found;
}

static int memory_list(struct block_store *base, const char *prefix, const char *after,
		       block_store_list_fn *fn, void *arg, struct reterr *err)
{
	struct memory_store *store = store_of(base);
	char keys[2][BLOCK_KEY_MAX + 1];
	unsigned current = 0;
	uint64_t size;
	(void)err;

	/* No lock is held while FN runs, so each step searches anew. */
	bool behind = strcmp(after, prefix) >= 0;
	const char *from = behind ? after : prefix;
	while (next_key(store, from, behind, keys[current], &size)) {
		const char *key = keys[current];
		if (strncmp(key, prefix, strlen(prefix)) != 0)
			return 0;
		int r = fn(arg, key, size);
		if (r < 0)
			return r;
		from = key;
		behind = true;
		current = !current;
	}
	return 0;
}

static int memory_delete(struct block_store *base, const char *key, struct reterr *err)
{
	struct memory_store *store = store_of(base);
	struct entry gone = {0};
	if (block_key_parse(key, NULL) < 0)
		return bad_key(err, key);

	pthread_mutex_lock(&store->lock);
	struct entry *entry = find(store, key);
	if (entry) {
		gone = *entry;
		store->size -= gone.size;
		store->count--;
		memmove(entry, entry + 1,
			(size_t)(store->entries + store->count - entry) * sizeof(*entry));
	}
	pthread_mutex_unlock(&store->lock);
	entry_done(&gone);
	return 0;
}

static void memory_free(struct block_store *base)
{
	struct memory_store *store = store_of(base);
	for (size_t i = 0; i < store->count; i++)
		entry_done(&store->entries[i]);
	free(store->entries);
	(void)pthread_mutex_destroy(&store->lock);
	free(store);
}

static const struct block_store_ops memory_ops = {
	.name = "memory",
	.put = memory_put,
	.get_range = memory_get_range,
	.head = memory_head,
	.list = memory_list,
	.delete = memory_delete,
	.free = memory_free,
};

int block_store_memory_new(uint64_t size_max, struct block_store **ret)
{
	struct memory_store *store = calloc(1, sizeof(*store));
	if (!store)
		return -ENOMEM;
	store->base.ops = &memory_ops;
	store->size_max = size_max;
	(void)pthread_mutex_init(&store->lock, NULL);
	*ret = &store->base;
	return 0;
}
