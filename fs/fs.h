/*
 * protofs-fs: the FUSE frontend. A store, seen as files.
 *
 * The only public header of the module; cmd/ mounts with it. Paths and their behaviour: DESIGN.md.
 *
 * Life of a mount: fs_new, fs_mount, fs_run (blocks), fs_unmount, fs_free; then the caller closes
 * the engine, which commits what is left. fs_free must come first: views append until then.
 *
 * Threads: one thread calls these in that order. fs_stop and fs_report may be called from any
 * thread from fs_new to fs_free; fs_stop also from a signal handler.
 *
 * Errors are -errno.
 */
#ifndef PROTOFS_FS_FS_H
#define PROTOFS_FS_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/reterr.h"

struct cloud_status;
struct engine;
struct fs;
struct uuid;

enum {
	FS_ERRORS_MAX = 64, /* that .ctl/errors shows */
};

#define FS_BLOB_SIZE_MAX_DEFAULT ((uint64_t)2 << 30)

/*
 * What the mount shows of a store's cloud and asks it for. Any thread; only FLUSH waits. All are
 * set.
 */
struct fs_cloud {
	void (*status)(void *arg, struct cloud_status *ret);
	/* How many bytes of SEGMENT from 0, and which root at most, are there. */
	uint64_t (*safe_length)(void *arg, const struct uuid *segment);
	uint64_t (*safe_root)(void *arg);
	/*
	 * Returns when all that was durable at the call is there. -ETIMEDOUT after TIMEOUT_MS: ask
	 * again; -EROFS it never will be; -ECANCELED after STOP.
	 */
	int (*flush)(void *arg, uint64_t timeout_ms, struct reterr *err);
	/*
	 * Every wait for the cloud, running or to come, ends: the mount does, and finishes the
	 * requests that are under way.
	 */
	void (*stop)(void *arg);
	void *arg;
};

struct fs_options {
	/* All strings are borrowed until fs_free. */
	const char *mountpoint; /* an existing directory */
	const char *store;      /* what `mount` shows as the source */
	/*
	 * More options for FUSE as one comma-separated string, e.g. "max_read=4096,dev"; may be
	 * NULL.
	 */
	const char *fuse_options;

	bool read_only;   /* every path answers EROFS to changes */
	bool noprotect;   /* segments that a kept root may need can be unlinked */
	bool strict_root; /* a root whose bytes are not there is refused: also an engine option */
	bool fence_root;  /* only the holder of space_root.lock may publish through space/ */
	bool allow_other;
	bool auto_unmount;
	bool debug; /* every request on stderr */

	bool uid_set, gid_set; /* else the caller's */
	uid_t uid;
	gid_t gid;

	/* Threads that wait for requests; 0: one for two processors, 4 at most. */
	unsigned receivers;
	unsigned spin_us;         /* how long a receiver polls before it sleeps; 0 never */
	uint64_t blob_size_max;   /* of an atom written through atoms/in; 0 is the default */
	uint64_t read_ahead_size; /* bytes; 0 is 8 MiB */

	bool appends_wait;            /* an append may wait for room on the disk */
	const struct fs_cloud *cloud; /* borrowed until fs_free; NULL: the store has none */

	/*
	 * Told of each error that reaches .ctl/errors, from any thread, no lock held. May be NULL.
	 */
	void (*log)(void *arg, const struct reterr *event);
	void *log_arg;
};

/*
 * Replays what space/ holds and prepares all views. E is borrowed. -EINVAL bad options; -EBADMSG,
 * -EIO what is stored cannot be replayed; -ENOMEM.
 */
MUST_CHECK int fs_new(struct engine *e, const struct fs_options *options, struct reterr *err,
		      struct fs **ret);

/*
 * Mounts. -ENOENT, -ENOTDIR, -EACCES of the mountpoint; -ENODEV no /dev/fuse; -EPERM. ERR says what
 * to do.
 */
MUST_CHECK int fs_mount(struct fs *fs, struct reterr *err);

/*
 * Serves until the filesystem is unmounted or fs_stop was called. Requests that are under way are
 * finished. 0, or
 * -errno of a failed device.
 */
MUST_CHECK int fs_run(struct fs *fs, struct reterr *err);

/* Makes fs_run return. Async-signal-safe; a second call changes nothing. */
void fs_stop(struct fs *fs);

/* Detaches the mount if it is still there. Open files get ENOTCONN. May be called again. */
void fs_unmount(struct fs *fs);

/* Accepts NULL and a filesystem that was never mounted. */
void fs_free(struct fs *fs);

/* Adds EVENT to what .ctl/errors shows: for the engine's report callback. */
void fs_report(struct fs *fs, const struct reterr *event);

#endif
