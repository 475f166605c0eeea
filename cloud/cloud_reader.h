/* What the files of the reader share: bytes of segments, from blocks and deltas. */
#ifndef PROTOFS_CLOUD_CLOUD_READER_H
#define PROTOFS_CLOUD_CLOUD_READER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cloud/block_key.h"
#include "cloud/cloud.h"

enum {
	READER_STREAMS_MAX = 16,
	READER_TAILS_MAX = 8,
	READER_DELTAS_MAX = 1 << 16, /* of one block */
	READER_AHEAD_DEFAULT = 8,
	READER_AHEAD_MAX = 32,
};

/* Bytes [from, to) of the block that is not there yet. */
struct delta {
	uint32_t from, to;
};

/* The deltas of one position, as a listing found them. Constant, and counted. */
struct tail {
	unsigned refs; /* the reader's lock */
	struct uuid segment;
	uint64_t position;
	struct delta *deltas; /* by FROM, then TO */
	size_t count;
};

/* Somebody who reads a segment from some place on. */
struct stream {
	struct uuid segment;
	uint64_t start, next; /* read from, and up to */
	uint64_t served;      /* bytes */
	uint64_t ahead;       /* blocks below this one were wanted */
	uint64_t window;      /* blocks to want beyond NEXT; 0 nobody knows that it is sequential */
	uint64_t used;        /* the reader's USES then; 0: free */
};

struct cloud_reader {
	struct remote_reader base;
	struct block_cache *cache;
	struct block_store *store;
	uint64_t block_size;
	uint64_t ahead_max;
	uint64_t (*length)(void *arg, const struct uuid *segment); /* NULL: nobody knows */
	void *length_arg;
	atomic_bool stopped;
	pthread_mutex_t lock; /* guards the rest */
	uint64_t uses;
	struct stream streams[READER_STREAMS_MAX];
	struct tail *tails[READER_TAILS_MAX];
	unsigned tail_next; /* the one that gives way to another */
};

/* A place in a segment, within one block. */
struct place {
	const struct uuid *segment;
	uint64_t position; /* of the block */
	uint64_t offset;   /* in it */
};

/* ---- cloud_reader.c ---- */

/* The error R of a store as a remote_reader says it; ERR has the details. */
MUST_CHECK int reader_fail(struct reterr *err, int r);
MUST_CHECK int reader_stopped(const struct cloud_reader *reader, struct reterr *err);
char *reader_block_key(const struct place *place, char key[static BLOCK_KEY_MAX + 1]);

/* ---- cloud_reader_tail.c ---- */

/* NULL: none is known. With a reference. */
struct tail *tail_find(struct cloud_reader *reader, const struct place *place);
/* Lists the deltas at PLACE and remembers them, if there are any. With a reference. */
MUST_CHECK int tail_list(struct cloud_reader *reader, const struct place *place, struct tail **ret,
			 struct reterr *err);
void tail_unref(struct cloud_reader *reader, struct tail *tail);
/* Whoever asks from now on lists again. */
void tail_forget(struct cloud_reader *reader, const struct tail *tail);
void tail_forget_all(struct cloud_reader *reader);
/* Bytes from PLACE on, as far as deltas cover them. -ENOENT: not that byte, or a delta is gone. */
MUST_CHECK int tail_read(struct cloud_reader *reader, const struct tail *tail,
			 const struct place *place, void *data, size_t size, size_t *ret,
			 struct reterr *err);
/* The last known frame at or before PLACE. -ENOENT: none, or a delta is gone. */
MUST_CHECK int tail_frame_before(struct cloud_reader *reader, const struct tail *tail,
				 const struct place *place, uint64_t *ret, struct reterr *err);

/* ---- cloud_reader_ahead.c ---- */

/* Somebody reads there: what he will want next is fetched. */
void reader_ahead(struct cloud_reader *reader, const struct uuid *segment, uint64_t offset,
		  size_t size);

#endif
