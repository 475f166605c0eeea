/*
 * What the files of WHERE as a mountpoint share; private to where_mount*.c. ERR is set by every
 * function that fails.
 */
#ifndef PROTOFS_CMD_WHERE_MOUNT_H
#define PROTOFS_CMD_WHERE_MOUNT_H

#include <dirent.h>

#include "cmd/where.h"

enum { WHERE_MOUNT_CHUNK_SIZE = 1 << 20, WHERE_MOUNT_NAME_SIZE = 64 };

struct mounted {
	struct where where;
	char *mountpoint;
	int top;        /* the mountpoint, O_PATH */
	uint8_t *chunk; /* CHUNK_SIZE bytes, aligned */
	uint64_t names; /* made so far, each another one */

	/* The segment that was read last, or -1. */
	int segment_fd;
	struct uuid segment;
	bool segment_direct;
};

static inline struct mounted *where_mount_of(struct where *where)
{
	return (struct mounted *)where;
}

/* A name that nobody else has. */
char *where_mount_name(struct mounted *mounted, char name[static WHERE_MOUNT_NAME_SIZE]);

/* A directory of the mount; NULL and errno. */
DIR *where_mount_directory(struct mounted *mounted, const char *path);
/* For CLEANUP. */
void where_mount_directory_close(DIR **directory);

/* An extended attribute of an absolute path, as text; empty where there is none. */
void where_mount_attribute(const char *path, const char *name, char *text, size_t size);

/* WHAT failed with R, which is returned. Where the code hides a reason, .ctl/errors is asked. */
int where_mount_failed(struct mounted *mounted, int r, const char *what, struct reterr *err);
/* -ENOENT */
int where_mount_no_segment(const struct uuid *uuid, struct reterr *err);
/* -ENOENT, saying why there is no atom at POINTER. */
int where_mount_no_atom(struct mounted *mounted, const struct engine_pointer *pointer,
			struct reterr *err);

/* ---- The methods that are not in where_mount.c ---------------------------------------------- */

MUST_CHECK int where_mount_put(struct where *where, struct source *source,
			       struct engine_pointer *ret, struct reterr *err);
MUST_CHECK int where_mount_cat(struct where *where, const struct engine_pointer *pointer,
			       enum where_form form, int out, struct reterr *err);
MUST_CHECK int where_mount_atoms(struct where *where, const struct uuid *segment, where_atom_fn *fn,
				 void *arg, struct reterr *err);
MUST_CHECK int where_mount_roots(struct where *where, uint64_t *ret_first, uint64_t *ret_last,
				 struct reterr *err);
MUST_CHECK int where_mount_root(struct where *where, uint64_t seq, struct engine_root *ret,
				struct reterr *err);
MUST_CHECK int where_mount_publish(struct where *where, uint64_t expected,
				   const struct engine_root *wanted, struct engine_root *ret,
				   struct reterr *err);
MUST_CHECK int where_mount_prune(struct where *where, uint64_t keep_from, bool dry_run,
				 uint64_t *ret_dropped, struct reterr *err);

#endif
