/* What others ask of the uploader: status, flush, and whether bytes are safe. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/uploader.h"

/* ---- Waiting -------------------------------------------------------------------------------- */

typedef bool safe_fn(struct uploader *u, const void *what);

static int fenced(struct uploader *u, struct reterr *err)
{
	if (err)
		*err = u->plan.error;
	return -EROFS;
}

/*
 * Until SAFE, or until a snapshot that began after the call is in the place: then all that was
 * durable at the call is. A waiter makes the next round begin at once.
 */
static int wait_for(struct uploader *u, safe_fn *safe, const void *what, uint64_t until_ms,
		    bool keeper, struct reterr *err)
{
	int r = -EAGAIN;
	pthread_mutex_lock(&u->lock);
	u->waiting++;
	uint64_t ticket = 0;
	while (r == -EAGAIN) {
		if (safe(u, what) || (ticket > 0 && u->plan.closed >= ticket))
			r = 0;
		else if (u->plan.sticky)
			r = fenced(u, err);
		else if (u->stopping || (keeper && u->keeper_stopped))
			r = reterr_set(err, -ECANCELED, "the uploader was stopped");
		else if (uploader_now_ms(u) >= until_ms)
			r = reterr_set(err, -ETIMEDOUT, "not all is uploaded yet");
		if (r != -EAGAIN)
			break;
		if (ticket == 0) {
			ticket = upload_plan_want(&u->plan, uploader_now_ms(u));
			(void)pthread_cond_signal(&u->planner_work);
		}
		uploader_wait(u, &u->done, until_ms);
	}
	if (--u->waiting == 0)
		(void)pthread_cond_broadcast(&u->left);
	pthread_mutex_unlock(&u->lock);
	return r;
}

static bool never_safe(struct uploader *u, const void *what)
{
	(void)u;
	(void)what;
	return false;
}

int uploader_flush(struct uploader *u, uint64_t timeout_ms, struct reterr *err)
{
	uint64_t now_ms = uploader_now_ms(u);
	uint64_t until_ms = timeout_ms > UINT64_MAX - now_ms ? UINT64_MAX : now_ms + timeout_ms;
	return wait_for(u, never_safe, NULL, until_ms, false, err);
}

/* ---- The keeper ----------------------------------------------------------------------------- */

struct lengths {
	const struct remote_length *lengths;
	size_t count;
};

static bool lengths_safe(struct uploader *u, const void *what)
{
	const struct lengths *wanted = what;
	for (size_t i = 0; i < wanted->count; i++) {
		const struct upload_segment *s =
			upload_table_find(&u->plan.table, &wanted->lengths[i].segment);
		uint64_t listed = s && s->listed_n > 0 ? upload_safe(s) : 0;
		if (listed < wanted->lengths[i].length)
			return false;
	}
	return true;
}

static int keeper_wait_bytes(struct remote_keeper *keeper, const struct remote_length *lengths,
			     size_t count, struct reterr *err)
{
	const struct lengths what = {.lengths = lengths, .count = count};
	return wait_for((struct uploader *)keeper, lengths_safe, &what, UINT64_MAX, true, err);
}

static bool root_safe(struct uploader *u, const void *what)
{
	const uint64_t *seq = what;
	return u->plan.chain.root.seq >= *seq;
}

static int keeper_wait_root(struct remote_keeper *keeper, uint64_t seq, struct reterr *err)
{
	return wait_for((struct uploader *)keeper, root_safe, &seq, UINT64_MAX, true, err);
}

static uint64_t keeper_safe_length(struct remote_keeper *keeper, const struct uuid *segment)
{
	struct uploader *u = (struct uploader *)keeper;
	pthread_mutex_lock(&u->lock);
	const struct upload_segment *s = upload_table_find(&u->plan.table, segment);
	uint64_t length = s ? upload_safe(s) : 0;
	pthread_mutex_unlock(&u->lock);
	return length;
}

static uint64_t keeper_safe_root(struct remote_keeper *keeper)
{
	struct uploader *u = (struct uploader *)keeper;
	pthread_mutex_lock(&u->lock);
	uint64_t seq = u->plan.chain.root.seq;
	pthread_mutex_unlock(&u->lock);
	return seq;
}

static void keeper_stop(struct remote_keeper *keeper)
{
	struct uploader *u = (struct uploader *)keeper;
	pthread_mutex_lock(&u->lock);
	u->keeper_stopped = true;
	(void)pthread_cond_broadcast(&u->done);
	pthread_mutex_unlock(&u->lock);
}

static const struct remote_keeper_ops keeper_ops = {
	.level = "cloud",
	.wait_bytes = keeper_wait_bytes,
	.wait_root = keeper_wait_root,
	.safe_length = keeper_safe_length,
	.safe_root = keeper_safe_root,
	.stop = keeper_stop,
};

void uploader_keeper_init(struct uploader *u)
{
	u->keeper.ops = &keeper_ops;
}

struct remote_keeper *uploader_keeper(struct uploader *u)
{
	return &u->keeper;
}

/* ---- Status --------------------------------------------------------------------------------- */

struct behind {
	struct uuid uuid;
	uint64_t listed, durable;
	uint64_t since_ms;
};

struct behinds {
	struct behind *segments;
	size_t count;
	uint32_t after;
};

/* What was known when the source was last looked at; it is asked again, so that the answer is of now. */
static void copy_behind(struct uploader *u, struct behinds *ret)
{
	const struct upload_table *table = &u->plan.table;
	*ret = (struct behinds){.after = u->plan.scan.after};
	ret->segments = malloc((table->active_count + 1) * sizeof(*ret->segments));
	for (size_t i = 0; i < table->active_count && ret->segments; i++) {
		const struct upload_segment *s = &table->segments[table->active[i]];
		if (!s->here)
			continue;
		ret->segments[ret->count++] = (struct behind){.uuid = s->uuid,
							      .listed = upload_safe(s),
							      .durable = s->durable,
							      .since_ms = s->behind_ms};
	}
}

/* Counts BYTES that are behind since SINCE_MS (0: since the last change). */
static void count_behind(struct uploader_status *status, uint64_t bytes, uint64_t since_ms,
			 uint64_t now_ms)
{
	uint64_t age_ms = since_ms > 0 && now_ms > since_ms ? now_ms - since_ms : 0;
	if (bytes == 0)
		return;
	status->bytes_behind += bytes;
	if (age_ms > status->ms_behind)
		status->ms_behind = age_ms;
}

static bool is_known(struct uploader *u, const struct uuid *uuid)
{
	pthread_mutex_lock(&u->lock);
	bool known = upload_table_find(&u->plan.table, uuid) != NULL;
	pthread_mutex_unlock(&u->lock);
	return known;
}

static void measure(struct uploader *u, const struct behinds *behinds, uint64_t changed_ms,
		    uint64_t now_ms, struct uploader_status *ret)
{
	struct segment_source *source = u->io.source;
	struct source_segment segment;
	for (size_t i = 0; i < behinds->count; i++) {
		const struct behind *b = &behinds->segments[i];
		uint64_t durable = b->durable;
		if (source->ops->find(source, &b->uuid, &segment))
			durable = segment.durable;
		if (durable > b->listed)
			count_behind(ret, durable - b->listed,
				     b->since_ms > 0 ? b->since_ms : changed_ms, now_ms);
	}
	for (uint32_t after = behinds->after; source->ops->next(source, after, &segment);
	     after = segment.number)
		if (!is_known(u, &segment.uuid))
			count_behind(ret, segment.durable, changed_ms, now_ms);
}

static enum uploader_state state_of(const struct upload_plan *plan)
{
	if (plan->sticky || plan->retry_ms > 0)
		return plan->state;
	if (plan->broken > 0)
		return UPLOADER_FAILED;
	bool busy = plan->transfers_out > 0 || plan->text.size > 0 || upload_dirty(plan);
	return busy ? UPLOADER_BUSY : UPLOADER_IDLE;
}

void uploader_status(struct uploader *u, struct uploader_status *ret)
{
	const struct upload_plan *plan = &u->plan;
	struct behinds behinds;
	pthread_mutex_lock(&u->lock);
	uint64_t now_ms = uploader_now_ms(u);
	uint64_t changed_ms = plan->changed ? plan->changed_ms : 0;
	*ret = (struct uploader_status){
		.state = state_of(plan),
		.bytes_uploaded = plan->bytes_uploaded,
		.blocks_uploaded = plan->blocks_uploaded,
		.deltas_uploaded = plan->deltas_uploaded,
		.manifests = plan->manifests,
		.manifest = plan->chain.n,
		.root_seq = plan->chain.root.seq,
		.in_flight = plan->transfers_out,
		.retry_ms = plan->retry_ms > now_ms ? plan->retry_ms - now_ms : 0,
		.conditional = plan->conditional,
		.error = plan->sticky || plan->retry_ms > 0 ? plan->error
			 : plan->broken > 0                 ? plan->broken_why
							    : (struct reterr){.code = 0},
	};
	if (plan->root_behind_ms > 0 && now_ms > plan->root_behind_ms)
		ret->ms_behind = now_ms - plan->root_behind_ms;
	copy_behind(u, &behinds);
	pthread_mutex_unlock(&u->lock);

	measure(u, &behinds, changed_ms, now_ms, ret);
	if (ret->bytes_behind > 0 && ret->state == UPLOADER_IDLE)
		ret->state = UPLOADER_BUSY;
	free(behinds.segments);
}
