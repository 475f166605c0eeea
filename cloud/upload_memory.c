/* What the uploader remembers: its journal, and what it learns from the place when that is lost. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/upload_plan.h"

enum {
	SOME_MAX = 4096,              /* segments in one record */
	COMPACT_SEGMENTS_MAX = 32768, /* ... when all are written */
	COMPACT_BYTES_MIN = 1 << 20,
	SEGMENT_BYTES = 112, /* of a segment in a record */
};

/* ---- Loading -------------------------------------------------------------------------------- */

struct load {
	struct upload_plan *plan;
	struct reterr *err;
};

static int load_chain(void *arg, const struct upload_chain *chain)
{
	struct load *load = arg;
	struct upload_plan *plan = load->plan;
	if (chain->block_size != plan->table.block_size)
		return reterr_set(load->err, -EBADMSG,
				  "the uploader's journal is of blocks of %" PRIu64
				  " bytes, not %" PRIu64,
				  chain->block_size, plan->table.block_size);
	plan->chain = *chain;
	plan->phase = PHASE_VERIFY;
	if (chain->n >= plan->draft.n)
		buf_clear(&plan->text);
	return 0;
}

static int load_segment(void *arg, const struct upload_segment *segment)
{
	struct load *load = arg;
	struct upload_segment *s;
	int r = upload_table_add(&load->plan->table, &segment->uuid, &s);
	if (r == 0)
		*s = *segment;
	return r;
}

static int load_manifest(void *arg, uint64_t n, struct slice text)
{
	struct load *load = arg;
	struct buf *buf = &load->plan->text;
	buf->max = MANIFEST_SIZE_MAX;
	buf_clear(buf);
	load->plan->draft.n = n;
	return buf_append(buf, text.data, text.size);
}

static int load_fenced(void *arg, struct slice why)
{
	struct load *load = arg;
	struct upload_plan *plan = load->plan;
	plan->was_fenced = true;
	if (plan->take_over)
		return 0;
	plan->state = UPLOADER_FENCED;
	plan->sticky = true;
	plan->news = true;
	int length = why.size < RETERR_TEXT_SIZE ? (int)why.size : RETERR_TEXT_SIZE - 1;
	(void)reterr_set(&plan->error, -EROFS, "%.*s", length, (const char *)why.data);
	return 0;
}

int upload_plan_load(struct upload_plan *plan, struct slice record, struct reterr *err)
{
	struct reterr why = {0};
	struct load load = {.plan = plan, .err = &why};
	const struct upload_record_visitor visitor = {
		.chain = load_chain,
		.segment = load_segment,
		.manifest = load_manifest,
		.fenced = load_fenced,
		.arg = &load,
	};
	int r = upload_record_read(record, &visitor);
	plan->journal_bytes += record.size;
	if (r < 0 && why.code == 0)
		(void)reterr_set(&why, r,
				 r == -ENOMEM ? "no memory for the uploader's journal"
					      : "the uploader's journal is damaged");
	if (r < 0 && err)
		*err = why;
	return r;
}

int upload_plan_loaded(struct upload_plan *plan, struct reterr *err)
{
	struct upload_table *table = &plan->table;
	/* Nothing is known yet, or it was another store's chain that was being taken over. */
	if (plan->phase == PHASE_RECOVER || (plan->was_fenced && plan->take_over) ||
	    !uuid_equal(&plan->chain.owner, &plan->store)) {
		upload_forget_place(plan);
		return 0;
	}
	const uint64_t run =
		plan->chain.run_count > 0 ? plan->chain.runs[plan->chain.run_count - 1].n : 0;
	for (size_t i = 0; i < table->count; i++) {
		struct upload_segment *s = &table->segments[i];
		s->saved = s->saved_next = s->full;
		s->doubt = s->full + UPLOAD_AHEAD * table->block_size;
		s->intent_saved = s->intent_tried = s->intent_to > 0;
		plan->since_run += s->listed_n > run;
	}
	return plan->text.size > 0 ? upload_draft_parse(plan, err) : 0;
}

/* ---- Saving --------------------------------------------------------------------------------- */

int upload_plan_record(struct upload_plan *plan, struct upload_segment *s)
{
	int r = upload_record_segment(&plan->record, s);
	if (r == 0) {
		s->saved_next = s->full;
		s->unsaved = false;
	}
	return r;
}

static bool some(const struct upload_plan *plan, const struct upload_segment *s)
{
	return s->unsaved || s->full >= s->saved + UPLOAD_AHEAD / 2 * plan->table.block_size;
}

bool upload_some_due(const struct upload_plan *plan)
{
	for (size_t i = 0; i < plan->table.active_count; i++)
		if (some(plan, &plan->table.segments[plan->table.active[i]]))
			return true;
	return false;
}

int upload_some_prepare(struct upload_plan *plan)
{
	struct upload_table *table = &plan->table;
	size_t count = 0;
	int r = upload_record_begin(&plan->record);
	for (size_t i = 0; i < table->active_count && r == 0 && count < SOME_MAX; i++) {
		struct upload_segment *s = &table->segments[table->active[i]];
		if (!some(plan, s))
			continue;
		r = upload_plan_record(plan, s);
		count++;
	}
	return r < 0 ? r : upload_record_end(&plan->record);
}

/* The record, or all of them, is in the journal. */
void upload_saved(struct upload_plan *plan)
{
	struct upload_table *table = &plan->table;
	for (size_t i = 0; i < table->active_count; i++) {
		struct upload_segment *s = &table->segments[table->active[i]];
		if (s->saved_next > s->saved)
			s->saved = s->saved_next;
		if (plan->saving == SAVING_INTENTS && s->intent_to > 0)
			s->intent_saved = true;
	}
	if (plan->saving == SAVING_DRAFT)
		plan->text_saved = true;
	plan->journal_bytes += plan->record.size;
	plan->saving = SAVING_NOTHING;
	plan->no_transfer = false;
	buf_clear(&plan->record);
}

bool upload_compact_due(const struct upload_plan *plan)
{
	uint64_t live = plan->table.count * SEGMENT_BYTES;
	uint64_t limit = 4 * live > COMPACT_BYTES_MIN ? 4 * live : COMPACT_BYTES_MIN;
	return plan->compact || plan->journal_bytes > limit;
}

static int compact_segments(struct upload_plan *plan, size_t *next)
{
	int r = 0;
	for (size_t count = 0; r == 0 && *next < plan->table.count && count < COMPACT_SEGMENTS_MAX;
	     count++)
		r = upload_plan_record(plan, &plan->table.segments[(*next)++]);
	return r;
}

void upload_records_done(struct upload_plan *plan)
{
	for (size_t i = 0; i < plan->record_count; i++)
		buf_done(&plan->records[i]);
	free(plan->records);
	plan->records = NULL;
	plan->record_count = 0;
}

int upload_compact_prepare(struct upload_plan *plan)
{
	size_t count = plan->table.count / COMPACT_SEGMENTS_MAX + 1, next = 0;
	int r = 0;
	upload_records_done(plan); /* of an attempt that found no memory */
	plan->records = calloc(count, sizeof(*plan->records));
	if (!plan->records)
		return -ENOMEM;
	plan->record_count = count;
	for (size_t i = 0; i < count && r == 0; i++) {
		r = upload_record_begin(&plan->record);
		if (r == 0 && i == 0)
			r = upload_record_chain(&plan->record, &plan->chain);
		if (r == 0)
			r = compact_segments(plan, &next);
		if (r == 0)
			r = upload_record_end(&plan->record);
		plan->records[i] = plan->record;
		plan->record = (struct buf){.data = NULL};
	}
	return r;
}

/* ---- Learning from the place ---------------------------------------------------------------- */

void upload_forget_place(struct upload_plan *plan)
{
	upload_table_clear(&plan->table);
	plan->news = plan->news || plan->broken > 0;
	plan->broken = 0;
	plan->chain =
		(struct upload_chain){.owner = plan->store, .block_size = plan->table.block_size};
	plan->since_run = 0;
	plan->scan.after = 0;
	plan->changed = true;
	plan->open = false;
	plan->phase = PHASE_RECOVER;
	buf_clear(&plan->text);
	upload_draft_done(plan);
	plan->draft.n = 0;
}

static int learn(struct upload_plan *plan, const struct chain_segment *listed,
		 const struct restore_coverage *coverage)
{
	const struct manifest_segment *entry = &listed->segment;
	const uint64_t size = plan->table.block_size;
	struct upload_segment *s;
	int r = upload_table_add(&plan->table, &entry->uuid, &s);
	if (r < 0)
		return r;
	/* Objects beyond what the manifest says are looked at before they are believed. */
	s->full = coverage->blocks < entry->length ? coverage->blocks : entry->length;
	if (s->full % size != 0 && !entry->ended)
		s->full -= s->full % size;
	if (s->full < entry->length) {
		s->tail_at = s->full;
		s->tail_to = entry->length;
	}
	s->doubt = coverage->length + size;
	s->trash = coverage->deltas;
	s->class = entry->class;
	s->listed = entry->length;
	s->listed_n = listed->n;
	s->listed_ended = entry->ended;
	s->summed = entry->summed;
	s->sum = entry->sum;
	return 0;
}

int upload_recovered(struct upload_plan *plan)
{
	const struct manifest_chain *read = &plan->chain_read;
	int r = 0;
	upload_forget_place(plan);
	for (size_t i = 0; i < read->count && r == 0; i++)
		r = learn(plan, &read->segments[i], &plan->coverage[i]);
	if (r < 0)
		return r;
	struct upload_chain *chain = &plan->chain;
	if (read->newest.n > 0) {
		chain->owner = read->newest.owner;
		chain->n = read->newest.n;
		chain->hash = read->hash;
		chain->epoch = read->newest.epoch;
		chain->root = read->newest.root;
		chain->run_count = read->run_count;
		memcpy(chain->runs, read->runs, sizeof(chain->runs));
	}
	plan->place_empty = read->newest.n == 0;
	plan->recovered = true;
	plan->compact = true;
	plan->phase = PHASE_CLAIM;
	return 0;
}

/* ---- Giving back disk space ----------------------------------------------------------------- */

void upload_evict_prepare(struct upload_plan *plan)
{
	size_t kept = 0;
	for (size_t i = 0; i < plan->part_count; i++) {
		const struct source_part *part = &plan->parts[i];
		const struct upload_segment *s = upload_table_find(&plan->table, &part->segment);
		/* Every block that overlaps it is whole or final, and in a manifest. */
		if (s && !s->lost && s->listed_n > 0 && part->end <= s->full &&
		    part->end <= s->listed)
			plan->parts[kept++] = *part;
	}
	plan->part_count = kept;
}
