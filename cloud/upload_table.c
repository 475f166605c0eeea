#include "cloud/upload_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"

void upload_table_init(struct upload_table *table, uint64_t block_size)
{
	*table = (struct upload_table){.block_size = block_size};
}

void upload_table_done(struct upload_table *table)
{
	free(table->segments);
	free(table->slots);
	free(table->active);
	upload_table_init(table, table->block_size);
}

void upload_table_clear(struct upload_table *table)
{
	upload_table_done(table);
}

/* The slot of UUID, or the free one where it belongs. There is always a free one. */
static uint32_t *slot_of(const struct upload_table *table, const struct uuid *uuid)
{
	size_t i = hash64_of(uuid->bytes, sizeof(uuid->bytes)) & (table->slot_count - 1);
	while (table->slots[i] != 0 &&
	       !uuid_equal(&table->segments[table->slots[i] - 1].uuid, uuid))
		i = (i + 1) & (table->slot_count - 1);
	return &table->slots[i];
}

struct upload_segment *upload_table_find(const struct upload_table *table, const struct uuid *uuid)
{
	if (table->slot_count == 0)
		return NULL;
	uint32_t slot = *slot_of(table, uuid);
	return slot > 0 ? &table->segments[slot - 1] : NULL;
}

/* Room for twice as many; half of the slots stay free. */
static int grow(struct upload_table *table)
{
	size_t capacity = table->capacity > 0 ? 2 * table->capacity : 16;
	struct upload_segment *segments =
		realloc(table->segments, capacity * sizeof(*table->segments));
	if (!segments)
		return -ENOMEM;
	table->segments = segments;
	uint32_t *active = realloc(table->active, capacity * sizeof(*table->active));
	if (!active)
		return -ENOMEM;
	table->active = active;
	uint32_t *slots = calloc(2 * capacity, sizeof(*slots));
	if (!slots)
		return -ENOMEM;

	free(table->slots);
	table->slots = slots;
	table->slot_count = 2 * capacity;
	table->capacity = capacity;
	for (size_t i = 0; i < table->count; i++)
		*slot_of(table, &table->segments[i].uuid) = (uint32_t)(i + 1);
	return 0;
}

int upload_table_add(struct upload_table *table, const struct uuid *uuid,
		     struct upload_segment **ret)
{
	struct upload_segment *segment = upload_table_find(table, uuid);
	if (!segment) {
		if (table->count == UPLOAD_SEGMENTS_MAX)
			return -E2BIG;
		int r = table->count == table->capacity ? grow(table) : 0;
		if (r < 0)
			return r;
		segment = &table->segments[table->count++];
		*segment = (struct upload_segment){
			.uuid = *uuid, .trash = UPLOAD_NONE, .trash_sent = UPLOAD_NONE};
		*slot_of(table, uuid) = (uint32_t)table->count;
	}
	*ret = segment;
	return 0;
}

void upload_table_wake(struct upload_table *table, struct upload_segment *segment)
{
	if (segment->active)
		return;
	segment->active = true;
	table->active[table->active_count++] = (uint32_t)(segment - table->segments);
}

static bool at_rest(const struct upload_segment *s)
{
	if (s->trash != UPLOAD_NONE || s->trash_sent != UPLOAD_NONE || s->unsaved ||
	    s->intent_sent || s->sent_mask != 0)
		return false;
	return !s->here || (s->listed_ended && upload_progress(s) == s->durable &&
			    upload_ended(s) && !upload_unlisted(s));
}

void upload_table_settle(struct upload_table *table)
{
	size_t kept = 0;
	for (size_t i = 0; i < table->active_count; i++) {
		struct upload_segment *s = &table->segments[table->active[i]];
		s->active = !at_rest(s);
		if (s->active)
			table->active[kept++] = table->active[i];
	}
	table->active_count = kept;
}

void upload_segment_see(struct upload_segment *s, const struct source_segment *seen,
			uint64_t now_ms)
{
	s->here = true;
	s->number = seen->number;
	s->class = seen->class;
	s->foreign = seen->foreign;
	s->final = seen->final || seen->inherited;
	s->inherited = seen->inherited;
	if (!s->inherited && !s->lost &&
	    (seen->durable < upload_covered(s) || seen->durable < s->listed)) {
		s->lost = true;
		s->lost_at = seen->durable;
		s->unsaved = true;
	}
	if (seen->durable > s->durable)
		s->durable = seen->durable;
	if (s->durable > s->listed && s->behind_ms == 0)
		s->behind_ms = now_ms;
}

uint64_t upload_covered(const struct upload_segment *s)
{
	return s->tail_at <= s->full && s->tail_to > s->full ? s->tail_to : s->full;
}

bool upload_ends_short(const struct upload_segment *s)
{
	return s->here && s->final && !s->foreign;
}

bool upload_ended(const struct upload_segment *s)
{
	bool by_deltas = s->foreign || s->inherited;
	return s->here && s->final && (by_deltas ? upload_covered(s) : s->full) == s->durable;
}

uint64_t upload_progress(const struct upload_segment *s)
{
	uint64_t there = upload_ends_short(s) ? s->full : upload_covered(s);
	return s->lost && s->lost_at < there ? s->lost_at : there;
}

uint64_t upload_safe(const struct upload_segment *s)
{
	return s->lost && s->lost_at < s->listed ? s->lost_at : s->listed;
}

bool upload_unlisted(const struct upload_segment *s)
{
	uint64_t covered = upload_covered(s);
	if (s->lost)
		return false;
	return covered > s->listed || (covered > 0 && !s->listed_ended && upload_ended(s));
}

static uint64_t end_of_block(const struct upload_table *table, const struct upload_segment *s,
			     uint64_t position)
{
	uint64_t end = position + table->block_size;
	return end > s->durable ? s->durable : end;
}

bool upload_next_block(const struct upload_table *table, const struct upload_segment *s,
		       uint64_t *ret_position, uint64_t *ret_end)
{
	const uint64_t size = table->block_size;
	if (!s->here || s->full % size != 0)
		return false;
	for (unsigned i = 0; i < UPLOAD_WINDOW; i++) {
		uint64_t position = s->full + i * size;
		uint64_t end = end_of_block(table, s, position);
		if (end <= position || (end - position < size && !upload_ends_short(s)) ||
		    position >= s->saved + UPLOAD_AHEAD * size)
			return false;
		if (s->sent_mask >> i & 1)
			continue;
		*ret_position = position;
		*ret_end = end;
		return true;
	}
	return false;
}

static uint64_t bit_of(const struct upload_table *table, const struct upload_segment *s,
		       uint64_t position)
{
	uint64_t i = (position - s->full) / table->block_size;
	invariant(position >= s->full && i < UPLOAD_WINDOW);
	return UINT64_C(1) << i;
}

void upload_block_sent(const struct upload_table *table, struct upload_segment *s,
		       uint64_t position)
{
	s->sent_mask |= bit_of(table, s, position);
}

void upload_block_back(const struct upload_table *table, struct upload_segment *s,
		       uint64_t position)
{
	s->sent_mask &= ~bit_of(table, s, position);
}

/* Deltas of the block at POSITION may be left, and a whole block takes or will take their place. */
static void discard(struct upload_segment *s, uint64_t position)
{
	if (s->trash == UPLOAD_NONE || s->trash > position)
		s->trash = position;
	s->unsaved = true;
}

void upload_block_done(const struct upload_table *table, struct upload_segment *s,
		       uint64_t position)
{
	s->done_mask |= bit_of(table, s, position);
	while (s->done_mask & 1) {
		uint64_t at = s->full;
		s->full = end_of_block(table, s, at);
		s->done_mask >>= 1;
		s->sent_mask >>= 1;
		/* Its deltas are superfluous from now on. */
		if (s->tail_to > 0 && s->tail_at <= at) {
			discard(s, s->tail_at);
			s->tail_at = s->full;
			if (s->tail_to <= s->full)
				s->tail_to = 0;
		}
	}
}

/* Where the next delta of the block at POSITION begins. */
static uint64_t delta_from(const struct upload_segment *s, uint64_t position)
{
	return s->tail_to > 0 && s->tail_at == position ? s->tail_to : position;
}

bool upload_intend(const struct upload_table *table, struct upload_segment *s)
{
	uint64_t position = s->target - s->target % table->block_size;
	if (!s->here || !s->pending || s->intent_to > 0 || s->broken || upload_ends_short(s) ||
	    upload_progress(s) >= s->target)
		return false;
	uint64_t from = delta_from(s, position);
	/* A block that is full by now goes up as one. */
	if (s->full < position || from >= s->target || position + table->block_size <= s->durable)
		return false;
	s->intent_from = from;
	s->intent_to = s->target;
	s->intent_saved = false;
	s->intent_tried = false;
	return true;
}

bool upload_next_delta(const struct upload_table *table, struct upload_segment *s)
{
	if (!s->here || s->intent_to == 0 || s->intent_sent || !s->intent_saved)
		return false;
	uint64_t position = s->intent_from - s->intent_from % table->block_size;
	if (position + table->block_size <= s->durable || upload_ends_short(s) ||
	    s->intent_to <= upload_covered(s)) {
		if (s->intent_tried)
			discard(s, position);
		s->intent_to = 0;
		return false;
	}
	return position <= s->full && s->intent_to <= s->durable;
}

void upload_delta_done(const struct upload_table *table, struct upload_segment *s)
{
	s->tail_at = s->intent_from - s->intent_from % table->block_size;
	s->tail_to = s->intent_to;
	s->intent_to = 0;
	s->intent_sent = false;
	/* The block came first, out of a window that was under way. */
	if (s->tail_at < s->full) {
		discard(s, s->tail_at);
		s->tail_to = 0;
	}
}
