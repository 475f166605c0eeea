/* What the files of the core share. Views include view.h instead. */
#ifndef PROTOFS_FS_CORE_H
#define PROTOFS_FS_CORE_H

#include <stdatomic.h>

#include "fs/fs.h"
#include "fs/version.h"
#include "fs/view.h"

/* The largest READ and WRITE. */
enum { FS_SCRATCH_SIZE = 1 << 20 };

struct crew;
struct error_ring;
struct flock_table;

struct fs {
	struct fs_options options; /* defaults filled in; immutable */
	struct engine *engine;
	uint64_t started_ns;
	uid_t uid; /* of all files */
	gid_t gid;

	/* The dispatch: filled by fs_new, immutable from then on, so read without locks. */
	const struct view *kinds[NODE_KINDS];
	const struct view *faces[NODE_FACES];
	struct node fixed[NODE_FIXED_MAX];
	void *states[FS_MODULES];

	struct node_table *nodes;
	struct text_table *texts;
	struct error_ring *errors;
	struct flock_table *flocks;
	struct crew *crew;

	struct fuse_session *session; /* from fs_mount on */
	bool mounted;                 /* the thread of fs_mount, fs_run and fs_unmount */
};

extern const struct module *const fs_modules[FS_MODULES];

/* The operations that libfuse calls; dispatch*.c. */
extern const struct fuse_lowlevel_ops dispatch_ops;

/* The choices of INIT; session.c. */
void session_init(void *userdata, struct fuse_conn_info *conn);
/* What can be set only after INIT. */
void session_ready(void *fs);

/*
 * The view that serves ID; for allocated ids by NODE, which is then not NULL. NULL: nothing has
 * that id.
 */
const struct view *fs_view_of(const struct fs *fs, uint64_t id, const struct node *node);

#endif
