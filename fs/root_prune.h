/* Dropping old roots of a mounted store: .ctl/prune. */
#ifndef PROTOFS_FS_ROOT_PRUNE_H
#define PROTOFS_FS_ROOT_PRUNE_H

#include "fs/view.h"

/*
 * TEXT is the seq of the oldest root to keep, or "keep N": the newest N. The newest one always stays.
 * What the kernel knows of the others is forgotten. -EINVAL it is neither, or there is no such root yet. After call_block().
 */
MUST_CHECK int root_prune(struct call *call, const char *text);

#endif
