/*
 * WHERE, the argument of most verbs: a store directory, or the mountpoint of a store. One
 * interface, two implementations: the engine itself (where_direct.c), or the files of the mount
 * (where_mount.c). A store directory that is mounted is reached through its mount.
 *
 * All methods return 0 or -errno and say in ERR what happened. One thread at a time.
 */
#ifndef PROTOFS_CMD_WHERE_H
#define PROTOFS_CMD_WHERE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "base/uuid.h"
#include "engine/engine.h"
#include "fs/sum_file.h"

struct buf;
struct source;
struct where;

enum where_form { WHERE_PAYLOAD, WHERE_JSON, WHERE_FRAME };

struct where_segment {
	struct uuid uuid;
	uint64_t length;
	uint64_t durable; /* bytes from 0 that have reached this disk */
	uint64_t modified_ns;
	char state[16]; /* open, sealed, damaged */
};

/* Called for each; a negative return ends the listing with that value. */
typedef int where_segment_fn(void *arg, const struct where_segment *segment);
/* OFFSET of the frame, SIZE of its payload. */
typedef int where_atom_fn(void *arg, uint64_t offset, uint64_t size);

struct where_ops {
	/* Frees WHERE, also when it fails. Nothing that sync has made durable is at stake. */
	int (*close)(struct where *where, struct reterr *err);

	/* Appends an atom; it is durable after sync. */
	int (*put)(struct where *where, struct source *source, struct engine_pointer *ret,
		   struct reterr *err);
	int (*sync)(struct where *where, struct reterr *err);

	/* Writes an atom to FD. -ENOENT no atom begins there. */
	int (*cat)(struct where *where, const struct engine_pointer *pointer, enum where_form form,
		   int fd, struct reterr *err);

	/* In no order; in the order of the stream. */
	int (*segments)(struct where *where, where_segment_fn *fn, void *arg, struct reterr *err);
	int (*atoms)(struct where *where, const struct uuid *segment, where_atom_fn *fn, void *arg,
		     struct reterr *err);

	/*
	 * Fewer than SIZE bytes only at the end of the segment. FROM_DISK: what caches hold does
	 * not count, the disk is read and verified. -EBADMSG or -EIO damage.
	 */
	int (*read)(struct where *where, const struct uuid *segment, void *data, size_t size,
		    uint64_t offset, bool from_disk, size_t *ret, struct reterr *err);
	/* The sums of what is durable. Released by sum_file_done. */
	int (*sums)(struct where *where, const struct uuid *segment, struct sum_file *ret,
		    struct reterr *err);

	/*
	 * The kept roots, FIRST to LAST, without gaps but for those that a repair wrote off; both 0
	 * if there is none. -ENOENT a seq that is not kept.
	 */
	int (*roots)(struct where *where, uint64_t *ret_first, uint64_t *ret_last,
		     struct reterr *err);
	int (*root)(struct where *where, uint64_t seq, struct engine_root *ret, struct reterr *err);

	/*
	 * Publishes WANTED's pointer; if it has a seq, it is that old root again, with its
	 * payload. EXPECTED as in engine_root_publish. -ESTALE the newest root is another one;
	 * -ENODATA no whole atom begins at the pointer. RET is the new root.
	 */
	int (*publish)(struct where *where, uint64_t expected, const struct engine_root *wanted,
		       struct engine_root *ret, struct reterr *err);
	int (*prune)(struct where *where, uint64_t keep_from, bool dry_run, uint64_t *ret_dropped,
		     struct reterr *err);

	int (*status)(struct where *where, bool json, struct buf *ret, struct reterr *err);
};

/* Implementations put this first in their own struct. */
struct where {
	const struct where_ops *ops;
	const char *path; /* as the user named it; borrowed, for messages */
};

enum where_access { WHERE_READ, WHERE_WRITE };

/*
 * Opens PATH (borrowed until where_close). Under WHERE_READ nothing is written to a store, not
 * even what recovery would. -EBUSY a daemon holds it that is not mounted here.
 */
MUST_CHECK int where_open(const char *path, enum where_access access, struct reterr *err,
			  struct where **ret);
/*
 * The same for a verb: on failure it has logged why WHAT cannot be done, and returns the exit
 * code.
 */
MUST_CHECK int where_open_for(const char *what, const char *path, enum where_access access,
			      struct where **ret);
/*
 * The directory of the store that PATH names, mounted or not, to be freed. -EINVAL it is in memory.
 */
MUST_CHECK int where_store(const char *path, char **ret, struct reterr *err);

/* Accepts NULL. Warns of what went wrong. */
void where_close(struct where *where);

/* The newest root, RET->seq 0 if there is none. */
MUST_CHECK int where_root_newest(struct where *where, struct engine_root *ret, struct reterr *err);

/* ---- The implementations --------------------------------------------------------------------- */

MUST_CHECK int where_direct_open(const char *path, enum where_access access, struct reterr *err,
				 struct where **ret);
MUST_CHECK int where_mount_open(const char *mountpoint, struct reterr *err, struct where **ret);

#endif
