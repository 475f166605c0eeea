/*
 * What is on its way into the cache: one fetch for each key, buffers, and the threads that fetch what is
 * not asked for yet.
 *
 * Memory: at most BUFFERS_MAX buffers of a block exist, and each flight has one from its request until
 * the last of those who wait for it has copied its bytes. There are at least two threads fewer than
 * buffers, so that reading ahead never stands in the way of what is asked for.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/invariant.h"
#include "cloud/block_cache.h"

enum { IDLE_BUFFERS = 2 }; /* kept while nothing is on its way */

static void unpark(struct block_cache *cache);

/* ---- Buffers ---- */

static void buffer_unmap(struct block_cache *cache, void *buffer)
{
	(void)munmap(buffer, (size_t)cache->block_size);
}

/* With the lock, which it gives up. NULL: stopped, or no memory. */
static void *buffer_take(struct block_cache *cache)
{
	while (cache->buffers_used >= cache->buffers_max && !cache->stopped) {
		if (cache->parked_count > 0)
			unpark(cache);
		else
			(void)pthread_cond_wait(&cache->changed, &cache->lock);
	}
	if (cache->stopped)
		return NULL;
	cache->buffers_used++;
	if (cache->idle_count)
		return cache->idle[--cache->idle_count];
	void *buffer = mmap(NULL, (size_t)cache->block_size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffer != MAP_FAILED)
		return buffer;
	cache->buffers_used--;
	return NULL;
}

/* With the lock. */
static void buffer_give(struct block_cache *cache, void *buffer)
{
	invariant(cache->idle_count < CACHE_BUFFERS_MAX);
	cache->buffers_used--;
	cache->idle[cache->idle_count++] = buffer;
	while (cache->buffers_used <= cache->parked_count && cache->idle_count > IDLE_BUFFERS)
		buffer_unmap(cache, cache->idle[--cache->idle_count]);
	(void)pthread_cond_broadcast(&cache->changed);
}

/* ---- Flights ---- */

struct flight *cache_flight_find(struct block_cache *cache, const struct hash *id)
{
	struct flight *flight = cache->flights;
	while (flight && !hash_equal(&flight->id, id))
		flight = flight->next;
	return flight;
}

struct flight *cache_flight_new(struct block_cache *cache, const struct hash *id, const char *key)
{
	struct flight *flight = calloc(1, sizeof(*flight));
	if (!flight)
		return NULL;
	flight->id = *id;
	flight->state = FLIGHT_RUNNING;
	flight->refs = 1; /* the list's */
	(void)snprintf(flight->file.key, sizeof(flight->file.key), "%s", key);
	flight->next = cache->flights;
	cache->flights = flight;
	return flight;
}

void cache_flight_unref(struct block_cache *cache, struct flight *flight)
{
	if (--flight->refs > 0)
		return;
	if (flight->buffer)
		buffer_give(cache, flight->buffer);
	free(flight);
}

/* With the lock. Nobody finds it any more. */
static void end(struct block_cache *cache, struct flight *flight)
{
	struct flight **at = &cache->flights;
	while (*at != flight)
		at = &(*at)->next;
	*at = flight->next;
	cache_flight_unref(cache, flight);
}

/* With the lock: the oldest parked flight ends. */
static void unpark(struct block_cache *cache)
{
	struct flight *flight = cache->parked[0];
	memmove((void *)cache->parked, (void *)(cache->parked + 1),
		--cache->parked_count * sizeof(struct flight *));
	end(cache, flight);
}

/* With the lock. */
static void park(struct block_cache *cache, struct flight *flight)
{
	if (cache->parked_count == CACHE_BUFFERS_MAX)
		unpark(cache);
	cache->parked[cache->parked_count++] = flight;
	cache->parked_ms = cache_now_ms();
	cache_wake(cache); /* who else lets go of it? */
}

void cache_flight_touch(struct block_cache *cache, const struct flight *flight, size_t size)
{
	struct cache_entry *entry = cache_table_find(&cache->table, &flight->id);
	if (entry)
		cache_table_touch(&cache->table, entry, size, cache->clock->now_ms(cache->clock));
	if (cache->parked_count)
		cache->parked_ms = cache_now_ms();
}

void cache_flight_take(struct block_cache *cache, struct flight *flight)
{
	size_t i = 0;
	while (cache->queue[i] != flight)
		i++;
	memmove((void *)(cache->queue + i), (void *)(cache->queue + i + 1),
		(--cache->queue_count - i) * sizeof(struct flight *));
	flight->state = FLIGHT_RUNNING;
	flight->ahead = false;
}

static int fetch(struct block_cache *cache, struct flight *flight, void *buffer)
{
	struct block_head *head = &flight->file.head;
	int r = block_store_get(cache->below, flight->file.key, buffer, (size_t)cache->block_size,
				head, &flight->err);
	if (r == 0 && head->first_frame >= head->size)
		head->first_frame = BLOCK_NO_FRAME;
	return r;
}

void cache_flight_run(struct block_cache *cache, struct flight *flight)
{
	bool ahead = flight->ahead;
	void *buffer = buffer_take(cache);
	int r;
	if (buffer) {
		pthread_mutex_unlock(&cache->lock);
		r = fetch(cache, flight, buffer);
		pthread_mutex_lock(&cache->lock);
		flight->buffer = buffer;
	} else {
		r = reterr_set(&flight->err, cache->stopped ? -ECANCELED : -ENOMEM,
			       cache->stopped ? "the cache was stopped"
					      : "no memory to fetch a block");
	}
	flight->r = r;
	flight->state = FLIGHT_LANDED;
	cache->read_ahead += ahead && r == 0;
	(void)pthread_cond_broadcast(&cache->changed);
	bool kept = r == 0 && cache_keep(cache, flight);
	if (r == 0 && (!kept || flight->file.head.size >= CACHE_FILE_DIRECT_MIN))
		park(cache, flight);
	else
		end(cache, flight);
}

/* ---- Threads ---- */

uint64_t cache_now_ms(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* With the lock. 0: now. UINT64_MAX: there is nothing to export. */
static uint64_t export_due_ms(const struct block_cache *cache)
{
	if (!cache->dirty || cache->exporting)
		return UINT64_MAX;
	return cache->exported_ms + CACHE_EXPORT_MS;
}

/* With the lock, which it gives up. */
static void export_now(struct block_cache *cache)
{
	cache->dirty = false;
	cache->exporting = true;
	pthread_mutex_unlock(&cache->lock);
	cache_export(cache);
	pthread_mutex_lock(&cache->lock);
	cache->exporting = false;
	cache->exported_ms = cache_now_ms();
}

/* With the lock, which it gives up. */
static void wait_for_work(struct block_cache *cache, uint64_t due_ms)
{
	cache->threads_idle++;
	if (due_ms == UINT64_MAX) {
		(void)pthread_cond_wait(&cache->work, &cache->lock);
	} else {
		struct timespec due = {.tv_sec = (time_t)(due_ms / 1000),
				       .tv_nsec = (long)(due_ms % 1000) * 1000000};
		(void)pthread_cond_timedwait(&cache->work, &cache->lock, &due);
	}
	cache->threads_idle--;
}

/* With the lock, which it gives up. One thing that a thread does. */
static void work_once(struct block_cache *cache)
{
	uint64_t export_ms = export_due_ms(cache);
	uint64_t unpark_ms = cache->parked_count ? cache->parked_ms + CACHE_PARKED_MS : UINT64_MAX;
	if (cache->queue_count > 0) {
		struct flight *flight = cache->queue[0];
		cache_flight_take(cache, flight);
		flight->ahead = true;
		cache_flight_run(cache, flight);
	} else if (export_ms <= cache_now_ms()) {
		export_now(cache);
	} else if (unpark_ms <= cache_now_ms()) {
		unpark(cache);
	} else {
		wait_for_work(cache, export_ms < unpark_ms ? export_ms : unpark_ms);
	}
}

static void *work(void *arg)
{
	struct block_cache *cache = arg;
	pthread_mutex_lock(&cache->lock);
	while (!cache->stopped && !cache->closing)
		work_once(cache);
	pthread_mutex_unlock(&cache->lock);
	return NULL;
}

void cache_wake(struct block_cache *cache)
{
	if (cache->threads_idle > 0) {
		(void)pthread_cond_signal(&cache->work);
		return;
	}
	if (cache->thread_count == cache->threads_max || cache->closing)
		return;
	/* Signals are the program's affair. Without a thread nothing is read ahead, no more. */
	sigset_t all, before;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&cache->threads[cache->thread_count], NULL, work, cache) == 0)
		cache->thread_count++;
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void cache_flights_done(struct block_cache *cache)
{
	pthread_mutex_lock(&cache->lock);
	cache->closing = true;
	unsigned count = cache->thread_count;
	(void)pthread_cond_broadcast(&cache->work);
	pthread_mutex_unlock(&cache->lock);
	for (unsigned i = 0; i < count; i++)
		(void)pthread_join(cache->threads[i], NULL);

	pthread_mutex_lock(&cache->lock);
	while (cache->queue_count > 0) {
		struct flight *flight = cache->queue[0];
		cache_flight_take(cache, flight);
		end(cache, flight);
	}
	while (cache->parked_count > 0)
		unpark(cache);
	invariant(!cache->flights && cache->buffers_used == 0);
	while (cache->idle_count > 0)
		buffer_unmap(cache, cache->idle[--cache->idle_count]);
	pthread_mutex_unlock(&cache->lock);
}
