/* The segments of WHERE in an array: for verbs that work through all of them. */
#ifndef PROTOFS_CMD_SEGMENTS_H
#define PROTOFS_CMD_SEGMENTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "cmd/where.h"

struct segments {
	struct where_segment *items;
	size_t count;
	uint64_t bytes; /* durable ones, of all */
};

MUST_CHECK int segments_list(struct where *where, struct segments *ret, struct reterr *err);
void segments_done(struct segments *segments);

#endif
