/*
 * Durable here, and then elsewhere: what engine_commit and engine_sync wait for.
 *
 * The lengths that a caller asked for are fixed first, then committed on this disk, then waited for
 * at the keeper, which may take as long as the place is away. No lock and no flag is held
 * meanwhile, so that everybody else goes on; the background's own commits never come here.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/core.h"

struct lengths {
	struct remote_length *items;
	size_t count, capacity;
};

static void lengths_done(struct lengths *lengths)
{
	free(lengths->items);
}

static int lengths_add(struct lengths *lengths, const struct remote_length *length)
{
	if (lengths->count == lengths->capacity) {
		size_t capacity = lengths->capacity ? lengths->capacity * 2 : 16;
		struct remote_length *items = realloc(lengths->items, capacity * sizeof(*items));
		if (!items)
			return -ENOMEM;
		lengths->items = items;
		lengths->capacity = capacity;
	}
	lengths->items[lengths->count++] = *length;
	return 0;
}

/*
 * The bytes of SEGMENT below WANTED (UINT64_MAX: all) that the keeper is to have; none of a removed
 * segment, which nobody misses, nor of an inherited one, which its own store has brought there.
 */
static bool length_of(struct engine_segment *segment, uint64_t wanted, struct remote_length *ret)
{
	segment_lock(segment);
	bool removed = segment->state == ENGINE_SEGMENT_REMOVED;
	uint64_t length = segment->length;
	segment_unlock(segment);
	*ret = (struct remote_length){.segment = segment->uuid,
				      .length = wanted < length ? wanted : length};
	return !removed && !segment->inherited && ret->length > 0;
}

static int wait_for(struct remote_keeper *keeper, const struct lengths *lengths, struct reterr *err)
{
	if (lengths->count == 0)
		return 0;
	return keeper->ops->wait_bytes(keeper, lengths->items, lengths->count, err);
}

/* Everything accepted so far that KEEPER does not say it has. */
static int collect_all(struct engine *e, struct remote_keeper *keeper, struct lengths *lengths)
{
	struct engine_segment *segment;
	int r = 0;

	for (uint32_t number = 0; r == 0 && (segment = engine_segment_next(e, number));
	     number = segment->number) {
		struct remote_length length;
		if (length_of(segment, UINT64_MAX, &length) &&
		    keeper->ops->safe_length(keeper, &segment->uuid) < length.length)
			r = lengths_add(lengths, &length);
	}
	return r;
}

int keeper_sync(struct engine *e, struct remote_keeper *keeper, struct reterr *err)
{
	CLEANUP(lengths_done) struct lengths lengths = {0};

	int r = collect_all(e, keeper, &lengths);
	if (r < 0)
		return r;
	r = commit_all(e, err);
	return r < 0 ? r : wait_for(keeper, &lengths, err);
}

void engine_set_keeper(struct engine *e, struct remote_keeper *keeper)
{
	atomic_store(&e->keeper, keeper);
}

int engine_commit(struct engine *e, const struct engine_position *positions, size_t count,
		  struct reterr *err)
{
	CLEANUP(lengths_done) struct lengths lengths = {0};
	struct remote_keeper *keeper = atomic_load(&e->keeper);
	int r = 0;

	for (size_t i = 0; keeper && i < count && r == 0; i++) {
		struct remote_length length;
		if (length_of(positions[i].segment, positions[i].length, &length))
			r = lengths_add(&lengths, &length);
	}
	if (r == 0)
		r = commit_positions(e, positions, count, err);
	return r < 0 || !keeper ? r : wait_for(keeper, &lengths, err);
}

int engine_sync(struct engine *e, struct reterr *err)
{
	struct remote_keeper *keeper = atomic_load(&e->keeper);
	return keeper ? keeper_sync(e, keeper, err) : commit_all(e, err);
}
