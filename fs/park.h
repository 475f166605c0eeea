/*
 * What an interrupt does to a request that waits: the caller is answered EINTR, once, and whatever
 * the operation comes to is dropped. Of what must not be done twice that is true only if the caller
 * is being killed: any other would try again.
 *
 * A request is answered by whoever wins its wait. The other must not touch it any more: it is gone.
 */
#ifndef PROTOFS_FS_PARK_H
#define PROTOFS_FS_PARK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/attr.h"

struct fuse_req;

enum park_state {
	PARK_NONE = 0, /* not armed: an interrupt has no effect */
	PARK_ARMING,
	PARK_EARLY, /* interrupted while it was being armed */
	PARK_WAITING,
	PARK_ANSWERED,
};

/* Zeroed: PARK_NONE. */
struct park_wait {
	struct fuse_req *req;
	_Atomic enum park_state state;
	_Atomic pid_t only_dying; /* the caller, if only its death counts; else 0 */
};

/*
 * From here on an interrupt answers REQ by itself; if ONLY_DYING is not 0, only once that thread is
 * being killed. A later call for the same wait can only drop that condition.
 */
void park_arm(struct park_wait *wait, struct fuse_req *req, pid_t only_dying);

/*
 * True: the request is the caller's to answer. False: it was answered EINTR. Afterwards WAIT may
 * go.
 */
MUST_CHECK bool park_claim(struct park_wait *wait);

static inline bool park_armed(const struct park_wait *wait)
{
	return atomic_load(&wait->state) != PARK_NONE;
}

static inline bool park_answered(const struct park_wait *wait)
{
	return atomic_load(&wait->state) == PARK_ANSWERED;
}

#endif
