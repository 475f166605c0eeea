/*
 * The catalogue's bytes: codec and reader. Nothing here writes to a disk.
 */
#ifndef PROTOFS_ENGINE_CATALOGUE_FORMAT_H
#define PROTOFS_ENGINE_CATALOGUE_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/reterr.h"
#include "base/slice.h"
#include "base/uuid.h"
#include "engine/catalogue.h"
#include "engine/disk.h"

enum {
	CATALOGUE_VERSION = 1,
	CATALOGUE_HEADER_SIZE = 4096,
	CATALOGUE_RECORD_SIZE = 128,
	/* Of a record that stands for no segment: a clean stop. */
	CATALOGUE_MARK = 5,
};

/* A slot is a record's index in the file, from 0. */
#define CATALOGUE_SLOT_MAX ((uint64_t)UINT32_MAX)

struct catalogue_header {
	struct uuid store;
	uint32_t base_count; /* the records that the file was born with */
};

/* A record, and where it was meant to stand. */
struct catalogue_entry {
	struct catalogue_record record;
	uint32_t slot;
	uint32_t group; /* the first slot of the write that brought it: all below were durable */
};

static inline uint64_t catalogue_slot_offset(uint64_t slot)
{
	return CATALOGUE_HEADER_SIZE + slot * CATALOGUE_RECORD_SIZE;
}

void catalogue_encode_header(const struct catalogue_header *header,
			     uint8_t bytes[static CATALOGUE_HEADER_SIZE]);
/* 0; -ENODATA short; -EBADMSG; -ENOTSUP a version that this program does not know. */
MUST_CHECK int catalogue_decode_header(struct slice in, struct catalogue_header *ret);

void catalogue_encode(const struct catalogue_entry *entry, const struct uuid *store,
		      uint8_t bytes[static CATALOGUE_RECORD_SIZE]);
/* 0; -ENODATA short; -ENOENT all zero: never written; -EBADMSG. */
MUST_CHECK int catalogue_decode(struct slice in, const struct uuid *store,
				struct catalogue_entry *ret);

/* -EINVAL if no segment may have such a record; ERR says why. */
MUST_CHECK int catalogue_check(const struct catalogue_record *record, struct reterr *err);

/* What a file holds. */
struct catalogue_scan {
	uint64_t end;      /* the first slot that does not verify, or the number of slots */
	uint64_t slots;    /* that the file's size has room for */
	uint64_t settled;  /* slots below it are known to be on the medium */
	bool torn;         /* bytes that are not zero lie from END on, none of them acknowledged */
	bool damaged;      /* acknowledged records are lost; ERR says which byte */
	bool last_is_mark; /* the record before END */
};

/*
 * Reads FILE and tells VISIT of every record that counts, in the order of their slots: those below
 * END, and if the file is damaged also those behind it that verify. A negative return of VISIT ends
 * the scan with it. 0, -ENOMEM,
 * -ENOTSUP or the disk's error.
 */
typedef int catalogue_visit_fn(void *arg, const struct catalogue_record *record);
MUST_CHECK int catalogue_scan(struct disk_file *file, const struct uuid *store,
			      catalogue_visit_fn *visit, void *arg, struct reterr *err,
			      struct catalogue_scan *ret);

#endif
