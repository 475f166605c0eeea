/*
 * What the cache holds, and what has to go first: 2Q.
 *
 * What comes in is on probation, a queue: a scan passes through it and pushes out only what came
 * before. Who proves that it is wanted again joins the main list, of which the longest unused goes:
 *   - an object on probation that is read again some seconds after it came, or of which half as much
 *     again as it has was read (one reader from its beginning to its end proves nothing);
 *   - an object that comes back soon after it went (the table remembers the names of the last ones).
 * While probation holds a quarter of the space or more, it loses first.
 *
 * No I/O and no lock of its own: everything happens under the lock of the cache.
 */
#ifndef PROTOFS_CLOUD_BLOCK_CACHE_TABLE_H
#define PROTOFS_CLOUD_BLOCK_CACHE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/hash.h"
#include "cloud/block_cache_file.h"

enum { CACHE_ENTRIES_MAX = 1 << 16 };

struct cache_entry {
	struct hash id; /* of its key: the name of its file */
	struct cache_file file;
	uint64_t disk;
	bool verified; /* since the start, or written by this process */
	bool busy;     /* somebody verifies or removes it: wait */
	unsigned pins; /* who reads it just now: it must not go */
	/* The table's own. */
	bool main;
	uint64_t admitted_ms;
	uint64_t served; /* bytes read of it while on probation */
	struct cache_entry *older, *newer;
	struct cache_entry *chain;
};

struct cache_list {
	struct cache_entry *oldest, *newest;
	uint64_t bytes;
};

struct cache_table {
	uint64_t size_max;
	struct cache_entry **buckets;
	size_t count;
	struct cache_list probation, main;
	struct hash *gone; /* a ring of ids */
	size_t gone_max, gone_count, gone_next;
};

/* -ENOMEM. BLOCK_SIZE tells how many names of what went are worth remembering. */
MUST_CHECK int cache_table_init(struct cache_table *table, uint64_t size_max, uint64_t block_size);
/* Frees the entries, too. */
void cache_table_done(struct cache_table *table);

struct cache_entry *cache_table_find(const struct cache_table *table, const struct hash *id);
/* Takes ENTRY over: its id, file and disk are set, and no such id is there. */
void cache_table_insert(struct cache_table *table, struct cache_entry *entry, uint64_t now_ms);
/* SIZE bytes of it are read. */
void cache_table_touch(struct cache_table *table, struct cache_entry *entry, uint64_t size,
		       uint64_t now_ms);
/* Who goes first, of those that are neither pinned nor busy. NULL: nobody can. */
struct cache_entry *cache_table_victim(const struct cache_table *table);
/* The entry is the caller's now. REMEMBER its name: it was evicted, and might come back. */
void cache_table_remove(struct cache_table *table, struct cache_entry *entry, bool remember);
/* In the order in which they would go; NULL begins, NULL ends. */
struct cache_entry *cache_table_next(const struct cache_table *table,
				     const struct cache_entry *entry);

#endif
