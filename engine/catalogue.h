/*
 * The catalogue of segments: what a store opens from, without looking at a single part.
 *
 * Internal to the engine. An append-only file of checksummed records, the last one of a segment
 * counts; the bytes are described in catalogue_format.c.
 *
 * Threads: put, mark and counts may be called from any thread; open, close, create and rebuild from
 * one at a time.
 */
#ifndef PROTOFS_ENGINE_CATALOGUE_H
#define PROTOFS_ENGINE_CATALOGUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "base/uuid.h"
#include "engine/disk.h"

#define CATALOGUE_PATH "catalogue"

/* Segment numbers are 1..2^25-1: they are a field of the mount's node ids. */
#define CATALOGUE_NUMBER_MAX (((uint32_t)1 << 25) - 1)

enum catalogue_state {
	CATALOGUE_OPEN = 1,    /* an open part begins at part_start: scan it after a crash */
	CATALOGUE_SEALED = 2,  /* all its parts are sealed */
	CATALOGUE_REMOVED = 3, /* gone, though its files may still lie there */
	/* As REMOVED, and its files are gone too: no open tells of it, the number is free again. */
	CATALOGUE_FORGOTTEN = 4,
};

enum catalogue_flags {
	CATALOGUE_INHERITED = 1, /* another store's: no part is here, ever */
	CATALOGUE_REMOTE = 2,    /* parts of it may have been given up (evict.c) */
};

struct catalogue_record {
	struct uuid uuid;
	uint32_t number; /* 1..CATALOGUE_NUMBER_MAX, of this segment for ever */
	uint32_t node;
	uint32_t epoch;
	uint8_t class;       /* enum engine_class */
	uint8_t state;       /* enum catalogue_state */
	uint8_t flags;       /* enum catalogue_flags */
	uint64_t length;     /* sealed: of the stream; open: part_start */
	uint64_t part_start; /* of the open part; sealed: of the last one */
	uint64_t created_ns;
	uint64_t modified_ns;
	uint64_t born_root;
	uint64_t frames_next; /* of the frame header behind the last whole frame below length */
};

struct catalogue;

/* Makes an empty catalogue, durably. -EEXIST if there is one; the disk's errors. */
MUST_CHECK int catalogue_create(struct disk *disk, const struct uuid *store);

/*
 * Opens the catalogue of STORE and tells EACH of every segment once, by its last record, in the
 * order of their numbers, REMOVED ones too. A negative return of EACH ends the open with that
 * value. What a crash tore off at the end is cut (when READ_ONLY: only ignored).
 *
 *  -ENOENT   there is none
 *  -EBADMSG  damage: ERR names the byte. RET is set nevertheless, EACH was told of what still
 *            verifies, and put answers -EROFS.
 *
 * RET is NULL on every other failure.
 */
typedef int catalogue_each_fn(void *arg, const struct catalogue_record *record);
MUST_CHECK int catalogue_open(struct disk *disk, const struct uuid *store, bool read_only,
			      catalogue_each_fn *each, void *arg, struct reterr *err,
			      struct catalogue **ret);

/*
 * Appends RECORD, durable on return; concurrent callers share a flush. Records become durable in
 * the order of the calls. The file is compacted when it has grown to 4 times its live size. After a
 * failed write or flush the next call moves the catalogue to a new file: nothing is ever appended
 * behind bytes of unknown state.
 *
 *  -EINVAL   RECORD breaks a rule of the format, or its number is another segment's
 *  -EROFS    opened read-only, or damaged
 *  -ENOSPC   nothing was written; an OPEN record gets it before the others do, so that what is open
 *            can still be sealed
 */
MUST_CHECK int catalogue_put(struct catalogue *c, const struct catalogue_record *record,
			     struct reterr *err);

/*
 * Writes a mark at the end, durably, unless the last record is one: for a clean stop. A last record
 * that rots behind its back is then known as damage; without the mark it would read as torn.
 * The errors of catalogue_put.
 */
MUST_CHECK int catalogue_mark(struct catalogue *c, struct reterr *err);

/* Records in the file and segments in it. */
void catalogue_counts(struct catalogue *c, uint64_t *ret_records, uint64_t *ret_live);

/* Frees C and writes nothing. Accepts NULL. No other call may be running. */
void catalogue_close(struct catalogue *c);

/*
 * Replaces the catalogue by one of these COUNT records, atomically and durably, for `fsck
 * --repair`. No catalogue of this store may be open. -EINVAL if a uuid or a number occurs twice, or
 * a record breaks a rule of the format.
 */
MUST_CHECK int catalogue_rebuild(struct disk *disk, const struct uuid *store,
				 const struct catalogue_record *records, size_t count,
				 struct reterr *err);

#endif
