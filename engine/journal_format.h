/*
 * The journal's bytes: codec and reader. Nothing here writes to a disk. Described in
 * journal_format.c.
 */
#ifndef PROTOFS_ENGINE_JOURNAL_FORMAT_H
#define PROTOFS_ENGINE_JOURNAL_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/hash.h"
#include "base/reterr.h"
#include "base/slice.h"
#include "base/uuid.h"
#include "engine/disk.h"
#include "engine/engine.h"

#define JOURNAL_PATH "journal"

enum {
	JOURNAL_VERSION = 1,
	JOURNAL_HEADER_SIZE = 64,
	JOURNAL_RECORD_HEADER_SIZE = 40,
	JOURNAL_ALIGN = 8,
};

/* A file is never larger: whoever fills it puts fewer records in the place of all before. */
#define JOURNAL_SIZE_MAX ((uint64_t)1 << 30)

enum journal_kind {
	JOURNAL_RECORD = 1,
	JOURNAL_MARK = 2, /* a clean stop: no payload, told to nobody */
};

struct journal_header {
	struct uuid store;
	uint64_t seed;      /* random; of no two files the same */
	uint64_t base_size; /* of the file when it got its name, header included */
};

struct journal_record {
	enum journal_kind kind;
	uint32_t size; /* of the payload */
	uint64_t sequence;
	struct hash hash; /* of the payload */
};

/* Bytes of the file that a record with a payload of SIZE takes. */
static inline uint64_t journal_record_span(uint64_t size)
{
	uint64_t bytes = JOURNAL_RECORD_HEADER_SIZE + size;
	return (bytes + JOURNAL_ALIGN - 1) / JOURNAL_ALIGN * JOURNAL_ALIGN;
}

void journal_encode_header(const struct journal_header *header,
			   uint8_t bytes[static JOURNAL_HEADER_SIZE]);
/* 0; -ENODATA short; -EBADMSG; -ENOTSUP a newer version. */
MUST_CHECK int journal_decode_header(struct slice in, struct journal_header *ret);

void journal_encode_record(const struct journal_record *record, uint64_t seed,
			   uint8_t bytes[static JOURNAL_RECORD_HEADER_SIZE]);
/* The header alone, not its payload. 0; -ENODATA short; -EBADMSG. */
MUST_CHECK int journal_decode_record(struct slice in, uint64_t seed, struct journal_record *ret);

/* What a file holds. */
struct journal_scan {
	struct journal_header header;
	uint64_t size;     /* of the file */
	uint64_t end;      /* behind the last valid record */
	uint64_t sequence; /* of the next one */
	uint64_t records;  /* valid ones, marks left out */
	uint64_t last_at;  /* where the last valid record begins; 0 there is none */
	bool last_is_mark;
	bool torn;    /* bytes that are not zero lie behind END */
	bool damaged; /* acknowledged records are lost; ERR says which byte */
};

/*
 * Reads FILE, of STORE, and tells FN (may be NULL) of every valid record in order. A negative
 * return of FN ends the scan with it. 0, also when it is torn or damaged; -ENOTSUP; -ENOMEM; the disk's
 * error.
 */
MUST_CHECK int journal_scan(struct disk_file *file, const struct uuid *store, engine_journal_fn *fn,
			    void *arg, struct reterr *err, struct journal_scan *ret);

#endif
