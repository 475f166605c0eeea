#include "engine/page_cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/invariant.h"
#include "engine/part_format.h"

/*
 * CLOCK: a slot is a page; the hand frees the first one that is neither pinned nor used since it
 * came by last.
 */
struct slot {
	struct page page; /* first: a pinned page's address leads back here */
	unsigned pins;
	bool used;
	bool stale;    /* dropped while pinned: freed by the last unpin */
	uint32_t next; /* in the bucket's chain; SLOT_NONE ends it */
};

#define SLOT_NONE UINT32_MAX

struct page_cache {
	pthread_mutex_t lock; /* of all below */
	struct slot *slots;
	uint32_t *buckets;
	uint32_t slot_count; /* also the number of buckets */
	uint32_t hand;
	uint64_t hits, misses, bytes;
};

int page_cache_new(uint64_t size_max, struct page_cache **ret)
{
	struct page_cache *cache = calloc(1, sizeof(*cache));
	if (!cache)
		return -ENOMEM;
	uint64_t slots = size_max / PART_PAGE_SIZE;
	cache->slot_count = slots < 16 ? 16 : slots > 1 << 20 ? 1 << 20 : (uint32_t)slots;
	cache->slots = calloc(cache->slot_count, sizeof(*cache->slots));
	cache->buckets = malloc(cache->slot_count * sizeof(*cache->buckets));
	if (!cache->slots || !cache->buckets) {
		free(cache->slots);
		free(cache->buckets);
		free(cache);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < cache->slot_count; i++)
		cache->buckets[i] = SLOT_NONE;
	(void)pthread_mutex_init(&cache->lock, NULL);
	*ret = cache;
	return 0;
}

void page_cache_free(struct page_cache *cache)
{
	if (!cache)
		return;
	for (uint32_t i = 0; i < cache->slot_count; i++) {
		invariant(cache->slots[i].pins == 0);
		free(cache->slots[i].page.data);
	}
	(void)pthread_mutex_destroy(&cache->lock);
	free(cache->slots);
	free(cache->buckets);
	free(cache);
}

static bool key_equal(const struct page_key *a, const struct page_key *b)
{
	return a->segment == b->segment && a->index == b->index && a->start == b->start;
}

static uint32_t *bucket_of(struct page_cache *cache, const struct page_key *key)
{
	uint64_t words[2] = {(uint64_t)key->segment << 32 | key->index, key->start};
	return &cache->buckets[hash64_of(words, sizeof(words)) % cache->slot_count];
}

static struct slot *find_locked(struct page_cache *cache, const struct page_key *key)
{
	for (uint32_t i = *bucket_of(cache, key); i != SLOT_NONE; i = cache->slots[i].next)
		if (key_equal(&cache->slots[i].page.key, key))
			return &cache->slots[i];
	return NULL;
}

const struct page *page_cache_find(struct page_cache *cache, const struct page_key *key)
{
	(void)pthread_mutex_lock(&cache->lock);
	struct slot *slot = find_locked(cache, key);
	if (slot) {
		slot->pins++;
		slot->used = true;
		cache->hits++;
	} else {
		cache->misses++;
	}
	(void)pthread_mutex_unlock(&cache->lock);
	return slot ? &slot->page : NULL;
}

/* Takes SLOT out of its bucket. Its memory stays. */
static void unlink_locked(struct page_cache *cache, struct slot *slot)
{
	uint32_t index = (uint32_t)(slot - cache->slots);
	uint32_t *link = bucket_of(cache, &slot->page.key);
	while (*link != index)
		link = &cache->slots[*link].next;
	*link = slot->next;
}

static void release_locked(struct page_cache *cache, struct slot *slot)
{
	cache->bytes -= slot->page.size;
	free(slot->page.data);
	*slot = (struct slot){0};
}

/* An empty slot; NULL if everything is pinned. */
static struct slot *make_room_locked(struct page_cache *cache)
{
	for (uint32_t steps = 0; steps < 2 * cache->slot_count; steps++) {
		struct slot *slot = &cache->slots[cache->hand];
		cache->hand = (cache->hand + 1) % cache->slot_count;
		if (!slot->page.data)
			return slot;
		if (slot->pins)
			continue;
		if (slot->used) {
			slot->used = false;
			continue;
		}
		unlink_locked(cache, slot);
		release_locked(cache, slot);
		return slot;
	}
	return NULL;
}

int page_cache_add(struct page_cache *cache, const struct page_key *key, uint8_t *data, size_t size,
		   const struct page **ret)
{
	(void)pthread_mutex_lock(&cache->lock);
	struct slot *slot = find_locked(cache, key);
	if (slot) {
		free(data); /* another reader was faster */
	} else {
		slot = make_room_locked(cache);
		if (!slot) {
			(void)pthread_mutex_unlock(&cache->lock);
			free(data);
			return -ENOMEM;
		}
		uint32_t *bucket = bucket_of(cache, key);
		*slot = (struct slot){.page = {.key = *key, .size = size, .data = data},
				      .next = *bucket};
		*bucket = (uint32_t)(slot - cache->slots);
		cache->bytes += size;
	}
	slot->pins++;
	slot->used = true;
	(void)pthread_mutex_unlock(&cache->lock);
	*ret = &slot->page;
	return 0;
}

static struct slot *slot_of(struct page_cache *cache, const struct page *page)
{
	size_t offset = (size_t)((const char *)page - (const char *)cache->slots);
	return &cache->slots[offset / sizeof(struct slot)];
}

void page_unpin(struct page_cache *cache, const struct page *page)
{
	(void)pthread_mutex_lock(&cache->lock);
	struct slot *slot = slot_of(cache, page);
	invariant(slot->pins > 0);
	if (--slot->pins == 0 && slot->stale)
		release_locked(cache, slot);
	(void)pthread_mutex_unlock(&cache->lock);
}

void page_cache_drop(struct page_cache *cache, uint32_t segment)
{
	(void)pthread_mutex_lock(&cache->lock);
	for (uint32_t i = 0; i < cache->slot_count; i++) {
		struct slot *slot = &cache->slots[i];
		if (!slot->page.data || slot->stale ||
		    (segment && slot->page.key.segment != segment))
			continue;
		if (slot->pins && !segment)
			continue;
		unlink_locked(cache, slot);
		if (slot->pins)
			slot->stale = true;
		else
			release_locked(cache, slot);
	}
	(void)pthread_mutex_unlock(&cache->lock);
}

void page_cache_stats(struct page_cache *cache, uint64_t *ret_hits, uint64_t *ret_misses,
		      uint64_t *ret_bytes)
{
	(void)pthread_mutex_lock(&cache->lock);
	*ret_hits = cache->hits;
	*ret_misses = cache->misses;
	*ret_bytes = cache->bytes;
	(void)pthread_mutex_unlock(&cache->lock);
}
