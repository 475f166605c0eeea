/* How much of each segment the objects of a place cover: for restores, and for a lost journal. */
#ifndef PROTOFS_CLOUD_RESTORE_POINT_H
#define PROTOFS_CLOUD_RESTORE_POINT_H

#include <stdbool.h>
#include <stdint.h>

#include <protofs/block_store.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "cloud/manifest_chain.h"

struct restore_coverage {
	uint64_t length; /* blocks and deltas cover [0, length) */
	uint64_t blocks; /* ... blocks alone */
	uint64_t deltas; /* the first block that has deltas; UINT64_MAX: none */
};

/*
 * Fills one for each segment of CHAIN; RET is the caller's to free. No manifest's length is missing
 * in it. -EBADMSG an object that the chain counts is missing or has an impossible size, or two deltas
 * contradict each other; ERR names it. CHECK_TAILS: the head of every object that reaches beyond what
 * the chain says is asked for.
 */
MUST_CHECK int restore_cover(struct block_store *store, const struct manifest_chain *chain,
			     bool check_tails, struct reterr *err, struct restore_coverage **ret);

#endif
