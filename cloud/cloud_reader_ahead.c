/*
 * Reading ahead. Who reads a segment onward, densely, gets the next blocks fetched before he asks: two, and
 * twice as many with each block that he reaches, up to the limit. Who jumps gets nothing.
 *
 * A few streams are told apart by where each will go on; those who read at one time in several threads
 * come a little out of order. A jump takes the place of a stream that never was sequential, if there is
 * one, so that random reads do not wipe out the streams.
 */
#include "cloud/cloud_reader.h"

enum { WINDOW_FIRST = 2 };

#define SLACK ((uint64_t)2 << 20)       /* how far out of order is still in order */
#define DENSE_MIN ((uint64_t)256 << 10) /* read onward before anything is fetched */

static bool goes_on(const struct stream *stream, const struct uuid *segment, uint64_t offset)
{
	return stream->used && offset <= stream->next + SLACK && offset + SLACK >= stream->next &&
	       uuid_equal(&stream->segment, segment);
}

/* Who gives way: whoever was never sequential before all others, and of them who is unused longest. */
static struct stream *least(struct cloud_reader *reader)
{
	struct stream *least = &reader->streams[0];
	for (size_t i = 1; i < READER_STREAMS_MAX; i++) {
		struct stream *stream = &reader->streams[i];
		bool worse = (stream->window > 0) != (least->window > 0)
				     ? stream->window == 0
				     : stream->used < least->used;
		if (worse)
			least = stream;
	}
	return least;
}

/* The lock is held. */
static struct stream *stream_at(struct cloud_reader *reader, const struct uuid *segment,
				uint64_t offset)
{
	struct stream *stream = NULL;
	for (size_t i = 0; i < READER_STREAMS_MAX && !stream; i++) {
		if (goes_on(&reader->streams[i], segment, offset))
			stream = &reader->streams[i];
	}
	if (!stream) {
		stream = least(reader);
		*stream = (struct stream){.segment = *segment, .start = offset, .next = offset};
	}
	stream->used = ++reader->uses;
	return stream;
}

/* Blocks from here on are deltas yet, as far as we know. The lock is held. */
static uint64_t tail_block(const struct cloud_reader *reader, const struct uuid *segment)
{
	uint64_t block = UINT64_MAX;
	for (size_t i = 0; i < READER_TAILS_MAX; i++) {
		const struct tail *tail = reader->tails[i];
		if (!tail || !uuid_equal(&tail->segment, segment))
			continue;
		uint64_t at = tail->position / reader->block_size;
		block = at < block ? at : block;
	}
	return block;
}

/* The block that was read last. */
static uint64_t last_block(const struct cloud_reader *reader, const struct stream *stream)
{
	return stream->next ? (stream->next - 1) / reader->block_size : 0;
}

struct blocks {
	uint64_t from, to;
};

/* The first block behind the end of SEGMENT, as far as anybody knows. Without the lock. */
static uint64_t end_block(const struct cloud_reader *reader, const struct uuid *segment)
{
	uint64_t length = reader->length ? reader->length(reader->length_arg, segment) : UINT64_MAX;
	return length / reader->block_size + (length % reader->block_size != 0);
}

/* The lock is held. END is the first block that is not there. */
static struct blocks advance(struct cloud_reader *reader, struct stream *stream, uint64_t offset,
			     size_t size, uint64_t end)
{
	uint64_t before = last_block(reader, stream);
	uint64_t dense_min = reader->block_size / 4 < DENSE_MIN ? reader->block_size / 4
								: DENSE_MIN;
	stream->served += size;
	if (offset + size > stream->next)
		stream->next = offset + size;
	if (stream->served < dense_min || stream->served < (stream->next - stream->start) / 2)
		return (struct blocks){0};

	uint64_t block = last_block(reader, stream);
	if (stream->window == 0)
		stream->window = WINDOW_FIRST;
	else if (block > before)
		stream->window *= 2;
	if (stream->window > reader->ahead_max)
		stream->window = reader->ahead_max;

	struct blocks blocks = {.from = block + 1, .to = block + 1 + stream->window};
	uint64_t tail = tail_block(reader, &stream->segment);
	if (tail < end)
		end = tail;
	if (blocks.from < stream->ahead)
		blocks.from = stream->ahead;
	if (blocks.to > end)
		blocks.to = end;
	if (blocks.to > stream->ahead)
		stream->ahead = blocks.to;
	return blocks;
}

void reader_ahead(struct cloud_reader *reader, const struct uuid *segment, uint64_t offset,
		  size_t size)
{
	if (reader->ahead_max == 0)
		return;
	uint64_t end = end_block(reader, segment);
	pthread_mutex_lock(&reader->lock);
	struct stream *stream = stream_at(reader, segment, offset);
	struct blocks blocks = advance(reader, stream, offset, size, end);
	pthread_mutex_unlock(&reader->lock);
	for (uint64_t block = blocks.from; block < blocks.to; block++) {
		char key[BLOCK_KEY_MAX + 1];
		const struct place place = {.segment = segment,
					    .position = block * reader->block_size};
		block_cache_want(reader->cache, reader_block_key(&place, key));
	}
}
