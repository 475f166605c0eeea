/*
 * The open part of a segment: bytes wait in memory until a commit has written them, together with
 * one entry of the commit table (part_format.h), and flushed the file once.
 *
 * Offsets in this file are physical: from the start of the part.
 *
 *     0 ........ buffered ........ durable ........ accepted ........ reserved ........ data_size
 *     on disk    on disk + memory            memory only      promised by the file system
 *
 * Invariants
 * 1. buffered <= durable <= accepted <= reserved <= data_size; buffered is a multiple of a page.
 * 2. The memory of a byte below accepted never changes; it is released only by the commit that made
 *    it durable, or after.
 * 3. At most one commit is prepared at a time: the segment's COMMITTING flag is its owner.
 * 4. No block is in flight twice: data are written ahead only behind the commit in flight, and a
 *    commit waits for the slice that is on its way.
 * 5. Zero-writing ahead never touches a block below ZEROED, a commit never one beyond it while
 *    ZEROING is set; the same holds for the table, its TABLE_ZEROED and TABLE_ZEROING.
 * 6. A part ends, or is replaced, only when no slice is on its way: nothing is written behind what
 *    was sealed.
 *
 * Locks: "L" functions are called with the segment's lock held and do no I/O; the others without
 * it, by the thread that owns the segment's APPENDING (wal_open, wal_reserve), COMMITTING
 * (wal_commit_build) or zeroing flag.
 */
#ifndef PROTOFS_ENGINE_WAL_H
#define PROTOFS_ENGINE_WAL_H

#include <stdbool.h>

#include "engine/disk.h"
#include "engine/frame.h"
#include "engine/part_format.h"
#include "engine/part_sums.h"
#include "engine/pool.h"

enum {
	WAL_PENDING_MAX = 16 << 20, /* bytes of one part that wait for the disk */
	WAL_CHUNKS_MAX = WAL_PENDING_MAX / POOL_CHUNK_SIZE + 2,
	WAL_RESERVE_WINDOW = 16 << 20,
	WAL_ZERO_WINDOW = 16 << 20, /* zero-written ahead of small commits */
	WAL_ZERO_SLICE = 1 << 20,   /* one slice at a time: a commit waits for no more */
	WAL_TABLE_WINDOW = 256 << 10,
	WAL_AHEAD_MIN = 1 << 20, /* pending bytes from which data are written before their commit */
	WAL_AHEAD_SLICE = 4 << 20,
	WAL_SMALL_COMMIT = 128 << 10, /* up to here a commit gains from zeros ahead */
};

struct wal {
	struct disk *disk;
	struct pool *pool;
	struct disk_file *file;
	struct part_geometry geometry;
	struct uuid segment;
	uint64_t start; /* stream offset of physical 0 */
	uint64_t tag;
	uint32_t epoch;

	/* Under the segment's lock. */
	uint64_t buffered, durable, accepted, reserved;
	uint64_t zeroed; /* data blocks below are written */
	uint64_t table_reserved,
		table_zeroed; /* bytes of each table copy that are promised, written */
	bool table_zeroing;   /* a window from TABLE_ZEROED on is being written */
	uint64_t zero_ahead;  /* size of the window that the next zeroing fills */
	bool zeroing;         /* [zero_from, zero_to) is being written */
	uint64_t zero_from, zero_to;
	bool small_commits; /* the last commit was one: zeros ahead pay */
	/*
	 * Whole blocks behind the durable bytes that are written already, but neither flushed nor
	 * in an entry.
	 */
	uint64_t ahead_from, ahead_to;
	bool ahead_writing; /* a slice that begins at AHEAD_TO is on its way */
	bool recovered;   /* by wal_recover: its bytes were just read, they are in the page cache */
	uint32_t entries; /* slots taken */
	uint8_t *chunks[WAL_CHUNKS_MAX];
	unsigned chunk_count;
	uint64_t chunk_base; /* physical offset of chunks[0]; a multiple of a block */
	uint8_t *tail; /* instead of chunks while nothing happens: bytes [buffered, durable) */
	uint64_t seen_accepted, seen_ms; /* the flusher's: when it last saw the part grow */
	uint32_t *first; /* per page: offset of its first frame - start + INDEX_BIAS, or INDEX_NO_FRAME */
	struct part_sums *sums; /* of the durable bytes; advanced by the committer, see part_sums.h */

	/* Of the one commit in flight. */
	struct iovec iov[WAL_CHUNKS_MAX + 3]; /* all its blocks */
	int iov_count;
	int head_count,
		tail_start; /* of these, what is not written ahead: [0, head) and [tail, count) */
	uint64_t tail_offset;
	uint8_t *block; /* the last, partial data block, copied: appends go on in its chunk meanwhile */
	uint8_t *table_block; /* the table block that holds the next free slot */
	struct iovec table_iov;
	struct hash_stream *entry_hash;

	/* Of the one slice of data that is written ahead. */
	struct iovec ahead_iov[WAL_AHEAD_SLICE / POOL_CHUNK_SIZE + 1];
	uint64_t ahead_size;

	uint64_t commit_from, commit_to;
};

/* Where a new part begins. */
struct wal_origin {
	const struct part_geometry *geometry;
	const struct uuid *segment;
	uint64_t start;
	uint32_t epoch;
	const void *head; /* see part_sums_new */
};

/*
 * Makes the file of a new part and all that its first commit needs, durably, but not yet the
 * catalogue's record. -ENOSPC and the disk's errors; ERR says what failed.
 */
MUST_CHECK int wal_open(struct disk *disk, struct pool *pool, const struct wal_origin *origin,
			struct reterr *err, struct wal **ret);
/*
 * The same for a part that a crash left open: scans it, and holds what it finds for reading, until
 * it is sealed. FRAMES is the state of the frames at START, and at the end of the part afterwards.
 * SCAN tells of torn and damaged entries. No byte is written.
 */
struct part_scan;
MUST_CHECK int wal_recover(struct disk *disk, struct pool *pool, struct part_scan *scan,
			   const void *head, struct frame_scan *frames, struct wal **ret);
/*
 * Writes the last commit of a recovered part once more and flushes it: its flush may have failed
 * before the daemon died, and what the page cache still shows is then on no disk. All earlier ones
 * had been flushed before it was written.
 */
MUST_CHECK int wal_rewrite_last(struct wal *wal);
void wal_free(struct wal *wal); /* accepts NULL; closes the file, drops what is not durable */

/* L: whether SIZE more bytes can be accepted at once. */
bool wal_fits(const struct wal *wal, uint64_t size);
/* L: whether the part has room and slots for SIZE more bytes at all. */
bool wal_has_room(const struct wal *wal, uint64_t size);
/* L: adds chunks until SIZE more bytes fit in memory. -EAGAIN the pool is empty; -ENOMEM. */
MUST_CHECK int wal_buffer(struct wal *wal, uint64_t size);
/* What wal_reserve has to bring, and has brought. */
struct wal_reservation {
	uint64_t data_from, table_from; /* what there is: zeros ahead may bring more meanwhile */
	uint64_t data, table;           /* new values of reserved and table_reserved */
};
/* L: what SIZE more bytes need. */
struct wal_reservation wal_reservation_for(const struct wal *wal, uint64_t size);
/* Reserves it, and a window beyond if that can be had. -ENOSPC. */
MUST_CHECK int wal_reserve(struct wal *wal, struct wal_reservation *wanted);
/* L */
void wal_reserved(struct wal *wal, const struct wal_reservation *got);
/* L: copies SIZE bytes, which must fit. */
void wal_accept(struct wal *wal, const void *data, size_t size);
/* L: a frame begins at stream OFFSET. */
void wal_note_frame(struct wal *wal, uint64_t offset);
/* L: copies bytes [offset, offset + size) from memory; they must lie in [buffered, accepted). */
void wal_copy(const struct wal *wal, void *data, size_t size, uint64_t offset);
/* L: nothing has happened for a while, or the part has ended: keeps only the last partial page. */
void wal_shrink(struct wal *wal);
/* L: the bytes that are not durable have moved to another part, for good. */
void wal_forget_pending(struct wal *wal);

/*
 * L: whether a slice that is being written ahead, zeros or data, stands in the way of a commit of
 * all that is accepted.
 */
bool wal_ahead_in_the_way(const struct wal *wal);
/* L: whether any slice is on its way. */
bool wal_ahead_busy(const struct wal *wal);

/* L: fixes what the commit covers: [durable, accepted), which must not be empty. */
void wal_commit_prepare(struct wal *wal);
/* Fills JOB with the writes of the prepared commit. */
void wal_commit_build(struct wal *wal, struct disk_job *job);
/* After JOB succeeded, before wal_commit_done: takes the sums of what is durable now. */
void wal_commit_sum(struct wal *wal);
/* L: the commit's bytes are durable. */
void wal_commit_done(struct wal *wal);

/* L: whether so much is pending that data should be written before their commit. */
bool wal_data_ahead_wanted(const struct wal *wal, bool committing);
/* L: claims the next slice. COMMITTING: the segment's flag. */
void wal_data_ahead_claim(struct wal *wal, bool committing, struct disk_job *job);
/* L: RESULT of JOB, which the caller has submitted. */
void wal_data_ahead_done(struct wal *wal, const struct disk_job *job, int result);

/* L: whether zero-writing should go on now: it starts again when half of the window is used up. */
bool wal_zero_wanted(const struct wal *wal);
/* L: claims the next slice to zero-write. False if there is none. */
bool wal_zero_claim(struct wal *wal, uint64_t *ret_offset, uint64_t *ret_size, bool *ret_table);
/* Writes the claimed slice. */
MUST_CHECK int wal_zero_write(struct wal *wal, uint64_t offset, uint64_t size, bool table);
/* L */
void wal_zero_done(struct wal *wal, uint64_t offset, uint64_t size, bool table, int result);

#endif
