/* Waiting until all of a mounted store is in its cloud. */
#ifndef PROTOFS_CMD_FLUSH_H
#define PROTOFS_CMD_FLUSH_H

#include "base/attr.h"

/*
 * Returns an exit code: what was written to the store at MOUNTPOINT before the call is in its cloud,
 * or it was logged why not. Shows progress; a signal ends it, and the upload goes on.
 */
MUST_CHECK int flush_mount(const char *mountpoint);

#endif
