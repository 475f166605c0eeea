/*
 * The small files as their frames describe them: changes go in, in order, and what is left are the
 * files. Not thread-safe.
 */
#ifndef PROTOFS_FS_SMALL_TABLE_H
#define PROTOFS_FS_SMALL_TABLE_H

#include "fs/small_file.h"

struct engine_segment;

/* A file whose content is in SEGMENT's stream at OFFSET. */
struct small_entry {
	char name[SMALL_FILE_NAME_MAX + 1];
	uint32_t hash; /* of the name */
	uint32_t mode;
	int64_t mtime_ns;
	uint64_t size;
	struct engine_segment *segment;
	uint64_t offset;
	uint64_t seq; /* of its last change */
};

/* Zeroed but for the limit: empty. */
struct small_table {
	struct small_entry *entries; /* in the order in which they came */
	size_t count;
	size_t capacity;
	size_t count_max;
	uint64_t next_seq; /* above that of every change so far */
};

/*
 * CONTENT is where the change's content begins. What changes a file that is not there, changes
 * nothing. -ENOMEM; -ENOSPC a file more than count_max: it is left out.
 */
MUST_CHECK int small_table_apply(struct small_table *table, const struct small_file_change *change,
				 struct engine_segment *segment, uint64_t content);

void small_table_done(struct small_table *table);

#endif
