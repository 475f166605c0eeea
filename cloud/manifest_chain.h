/*
 * The chain of manifests as a place holds it: finding its end, and following it back until every
 * segment is known. The place is hostile: what is read is bounded, whatever lies there.
 */
#ifndef PROTOFS_CLOUD_MANIFEST_CHAIN_H
#define PROTOFS_CLOUD_MANIFEST_CHAIN_H

#include <stddef.h>
#include <stdint.h>

#include <protofs/block_store.h>

#include "base/attr.h"
#include "base/hash.h"
#include "base/reterr.h"
#include "cloud/manifest.h"

enum {
	MANIFEST_RUNS_MAX = 128,
	MANIFEST_STEPS_MAX = 1024, /* manifests that are read to know all segments */
};

/* More segments than these are not carried, nor taken back. */
#define MANIFEST_CHAIN_SEGMENTS_MAX ((size_t)1 << 19)

/* A manifest whose list reaches further back than one round: others may begin from it. */
struct manifest_run {
	uint64_t n;
	struct hash hash;
	uint64_t entries;
};

struct chain_segment {
	struct manifest_segment segment;
	uint64_t n; /* the manifest that says so */
};

struct manifest_chain {
	struct manifest newest;         /* without its list */
	struct hash hash;               /* of its bytes */
	uint64_t modified_ns;           /* when it was stored; 0 unknown */
	struct chain_segment *segments; /* by UUID, each once */
	size_t count, capacity;
	unsigned run_count;
	struct manifest_run runs[MANIFEST_RUNS_MAX]; /* the full one first */
};

/*
 * The number of the newest manifest, which is some one that was the newest during the call. -ENOENT
 * there is none; -EBADMSG they are not dense; the errors of the store.
 */
MUST_CHECK int manifest_find_newest(struct block_store *store, struct reterr *err, uint64_t *ret);

/*
 * Reads manifest N. -ENOENT; -EBADMSG it is none, or says it is another one. ERR names it. RET_HEAD
 * may be NULL.
 */
MUST_CHECK int manifest_get(struct block_store *store, uint64_t n, struct reterr *err,
			    struct manifest *ret, struct hash *ret_hash,
			    struct block_head *ret_head);

/*
 * -ENOENT there is no manifest; -EBADMSG the chain is broken; -E2BIG more than can be. The errors of
 * the store.
 */
MUST_CHECK int manifest_chain_read(struct block_store *store, struct reterr *err,
				   struct manifest_chain *ret);
void manifest_chain_done(struct manifest_chain *chain); /* accepts a zeroed one */

/* NULL: it is not listed. */
const struct chain_segment *manifest_chain_find(const struct manifest_chain *chain,
						const struct uuid *uuid);

#endif
