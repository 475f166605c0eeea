/*
 * The uploader's own records in the store's journal: what it must remember beyond a kill -9. Their
 * bytes are in docs/FORMAT.md.
 *
 * A record is valid if and only if its sum matches and its items fill it. It is a list of items that
 * become true together; of the items about one thing the last one counts.
 */
#ifndef PROTOFS_CLOUD_UPLOAD_JOURNAL_H
#define PROTOFS_CLOUD_UPLOAD_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include <protofs/segment_source.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/slice.h"
#include "base/uuid.h"
#include "cloud/manifest_chain.h"
#include "cloud/upload_table.h"

/* Our end of the chain of manifests. */
struct upload_chain {
	struct uuid owner;
	uint64_t block_size;
	uint64_t n; /* of the newest confirmed manifest; 0: there is none */
	struct hash hash;
	uint64_t epoch;
	struct source_root root;
	unsigned run_count;
	struct manifest_run runs[MANIFEST_RUNS_MAX]; /* the full one first, newer ones behind it */
};

/* Building a record: begin, items, end. All: 0; -ENOMEM; -EFBIG. RECORD's max is set by begin. */
MUST_CHECK int upload_record_begin(struct buf *record);
MUST_CHECK int upload_record_chain(struct buf *record, const struct upload_chain *chain);
MUST_CHECK int upload_record_segment(struct buf *record, const struct upload_segment *segment);
MUST_CHECK int upload_record_manifest(struct buf *record, uint64_t n, struct slice text);
MUST_CHECK int upload_record_fenced(struct buf *record, const char *why);
MUST_CHECK int upload_record_end(struct buf *record);

/* Told of the items of a record in their order. Negative returns end the reading. */
struct upload_record_visitor {
	int (*chain)(void *arg, const struct upload_chain *chain);
	/* Only what a record keeps is set in SEGMENT. */
	int (*segment)(void *arg, const struct upload_segment *segment);
	int (*manifest)(void *arg, uint64_t n, struct slice text);
	int (*fenced)(void *arg, struct slice why);
	void *arg;
};

/* -EBADMSG it is no record. The visitor is called only for a record whose sum matches. */
MUST_CHECK int upload_record_read(struct slice record, const struct upload_record_visitor *visitor);

#endif
