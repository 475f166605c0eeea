/* What the uploader's journal knows of a store's segments that its disk may have lost. */
#ifndef PROTOFS_CMD_CLOUD_WITNESS_H
#define PROTOFS_CMD_CLOUD_WITNESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"

struct engine;

/*
 * For an engine that was opened with `witnesses`, before anybody appends: what a torn tail has lost comes
 * back from the cloud, which nobody speaks to if nothing is missing. What cannot be had leaves ENGINE
 * read-only, and is no error: engine_stats has the reason. Nor is a damaged journal.
 */
MUST_CHECK int cloud_witness_restore(struct engine *engine, struct reterr *err);

/* Of `fsck`, for a store whose structures are sound. */
struct cloud_witness_fsck {
	const char *store;
	/*
	 * What can be had is brought back; what cannot is given up: it is lost, and of its segment nothing
	 * is uploaded any more. While the cloud is away neither is done.
	 */
	bool repair;
	void (*found)(void *arg, const struct reterr *finding, bool fixed);
	void *arg;
	uint64_t problems, fixed; /* set here */
};

/* Compares the store with what the uploader's journal knows of it. A mounted store is left alone. */
MUST_CHECK int cloud_witness_fsck(struct cloud_witness_fsck *fsck, struct reterr *err);

#endif
