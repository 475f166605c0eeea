/*
 * The threads of a mount.
 *
 * A few of them, the receivers, wait for requests and serve each one themselves. A receiver whose
 * operation may wait (for the disk, mostly) leaves that role first and goes on with its operation
 * as it is; if nobody would be left to receive, another thread takes the place. So what is fast
 * costs no handover, what is slow costs none either, and nothing that waits holds up others.
 *
 * At most CREW_THREADS_MAX operations wait at once, of large reads and writes 8 (and 8 reads from
 * the cloud); then requests stay
 * in the kernel until one is done. What may wait for ever (flock) must not hold a thread: see
 * flock.h.
 */
#ifndef PROTOFS_FS_CREW_H
#define PROTOFS_FS_CREW_H

#include <stddef.h>

#include "base/attr.h"

/* More than the kernel's requests in the background (max_background), which may all wait. */
enum { CREW_THREADS_MAX = 320 };

struct crew;
struct fuse_session;

struct crew_options {
	unsigned receivers; /* at least 1 */
	unsigned spin_us;
	/* Called once, by a thread of the crew, when the first request, INIT, has been answered. */
	void (*ready)(void *arg);
	/*
	 * Called once, by the thread of crew_run, when the end has come and operations are still
	 * under way: what they wait for beyond this machine must let them go. May be NULL.
	 */
	void (*ending)(void *arg);
	void *arg;
};

MUST_CHECK int crew_new(const struct crew_options *options, struct crew **ret);
void crew_free(struct crew *crew); /* accepts NULL */

/*
 * Serves SESSION with threads of its own until it is unmounted, its device fails or crew_stop was
 * called; operations under way are finished. 0 or -errno.
 */
MUST_CHECK int crew_run(struct crew *crew, struct fuse_session *session);

/* Async-signal-safe. */
void crew_stop(struct crew *crew);

/* The calling thread, if it is a receiver, is none until its operation returns. */
void crew_leave(void);

/*
 * The calling thread's buffer, of at least SIZE bytes, until its operation ends. NULL without
 * memory. What may wait for long, as for the cloud, asks for more than 64 KiB only after
 * crew_leave(), and then waits here while too many others have such a buffer.
 */
void *crew_scratch(size_t size);

#endif
