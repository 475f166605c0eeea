/*
 * The segments of WHERE as a segment_source, as far as a check of the cloud needs it: finding and
 * reading them. Of a mounted store nobody is told what is final, so it is nothing to upload from.
 */
#ifndef PROTOFS_CMD_WHERE_SOURCE_H
#define PROTOFS_CMD_WHERE_SOURCE_H

#include <protofs/segment_source.h>

#include "cmd/segments.h"

struct where_source {
	struct segment_source source;
	struct where *where; /* borrowed */
	struct segments segments;
};

/* As they are now: what is written later is not looked at. */
MUST_CHECK int where_source_init(struct where_source *ret, struct where *where, struct reterr *err);
void where_source_done(struct where_source *source);

#endif
