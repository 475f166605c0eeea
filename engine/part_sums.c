#include "engine/part_sums.h"

#include <errno.h>
#include <stdlib.h>

#include "base/invariant.h"
#include "engine/engine.h"
#include "engine/part_format.h"

int part_sums_new(uint64_t start, uint64_t length_max, const void *head, struct part_sums **ret)
{
	struct part_sums *sums = calloc(1, sizeof(*sums));
	if (!sums)
		return -ENOMEM;
	sums->start = start;
	sums->length_max = length_max;
	sums->mib_first = start / ENGINE_SUM_SIZE;
	sums->pages = calloc((size_t)(length_max / PART_PAGE_SIZE) + 1, sizeof(struct hash));
	sums->mibs = calloc((size_t)(length_max / ENGINE_SUM_SIZE) + 2, sizeof(struct hash));
	if (!sums->pages || !sums->mibs || hash_stream_new(&sums->page) < 0 ||
	    hash_stream_new(&sums->mib) < 0) {
		part_sums_free(sums);
		return -ENOMEM;
	}
	if (start % ENGINE_SUM_SIZE)
		hash_stream_update(sums->mib, head, (size_t)(start % ENGINE_SUM_SIZE));
	*ret = sums;
	return 0;
}

void part_sums_free(struct part_sums *sums)
{
	if (!sums)
		return;
	hash_stream_free(sums->page);
	hash_stream_free(sums->mib);
	free(sums->pages);
	free(sums->mibs);
	free(sums);
}

/* Feeds STREAM up to the next multiple of UNIT; the sum of each whole unit goes to *SUMS. */
static void feed_units(struct hash_stream *stream, uint64_t position, uint64_t unit,
		       const uint8_t *data, size_t size, struct hash *sums)
{
	while (size) {
		uint64_t room = unit - position % unit;
		size_t take = size < room ? size : (size_t)room;
		hash_stream_update(stream, data, take);
		if (take == room) {
			*sums++ = hash_stream_sum(stream);
			hash_stream_reset(stream);
		}
		position += take;
		data += take;
		size -= take;
	}
}

void part_sums_feed(struct part_sums *sums, const void *data, size_t size)
{
	invariant(size <= sums->length_max - sums->length);

	uint64_t position = sums->start + sums->length;
	feed_units(sums->page, sums->length, PART_PAGE_SIZE, data, size,
		   sums->pages + sums->length / PART_PAGE_SIZE);
	feed_units(sums->mib, position, ENGINE_SUM_SIZE, data, size,
		   sums->mibs + (position / ENGINE_SUM_SIZE - sums->mib_first));
	sums->length += size;
}

struct hash part_sums_tail(const struct part_sums *sums)
{
	return hash_stream_sum(sums->page);
}
