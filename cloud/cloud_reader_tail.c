/*
 * The tail of a segment that still grows: deltas, of which each holds bytes [from, to) of a block that is
 * not there yet. They may overlap, and then must be equal there; what disagrees is damage.
 *
 * What a listing found is remembered for a few tails. It may be out of date at any time: a delta that is
 * gone makes the reader forget it, look for the block, and list again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/block_cache.h"
#include "cloud/cloud_reader.h"

enum { COMPARE_SIZE = 64 << 10 };

/* ---- What is remembered ---- */

static bool is_at(const struct tail *tail, const struct place *place)
{
	return tail->position == place->position && uuid_equal(&tail->segment, place->segment);
}

struct tail *tail_find(struct cloud_reader *reader, const struct place *place)
{
	struct tail *found = NULL;
	pthread_mutex_lock(&reader->lock);
	for (size_t i = 0; i < READER_TAILS_MAX && !found; i++) {
		if (reader->tails[i] && is_at(reader->tails[i], place))
			found = reader->tails[i];
	}
	if (found)
		found->refs++;
	pthread_mutex_unlock(&reader->lock);
	return found;
}

void tail_unref(struct cloud_reader *reader, struct tail *tail)
{
	pthread_mutex_lock(&reader->lock);
	bool last = --tail->refs == 0;
	pthread_mutex_unlock(&reader->lock);
	if (!last)
		return;
	free(tail->deltas);
	free(tail);
}

void tail_forget(struct cloud_reader *reader, const struct tail *tail)
{
	struct tail *forgotten = NULL;
	pthread_mutex_lock(&reader->lock);
	for (size_t i = 0; i < READER_TAILS_MAX; i++) {
		if (reader->tails[i] == tail) {
			forgotten = reader->tails[i];
			reader->tails[i] = NULL;
		}
	}
	pthread_mutex_unlock(&reader->lock);
	if (forgotten)
		tail_unref(reader, forgotten);
}

void tail_forget_all(struct cloud_reader *reader)
{
	for (size_t i = 0; i < READER_TAILS_MAX; i++) {
		if (reader->tails[i])
			tail_unref(reader, reader->tails[i]);
		reader->tails[i] = NULL;
	}
}

static void remember(struct cloud_reader *reader, struct tail *tail)
{
	const struct place place = {.segment = &tail->segment, .position = tail->position};
	pthread_mutex_lock(&reader->lock);
	size_t at = READER_TAILS_MAX;
	for (size_t i = 0; i < READER_TAILS_MAX; i++) {
		if (reader->tails[i] && is_at(reader->tails[i], &place))
			at = i;
	}
	if (at == READER_TAILS_MAX)
		at = reader->tail_next++ % READER_TAILS_MAX;
	struct tail *old = reader->tails[at];
	reader->tails[at] = tail;
	tail->refs++;
	pthread_mutex_unlock(&reader->lock);
	if (old)
		tail_unref(reader, old);
}

/* ---- Listing ---- */

struct listing {
	struct tail *tail;
	uint64_t block_size;
	size_t capacity;
	struct reterr *err;
};

static int add(void *arg, const char *text, uint64_t size)
{
	struct listing *listing = arg;
	struct tail *tail = listing->tail;
	struct block_key key;
	if (block_key_parse(text, &key) < 0 || key.kind != BLOCK_KEY_DELTA)
		return 0;
	if (key.to > listing->block_size || size != key.to - key.from)
		return reterr_set(listing->err, -EBADMSG,
				  "%s has %" PRIu64 " bytes, and a block %" PRIu64
				  ": that is no delta of this store",
				  text, size, listing->block_size);
	if (tail->count == READER_DELTAS_MAX)
		return reterr_set(listing->err, -EBADMSG, "%s: more than %d deltas of one block",
				  text, READER_DELTAS_MAX);
	if (tail->count == listing->capacity) {
		size_t capacity = listing->capacity ? listing->capacity * 2 : 16;
		struct delta *deltas = realloc(tail->deltas, capacity * sizeof(*deltas));
		if (!deltas)
			return reterr_set(listing->err, -ENOMEM, "no memory to list deltas");
		tail->deltas = deltas;
		listing->capacity = capacity;
	}
	tail->deltas[tail->count++] =
		(struct delta){.from = (uint32_t)key.from, .to = (uint32_t)key.to};
	return 0;
}

int tail_list(struct cloud_reader *reader, const struct place *place, struct tail **ret,
	      struct reterr *err)
{
	char prefix[BLOCK_KEY_MAX + 1];
	size_t length = strlen(reader_block_key(place, prefix));
	(void)snprintf(prefix + length, sizeof(prefix) - length, "+");

	struct tail *tail = calloc(1, sizeof(*tail));
	if (!tail)
		return reterr_set(err, -ENOMEM, "no memory to list deltas");
	tail->refs = 1;
	tail->segment = *place->segment;
	tail->position = place->position;

	/* The callback's own error must outlive what the store says of it. */
	struct reterr found = {0};
	struct listing listing = {.tail = tail, .block_size = reader->block_size, .err = &found};
	int r = block_store_list(reader->store, prefix, "", add, &listing, err);
	if (r < 0) {
		if (found.code && err)
			*err = found;
		tail_unref(reader, tail);
		return reader_fail(err, r);
	}
	if (tail->count)
		remember(reader, tail);
	*ret = tail;
	return 0;
}

/* ---- Reading ---- */

static char *delta_key(const struct tail *tail, const struct delta *delta,
		       char key[static BLOCK_KEY_MAX + 1])
{
	const struct block_key parsed = {.kind = BLOCK_KEY_DELTA,
					 .segment = tail->segment,
					 .position = tail->position,
					 .from = delta->from,
					 .to = delta->to};
	return block_key_format(&parsed, key);
}

/* Bytes [from, to) of the block out of DELTA, which holds them. */
static int read_delta(struct cloud_reader *reader, const struct tail *tail,
		      const struct delta *delta, void *data, uint64_t from, uint64_t to,
		      struct reterr *err)
{
	char key[BLOCK_KEY_MAX + 1];
	struct block_head head;
	size_t got;
	(void)delta_key(tail, delta, key);
	int r = block_cache_read(reader->cache, key, data, (size_t)(to - from), from - delta->from,
				 &got, &head, err);
	if (r < 0)
		return reader_fail(err, r);
	if (head.size != delta->to - delta->from || got != to - from)
		return reterr_set(err, -EBADMSG, "%s has %" PRIu64 " bytes: its name says another",
				  key, head.size);
	return 0;
}

/* Bytes [from, to) of DELTA must be those at HAVE, which came from others. */
static int compare(struct cloud_reader *reader, const struct tail *tail, const struct delta *delta,
		   const uint8_t *have, uint64_t from, uint64_t to, struct reterr *err)
{
	uint8_t *chunk = malloc(COMPARE_SIZE);
	int r = chunk ? 0 : reterr_set(err, -ENOMEM, "no memory to compare deltas");
	for (uint64_t at = from; r == 0 && at < to;) {
		uint64_t end = to - at < COMPARE_SIZE ? to : at + COMPARE_SIZE;
		r = read_delta(reader, tail, delta, chunk, at, end, err);
		if (r == 0 && memcmp(chunk, have + (at - from), (size_t)(end - at)) != 0) {
			char key[BLOCK_KEY_MAX + 1];
			r = reterr_set(err, -EBADMSG,
				       "%s disagrees with another delta of these bytes",
				       delta_key(tail, delta, key));
		}
		at = end;
	}
	free(chunk);
	return r;
}

/* All that will be read next, at once: each is one request. */
static void want(struct cloud_reader *reader, const struct tail *tail, uint64_t from, uint64_t to)
{
	for (size_t i = 0; i < tail->count; i++) {
		const struct delta *delta = &tail->deltas[i];
		char key[BLOCK_KEY_MAX + 1];
		if (delta->from >= to)
			return;
		if (delta->to > from)
			block_cache_want(reader->cache, delta_key(tail, delta, key));
	}
}

int tail_read(struct cloud_reader *reader, const struct tail *tail, const struct place *place,
	      void *data, size_t size, size_t *ret, struct reterr *err)
{
	uint8_t *bytes = data;
	uint64_t begin = place->offset, end = begin + size, covered = begin;
	want(reader, tail, begin, end);
	for (size_t i = 0; i < tail->count; i++) {
		const struct delta *delta = &tail->deltas[i];
		if (delta->from > covered || delta->from >= end)
			break;
		if (delta->to <= begin)
			continue;
		uint64_t from = delta->from > begin ? delta->from : begin;
		uint64_t to = delta->to < end ? delta->to : end;
		uint64_t known = to < covered ? to : covered;
		int r = 0;
		if (from < known)
			r = compare(reader, tail, delta, bytes + (from - begin), from, known, err);
		if (r == 0 && to > covered) {
			r = read_delta(reader, tail, delta, bytes + (covered - begin), covered, to,
				       err);
			covered = to;
		}
		if (r < 0)
			return r;
	}
	if (covered == begin && size > 0)
		return -ENOENT;
	*ret = (size_t)(covered - begin);
	return 0;
}

/* ---- Frames ---- */

int tail_frame_before(struct cloud_reader *reader, const struct tail *tail,
		      const struct place *place, uint64_t *ret, struct reterr *err)
{
	if (!tail->count)
		return -ENOENT;
	for (size_t i = tail->count; i-- > 0;) {
		const struct delta *delta = &tail->deltas[i];
		char key[BLOCK_KEY_MAX + 1];
		struct block_head head;
		if (delta->from > place->offset)
			continue;
		(void)delta_key(tail, delta, key);
		int r = 0;
		if (!block_cache_head(reader->cache, key, &head))
			r = block_store_head(reader->store, key, &head, err);
		if (r < 0)
			return reader_fail(err, r);
		if (head.first_frame >= head.size || head.first_frame >= delta->to - delta->from)
			continue;
		uint64_t frame = delta->from + head.first_frame;
		if (frame <= place->offset) {
			*ret = frame;
			return 0;
		}
	}
	return -ENODATA;
}
