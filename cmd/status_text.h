/* The state of a store that is not mounted, as text or JSON. */
#ifndef PROTOFS_CMD_STATUS_TEXT_H
#define PROTOFS_CMD_STATUS_TEXT_H

#include <stdbool.h>

#include "base/attr.h"

struct buf;
struct engine_stats;

/* Appends to RET. -ENOMEM, -EFBIG. */
MUST_CHECK int status_text(const struct engine_stats *stats, bool json, struct buf *ret);

#endif
