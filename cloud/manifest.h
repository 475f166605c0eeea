/*
 * Manifests: what a place holds and who says so, roots/<n>. JSON, so that a person with any S3 tool
 * can read it; docs/FORMAT.md has the members.
 *
 * Manifest n names the hash of n-1: they form one chain. Its list tells of the segments that changed
 * since another manifest: SINCE, usually n-1; 0: the list is full. The newest state of every segment
 * is thus found by going from the newest manifest to its SINCE, to that one's, until one is full.
 */
#ifndef PROTOFS_CLOUD_MANIFEST_H
#define PROTOFS_CLOUD_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protofs/segment_source.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/reterr.h"
#include "base/slice.h"
#include "base/uuid.h"

enum {
	MANIFEST_HOST_MAX = 64,        /* bytes of a host's name, without its NUL */
	MANIFEST_SEGMENTS_MAX = 32768, /* in one manifest */
	MANIFEST_DEPTH_MAX = 16,
};

/* No manifest is larger: 32,768 segments of 150 bytes and a head of 3 KiB are 4.7 MiB. */
#define MANIFEST_SIZE_MAX ((size_t)6 << 20)

struct manifest_segment {
	struct uuid uuid;
	uint64_t length;
	uint8_t class;   /* enum engine_class of its store */
	bool ended;      /* nothing follows LENGTH, ever */
	bool summed;     /* SUM is known */
	struct hash sum; /* XXH3-128 of the XXH3-128s of each of its MiB, the last one short */
};

struct manifest {
	uint64_t n;             /* 1 is the first */
	struct hash previous;   /* of the bytes of n-1; zeros for n = 1 */
	uint64_t since;         /* below n; 0: the list is full */
	struct hash since_hash; /* of the bytes of SINCE; given if it is neither 0 nor n-1 */
	struct uuid owner;      /* the store that wrote it */
	char host[MANIFEST_HOST_MAX + 1];
	uint64_t epoch;   /* grows with each session that writes here */
	uint64_t session; /* random: tells two of one store apart */
	uint64_t block_size;
	struct source_root root;           /* seq 0: none yet */
	struct manifest_segment *segments; /* by UUID, each once */
	size_t segment_count;
};

/* Appends the text. Deterministic. -ENOMEM, -EFBIG. */
MUST_CHECK int manifest_print(const struct manifest *manifest, struct buf *ret);

/*
 * TEXT is hostile. 0: RET owns its list. -EBADMSG it is no manifest, ERR says why; -ENOMEM. Unknown
 * members are passed over; known ones must be right, and be there once.
 */
MUST_CHECK int manifest_parse(struct slice text, struct manifest *ret, struct reterr *err);

void manifest_done(struct manifest *manifest); /* accepts a zeroed one */

#endif
