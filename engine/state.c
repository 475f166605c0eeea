#include <errno.h>
#include <string.h>

#include "engine/core.h"

void engine_report(struct engine *e, const struct reterr *event)
{
	atomic_fetch_add(&e->errors, 1);
	if (e->options.report)
		e->options.report(e->options.report_arg, event);
}

void engine_turn_read_only(struct engine *e, const struct reterr *reason)
{
	(void)pthread_mutex_lock(&e->state_lock);
	bool first = !atomic_load(&e->read_only);
	if (first)
		memcpy(e->read_only_reason, reason->text, sizeof(e->read_only_reason));
	atomic_store(&e->read_only, true);
	(void)pthread_mutex_unlock(&e->state_lock);
	if (first)
		engine_report(e, reason);
}

void engine_note_damage(struct engine *e, const struct reterr *what)
{
	(void)pthread_mutex_lock(&e->state_lock);
	bool tell = !e->damaged && atomic_load(&e->read_only);
	/* Opened to be read: that it is damaged is the better reason. */
	if (tell && !e->opened_writable)
		memcpy(e->read_only_reason, what->text, sizeof(e->read_only_reason));
	e->damaged = true;
	(void)pthread_mutex_unlock(&e->state_lock);
	if (tell)
		engine_report(e, what);
	else
		engine_turn_read_only(e, what);
}

void engine_fence(struct engine *e, const struct reterr *reason)
{
	engine_turn_read_only(e, reason);
}

int engine_check_writable(struct engine *e, struct reterr *err)
{
	if (!atomic_load(&e->read_only))
		return 0;
	(void)pthread_mutex_lock(&e->state_lock);
	int r = reterr_set(err, -EROFS, "the store is read-only: %s", e->read_only_reason);
	(void)pthread_mutex_unlock(&e->state_lock);
	return r;
}
