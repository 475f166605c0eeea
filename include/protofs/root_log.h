/*
 * The newest root as all nodes of a cluster see it: read it, move it by compare-and-swap, wait for
 * it to move, and the lock that orders those who want to move it.
 *
 * Named apart from the engine's own log of roots on one disk (engine/root_log.h): this one holds
 * the newest root only, and agreement is its whole purpose. Implementations: memory, a file
 * (cluster/), later etcd.
 *
 * Threads: all methods may be called from any thread; watch and lock wait, the others only for I/O.
 * No lock is held while a method waits.
 *
 * Ownership: results are copied out. FREE takes the log; no other call may be running: call STOP
 * first, which ends all waits.
 *
 * Errors of every method, details in ERR (may be NULL):
 *   -EAGAIN    the place cannot be reached now; what was asked for did not happen
 *   -EIO       the place failed; for publish: read before you believe anything
 *   -EBADMSG   what lies there is damaged
 *   -ECANCELED STOP was called
 */
#ifndef PROTOFS_ROOT_LOG_H
#define PROTOFS_ROOT_LOG_H

#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "base/uuid.h"

enum { SHARED_ROOT_ACKED_MAX = 16, SHARED_ROOT_NONCE_SIZE = 16 };

/* A length of a segment that a majority had acknowledged when the root was published. */
struct shared_root_acked {
	struct uuid segment;
	uint64_t length;
};

struct shared_root {
	uint64_t seq; /* 1 is the first; dense */
	struct uuid segment;
	uint64_t offset;
	uint64_t time_ns;
	uint32_t node; /* that published it */
	/*
	 * Chosen by the publisher: tells its own publication whose answer got lost from another's.
	 */
	uint8_t nonce[SHARED_ROOT_NONCE_SIZE];
	unsigned acked_count;
	struct shared_root_acked acked[SHARED_ROOT_ACKED_MAX];
};

struct shared_root_log;

struct shared_root_log_ops {
	const char *name; /* "memory", "file", ...: shown by status */

	/*
	 * The newest root, not older than any that was published before the call. -ENOENT there is
	 * none yet.
	 */
	int (*read)(struct shared_root_log *log, struct shared_root *ret, struct reterr *err);

	/*
	 * Makes NEXT the newest root, durably, if the newest one still is EXPECTED (its seq, 0 for
	 * none). NEXT's seq must be EXPECTED + 1. EPOCH is the caller's lock (0: it holds none),
	 * which must then still be its own. 0
	 * -ESTALE  the root moved: RET (may be NULL) is the newest. If it has NEXT's nonce, an
	 *          earlier attempt of this very publication succeeded.
	 * -ENOLCK  EPOCH is not the current lock
	 * -EPERM   EPOCH is 0 while somebody holds the lock
	 * -EINVAL  the seq, or more than SHARED_ROOT_ACKED_MAX lengths
	 */
	int (*publish)(struct shared_root_log *log, uint64_t expected,
		       const struct shared_root *next, uint64_t epoch, struct shared_root *ret,
		       struct reterr *err);

	/*
	 * Waits until the newest root's seq is greater than SEEN, for TIMEOUT_MS at most. 0 with
	 * the newest one in RET (those between may be skipped); -ETIMEDOUT.
	 */
	int (*watch)(struct shared_root_log *log, uint64_t seen, uint64_t timeout_ms,
		     struct shared_root *ret, struct reterr *err);

	/*
	 * Takes the lock, waiting TIMEOUT_MS at most (0: not at all). RET_EPOCH grows with each
	 * grant and is never given twice. Whoever holds it sees, from then on, the newest root by
	 * read. 0; -ETIMEDOUT somebody else holds it.
	 */
	int (*lock)(struct shared_root_log *log, uint64_t timeout_ms, uint64_t *ret_epoch,
		    struct reterr *err);

	/* Gives the lock of EPOCH back. 0; -ENOLCK it was not held (any more). */
	int (*unlock)(struct shared_root_log *log, uint64_t epoch, struct reterr *err);

	/* Every wait, running or to come, ends with -ECANCELED. */
	void (*stop)(struct shared_root_log *log);

	void (*free)(struct shared_root_log *log);
};

/* Implementations put this first in their own struct. */
struct shared_root_log {
	const struct shared_root_log_ops *ops;
};

/* Short forms, so that call sites read well. */
MUST_CHECK static inline int shared_root_log_read(struct shared_root_log *log,
						  struct shared_root *ret, struct reterr *err)
{
	return log->ops->read(log, ret, err);
}

MUST_CHECK static inline int shared_root_log_publish(struct shared_root_log *log, uint64_t expected,
						     const struct shared_root *next, uint64_t epoch,
						     struct shared_root *ret, struct reterr *err)
{
	return log->ops->publish(log, expected, next, epoch, ret, err);
}

MUST_CHECK static inline int shared_root_log_watch(struct shared_root_log *log, uint64_t seen,
						   uint64_t timeout_ms, struct shared_root *ret,
						   struct reterr *err)
{
	return log->ops->watch(log, seen, timeout_ms, ret, err);
}

MUST_CHECK static inline int shared_root_log_lock(struct shared_root_log *log, uint64_t timeout_ms,
						  uint64_t *ret_epoch, struct reterr *err)
{
	return log->ops->lock(log, timeout_ms, ret_epoch, err);
}

MUST_CHECK static inline int shared_root_log_unlock(struct shared_root_log *log, uint64_t epoch,
						    struct reterr *err)
{
	return log->ops->unlock(log, epoch, err);
}

static inline void shared_root_log_stop(struct shared_root_log *log)
{
	log->ops->stop(log);
}

/* Accepts NULL. */
static inline void shared_root_log_free(struct shared_root_log *log)
{
	if (log)
		log->ops->free(log);
}

#endif
