/*
 * The uploader's journal as a witness. Only durable bytes leave the machine, and the journal says which
 * ones were put, listed by a manifest, or were about to be put: whatever a disk has lost since, these
 * were on it.
 */
#include <errno.h>

#include "cloud/upload_exec.h"
#include "cloud/upload_plan.h"

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t known_length(const struct upload_segment *s)
{
	return larger(larger(upload_covered(s), s->listed), s->intent_to);
}

static int tell_all(const struct upload_plan *plan, upload_witness_fn *fn, void *arg)
{
	int r = 0;

	/* Of another owner's chain nothing was ever here. */
	if (plan->sticky)
		return 0;
	for (size_t i = 0; i < plan->table.count && r == 0; i++) {
		const struct upload_segment *s = &plan->table.segments[i];
		if (!s->lost && known_length(s) > 0)
			r = fn(arg, &s->uuid, known_length(s));
	}
	/* A manifest on its way may list blocks of which no record tells yet. */
	for (size_t i = 0; i < plan->draft.segment_count && r == 0; i++) {
		const struct manifest_segment *entry = &plan->draft.segments[i];
		const struct upload_segment *s = upload_table_find(&plan->table, &entry->uuid);
		if (!s || (!s->lost && entry->length > known_length(s)))
			r = fn(arg, &entry->uuid, entry->length);
	}
	return r < 0 ? r : 0;
}

static int load(struct segment_source *source, const struct uuid *store, uint64_t block_size,
		struct upload_plan *plan, struct reterr *err)
{
	const struct upload_plan_options options = {
		.store = *store, .block_size = block_size, .conditional = true};

	int r = upload_plan_init(plan, &options);
	if (r < 0)
		return reterr_set(err, r, "no memory for the uploader's journal");
	return upload_load_journal(source, plan, err);
}

int upload_witness(struct segment_source *source, const struct uuid *store, uint64_t block_size,
		   upload_witness_fn *fn, void *arg, struct source_root *ret_root,
		   struct reterr *err)
{
	struct upload_plan plan = {0};

	int r = load(source, store, block_size, &plan, err);
	if (r == 0)
		r = tell_all(&plan, fn, arg);
	if (r == 0 && ret_root)
		*ret_root = plan.sticky ? (struct source_root){.seq = 0} : plan.chain.root;
	upload_plan_done(&plan);
	return r;
}

int upload_give_up(struct segment_source *source, const struct uuid *store, uint64_t block_size,
		   const struct uuid *segment, struct reterr *err)
{
	struct source_segment seen;
	struct upload_plan plan = {0};
	struct upload_segment *s;

	int r = load(source, store, block_size, &plan, err);
	if (r == 0)
		r = upload_table_add(&plan.table, segment, &s);
	if (r == 0)
		r = upload_record_begin(&plan.record);
	if (r == 0) {
		s->lost = true;
		s->lost_at = source->ops->find(source, segment, &seen) ? seen.durable : 0;
		r = upload_plan_record(&plan, s);
	}
	if (r == 0)
		r = upload_record_end(&plan.record);
	if (r == 0)
		r = source->ops->journal_append(source, plan.record.data, plan.record.size, err);
	upload_plan_done(&plan);
	return r;
}
