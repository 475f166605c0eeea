/* wal/in/: segments copied in, to restore them. */
#ifndef PROTOFS_FS_WAL_IN_H
#define PROTOFS_FS_WAL_IN_H

#include "base/attr.h"

struct call;
struct uuid;

/*
 * Takes in the staged copy of segment UUID although it has no .sum; one that is there must match
 * still. -ENOENT there is no copy; -EBUSY it is still open for writing; -EBADMSG, -EEXIST and the
 * errors of engine_import. May block.
 */
MUST_CHECK int wal_in_accept(struct call *call, const struct uuid *uuid);

#endif
