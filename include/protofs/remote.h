/*
 * Where the engine reads the bytes that are not on this disk, and whom it asks whether bytes are
 * safe elsewhere. Both are optional; implementations: cloud/, later cluster/, and models in tests.
 *
 * Threads: all methods may be called from any thread, and block for as long as it takes; they are
 * called without any of the engine's locks. STOP ends their waits.
 */
#ifndef PROTOFS_REMOTE_H
#define PROTOFS_REMOTE_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "base/uuid.h"

/* ---- Reading what is elsewhere -------------------------------------------------------------- */

struct remote_reader;

struct remote_reader_ops {
	/*
	 * Reads up to SIZE bytes of SEGMENT from OFFSET, verified as they were when they left; fewer
	 * (RET) only where nothing further is known.
	 * 0; -ENOENT nobody has the byte at OFFSET, though it must exist: damage, and ERR says what
	 * was looked for; -EBADMSG what came is damaged; -ETIMEDOUT the place could not be reached
	 * in time; -EACCES it refused; -EIO it failed, or the disk of what is kept of it; -ECANCELED
	 * STOP was called; -ENOMEM.
	 */
	int (*read)(struct remote_reader *reader, const struct uuid *segment, void *data,
		    size_t size, uint64_t offset, size_t *ret, struct reterr *err);

	/*
	 * The last known place at or before OFFSET where a frame header begins. RET is 0 if nothing
	 * better is known: a segment begins with a frame. The errors of read.
	 */
	int (*frame_before)(struct remote_reader *reader, const struct uuid *segment,
			    uint64_t offset, uint64_t *ret, struct reterr *err);

	/* Every wait, running or to come, ends with -ECANCELED. */
	void (*stop)(struct remote_reader *reader);
};

struct remote_reader {
	const struct remote_reader_ops *ops;
};

/* ---- Waiting until bytes are safe elsewhere --------------------------------------------------- */

struct remote_length {
	struct uuid segment;
	uint64_t length; /* bytes from 0 */
};

struct remote_keeper;

struct remote_keeper_ops {
	const char *level; /* "cloud", later "quorum": shown by status */

	/*
	 * Returns when the bytes of all COUNT lengths, which are durable here, are safe there too.
	 * 0; -EROFS this store has lost its place to another owner, and they never will be; -ECANCELED
	 * STOP was called: they may be or not. There is no time limit: while the place is away, it
	 * waits.
	 */
	int (*wait_bytes)(struct remote_keeper *keeper, const struct remote_length *lengths,
			  size_t count, struct reterr *err);
	/* The same for root SEQ, which is published here, and all that it relies on. */
	int (*wait_root)(struct remote_keeper *keeper, uint64_t seq, struct reterr *err);

	/* How much of SEGMENT, and up to which root, is safe there. Never waits. */
	uint64_t (*safe_length)(struct remote_keeper *keeper, const struct uuid *segment);
	uint64_t (*safe_root)(struct remote_keeper *keeper);

	void (*stop)(struct remote_keeper *keeper);
};

struct remote_keeper {
	const struct remote_keeper_ops *ops;
};

#endif
