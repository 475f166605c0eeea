#include "cloud/upload_plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"

int upload_plan_init(struct upload_plan *plan, const struct upload_plan_options *options)
{
	*plan = (struct upload_plan){
		.store = options->store,
		.interval_ms = options->interval_ms,
		.session = options->session,
		.disk_max = options->disk_max,
		.take_over = options->take_over,
		.conditional = true,
		.changed = true,
	};
	if (!options->conditional)
		upload_note_weak(plan);
	const char *host = options->host ? options->host : "?";
	for (size_t i = 0; i < MANIFEST_HOST_MAX && host[i] != '\0'; i++)
		plan->host[i] = host[i] > 32 && host[i] < 127 ? host[i] : '?';
	upload_table_init(&plan->table, options->block_size);
	plan->chain.owner = options->store;
	plan->chain.block_size = options->block_size;
	plan->scan.capacity = 16;
	plan->scan.segments = calloc(plan->scan.capacity, sizeof(*plan->scan.segments));
	return plan->scan.segments ? 0 : -ENOMEM;
}

static void read_done(struct upload_plan *plan)
{
	manifest_chain_done(&plan->chain_read);
	free(plan->coverage);
	plan->coverage = NULL;
}

void upload_plan_done(struct upload_plan *plan)
{
	upload_table_done(&plan->table);
	free(plan->scan.segments);
	free(plan->scan.gone);
	upload_draft_done(plan);
	buf_done(&plan->text);
	buf_done(&plan->record);
	upload_records_done(plan);
	read_done(plan);
}

void upload_plan_changed(struct upload_plan *plan, uint64_t now_ms)
{
	if (!plan->changed)
		plan->changed_ms = now_ms;
	plan->changed = true;
}

uint64_t upload_plan_want(struct upload_plan *plan, uint64_t now_ms)
{
	upload_plan_changed(plan, now_ms);
	plan->scan_after_ms = now_ms;
	plan->wanted = plan->scans + 1;
	return plan->wanted;
}

/* ---- Serial steps --------------------------------------------------------------------------- */

/* PREPARED: of a step that needed memory. */
static bool out(struct upload_plan *plan, uint64_t now_ms, int prepared, enum upload_kind kind,
		struct upload_step *ret)
{
	if (prepared < 0) {
		struct upload_result failed = {.r = prepared, .local = true};
		(void)reterr_set(&failed.err, prepared, "the uploader has no memory: %s",
				 strerror(-prepared));
		upload_retry_later(plan, now_ms, &failed);
		return false;
	}
	*ret = (struct upload_step){.kind = kind};
	plan->serial_out = true;
	return true;
}

static bool save(struct upload_plan *plan, uint64_t now_ms, int prepared, enum upload_saving saving,
		 struct upload_step *ret)
{
	if (prepared >= 0)
		plan->saving = saving;
	return out(plan, now_ms, prepared, UPLOAD_SAVE, ret);
}

static bool verified(const struct upload_plan *plan, uint64_t now_ms)
{
	uint64_t patience = 2 * plan->interval_ms;
	if (patience < UPLOAD_VERIFY_MS)
		patience = UPLOAD_VERIFY_MS;
	return plan->verified_ms > 0 && now_ms < plan->verified_ms + patience;
}

static bool verify(struct upload_plan *plan, uint64_t now_ms, struct upload_step *ret)
{
	if (!out(plan, now_ms, 0, UPLOAD_VERIFY, ret))
		return false;
	ret->n = plan->chain.n;
	ret->hash = plan->chain.hash;
	ret->has_pending = plan->text.size > 0;
	ret->pending = plan->text_hash;
	return true;
}

static bool put_manifest(struct upload_plan *plan, uint64_t now_ms, struct upload_step *ret)
{
	if (!plan->text_saved)
		return save(plan, now_ms, 0, SAVING_DRAFT, ret);
	if (!out(plan, now_ms, 0, UPLOAD_MANIFEST, ret))
		return false;
	ret->n = plan->draft.n;
	return true;
}

static bool draft(struct upload_plan *plan, uint64_t now_ms, bool claim, struct upload_step *ret)
{
	return out(plan, now_ms, upload_draft_prepare(plan, claim), UPLOAD_SUM, ret);
}

/* A snapshot that brought nothing new needs no manifest. */
static bool nothing_to_say(const struct upload_plan *plan)
{
	if (plan->left > 0 || (!plan->lacks && plan->snapshot_root.seq > plan->chain.root.seq))
		return false;
	for (size_t i = 0; i < plan->table.active_count; i++)
		if (upload_unlisted(&plan->table.segments[plan->table.active[i]]))
			return false;
	return true;
}

static bool next_run(struct upload_plan *plan, uint64_t now_ms, struct upload_step *ret)
{
	if (upload_tick_due(plan, now_ms)) {
		plan->scan_after_ms = now_ms;
		return out(plan, now_ms, upload_scan_prepare(plan, now_ms), UPLOAD_SCAN, ret);
	}
	if (plan->open && plan->intents) {
		int r = upload_intents_prepare(plan);
		if (r != 0)
			return save(plan, now_ms, r, SAVING_INTENTS, ret);
	}
	if (upload_manifest_due(plan, now_ms)) {
		if (!nothing_to_say(plan))
			return draft(plan, now_ms, false, ret);
		upload_snapshot_close(plan);
	}
	if (upload_some_due(plan))
		return save(plan, now_ms, upload_some_prepare(plan), SAVING_SOME, ret);
	return false;
}

/* The steps that speak to the place, and those that lead to them. */
static bool next_speaking(struct upload_plan *plan, uint64_t now_ms, struct upload_step *ret)
{
	if (plan->phase == PHASE_RECOVER) {
		bool done = out(plan, now_ms, 0, UPLOAD_RECOVER, ret);
		ret->claiming = plan->take_over;
		return done;
	}
	bool work = plan->text.size > 0 || plan->draft_ready || upload_dirty(plan);
	bool begins = plan->phase == PHASE_VERIFY || !verified(plan, now_ms);
	if (begins && work)
		return (!plan->verify_alone || plan->transfers_out == 0) &&
		       verify(plan, now_ms, ret);
	if (begins && plan->phase == PHASE_RUN)
		return next_run(plan, now_ms, ret);
	if (!work && plan->phase != PHASE_RUN) {
		/* All that was there when this was last looked at is in the place. */
		if (!plan->changed)
			plan->closed = plan->ended = plan->scans;
		return false;
	}
	if (!plan->conditional && !plan->owner_fresh && work) {
		bool done = out(plan, now_ms, 0, UPLOAD_OWNER, ret);
		ret->claiming = !plan->owner_mine;
		return done;
	}
	if (plan->text.size > 0)
		return put_manifest(plan, now_ms, ret);
	if (plan->draft_ready)
		return save(plan, now_ms, upload_draft_print(plan), SAVING_DRAFT, ret);
	if (plan->phase == PHASE_CLAIM)
		return draft(plan, now_ms, true, ret);
	return next_run(plan, now_ms, ret);
}

/* So that the next start knows it without asking anybody. If that fails, it asks. */
static bool save_fence(struct upload_plan *plan, uint64_t now_ms, struct upload_step *ret)
{
	plan->fence_unsaved = false;
	if (upload_record_begin(&plan->record) < 0 ||
	    upload_record_fenced(&plan->record, plan->error.text) < 0 ||
	    upload_record_end(&plan->record) < 0)
		return false;
	return out(plan, now_ms, 0, UPLOAD_SAVE, ret);
}

bool upload_plan_serial(struct upload_plan *plan, uint64_t now_ms, struct upload_step *ret)
{
	if (plan->serial_out)
		return false;
	if (plan->sticky)
		return plan->fence_unsaved && save_fence(plan, now_ms, ret);
	if (plan->saving != SAVING_NOTHING && now_ms >= plan->retry_ms)
		return out(plan, now_ms, 0, UPLOAD_SAVE, ret);
	if (plan->evict_ready)
		return out(plan, now_ms, 0, UPLOAD_EVICT, ret);
	if (plan->changed && now_ms >= plan->scan_after_ms)
		return out(plan, now_ms, upload_scan_prepare(plan, now_ms), UPLOAD_SCAN, ret);
	/* Only what this session knows to be in the place may go, but then also while that is away. */
	if (plan->evict_due && plan->phase == PHASE_RUN && now_ms >= plan->evict_after_ms)
		return out(plan, now_ms, 0, UPLOAD_PARTS, ret);
	if (!upload_may_speak(plan, now_ms))
		return false;
	if (plan->text.size == 0 && !plan->draft_ready && plan->phase != PHASE_RECOVER &&
	    upload_compact_due(plan))
		return out(plan, now_ms, upload_compact_prepare(plan), UPLOAD_COMPACT, ret);
	/* Nothing is known of the source yet. */
	if (plan->scans == 0 && plan->phase != PHASE_RECOVER)
		return false;
	return next_speaking(plan, now_ms, ret);
}

/* ---- Results -------------------------------------------------------------------------------- */

static void verified_now(struct upload_plan *plan, uint64_t now_ms,
			 const struct upload_result *result)
{
	/* What is on its way is of segments that would be forgotten: once more when it is over. */
	plan->verify_alone = result->empty && plan->transfers_out > 0;
	if (plan->verify_alone)
		return;
	if (result->empty && plan->chain.n > 0) {
		plan->notice = result->err;
		upload_forget_place(plan);
		plan->place_empty = true;
		plan->compact = true;
		plan->phase = PHASE_CLAIM;
	}
	plan->verified_ms = now_ms;
	if (plan->phase == PHASE_VERIFY)
		plan->phase = PHASE_CLAIM;
}

static int manifest_there(struct upload_plan *plan, uint64_t now_ms)
{
	bool claim = plan->draft.session == plan->session && plan->phase == PHASE_CLAIM;
	int r = upload_draft_confirmed(plan, now_ms);
	if (r < 0)
		return r;
	buf_clear(&plan->text);
	upload_draft_done(plan);
	plan->saving = SAVING_CONFIRM;
	plan->no_transfer = false;
	if (claim)
		plan->phase = PHASE_RUN;
	return 0;
}

static void serial_done(struct upload_plan *plan, uint64_t now_ms, const struct upload_step *step,
			struct upload_result *result)
{
	int r = 0;
	switch ((int)step->kind) {
	case UPLOAD_SCAN:
		r = upload_scan_take(plan, now_ms);
		plan->no_transfer = false;
		break;
	case UPLOAD_SAVE:
		upload_saved(plan);
		break;
	case UPLOAD_COMPACT:
		plan->compact = false;
		plan->journal_bytes = 0;
		upload_records_done(plan);
		upload_saved(plan);
		break;
	case UPLOAD_RECOVER:
		r = upload_recovered(plan);
		plan->verified_ms = now_ms;
		break;
	case UPLOAD_VERIFY:
		verified_now(plan, now_ms, result);
		break;
	case UPLOAD_OWNER:
		plan->owner_fresh = plan->owner_mine = true;
		break;
	case UPLOAD_SUM:
		plan->draft_ready = true;
		break;
	case UPLOAD_MANIFEST:
		r = manifest_there(plan, now_ms);
		break;
	case UPLOAD_PARTS:
		/* What is sealed later is looked for again, while there is too much. */
		plan->evict_due = plan->part_count > 0;
		plan->evict_after_ms = now_ms + UPLOAD_EVICT_MS;
		upload_evict_prepare(plan);
		plan->evict_ready = plan->part_count > 0 || plan->over != plan->over_told;
		break;
	case UPLOAD_EVICT:
		plan->evict_ready = false;
		if (plan->over && !plan->over_told)
			plan->notice = result->err;
		plan->over_told = plan->over;
		break;
	default:
		invariant(false);
	}
	result->r = r;
	result->local = r < 0;
}

static void serial_failed(struct upload_plan *plan, const struct upload_step *step)
{
	if (step->kind == UPLOAD_SCAN)
		plan->changed = true;
	if (step->kind == UPLOAD_COMPACT)
		upload_records_done(plan);
	if (step->kind == UPLOAD_PARTS || step->kind == UPLOAD_EVICT)
		plan->evict_ready = false;
}

/* ---- Transfers ------------------------------------------------------------------------------ */

static bool next_of(struct upload_plan *plan, struct upload_segment *s, struct upload_step *ret)
{
	const struct upload_table *table = &plan->table;
	uint64_t position, end;

	*ret = (struct upload_step){
		.segment = s->uuid, .index = (uint32_t)(s - table->segments), .n = plan->chain.n};
	if (upload_next_delta(table, s)) {
		ret->kind = UPLOAD_DELTA;
		ret->position = s->intent_from - s->intent_from % table->block_size;
		ret->from = s->intent_from;
		ret->to = s->intent_to;
		ret->look_first = s->intent_tried;
		s->intent_sent = s->intent_tried = true;
		return true;
	}
	if (upload_next_block(table, s, &position, &end)) {
		ret->kind = UPLOAD_BLOCK;
		ret->position = ret->from = position;
		ret->to = end;
		ret->last = end - position < table->block_size;
		ret->look_first = position < s->doubt;
		upload_block_sent(table, s, position);
		return true;
	}
	if (plan->keeps_deltas || s->trash == UPLOAD_NONE || s->trash_sent != UPLOAD_NONE ||
	    s->trash >= s->full || s->listed < s->full)
		return false;
	ret->kind = UPLOAD_DELETE;
	ret->from = s->trash;
	ret->to = s->full;
	s->trash_sent = s->trash;
	s->trash = UPLOAD_NONE;
	return true;
}

bool upload_plan_transfer(struct upload_plan *plan, uint64_t now_ms, struct upload_step *ret)
{
	if (plan->sticky || plan->phase != PHASE_RUN || plan->no_transfer ||
	    !upload_may_speak(plan, now_ms) || !verified(plan, now_ms) ||
	    (!plan->conditional && !plan->owner_fresh))
		return false;
	const size_t count = plan->table.active_count;
	bool passed = false;
	for (size_t i = 0; i < count; i++) {
		size_t at = (plan->cursor + i) % count;
		struct upload_segment *s = &plan->table.segments[plan->table.active[at]];
		if (s->broken && s->broken_until_ms > now_ms) {
			passed = true;
			continue;
		}
		if (!next_of(plan, s, ret))
			continue;
		plan->cursor = at + 1;
		plan->transfers_out++;
		return true;
	}
	plan->no_transfer = !passed;
	return false;
}

static void transfer_back(struct upload_plan *plan, const struct upload_step *step,
			  struct upload_segment *s)
{
	if (step->kind == UPLOAD_BLOCK)
		upload_block_back(&plan->table, s, step->position);
	else if (step->kind == UPLOAD_DELTA)
		s->intent_sent = false;
	else {
		s->trash = s->trash < s->trash_sent ? s->trash : s->trash_sent;
		s->trash_sent = UPLOAD_NONE;
	}
	plan->no_transfer = false;
}

static void transfer_done(struct upload_plan *plan, const struct upload_step *step,
			  struct upload_segment *s)
{
	if (step->kind == UPLOAD_BLOCK) {
		upload_block_done(&plan->table, s, step->position);
		plan->blocks_uploaded++;
	} else if (step->kind == UPLOAD_DELTA) {
		upload_delta_done(&plan->table, s);
		plan->deltas_uploaded++;
	} else {
		s->trash_sent = UPLOAD_NONE;
		s->unsaved = true;
	}
	upload_note_progress(plan, s);
}

/* What is here cannot be read: the others go on without it. */
static void transfer_broken(struct upload_plan *plan, uint64_t now_ms, struct upload_segment *s,
			    const struct upload_result *result)
{
	if (result->r == -ENOENT) {
		s->here = false;
		s->target = 0;
		upload_note_progress(plan, s);
		upload_note_mended(plan, s);
		return;
	}
	if (s->lost)
		return;
	plan->broken += !s->broken;
	s->broken = true;
	s->broken_until_ms = now_ms + UPLOAD_PROBE_MS;
	if (plan->broken_why.code != result->err.code ||
	    strcmp(plan->broken_why.text, result->err.text) != 0)
		plan->notice = result->err;
	plan->broken_why = result->err;
}

/* Superfluous deltas cost space, and nothing else: uploading goes on. */
static void deletion_refused(struct upload_plan *plan, uint64_t now_ms,
			     const struct upload_result *result)
{
	if (plan->delete_ms == 0)
		(void)reterr_set(
			&plan->notice, result->r,
			"superfluous deltas stay in the place, which refuses to delete: %.300s",
			result->err.text);
	plan->keeps_deltas = true;
	plan->delete_ms = now_ms + UPLOAD_DELETE_MS;
}

/* What follows from it; the step itself is out of the way. */
static void consider_failure(struct upload_plan *plan, uint64_t now_ms,
			     const struct upload_step *step, const struct upload_result *result)
{
	const bool transfer = step->kind >= UPLOAD_BLOCK;
	if (result->fenced)
		upload_stop_for_good(plan, result);
	else if (step->kind == UPLOAD_DELETE && result->r == -EACCES)
		deletion_refused(plan, now_ms, result);
	else if (transfer && result->local && result->r != -ENOMEM)
		transfer_broken(plan, now_ms, &plan->table.segments[step->index], result);
	else if (!plan->sticky)
		upload_retry_later(plan, now_ms, result);
}

void upload_plan_done_step(struct upload_plan *plan, uint64_t now_ms,
			   const struct upload_step *step, const struct upload_result *told)
{
	const bool transfer = step->kind >= UPLOAD_BLOCK;
	const bool speaks = transfer || (step->kind >= UPLOAD_RECOVER && step->kind != UPLOAD_SUM &&
					 step->kind < UPLOAD_PARTS);
	struct upload_result result = *told;
	struct upload_segment *s = transfer ? &plan->table.segments[step->index] : NULL;

	plan->bytes_uploaded += result.bytes;
	if (result.weak && plan->conditional)
		upload_note_weak(plan);
	if (transfer)
		plan->transfers_out--;
	else
		plan->serial_out = false;
	if (plan->sticky)
		return;
	if (result.r == 0 && (speaks || (plan->trouble_local && step->kind != UPLOAD_SCAN)))
		upload_trouble_over(plan);
	if (result.r == 0 && transfer) {
		if (!s->lost)
			upload_note_mended(plan, s);
		transfer_done(plan, step, s);
	} else if (result.r == 0)
		serial_done(plan, now_ms, step, &result);
	else if (transfer)
		transfer_back(plan, step, s);
	else
		serial_failed(plan, step);
	if (step->kind == UPLOAD_RECOVER)
		read_done(plan);

	if (result.r < 0 && result.r != -ECANCELED)
		consider_failure(plan, now_ms, step, &result);
}

/* ---- Time ----------------------------------------------------------------------------------- */

/* What lies behind us waits for an event. */
static void earlier(uint64_t *wake_ms, uint64_t now_ms, uint64_t at_ms)
{
	if (at_ms > now_ms && at_ms < *wake_ms)
		*wake_ms = at_ms;
}

uint64_t upload_plan_wake_ms(const struct upload_plan *plan, uint64_t now_ms)
{
	uint64_t wake_ms = UINT64_MAX;
	if (plan->sticky)
		return wake_ms;
	if (plan->changed)
		earlier(&wake_ms, now_ms, plan->scan_after_ms);
	if (plan->evict_due && plan->phase == PHASE_RUN)
		earlier(&wake_ms, now_ms, plan->evict_after_ms);
	earlier(&wake_ms, now_ms, plan->retry_ms);
	if (plan->retry_ms > now_ms)
		return wake_ms;
	if (plan->phase != PHASE_RUN)
		return wake_ms;
	if (plan->open)
		earlier(&wake_ms, now_ms,
			(plan->manifest_ms > plan->tick_ms ? plan->manifest_ms : plan->tick_ms) +
				plan->interval_ms);
	else if (upload_dirty(plan))
		earlier(&wake_ms, now_ms, plan->tick_ms + plan->interval_ms);
	for (size_t i = 0; plan->broken > 0 && i < plan->table.active_count; i++)
		earlier(&wake_ms, now_ms,
			plan->table.segments[plan->table.active[i]].broken_until_ms);
	return wake_ms;
}
