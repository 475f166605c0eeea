/* The cache of blocks: opening, reading, status. */
#include "cloud/block_cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cloud/block_key.h"

#define SIZE_MAX_DEFAULT ((uint64_t)500 * 1000 * 1000)

static int stopped(struct reterr *err)
{
	return reterr_set(err, -ECANCELED, "the cache was stopped");
}

/* ---- Reading ---- */

struct request {
	struct hash id;
	const char *key;
	void *data;
	size_t size;
	uint64_t offset;
	size_t *ret;
	struct block_head *ret_head;
};

/* Whether what failed with R lies in the file itself, rather than in the machine. */
static bool is_damage(int r)
{
	return r == -EBADMSG || r == -ENOENT || r == -EIO || r == -EINVAL || r == -EUCLEAN;
}

/* The first use since the start. With the lock, which it gives up. 0, or ENTRY is gone: -EAGAIN. */
static int verify(struct block_cache *cache, struct cache_entry *entry)
{
	entry->busy = true;
	pthread_mutex_unlock(&cache->lock);
	int r = cache_file_verify(cache->dir_fd, &entry->file);
	pthread_mutex_lock(&cache->lock);
	entry->busy = false;
	entry->verified = r == 0;
	(void)pthread_cond_broadcast(&cache->changed);
	if (!is_damage(r))
		return r;
	cache->damaged++;
	cache_drop(cache, entry);
	return -EAGAIN;
}

/* With the lock, which it gives up. -EAGAIN: look again. */
static int read_entry(struct block_cache *cache, struct cache_entry *entry,
		      const struct request *request)
{
	if (entry->busy) {
		(void)pthread_cond_wait(&cache->changed, &cache->lock);
		return -EAGAIN;
	}
	int r = entry->verified ? 0 : verify(cache, entry);
	if (r < 0)
		return r;

	entry->pins++;
	cache_table_touch(&cache->table, entry, request->size, cache->clock->now_ms(cache->clock));
	pthread_mutex_unlock(&cache->lock);
	struct block_head head = entry->file.head;
	size_t got;
	r = cache_file_read(cache->dir_fd, &entry->file, request->data, request->size,
			    request->offset, &got);
	pthread_mutex_lock(&cache->lock);
	if (--entry->pins == 0)
		(void)pthread_cond_broadcast(&cache->changed);
	if (r == 0) {
		*request->ret = got;
		if (request->ret_head)
			*request->ret_head = head;
		return 0;
	}
	if (!is_damage(r))
		return r;
	if (!entry->busy) {
		cache->damaged++;
		cache_drop(cache, entry);
	}
	return -EAGAIN;
}

/* The flight has landed, and the caller holds a reference: without the lock. */
static int read_flight(const struct flight *flight, const struct request *request,
		       struct reterr *err)
{
	if (flight->r < 0) {
		if (err)
			*err = flight->err;
		return flight->r;
	}
	const struct block_head *head = &flight->file.head;
	size_t size = 0;
	if (request->offset < head->size) {
		uint64_t rest = head->size - request->offset;
		size = request->size < rest ? request->size : (size_t)rest;
		memcpy(request->data, (const uint8_t *)flight->buffer + request->offset, size);
	}
	*request->ret = size;
	if (request->ret_head)
		*request->ret_head = *head;
	return 0;
}

/* With the lock, which it gives up. */
static int join_flight(struct block_cache *cache, struct flight *flight,
		       const struct request *request, struct reterr *err)
{
	flight->refs++;
	if (flight->state == FLIGHT_QUEUED) {
		cache_flight_take(cache, flight);
		cache_flight_run(cache, flight);
	}
	while (flight->state != FLIGHT_LANDED && !cache->stopped)
		(void)pthread_cond_wait(&cache->changed, &cache->lock);
	int r;
	if (flight->state == FLIGHT_LANDED) {
		cache_flight_touch(cache, flight, request->size);
		pthread_mutex_unlock(&cache->lock);
		r = read_flight(flight, request, err);
		pthread_mutex_lock(&cache->lock);
	} else {
		r = stopped(err);
	}
	cache_flight_unref(cache, flight);
	return r;
}

/* With the lock, which it gives up. -EAGAIN: look again, the others are answers. */
static int attempt(struct block_cache *cache, const struct request *request, bool *again,
		   struct reterr *err)
{
	*again = false;
	if (cache->stopped)
		return stopped(err);
	/* A flight first: while it is being kept, its bytes are in memory. */
	struct flight *flight = cache_flight_find(cache, &request->id);
	if (!flight) {
		struct cache_entry *entry = cache_table_find(&cache->table, &request->id);
		if (entry) {
			int r = read_entry(cache, entry, request);
			*again = r == -EAGAIN;
			cache->hits += r == 0;
			return r < 0 && !*again
				       ? reterr_set(err, r, "cannot read %s in the cache: %s",
						    request->key, strerror(-r))
				       : r;
		}
		flight = cache_flight_new(cache, &request->id, request->key);
		if (!flight)
			return reterr_set(err, -ENOMEM, "no memory to fetch %s", request->key);
		cache->misses++;
		flight->refs++;
		cache_flight_run(cache, flight);
		int r = join_flight(cache, flight, request, err);
		cache_flight_unref(cache, flight);
		return r;
	}
	cache->misses += flight->state == FLIGHT_QUEUED;
	cache->hits += flight->state != FLIGHT_QUEUED;
	return join_flight(cache, flight, request, err);
}

int block_cache_read(struct block_cache *cache, const char *key, void *data, size_t size,
		     uint64_t offset, size_t *ret, struct block_head *ret_head, struct reterr *err)
{
	if (block_key_parse(key, NULL) < 0)
		return reterr_set(err, -EINVAL, "\"%.100s\" is no key of a block", key);
	const struct request request = {
		.id = hash_of(key, strlen(key)),
		.key = key,
		.data = data,
		.size = size,
		.offset = offset,
		.ret = ret,
		.ret_head = ret_head,
	};
	int r = -EAGAIN;
	bool again = true;
	pthread_mutex_lock(&cache->lock);
	while (again)
		r = attempt(cache, &request, &again, err);
	pthread_mutex_unlock(&cache->lock);
	return r;
}

void block_cache_want(struct block_cache *cache, const char *key)
{
	if (block_key_parse(key, NULL) < 0)
		return;
	struct hash id = hash_of(key, strlen(key));
	pthread_mutex_lock(&cache->lock);
	bool room = !cache->stopped && cache->threads_max > 0 &&
		    cache->queue_count < CACHE_QUEUE_MAX && !cache_table_find(&cache->table, &id) &&
		    !cache_flight_find(cache, &id);
	struct flight *flight = room ? cache_flight_new(cache, &id, key) : NULL;
	if (flight) {
		flight->state = FLIGHT_QUEUED;
		flight->ahead = true;
		cache->queue[cache->queue_count++] = flight;
		cache_wake(cache);
	}
	pthread_mutex_unlock(&cache->lock);
}

/* ---- What is there ---- */

bool block_cache_has(struct block_cache *cache, const char *key, char *ret_path, size_t size)
{
	struct hash id = hash_of(key, strlen(key));
	pthread_mutex_lock(&cache->lock);
	bool there = cache_table_find(&cache->table, &id) != NULL;
	pthread_mutex_unlock(&cache->lock);
	if (there) {
		char name[CACHE_FILE_NAME_SIZE];
		(void)snprintf(ret_path, size, "cloud_page_cache/server_%u/%s", cache->server,
			       cache_file_name(key, name));
	}
	return there;
}

bool block_cache_head(struct block_cache *cache, const char *key, struct block_head *ret)
{
	struct hash id = hash_of(key, strlen(key));
	pthread_mutex_lock(&cache->lock);
	const struct cache_entry *entry = cache_table_find(&cache->table, &id);
	if (entry)
		*ret = entry->file.head;
	pthread_mutex_unlock(&cache->lock);
	return entry != NULL;
}

void block_cache_status(struct block_cache *cache, struct block_cache_status *ret)
{
	pthread_mutex_lock(&cache->lock);
	*ret = (struct block_cache_status){
		.hits = cache->hits,
		.misses = cache->misses,
		.evictions = cache->evictions,
		.damaged = cache->damaged,
		.blocks = cache->table.count,
		.bytes = cache->used + cache->reserved,
		.size_max = cache->table.size_max,
		.read_ahead = cache->read_ahead,
	};
	pthread_mutex_unlock(&cache->lock);
}

/* ---- Opening and closing ---- */

static void conds_init(struct block_cache *cache)
{
	pthread_condattr_t attributes;
	(void)pthread_mutex_init(&cache->lock, NULL);
	(void)pthread_cond_init(&cache->changed, NULL);
	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&cache->work, &attributes);
	(void)pthread_condattr_destroy(&attributes);
}

static void cache_free(struct block_cache *cache)
{
	cache_table_done(&cache->table);
	(void)pthread_cond_destroy(&cache->work);
	(void)pthread_cond_destroy(&cache->changed);
	(void)pthread_mutex_destroy(&cache->lock);
	if (cache->dir_fd >= 0)
		(void)close(cache->dir_fd);
	free(cache);
}

int block_cache_open(const struct block_cache_options *options, struct block_store *below,
		     struct reterr *err, struct block_cache **ret)
{
	struct block_cache *cache = calloc(1, sizeof(*cache));
	if (!cache)
		return reterr_set(err, -ENOMEM, "no memory for the cache");
	uint64_t buffers = options->block_size ? CACHE_BUFFERS_SIZE / options->block_size : 0;
	if (buffers < CACHE_BUFFERS_MIN)
		buffers = CACHE_BUFFERS_MIN;
	if (buffers > CACHE_BUFFERS_MAX)
		buffers = CACHE_BUFFERS_MAX;
	cache->below = below;
	cache->clock = options->clock ? options->clock : clock_system();
	cache->dir_fd = -1;
	cache->server = options->server;
	cache->block_size = options->block_size;
	cache->buffers_max = (unsigned)buffers;
	cache->threads_max = cache->buffers_max - CACHE_BUFFERS_ASKED < CACHE_THREADS_MAX
				     ? cache->buffers_max - CACHE_BUFFERS_ASKED
				     : CACHE_THREADS_MAX;
	conds_init(cache);
	int r = cache_table_init(&cache->table,
				 options->size_max ? options->size_max : SIZE_MAX_DEFAULT,
				 options->block_size);
	if (r < 0)
		(void)reterr_set(err, r, "no memory for the cache");
	else
		r = cache_load(cache, options->dir, err);
	if (r < 0) {
		cache_free(cache);
		return r;
	}
	*ret = cache;
	return 0;
}

void block_cache_stop(struct block_cache *cache)
{
	pthread_mutex_lock(&cache->lock);
	cache->stopped = true;
	(void)pthread_cond_broadcast(&cache->changed);
	(void)pthread_cond_broadcast(&cache->work);
	pthread_mutex_unlock(&cache->lock);
}

void block_cache_close(struct block_cache *cache)
{
	if (!cache)
		return;
	block_cache_stop(cache);
	cache_flights_done(cache);
	if (cache->dirty)
		cache_export(cache);
	cache_free(cache);
}
