/*
 * protofs-engine: a log of immutable atoms with one root pointer.
 *
 * The only public header of the engine. Vocabulary: docs/DESIGN.md. Offsets, lengths and sizes are
 * in bytes, times in nanoseconds since 1970-01-01 UTC unless a name says otherwise.
 *
 * Threads: every function may be called from any thread, except engine_close, which must be the
 * last call. Functions block while they wait for the disk; none calls back into the caller while it
 * holds a lock, except where said.
 *
 * Errors are -errno. Those that every function can return:
 *   -EIO      the disk failed, and what was asked for is not durable or cannot be read
 *   -EBADMSG  stored bytes do not match their checksum: damage, never returned as data
 *   -EROFS    the engine is read-only: asked for, or after a failure (engine_stats has the reason)
 *   -ENOSPC   no space could be reserved; nothing was written
 *   -ENOMEM
 * Others are named at each function. ERR may be NULL everywhere.
 *
 * Ownership: results are copied out; a struct engine_segment is owned by the engine and stays valid
 * until engine_close, even when the segment was removed.
 */
#ifndef PROTOFS_ENGINE_ENGINE_H
#define PROTOFS_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <protofs/clock.h>
#include <protofs/remote.h>

#include "base/attr.h"
#include "base/hash.h"
#include "base/reterr.h"
#include "base/uuid.h"

struct disk;
struct engine;
struct engine_segment;

/* ---- Formats of frames ---------------------------------------------------------------------- */

enum {
	ENGINE_FORMAT_RAW = 0,
	ENGINE_FORMAT_JSON = 1,
	ENGINE_FORMAT_MSGPACK = 2,
	ENGINE_FORMAT_OURS_MIN = 0x80,   /* 0x80 and up are protofs's own */
	ENGINE_FORMAT_SMALL_FILE = 0x87, /* an ordinary file of space/ */
};

enum {
	ENGINE_FRAME_HEADER_SIZE = 9, /* u64 payload size, u8 format */
	ENGINE_ROOT_PAYLOAD_MAX = 512,
	ENGINE_ROOT_BARRIER_MAX = 16,
};

#define ENGINE_FRAME_PAYLOAD_MAX ((uint64_t)64 << 30) /* larger is damage, not "wait for more" */
#define ENGINE_FOREIGN_LENGTH_MAX ((uint64_t)64 << 30)
#define ENGINE_SUM_SIZE ((uint64_t)1 << 20) /* bytes of a segment that one sum covers */

struct engine_pointer {
	struct uuid segment;
	uint64_t offset; /* of the frame's first header byte in the segment's stream */
};

/* ---- Format, open, close -------------------------------------------------------------------- */

#define ENGINE_BLOCK_SIZE_DEFAULT ((uint64_t)5 << 20)
#define ENGINE_BLOCK_SIZE_MIN ((uint64_t)64 << 10)
#define ENGINE_BLOCK_SIZE_MAX ((uint64_t)64 << 20)

struct engine_format_options {
	uint64_t block_size; /* a multiple of 64 KiB between MIN and MAX; 0 is the default */
	uint32_t node;       /* 0 is 1, the default */
};

/*
 * Makes an empty store on DISK, whose tree must be empty but for a "lock" file.
 * -EEXIST it holds a store; -ENOTEMPTY it holds other files; -EINVAL a bad block size.
 */
PROTOFS_API MUST_CHECK int engine_format(struct disk *disk,
					 const struct engine_format_options *options,
					 struct reterr *err);

struct engine_options {
	const struct clock *clock;  /* borrowed; NULL is the system's */
	bool read_only;             /* writes nothing; recovery happens in memory */
	bool strict_root;           /* a dangling root is refused with -ENODATA, not held */
	uint64_t flush_interval_ms; /* bytes that nobody waits for are durable after it; 0 is 1000 */
	uint64_t segment_size_max;  /* our own segments start a new one here; 0 is 1 GiB */
	uint64_t idle_seal_ms;   /* an open part without a writer is sealed after it; 0 is 60,000 */
	uint64_t cache_size_max; /* verified pages of sealed and durable bytes; 0 is 8 MiB */
	/*
	 * Appends that need more of the disk are -ENOSPC once the store takes so much of it
	 * (engine_disk_used), until parts are evicted; give or take what is reserved at a time. 0: as
	 * much as there is.
	 */
	uint64_t disk_max;
	/*
	 * Called by an append that found the store above disk_max, without locks: returns 0 when it
	 * takes less, having waited for that, or -ENOSPC when that will not be soon. NULL: it will
	 * not.
	 */
	int (*wait_for_room)(void *arg);
	void *room_arg;
	/*
	 * Told once of each failure and repair that no caller is waiting for (a poisoned part, a
	 * failed background commit, the turn to read-only), from any thread, no lock held. May be
	 * NULL.
	 */
	void (*report)(void *arg, const struct reterr *event);
	void *report_arg;
	/*
	 * Where bytes are read whose part is not on this disk; borrowed until engine_close. NULL:
	 * reading them is -ENOENT, and ERR says that the store's cloud is needed.
	 */
	struct remote_reader *reader;
	/*
	 * The caller will say which bytes were here before (engine_restore_tail, and at its end
	 * engine_tails_restored): segments of which a crash left nothing are kept until then.
	 */
	bool witnesses;
	/*
	 * A store is read-only when its directory is not the one that it was made in: a copy, of
	 * which the original may be in use. With it the store belongs to this directory from now on;
	 * a clone, too, becomes writable (engine_make_clone).
	 */
	bool take_over;
};

/*
 * Opens the store on DISK (borrowed, used until engine_close) and recovers it. OPTIONS may be NULL.
 * -EBUSY   another process holds it (ERR names the pid)
 * -ENOENT  DISK holds no store
 * -ENOTSUP a newer format version, or an unknown incompat feature
 * Damage does not fail the open: the engine is then read-only, and engine_stats says which byte of
 * which segment and why. Only a damaged superblock is -EBADMSG.
 */
PROTOFS_API MUST_CHECK int engine_open(struct disk *disk, const struct engine_options *options,
				       struct reterr *err, struct engine **ret);

/*
 * Commits what was accepted, seals every open part and frees E (accepts NULL), also when it fails:
 * the first error is returned, and ERR says what is not durable. No other call may be running or
 * follow.
 */
PROTOFS_API int engine_close(struct engine *e, struct reterr *err);

/*
 * Frees E (accepts NULL) at once, as a crash would leave the store: for tests, and for a daemon
 * that must not write.
 */
PROTOFS_API void engine_abandon(struct engine *e);

/* ---- Segments ------------------------------------------------------------------------------- */

enum engine_class {
	ENGINE_CLASS_LOG = 0,      /* our own: atoms */
	ENGINE_CLASS_META = 1,     /* our own: small files */
	ENGINE_CLASS_FOREIGN = 2,  /* appended to byte by byte by clients of the mount */
	ENGINE_CLASS_RESTORED = 3, /* copied in; read-only */
};

enum engine_segment_state {
	ENGINE_SEGMENT_VOLATILE, /* created, no byte yet: on no disk, gone at close */
	ENGINE_SEGMENT_OPEN,     /* its last part is open */
	ENGINE_SEGMENT_SEALED,   /* all its parts are sealed (foreign ones may grow a new part) */
	ENGINE_SEGMENT_DAMAGED,  /* read-only; what still verifies can be read */
	ENGINE_SEGMENT_REMOVED,
};

struct engine_segment_info {
	struct uuid uuid;
	uint32_t number; /* 1..2^25-1; stable while the engine is open, and on disk from the first byte */
	uint32_t node; /* that created it */
	uint32_t epoch;
	enum engine_class class;
	enum engine_segment_state state;
	uint64_t length;     /* of the stream, accepted bytes included */
	uint64_t durable;    /* bytes from 0 that have reached this disk */
	uint64_t sealed;     /* bytes from 0 in sealed parts: these never change again */
	uint64_t frames_end; /* whole frames parse up to here */
	uint64_t physical;   /* bytes of disk that its parts take */
	uint64_t created_ns;
	uint64_t modified_ns; /* of the last append */
	uint64_t born_root;   /* the newest root's seq when the first byte came; 0 none */
	bool frames_bad;      /* the bytes at frames_end are no frame: nothing parses beyond */
	bool final; /* sealed, and never appended to again: nothing of it changes any more */
	/*
	 * It came with a clone: another store's, never appended to here. All of it is remote, and called
	 * durable; frames_end is its length, whether frames parse up to there or not.
	 */
	bool inherited;
	uint64_t remote; /* bytes of it whose part is not on this disk */
};

/* NULL if there is none (removed ones are none). */
PROTOFS_API struct engine_segment *engine_segment_find(struct engine *e, const struct uuid *uuid);
PROTOFS_API struct engine_segment *engine_segment_at(struct engine *e, uint32_t number);
/* The first one with a number above AFTER, removed ones left out; start with 0. NULL at the end. */
PROTOFS_API struct engine_segment *engine_segment_next(struct engine *e, uint32_t after);
PROTOFS_API void engine_segment_info(struct engine *e, struct engine_segment *segment,
				     struct engine_segment_info *ret);
/* The two of these that do not take a lock. */
PROTOFS_API uint32_t engine_segment_number(const struct engine_segment *segment);
PROTOFS_API const struct uuid *engine_segment_uuid(const struct engine_segment *segment);

/*
 * Registers a foreign segment; it costs nothing on disk before its first byte. -EEXIST if there is
 * one of that UUID (RET is set to it), -EMFILE beyond 2^25 numbers.
 */
PROTOFS_API MUST_CHECK int engine_segment_create(struct engine *e, const struct uuid *uuid,
						 struct engine_segment **ret);

/* A volatile segment that nobody wants any more is forgotten; others: no effect. */
PROTOFS_API void engine_segment_forget(struct engine *e, struct engine_segment *segment);

/*
 * A writer is an open file through which SEGMENT can grow: while there is one, its part is not
 * sealed for idleness. Appending without one is allowed.
 */
PROTOFS_API void engine_writer_add(struct engine *e, struct engine_segment *segment);
PROTOFS_API void engine_writer_drop(struct engine *e, struct engine_segment *segment);

/*
 * Appends bytes as they are. RET_OFFSET (may be NULL) is where they begin. They are readable at
 * once, durable after engine_commit, or by themselves after flush_interval. All or nothing up to 1
 * MiB; larger ones have one iovec, and an error can come after some of their MiB were accepted: the
 * segment's length tells.
 * -EFBIG beyond 64 GiB; -EROFS for a restored, damaged or own segment.
 */
PROTOFS_API MUST_CHECK int engine_segment_append(struct engine *e, struct engine_segment *segment,
						 const struct iovec *iov, int iov_count,
						 uint64_t *ret_offset);

/*
 * Removes a segment from disk and catalogue, durably. Readers get -ENOENT from then on.
 * -EBUSY its writers are not gone. The caller decides whether a root still needs it.
 */
PROTOFS_API MUST_CHECK int engine_segment_remove(struct engine *e, struct engine_segment *segment);

/*
 * Reads bytes of the stream, verified against their sums. Returns how many in RET: fewer than SIZE
 * only at the segment's end. -ENOENT removed, or the bytes are elsewhere and there is no reader.
 * What is elsewhere takes as long as the reader needs, and can end with its errors: -ETIMEDOUT,
 * -EACCES, -ECANCELED. FLAGS: ENGINE_READ_DISK reads and verifies on the disk even what is cached.
 */
enum { ENGINE_READ_DISK = 1 };
PROTOFS_API MUST_CHECK int engine_read(struct engine *e, struct engine_segment *segment, void *data,
				       size_t size, uint64_t offset, unsigned flags, size_t *ret,
				       struct reterr *err);

/* The sum of one MiB (or of what there is of the last one), as recorded when it was written. */
struct engine_sum {
	uint64_t offset;
	uint64_t length;
	struct hash hash;
};

/*
 * Fills SUMS with up to COUNT sums from the MiB that holds FROM on, of the bytes below LENGTH,
 * which is capped to what is durable (pass UINT64_MAX for all). Only whole MiB and the last,
 * partial one at exactly LENGTH are available. Returns their number in RET.
 */
PROTOFS_API MUST_CHECK int engine_sums(struct engine *e, struct engine_segment *segment,
				       uint64_t from, uint64_t length, struct engine_sum *sums,
				       size_t count, size_t *ret);

/* Ends and seals the open part of SEGMENT, or of every segment (NULL). Waits for the disk. */
PROTOFS_API MUST_CHECK int engine_seal(struct engine *e, struct engine_segment *segment,
				       struct reterr *err);

/* ---- Atoms ---------------------------------------------------------------------------------- */

/*
 * Appends one atom to the open segment of CLASS (LOG or META) and returns its address before it is
 * durable.
 * -EINVAL the format is neither 0-2 nor 0x80 and up; -EFBIG larger than ENGINE_FRAME_PAYLOAD_MAX.
 */
PROTOFS_API MUST_CHECK int engine_append(struct engine *e, enum engine_class class, uint8_t format,
					 const struct iovec *iov, int iov_count,
					 struct engine_pointer *ret);

/*
 * The same for a payload of SIZE bytes that READ delivers piece by piece: it fills exactly SIZE
 * bytes at DATA, of the payload's OFFSET, or returns -errno, which ends the append with that error
 * (the segment is then ended and a new one begins; no atom of it is ever visible). READ is called
 * without locks held.
 */
typedef int engine_source_fn(void *arg, void *data, size_t size, uint64_t offset);
PROTOFS_API MUST_CHECK int engine_append_from(struct engine *e, enum engine_class class,
					      uint8_t format, uint64_t size, engine_source_fn *read,
					      void *arg, struct engine_pointer *ret);

/*
 * The next append of CLASS (LOG or META) begins a new segment; one that is under way still ends
 * where it began. A segment without a byte stays. No I/O, nothing becomes durable.
 */
PROTOFS_API void engine_roll(struct engine *e, enum engine_class class);

struct engine_frame {
	uint64_t offset; /* of its header */
	uint64_t size;   /* of its payload, which begins at offset + ENGINE_FRAME_HEADER_SIZE */
	uint8_t format;
};

/*
 * The frame that begins at exactly OFFSET. -ENOENT if no frame begins there, or it is not whole
 * yet; -EBADMSG damaged. In an inherited segment the frames before it may have to be followed, from
 * where the reader says that one begins: its errors too, here and in engine_frames.
 */
PROTOFS_API MUST_CHECK int engine_frame_at(struct engine *e, struct engine_segment *segment,
					   uint64_t offset, struct engine_frame *ret);

/*
 * Fills FRAMES with up to COUNT whole frames that begin at or after FROM, in order (format is not
 * set: it costs a read). RET is their number, 0 at the end. To go on, pass the last one's offset +
 * 1.
 */
PROTOFS_API MUST_CHECK int engine_frames(struct engine *e, struct engine_segment *segment,
					 uint64_t from, struct engine_frame *frames, size_t count,
					 size_t *ret);

/* ---- Commit --------------------------------------------------------------------------------- */

struct engine_position {
	struct engine_segment *segment;
	uint64_t length; /* bytes from 0 that must be durable; UINT64_MAX: all accepted so far */
};

/*
 * Returns when all positions are durable on this disk. Concurrent callers share flushes. -EIO: they
 * are not, and may never be; -EINVAL a length past the segment's.
 */
PROTOFS_API MUST_CHECK int engine_commit(struct engine *e, const struct engine_position *positions,
					 size_t count, struct reterr *err);

/* Everything accepted so far, of all segments. */
PROTOFS_API MUST_CHECK int engine_sync(struct engine *e, struct reterr *err);

/* ---- Roots ---------------------------------------------------------------------------------- */

struct engine_root {
	uint64_t seq; /* 1 is the first; dense, never reused; 0 for a dangling root */
	struct engine_pointer pointer;
	uint64_t time_ns; /* of the publication; never below the previous root's */
	uint32_t node;
	uint32_t payload_size;
	uint8_t payload[ENGINE_ROOT_PAYLOAD_MAX]; /* the publisher's own bytes, kept verbatim */
};

/*
 * Publishes POINTER if the newest root still is EXPECTED (a seq, 0 for none yet, or UINT64_MAX for
 * "whatever it is"). All bytes accepted before the call are durable before the root is visible to
 * anybody.
 * 0           published; RET (may be NULL) is the new root
 * 1           the frame at POINTER is not whole yet: the root is held as dangling
 *             (engine_root_dangling) and published by the engine as soon as the bytes arrive
 * -ESTALE     the root moved; RET is the newest
 * -ENODATA    dangling, and strict_root is set
 * -EINVAL     POINTER is in a damaged header, or PAYLOAD is too large
 * -EROFS, -ECANCELED from a keeper (engine_set_keeper): RET is set, its seq is 0 if the root was not
 *             published here either. Give it zeroed: a read-only engine does not touch it.
 */
PROTOFS_API MUST_CHECK int engine_root_publish(struct engine *e, uint64_t expected,
					       const struct engine_pointer *pointer,
					       const void *payload, size_t payload_size,
					       struct engine_root *ret, struct reterr *err);
#define ENGINE_ROOT_EXPECT_ANY UINT64_MAX

/* The newest published root. -ENOENT if there is none. */
PROTOFS_API MUST_CHECK int engine_root_current(struct engine *e, struct engine_root *ret);
/* The root that is held until its bytes arrive. -ENOENT if there is none. */
PROTOFS_API MUST_CHECK int engine_root_dangling(struct engine *e, struct engine_root *ret);
/* A kept root. -ENOENT if it never was or was pruned. */
PROTOFS_API MUST_CHECK int engine_root_get(struct engine *e, uint64_t seq, struct engine_root *ret);
/* The oldest and the newest kept seq; both 0 if there is none. */
PROTOFS_API void engine_root_range(struct engine *e, uint64_t *ret_first, uint64_t *ret_last);
/* The oldest kept root published at or after TIME_NS. -ENOENT. */
PROTOFS_API MUST_CHECK int engine_root_since(struct engine *e, uint64_t time_ns,
					     struct engine_root *ret);

/*
 * Drops every root below KEEP_FROM, never the newest. With DRY_RUN only counts. RET_DROPPED may be
 * NULL.
 */
PROTOFS_API MUST_CHECK int engine_root_prune(struct engine *e, uint64_t keep_from, bool dry_run,
					     uint64_t *ret_dropped, struct reterr *err);

/* ---- Elsewhere: what the cloud and the cluster need of a store ------------------------------ */

/*
 * From now on engine_commit, engine_sync and engine_root_publish return when KEEPER, too, has what
 * they made durable (not the dangling root's own publication, which nobody waits for): first
 * locally, then the bytes there, then the root is published, then the root there. Of what they were
 * asked for, -EROFS and -ECANCELED say that it is durable on this disk only. Borrowed until
 * engine_close; NULL ends it.
 */
PROTOFS_API void engine_set_keeper(struct engine *e, struct remote_keeper *keeper);

/*
 * FN is called soon after durable bytes, roots or the set of segments changed, from any thread, no
 * lock held; it must return at once. NULL ends that, and no call runs any more on return.
 */
typedef void engine_changed_fn(void *arg);
PROTOFS_API void engine_listen(struct engine *e, engine_changed_fn *fn, void *arg);

/*
 * Turns the engine read-only for good, REASON says why: another owner has taken its place. What was
 * accepted before is still made durable here.
 */
PROTOFS_API void engine_fence(struct engine *e, const struct reterr *reason);

/*
 * A log of small records in the store, for whoever carries its segments away. One caller at a time.
 * LOAD tells of each record in order (a torn last one is none); APPEND is durable on return;
 * REPLACE puts COUNT records in the place of all, atomically and durably.
 * -EBADMSG damaged before its end; -EFBIG a record above ENGINE_JOURNAL_RECORD_MAX; FN's negative
 * return.
 */
#define ENGINE_JOURNAL_RECORD_MAX ((size_t)8 << 20)
typedef int engine_journal_fn(void *arg, const void *record, size_t size);
PROTOFS_API MUST_CHECK int engine_journal_load(struct engine *e, engine_journal_fn *fn, void *arg,
					       struct reterr *err);
PROTOFS_API MUST_CHECK int engine_journal_append(struct engine *e, const void *record, size_t size,
						 struct reterr *err);
PROTOFS_API MUST_CHECK int engine_journal_replace(struct engine *e, const void *const *records,
						  const size_t *sizes, size_t count,
						  struct reterr *err);

/* A sealed part that is on this disk. */
struct engine_part {
	struct engine_segment *segment;
	uint64_t start, end;
	uint64_t size;    /* bytes of disk that its going gives back */
	uint64_t used_ns; /* when it was last read, or sealed, as far as this engine knows */
};

/* Fills PARTS with up to COUNT of them, the longest unused first; their number. */
PROTOFS_API size_t engine_parts(struct engine *e, struct engine_part *parts, size_t count);
/* Bytes of disk that parts, tables, indexes and logs take. */
PROTOFS_API uint64_t engine_disk_used(struct engine *e);

/*
 * Gives up the file of the sealed part at START; its table and its index stay, and what the reader
 * brings is verified by them. Durably noted before the file goes. The caller knows that the bytes
 * can be had elsewhere. 0; -ENOENT no such part, or gone already; -EBUSY not sealed yet, or its
 * segment can grow and needs all of it for that (less than about a MiB, at the end).
 */
PROTOFS_API MUST_CHECK int engine_evict(struct engine *e, struct engine_segment *segment,
					uint64_t start, struct reterr *err);

/*
 * A witness says that LENGTH bytes of the segment UUID were durable here once. What of them a torn
 * tail has lost comes back from the reader, durably, and is reported. Before anybody appends.
 * 0        they are here now; or the segment was removed, or is inherited
 * -EBADMSG the bytes cannot be had, or others than ours are there; any other error: not now. The
 *          engine is read-only from then on, ERR and engine_stats say why.
 * -EROFS   it was read-only before, and nothing was done
 */
PROTOFS_API MUST_CHECK int engine_restore_tail(struct engine *e, const struct uuid *uuid,
					       uint64_t length, struct reterr *err);
/*
 * ROOT was published here once. If it is the next one, which recovery took for a torn publication, since its
 * bytes were gone, and they are here again, then it is published again as it was, and reported. 0: it is
 * there now, or a later one, or it cannot be published; other errors leave the engine read-only.
 */
PROTOFS_API MUST_CHECK int engine_restore_root(struct engine *e, const struct engine_root *root,
					       struct reterr *err);
/* No witness is left: segments without a byte are removed. Nothing in a read-only engine. */
PROTOFS_API MUST_CHECK int engine_tails_restored(struct engine *e, struct reterr *err);

/*
 * Registers a segment of another store of which no byte is here: LENGTH bytes come from the reader.
 * Durable on return. Nobody appends to it, ever. -EEXIST; -EINVAL.
 */
struct engine_inherited {
	struct uuid uuid;
	enum engine_class class;
	uint64_t length;
	uint32_t node, epoch;
};
PROTOFS_API MUST_CHECK int engine_inherit(struct engine *e,
					  const struct engine_inherited *inherited,
					  struct reterr *err);

/*
 * Marks an empty, writable store as a clone: after the next open it is read-only until it is opened
 * with take_over. ROOT (NULL: none), whose segment must have been inherited, becomes its newest root with
 * the seq, time and payload that it has. -ENOTEMPTY it has a root or segments of its own.
 */
PROTOFS_API MUST_CHECK int engine_make_clone(struct engine *e, const struct engine_root *root,
					     struct reterr *err);

/* ---- Staging: bytes on their way in --------------------------------------------------------- */

/*
 * A scratch file in the store, gone at close and at the next open. Not thread-safe: one user at a
 * time.
 */
struct engine_stage;
PROTOFS_API MUST_CHECK int engine_stage_new(struct engine *e, struct engine_stage **ret);
PROTOFS_API MUST_CHECK int engine_stage_write(struct engine_stage *stage, const void *data,
					      size_t size, uint64_t offset);
PROTOFS_API MUST_CHECK int engine_stage_read(struct engine_stage *stage, void *data, size_t size,
					     uint64_t offset, size_t *ret);
PROTOFS_API MUST_CHECK int engine_stage_truncate(struct engine_stage *stage, uint64_t size);
PROTOFS_API uint64_t engine_stage_size(const struct engine_stage *stage);
PROTOFS_API void engine_stage_free(struct engine_stage *stage); /* accepts NULL */

/*
 * Makes the bytes of STAGE the restored, read-only segment UUID, durably, and sealed. STAGE stays
 * the caller's. -EEXIST there is such a segment; -EFBIG more than 64 GiB; -EINVAL it is empty.
 */
PROTOFS_API MUST_CHECK int engine_import(struct engine *e, const struct uuid *uuid,
					 struct engine_stage *stage, struct reterr *err);
/*
 * The same for SIZE bytes that READ delivers in order, as for engine_append_from: they are written
 * once. Its error ends the import, and no segment stays.
 */
PROTOFS_API MUST_CHECK int engine_import_from(struct engine *e, const struct uuid *uuid,
					      uint64_t size, engine_source_fn *read, void *arg,
					      struct reterr *err);

/* ---- State ---------------------------------------------------------------------------------- */

struct engine_stats {
	struct uuid store;
	uint64_t block_size;
	uint32_t node;
	const char *disk_path; /* how commits reach the disk: "io_uring", "threads", ... */
	uint64_t opened_ns;
	uint64_t segments;
	uint64_t open_parts;
	uint64_t bytes_stored;  /* lengths of all segments */
	uint64_t bytes_pending; /* accepted, not yet durable */
	uint64_t appends;       /* since open, as are all below */
	uint64_t bytes_appended;
	uint64_t commits;        /* group commits that reached the disk */
	uint64_t commit_waiters; /* callers that they served */
	uint64_t roots_published;
	uint64_t roots_first, roots_last; /* kept */
	uint64_t parts_sealed, parts_poisoned;
	uint64_t cache_hits, cache_misses, cache_bytes;
	uint64_t buffer_bytes; /* memory of bytes not yet durable */
	uint64_t errors;
	uint64_t disk_total, disk_available;
	bool recovered; /* the last stop was not a clean one */
	bool read_only;
	bool damaged; /* `protofs fsck` has work to do */
	bool clone;   /* another store's, not taken over */
	bool copied; /* it has a journal that was begun in another directory, or on another machine */
	uint64_t bytes_remote;  /* whose part is not on this disk */
	uint64_t parts_evicted; /* since open */
	char read_only_reason[RETERR_TEXT_SIZE];
};
PROTOFS_API void engine_stats(struct engine *e, struct engine_stats *ret);
/* 0, or -EROFS with the reason in ERR: what a write would be told now. No I/O. */
PROTOFS_API MUST_CHECK int engine_check_writable(struct engine *e, struct reterr *err);

/* ---- Check and repair ----------------------------------------------------------------------- */

struct engine_fsck_options {
	bool deep;   /* read and verify every byte, not only the structures */
	bool repair; /* needs the store for itself; keeps a copy of what it cuts in lost+found/ */
	/* Told of each finding; FIXED if repair mended it. */
	void (*found)(void *arg, const struct reterr *finding, bool fixed);
	/* Bytes done and to do. May be NULL. */
	void (*progress)(void *arg, uint64_t done, uint64_t total);
	/* With DEEP: brings the parts that are not on this disk, to be verified. May be NULL. */
	struct remote_reader *reader;
	void *arg;
};

struct engine_fsck_result {
	uint64_t segments, parts, frames, roots, bytes_verified;
	/* Whose part is not on this disk: no problem. */
	uint64_t parts_remote, bytes_remote;
	uint64_t bytes_unverified; /* with DEEP: of those, what could not be verified */
	uint64_t problems;         /* found */
	uint64_t fixed;
	uint64_t torn_bytes; /* unacknowledged bytes behind the end, which a crash leaves: no problem */
};

/* -EBUSY a daemon holds it and REPAIR is set; -ENOENT no store. Problems are no error. */
PROTOFS_API MUST_CHECK int engine_fsck(struct disk *disk, const struct engine_fsck_options *options,
				       struct engine_fsck_result *ret, struct reterr *err);

#endif
