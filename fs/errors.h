/* The last errors with their causes: .ctl/errors. Thread-safe; its lock is a leaf. */
#ifndef PROTOFS_FS_ERRORS_H
#define PROTOFS_FS_ERRORS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/reterr.h"

struct error_ring;

MUST_CHECK int error_ring_new(struct error_ring **ret);
void error_ring_free(struct error_ring *ring); /* accepts NULL */

/*
 * Adds EVENT, forgetting the oldest of FS_ERRORS_MAX. The same event as the newest one is only
 * counted. True if it is a new one, which the log wants to hear of.
 */
bool error_ring_add(struct error_ring *ring, const struct reterr *event, uint64_t time_ns);

/* One line per event, the newest last: time, errno name, text, how often. -ENOMEM, -EFBIG. */
MUST_CHECK int error_ring_text(struct error_ring *ring, struct buf *out);

#endif
