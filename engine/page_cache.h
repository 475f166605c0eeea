/*
 * Verified pages of parts, in memory under a hard limit. Shared by all segments; any thread.
 *
 * A page is immutable: what is cached was durable and matched its sum. Large reads go past the
 * cache (read.c), so that a scan does not flush what is hot.
 */
#ifndef PROTOFS_ENGINE_PAGE_CACHE_H
#define PROTOFS_ENGINE_PAGE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct page_key {
	uint32_t segment; /* number */
	uint32_t index;   /* of the page in its part */
	uint64_t start;   /* of the part */
};

struct page {
	struct page_key key;
	size_t size;
	uint8_t *data;
};

struct page_cache;

MUST_CHECK int page_cache_new(uint64_t size_max, struct page_cache **ret);
void page_cache_free(struct page_cache *cache); /* accepts NULL; no page may be pinned */

/* The page, pinned until page_unpin; NULL if it is not cached. */
const struct page *page_cache_find(struct page_cache *cache, const struct page_key *key);
/* Takes over DATA (malloc'ed) and returns the page pinned; on error DATA is freed. -ENOMEM. */
MUST_CHECK int page_cache_add(struct page_cache *cache, const struct page_key *key, uint8_t *data,
			      size_t size, const struct page **ret);
void page_unpin(struct page_cache *cache, const struct page *page);
/* Forgets a removed segment's pages, or all that are not pinned (0). */
void page_cache_drop(struct page_cache *cache, uint32_t segment);
void page_cache_stats(struct page_cache *cache, uint64_t *ret_hits, uint64_t *ret_misses,
		      uint64_t *ret_bytes);

#endif
