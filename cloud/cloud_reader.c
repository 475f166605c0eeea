/*
 * Reads segments back: bytes of a segment from the block that holds them, or, where it is not there
 * yet, from the deltas that stand in for it.
 *
 * The uploader puts a block and then deletes its deltas. So whoever finds no block lists the deltas,
 * and whoever finds a delta gone looks for the block again. What is neither there nor there though it
 * must be is damage, and never zeros.
 */
#include "cloud/cloud_reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "cloud/block_cache.h"

/* Looks at a block, then its deltas, so often: each time something changed in between. */
enum { ROUNDS = 4 };

static struct cloud_reader *reader_of(struct remote_reader *base)
{
	return (struct cloud_reader *)base;
}

int reader_fail(struct reterr *err, int r)
{
	if (r == -EAGAIN)
		r = -ETIMEDOUT;
	else if (r == -EFBIG || r == -E2BIG || r == -EINVAL)
		r = -EBADMSG;
	if (err)
		err->code = r;
	return r;
}

int reader_stopped(const struct cloud_reader *reader, struct reterr *err)
{
	return atomic_load(&reader->stopped)
		       ? reterr_set(err, -ECANCELED, "reading from the cloud was stopped")
		       : 0;
}

char *reader_block_key(const struct place *place, char key[static BLOCK_KEY_MAX + 1])
{
	const struct block_key parsed = {
		.kind = BLOCK_KEY_BLOCK, .segment = *place->segment, .position = place->position};
	return block_key_format(&parsed, key);
}

/* ---- One block ---- */

/* -ENOENT: there is no block, or it ends before OFFSET; ERR says which. */
static int read_block(struct cloud_reader *reader, const struct place *place, void *data,
		      size_t size, bool *ret_there, size_t *ret, struct reterr *err)
{
	char key[BLOCK_KEY_MAX + 1];
	struct block_head head;
	size_t got;
	(void)reader_block_key(place, key);
	int r = block_cache_read(reader->cache, key, data, size, place->offset, &got, &head, err);
	*ret_there = r == 0;
	if (r < 0)
		return reader_fail(err, r);
	if (got == 0)
		return reterr_set(err, -ENOENT,
				  "%s ends at byte %" PRIu64 ", byte %" PRIu64 " is nowhere", key,
				  head.size, place->offset);
	*ret = got;
	return 0;
}

static int nowhere(const struct place *place, struct reterr *err)
{
	char key[BLOCK_KEY_MAX + 1];
	return reterr_set(err, -ENOENT,
			  "damage: there is neither a block %s nor a delta of it that holds byte "
			  "%" PRIu64,
			  reader_block_key(place, key), place->offset);
}

/* Bytes from PLACE on within its block; fewer only where nothing further is known. */
static int read_place(struct cloud_reader *reader, const struct place *place, void *data,
		      size_t size, size_t *ret, struct reterr *err)
{
	size_t before = 0;
	int r = -ENOENT;
	for (unsigned round = 0; round < ROUNDS; round++) {
		r = reader_stopped(reader, err);
		if (r < 0)
			return r;
		struct tail *tail = tail_find(reader, place);
		bool fresh = !tail, there = false;
		if (!tail) {
			r = read_block(reader, place, data, size, &there, ret, err);
			if (r != -ENOENT || there)
				return r;
			r = tail_list(reader, place, &tail, err);
			if (r < 0)
				return r;
		}
		r = tail_read(reader, tail, place, data, size, ret, err);
		/* Some of the deltas may have been gone already, for a block that we did not see. */
		bool enough = r == 0 && (*ret == size || (fresh && *ret == before));
		before = r == 0 ? *ret : 0;
		if (!enough)
			tail_forget(reader, tail);
		tail_unref(reader, tail);
		if (enough || (r < 0 && r != -ENOENT))
			return r;
	}
	return r == -ENOENT ? nowhere(place, err) : r;
}

static struct place place_of(const struct cloud_reader *reader, const struct uuid *segment,
			     uint64_t offset)
{
	return (struct place){
		.segment = segment,
		.position = offset - offset % reader->block_size,
		.offset = offset % reader->block_size,
	};
}

static int reader_read(struct remote_reader *base, const struct uuid *segment, void *data,
		       size_t size, uint64_t offset, size_t *ret, struct reterr *err)
{
	struct cloud_reader *reader = reader_of(base);
	size_t done = 0;
	if (offset > BLOCK_KEY_POSITION_MAX || size > BLOCK_KEY_POSITION_MAX - offset)
		return reterr_set(err, -ENOENT, "no segment has a byte %" PRIu64, offset);

	reader_ahead(reader, segment, offset, size);
	while (done < size) {
		const struct place place = place_of(reader, segment, offset + done);
		uint64_t rest = reader->block_size - place.offset;
		size_t want = size - done < rest ? size - done : (size_t)rest;
		size_t got = 0;
		int r = read_place(reader, &place, (uint8_t *)data + done, want, &got, err);
		if (r == -ENOENT && done > 0)
			break;
		if (r < 0)
			return r;
		done += got;
		if (got < want)
			break;
	}
	*ret = done;
	return 0;
}

/* ---- Frames ---- */

/* The head of a block: from the cache, or asked for. */
static int block_head(struct cloud_reader *reader, const struct place *place,
		      struct block_head *ret, struct reterr *err)
{
	char key[BLOCK_KEY_MAX + 1];
	(void)reader_block_key(place, key);
	if (block_cache_head(reader->cache, key, ret))
		return 0;
	int r = block_store_head(reader->store, key, ret, err);
	return r < 0 ? reader_fail(err, r) : 0;
}

/* In one block or its deltas. 0; -ENODATA no frame begins there, at or before PLACE. */
static int frame_in_place(struct cloud_reader *reader, const struct place *place, uint64_t *ret,
			  struct reterr *err)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct block_head head;
		int r = reader_stopped(reader, err);
		if (r == 0)
			r = block_head(reader, place, &head, err);
		if (r == 0) {
			*ret = head.first_frame;
			return head.first_frame < head.size && head.first_frame <= place->offset
				       ? 0
				       : -ENODATA;
		}
		if (r != -ENOENT)
			return r;
		struct tail *tail = tail_find(reader, place);
		if (!tail)
			r = tail_list(reader, place, &tail, err);
		else
			r = 0;
		if (r < 0)
			return r;
		r = tail_frame_before(reader, tail, place, ret, err);
		if (r == -ENOENT)
			tail_forget(reader, tail);
		tail_unref(reader, tail);
		if (r != -ENOENT)
			return r;
	}
	return nowhere(place, err);
}

static int reader_frame_before(struct remote_reader *base, const struct uuid *segment,
			       uint64_t offset, uint64_t *ret, struct reterr *err)
{
	struct cloud_reader *reader = reader_of(base);
	if (offset > BLOCK_KEY_POSITION_MAX)
		return reterr_set(err, -ENOENT, "no segment has a byte %" PRIu64, offset);
	struct place place = place_of(reader, segment, offset);
	for (;;) {
		uint64_t frame = 0;
		int r = frame_in_place(reader, &place, &frame, err);
		if (r == 0)
			*ret = place.position + frame;
		if (r != -ENODATA)
			return r;
		if (place.position == 0)
			break;
		place.position -= reader->block_size;
		place.offset = reader->block_size - 1;
	}
	*ret = 0; /* a segment begins with a frame */
	return 0;
}

/* ---- The rest ---- */

static void reader_stop(struct remote_reader *base)
{
	struct cloud_reader *reader = reader_of(base);
	atomic_store(&reader->stopped, true);
	block_cache_stop(reader->cache);
}

static const struct remote_reader_ops reader_ops = {
	.read = reader_read,
	.frame_before = reader_frame_before,
	.stop = reader_stop,
};

/* What is read ahead must not push out of the cache what was read ahead before it. */
static uint64_t ahead_max(struct block_cache *cache, const struct cloud_reader_options *options)
{
	struct block_cache_status status;
	block_cache_status(cache, &status);
	uint64_t max = options->read_ahead_blocks ? options->read_ahead_blocks
						  : (uint64_t)READER_AHEAD_DEFAULT;
	uint64_t fits = status.size_max / options->block_size / 8;
	if (max > READER_AHEAD_MAX)
		max = READER_AHEAD_MAX;
	return max < fits ? max : fits;
}

int cloud_reader_new(struct block_cache *cache, struct block_store *store,
		     const struct cloud_reader_options *options, struct remote_reader **ret)
{
	struct cloud_reader *reader = calloc(1, sizeof(*reader));
	if (!reader)
		return -ENOMEM;
	reader->base.ops = &reader_ops;
	reader->cache = cache;
	reader->store = store;
	reader->block_size = options->block_size;
	reader->ahead_max = ahead_max(cache, options);
	reader->length = options->length;
	reader->length_arg = options->length_arg;
	(void)pthread_mutex_init(&reader->lock, NULL);
	*ret = &reader->base;
	return 0;
}

void cloud_reader_free(struct remote_reader *base)
{
	if (!base)
		return;
	struct cloud_reader *reader = reader_of(base);
	tail_forget_all(reader);
	(void)pthread_mutex_destroy(&reader->lock);
	free(reader);
}
