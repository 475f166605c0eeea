/* What failed, what it means for the user, and when to try again. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cloud/upload_plan.h"

bool upload_in_trouble(const struct upload_plan *plan)
{
	return plan->retry_ms > 0;
}

static void set_trouble(struct upload_plan *plan, enum uploader_state state,
			const struct upload_result *result)
{
	/* Texts name requests, and differ each time. */
	if (plan->state != state || plan->error.code != result->err.code)
		plan->news = true;
	plan->state = state;
	plan->error = result->err;
	if (plan->error.code == 0)
		(void)reterr_set(&plan->error, result->r, "%s", strerror(-result->r));
}

void upload_retry_later(struct upload_plan *plan, uint64_t now_ms,
			const struct upload_result *result)
{
	/* Those that set out before the trouble began say nothing new. */
	if (upload_in_trouble(plan) && now_ms < plan->retry_ms)
		return;
	bool refused = result->r == -EACCES || result->r == -ENOENT || result->r == -EPERM;
	bool damage = result->local && result->r != -ENOSPC && result->r != -EDQUOT &&
		      result->r != -ENOMEM;
	enum uploader_state state = UPLOADER_WAITING;
	if (damage || result->r == -EBADMSG || result->r == -E2BIG)
		state = UPLOADER_FAILED;
	else if (refused && !result->local)
		state = UPLOADER_PAUSED;
	set_trouble(plan, state, result);

	uint64_t delay_ms = UPLOAD_PROBE_MS;
	if (state == UPLOADER_WAITING && plan->failures < 6)
		delay_ms = (uint64_t)UPLOAD_BACKOFF_MS << plan->failures;
	if (delay_ms > UPLOAD_PROBE_MS)
		delay_ms = UPLOAD_PROBE_MS;
	if (result->err.retry_after_ms > delay_ms)
		delay_ms = result->err.retry_after_ms;
	plan->failures++;
	plan->retry_ms = now_ms + delay_ms;
	plan->trouble_local = result->local;
}

void upload_trouble_over(struct upload_plan *plan)
{
	if (!upload_in_trouble(plan))
		return;
	plan->failures = 0;
	plan->retry_ms = 0;
	plan->state = UPLOADER_IDLE;
	plan->error = (struct reterr){.code = 0};
	plan->news = true;
	plan->no_transfer = false;
}

void upload_stop_for_good(struct upload_plan *plan, const struct upload_result *result)
{
	set_trouble(plan, UPLOADER_FENCED, result);
	plan->sticky = plan->fence_unsaved = true;
}

void upload_note_mended(struct upload_plan *plan, struct upload_segment *s)
{
	if (!s->broken)
		return;
	s->broken = false;
	if (--plan->broken == 0)
		plan->news = true;
}

void upload_note_lost(struct upload_plan *plan, struct upload_segment *s)
{
	char uuid[UUID_TEXT_LENGTH + 1];

	if (s->broken && s->broken_until_ms == UINT64_MAX)
		return;
	plan->broken += !s->broken;
	s->broken = true;
	s->broken_until_ms = UINT64_MAX;
	uint64_t there = upload_covered(s) > s->listed ? upload_covered(s) : s->listed;
	(void)reterr_set(&plan->broken_why, -EBADMSG,
			 "segment %s: this disk has lost bytes of it from byte %" PRIu64
			 " on, the cloud has %" PRIu64
			 ": nothing of it is uploaded any more; remove it, or upload to another, "
			 "empty place",
			 uuid_format(&s->uuid, uuid), s->lost_at, there);
	plan->notice = plan->broken_why;
}

/* While there is trouble, one step at a time speaks to the place. */
bool upload_may_speak(const struct upload_plan *plan, uint64_t now_ms)
{
	if (!upload_in_trouble(plan))
		return true;
	return now_ms >= plan->retry_ms && !plan->serial_out && plan->transfers_out == 0;
}

void upload_note_weak(struct upload_plan *plan)
{
	plan->conditional = false;
	(void)reterr_set(
		&plan->notice, -EOPNOTSUPP,
		"the place does not refuse a second writer by itself: an object \"owner\" "
		"is looked at before each round, but two stores that write at the same moment "
		"can still overwrite each other's bytes there. Never let two write to it");
}
