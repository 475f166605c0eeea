/* The next manifest: what it lists, and what follows when it is there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "cloud/upload_plan.h"

bool upload_manifest_due(const struct upload_plan *plan, uint64_t now_ms)
{
	if (!plan->open)
		return false;
	if (plan->left == 0)
		return true;
	if (now_ms < plan->manifest_ms + plan->interval_ms ||
	    now_ms < plan->tick_ms + plan->interval_ms)
		return false;
	/* A long round: what is there already counts before it ends. */
	for (size_t i = 0; i < plan->table.active_count; i++)
		if (upload_unlisted(&plan->table.segments[plan->table.active[i]]))
			return true;
	return false;
}

/*
 * From which manifest on the list reaches. Lists that reach far are made rarely, and an older list is
 * only written anew together with one that is at least half as long, so that all of this costs each
 * segment a logarithm.
 */
static unsigned choose_runs(const struct upload_plan *plan, size_t changes)
{
	const struct upload_chain *chain = &plan->chain;
	unsigned kept = chain->run_count;
	uint64_t entries = changes + plan->since_run;
	while (kept > 0) {
		uint64_t older = chain->runs[kept - 1].entries;
		if (older > 2 * entries || older + entries > MANIFEST_SEGMENTS_MAX)
			break;
		entries += older;
		kept--;
	}
	return kept;
}

static bool run_due(const struct upload_plan *plan)
{
	const struct upload_chain *chain = &plan->chain;
	if (chain->run_count == 0)
		return true;
	return chain->n + 1 - chain->runs[chain->run_count - 1].n >= UPLOAD_RUN_EVERY ||
	       plan->since_run >= MANIFEST_SEGMENTS_MAX / 2;
}

static int compare(const void *a, const void *b)
{
	const struct manifest_segment *x = a, *y = b;
	return memcmp(x->uuid.bytes, y->uuid.bytes, sizeof(x->uuid.bytes));
}

/* What is said of S now, or again. */
static struct manifest_segment entry_of(const struct upload_segment *s, bool change)
{
	struct manifest_segment entry = {
		.uuid = s->uuid,
		.length = s->listed,
		.class = s->class,
		.ended = s->listed_ended,
		.summed = s->summed,
		.sum = s->sum,
	};
	if (!change)
		return entry;
	if (entry.length != upload_covered(s))
		entry.summed = false;
	entry.length = upload_covered(s);
	entry.ended = upload_ended(s);
	return entry;
}

static bool is_change(const struct upload_segment *s)
{
	return s->active && upload_unlisted(s);
}

static size_t count_changes(const struct upload_plan *plan)
{
	size_t count = 0;
	for (size_t i = 0; i < plan->table.active_count; i++)
		count += is_change(&plan->table.segments[plan->table.active[i]]);
	return count;
}

static bool is_lost(const struct upload_plan *plan, const struct uuid *uuid)
{
	const struct upload_segment *s = upload_table_find(&plan->table, uuid);
	return s && s->lost;
}

/* Lists what changed, and what changed since SINCE. */
static int fill(struct upload_plan *plan, uint64_t since, size_t changes_max)
{
	struct upload_table *table = &plan->table;
	struct manifest *draft = &plan->draft;
	bool only_changes = since != 0 && since == plan->chain.n;
	size_t capacity = only_changes ? table->active_count : table->count;
	draft->segments = calloc(capacity + 1, sizeof(*draft->segments));
	if (!draft->segments)
		return -ENOMEM;
	for (size_t i = 0; i < capacity; i++) {
		const struct upload_segment *s =
			&table->segments[only_changes ? table->active[i] : i];
		bool change = is_change(s) && changes_max > 0;
		if (!change && (s->listed_n == 0 || s->listed_n <= since))
			continue;
		changes_max -= change;
		draft->segments[draft->segment_count++] = entry_of(s, change);
	}
	qsort(draft->segments, draft->segment_count, sizeof(*draft->segments), compare);
	plan->draft_sum = calloc(draft->segment_count + 1, sizeof(*plan->draft_sum));
	if (!plan->draft_sum)
		return -ENOMEM;
	for (size_t i = 0; i < draft->segment_count; i++)
		plan->draft_sum[i] = !draft->segments[i].summed &&
				     !is_lost(plan, &draft->segments[i].uuid);
	return 0;
}

/* CLAIM: a manifest of this session, before any object. */
int upload_draft_prepare(struct upload_plan *plan, bool claim)
{
	const struct upload_chain *chain = &plan->chain;
	size_t changes = count_changes(plan);
	bool all = changes <= UPLOAD_CHANGES_MAX;
	if (!all)
		changes = UPLOAD_CHANGES_MAX;

	upload_draft_done(plan);
	plan->draft = (struct manifest){
		.n = chain->n + 1,
		.previous = chain->hash,
		.owner = plan->store,
		.epoch = chain->epoch + claim,
		.session = plan->session,
		.block_size = plan->table.block_size,
		.root = chain->root,
	};
	memcpy(plan->draft.host, plan->host, sizeof(plan->host));
	plan->draft_closes = !claim && plan->open && plan->left == 0 && all;
	if (plan->draft_closes && !plan->lacks && plan->snapshot_root.seq > chain->root.seq)
		plan->draft.root = plan->snapshot_root;

	uint64_t since = chain->n;
	if (run_due(plan)) {
		unsigned kept = choose_runs(plan, changes);
		since = kept > 0 ? chain->runs[kept - 1].n : 0;
		if (kept > 0)
			plan->draft.since_hash = chain->runs[kept - 1].hash;
	}
	plan->draft.since = since;
	int r = fill(plan, since, changes);
	if (r < 0)
		upload_draft_done(plan);
	return r;
}

/* It has something to say that no manifest said. */
static int print(struct upload_plan *plan)
{
	plan->text.max = MANIFEST_SIZE_MAX;
	buf_clear(&plan->text);
	int r = manifest_print(&plan->draft, &plan->text);
	if (r == 0)
		r = upload_record_begin(&plan->record);
	if (r == 0)
		r = upload_record_manifest(&plan->record, plan->draft.n,
					   (struct slice){plan->text.data, plan->text.size});
	if (r == 0)
		r = upload_record_end(&plan->record);
	return r;
}

int upload_draft_print(struct upload_plan *plan)
{
	int r = print(plan);
	if (r < 0) {
		buf_clear(&plan->text);
		return r;
	}
	plan->text_hash = hash_of(plan->text.data, plan->text.size);
	plan->text_saved = false;
	return 0;
}

int upload_draft_parse(struct upload_plan *plan, struct reterr *err)
{
	upload_draft_done(plan);
	plan->text_hash = hash_of(plan->text.data, plan->text.size);
	plan->text_saved = true;
	return manifest_parse((struct slice){plan->text.data, plan->text.size}, &plan->draft, err);
}

static void push_run(struct upload_plan *plan)
{
	struct upload_chain *chain = &plan->chain;
	const struct manifest *draft = &plan->draft;
	while (chain->run_count > 0 && chain->runs[chain->run_count - 1].n > draft->since)
		chain->run_count--;
	invariant(chain->run_count < MANIFEST_RUNS_MAX);
	chain->runs[chain->run_count++] = (struct manifest_run){
		.n = draft->n, .hash = plan->text_hash, .entries = draft->segment_count};
	plan->since_run = 0;
}

/* False: it is what an earlier manifest said. */
static bool note_listed(struct upload_plan *plan, const struct manifest_segment *entry)
{
	struct upload_segment *s = upload_table_find(&plan->table, &entry->uuid);
	if (!s)
		return false; /* out of an older session, and removed since */
	bool change = s->listed_n == 0 || entry->length != s->listed ||
		      entry->ended != s->listed_ended;
	s->summed = entry->summed;
	s->sum = entry->sum;
	if (!change)
		return false;
	/* Of what is still missing, the oldest came after the snapshot, if that is reached. */
	if (plan->open && entry->length >= s->target)
		s->behind_ms = plan->snapshot_ms;
	if (entry->length >= s->durable)
		s->behind_ms = 0;
	s->listed = entry->length;
	s->listed_ended = entry->ended;
	s->listed_n = plan->draft.n;
	return true;
}

static int confirm(struct upload_plan *plan)
{
	struct upload_chain *chain = &plan->chain;
	int r = upload_record_begin(&plan->record);
	if (r == 0)
		r = upload_record_chain(&plan->record, chain);
	for (size_t i = 0; i < plan->draft.segment_count && r == 0; i++) {
		struct upload_segment *s =
			upload_table_find(&plan->table, &plan->draft.segments[i].uuid);
		if (s && s->listed_n == chain->n)
			r = upload_plan_record(plan, s);
	}
	return r < 0 ? r : upload_record_end(&plan->record);
}

int upload_draft_confirmed(struct upload_plan *plan, uint64_t now_ms)
{
	struct upload_chain *chain = &plan->chain;
	const struct manifest *draft = &plan->draft;
	if (chain->n < draft->n) {
		size_t changes = 0;
		for (size_t i = 0; i < draft->segment_count; i++)
			changes += note_listed(plan, &draft->segments[i]);
		if (draft->since == 0 || draft->since != draft->n - 1)
			push_run(plan);
		else
			plan->since_run += changes;
		chain->n = draft->n;
		chain->hash = plan->text_hash;
		chain->epoch = draft->epoch;
		chain->root = draft->root;
		chain->owner = draft->owner;
		if (plan->root.seq <= chain->root.seq)
			plan->root_behind_ms = 0;
		else if (plan->draft_closes)
			plan->root_behind_ms = plan->snapshot_ms;
		plan->manifests++;
		plan->manifest_ms = plan->verified_ms = now_ms;
		plan->owner_fresh = false;
		plan->evict_due = plan->disk_max > 0;
		if (plan->draft_closes)
			upload_snapshot_close(plan);
	}
	return confirm(plan); /* without memory it is made again */
}

void upload_draft_done(struct upload_plan *plan)
{
	manifest_done(&plan->draft);
	free(plan->draft_sum);
	plan->draft_sum = NULL;
	plan->draft_ready = false;
	plan->draft_closes = false;
}
