/*
 * Counts what is asked of the store below, for status. Requests cost money, so it stands right above
 * the place, where each attempt passes. A place that makes several requests of one call (pages of
 * a listing) counts them itself; the greater count is told.
 *
 * The counters are atomics; the lock guards the last error only.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "cloud/cloud.h"

struct counting {
	struct block_store base;
	struct block_store *below;
	_Atomic uint64_t requests[BLOCK_REQUESTS];
	_Atomic uint64_t bytes_sent, bytes_received;
	_Atomic uint64_t failures;
	pthread_mutex_t lock;
	struct reterr last_error; /* the lock */
	atomic_bool failed;       /* whether there is one */
};

static struct counting *counting_of(struct block_store *base)
{
	return (struct counting *)base;
}

/* An answer is no failure, nor is what never left the machine. */
static bool is_failure(int r)
{
	return r < 0 && r != -ENOENT && r != -EEXIST && r != -ECANCELED && r != -EINVAL &&
	       r != -ENOMEM;
}

/* After a call that returned R, with DETAILS of its own. Returns R, and the details in ERR. */
static int note(struct counting *counting, enum block_request kind, int r,
		const struct reterr *details, struct reterr *err)
{
	if (r != -EINVAL && r != -ECANCELED)
		(void)atomic_fetch_add(&counting->requests[kind], 1);
	if (is_failure(r)) {
		(void)atomic_fetch_add(&counting->failures, 1);
		pthread_mutex_lock(&counting->lock);
		counting->last_error = *details;
		counting->last_error.code = r;
		atomic_store(&counting->failed, true);
		pthread_mutex_unlock(&counting->lock);
	} else if (r == 0 && atomic_load(&counting->failed)) {
		pthread_mutex_lock(&counting->lock);
		counting->last_error = (struct reterr){0};
		atomic_store(&counting->failed, false);
		pthread_mutex_unlock(&counting->lock);
	}
	if (r < 0 && err)
		*err = *details;
	return r;
}

static int counting_put(struct block_store *base, const char *key, const void *data, size_t size,
			uint64_t first_frame, struct reterr *err)
{
	struct counting *counting = counting_of(base);
	struct reterr details = {0};
	int r = block_store_put(counting->below, key, data, size, first_frame, &details);
	if (r == 0)
		(void)atomic_fetch_add(&counting->bytes_sent, size);
	return note(counting, BLOCK_REQUEST_PUT, r, &details, err);
}

static int counting_replace(struct block_store *base, const char *key, const void *data,
			    size_t size, struct reterr *err)
{
	struct counting *counting = counting_of(base);
	struct reterr details = {0};
	int r = block_store_replace(counting->below, key, data, size, &details);
	if (r == 0)
		(void)atomic_fetch_add(&counting->bytes_sent, size);
	return note(counting, BLOCK_REQUEST_PUT, r, &details, err);
}

static int counting_get(struct block_store *base, const char *key, void *data, size_t size_max,
			struct block_head *ret, struct reterr *err)
{
	struct counting *counting = counting_of(base);
	struct reterr details = {0};
	int r = block_store_get(counting->below, key, data, size_max, ret, &details);
	if (r == 0)
		(void)atomic_fetch_add(&counting->bytes_received, ret->size);
	return note(counting, BLOCK_REQUEST_GET, r, &details, err);
}

static int counting_get_range(struct block_store *base, const char *key, void *data, size_t size,
			      uint64_t offset, size_t *ret, struct reterr *err)
{
	struct counting *counting = counting_of(base);
	struct reterr details = {0};
	int r = block_store_get_range(counting->below, key, data, size, offset, ret, &details);
	if (r == 0)
		(void)atomic_fetch_add(&counting->bytes_received, *ret);
	return note(counting, BLOCK_REQUEST_GET, r, &details, err);
}

static int counting_head(struct block_store *base, const char *key, struct block_head *ret,
			 struct reterr *err)
{
	struct counting *counting = counting_of(base);
	struct reterr details = {0};
	int r = block_store_head(counting->below, key, ret, &details);
	return note(counting, BLOCK_REQUEST_HEAD, r, &details, err);
}

struct listing {
	block_store_list_fn *fn;
	void *arg;
	int ended; /* FN's negative return: its caller's will, no failure */
};

static int tell(void *arg, const char *key, uint64_t size)
{
	struct listing *listing = arg;
	int r = listing->fn(listing->arg, key, size);
	listing->ended = r < 0 ? r : 0;
	return r;
}

static int counting_list(struct block_store *base, const char *prefix, const char *after,
			 block_store_list_fn *fn, void *arg, struct reterr *err)
{
	struct counting *counting = counting_of(base);
	struct listing listing = {.fn = fn, .arg = arg};
	struct reterr details = {0};
	int r = block_store_list(counting->below, prefix, after, tell, &listing, &details);
	int noted = listing.ended ? 0 : r;
	(void)note(counting, BLOCK_REQUEST_LIST, noted, &details, err);
	return r;
}

static int counting_delete(struct block_store *base, const char *key, struct reterr *err)
{
	struct counting *counting = counting_of(base);
	struct reterr details = {0};
	int r = block_store_delete(counting->below, key, &details);
	return note(counting, BLOCK_REQUEST_DELETE, r, &details, err);
}

static uint64_t greater(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void counting_status(struct block_store *base, struct block_store_status *ret)
{
	struct counting *counting = counting_of(base);
	struct block_store_status status = {0};
	block_store_status(counting->below, &status);
	for (size_t i = 0; i < BLOCK_REQUESTS; i++)
		status.requests[i] =
			greater(status.requests[i], atomic_load(&counting->requests[i]));
	status.bytes_sent = atomic_load(&counting->bytes_sent);
	status.bytes_received = atomic_load(&counting->bytes_received);
	status.failures = atomic_load(&counting->failures);
	pthread_mutex_lock(&counting->lock);
	status.last_error = counting->last_error;
	pthread_mutex_unlock(&counting->lock);
	*ret = status;
}

static void counting_stop(struct block_store *base)
{
	block_store_stop(counting_of(base)->below);
}

static void counting_free(struct block_store *base)
{
	struct counting *counting = counting_of(base);
	block_store_free(counting->below);
	(void)pthread_mutex_destroy(&counting->lock);
	free(counting);
}

static const struct block_store_ops counting_ops = {
	.name = "counting",
	.put = counting_put,
	.replace = counting_replace,
	.get = counting_get,
	.get_range = counting_get_range,
	.head = counting_head,
	.list = counting_list,
	.delete = counting_delete,
	.status = counting_status,
	.stop = counting_stop,
	.free = counting_free,
};

int block_store_counting_new(struct block_store *below, struct block_store **ret)
{
	struct counting *counting = calloc(1, sizeof(*counting));
	if (!counting) {
		block_store_free(below);
		return -ENOMEM;
	}
	counting->base.ops = &counting_ops;
	counting->below = below;
	(void)pthread_mutex_init(&counting->lock, NULL);
	*ret = &counting->base;
	return 0;
}
