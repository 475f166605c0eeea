/* The files of a segment's parts, as its two directories show them. */
#ifndef PROTOFS_ENGINE_PART_LIST_H
#define PROTOFS_ENGINE_PART_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/uuid.h"
#include "engine/disk.h"

/* A start with a part or a table. */
struct part_found {
	uint64_t start;
	bool data, table;
	bool noted; /* as evicted: elsewhere without DATA; with it a crash came before the unlink */
};

struct part_list {
	struct part_found *items; /* malloc'ed; sorted, each start once */
	size_t count, capacity;
};

enum { PART_LIST_MAX = 4 << 20 };

static inline bool part_is_remote(const struct part_found *found)
{
	return !found->data && found->table && found->noted;
}

/* 0, also without directories; -E2BIG above PART_LIST_MAX names; -ENOMEM; the disk's errors. */
MUST_CHECK int part_list_load(struct disk *disk, const struct uuid *segment, struct part_list *ret);
void part_list_done(struct part_list *list);

#endif
