/* What the uploader's journal knows of a store's segments that its disk may have lost. */
#ifndef PROTOFS_CMD_CLOUD_WITNESS_H
#define PROTOFS_CMD_CLOUD_WITNESS_H

#include "base/attr.h"
#include "base/reterr.h"

struct engine;

/*
 * For an engine that was opened with `witnesses`, before anybody appends: what a torn tail has lost comes
 * back from the cloud, which nobody speaks to if nothing is missing. What cannot be had leaves ENGINE
 * read-only, and is no error: engine_stats has the reason. Nor is a damaged journal.
 */
MUST_CHECK int cloud_witness_restore(struct engine *engine, struct reterr *err);

#endif
