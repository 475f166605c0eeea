/*
 * What a view implements, and what the core gives it.
 *
 * A view is one kind of node: a directory, or the files that look alike. For every request the core
 * finds the view by the bits of the node id, calls one operation of it, and sends the one reply:
 * results leave through the last arguments, errors as -errno. An operation never replies itself,
 * never parks anything and never sees libfuse.
 *
 * Operations run on a receiver. One that may wait for the disk, for a lock or for anything else
 * says so first, with call_block(); it then goes on in straight line, while another thread
 * receives. From there on an interrupt (kill -9 of the caller) answers EINTR at once and drops the
 * operation's result: the work is still finished.
 *
 * NULL operations have a sensible answer, named at each.
 */
#ifndef PROTOFS_FS_VIEW_H
#define PROTOFS_FS_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/reterr.h"
#include "base/slice.h"
#include "fs/fs.h"
#include "fs/node.h"
#include "fs/park.h"

struct engine;
struct engine_segment;
struct text_table;

/* ---- A call --------------------------------------------------------------------------------- */

/* One request on its way through a view. Valid until the operation returns. */
struct call {
	struct fs *fs;
	struct engine *engine;
	uint64_t id;       /* the node that the operation is about */
	struct node *node; /* it, if it is an allocated one, with a reference; else NULL */
	uid_t uid;         /* the caller's */
	gid_t gid;
	pid_t pid; /* a thread's id: see call_process() */
	mode_t umask;
	/*
	 * Why it failed, for .ctl/errors: an operation that returns an error which the name does
	 * not explain sets it (reterr_set(&call->err, ...)), and passes &call->err to the engine.
	 * EIO, EBADMSG and ENOSPC are recorded even without.
	 */
	struct reterr err;

	/* The core's own. */
	struct fuse_req *req;
	struct park_wait wait;
};

/*
 * This operation may wait from here on. May be called more than once. Call it before taking locks.
 */
void call_block(struct call *call);

/*
 * The same for what must not be done twice: a caller who is told EINTR tries again. So only one
 * that is being killed is answered early. Writes, renames, publications.
 */
void call_leave(struct call *call);

/* True if the caller has been answered EINTR: an operation may use it to stop early. */
bool call_interrupted(const struct call *call);

/* The thread group of the caller, from /proc; -ESRCH it is gone or not visible from here. */
MUST_CHECK int call_process(const struct call *call, pid_t *ret);

/* ---- What operations return ----------------------------------------------------------------- */

/* Timeouts in seconds, for which the kernel may answer by itself. */
#define FS_FOREVER 86400.0 /* what never changes but by requests that pass through the kernel */
#define FS_NEVER 0.0

struct entry {
	uint64_t id; /* 0 with an entry_timeout: "no such name", which the kernel may remember */
	double entry_timeout;
	double attr_timeout;
	struct stat attr; /* begin with attr_file() or attr_directory() */
};

/* How an open file or directory behaves; zeroed by the core. */
struct opened {
	uint64_t handle;    /* the view's: a number, or a pointer that RELEASE frees */
	bool direct_io;     /* never cached; no shared mmap. Reads may be of size 0 files */
	bool keep_cache;    /* what is cached is still true */
	bool cache_readdir; /* directories: the kernel may keep the listing */
	bool flushless;     /* no FLUSH at close: nothing can have been written */
};

/* What SETATTR changes, in `valid`. */
enum set_flags {
	SET_MODE = 1 << 0,
	SET_UID = 1 << 1,
	SET_GID = 1 << 2,
	SET_SIZE = 1 << 3,
	SET_ATIME = 1 << 4,
	SET_MTIME = 1 << 5,
};

struct setting {
	unsigned valid;   /* of enum set_flags */
	struct stat attr; /* times are real ones: "now" has been resolved */
};

/* Where a listing goes. Opaque; see listing_add(). */
struct listing;

/*
 * Adds NAME at the position NEXT, which READDIR gets as its offset to go on behind it (above 0;
 * stable while the directory is open). False if it does not fit: the operation then returns 0. Uses
 * the id, the type in attr.st_mode and, if the kernel asked for attributes (listing_wants_attr),
 * all of ENTRY.
 */
MUST_CHECK bool listing_add(struct listing *listing, const char *name, const struct entry *entry,
			    uint64_t next);
bool listing_wants_attr(const struct listing *listing);

/* ---- The view ------------------------------------------------------------------------------- */

struct view {
	const char *name; /* for messages */

	/*
	 * Every node: GETATTR. HANDLE is the open file's, NULL without one. NULL operation: -ENOSYS
	 * is never sent; a view must have it.
	 */
	int (*getattr)(struct call *call, const uint64_t *handle, struct entry *ret);
	/* NULL: EROFS for fixed and computed nodes of read-only views (`read_only`), else EPERM. */
	int (*setattr)(struct call *call, const uint64_t *handle, const struct setting *setting,
		       struct entry *ret);

	/*
	 * ---- Directories. NULL lookup: ENOTDIR. NULL of the changing ones: EROFS if `read_only`,
	 * else EPERM.
	 */
	int (*lookup)(struct call *call, const char *name, struct entry *ret);
	int (*opendir)(struct call *call, struct opened *ret); /* NULL: 0, no handle */
	int (*readdir)(struct call *call, uint64_t handle, uint64_t offset,
		       struct listing *listing); /* "." and ".." included, or not */
	void (*releasedir)(struct call *call, uint64_t handle);
	int (*fsyncdir)(struct call *call); /* NULL: 0 */
	/* Makes and opens a file. FLAGS are open(2)'s. */
	int (*create)(struct call *call, const char *name, mode_t mode, int flags,
		      struct entry *ret, struct opened *ret_opened);
	int (*mknod)(struct call *call, const char *name, mode_t mode, struct entry *ret);
	int (*mkdir)(struct call *call, const char *name, mode_t mode, struct entry *ret);
	int (*unlink)(struct call *call, const char *name);
	int (*rmdir)(struct call *call, const char *name);
	int (*symlink)(struct call *call, const char *name, const char *target, struct entry *ret);
	/* Within one directory; between two the core answers EXDEV. FLAGS are renameat2(2)'s. */
	int (*rename)(struct call *call, const char *from, const char *to, unsigned flags);

	/* ---- Files */
	int (*open)(struct call *call, int flags, struct opened *ret);
	/*
	 * Fills DATA, or points RET at bytes that stay valid until RELEASE; sets RET's size, less
	 * than SIZE only at the end. FLAGS are those of the open file (O_DIRECT may change: fcntl).
	 */
	int (*read)(struct call *call, uint64_t handle, int flags, void *data, size_t size,
		    uint64_t offset, struct slice *ret);
	/* All or nothing. NULL: EBADF does not happen, EROFS does. */
	int (*write)(struct call *call, uint64_t handle, int flags, const void *data, size_t size,
		     uint64_t offset);
	int (*flush)(struct call *call, uint64_t handle); /* NULL: 0 */
	int (*fsync)(struct call *call, uint64_t handle); /* NULL: 0 */
	/*
	 * NULL: 0. CALL has no caller: uid, gid and pid are 0. Never commits: nobody waits for it.
	 */
	void (*release)(struct call *call, uint64_t handle, int flags);
	/* Symbolic links. RET must hold the whole target. NULL: EINVAL */
	int (*readlink)(struct call *call, struct buf *ret);

	/* ---- Extended attributes. NULL: ENODATA, an empty list. The core does the sizes. */
	int (*getxattr)(struct call *call, const char *name, struct buf *ret);
	/* Appends each name with its NUL. */
	int (*listxattr)(struct call *call, struct buf *ret);

	/* Changes that have no operation answer EROFS instead of EPERM. */
	bool read_only;
};

/* ---- What the core offers ------------------------------------------------------------------- */

const struct fs_options *fs_options(const struct fs *fs);
struct engine *fs_engine(const struct fs *fs);
struct node_table *fs_nodes(const struct fs *fs);
struct text_table *fs_texts(const struct fs *fs);

/*
 * They begin an attr: zeroed, with id, type and mode, owner, link count, block size 4096; times are
 * in ns. SIZE also sets st_blocks. A directory's link count is 2 + SUBDIRECTORIES.
 */
void attr_file(const struct fs *fs, struct stat *attr, uint64_t id, mode_t mode, uint64_t size,
	       uint64_t mtime_ns);
void attr_directory(const struct fs *fs, struct stat *attr, uint64_t id, mode_t mode,
		    unsigned subdirectories);
void attr_symlink(const struct fs *fs, struct stat *attr, uint64_t id, size_t target_length,
		  uint64_t mtime_ns);
/* When this filesystem was made: the time of directories and of what has none. */
uint64_t fs_started_ns(const struct fs *fs);

/* The segment of a computed id (its number). NULL: it was removed, answer ENOENT. */
struct engine_segment *call_segment(const struct call *call);

/*
 * Tell the kernel that what it remembers is no longer true. They wait for the kernel: only after
 * call_block(), without locks, and not for a directory whose own request is being served.
 */
void fs_forget_entry(struct fs *fs, uint64_t parent, const char *name);
void fs_forget_data(struct fs *fs, uint64_t id);

/* fs_report() of fs.h records what no reply reports. */
/* What .ctl/errors shows: one block of lines per event, the newest last. -ENOMEM, -EFBIG. */
MUST_CHECK int fs_errors_text(struct fs *fs, struct buf *out);

/* ---- Modules: what a view keeps, and its start ---------------------------------------------- */

enum fs_module {
	FS_MODULE_TOP,
	FS_MODULE_SPACE,
	FS_MODULE_WAL,
	FS_MODULE_WAL_IN,
	FS_MODULE_ATOMS,
	FS_MODULE_ATOMS_IN,
	FS_MODULE_ROOTS,
	FS_MODULE_CTL,
	FS_MODULES,
};

struct module {
	/*
	 * Enters the views into the dispatch (fs_set_view, node_add_fixed) and makes the module's
	 * state, which fs_state() then returns. Before the mount, one after the other.
	 */
	int (*start)(struct fs *fs, struct reterr *err, void **ret_state);
	/*
	 * May be NULL; STATE is not. After the last call. The allocated nodes that are left are
	 * freed after it, so their free() must not need STATE then.
	 */
	void (*stop)(struct fs *fs, void *state);
};

/* One per module, listed in fs/modules.c. */
extern const struct module module_top, module_space, module_wal, module_wal_in, module_atoms,
	module_atoms_in, module_roots, module_ctl;

void *fs_state(const struct fs *fs, enum fs_module module);

/* VIEW serves all computed ids of KIND; faces of segments each have their own. */
void fs_set_view(struct fs *fs, enum node_kind kind, const struct view *view);
void fs_set_face(struct fs *fs, enum node_face face, const struct view *view);

/* A fixed directory of the table: node_add_fixed() with a node that the core owns. */
void fs_add_fixed(struct fs *fs, enum node_fixed id, const struct view *view);

/*
 * Calls a lookup or getattr of another view, e.g. to show wal/in inside wal/: fills ENTRY as that
 * node's own getattr does, with an endless entry_timeout.
 */
MUST_CHECK int fs_entry_of(struct call *call, uint64_t id, struct entry *ret);

#endif
