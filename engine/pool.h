/*
 * The memory of bytes that are not yet durable: chunks of one size under one hard limit, so that a
 * stalled disk stalls writers instead of growing the daemon.
 */
#ifndef PROTOFS_ENGINE_POOL_H
#define PROTOFS_ENGINE_POOL_H

#include <stdint.h>

#include "base/attr.h"

enum {
	POOL_CHUNK_SIZE = 256 << 10,
	POOL_CHUNKS_MAX = 96,  /* 24 MiB */
	POOL_CHUNKS_KEPT = 48, /* free ones that stay allocated while there is work */
};

struct pool;

MUST_CHECK int pool_new(struct pool **ret);
void pool_free(struct pool *pool); /* accepts NULL; all chunks must be back */

/*
 * A chunk aligned for direct I/O, its content undefined. -EAGAIN at the limit; -ENOMEM. Any thread.
 */
MUST_CHECK int pool_take(struct pool *pool, uint8_t **ret);
/* Ignores the limit: for moving bytes away from a failing disk. -ENOMEM. */
MUST_CHECK int pool_take_reserve(struct pool *pool, uint8_t **ret);
void pool_give(struct pool *pool, uint8_t *chunk);
/* Waits until a chunk comes back, at most TIMEOUT_MS. */
void pool_wait(struct pool *pool, unsigned timeout_ms);
/* Gives the memory of free chunks back to the system. */
void pool_trim(struct pool *pool);
uint64_t pool_bytes(struct pool *pool); /* in use */

#endif
