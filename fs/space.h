/*
 * space/: what its files share. A directory, flat, that ProtoDB's FileBlockProvider works in:
 *
 *   view_space.c     the directory: which name is what
 *   space_segment.c  <uuid>: foreign segments, and ours for reading
 *   space_root.c     space_root: the newest root, published by rename
 *   space_lock.c     space_root.lock
 *   space_files.c    all other names: small files, and where their contents are
 *   space_file_ops.c what an open one can do
 *   space_names.c    how they get and lose their names
 *   space_log.c      how they are kept, in frames of our own segments
 *   space_replay.c   how they come back
 *   space_compact.c  what they take stays bounded
 *   space_flush.c    those that are left dirty; runs the compaction
 *
 * Locks, in this order:
 *   change  one change of the small files at a time, so that the frames' order is that of the
 *           changes. It is held over appends to the engine; readers never take it. Only after
 *           call_leave(), or before the mount.
 *   lock    a leaf: the fields that readers see. Changed with both held.
 */
#ifndef PROTOFS_FS_SPACE_H
#define PROTOFS_FS_SPACE_H

#include <pthread.h>

#include "engine/engine.h"
#include "fs/small_file.h"
#include "fs/view.h"

enum {
	SPACE_FILES_MAX = 1000,
	SPACE_TEMPORARIES_MAX = 1000, /* beside those: a root can always be published */
	SPACE_LOADED_MAX = 16 << 20,  /* contents in memory at once */
	SPACE_FLUSH_INTERVAL_MS = 1000,
	SPACE_COMPACT_START_MIN = 64 << 10, /* less is not compacted before a mount */
	SPACE_COMPACT_MIN = 1 << 20,        /* nor while it lasts */
};

/*
 * A small file, a temporary one, or a root as it was published. In the list of all files while it
 * lives; has a name while it is linked.
 */
struct small_file {
	struct node node; /* first */
	struct space *space;
	struct small_file *next; /* in order; lock */
	uint64_t order;          /* of creation: the position in listings */

	/* lock */
	char name[SMALL_FILE_NAME_MAX + 1];
	bool linked;    /* NAME leads here; holds one reference to the node */
	bool temporary; /* space_root.*.tmp: in memory only */
	bool frozen;    /* shown as space_root: never changes again */
	bool dirty;     /* has changed since its last frame */
	uint32_t mode;
	int64_t mtime_ns;
	uint64_t size;
	unsigned opens;

	/* The content: in BYTES if it is loaded, else in the engine. lock */
	bool loaded;
	struct buf bytes;
	struct engine_segment *segment; /* NULL: nowhere yet */
	uint64_t offset;                /* of the content in the segment's stream */

	bool replayed; /* a replay has met it; change and lock */
};

struct space {
	struct fs *fs;
	struct engine *engine;
	pthread_mutex_t change;
	pthread_mutex_t lock;

	struct small_file *files; /* all, by order; lock */
	unsigned linked;          /* without the temporary ones; lock */
	unsigned temporaries;     /* lock */
	size_t loaded_size;       /* of all loaded contents; lock */
	uint64_t next_order;      /* lock */
	uint64_t changed_ns;      /* when a name came or went; lock */

	uint64_t next_seq;           /* change */
	struct engine_segment *meta; /* holds the newest frame; change and lock */
	/* Frames of this mount, counted; lock */
	uint64_t logged;
	uint64_t durable;     /* of those, the first so many */
	uint64_t meta_begins; /* so many were LOGGED when the first one went to META */

	uint64_t kept; /* bytes of our segments of small files; lock */
	/*
	 * A change could not be read: nothing is compacted, so that it stays for repair, and a name that is
	 * not there is EIO. lock
	 */
	bool damaged;
	uint64_t compact_above; /* not before KEPT is more: the last attempt failed. lock */

	struct small_file *root; /* shows the newest root; with a reference. lock */

	/* Files whose writer neither closes nor syncs them are kept by this thread. */
	pthread_t flusher;
	bool flusher_runs;
	bool flusher_ends;           /* lock */
	bool flusher_needed;         /* lock */
	pthread_cond_t flusher_wake; /* lock */
};

enum space_name {
	SPACE_NAME_SEGMENT,
	SPACE_NAME_ROOT,
	SPACE_NAME_LOCK,
	SPACE_NAME_FILE,
	/* 32 hex digits that are no canonical UUID: clients take them for segments. */
	SPACE_NAME_REFUSED,
};

enum space_name space_name_of(const char *name, struct uuid *ret_uuid);

static inline struct space *space_of(const struct call *call)
{
	return fs_state(call->fs, FS_MODULE_SPACE);
}

/* ---- space_segment.c ---- */
extern const struct view view_space_segment;
void space_segment_entry(const struct call *call, const struct engine_segment_info *info,
			 struct entry *ret);
MUST_CHECK int space_segment_lookup(struct call *call, const struct uuid *uuid, struct entry *ret);
MUST_CHECK int space_segment_create(struct call *call, const struct uuid *uuid, int flags,
				    struct entry *ret, struct opened *ret_opened);
MUST_CHECK int space_segment_unlink(struct call *call, const struct uuid *uuid);
/* Whether listings show it. */
bool space_segment_is_listed(const struct engine_segment_info *info);

/* ---- space_root.c ---- */
/*
 * The file that shows the newest root, with a reference for the caller; -ENOENT if there is none.
 */
MUST_CHECK int space_root_file(struct call *call, struct small_file **ret);
/* Publishes what FILE holds; on success FILE is what space_root is. */
MUST_CHECK int space_root_publish(struct call *call, struct small_file *file);

/* Extended attributes of FILE while it is what space_root shows: none otherwise. */
MUST_CHECK int space_root_getxattr(struct call *call, struct small_file *file, const char *name,
				   struct buf *ret);
MUST_CHECK int space_root_listxattr(struct small_file *file, struct buf *ret);

/* ---- space_lock.c ---- */
extern const struct view view_space_lock;

/* ---- space_files.c ---- */
void small_file_entry(const struct call *call, struct small_file *file, struct entry *ret);
/* A file without a name, with one reference, the caller's. */
MUST_CHECK int small_file_new(struct space *space, uint32_t mode, struct small_file **ret);
/* With the lock held: NULL if there is none. No reference is taken. */
struct small_file *small_file_find(struct space *space, const char *name);
/* The same with a reference, and without the lock. */
struct small_file *small_file_get(struct space *space, const char *name);
/* At most SIZE bytes from OFFSET on. */
MUST_CHECK int small_file_read(struct small_file *file, void *data, size_t size, uint64_t offset,
			       size_t *ret, struct reterr *err);
/* Takes the name away; drops its reference. With change and lock held. */
void small_file_unlink_locked(struct space *space, struct small_file *file,
			      struct small_file **ret_unref);
/* Brings the content to memory. With change held. */
MUST_CHECK int small_file_load(struct small_file *file, struct reterr *err);
/* Forgets what is in memory, if it can be read again. With the lock held. */
void small_file_unload(struct small_file *file);

/* To SIZE bytes, with zeros. With change and lock held, its content loaded. -EFBIG, -ENOMEM. */
MUST_CHECK int small_file_resize(struct small_file *file, uint64_t size);
/* FILE is no longer what its frame says. With the lock held. */
void small_file_changed(struct small_file *file);
/* After a write, with change held: what is in memory stays bounded. */
MUST_CHECK int small_file_make_room(struct small_file *file, struct reterr *err);
/* Without the lock. */
bool small_file_is_open(struct small_file *file);
bool small_file_is_frozen(struct small_file *file);
/* Drops a reference. Accepts NULL. */
void small_file_put(struct space *space, struct small_file *file);
bool small_file_name_is_temporary(const char *name);
int64_t small_file_now_ns(void);
/* A name has come or gone. Without the lock. */
void space_touch(struct space *space);
/* The number of names that are kept, or of temporary ones. With the lock held. */
unsigned *space_names_of(struct space *space, bool temporary);

/* ---- space_file_ops.c ---- */
extern const struct view view_small_file;

/* ---- space_names.c ---- */
MUST_CHECK int small_file_create(struct call *call, const char *name, mode_t mode,
				 struct entry *ret, struct opened *ret_opened);
MUST_CHECK int small_file_unlink(struct call *call, const char *name);
MUST_CHECK int small_file_rename(struct call *call, const char *from, const char *to,
				 unsigned flags);

/* ---- space_log.c ---- */
/* With change held, all of them. */
/* FILE, under NAME, as it is now; nothing if NAME is that of a temporary one. */
MUST_CHECK int space_log_set(struct space *space, struct small_file *file, const char *name,
			     struct reterr *err);
MUST_CHECK int space_log_unlink(struct space *space, const char *name, struct reterr *err);
/* All before the change SINCE_SEQ is void: the reset of small_file.h. */
MUST_CHECK int space_log_reset(struct space *space, uint64_t since_seq, struct reterr *err);
MUST_CHECK int space_log_rename(struct space *space, const char *from, const char *to,
				struct reterr *err);
/* Appends FILE if it is dirty and has a name that is kept. */
MUST_CHECK int space_log_flush(struct space *space, struct small_file *file, struct reterr *err);
/* Without the lock: makes all frames so far durable. */
MUST_CHECK int space_log_commit(struct space *space, struct reterr *err);
/* Without the lock: whether that would have something to do. */
bool space_log_is_pending(struct space *space);

/* ---- space_replay.c ---- */
/* Before the mount: fills the table from the segments, and compacts these. */
MUST_CHECK int space_replay(struct space *space, struct reterr *err);

/*
 * After a restore: as if the mount began now. What is open stays usable. Only after call_leave().
 */
MUST_CHECK int space_replay_again(struct space *space, struct reterr *err);

/*
 * For wal/in: the segment UUID has been restored. If it holds small files they appear. Only after
 * call_leave() or call_block().
 */
MUST_CHECK int space_restored(struct fs *fs, const struct uuid *uuid, struct reterr *err);

/* ---- space_compact.c ---- */
/* Without the lock: whether the segments hold so much that does not count, and SIZE_MIN bytes. */
bool space_compact_due(struct space *space, uint64_t size_min);
/* With change held, if it is due. A failure is reported, and costs nothing but space. */
void space_compact(struct space *space, uint64_t size_min);
/*
 * For .ctl/accept: what could not be read is given up. The files as they are now go to a new segment, and
 * the damaged ones are removed. -EINVAL nothing was lost.
 */
MUST_CHECK int space_accept_loss(struct call *call);
/* With change held: counts what the segments hold. */
void space_compact_measure(struct space *space);

/* ---- space_flush.c: files whose writer neither closes nor syncs them. ---- */
MUST_CHECK int space_flusher_start(struct space *space);
/* With the lock held: there is something to do within the interval. */
void space_flusher_wake_locked(struct space *space);
/* Flushes once more. */
void space_flusher_stop(struct space *space);

#endif
