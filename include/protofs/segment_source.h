/*
 * A store's segments as whoever carries them away sees them: the uploader (cloud/), later the
 * replication (cluster/). The engine stands behind it (cmd/ makes the one from the other), in tests
 * a model.
 *
 * Threads: all methods may be called from any thread. They block for the local disk only. None is
 * called with a lock held that the listener takes.
 *
 * Ownership: results are copied out; the source outlives whoever reads it.
 *
 * Errors of every method that returns int, details in ERR (may be NULL): -EIO, -EBADMSG damaged,
 * -ENOMEM, and those that it names.
 */
#ifndef PROTOFS_SEGMENT_SOURCE_H
#define PROTOFS_SEGMENT_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/hash.h"
#include "base/reterr.h"
#include "base/uuid.h"

enum { SOURCE_ROOT_PAYLOAD_MAX = 512 };

/* Bytes of a segment that one sum covers. */
#define SOURCE_SUM_SIZE ((uint64_t)1 << 20)

struct source_segment {
	struct uuid uuid;
	uint32_t number; /* for the next call of NEXT */
	uint8_t class;   /* enum engine_class; carried, never judged here */
	bool foreign; /* clients append to it: it never ends, and its last block keeps its deltas */
	bool final;   /* LENGTH is all there will ever be */
	bool inherited;   /* came with a clone: it was uploaded by its own store */
	uint64_t durable; /* bytes from 0 on this disk; they never change. Grows */
};

struct source_root {
	uint64_t seq; /* 0: there is none yet */
	struct uuid segment;
	uint64_t offset;
	uint64_t time_ns;
	uint32_t node;
	uint32_t payload_size;
	uint8_t payload[SOURCE_ROOT_PAYLOAD_MAX];
};

/* A part of a segment whose file may go, since what is in it can be read elsewhere. */
struct source_part {
	struct uuid segment;
	uint64_t start, end;
	uint64_t size;    /* bytes of disk that its going gives back */
	uint64_t used_ns; /* when it was last read or written, as far as known */
};

struct segment_source;

/* Called without locks held, from any thread, and returns at once. */
typedef void segment_source_changed_fn(void *arg);
/* A negative return ends the walk with that value. */
typedef int segment_source_record_fn(void *arg, const void *record, size_t size);

struct segment_source_ops {
	/* The newest published root. What it relies on is durable in any NEXT that is called later. */
	void (*root)(struct segment_source *source, struct source_root *ret);

	/* The first segment with a number above AFTER; false: no more. Removed ones are left out. */
	bool (*next)(struct segment_source *source, uint32_t after, struct source_segment *ret);
	/* One of them. False: there is none. */
	bool (*find)(struct segment_source *source, const struct uuid *uuid,
		     struct source_segment *ret);

	/*
	 * Bytes below DURABLE, verified. Fewer than SIZE only at the end of what is durable. -ENOENT
	 * the segment was removed.
	 */
	int (*read)(struct segment_source *source, const struct uuid *segment, void *data,
		    size_t size, uint64_t offset, size_t *ret, struct reterr *err);

	/*
	 * XXH3-128 of each whole MiB from the one that holds FROM on that ends at or below LENGTH;
	 * COUNT at most. -ENOENT.
	 */
	int (*sums)(struct segment_source *source, const struct uuid *segment, uint64_t from,
		    uint64_t length, struct hash *sums, size_t count, size_t *ret);

	/* The first frame header that begins in [FROM, TO). -ENOENT there is none. */
	int (*first_frame)(struct segment_source *source, const struct uuid *segment, uint64_t from,
			   uint64_t to, uint64_t *ret);

	/*
	 * FN is called soon after durable bytes, roots or the set of segments changed; NULL ends
	 * that, and no call runs any more on return.
	 */
	void (*listen)(struct segment_source *source, segment_source_changed_fn *fn, void *arg);

	/*
	 * A small log of the uploader's own in the store. LOAD tells of every record in order;
	 * a torn last one is none. APPEND is durable on return; REPLACE puts these records in the
	 * place of all, atomically and durably. One caller at a time. -EFBIG a record above
	 * SOURCE_RECORD_MAX; -EBADMSG damaged before its end; -ENOSPC.
	 */
	int (*journal_load)(struct segment_source *source, segment_source_record_fn *fn, void *arg,
			    struct reterr *err);
	int (*journal_append)(struct segment_source *source, const void *record, size_t size,
			      struct reterr *err);
	int (*journal_replace)(struct segment_source *source, const void *const *records,
			       const size_t *sizes, size_t count, struct reterr *err);

	/* Sealed parts that are on this disk, the longest unused first, COUNT at most; their number. */
	size_t (*parts)(struct segment_source *source, struct source_part *parts, size_t count);
	/* Bytes of disk that the store's own files take. */
	uint64_t (*disk_used)(struct segment_source *source);
	/*
	 * Gives up the file of a sealed part, durably noted first. Whoever calls knows that all of
	 * it can be had from afar. 0; -ENOENT it is not there any more; -EBUSY not sealed.
	 */
	int (*evict)(struct segment_source *source, const struct uuid *segment, uint64_t start,
		     struct reterr *err);

	/* Nothing is written to this store any more, REASON says why. */
	void (*fence)(struct segment_source *source, const struct reterr *reason);
};

#define SOURCE_RECORD_MAX ((size_t)8 << 20)

/* Implementations put this first in their own struct. */
struct segment_source {
	const struct segment_source_ops *ops;
};

#endif
