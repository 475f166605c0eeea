/* A published root as text: what roots/<seq> holds and `protofs root` prints with --json. */
#ifndef PROTOFS_FS_ROOT_TEXT_H
#define PROTOFS_FS_ROOT_TEXT_H

#include "base/attr.h"
#include "base/buf.h"

struct engine_root;

enum { ROOT_TEXT_MAX = 256 };

/*
 * {"transaction_id": "<uuid>", "offset": N, "seq": N, "time": "<RFC 3339, UTC>", "node": N} and a
 * newline. ProtoDB's transaction_id is our segment's UUID: as in space_root, so that either file
 * can be given back.
 */
MUST_CHECK int root_text_print(const struct engine_root *root, struct buf *out);

#endif
