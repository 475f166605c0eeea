/* A published root as text: the JSON of roots/<seq>. */
#ifndef PROTOFS_CMD_ROOT_TEXT_H
#define PROTOFS_CMD_ROOT_TEXT_H

#include <stddef.h>

#include "base/attr.h"
#include "base/slice.h"

struct engine_root;

enum { ROOT_TEXT_SIZE_MAX = 4096 };

/*
 * Takes transaction_id (the segment's UUID), offset and, where they are there, seq, time and node; other members
 * are ignored, and ProtoDB's own space_root has only the first two. -EINVAL it is no such JSON.
 */
MUST_CHECK int root_text_parse(struct slice text, struct engine_root *ret);

/* Writes all five on one line, and a NUL. Returns the length. */
size_t root_text_format(const struct engine_root *root, char *text, size_t size);

#endif
