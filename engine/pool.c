#include "engine/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/invariant.h"
#include "engine/disk.h"

struct pool {
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t returned;
	unsigned in_use;
	unsigned free_count;
	uint8_t *free_chunks[POOL_CHUNKS_KEPT];
};

int pool_new(struct pool **ret)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	(void)pthread_mutex_init(&pool->lock, NULL);
	pthread_condattr_t monotonic; /* the time of day may be set back */
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&pool->returned, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	*ret = pool;
	return 0;
}

void pool_free(struct pool *pool)
{
	if (!pool)
		return;
	invariant(pool->in_use == 0);
	pool_trim(pool);
	(void)pthread_mutex_destroy(&pool->lock);
	(void)pthread_cond_destroy(&pool->returned);
	free(pool);
}

static int take(struct pool *pool, unsigned limit, uint8_t **ret)
{
	uint8_t *chunk = NULL;

	(void)pthread_mutex_lock(&pool->lock);
	if (pool->in_use >= limit) {
		(void)pthread_mutex_unlock(&pool->lock);
		return -EAGAIN;
	}
	pool->in_use++;
	if (pool->free_count)
		chunk = pool->free_chunks[--pool->free_count];
	(void)pthread_mutex_unlock(&pool->lock);
	if (chunk) {
		*ret = chunk;
		return 0;
	}

	void *memory = NULL;
	if (posix_memalign(&memory, DISK_BLOCK_SIZE, POOL_CHUNK_SIZE) != 0) {
		(void)pthread_mutex_lock(&pool->lock);
		pool->in_use--;
		(void)pthread_mutex_unlock(&pool->lock);
		return -ENOMEM;
	}
	*ret = memory;
	return 0;
}

int pool_take(struct pool *pool, uint8_t **ret)
{
	return take(pool, POOL_CHUNKS_MAX, ret);
}

int pool_take_reserve(struct pool *pool, uint8_t **ret)
{
	return take(pool, UINT32_MAX, ret);
}

void pool_give(struct pool *pool, uint8_t *chunk)
{
	if (!chunk)
		return;
	(void)pthread_mutex_lock(&pool->lock);
	invariant(pool->in_use > 0);
	pool->in_use--;
	if (pool->free_count < POOL_CHUNKS_KEPT) {
		pool->free_chunks[pool->free_count++] = chunk;
		chunk = NULL;
	}
	(void)pthread_cond_broadcast(&pool->returned);
	(void)pthread_mutex_unlock(&pool->lock);
	free(chunk);
}

void pool_wait(struct pool *pool, unsigned timeout_ms)
{
	struct timespec until;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)pthread_mutex_lock(&pool->lock);
	if (pool->in_use >= POOL_CHUNKS_MAX)
		(void)pthread_cond_timedwait(&pool->returned, &pool->lock, &until);
	(void)pthread_mutex_unlock(&pool->lock);
}

void pool_trim(struct pool *pool)
{
	(void)pthread_mutex_lock(&pool->lock);
	while (pool->free_count)
		free(pool->free_chunks[--pool->free_count]);
	(void)pthread_mutex_unlock(&pool->lock);
}

uint64_t pool_bytes(struct pool *pool)
{
	(void)pthread_mutex_lock(&pool->lock);
	uint64_t bytes = (uint64_t)pool->in_use * POOL_CHUNK_SIZE;
	(void)pthread_mutex_unlock(&pool->lock);
	return bytes;
}
