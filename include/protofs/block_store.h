/*
 * A place for immutable blocks, far away or not: what the uploader writes to and a restore reads
 * from.
 *
 * A block is bytes under a key, stored once and never changed. Implementations: memory, a directory
 * and S3 (cloud/); decorators (counting, retrying, verifying, faulty) are block stores that own the
 * one below them.
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
 * holds a lock while it does I/O or calls back. STOP ends their waits.
 *
 * Ownership: keys and data are borrowed for the call; results are copied into the caller's memory.
 * FREE takes the store and, in a decorator, what it stands on; no other call may be running.
 *
 * Errors of every method, details in ERR (may be NULL):
 *   -EINVAL  the key is none of the above
 *   -EAGAIN  failed now, may work later; a retrying decorator tries again, not before
 *            ERR->retry_after_ms. A put may nevertheless have taken effect, or yet take it.
 *   -EACCES  refused: credentials, permissions. Trying again does not help.
 *   -EIO     the place failed, and what was asked for is unknown (put) or cannot be read
 *   -ECANCELED  STOP was called
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

/* No frame header begins in the block, or nobody knows. */
#define BLOCK_NO_FRAME UINT64_MAX

enum { BLOCK_ETAG_SIZE = 72 };

/* What is known of a block without reading it. */
struct block_head {
	uint64_t size;
	/*
	 * Where, behind the block's first byte, the first frame header begins, as its writer gave
	 * it; BLOCK_NO_FRAME also where the place has lost it. With it a reader of a single atom
	 * need not follow the frames from the segment's start.
	 */
	uint64_t first_frame;
	uint64_t modified_ns;       /* when it was stored, by the place's clock; 0 unknown */
	char etag[BLOCK_ETAG_SIZE]; /* the place's own mark of these bytes; "" it has none */
	/*
	 * XXH3-128 of the whole block as its writer gave it. RECORDED is false where the place has
	 * lost it (a directory copied without extended attributes): HASH is then that of the bytes
	 * that lie there now.
	 */
	struct hash hash;
	bool recorded;
};

/* What a place was asked for since it was opened. Requests cost money: each attempt counts. */
enum block_request {
	BLOCK_REQUEST_PUT,
	BLOCK_REQUEST_GET,
	BLOCK_REQUEST_HEAD,
	BLOCK_REQUEST_LIST, /* one page of it */
	BLOCK_REQUEST_DELETE,
	BLOCK_REQUESTS,
};

struct block_store_status {
	const char *place; /* "s3", "directory", "memory": static */
	/*
	 * Whether the place itself refuses a second put of a key. False: put looks first and then
	 * writes, which two writers at one time can both survive.
	 */
	bool conditional;
	uint64_t requests[BLOCK_REQUESTS];
	uint64_t bytes_sent, bytes_received; /* of bodies */
	uint64_t retries;
	uint64_t failures;        /* attempts that failed, but for -ENOENT and -EEXIST */
	uint64_t retrying;        /* calls that wait for their next attempt now */
	uint64_t next_retry_ms;   /* the clock's time of the earliest of them; 0 none */
	struct reterr last_error; /* of the last failure; code 0: none, or nothing failed since */
};

/* A negative return ends the listing with that value. */
typedef int block_store_list_fn(void *arg, const char *key, uint64_t size);

struct block_store_ops {
	const char *name; /* "memory", "directory", ...: shown by status */

	/*
	 * Stores a block if there is none of that key; concurrent puts of one key: exactly one
	 * wins (but see status: conditional). Durable and whole on return, never visible in part.
	 * FIRST_FRAME is kept beside it.
	 * 0; -EEXIST there is one (the caller compares by HEAD: equal bytes are as good as done);
	 * -EFBIG larger than BLOCK_STORE_SIZE_MAX; -ENOSPC.
	 */
	int (*put)(struct block_store *store, const char *key, const void *data, size_t size,
		   uint64_t first_frame, struct reterr *err);

	/*
	 * Stores "owner", the only key that is ever written twice. 0; -EINVAL another key.
	 */
	int (*replace)(struct block_store *store, const char *key, const void *data, size_t size,
		       struct reterr *err);

	/*
	 * The whole block, and its head, in one request.
	 * 0; -ENOENT; -EFBIG it has more than SIZE_MAX bytes; -EBADMSG the place itself knows that
	 * it is damaged, or fewer bytes came than it has; a verifying decorator compares the rest.
	 */
	int (*get)(struct block_store *store, const char *key, void *data, size_t size_max,
		   struct block_head *ret, struct reterr *err);

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

	/* Never waits for the place. */
	void (*status)(struct block_store *store, struct block_store_status *ret);

	/* All calls, running or to come, end soon with -ECANCELED. */
	void (*stop)(struct block_store *store);

	void (*free)(struct block_store *store);
};

/* Implementations put this first in their own struct. */
struct block_store {
	const struct block_store_ops *ops;
};

/* Short forms, so that call sites read well. */
MUST_CHECK static inline int block_store_put(struct block_store *store, const char *key,
					     const void *data, size_t size, uint64_t first_frame,
					     struct reterr *err)
{
	return store->ops->put(store, key, data, size, first_frame, err);
}

MUST_CHECK static inline int block_store_replace(struct block_store *store, const char *key,
						 const void *data, size_t size, struct reterr *err)
{
	return store->ops->replace(store, key, data, size, err);
}

MUST_CHECK static inline int block_store_get(struct block_store *store, const char *key, void *data,
					     size_t size_max, struct block_head *ret,
					     struct reterr *err)
{
	return store->ops->get(store, key, data, size_max, ret, err);
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

static inline void block_store_status(struct block_store *store, struct block_store_status *ret)
{
	store->ops->status(store, ret);
}

static inline void block_store_stop(struct block_store *store)
{
	store->ops->stop(store);
}

/* Accepts NULL. */
static inline void block_store_free(struct block_store *store)
{
	if (store)
		store->ops->free(store);
}

#endif
