/* What a check finds, and repair needs: between fsck.c and repair.c only. */
#ifndef PROTOFS_ENGINE_FSCK_H
#define PROTOFS_ENGINE_FSCK_H

#include <stdbool.h>

#include "engine/catalogue.h"
#include "engine/disk.h"
#include "engine/engine.h"
#include "engine/part_format.h"
#include "engine/superblock.h"

struct fsck_segment {
	struct catalogue_record record;
	uint64_t length;        /* bytes from 0 that verify, or that a bad table vouched for */
	bool damaged;           /* nothing can follow LENGTH: an open part is to be cut */
	uint64_t damaged_start; /* of the part in which the damage lies */
	unsigned bad_tables;    /* sealed parts whose table or index is damaged */
	bool open;              /* its last part is an open one, which begins at OPEN_START */
	uint64_t open_start;
	uint64_t needed; /* above LENGTH: a root needs the bytes up to here */
};

struct fsck {
	struct disk *disk;
	struct engine_fsck_options options;
	struct engine_fsck_result result;
	struct superblock superblock;
	struct part_geometry geometry;
	struct fsck_segment *segments;
	size_t segment_count, segment_capacity;
	bool catalogue_damaged;
	bool catalogue_changed; /* by repair: records are to be written again */
	bool journal_damaged;
	bool roots_damaged;
	bool root_broken;     /* bytes of one of the newest roots are missing */
	uint64_t done, total; /* bytes, for progress */
};

/* A zeroed segment at the end of the list; the pointer is good until the next call. */
MUST_CHECK int fsck_add_segment(struct fsck *f, struct fsck_segment **ret);
/* Fills F from a zeroed one with DISK and OPTIONS set. Problems are no error. */
MUST_CHECK int fsck_check(struct fsck *f, struct reterr *err);
void fsck_done(struct fsck *f);

void fsck_found(struct fsck *f, const struct reterr *finding);
/* Says that something is mended. */
void fsck_fixed(struct fsck *f, const char *format, ...) PRINTF_LIKE(2, 3);

/* The root log, when the segments are known; in fsck_roots.c, as is its repair. */
MUST_CHECK int fsck_check_roots(struct fsck *f);
MUST_CHECK int fsck_repair_roots(struct fsck *f, struct reterr *err);

/* Mends what can be mended, in the order of the check; what it cuts goes to lost+found/ first. */
MUST_CHECK int fsck_repair(struct fsck *f, struct reterr *err);

#endif
