/*
 * What space/space_root holds: {"transaction_id": "<uuid>", "offset": N}. ProtoDB's transaction_id
 * is our segment's UUID; other members are allowed and mean nothing.
 */
#ifndef PROTOFS_FS_ROOT_JSON_H
#define PROTOFS_FS_ROOT_JSON_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/reterr.h"
#include "base/slice.h"
#include "engine/engine.h"

enum { ROOT_JSON_SIZE_MAX = ENGINE_ROOT_PAYLOAD_MAX };

/*
 * -EINVAL: not JSON, no object, a member missing, twice or of another type, an offset that no
 * segment can have, larger
 * than ROOT_JSON_SIZE_MAX. ERR says which.
 */
MUST_CHECK int root_json_parse(struct slice text, struct engine_pointer *ret, struct reterr *err);

/* Writes POINTER as ProtoDB would. -ENOMEM, -EFBIG. */
MUST_CHECK int root_json_print(const struct engine_pointer *pointer, struct buf *out);

#endif
