/*
 * Whoever carries a store's bytes away wants to know when there are more. Telling is one call
 * without a lock; ending it waits for the calls that run.
 */
#include "engine/core.h"

void engine_listen(struct engine *e, engine_changed_fn *fn, void *arg)
{
	(void)pthread_mutex_lock(&e->listen_lock);
	e->listen = fn;
	e->listen_arg = arg;
	atomic_store(&e->listening, fn != NULL);
	while (e->listen_calls > 0)
		(void)pthread_cond_wait(&e->listen_idle, &e->listen_lock);
	(void)pthread_mutex_unlock(&e->listen_lock);
}

void engine_changed(struct engine *e)
{
	if (!atomic_load(&e->listening))
		return;
	(void)pthread_mutex_lock(&e->listen_lock);
	engine_changed_fn *fn = e->listen;
	void *arg = e->listen_arg;
	e->listen_calls += fn != NULL;
	(void)pthread_mutex_unlock(&e->listen_lock);
	if (!fn)
		return;

	fn(arg);

	(void)pthread_mutex_lock(&e->listen_lock);
	if (--e->listen_calls == 0)
		(void)pthread_cond_broadcast(&e->listen_idle);
	(void)pthread_mutex_unlock(&e->listen_lock);
}
