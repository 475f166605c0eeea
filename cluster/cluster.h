/*
 * cluster: agreement between nodes. The module's public header: constructors of root logs. The
 * interface itself is protofs/root_log.h.
 */
#ifndef PROTOFS_CLUSTER_CLUSTER_H
#define PROTOFS_CLUSTER_CLUSTER_H

#include <protofs/root_log.h>

#include "base/attr.h"
#include "base/reterr.h"

/* One process. -ENOMEM. */
MUST_CHECK int shared_root_log_memory_new(struct shared_root_log **ret);

/*
 * Files in DIR, an existing directory on one machine: the processes that open it agree. -ENOENT,
 * -ENOTDIR, -EACCES and the like: ERR names DIR.
 */
MUST_CHECK int shared_root_log_file_open(const char *dir, struct reterr *err,
					 struct shared_root_log **ret);

#endif
