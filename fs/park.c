#include "fs/park.h"

#include <errno.h>
#include <stddef.h>

#include "fs/process.h"
#include "fs/version.h"

static bool park_move(struct park_wait *wait, enum park_state from, enum park_state to)
{
	return atomic_compare_exchange_strong(&wait->state, &from, to);
}

/*
 * Runs with libfuse's lock of REQ held, in the receiver that read the interrupt, or within
 * fuse_req_interrupt_func() if the interrupt came first. There it must not answer, for that frees
 * the lock: park_arm() does. Once WAIT is answered nothing of it is touched: its owner may be gone
 * by then.
 */
static void park_interrupt(fuse_req_t req, void *data)
{
	struct park_wait *wait = data;
	pid_t only_dying = atomic_load(&wait->only_dying);
	if (only_dying != 0 && !process_is_dying(only_dying))
		return;
	if (park_move(wait, PARK_ARMING, PARK_EARLY))
		return;
	if (park_move(wait, PARK_WAITING, PARK_ANSWERED))
		(void)fuse_reply_err(req, EINTR);
}

void park_arm(struct park_wait *wait, struct fuse_req *req, pid_t only_dying)
{
	if (park_armed(wait)) {
		if (only_dying == 0)
			atomic_store(&wait->only_dying, 0);
		return;
	}
	wait->req = req;
	atomic_store(&wait->only_dying, only_dying);
	atomic_store(&wait->state, PARK_ARMING);
	fuse_req_interrupt_func(req, park_interrupt, wait);
	if (park_move(wait, PARK_ARMING, PARK_WAITING))
		return;

	fuse_req_interrupt_func(req, NULL, NULL);
	atomic_store(&wait->state, PARK_ANSWERED);
	(void)fuse_reply_err(req, EINTR);
}

bool park_claim(struct park_wait *wait)
{
	if (!park_armed(wait))
		return true;
	if (!park_move(wait, PARK_WAITING, PARK_ANSWERED))
		return false;
	/* Waits for an interrupt that lost against us and still looks at WAIT. */
	fuse_req_interrupt_func(wait->req, NULL, NULL);
	return true;
}
