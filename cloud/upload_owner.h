/*
 * The object "owner": who writes to a place that does not refuse second puts by itself. It is
 * looked at before each round; two writers can still pass each other between a look and a put.
 */
#ifndef PROTOFS_CLOUD_UPLOAD_OWNER_H
#define PROTOFS_CLOUD_UPLOAD_OWNER_H

#include <stdbool.h>

#include "cloud/upload_exec.h"

/* CLAIMING: an older session of this store, or with take_over any owner, gives way to this one. */
void upload_check_owner(struct upload_io *io, struct upload_plan *plan, bool claiming,
			struct upload_result *ret);

#endif
