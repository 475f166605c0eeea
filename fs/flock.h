/*
 * Locks by flock(2), of every file of the mount. That on space/space_root.lock is the store's root
 * lock.
 *
 * A lock belongs to an open file description (OWNER), so it is shared by dup and fork, and goes
 * with the last close. Waiters hold no thread: their requests are parked here, in order, until they
 * are granted or interrupted.
 *
 * Thread-safe. The table's lock is a leaf; replies are sent without it.
 */
#ifndef PROTOFS_FS_FLOCK_H
#define PROTOFS_FS_FLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"

enum {
	FLOCK_PARKED = 1,
	FLOCK_LOCKS_MAX = 4096, /* held and awaited together */
};

struct fuse_req;
struct flock_table;

struct flock_request {
	uint64_t node;
	uint64_t owner;
	pid_t process; /* 0: unknown */
	int op;        /* flock(2)'s */
};

MUST_CHECK int flock_table_new(struct flock_table **ret);
/* Answers EINTR to who still waits. Accepts NULL. */
void flock_table_free(struct flock_table *table);

/*
 * 0 done; FLOCK_PARKED the request will be answered from here; -EAGAIN held, and LOCK_NB is set;
 * -ENOLCK too many; -EINVAL.
 * As with flock(2), a change of mode gives up the old lock first.
 */
MUST_CHECK int flock_apply(struct flock_table *table, const struct flock_request *request,
			   struct fuse_req *req);

/* The description OWNER of NODE is closed for good. */
void flock_release(struct flock_table *table, uint64_t node, uint64_t owner);

/* Whether PROCESS took a lock on NODE that is held for writing. */
bool flock_is_held(struct flock_table *table, uint64_t node, pid_t process);

#endif
