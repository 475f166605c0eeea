/*
 * Doing the uploader's steps: all of its I/O. Blocks for as long as that takes; takes no lock.
 */
#ifndef PROTOFS_CLOUD_UPLOAD_EXEC_H
#define PROTOFS_CLOUD_UPLOAD_EXEC_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protofs/block_store.h>
#include <protofs/clock.h>
#include <protofs/segment_source.h>

#include "base/attr.h"
#include "cloud/upload_plan.h"

/*
 * Whose turn it is to read the source: one thread at a time, a piece at a time, so that a commit on the
 * same disk never stands behind more than a piece.
 */
struct upload_turn {
	pthread_mutex_t lock; /* guards TAKEN; not held while it is taken */
	pthread_cond_t given;
	bool taken;
};

/* What one thread works with. */
struct upload_io {
	struct segment_source *source;
	struct block_store *store;
	const struct clock *clock;
	uint64_t block_size;
	struct upload_turn *turn; /* shared by all threads; NULL: there is only one */
	uint8_t *buffer; /* of one block, made by the first step that needs it; aligned for direct I/O */
};

/* Serial steps use PLAN's fields that belong to whoever has the serial step; transfers do not. */
void upload_exec(struct upload_io *io, struct upload_plan *plan, const struct upload_step *step,
		 struct upload_result *ret);
void upload_io_done(struct upload_io *io);

/* upload_exec_serial.c */
void upload_exec_serial(struct upload_io *io, struct upload_plan *plan,
			const struct upload_step *step, struct upload_result *ret);
/*
 * Sets ERR to who has the place: the owner of manifest N, if it can be read, and WHAT collided.
 * Returns -EROFS.
 */
int upload_tell_owner(struct block_store *store, uint64_t n, const char *what, struct reterr *err);
/* XXH3-128 of the XXH3-128s of each MiB of [0, LENGTH) of SEGMENT. */
MUST_CHECK int upload_sum(struct segment_source *source, const struct uuid *segment,
			  uint64_t length, uint8_t *buffer, size_t size, struct hash *ret,
			  struct reterr *err);
/* Reads exactly [FROM, TO). -EIO fewer are there. */
MUST_CHECK int upload_read(struct segment_source *source, const struct uuid *segment, uint64_t from,
			   uint64_t to, uint8_t *buffer, struct reterr *err);

/* Gives PLAN all records of SOURCE's journal. -EBADMSG, -ENOMEM; SOURCE's. */
MUST_CHECK int upload_load_journal(struct segment_source *source, struct upload_plan *plan,
				   struct reterr *err);

#endif
