/*
 * What lies beside a sealed part, in sealed/<uuid>/: its table and its index. Both little-endian.
 *
 * <start>.table: the commit table of a sealed part.
 *    0  8    "PFSEALED"
 *    8  u32  version, 1
 *   12  u32  bytes of a page, 65536
 *   16  16   UUID of the segment
 *   32  u64  start of the part in the stream
 *   40  u64  length of the part
 *   48  u32  number of pages: length / page, rounded up
 *   52  u32  number of MiB sums
 *   56  u64  number of the first MiB with a sum: those that end in (start, start + length]
 *   64  u64  size of the index
 *   72  16   XXH3-128 of the index
 *   88  u64  offset of the first frame header that ends in the part; it may begin up to 8 bytes before the part
 *   96  u64  offset of the frame header that follows the last of them
 *  104  u64  number of frames: headers that end in the part
 *  112  u32  epoch of the last entry
 *  116  u32  flags; 1: the bytes at the header that follows are no frame
 *  120  8    zero
 *  128  16 * pages     XXH3-128 of each page
 *   ..  16 * MiB sums  XXH3-128 of each of those MiB of the segment
 *   ..  16   XXH3-128 of all before
 *
 * <start>.index: the atoms of a part.
 *    0  8    "PFINDEX1"
 *    8  16   UUID of the segment
 *   24  u64  start of the part
 *   32       payload sizes of the frames in order, LEB128
 *   ..  8 * pages  for each page {u32 where its first frame's size begins, from 32 on; u32 that frame's offset - start + 8,
 *            or 0xFFFFFFFF if no frame begins in the page}
 *
 * A table is valid if and only if its last sum matches, and UUID and start are those of its name;
 * an index if the table's sum of it matches. The part then has exactly LENGTH bytes, each page with
 * its sum.
 */
#ifndef PROTOFS_ENGINE_SEALED_H
#define PROTOFS_ENGINE_SEALED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/reterr.h"
#include "base/uuid.h"
#include "engine/disk.h"
#include "engine/frame.h"
#include "engine/part_format.h"
#include "engine/part_sums.h"

#define SEALED_TABLE_MAGIC "PFSEALED"
#define SEALED_INDEX_MAGIC "PFINDEX1"

enum {
	SEALED_MAGIC_SIZE = 8,
	SEALED_HEADER_SIZE = 128,
	SEALED_VERSION = 1,
	SEALED_FRAMES_BAD = 1,
	INDEX_HEADER_SIZE = 32,
	INDEX_ENTRY_SIZE = 8,
	/* A frame's header may begin this many bytes before the part in which it ends. */
	INDEX_BIAS = ENGINE_FRAME_HEADER_SIZE - 1,
	SEALED_TABLE_SIZE_MAX = 4 << 20,
};
#define INDEX_NO_FRAME UINT32_MAX

struct sealed_header {
	struct uuid segment;
	uint64_t start;
	uint64_t length;
	uint32_t page_count;
	uint32_t mib_count;
	uint64_t mib_first;
	uint64_t index_size;
	struct hash index_hash;
	uint64_t frames_first;
	uint64_t frames_next;
	uint64_t frame_count;
	uint32_t epoch;
	bool frames_bad;
};

/* The whole table, checked. -ENODATA short; -EBADMSG damaged; -ENOTSUP a newer version. */
MUST_CHECK int sealed_header_load(const void *table, size_t size, struct sealed_header *ret);

/* A sealed part, ready to be read. Immutable; any thread. */
struct sealed {
	struct sealed_header header;
	struct disk_file *data; /* NULL: opened without, or the part is noted to be elsewhere */
	struct disk_file *note; /* of such a part: holds its bytes from LOCAL_FROM on */
	uint64_t local_from;    /* bytes of the part below are elsewhere; a multiple of a page */
	struct disk_file *table;
	struct disk_file *index;
};

/*
 * Opens and verifies table and index. -ENOENT there is no table; -EBADMSG damage: ERR names file
 * and why; -EIO. WITH_DATA: the part itself, too, whose size must be the table's length, unless it
 * is noted that it is elsewhere.
 */
MUST_CHECK int sealed_open(struct disk *disk, const struct uuid *segment, uint64_t start,
			   bool with_data, struct reterr *err, struct sealed **ret);
void sealed_close(struct sealed *sealed); /* accepts NULL */

MUST_CHECK int sealed_page_sum(const struct sealed *sealed, uint64_t page, struct hash *ret);
/* MIB is a number from mib_first on, below mib_first + mib_count. */
MUST_CHECK int sealed_mib_sum(const struct sealed *sealed, uint64_t mib, struct hash *ret);

/*
 * The frames whose headers end in the part, from the first at or after stream offset FROM: up to
 * COUNT of them.
 */
MUST_CHECK int sealed_frames(const struct sealed *sealed, uint64_t from,
			     struct engine_frame *frames, size_t count, size_t *ret);

/* Where the last of them begins. -ENOENT the part has none. */
MUST_CHECK int sealed_last_frame(const struct sealed *sealed, uint64_t *ret_offset);

/* ---- Writing: what seal.c does with an ended part ------------------------------------------- */

struct seal_request {
	struct disk *disk;
	struct part_geometry geometry;
	struct uuid segment;
	uint64_t start;
	uint64_t limit;        /* where the next part starts; UINT64_MAX none */
	uint64_t length_min;   /* bytes of the part that were acknowledged: fewer is damage */
	uint64_t header_start; /* where the frame header begins that is the next to come */
	const uint8_t *header; /* its first bytes, as far as they lie before START */
	bool frames_bad;       /* nothing parses any more since an earlier part */
	bool cached; /* recovery has just read and verified its bytes: once more, from the page cache */
	const void *head; /* the segment's bytes from the last MiB boundary to START */
	void (*pause)(
		void *arg); /* called now and then, so that sealing never stands before a commit; may be NULL */
	void *pause_arg;
};

/*
 * Verifies every entry of the part, writes index and table, and cuts the part to its length, in the
 * order that a crash between any two steps can bear. Sealing a part again that has a valid table
 * only redoes the cut.
 * -EBADMSG the part is damaged: nothing was written; ERR names the byte.
 */
MUST_CHECK int seal_part(const struct seal_request *request, struct sealed_header *ret,
			 struct reterr *err);

/*
 * The last step of sealing, if a crash has left it out: cuts the file of a sealed part to LENGTH
 * bytes.
 */
MUST_CHECK int seal_cut(struct disk *disk, const struct uuid *segment, uint64_t start,
			uint64_t length, struct reterr *err);

#endif
