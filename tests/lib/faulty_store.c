#include "tests/lib/faulty_store.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/sim_alloc.h"

enum { LATE_MAX = 64 };

/* A put (or, without DATA, a delete) that is still on its way. */
struct late {
	char key[BLOCK_KEY_MAX + 1];
	void *data;
	size_t size;
	uint64_t first_frame;
};

struct faulty {
	struct block_store base;
	struct block_store *below;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t wake;
	struct faulty_options options;
	uint64_t random;
	int down;
	bool stopped;
	uint64_t effects_left;
	uint64_t releases;
	uint64_t faults;
	struct late late[LATE_MAX];
	unsigned late_count;
};

enum fate { FINE, BEFORE, AFTER, LATE, LOSE, CORRUPT, CUT };

static struct faulty *faulty_of(struct block_store *base)
{
	return (struct faulty *)base;
}

static uint64_t next_random(struct faulty *faulty)
{
	uint64_t z = faulty->random += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static struct faulty_options options_of(struct faulty *faulty)
{
	pthread_mutex_lock(&faulty->lock);
	struct faulty_options options = faulty->options;
	pthread_mutex_unlock(&faulty->lock);
	return options;
}

static void step(struct faulty *faulty, enum block_request kind, const char *key, bool before)
{
	struct faulty_options options = options_of(faulty);
	if (options.step)
		options.step(options.step_arg, kind, key, before);
}

static bool chance(struct faulty *faulty, unsigned of_1000)
{
	return next_random(faulty) % 1000 < of_1000;
}

static int again(const struct faulty_options *options, const char *why, struct reterr *err)
{
	int r = reterr_set(err, -EAGAIN, "simulated: %s", why);
	if (err)
		err->retry_after_ms = options->retry_after_ms;
	return r;
}

/* ---- Late effects ---- */

static void happen(struct faulty *faulty, struct late *late)
{
	int r = late->data ? block_store_put(faulty->below, late->key, late->data, late->size,
					     late->first_frame, NULL)
			   : block_store_delete(faulty->below, late->key, NULL);
	(void)r; /* nobody waits for the answer */
}

static void forget(struct late *late)
{
	sim_free(late->data);
	late->data = NULL;
}

/* Takes the AT-th out. The lock is held. */
static struct late take_late(struct faulty *faulty, unsigned at)
{
	struct late late = faulty->late[at];
	faulty->late[at] = faulty->late[--faulty->late_count];
	return late;
}

static void hold_back(struct faulty *faulty, const char *key, const void *data, size_t size,
		      uint64_t first_frame)
{
	struct late late = {.size = size, .first_frame = first_frame};
	(void)snprintf(late.key, sizeof(late.key), "%s", key);
	if (data) {
		late.data = sim_malloc(size);
		memcpy(late.data, data, size);
	}
	pthread_mutex_lock(&faulty->lock);
	struct late oldest = {0};
	if (faulty->late_count == LATE_MAX)
		oldest = take_late(faulty, 0);
	faulty->late[faulty->late_count++] = late;
	pthread_mutex_unlock(&faulty->lock);
	forget(&oldest);
}

/* Now and then one that is late comes to be, or is lost for good. */
static void stir(struct faulty *faulty)
{
	pthread_mutex_lock(&faulty->lock);
	struct late late;
	bool any = faulty->late_count && next_random(faulty) % 4 == 0;
	bool lost = false;
	if (any) {
		late = take_late(faulty, (unsigned)(next_random(faulty) % faulty->late_count));
		lost = next_random(faulty) % 4 == 0;
	}
	pthread_mutex_unlock(&faulty->lock);
	if (!any)
		return;
	if (!lost)
		happen(faulty, &late);
	forget(&late);
}

unsigned faulty_store_settle(struct block_store *base, bool keep)
{
	struct faulty *faulty = faulty_of(base);
	unsigned count = 0;
	for (;;) {
		pthread_mutex_lock(&faulty->lock);
		bool any = faulty->late_count > 0;
		struct late late = {0};
		if (any)
			late = take_late(faulty, 0);
		pthread_mutex_unlock(&faulty->lock);
		if (!any)
			return count;
		if (keep)
			happen(faulty, &late);
		forget(&late);
		count++;
	}
}

/* ---- Fate ---- */

/* The lock is held. */
static enum fate draw(struct faulty *faulty, enum block_request kind)
{
	const struct faulty_options *o = &faulty->options;
	bool writes = kind == BLOCK_REQUEST_PUT || kind == BLOCK_REQUEST_DELETE;
	if (chance(faulty, o->before))
		return BEFORE;
	if (chance(faulty, o->after))
		return AFTER;
	if (chance(faulty, o->late) && writes)
		return LATE;
	if (chance(faulty, o->lose) && kind == BLOCK_REQUEST_PUT)
		return LOSE;
	if (chance(faulty, o->corrupt) && kind == BLOCK_REQUEST_GET)
		return CORRUPT;
	if (chance(faulty, o->cut) && kind == BLOCK_REQUEST_GET)
		return CUT;
	return FINE;
}

/* The lock is held. */
static int hang(struct faulty *faulty, struct reterr *err)
{
	uint64_t releases = faulty->releases;
	faulty->faults++;
	while (!faulty->stopped && releases == faulty->releases)
		(void)pthread_cond_wait(&faulty->wake, &faulty->lock);
	return faulty->stopped ? reterr_set(err, -ECANCELED, "stopped")
			       : again(&faulty->options, "no answer", err);
}

/* The beginning of every call: 0 and its fate, or it ends here. */
static int begin(struct faulty *faulty, enum block_request kind, const char *key, enum fate *ret,
		 struct reterr *err)
{
	stir(faulty);
	pthread_mutex_lock(&faulty->lock);
	int r = 0;
	*ret = draw(faulty, kind);
	bool hangs = chance(faulty, faulty->options.hang);
	if (faulty->stopped || faulty->effects_left == 0)
		r = reterr_set(err, -ECANCELED, "stopped");
	else if (faulty->down)
		r = reterr_set(err, faulty->down, "simulated: the place is away");
	else if (hangs)
		r = hang(faulty, err);
	else if (*ret == BEFORE)
		r = again(&faulty->options, "lost on the way there", err);
	if (r == 0 && faulty->effects_left != UINT64_MAX)
		faulty->effects_left--;
	faulty->faults += r == 0 && *ret != FINE;
	faulty->faults += r == -EAGAIN;
	pthread_mutex_unlock(&faulty->lock);
	if (r == 0)
		step(faulty, kind, key, true);
	return r;
}

/* The end of a call whose effect returned R. */
static int end(struct faulty *faulty, enum block_request kind, const char *key, enum fate fate,
	       int r, struct reterr *err)
{
	step(faulty, kind, key, false);
	struct faulty_options options = options_of(faulty);
	if (fate == AFTER)
		return again(&options, "lost on the way back", err);
	return fate == LATE ? again(&options, "late", err) : r;
}

/* ---- The calls ---- */

/* Without conditions the place looks, and then writes whatever came in between. */
static int effect_put(struct faulty *faulty, const char *key, const void *data, size_t size,
		      uint64_t first_frame, struct reterr *err)
{
	struct block_head head;
	if (!options_of(faulty).unconditional)
		return block_store_put(faulty->below, key, data, size, first_frame, err);
	int r = block_store_head(faulty->below, key, &head, err);
	if (r != -ENOENT)
		return r < 0 ? r : reterr_set(err, -EEXIST, "there is a block %s already", key);
	step(faulty, BLOCK_REQUEST_PUT, key, true);
	r = block_store_delete(faulty->below, key, err);
	return r < 0 ? r : block_store_put(faulty->below, key, data, size, first_frame, err);
}

static int faulty_put(struct block_store *base, const char *key, const void *data, size_t size,
		      uint64_t first_frame, struct reterr *err)
{
	struct faulty *faulty = faulty_of(base);
	enum fate fate;
	int r = begin(faulty, BLOCK_REQUEST_PUT, key, &fate, err);
	if (r < 0)
		return r;
	if (fate == LATE)
		hold_back(faulty, key, data, size, first_frame);
	else if (fate != LOSE)
		r = effect_put(faulty, key, data, size, first_frame, err);
	return end(faulty, BLOCK_REQUEST_PUT, key, fate, r, err);
}

static int faulty_replace(struct block_store *base, const char *key, const void *data, size_t size,
			  struct reterr *err)
{
	struct faulty *faulty = faulty_of(base);
	enum fate fate;
	int r = begin(faulty, BLOCK_REQUEST_PUT, key, &fate, err);
	if (r < 0)
		return r;
	if (fate != LATE && fate != LOSE)
		r = block_store_replace(faulty->below, key, data, size, err);
	return end(faulty, BLOCK_REQUEST_PUT, key, fate, r, err);
}

static void flip(struct faulty *faulty, void *data, size_t size)
{
	if (!size)
		return;
	pthread_mutex_lock(&faulty->lock);
	uint64_t bit = next_random(faulty) % (size * 8);
	pthread_mutex_unlock(&faulty->lock);
	uint8_t *bytes = data;
	bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ (1U << (bit % 8)));
}

static void dim(struct faulty *faulty, struct block_head *head)
{
	pthread_mutex_lock(&faulty->lock);
	bool dims = chance(faulty, faulty->options.forget);
	pthread_mutex_unlock(&faulty->lock);
	if (dims) {
		head->recorded = false;
		head->first_frame = BLOCK_NO_FRAME;
	}
}

static int faulty_get(struct block_store *base, const char *key, void *data, size_t size_max,
		      struct block_head *ret, struct reterr *err)
{
	struct faulty *faulty = faulty_of(base);
	enum fate fate;
	int r = begin(faulty, BLOCK_REQUEST_GET, key, &fate, err);
	if (r < 0)
		return r;
	r = block_store_get(faulty->below, key, data, size_max, ret, err);
	if (r == 0)
		dim(faulty, ret);
	if (r == 0 && fate == CORRUPT)
		flip(faulty, data, (size_t)ret->size);
	if (r == 0 && fate == CUT)
		r = reterr_set(err, -EBADMSG, "simulated: the body ended early");
	return end(faulty, BLOCK_REQUEST_GET, key, fate, r, err);
}

static int faulty_get_range(struct block_store *base, const char *key, void *data, size_t size,
			    uint64_t offset, size_t *ret, struct reterr *err)
{
	struct faulty *faulty = faulty_of(base);
	enum fate fate;
	int r = begin(faulty, BLOCK_REQUEST_GET, key, &fate, err);
	if (r < 0)
		return r;
	r = block_store_get_range(faulty->below, key, data, size, offset, ret, err);
	if (r == 0 && fate == CORRUPT)
		flip(faulty, data, *ret);
	return end(faulty, BLOCK_REQUEST_GET, key, fate, r, err);
}

static int faulty_head(struct block_store *base, const char *key, struct block_head *ret,
		       struct reterr *err)
{
	struct faulty *faulty = faulty_of(base);
	enum fate fate;
	int r = begin(faulty, BLOCK_REQUEST_HEAD, key, &fate, err);
	if (r < 0)
		return r;
	r = block_store_head(faulty->below, key, ret, err);
	if (r == 0)
		dim(faulty, ret);
	return end(faulty, BLOCK_REQUEST_HEAD, key, fate, r, err);
}

struct listing {
	struct faulty *faulty;
	block_store_list_fn *fn;
	void *arg;
};

static int tell(void *arg, const char *key, uint64_t size)
{
	struct listing *listing = arg;
	int r = listing->fn(listing->arg, key, size);
	pthread_mutex_lock(&listing->faulty->lock);
	bool stopped = listing->faulty->stopped;
	pthread_mutex_unlock(&listing->faulty->lock);
	return r == 0 && stopped ? -ECANCELED : r;
}

static int faulty_list(struct block_store *base, const char *prefix, const char *after,
		       block_store_list_fn *fn, void *arg, struct reterr *err)
{
	struct faulty *faulty = faulty_of(base);
	enum fate fate;
	int r = begin(faulty, BLOCK_REQUEST_LIST, prefix, &fate, err);
	if (r < 0)
		return r;
	struct listing listing = {.faulty = faulty, .fn = fn, .arg = arg};
	r = block_store_list(faulty->below, prefix, after, tell, &listing, err);
	return end(faulty, BLOCK_REQUEST_LIST, prefix, r == 0 ? fate : FINE, r, err);
}

static int faulty_delete(struct block_store *base, const char *key, struct reterr *err)
{
	struct faulty *faulty = faulty_of(base);
	enum fate fate;
	int r = begin(faulty, BLOCK_REQUEST_DELETE, key, &fate, err);
	if (r < 0)
		return r;
	if (fate == LATE)
		hold_back(faulty, key, NULL, 0, 0);
	else
		r = block_store_delete(faulty->below, key, err);
	return end(faulty, BLOCK_REQUEST_DELETE, key, fate, r, err);
}

static void faulty_status(struct block_store *base, struct block_store_status *ret)
{
	struct faulty *faulty = faulty_of(base);
	block_store_status(faulty->below, ret);
	ret->conditional = ret->conditional && !options_of(faulty).unconditional;
}

static void faulty_stop(struct block_store *base)
{
	struct faulty *faulty = faulty_of(base);
	pthread_mutex_lock(&faulty->lock);
	faulty->stopped = true;
	(void)pthread_cond_broadcast(&faulty->wake);
	pthread_mutex_unlock(&faulty->lock);
}

static void faulty_free(struct block_store *base)
{
	struct faulty *faulty = faulty_of(base);
	(void)faulty_store_settle(base, false);
	(void)pthread_cond_destroy(&faulty->wake);
	(void)pthread_mutex_destroy(&faulty->lock);
	sim_free(faulty);
}

static const struct block_store_ops faulty_ops = {
	.name = "faulty",
	.put = faulty_put,
	.replace = faulty_replace,
	.get = faulty_get,
	.get_range = faulty_get_range,
	.head = faulty_head,
	.list = faulty_list,
	.delete = faulty_delete,
	.status = faulty_status,
	.stop = faulty_stop,
	.free = faulty_free,
};

/* ---- What a test says ---- */

void faulty_store_set_down(struct block_store *base, int code)
{
	struct faulty *faulty = faulty_of(base);
	pthread_mutex_lock(&faulty->lock);
	faulty->down = code;
	pthread_mutex_unlock(&faulty->lock);
}

void faulty_store_cut_after(struct block_store *base, uint64_t effects)
{
	struct faulty *faulty = faulty_of(base);
	pthread_mutex_lock(&faulty->lock);
	faulty->effects_left = effects;
	pthread_mutex_unlock(&faulty->lock);
}

void faulty_store_set(struct block_store *base, const struct faulty_options *options)
{
	struct faulty *faulty = faulty_of(base);
	pthread_mutex_lock(&faulty->lock);
	faulty->options = *options;
	pthread_mutex_unlock(&faulty->lock);
}

void faulty_store_release(struct block_store *base)
{
	struct faulty *faulty = faulty_of(base);
	pthread_mutex_lock(&faulty->lock);
	faulty->releases++;
	(void)pthread_cond_broadcast(&faulty->wake);
	pthread_mutex_unlock(&faulty->lock);
}

uint64_t faulty_store_faults(struct block_store *base)
{
	struct faulty *faulty = faulty_of(base);
	pthread_mutex_lock(&faulty->lock);
	uint64_t faults = faulty->faults;
	pthread_mutex_unlock(&faulty->lock);
	return faults;
}

int faulty_store_new(struct block_store *below, const struct faulty_options *options,
		     struct block_store **ret)
{
	struct faulty *faulty = sim_calloc(sizeof(*faulty));
	faulty->base.ops = &faulty_ops;
	faulty->below = below;
	faulty->options = *options;
	faulty->random = options->seed;
	faulty->effects_left = UINT64_MAX;
	(void)pthread_mutex_init(&faulty->lock, NULL);
	(void)pthread_cond_init(&faulty->wake, NULL);
	*ret = &faulty->base;
	return 0;
}
