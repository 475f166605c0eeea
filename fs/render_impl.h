/* Between render.c and its two parsers. */
#ifndef PROTOFS_FS_RENDER_IMPL_H
#define PROTOFS_FS_RENDER_IMPL_H

#include "base/attr.h"
#include "base/reterr.h"
#include "base/slice.h"
#include "fs/json_writer.h"

/* As render_atom; the writer's own errors come back without a text. */
MUST_CHECK int render_json(struct slice payload, struct json_writer *w, struct reterr *err);
MUST_CHECK int render_msgpack(struct slice payload, struct json_writer *w, struct reterr *err);

#endif
