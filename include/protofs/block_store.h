/*
 * A place for immutable blocks, far away or not: what the uploader writes to and a restore reads
 * from.
 *
 * A block is bytes under a key, stored once and never changed. Implementations: memory and a
 * directory (cloud/), later S3; decorators (retrying, verifying, caching, tracing, faulty) are
 * block stores that own the one below them.
 *
 * Keys, below whatever prefix the implementation was opened with, are exactly these
 * (cloud/block_key.h):
 *   wal/<uuid>/<position>              a block: position of its first byte, 20 digits
 *   wal/<uuid>/<position>+<from>-<to>  a delta: bytes [from, to) behind position, 10 digits each
 *   roots/<n>                          a manifest: its number, 20 digits
 *   owner                              who writes to this place
 * Anything else is -EINVAL before it reaches a path or a URL, and is left out of listings: names
 * found in the place itself are hostile input.
 *
 * Threads: all methods may be called from any thread, also in parallel on one key. They block; none
 * holds a lock while it does I/O or calls back.
 *
 * Ownership: keys and data are borrowed for the call; results are copied into the caller's memory.
 * FREE takes the store and, in a decorator, what it stands on; no other call may be running.
 *
 * Errors of every method, details in ERR (may be NULL):
 *   -EINVAL  the key is none of the above
 *   -EAGAIN  failed now, may work later; a retrying decorator tries again
 *   -EACCES  refused: credentials, permissions. Trying again does not help.
 *   -EIO     the place failed, and what was asked for is unknown (put) or cannot be read
 *   -ENOMEM
 */
#ifndef PROTOFS_BLOCK_STORE_H
#define PROTOFS_BLOCK_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/hash.h"
#include "base/reterr.h"

enum { BLOCK_KEY_MAX = 128 }; /* bytes of a key, without its NUL */

/* The largest block that a store must take: the largest block size, and manifests. */
#define BLOCK_STORE_SIZE_MAX ((uint64_t)64 << 20)

struct block_store;

/* What is known of a block without reading it. */
struct block_head {
	uint64_t size;
	/*
	 * XXH3-128 of the whole block as its writer gave it. RECORDED is false where the place has
	 * lost it (a directory copied without extended attributes): HASH is then that of the bytes
	 * that lie there now.
	 */
	struct hash hash;
	bool recorded;
};

/* A negative return ends the listing with that value. */
typedef int block_store_list_fn(void *arg, const char *key, uint64_t size);

struct block_store_ops {
	const char *name; /* "memory", "directory", ...: shown by status */

	/*
	 * Stores a block if there is none of that key; concurrent puts of one key: exactly one
	 * wins. Durable and whole on return, never visible in part.
	 * 0; -EEXIST there is one (the caller compares by HEAD: equal bytes are as good as done);
	 * -EFBIG larger than BLOCK_STORE_SIZE_MAX; -ENOSPC.
	 */
	int (*put)(struct block_store *store, const char *key, const void *data, size_t size,
		   struct reterr *err);

	/*
	 * Reads up to SIZE bytes from OFFSET; fewer (RET) only at the end of the block, 0 behind
	 * it. The bytes are as they lie there: a verifying decorator compares them.
	 * 0; -ENOENT; -EBADMSG the place itself knows that they are damaged.
	 */
	int (*get_range)(struct block_store *store, const char *key, void *data, size_t size,
			 uint64_t offset, size_t *ret, struct reterr *err);

	/* 0; -ENOENT. */
	int (*head)(struct block_store *store, const char *key, struct block_head *ret,
		    struct reterr *err);

	/*
	 * Calls FN for each block whose key begins with PREFIX and is greater than AFTER (either
	 * may be ""), in ascending order of bytes. Blocks that come or go meanwhile may be told or
	 * not. FN may call the store. 0; FN's negative return; -E2BIG more names in one place than
	 * the implementation takes.
	 */
	int (*list)(struct block_store *store, const char *prefix, const char *after,
		    block_store_list_fn *fn, void *arg, struct reterr *err);

	/* Removes a block, durably. 0, also if there was none. */
	int (*delete)(struct block_store *store, const char *key, struct reterr *err);

	void (*free)(struct block_store *store);
};

/* Implementations put this first in their own struct. */
struct block_store {
	const struct block_store_ops *ops;
};

/* Short forms, so that call sites read well. */
MUST_CHECK static inline int block_store_put(struct block_store *store, const char *key,
					     const void *data, size_t size, struct reterr *err)
{
	return store->ops->put(store, key, data, size, err);
}

MUST_CHECK static inline int block_store_get_range(struct block_store *store, const char *key,
						   void *data, size_t size, uint64_t offset,
						   size_t *ret, struct reterr *err)
{
	return store->ops->get_range(store, key, data, size, offset, ret, err);
}

MUST_CHECK static inline int block_store_head(struct block_store *store, const char *key,
					      struct block_head *ret, struct reterr *err)
{
	return store->ops->head(store, key, ret, err);
}

MUST_CHECK static inline int block_store_list(struct block_store *store, const char *prefix,
					      const char *after, block_store_list_fn *fn, void *arg,
					      struct reterr *err)
{
	return store->ops->list(store, prefix, after, fn, arg, err);
}

MUST_CHECK static inline int block_store_delete(struct block_store *store, const char *key,
						struct reterr *err)
{
	return store->ops->delete (store, key, err);
}

/* Accepts NULL. */
static inline void block_store_free(struct block_store *store)
{
	if (store)
		store->ops->free(store);
}

#endif
