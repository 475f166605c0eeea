/* What the two files of the directory store share. */
#ifndef PROTOFS_CLOUD_BLOCK_STORE_DIR_H
#define PROTOFS_CLOUD_BLOCK_STORE_DIR_H

#include <stdatomic.h>
#include <stdbool.h>

#include <protofs/block_store.h>

#include "base/attr.h"

struct dir_store {
	struct block_store base;
	int dir_fd;
	atomic_ulong temporaries; /* made so far, for their names */
	atomic_bool stopped;
	bool named_only; /* set before the first use */
};

static inline struct dir_store *block_dir_of(struct block_store *base)
{
	return (struct dir_store *)base;
}

/* Whether a call may begin: -ECANCELED; -EINVAL KEY, if not NULL, is none. */
MUST_CHECK int block_dir_admit(const struct dir_store *store, const char *key, struct reterr *err);

/* Opens the directory NAME of PARENT_FD for reading, no symlink: a descriptor or -errno. */
MUST_CHECK int block_dir_enter(int parent_fd, const char *name);

MUST_CHECK int block_dir_list(struct block_store *base, const char *prefix, const char *after,
			      block_store_list_fn *fn, void *arg, struct reterr *err);

/* As on a filesystem without O_TMPFILE, for tests. Called before anything else. */
void block_store_dir_use_names(struct block_store *base);

#endif
