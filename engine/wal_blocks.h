/* Offsets in blocks, for the files of the WAL alone. */
#ifndef PROTOFS_ENGINE_WAL_BLOCKS_H
#define PROTOFS_ENGINE_WAL_BLOCKS_H

#include "engine/wal.h"

static inline uint64_t wal_block_floor(uint64_t offset)
{
	return offset - offset % DISK_BLOCK_SIZE;
}

static inline uint64_t wal_block_ceil(uint64_t offset)
{
	return wal_block_floor(offset + DISK_BLOCK_SIZE - 1);
}

static inline uint64_t wal_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A commit in flight and the one after it each take a slot. */
static inline uint64_t wal_table_needed(const struct wal *wal)
{
	return ((uint64_t)wal->entries + 2) * PART_ENTRY_SIZE;
}

#endif
