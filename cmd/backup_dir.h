/*
 * A backup: a directory of plain files, which `cp` of a mount makes as well.
 *
 *	roots/current	the root, as the mount shows it: {"transaction_id": ..., "offset": ..., ...}
 *	wal/<uuid>	a segment, byte for byte
 *	wal/<uuid>.sum	its sums (fs/sum_file.h)
 *
 * When reading, `current` or ProtoDB's `space_root` may take the place of the first, also in
 * space/, and the segments may lie in the directory itself or in space/.
 */
#ifndef PROTOFS_CMD_BACKUP_DIR_H
#define PROTOFS_CMD_BACKUP_DIR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "base/uuid.h"
#include "fs/sum_file.h"

struct engine_root;

struct backup_dir {
	const char *path; /* borrowed */
	int top;
	int segments; /* the directory that holds them */
};

/* For reading. -ENOENT there is no such directory, -EINVAL it is a store itself. */
MUST_CHECK int backup_dir_open(const char *path, struct backup_dir *ret, struct reterr *err);
/* For writing: made if it is not there. -ENOTEMPTY it holds something else. */
MUST_CHECK int backup_dir_make(const char *path, struct backup_dir *ret, struct reterr *err);
void backup_dir_close(struct backup_dir *dir); /* accepts one that failed to open */

/*
 * RET->seq and the rest may be 0: the pointer is what counts. -ENOENT no root; -EBADMSG it is
 * none.
 */
MUST_CHECK int backup_dir_read_root(const struct backup_dir *dir, struct engine_root *ret,
				    struct reterr *err);
/* The last step of a backup, durable. */
MUST_CHECK int backup_dir_write_root(const struct backup_dir *dir, const struct engine_root *root,
				     struct reterr *err);

/* The .sum of a segment. -ENOENT there is none; -EBADMSG it is none. Released by sum_file_done. */
MUST_CHECK int backup_dir_read_sums(const struct backup_dir *dir, const struct uuid *segment,
				    struct sum_file *ret, struct reterr *err);
MUST_CHECK int backup_dir_write_sums(const struct backup_dir *dir, const struct uuid *segment,
				     const struct sum_file *sums, struct reterr *err);

/* The file of a segment. Returns the descriptor, which is for reading or, with WRITE, for both. */
MUST_CHECK int backup_dir_open_segment(const struct backup_dir *dir, const struct uuid *segment,
				       bool write, struct reterr *err);

/* Called for each segment's file; a negative return ends the listing with that value. */
typedef int backup_dir_fn(void *arg, const struct uuid *segment, uint64_t size);
MUST_CHECK int backup_dir_list(const struct backup_dir *dir, backup_dir_fn *fn, void *arg,
			       struct reterr *err);

#endif
