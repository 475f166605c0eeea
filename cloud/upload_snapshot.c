/* Looking at the source, and what a round has to bring to the place. */
#include <errno.h>
#include <stdlib.h>

#include "base/invariant.h"
#include "cloud/upload_plan.h"

/* ---- Scans ---------------------------------------------------------------------------------- */

/* The segments that are asked for one by one; the source appends those that are new. */
int upload_scan_prepare(struct upload_plan *plan, uint64_t now_ms)
{
	struct upload_scan *scan = &plan->scan;
	const struct upload_table *table = &plan->table;
	if (scan->capacity < table->active_count) {
		size_t capacity = 2 * table->active_count;
		void *segments = realloc(scan->segments, capacity * sizeof(*scan->segments));
		if (!segments)
			return -ENOMEM;
		scan->segments = segments;
		scan->capacity = capacity;
	}
	free(scan->gone);
	scan->gone = calloc(table->active_count + 1, sizeof(*scan->gone));
	if (!scan->gone)
		return -ENOMEM;
	for (size_t i = 0; i < table->active_count; i++)
		scan->segments[i].uuid = table->segments[table->active[i]].uuid;
	scan->asked = scan->count = table->active_count;
	scan->began_ms = now_ms;
	scan->since_ms = plan->changed && plan->changed_ms > 0 ? plan->changed_ms : now_ms;
	plan->changed = false;
	plan->scans++;
	return 0;
}

static int take_one(struct upload_plan *plan, const struct source_segment *seen, bool gone,
		    uint64_t now_ms)
{
	struct upload_segment *s = upload_table_find(&plan->table, &seen->uuid);
	if (gone) {
		invariant(s);
		s->here = false;
		s->intent_to = s->intent_sent ? s->intent_to : 0;
		s->target = 0;
		upload_note_progress(plan, s);
		if (s->lost)
			upload_note_mended(plan, s);
		return 0;
	}
	if (!s && seen->durable == 0)
		return 0; /* it costs nothing until its first byte */
	if (!s) {
		int r = upload_table_add(&plan->table, &seen->uuid, &s);
		if (r < 0)
			return r;
		/* What an earlier session put may be there, though the journal was lost. */
		if (plan->scan.after == 0 && !plan->place_empty)
			s->doubt = UPLOAD_AHEAD * plan->table.block_size;
		if (plan->scan.after == 0 && plan->recovered && !plan->place_empty)
			s->trash = 0;
	}
	upload_segment_see(s, seen, now_ms);
	if (s->lost)
		upload_note_lost(plan, s);
	upload_table_wake(&plan->table, s);
	return 0;
}

/*
 * A segment that has no byte yet is not kept, so that the next scan has to begin before it. RET:
 * whether all below it is known.
 */
static uint32_t known_up_to(const struct upload_scan *scan)
{
	uint32_t after = scan->after;
	for (size_t i = scan->asked; i < scan->count; i++) {
		if (scan->segments[i].durable == 0 && !scan->segments[i].final)
			break;
		after = scan->segments[i].number;
	}
	return after;
}

static void open_snapshot(struct upload_plan *plan, uint64_t now_ms)
{
	plan->open = true;
	plan->intents = true;
	plan->snapshot = plan->scans;
	plan->snapshot_ms = plan->scan.began_ms;
	plan->snapshot_root = plan->root;
	plan->tick_ms = now_ms;
	plan->left = 0;
	plan->lacks = false;
	for (size_t i = 0; i < plan->table.active_count; i++) {
		struct upload_segment *s = &plan->table.segments[plan->table.active[i]];
		s->target = s->here ? s->durable : 0;
		s->pending = s->here && upload_progress(s) < s->target;
		/* It never will be there, and holds up no other's bytes. */
		if (s->pending && s->lost) {
			s->pending = false;
			plan->lacks = true;
		}
		plan->left += s->pending;
	}
}

int upload_scan_take(struct upload_plan *plan, uint64_t now_ms)
{
	struct upload_scan *scan = &plan->scan;
	int r = 0;
	plan->root = scan->root;
	if (plan->root.seq > plan->chain.root.seq && plan->root_behind_ms == 0)
		plan->root_behind_ms = scan->since_ms;
	for (size_t i = 0; i < scan->count && r == 0; i++)
		r = take_one(plan, &scan->segments[i], i < scan->asked && scan->gone[i],
			     scan->since_ms);
	if (r < 0)
		return r;
	scan->after = known_up_to(scan);
	upload_table_settle(&plan->table);
	plan->evict_due = plan->disk_max > 0;
	if (now_ms >= plan->delete_ms)
		plan->keeps_deltas = false;
	if (upload_tick_due(plan, now_ms))
		open_snapshot(plan, now_ms);
	return 0;
}

/* ---- Snapshots ------------------------------------------------------------------------------ */

bool upload_dirty(const struct upload_plan *plan)
{
	if (plan->root.seq > plan->chain.root.seq)
		return true;
	for (size_t i = 0; i < plan->table.active_count; i++) {
		const struct upload_segment *s = &plan->table.segments[plan->table.active[i]];
		if ((s->here && s->durable > upload_safe(s)) || upload_unlisted(s) ||
		    (s->here && s->final && upload_progress(s) < s->durable) ||
		    (s->trash < s->full && !plan->keeps_deltas))
			return true;
	}
	return false;
}

bool upload_tick_due(const struct upload_plan *plan, uint64_t now_ms)
{
	if (plan->open || plan->phase != PHASE_RUN)
		return false;
	if (plan->wanted > plan->ended)
		return true;
	return (plan->tick_ms == 0 || now_ms >= plan->tick_ms + plan->interval_ms) &&
	       upload_dirty(plan);
}

void upload_note_progress(struct upload_plan *plan, struct upload_segment *s)
{
	if (s->pending && upload_progress(s) >= s->target) {
		s->pending = false;
		invariant(plan->left > 0);
		plan->left--;
	}
	plan->intents = plan->open;
	plan->no_transfer = false;
}

void upload_snapshot_close(struct upload_plan *plan)
{
	plan->open = false;
	plan->ended = plan->snapshot;
	if (!plan->lacks)
		plan->closed = plan->snapshot;
}

int upload_intents_prepare(struct upload_plan *plan)
{
	struct upload_table *table = &plan->table;
	size_t count = 0;
	int r = upload_record_begin(&plan->record);
	plan->intents = false;
	for (size_t i = 0; i < table->active_count && r == 0; i++) {
		struct upload_segment *s = &table->segments[table->active[i]];
		if (!upload_intend(table, s) && (s->intent_to == 0 || s->intent_saved))
			continue;
		r = upload_plan_record(plan, s);
		if (++count == UPLOAD_INTENTS_MAX) {
			plan->intents = true;
			break;
		}
	}
	if (r == 0 && count > 0)
		r = upload_record_end(&plan->record);
	if (r < 0)
		plan->intents = true;
	return r < 0 ? r : count > 0;
}
