/*
 * What a store's cloud holds of it, compared with what is here: `protofs fsck --cloud`, `protofs
 * scrub --cloud`.
 */
#ifndef PROTOFS_CMD_CLOUD_FSCK_H
#define PROTOFS_CMD_CLOUD_FSCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"

struct block_store;
struct segment_source;
struct where;

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

/*
 * The same for a store that is WHERE, perhaps mounted and in use: what is here is read through it.
 * Without repair.
 */
MUST_CHECK int cloud_fsck_where(struct cloud_fsck *fsck, struct where *where, uint64_t *ret_left,
				struct reterr *err);

#endif
