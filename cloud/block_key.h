/*
 * Keys of blocks: the only place that makes or judges them. Nothing that is not one of these forms,
 * in its only spelling, ever becomes a path or a URL.
 */
#ifndef PROTOFS_CLOUD_BLOCK_KEY_H
#define PROTOFS_CLOUD_BLOCK_KEY_H

#include <stdint.h>

#include <protofs/block_store.h>

#include "base/attr.h"
#include "base/uuid.h"

enum block_key_kind {
	BLOCK_KEY_BLOCK, /* wal/<uuid>/<position> */
	BLOCK_KEY_DELTA, /* wal/<uuid>/<position>+<from>-<to> */
	BLOCK_KEY_ROOT,  /* roots/<n> */
	BLOCK_KEY_OWNER, /* owner */
};

enum {
	BLOCK_KEY_POSITION_DIGITS = 20,
	BLOCK_KEY_RANGE_DIGITS = 10,
	BLOCK_KEY_DEPTH_MAX = 3, /* components between slashes */
};

/* Larger positions and numbers are nobody's. */
#define BLOCK_KEY_POSITION_MAX ((uint64_t)1 << 62)

struct block_key {
	enum block_key_kind kind;
	struct uuid segment;
	uint64_t position; /* of a block or delta; of a root its number */
	uint64_t from, to; /* of a delta, relative to position; from < to <= BLOCK_STORE_SIZE_MAX */
};

/* -EINVAL unless TEXT is a key in its only spelling. RET may be NULL. */
MUST_CHECK int block_key_parse(const char *text, struct block_key *ret);

/*
 * Writes the key and a NUL; returns TEXT. KEY must be one that block_key_parse could have returned.
 */
char *block_key_format(const struct block_key *key, char text[static BLOCK_KEY_MAX + 1]);

#endif
