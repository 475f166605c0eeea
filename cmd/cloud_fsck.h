/* `protofs fsck --cloud`: what a store's cloud holds of it, compared with what is here. */
#ifndef PROTOFS_CMD_CLOUD_FSCK_H
#define PROTOFS_CMD_CLOUD_FSCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"

struct cloud_fsck {
	const char *store; /* the directory */
	bool deep;         /* get every object, and compare its bytes */
	bool repair;       /* put what is missing */
	bool json;
};

/*
 * Logs what it finds, prints a summary, and sets RET_LEFT to the problems that are left. -EINVAL the
 * store has no cloud; -EBUSY somebody has it.
 */
MUST_CHECK int cloud_fsck(struct cloud_fsck *fsck, uint64_t *ret_left, struct reterr *err);

#endif
