/*
 * The shared root in memory: for `mem:`, and the model that the others are compared with. One lock
 * guards everything; waiting happens on its condition, on the monotonic clock.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "cluster/cluster.h"
#include "cluster/root_log_codec.h"

struct memory_log {
	struct shared_root_log base;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* root, holder or stopped */
	/* lock: */
	struct shared_root root; /* seq 0: none */
	uint64_t holder;         /* the epoch of the lock's holder, 0 none */
	uint64_t epoch;          /* the last one given */
	bool stopped;
};

static struct memory_log *log_of(struct shared_root_log *base)
{
	return (struct memory_log *)base;
}

static struct timespec deadline_in(uint64_t timeout_ms)
{
	const uint64_t forever_ms = (uint64_t)1 << 40;
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	if (timeout_ms > forever_ms)
		timeout_ms = forever_ms;
	uint64_t ns = (uint64_t)ts.tv_nsec + timeout_ms % 1000 * 1000000;
	ts.tv_sec += (time_t)(timeout_ms / 1000 + ns / 1000000000);
	ts.tv_nsec = (long)(ns % 1000000000);
	return ts;
}

static int memory_read(struct shared_root_log *base, struct shared_root *ret, struct reterr *err)
{
	struct memory_log *log = log_of(base);
	pthread_mutex_lock(&log->lock);
	bool any = log->root.seq != 0;
	if (any)
		*ret = log->root;
	pthread_mutex_unlock(&log->lock);
	return any ? 0 : reterr_set(err, -ENOENT, "no root was published yet");
}

/* The lock is held. */
static int may_publish(const struct memory_log *log, uint64_t expected, uint64_t epoch,
		       struct reterr *err)
{
	if (epoch != 0 && epoch != log->holder)
		return reterr_set(err, -ENOLCK, "lock %" PRIu64 " is not held any more", epoch);
	if (epoch == 0 && log->holder != 0)
		return reterr_set(err, -EPERM, "somebody else holds the lock");
	if (expected != log->root.seq)
		return reterr_set(err, -ESTALE, "the root moved to %" PRIu64, log->root.seq);
	return 0;
}

static int memory_publish(struct shared_root_log *base, uint64_t expected,
			  const struct shared_root *next, uint64_t epoch, struct shared_root *ret,
			  struct reterr *err)
{
	struct memory_log *log = log_of(base);
	int r = shared_root_check(expected, next, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&log->lock);
	r = may_publish(log, expected, epoch, err);
	if (r == 0) {
		log->root = *next;
		pthread_cond_broadcast(&log->changed);
	} else if (r == -ESTALE && ret) {
		*ret = log->root;
	}
	pthread_mutex_unlock(&log->lock);
	return r;
}

static bool root_is_newer(const struct memory_log *log, uint64_t seen)
{
	return log->root.seq > seen;
}

static bool lock_is_free(const struct memory_log *log, uint64_t unused)
{
	(void)unused;
	return log->holder == 0;
}

/* The lock is held. 0, -ETIMEDOUT or -ECANCELED. */
static int wait_for(struct memory_log *log, uint64_t timeout_ms,
		    bool (*happened)(const struct memory_log *log, uint64_t arg), uint64_t arg,
		    struct reterr *err)
{
	struct timespec deadline = deadline_in(timeout_ms);
	int timed_out = 0;
	while (!log->stopped && !happened(log, arg) && timed_out == 0)
		timed_out = pthread_cond_timedwait(&log->changed, &log->lock, &deadline);
	if (log->stopped)
		return reterr_set(err, -ECANCELED, "stopped");
	if (!happened(log, arg))
		return reterr_set(err, -ETIMEDOUT, "nothing happened in %" PRIu64 " ms",
				  timeout_ms);
	return 0;
}

static int memory_watch(struct shared_root_log *base, uint64_t seen, uint64_t timeout_ms,
			struct shared_root *ret, struct reterr *err)
{
	struct memory_log *log = log_of(base);
	pthread_mutex_lock(&log->lock);
	int r = wait_for(log, timeout_ms, root_is_newer, seen, err);
	if (r == 0)
		*ret = log->root;
	pthread_mutex_unlock(&log->lock);
	return r;
}

static int memory_lock(struct shared_root_log *base, uint64_t timeout_ms, uint64_t *ret_epoch,
		       struct reterr *err)
{
	struct memory_log *log = log_of(base);
	pthread_mutex_lock(&log->lock);
	int r = wait_for(log, timeout_ms, lock_is_free, 0, err);
	if (r == 0)
		*ret_epoch = log->holder = ++log->epoch;
	pthread_mutex_unlock(&log->lock);
	return r;
}

static int memory_unlock(struct shared_root_log *base, uint64_t epoch, struct reterr *err)
{
	struct memory_log *log = log_of(base);
	pthread_mutex_lock(&log->lock);
	bool held = epoch != 0 && log->holder == epoch;
	if (held) {
		log->holder = 0;
		pthread_cond_broadcast(&log->changed);
	}
	pthread_mutex_unlock(&log->lock);
	return held ? 0 : reterr_set(err, -ENOLCK, "lock %" PRIu64 " is not held", epoch);
}

static void memory_stop(struct shared_root_log *base)
{
	struct memory_log *log = log_of(base);
	pthread_mutex_lock(&log->lock);
	log->stopped = true;
	pthread_cond_broadcast(&log->changed);
	pthread_mutex_unlock(&log->lock);
}

static void memory_free(struct shared_root_log *base)
{
	struct memory_log *log = log_of(base);
	(void)pthread_mutex_destroy(&log->lock);
	(void)pthread_cond_destroy(&log->changed);
	free(log);
}

static const struct shared_root_log_ops memory_ops = {
	.name = "memory",
	.read = memory_read,
	.publish = memory_publish,
	.watch = memory_watch,
	.lock = memory_lock,
	.unlock = memory_unlock,
	.stop = memory_stop,
	.free = memory_free,
};

int shared_root_log_memory_new(struct shared_root_log **ret)
{
	struct memory_log *log = calloc(1, sizeof(*log));
	pthread_condattr_t attributes;
	if (!log)
		return -ENOMEM;
	log->base.ops = &memory_ops;
	(void)pthread_mutex_init(&log->lock, NULL);
	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&log->changed, &attributes);
	(void)pthread_condattr_destroy(&attributes);
	*ret = &log->base;
	return 0;
}
