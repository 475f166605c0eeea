/*
 * The sums of a part's bytes, taken as they pass by on their way to the disk (wal.c) or back from
 * it (seal.c): XXH3-128 of each page of the part, and of each MiB of the segment that ends in the
 * part.
 *
 * The arrays have their full size from the start, so that a reader may look at what lies below the
 * length that it knows of while the one writer goes on beyond.
 */
#ifndef PROTOFS_ENGINE_PART_SUMS_H
#define PROTOFS_ENGINE_PART_SUMS_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/hash.h"

struct part_sums {
	uint64_t start;  /* stream offset of the part */
	uint64_t length; /* bytes of the part that were fed */
	uint64_t length_max;
	struct hash *pages; /* length / PART_PAGE_SIZE whole ones */
	uint64_t mib_first; /* number of the first MiB that ends behind START */
	struct hash *mibs;  /* (start + length) / MiB - mib_first whole ones */
	struct hash_stream *page;
	struct hash_stream *mib;
};

/*
 * HEAD are the bytes of the segment from the last MiB boundary up to START: start % MiB of them.
 * -ENOMEM. Freed by part_sums_free (accepts NULL).
 */
MUST_CHECK int part_sums_new(uint64_t start, uint64_t length_max, const void *head,
			     struct part_sums **ret);
void part_sums_free(struct part_sums *sums);
void part_sums_feed(struct part_sums *sums, const void *data, size_t size);

static inline uint64_t part_sums_mib_count(const struct part_sums *sums, uint64_t length)
{
	uint64_t whole = (sums->start + length) >> 20;
	return whole > sums->mib_first ? whole - sums->mib_first : 0;
}

/* The sum of the last, partial page. */
struct hash part_sums_tail(const struct part_sums *sums);

#endif
