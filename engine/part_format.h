/*
 * The bytes of a part while it is open: data, then two copies of its commit table.
 *
 *   0                         data area: 64 blocks; physical offset = stream offset - start of the part
 *   data_size                 table copy A: data_size / 4096 entries of 64 bytes
 *   data_size + table_size    table copy B
 *
 * An entry, little-endian:
 *    0  u64  stream offset of the first byte that it covers
 *    8  u32  length, never 0
 *   12  u32  epoch of the segment's owner
 *   16  u64  sequence: its slot in the table + 1
 *   24  16   XXH3-128 of the data
 *   40  u64  tag: XXH3-64 of the segment's UUID and the part's start, so that no other part's entry is taken
 *            for one of this
 *   48  u64  zero
 *   56  u64  XXH3-64 of the 56 bytes before
 *
 * An entry is valid if and only if its last field matches, tag and sequence are this slot's, it
 * begins where the entry before ends, and its data match. The reader's algorithm is in part_scan.c.
 */
#ifndef PROTOFS_ENGINE_PART_FORMAT_H
#define PROTOFS_ENGINE_PART_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/uuid.h"
#include "engine/disk.h"

enum {
	PART_BLOCKS = 64,
	PART_ENTRY_SIZE = 64,
	PART_ENTRIES_PER_BLOCK = DISK_BLOCK_SIZE / PART_ENTRY_SIZE,
	PART_TABLE_COPIES = 2,
	/* The unit of verified reads. */
	PART_PAGE_SIZE = 64 << 10,
};

struct part_geometry {
	uint64_t data_size;
	uint64_t table_size; /* of one copy */
	uint32_t entries_max;
};

struct part_geometry part_geometry_of(uint64_t block_size);

static inline uint64_t part_table_offset(const struct part_geometry *geometry, unsigned copy)
{
	return geometry->data_size + copy * geometry->table_size;
}

struct part_entry {
	uint64_t offset;
	uint32_t length;
	uint32_t epoch;
	uint64_t sequence;
	struct hash hash;
};

uint64_t part_tag(const struct uuid *segment, uint64_t start);
void part_entry_store(uint8_t bytes[static PART_ENTRY_SIZE], const struct part_entry *entry,
		      uint64_t tag);
/*
 * Judges all that can be judged without the data. -ENODATA all zero: never written; -EBADMSG
 * anything else.
 */
MUST_CHECK int part_entry_load(const uint8_t bytes[static PART_ENTRY_SIZE], uint64_t tag,
			       uint64_t sequence, struct part_entry *ret);

/* Paths below the store: "segments/<uuid>/<start>", "sealed/<uuid>/<start>.table" and so on. */
/* PART_NOTE: its name says that the part's bytes are elsewhere; it holds the last of them (evict.c). */
enum part_file { PART_DATA, PART_TABLE, PART_INDEX, PART_NOTE };
void part_path(enum part_file file, const struct uuid *segment, uint64_t start,
	       char path[static DISK_PATH_MAX]);
/* "segments/<uuid>" and "sealed/<uuid>" */
void part_dir(enum part_file file, const struct uuid *segment, char path[static DISK_PATH_MAX]);
/* The start that a part file's name says: 20 digits, then SUFFIX. -EINVAL for any other name. */
MUST_CHECK int part_name_parse(const char *name, const char *suffix, uint64_t *ret_start);

#endif
