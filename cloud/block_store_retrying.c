/*
 * Tries again what failed with -EAGAIN.
 *
 * Before attempt n + 1 a call waits rand(0, 1) x min(2^(n-1) s, DELAY_MAX): full jitter, so that those
 * who failed together do not come back together. What the place itself asked for (retry_after_ms)
 * comes on top. The wait that would end behind the deadline is not begun.
 *
 * All calls share a quota of tokens. A retry takes some; the call that then succeeds gives back what it took
 * last, one that succeeds at once gives one. While there are none, the place is down rather than
 * busy: calls do not fail for that, but wait the longest delay, so that however many there are, what
 * knocks at a place in trouble is a few requests a second.
 *
 * A put that was answered by silence may have taken effect. If a later attempt finds the key taken,
 * the head tells whether by the same bytes, and then it is done: nobody else puts other bytes that
 * have this size and sum.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/hash.h"
#include "cloud/cloud.h"

enum {
	DEADLINE_MS = 60000,
	DELAY_MAX_MS = 20000,
	DELAY_FIRST_MS = 1000,
	TOKENS_MAX = 500,
	TOKENS_RETRY = 5,
};

/* A call that sleeps; on its stack, in the list while the lock is not held. */
struct sleeper {
	struct sleeper *next;
	uint64_t until_ms;
};

struct retrying {
	struct block_store base;
	struct block_store *below;
	struct retry_options options;
	atomic_bool stopped;
	_Atomic uint64_t retries;
	pthread_cond_t wake;  /* CLOCK_MONOTONIC; STOPPED */
	pthread_mutex_t lock; /* guards the rest */
	uint64_t random;
	unsigned tokens;
	struct sleeper *sleepers;
};

static struct retrying *retrying_of(struct block_store *base)
{
	return (struct retrying *)base;
}

/* ---- Waiting ---- */

/* splitmix64. The lock is held. */
static uint64_t next_random(struct retrying *retrying)
{
	uint64_t z = retrying->random += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* How long to wait after the ATTEMPTS-th has failed (1 is the first), and the tokens that it takes. */
static uint64_t delay_ms(struct retrying *retrying, unsigned attempts, uint64_t retry_after_ms,
			 unsigned *ret_taken)
{
	uint64_t most = retrying->options.delay_max_ms;
	uint64_t range = attempts < 32 ? (uint64_t)DELAY_FIRST_MS << (attempts - 1) : most;
	if (range > most)
		range = most;

	pthread_mutex_lock(&retrying->lock);
	uint64_t least = 0;
	*ret_taken = retrying->tokens < TOKENS_RETRY ? 0 : TOKENS_RETRY;
	retrying->tokens -= *ret_taken;
	if (!*ret_taken) {
		least = most / 2;
		range = most - least;
	}
	uint64_t jitter = least + next_random(retrying) % (range + 1);
	pthread_mutex_unlock(&retrying->lock);
	return retry_after_ms > UINT64_MAX - jitter ? UINT64_MAX : retry_after_ms + jitter;
}

static void give_back(struct retrying *retrying, unsigned taken)
{
	pthread_mutex_lock(&retrying->lock);
	retrying->tokens += taken ? taken : 1;
	if (retrying->tokens > TOKENS_MAX)
		retrying->tokens = TOKENS_MAX;
	pthread_mutex_unlock(&retrying->lock);
}

/* Until TIME, or until it is stopped. The lock is held, and given up meanwhile. */
static void wait_ms(struct retrying *retrying, uint64_t ms)
{
	struct timespec until;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	int r = 0;
	while (!atomic_load(&retrying->stopped) && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&retrying->wake, &retrying->lock, &until);
}

static void sleep_ms(struct retrying *retrying, uint64_t now_ms, uint64_t ms)
{
	struct sleeper self = {.until_ms = now_ms + ms};
	pthread_mutex_lock(&retrying->lock);
	self.next = retrying->sleepers;
	retrying->sleepers = &self;
	if (retrying->options.sleep) {
		pthread_mutex_unlock(&retrying->lock);
		retrying->options.sleep(retrying->options.sleep_arg, ms);
		pthread_mutex_lock(&retrying->lock);
	} else {
		wait_ms(retrying, ms);
	}
	struct sleeper **at = &retrying->sleepers;
	while (*at != &self)
		at = &(*at)->next;
	*at = self.next;
	pthread_mutex_unlock(&retrying->lock);
}

/* ---- The loop ---- */

static int stopped(struct reterr *err)
{
	return reterr_set(err, -ECANCELED, "the place for blocks was stopped");
}

static int give_up(struct reterr *err, const struct reterr *cause, unsigned attempts, uint64_t ms)
{
	return reterr_set(err, -ETIMEDOUT, "%s (attempts: %u, in %" PRIu64 ".%" PRIu64 " s)",
			  cause->text[0] ? cause->text : "the place for blocks does not answer",
			  attempts, ms / 1000, ms % 1000 / 100);
}

/* What one attempt of a call is. AMBIGUOUS: an earlier one may have taken effect. */
struct call {
	struct block_store *below;
	int (*attempt)(struct call *call, bool ambiguous, struct reterr *err);
	const char *key;
	const void *source;
	void *target;
	size_t size;
	uint64_t offset; /* or the first frame */
	size_t *ret_size;
	struct block_head *ret_head;
	/* Of a listing: what to go on behind, and whether FN ended it. */
	block_store_list_fn *fn;
	void *arg;
	char after[BLOCK_KEY_MAX + 1];
	bool ended;
};

static int run(struct block_store *base, struct call *call, struct reterr *err)
{
	struct retrying *retrying = retrying_of(base);
	const struct clock *clock = retrying->options.clock;
	uint64_t start_ms = clock->now_ms(clock);
	unsigned taken = 0;
	struct reterr details;

	call->below = retrying->below;
	for (unsigned attempts = 1;; attempts++) {
		if (atomic_load(&retrying->stopped))
			return stopped(err);
		details = (struct reterr){0};
		int r = call->attempt(call, attempts > 1, &details);
		if (r != -EAGAIN || call->ended) {
			if (r == 0)
				give_back(retrying, taken);
			if (r < 0 && err)
				*err = details;
			return r;
		}
		uint64_t wait = delay_ms(retrying, attempts, details.retry_after_ms, &taken);
		uint64_t now_ms = clock->now_ms(clock), gone_ms = now_ms - start_ms;
		if (gone_ms >= retrying->options.deadline_ms ||
		    wait > retrying->options.deadline_ms - gone_ms)
			return give_up(err, &details, attempts, gone_ms);
		(void)atomic_fetch_add(&retrying->retries, 1);
		sleep_ms(retrying, now_ms, wait);
	}
}

/* ---- The calls ---- */

/* The key is taken, perhaps by ourselves. -ENOENT: not any more. */
static int compare(struct call *call, const struct reterr *taken, struct reterr *err)
{
	struct block_head head;
	int r = block_store_head(call->below, call->key, &head, err);
	if (r == -ENOENT)
		return reterr_set(err, -EAGAIN, "%s was there and is gone", call->key);
	if (r < 0)
		return r;
	struct hash hash = hash_of(call->source, call->size);
	if (head.size == call->size && hash_equal(&head.hash, &hash))
		return 0;
	if (err)
		*err = *taken;
	return -EEXIST;
}

static int attempt_put(struct call *call, bool ambiguous, struct reterr *err)
{
	struct reterr details = {0};
	int r = block_store_put(call->below, call->key, call->source, call->size, call->offset,
				&details);
	if (r == -EEXIST && ambiguous)
		return compare(call, &details, err);
	if (r < 0 && err)
		*err = details;
	return r;
}

static int retrying_put(struct block_store *base, const char *key, const void *data, size_t size,
			uint64_t first_frame, struct reterr *err)
{
	struct call call = {.attempt = attempt_put,
			    .key = key,
			    .source = data,
			    .size = size,
			    .offset = first_frame};
	return run(base, &call, err);
}

static int attempt_replace(struct call *call, bool ambiguous, struct reterr *err)
{
	(void)ambiguous;
	return block_store_replace(call->below, call->key, call->source, call->size, err);
}

static int retrying_replace(struct block_store *base, const char *key, const void *data,
			    size_t size, struct reterr *err)
{
	struct call call = {.attempt = attempt_replace, .key = key, .source = data, .size = size};
	return run(base, &call, err);
}

static int attempt_get(struct call *call, bool ambiguous, struct reterr *err)
{
	(void)ambiguous;
	return block_store_get(call->below, call->key, call->target, call->size, call->ret_head,
			       err);
}

static int retrying_get(struct block_store *base, const char *key, void *data, size_t size_max,
			struct block_head *ret, struct reterr *err)
{
	struct call call = {.attempt = attempt_get,
			    .key = key,
			    .target = data,
			    .size = size_max,
			    .ret_head = ret};
	return run(base, &call, err);
}

static int attempt_get_range(struct call *call, bool ambiguous, struct reterr *err)
{
	(void)ambiguous;
	return block_store_get_range(call->below, call->key, call->target, call->size, call->offset,
				     call->ret_size, err);
}

static int retrying_get_range(struct block_store *base, const char *key, void *data, size_t size,
			      uint64_t offset, size_t *ret, struct reterr *err)
{
	struct call call = {.attempt = attempt_get_range,
			    .key = key,
			    .target = data,
			    .size = size,
			    .offset = offset,
			    .ret_size = ret};
	return run(base, &call, err);
}

static int attempt_head(struct call *call, bool ambiguous, struct reterr *err)
{
	(void)ambiguous;
	return block_store_head(call->below, call->key, call->ret_head, err);
}

static int retrying_head(struct block_store *base, const char *key, struct block_head *ret,
			 struct reterr *err)
{
	struct call call = {.attempt = attempt_head, .key = key, .ret_head = ret};
	return run(base, &call, err);
}

static int tell(void *arg, const char *key, uint64_t size)
{
	struct call *call = arg;
	int r = call->fn(call->arg, key, size);
	(void)snprintf(call->after, sizeof(call->after), "%s", key);
	call->ended = r < 0;
	return r;
}

static int attempt_list(struct call *call, bool ambiguous, struct reterr *err)
{
	char after[BLOCK_KEY_MAX + 1];
	(void)ambiguous;
	(void)snprintf(after, sizeof(after), "%s", call->after);
	return block_store_list(call->below, call->key, after, tell, call, err);
}

static int retrying_list(struct block_store *base, const char *prefix, const char *after,
			 block_store_list_fn *fn, void *arg, struct reterr *err)
{
	struct call call = {.attempt = attempt_list, .key = prefix, .fn = fn, .arg = arg};
	/* Cut: no key is longer, so what is greater than AFTER stays so. */
	(void)snprintf(call.after, sizeof(call.after), "%s", after);
	return run(base, &call, err);
}

static int attempt_delete(struct call *call, bool ambiguous, struct reterr *err)
{
	(void)ambiguous;
	return block_store_delete(call->below, call->key, err);
}

static int retrying_delete(struct block_store *base, const char *key, struct reterr *err)
{
	struct call call = {.attempt = attempt_delete, .key = key};
	return run(base, &call, err);
}

/* ---- The rest ---- */

static void retrying_status(struct block_store *base, struct block_store_status *ret)
{
	struct retrying *retrying = retrying_of(base);
	struct block_store_status status = {0};
	block_store_status(retrying->below, &status);
	status.retries += atomic_load(&retrying->retries);
	pthread_mutex_lock(&retrying->lock);
	for (const struct sleeper *s = retrying->sleepers; s; s = s->next) {
		status.retrying++;
		if (!status.next_retry_ms || s->until_ms < status.next_retry_ms)
			status.next_retry_ms = s->until_ms;
	}
	pthread_mutex_unlock(&retrying->lock);
	*ret = status;
}

static void retrying_stop(struct block_store *base)
{
	struct retrying *retrying = retrying_of(base);
	pthread_mutex_lock(&retrying->lock);
	atomic_store(&retrying->stopped, true);
	(void)pthread_cond_broadcast(&retrying->wake);
	pthread_mutex_unlock(&retrying->lock);
	block_store_stop(retrying->below);
}

static void retrying_free(struct block_store *base)
{
	struct retrying *retrying = retrying_of(base);
	block_store_free(retrying->below);
	(void)pthread_cond_destroy(&retrying->wake);
	(void)pthread_mutex_destroy(&retrying->lock);
	free(retrying);
}

static const struct block_store_ops retrying_ops = {
	.name = "retrying",
	.put = retrying_put,
	.replace = retrying_replace,
	.get = retrying_get,
	.get_range = retrying_get_range,
	.head = retrying_head,
	.list = retrying_list,
	.delete = retrying_delete,
	.status = retrying_status,
	.stop = retrying_stop,
	.free = retrying_free,
};

static uint64_t seed_of(const struct retry_options *options)
{
	uint64_t seed = options->seed;
	if (!seed && getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
		seed = options->clock->wall_ns(options->clock);
	return seed;
}

int block_store_retrying_new(struct block_store *below, const struct retry_options *options,
			     struct block_store **ret)
{
	struct retrying *retrying = calloc(1, sizeof(*retrying));
	if (!retrying) {
		block_store_free(below);
		return -ENOMEM;
	}
	retrying->base.ops = &retrying_ops;
	retrying->below = below;
	retrying->options = *options;
	if (!options->deadline_ms)
		retrying->options.deadline_ms = DEADLINE_MS;
	if (!options->delay_max_ms)
		retrying->options.delay_max_ms = DELAY_MAX_MS;
	if (!options->clock)
		retrying->options.clock = clock_system();
	retrying->random = seed_of(&retrying->options);
	retrying->tokens = TOKENS_MAX;
	(void)pthread_mutex_init(&retrying->lock, NULL);
	pthread_condattr_t attributes;
	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&retrying->wake, &attributes);
	(void)pthread_condattr_destroy(&attributes);
	*ret = &retrying->base;
	return 0;
}
