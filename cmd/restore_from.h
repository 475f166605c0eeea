/*
 * What `protofs restore` makes a store of: a backup or any copy of a mount's files, or the directory
 * of a bucket. All functions return 0 or -errno and say in ERR what happened. One thread.
 */
#ifndef PROTOFS_CMD_RESTORE_FROM_H
#define PROTOFS_CMD_RESTORE_FROM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "base/uuid.h"

struct engine;
struct engine_root;
struct restore_from;

typedef int restore_segment_fn(void *arg, const struct uuid *segment, uint64_t size);

struct restore_from_ops {
	const char *what; /* "backup": for messages */

	/* -ENOENT it holds none. */
	int (*root)(struct restore_from *from, struct engine_root *ret, struct reterr *err);
	/* Calls FN for each segment; its negative return ends the listing with that value. */
	int (*list)(struct restore_from *from, restore_segment_fn *fn, void *arg,
		    struct reterr *err);
	/*
	 * Makes the segment one of E's, every byte verified and written once. RET_UNVERIFIED is
	 * what could not be; RET_BYTES may be 0: then there is no such segment.
	 */
	int (*import)(struct restore_from *from, struct engine *e, const struct uuid *segment,
		      uint64_t *ret_bytes, uint64_t *ret_unverified, struct reterr *err);
	void (*close)(struct restore_from *from);
};

struct restore_from {
	const struct restore_from_ops *ops;
};

/* ACCEPT: segments whose wholeness nobody can tell, too. */
MUST_CHECK int restore_from_backup(const char *dir, bool accept, struct reterr *err,
				   struct restore_from **ret);

/* Whether DIR looks like what an uploader has left: roots/ holds manifests. */
bool restore_is_bucket(const char *dir);
MUST_CHECK int restore_from_bucket(const char *dir, struct reterr *err, struct restore_from **ret);

#endif
