/*
 * Blocks in memory, for `mem:` and for tests. An array sorted by key; the lock guards all of it.
 * Blocks never change, but can be deleted: what a caller gets is copied under the lock, which is
 * memory to memory, no I/O.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "cloud/block_key.h"
#include "cloud/cloud.h"

struct entry {
	char *key;
	void *data;
	struct block_head head;
};

struct memory_store {
	struct block_store base;
	uint64_t size_max;
	atomic_bool stopped;
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

/* Whether a call may begin. */
static int admit(const struct memory_store *store, const char *key, struct reterr *err)
{
	if (atomic_load(&store->stopped))
		return reterr_set(err, -ECANCELED, "the place for blocks was stopped");
	if (key && block_key_parse(key, NULL) < 0)
		return reterr_set(err, -EINVAL, "\"%.100s\" is no key of a block", key);
	return 0;
}

static int no_block(struct reterr *err, const char *key)
{
	return reterr_set(err, -ENOENT, "there is no block %s", key);
}

/* Takes over ENTRY on success. The lock is held. */
static int insert(struct memory_store *store, const struct entry *entry)
{
	if (entry->head.size > store->size_max - store->size)
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
	store->size += entry->head.size;
	return 0;
}

/* ENTRY becomes what the store does not need. The lock is held. */
static int swap(struct memory_store *store, struct entry *old, struct entry *entry)
{
	uint64_t rest = store->size - old->head.size;
	if (entry->head.size > store->size_max - rest)
		return -ENOSPC;
	struct entry gone = *old;
	*old = *entry;
	*entry = gone;
	store->size = rest + old->head.size;
	return 0;
}

static uint64_t wall_ns(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static int entry_init(struct entry *entry, const char *key, const void *data, size_t size,
		      uint64_t first_frame)
{
	*entry = (struct entry){
		.key = strdup(key),
		.data = malloc(size ? size : 1),
		.head = {.size = size,
			 .first_frame = first_frame,
			 .modified_ns = wall_ns(),
			 .hash = hash_of(data, size),
			 .recorded = true},
	};
	if (!entry->key || !entry->data)
		return -ENOMEM;
	if (size)
		memcpy(entry->data, data, size);
	(void)hash_format(&entry->head.hash, entry->head.etag);
	return 0;
}

static int store_entry(struct memory_store *store, const char *key, const void *data, size_t size,
		       uint64_t first_frame, bool replace, struct reterr *err)
{
	if (size > BLOCK_STORE_SIZE_MAX)
		return reterr_set(err, -EFBIG, "%s: %zu bytes are too many for a block", key, size);

	struct entry entry;
	int r = entry_init(&entry, key, data, size, first_frame);
	bool ours = true;
	if (r == 0) {
		pthread_mutex_lock(&store->lock);
		struct entry *old = find(store, key);
		if (old) {
			r = replace ? swap(store, old, &entry) : -EEXIST;
		} else {
			r = insert(store, &entry);
			ours = r < 0;
		}
		pthread_mutex_unlock(&store->lock);
	}
	if (ours)
		entry_done(&entry);
	return r < 0 ? reterr_set(err, r, "cannot store %s: %s", key, strerror(-r)) : 0;
}

static int memory_put(struct block_store *base, const char *key, const void *data, size_t size,
		      uint64_t first_frame, struct reterr *err)
{
	int r = admit(store_of(base), key, err);
	return r < 0 ? r : store_entry(store_of(base), key, data, size, first_frame, false, err);
}

static int memory_replace(struct block_store *base, const char *key, const void *data, size_t size,
			  struct reterr *err)
{
	int r = admit(store_of(base), key, err);
	if (r < 0)
		return r;
	if (strcmp(key, "owner") != 0)
		return reterr_set(err, -EINVAL, "%s: only \"owner\" is ever replaced", key);
	return store_entry(store_of(base), key, data, size, BLOCK_NO_FRAME, true, err);
}

static int memory_get(struct block_store *base, const char *key, void *data, size_t size_max,
		      struct block_head *ret, struct reterr *err)
{
	struct memory_store *store = store_of(base);
	int r = admit(store, key, err);
	if (r < 0)
		return r;

	pthread_mutex_lock(&store->lock);
	const struct entry *entry = find(store, key);
	bool fits = entry && entry->head.size <= size_max;
	if (fits) {
		memcpy(data, entry->data, (size_t)entry->head.size);
		*ret = entry->head;
	}
	pthread_mutex_unlock(&store->lock);
	if (!entry)
		return no_block(err, key);
	return fits ? 0 : reterr_set(err, -EFBIG, "%s has more than %zu bytes", key, size_max);
}

static int memory_get_range(struct block_store *base, const char *key, void *data, size_t size,
			    uint64_t offset, size_t *ret, struct reterr *err)
{
	struct memory_store *store = store_of(base);
	int r = admit(store, key, err);
	if (r < 0)
		return r;

	size_t got = 0;
	pthread_mutex_lock(&store->lock);
	const struct entry *entry = find(store, key);
	if (entry && offset < entry->head.size) {
		uint64_t there = entry->head.size - offset;
		got = size < there ? size : (size_t)there;
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
	int r = admit(store, key, err);
	if (r < 0)
		return r;

	pthread_mutex_lock(&store->lock);
	const struct entry *entry = find(store, key);
	if (entry)
		*ret = entry->head;
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
		*ret_size = store->entries[i].head.size;
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
	int r = admit(store, NULL, err);
	if (r < 0)
		return r;

	/* No lock is held while FN runs, so each step searches anew. */
	bool behind = strcmp(after, prefix) >= 0;
	const char *from = behind ? after : prefix;
	while (next_key(store, from, behind, keys[current], &size)) {
		const char *key = keys[current];
		if (strncmp(key, prefix, strlen(prefix)) != 0)
			return 0;
		r = fn(arg, key, size);
		if (r == 0)
			r = admit(store, NULL, err);
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
	int r = admit(store, key, err);
	if (r < 0)
		return r;

	pthread_mutex_lock(&store->lock);
	struct entry *entry = find(store, key);
	if (entry) {
		gone = *entry;
		store->size -= gone.head.size;
		store->count--;
		memmove(entry, entry + 1,
			(size_t)(store->entries + store->count - entry) * sizeof(*entry));
	}
	pthread_mutex_unlock(&store->lock);
	entry_done(&gone);
	return 0;
}

static void memory_status(struct block_store *base, struct block_store_status *ret)
{
	(void)base;
	*ret = (struct block_store_status){.place = "memory", .conditional = true};
}

static void memory_stop(struct block_store *base)
{
	atomic_store(&store_of(base)->stopped, true);
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
	.replace = memory_replace,
	.get = memory_get,
	.get_range = memory_get_range,
	.head = memory_head,
	.list = memory_list,
	.delete = memory_delete,
	.status = memory_status,
	.stop = memory_stop,
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
