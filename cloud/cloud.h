/*
 * cloud: blocks far away. The module's public header: constructors of block stores. The interface
 * itself is protofs/block_store.h.
 */
#ifndef PROTOFS_CLOUD_CLOUD_H
#define PROTOFS_CLOUD_CLOUD_H

#include <stdint.h>

#include <protofs/block_store.h>

#include "base/attr.h"
#include "base/reterr.h"

/* `mem:`. Holds at most SIZE_MAX bytes of blocks, then -ENOSPC. -ENOMEM. */
MUST_CHECK int block_store_memory_new(uint64_t size_max, struct block_store **ret);

/*
 * `file:///DIR`, an existing directory, opened once and then used only by descriptor. Several
 * processes may use one. -ENOENT,
 * -ENOTDIR, -EACCES and the like: ERR names DIR.
 */
MUST_CHECK int block_store_dir_open(const char *dir, struct reterr *err, struct block_store **ret);

#endif
