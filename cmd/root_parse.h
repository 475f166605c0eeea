/*
 * Reads a root back from JSON: what roots/<seq> of a mount holds (fs/root_text.h writes it), or
 * ProtoDB's space_root.
 */
#ifndef PROTOFS_CMD_ROOT_PARSE_H
#define PROTOFS_CMD_ROOT_PARSE_H

#include "base/attr.h"
#include "base/slice.h"

struct engine_root;

enum { ROOT_PARSE_SIZE_MAX = 4096 };

/*
 * Takes transaction_id (the segment's UUID), offset and, where they are there, seq, time and node;
 * other members mean nothing. The payload stays empty. -EINVAL it is no such JSON.
 */
MUST_CHECK int root_parse(struct slice text, struct engine_root *ret);

#endif
