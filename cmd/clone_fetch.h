/* `protofs clone --full`: all bytes of a clone into the cache on its disk. */
#ifndef PROTOFS_CMD_CLONE_FETCH_H
#define PROTOFS_CMD_CLONE_FETCH_H

#include "base/attr.h"
#include "base/reterr.h"

/*
 * Reads every byte of the store in the directory STORE once, through a cache that is made as large
 * as it has to be (cache_max in cloud.conf). Each block is verified. What is there already is not
 * fetched again, so it can be repeated after a failure.
 */
MUST_CHECK int clone_fetch(const char *store, struct reterr *err);

#endif
