/*
 * The engine's inside: what its files share. Nothing outside engine/ includes this.
 *
 * Who owns what: docs of each field. Lock order, outermost first: engine.lock, segment.lock, then
 * the leaf locks (pool, page cache, files, catalogue, root log), of which one at a time is held. No
 * lock is held across I/O: whoever needs a segment to itself while it waits for the disk takes one
 * of the segment's flags, APPENDING or COMMITTING, under the lock, and gives it back with a
 * broadcast of CHANGED.
 */
#ifndef PROTOFS_ENGINE_CORE_H
#define PROTOFS_ENGINE_CORE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/invariant.h"
#include "engine/catalogue.h"
#include "engine/disk.h"
#include "engine/engine.h"
#include "engine/journal.h"
#include "engine/page_cache.h"
#include "engine/part_format.h"
#include "engine/pool.h"
#include "engine/root_log.h"
#include "engine/sealed.h"
#include "engine/superblock.h"
#include "engine/wal.h"

enum {
	SEGMENT_NUMBER_MAX = (1 << 25) - 1,
	SEGMENT_LEAF_SIZE = 4096,
	SEGMENT_LEAVES = (SEGMENT_NUMBER_MAX + 1) / SEGMENT_LEAF_SIZE,
	OPEN_PARTS_MAX = 64, /* more are sealed, the longest unused first */
	OPEN_PARTS_HARD_MAX =
		192, /* whoever opens more seals another one itself: they cost descriptors */
	SEALED_OPEN_MAX = 128,      /* sealed parts with open files */
	APPEND_PIECE_MAX = 1 << 20, /* accepted at once; larger appends go in pieces */
	FLUSH_SIZE = 8 << 20,       /* pending bytes that start a commit which nobody waits for */
	OWN_CLASSES = 2,
};

/*
 * A part, as a reader sees it. Reference-counted; START and everything that WAL and SEALED point to
 * is immutable but for what wal.h says.
 */
struct part {
	atomic_uint refs;
	uint64_t start;
	uint64_t end;    /* of a part that is ended; for the open one the segment's length counts */
	struct wal *wal; /* open, or ended and not sealed yet; owned */
	bool bare;       /* of an inherited segment: all of it, elsewhere, without a table */
	atomic_bool remote;      /* its bytes are elsewhere; table and index are here */
	atomic_ullong used_ns;   /* when it was last read, or sealed */
	atomic_uint beside_size; /* bytes of its table and index; 0: not looked at yet */
	/* Under engine.files_lock: */
	struct sealed *sealed; /* open files of a sealed part; NULL until needed */
	bool removed;          /* its files are not kept open any more */
	bool retiring;         /* SEALED goes with its last user, and gets no new ones */
	unsigned sealed_users;
	uint64_t sealed_used; /* tick of the last use */
};

struct engine_segment {
	/* Immutable. */
	struct engine *engine;
	struct uuid uuid;
	uint32_t number;
	uint32_t node;
	enum engine_class class;
	bool inherited; /* another store's, of which no byte is here (inherit.c) */

	pthread_mutex_t lock;   /* of all below */
	pthread_cond_t changed; /* durable grew, a flag was given back, a part ended */
	enum engine_segment_state state;
	bool appending;           /* one appender has the end of the stream to itself */
	bool committing;          /* one thread leads a commit of the open part, or ends it */
	bool ended;               /* own segments: the next append goes to a new one */
	unsigned commits_waiting; /* for a slice that is written ahead: no further one is begun */
	bool poisoned;            /* a commit of the open part failed: it needs segment_repair */
	unsigned poisoned_in_a_row;
	bool failed;    /* the disk failed twice: nothing more is accepted */
	bool sealing;   /* one thread seals ended parts */
	bool importing; /* its bytes are still coming: sealed parts make no sealed segment */
	bool restoring; /* what comes was here before: no limit of the disk keeps it out */
	bool emptied;   /* VOLATILE, but the catalogue knows it: see restore_tail.c */
	uint64_t seal_retry_ms; /* not before this, after a failure */
	bool registered;        /* the catalogue knows it */
	bool files_left; /* REMOVED, and not all of its files are gone; APPENDING removes them */
	bool parts_loaded;
	unsigned writers;
	uint32_t epoch;
	bool epoch_raised; /* since this engine opened */
	uint64_t length;
	uint64_t durable;
	uint64_t sealed;
	uint64_t created_ns, modified_ns;
	uint64_t born_root;
	uint64_t writers_gone_ms; /* when the last writer left, or the last append came */
	struct frame_scan frames; /* of all accepted bytes; valid if frames_known */
	bool frames_known;
	uint64_t frames_end;  /* as the catalogue has it, while !frames_known */
	bool has_remote;      /* parts may be elsewhere; the catalogue knows */
	uint64_t remote;      /* bytes of such parts, once they are loaded */
	uint64_t frame_known; /* inherited: where some frame begins, see frames.c */
	struct part **parts;  /* by start; referenced */
	size_t part_count, part_capacity;
	struct wal *wal; /* of the last part, while it is open; owned by that part */

	/* Under engine.lock: */
	struct engine_segment *hash_next;
	struct engine_segment *open_prev, *open_next; /* list of segments with unsealed parts */
	bool in_open_list;
};

struct segment_leaf {
	_Atomic(struct engine_segment *) slots[SEGMENT_LEAF_SIZE];
};

struct engine {
	struct disk *disk;
	struct engine_options options;
	const struct clock *clock;
	/*
	 * Immutable but for its features and its identity, which superblock_change changes: under
	 * state_lock.
	 */
	struct superblock superblock;
	struct part_geometry geometry;
	struct catalogue *catalogue;
	struct root_log *root_log;
	struct journal *journal; /* one caller at a time */
	struct pool *pool;
	struct page_cache *cache;

	pthread_mutex_t lock; /* of the tables and lists of segments */
	_Atomic(struct segment_leaf *) leaves[SEGMENT_LEAVES]; /* by number; read without a lock */
	atomic_uint number_last;
	struct engine_segment **hash; /* by UUID */
	size_t hash_size, hash_count;
	struct engine_segment *open_list;
	unsigned open_count;
	_Atomic(struct engine_segment *) current[OWN_CLASSES]; /* where atoms go */
	pthread_mutex_t roll_lock; /* held while a new own segment is made: no I/O happens then */

	pthread_mutex_t files_lock; /* part.sealed and the two below */
	struct part **files;        /* parts with open files */
	size_t file_count;
	uint64_t files_tick;

	/*
	 * Roots: under root_lock. PUBLISHING is the flag of the one publisher that waits for the
	 * disk.
	 */
	pthread_mutex_t root_lock;
	pthread_cond_t root_changed;
	bool publishing;
	bool has_dangling;
	struct engine_root dangling;
	uint64_t dangling_base;     /* seq that was current when it was held */
	atomic_bool dangling_wakes; /* has_dangling, for appenders */

	atomic_bool disk_max_told; /* that the store is above it */

	/* Background threads (background.c): under background_lock. */
	pthread_mutex_t background_lock;
	pthread_cond_t flusher_wake, sealer_wake, writer_wake;
	pthread_t threads[3]; /* flusher, sealer, writer */
	unsigned thread_count;
	bool stop;
	bool flush_now; /* somebody has much pending, or the pool is empty */
	bool seal_now;
	bool write_now;
	atomic_bool dirty; /* something was accepted since the flusher last looked */

	/* State: under state_lock. */
	pthread_mutex_t state_lock;
	bool opened_writable; /* immutable after open */
	bool clone, copied;   /* the same; see identity.c */
	bool superblock_busy; /* one thread writes it; STATE_CHANGED tells of the end */
	pthread_cond_t state_changed;
	bool damaged, recovered;
	char read_only_reason[RETERR_TEXT_SIZE];
	atomic_bool read_only;
	struct disk_file *reserve; /* see reserve.c; opened once */
	bool reserve_whole;

	_Atomic(struct remote_keeper *) keeper; /* see keeper.c; NULL: none */

	/* Who wants to know of changes (listen.c): under listen_lock. */
	pthread_mutex_t listen_lock;
	pthread_cond_t listen_idle; /* LISTEN_CALLS became 0 */
	engine_changed_fn *listen;
	void *listen_arg;
	unsigned listen_calls; /* that run now */
	atomic_bool listening; /* LISTEN is set: whoever has nothing to tell takes no lock */

	atomic_ulong appends, bytes_appended, commits, commit_waiters, roots_published;
	atomic_ulong parts_sealed, parts_poisoned, parts_evicted, errors, stage_last;
	uint64_t opened_ns;
};

static inline void segment_lock(struct engine_segment *segment)
{
	(void)pthread_mutex_lock(&segment->lock);
}

static inline void segment_unlock(struct engine_segment *segment)
{
	(void)pthread_mutex_unlock(&segment->lock);
}

/* ---- state.c: failures that nobody waits for ------------------------------------------------ */

/* Tells the report callback and counts. Never called with a lock held. */
void engine_report(struct engine *e, const struct reterr *event);
/* No more writes. The first reason stays. */
void engine_turn_read_only(struct engine *e, const struct reterr *reason);
/* The same, and the store is damaged, which only `protofs fsck --repair` changes. */
void engine_note_damage(struct engine *e, const struct reterr *what);

/* ---- identity.c: whose store this is --------------------------------------------------------- */

/*
 * At open, the superblock read: 0, and e->clone and e->copied are set if the store must not be
 * written to; REASON says why. With take_over it is this directory's from now on, durably.
 */
MUST_CHECK int identity_check(struct engine *e, struct reterr *reason, struct reterr *err);
/* Before the first record of a journal: from now on a copy of the directory is known as one. */
MUST_CHECK int identity_settle(struct engine *e, struct reterr *err);
/*
 * Sets bits of the superblock, durably; nothing if they are set. No lock held.
 */
MUST_CHECK int superblock_require(struct engine *e, uint64_t incompat, uint64_t ro_compat,
				  struct reterr *err);

/* ---- segment.c ------------------------------------------------------------------------------ */

/*
 * Registers a segment in the tables. -EEXIST (RET is it), -EMFILE, -ENOMEM. NUMBER 0: the next free
 * one.
 */
MUST_CHECK int segment_add(struct engine *e, const struct uuid *uuid, uint32_t number,
			   enum engine_class class, struct engine_segment **ret);
/* The same for one that comes with a clone: nobody ever sees it without that. */
MUST_CHECK int segment_add_inherited(struct engine *e, const struct engine_inherited *inherited,
				     struct engine_segment **ret);
void segment_free_all(struct engine *e);
/* As engine_segment_at, removed ones included. */
struct engine_segment *segment_at_number(struct engine *e, uint32_t number);
/* In and out of the list that the background threads go through. Takes engine.lock. */
void segment_list_open(struct engine_segment *segment);
void segment_unlist_open(struct engine_segment *segment);
/* All of that list, the youngest first, malloc'ed; their number. RET is NULL without memory. */
size_t segment_open_list(struct engine *e, struct engine_segment ***ret);
/*
 * Writes the segment's state to the catalogue, durably. Called without its lock, by the holder of a
 * flag.
 */
MUST_CHECK int segment_record(struct engine_segment *segment, enum catalogue_state state,
			      struct reterr *err);

/*
 * Removes the files of a segment that the catalogue says is REMOVED, and then its record. No lock
 * held.
 */
MUST_CHECK int segment_remove_files(struct engine_segment *segment);
/*
 * Before the first part of SEGMENT: removed segments of the same UUID leave no file in the
 * directories, which are its own now, and no record by which the next open would remove them. No
 * lock held.
 */
MUST_CHECK int segment_clear_way(struct engine_segment *segment, struct reterr *err);

/* ---- part.c: the parts of a segment --------------------------------------------------------- */

MUST_CHECK int part_new(uint64_t start, uint64_t end, struct wal *wal, struct part **ret);
void part_ref(struct part *part);
void part_unref(struct part *part); /* frees the WAL with the last reference; accepts NULL */
/* L: appends to the segment's parts; takes over the reference. */
MUST_CHECK int segment_push_part(struct engine_segment *segment, struct part *part);
/* Loads the list of a segment that was clean at start. Called without the lock; any thread. */
MUST_CHECK int segment_load_parts(struct engine_segment *segment, struct reterr *err);
/* L: the part that holds OFFSET < length, referenced; NULL if there is none. */
struct part *segment_part_at(struct engine_segment *segment, uint64_t offset);
/* The open files of a sealed part, until part_release_sealed. Any thread, no lock held. */
MUST_CHECK int part_acquire_sealed(struct engine *e, const struct uuid *segment, struct part *part,
				   struct reterr *err, struct sealed **ret);
void part_release_sealed(struct engine *e, struct part *part, struct sealed *sealed);
/* Its segment was removed: closes the files, or has their last user do it. */
void part_files_removed(struct engine *e, struct part *part);
/* Its bytes are elsewhere from now on: whoever reads it now may finish, nobody else gets the file. */
void part_files_evicted(struct engine *e, struct part *part);
/* Closes all files. */
void part_close_files(struct engine *e);

/* ---- remote.c: bytes that are not on this disk ----------------------------------------------- */

/*
 * Exactly SIZE bytes, which must exist. May take as long as the place is away: no lock or flag held.
 * -ENOENT there is no reader; -EBADMSG the place does not have them; its other errors.
 */
MUST_CHECK int remote_read(struct engine *e, const struct uuid *segment, void *data, size_t size,
			   uint64_t offset, struct reterr *err);
/* Whether the byte at OFFSET would be read from elsewhere. Takes the lock. */
bool segment_is_remote_at(struct engine_segment *segment, uint64_t offset);

/* ---- restore_tail.c -------------------------------------------------------------------------- */

/*
 * Recovery found no byte of SEGMENT, and somebody may still know of some: it stays in the catalogue
 * until engine_tails_restored.
 */
void segment_set_emptied(struct engine_segment *segment);

/* ---- inherit.c ------------------------------------------------------------------------------- */

/* L, or nobody else knows SEGMENT yet: makes it an inherited one of LENGTH bytes. -ENOMEM. */
MUST_CHECK int segment_set_inherited(struct engine_segment *segment, uint64_t length);

/* ---- append.c ------------------------------------------------------------------------------- */

/*
 * L: ends the open part: everything in it is durable afterwards, its bytes wait for the sealer.
 * Drops the lock.
 */
MUST_CHECK int segment_end_part(struct engine_segment *segment, struct reterr *err);

/* Appends to a segment of any class: for engine_import. At most APPEND_PIECE_MAX bytes. */
MUST_CHECK int segment_append_owned(struct engine_segment *segment, const void *data, size_t size);

/* ---- commit.c ------------------------------------------------------------------------------- */

/*
 * L: returns when LENGTH bytes are durable; leads commits where nobody does. Drops the lock
 * meanwhile. OWNS_APPENDING: the caller has taken that flag.
 */
MUST_CHECK int segment_commit(struct engine_segment *segment, uint64_t length, bool owns_appending,
			      struct reterr *err);
/* Writes one slice of data ahead of its commit. Whether there was one. No lock held. */
bool segment_write_ahead(struct engine_segment *segment);
/*
 * L, owns APPENDING, nobody is COMMITTING, the part is poisoned and no slice of it on its way:
 * continues in a new one. Drops the lock.
 */
MUST_CHECK int segment_repair(struct engine_segment *segment, struct reterr *err);
/*
 * The stream's bytes from the last MiB boundary to END (for part_sums_new), malloc'ed; NULL if
 * there are none.
 */
MUST_CHECK int segment_read_head(struct engine_segment *segment, uint64_t end, uint8_t **ret,
				 struct reterr *err);
/* engine_commit, on this disk. */
MUST_CHECK int commit_positions(struct engine *e, const struct engine_position *positions,
				size_t count, struct reterr *err);
/* engine_sync, on this disk. */
MUST_CHECK int commit_all(struct engine *e, struct reterr *err);
/*
 * What is accepted and not durable now, sorted by segment, malloc'ed. The number; SIZE_MAX without
 * memory.
 */
size_t commit_dirty_positions(struct engine *e, struct engine_position **ret);
/*
 * Commits several segments, sorted by number, in one submission, together with ROOT_JOB if that is
 * not NULL; its result is in the job. The result is the segments': 0, or the first error. At most
 * ENGINE_ROOT_BARRIER_MAX positions.
 */
MUST_CHECK int commit_together(struct engine *e, struct engine_position *positions, size_t count,
			       struct disk_job *root_job, struct reterr *err);

/* ---- keeper.c: durable elsewhere, too -------------------------------------------------------- */

/* Returns when all that is accepted now is durable here, and KEEPER has it. No lock or flag held. */
MUST_CHECK int keeper_sync(struct engine *e, struct remote_keeper *keeper, struct reterr *err);

/* ---- listen.c -------------------------------------------------------------------------------- */

/* Durable bytes, roots or the set of segments changed. No lock held. */
void engine_changed(struct engine *e);

/* ---- ended.c: sealing, in the background or asked for --------------------------------------- */

/* Seals all ended parts of SEGMENT. Called without its lock; one thread at a time per segment. */
MUST_CHECK int segment_seal_ended(struct engine_segment *segment, struct reterr *err);

/* ---- stage.c -------------------------------------------------------------------------------- */

/* Removes what an earlier run left. */
void stage_clear(struct engine *e);

/* ---- reserve.c: space that sealing and roots fall back on when the disk is full ------------- */

void reserve_open(struct engine *e);
/* Gives the space back to the file system. Whether there was any. */
bool reserve_release(struct engine *e);
/* Takes it again once there is room. */
void reserve_restore(struct engine *e);
void reserve_close(struct engine *e);

/* ---- frames.c ------------------------------------------------------------------------------- */

/*
 * Brings segment.frames up to date after a start, so that appends can go on from there. No lock
 * held.
 */
MUST_CHECK int segment_load_frames(struct engine_segment *segment, struct reterr *err);
/*
 * What the stream's frames are like behind a sealed part, by its table and at most 8 bytes of it.
 * LAST is where whole frames end if none begins in the part.
 */
MUST_CHECK int segment_frames_behind(struct engine_segment *segment, const struct sealed *sealed,
				     uint64_t last, struct frame_scan *ret, struct reterr *err);
/*
 * The open part took over what OLD, which it follows, had accepted: notes the frames in it. No lock
 * held, owns APPENDING.
 */
void segment_note_frames(struct engine_segment *segment, const struct wal *old);

/* ---- roots.c -------------------------------------------------------------------------------- */

/* Makes ROOT, whose bytes are elsewhere, the first of an empty log; its seq is what it is. */
MUST_CHECK int roots_begin(struct engine *e, const struct engine_root *root, struct reterr *err);
/* Publishes ROOT as it was, if it is the next one and its frame is here. 1: it did. */
MUST_CHECK int roots_put_back(struct engine *e, const struct engine_root *root, struct reterr *err);
/* Publishes the dangling root if its bytes are here. Called by the flusher. */
void roots_try_dangling(struct engine *e);

/* ---- recover.c ------------------------------------------------------------------------------ */

/* All of DESIGN 4.4. 0 also when there is damage: the engine is then read-only and says so. */
MUST_CHECK int engine_recover(struct engine *e, struct reterr *err);

/* ---- background.c --------------------------------------------------------------------------- */

MUST_CHECK int background_start(struct engine *e);
void background_stop(struct engine *e);
void background_flush(struct engine *e); /* wake the flusher now */
void background_dirty(struct engine *e); /* something is pending; it has until flush_interval */
void background_seal(struct engine *e);
/*
 * When the sealer cannot keep up: does some of its work. No lock held; the caller may own an
 * APPENDING.
 */
void background_relieve(struct engine *e);
void background_write(struct engine *e); /* zeros or data ahead */

#endif
