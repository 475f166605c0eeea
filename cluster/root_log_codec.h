/* A shared root as bytes. The format is described in root_log_codec.c. */
#ifndef PROTOFS_CLUSTER_ROOT_LOG_CODEC_H
#define PROTOFS_CLUSTER_ROOT_LOG_CODEC_H

#include <stdint.h>

#include <protofs/root_log.h>

#include "base/attr.h"
#include "base/slice.h"

enum { SHARED_ROOT_SIZE = 512 };

void shared_root_encode(const struct shared_root *root, uint8_t bytes[static SHARED_ROOT_SIZE]);
/* 0; -ENODATA short; -EBADMSG. */
MUST_CHECK int shared_root_decode(struct slice in, struct shared_root *ret);

/* -EINVAL if NEXT cannot follow EXPECTED. */
MUST_CHECK int shared_root_check(uint64_t expected, const struct shared_root *next,
				 struct reterr *err);

#endif
