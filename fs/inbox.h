/*
 * A directory into which files are written: atoms/in and wal/in. The inbox has the names and the
 * files; what becomes of a file that was written is for the view of its files, in its flush, fsync
 * and release.
 *
 * A name holds a reference to its node, which begins as a file (struct inbox_file) and may be
 * replaced by another node. A file knows its name, so that a later write through an open descriptor
 * can move what the name shows; it has none once it was unlinked or renamed over.
 *
 * Locks: a file's TURN before the inbox's lock. TURN makes users of one file's content take turns,
 * as its stage asks for: it is held while the stage or the engine works, by operations that called
 * call_block() before. Nobody waits for a second one but wal/in, which takes a segment's before its
 * .sum's.
 */
#ifndef PROTOFS_FS_INBOX_H
#define PROTOFS_FS_INBOX_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"
#include "fs/blob.h"
#include "fs/view.h"

struct inbox;
struct inbox_name;

struct inbox_file {
	struct node node; /* first */
	struct inbox *box;
	atomic_uint_least64_t size; /* the content's, for those who do not wait for the turn */

	pthread_mutex_t turn;
	struct blob content; /* turn */
	uint64_t changes;    /* of the content, counted; turn */
	uint64_t settled;    /* value of CHANGES when the view last dealt with it; turn */
	bool failed; /* a write failed since the content was last emptied: it has a gap. turn */
	/* atoms/in: the atom that the settled content became, if HAS_POINTER; turn */
	bool has_pointer;
	struct engine_pointer pointer;
	uint64_t frame_size;
	uint64_t rejected; /* wal/in: value of CHANGES when the content did not match its sums; turn */
	bool entered;      /* wal/in: the content became a segment; turn */

	struct inbox_name *name; /* inbox's lock */
	unsigned opens;          /* inbox's lock */
	unsigned writers;        /* of them; inbox's lock */
	pid_t opener; /* process that opened it last for writing, 0 unknown; inbox's lock */
	mode_t mode;  /* these five: inbox's lock */
	uid_t uid;
	gid_t gid;
	uint64_t mtime_ns;
};

static inline struct inbox_file *inbox_file_of(struct node *node)
{
	return (struct inbox_file *)node;
}

struct inbox_options {
	const struct view *file; /* of its files; borrowed */
	size_t names_max;
	uint64_t size_max; /* of a file */
	mode_t mode;       /* of the directory, at first */
	/* May NAME be made, by creation or renaming? 0 or -errno. NULL: any. */
	int (*allow)(struct call *call, const char *name);
};

MUST_CHECK int inbox_new(struct fs *fs, const struct inbox_options *options, struct inbox **ret);
/* Forgets all names. Files that the kernel still knows live on without. Accepts NULL. */
void inbox_free(struct inbox *box);

/* ---- What views of the directory need ------------------------------------------------------- */

int inbox_getattr(struct call *call, struct inbox *box, struct entry *ret);
/* `rsync -a` sets the directory that it copies into: mode and time, until the unmount. */
int inbox_setattr(struct call *call, struct inbox *box, const struct setting *setting,
		  struct entry *ret);
int inbox_lookup(struct call *call, struct inbox *box, const char *name, struct entry *ret);
int inbox_readdir(struct call *call, struct inbox *box, uint64_t offset, struct listing *listing);
int inbox_create(struct call *call, struct inbox *box, const char *name, mode_t mode, int flags,
		 struct entry *ret, struct opened *ret_opened);
int inbox_unlink(struct call *call, struct inbox *box, const char *name);
int inbox_rename(struct call *call, struct inbox *box, const char *from, const char *to,
		 unsigned flags);

/* ---- What views of files need; all but getattr may block ------------------------------------ */

int inbox_file_getattr(struct call *call, const uint64_t *handle, struct entry *ret);
int inbox_file_setattr(struct call *call, const uint64_t *handle, const struct setting *setting,
		       struct entry *ret);
int inbox_file_open(struct call *call, int flags, struct opened *ret);
int inbox_file_read(struct call *call, uint64_t handle, int flags, void *data, size_t size,
		    uint64_t offset, struct slice *ret);
int inbox_file_write(struct call *call, uint64_t handle, int flags, const void *data, size_t size,
		     uint64_t offset);
/* What stat(2) shows of it. */
void inbox_file_attr(struct inbox_file *file, struct stat *ret);
/* Whether its name still shows it: not something that it was made into, and it was not unlinked. */
bool inbox_file_shown(struct inbox_file *file);
unsigned inbox_file_opens(struct inbox_file *file);
/* Descriptors open for writing, and the process that opened the last of them, 0 if unknown. */
unsigned inbox_file_writers(struct inbox_file *file);
pid_t inbox_file_opener(struct inbox_file *file);
/* Counts the descriptor out and returns how many are left. */
unsigned inbox_file_release(struct inbox_file *file, int flags);

/* ---- Names ---------------------------------------------------------------------------------- */

enum { INBOX_NAME_SIZE = 256 };

/* The file's name; -ENOENT it has none. */
MUST_CHECK int inbox_file_name(struct inbox_file *file, char name[static INBOX_NAME_SIZE]);

/*
 * Lets the name of FILE show NODE, taking over the caller's reference. False: FILE has no name,
 * NODE is the caller's.
 */
MUST_CHECK bool inbox_replace(struct inbox_file *file, struct node *node);

/* The node of NAME, with a reference; NULL if there is none. */
struct node *inbox_find(struct inbox *box, const char *name);

/* Takes NAME away if it still shows NODE. */
void inbox_drop(struct inbox *box, const char *name, const struct node *node);

/*
 * The first node for which MATCH says true; for messages and rare questions. MATCH runs under the
 * inbox's lock.
 */
bool inbox_any(struct inbox *box, bool (*match)(const struct node *node, const void *arg),
	       const void *arg);

#endif
