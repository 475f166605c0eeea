/*
 * What the files of the cache share. cloud.h has the interface.
 *
 * A key that is on its way has a flight, in which everybody who wants it takes part. Flight and entry
 * of one key may be there together only while the bytes of the flight are being kept.
 *
 * One lock guards everything but what a comment excepts; it is given up for every request, file and
 * hash, and while bytes are copied. Functions that are called "with the lock" may give it up meanwhile
 * where they say so.
 */
#ifndef PROTOFS_CLOUD_BLOCK_CACHE_H
#define PROTOFS_CLOUD_BLOCK_CACHE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cloud/block_cache_file.h"
#include "cloud/block_cache_table.h"
#include "cloud/cloud.h"

enum {
	CACHE_THREADS_MAX = 8, /* which fetch what is not asked for yet */
	CACHE_BUFFERS_MIN = 4,
	CACHE_BUFFERS_MAX = 16,
	CACHE_BUFFERS_ASKED = 2, /* of them are for what is asked for */
	CACHE_PARKED_MS = 2000,
	CACHE_QUEUE_MAX = 64,
	CACHE_EXPORT_MS = 5000,
};

#define CACHE_BUFFERS_SIZE                                                                         \
	((uint64_t)128 << 20) /* of all buffers, unless CACHE_BUFFERS_MIN is more */
#define CACHE_MAPPINGS "cache_mappings.json"

enum flight_state {
	FLIGHT_QUEUED,  /* a thread will take it, or whoever wants it now */
	FLIGHT_RUNNING, /* somebody fetches it */
	FLIGHT_LANDED,  /* R, ERR, FILE and BUFFER do not change any more */
};

struct flight {
	struct flight *next; /* of the list of flights that have not ended */
	struct hash id;
	struct cache_file file; /* its head once it has landed */
	enum flight_state state;
	bool ahead; /* nobody has asked for it yet */
	unsigned refs;
	void *buffer; /* of the cache's; NULL if it failed */
	int r;
	struct reterr err;
};

struct block_cache {
	/* Constant. */
	struct block_store *below;
	const struct clock *clock;
	int dir_fd;
	uint32_t server;
	uint64_t block_size;
	unsigned buffers_max;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* a flight landed or ended, an entry is no longer busy or pinned,
				   a buffer is free, it is stopped */
	pthread_cond_t work;    /* for the threads; CLOCK_MONOTONIC */
	bool stopped, closing;
	struct cache_table table;
	uint64_t used;     /* bytes of disk of all entries */
	uint64_t reserved; /* of those that are being written */
	uint64_t files;    /* written so far, for temporary names */

	struct flight *flights;
	struct flight *queue[CACHE_QUEUE_MAX]; /* the oldest first */
	size_t queue_count;

	void *idle[CACHE_BUFFERS_MAX]; /* buffers that nobody uses */
	unsigned idle_count;
	unsigned buffers_used;
	/*
	 * The last flights that landed, the oldest first: those whose bytes went past the page cache,
	 * and those that could not be kept. They stay in FLIGHTS until a buffer is needed, or nobody
	 * has used one for CACHE_PARKED_MS: who reads on has his bytes from memory, and with a full
	 * disk not every piece of a block is a fetch of all of it.
	 */
	struct flight *parked[CACHE_BUFFERS_MAX];
	unsigned parked_count;
	uint64_t parked_ms; /* when one was used last, of CLOCK_MONOTONIC */

	pthread_t threads[CACHE_THREADS_MAX];
	unsigned thread_count, threads_max, threads_idle;

	bool dirty; /* the mappings have changed since their export */
	bool exporting;
	uint64_t exported_ms; /* of CLOCK_MONOTONIC; 0 never */

	uint64_t hits, misses, evictions, damaged, read_ahead;
};

/* ---- block_cache_store.c: what is on the disk ---- */

/* Opens or makes the directory, and fills the table. Before anybody else knows the cache. */
MUST_CHECK int cache_load(struct block_cache *cache, const char *dir, struct reterr *err);
/*
 * With the lock, which it gives up. Writes the object of FLIGHT to the disk, within the limit. False:
 * that cannot be, for want of space.
 */
bool cache_keep(struct block_cache *cache, const struct flight *flight);
/*
 * With the lock, which it gives up. ENTRY, damaged, goes; it is neither busy nor pinned by the
 * caller.
 */
void cache_drop(struct block_cache *cache, struct cache_entry *entry);

/* ---- block_cache_flight.c: what is on its way ---- */

/* With the lock. NULL if KEY is not on its way. */
struct flight *cache_flight_find(struct block_cache *cache, const struct hash *id);
/* With the lock. One that is RUNNING, and the caller's to run. NULL: no memory. */
struct flight *cache_flight_new(struct block_cache *cache, const struct hash *id, const char *key);
/* With the lock. Takes one that is QUEUED out of the queue: RUNNING, and the caller's to run. */
void cache_flight_take(struct block_cache *cache, struct flight *flight);
/* With the lock, which it gives up. Fetches and keeps it; on return it has landed. */
void cache_flight_run(struct block_cache *cache, struct flight *flight);
/* With the lock. */
void cache_flight_unref(struct block_cache *cache, struct flight *flight);
/* With the lock: somebody reads SIZE bytes of FLIGHT, which has landed. */
void cache_flight_touch(struct block_cache *cache, const struct flight *flight, size_t size);
/* With the lock: starts a thread if none is idle and there may be one more. */
void cache_wake(struct block_cache *cache);
/* Ends and joins the threads, and forgets what was queued. */
void cache_flights_done(struct block_cache *cache);

/* ---- block_cache_export.c ---- */

/* Without the lock, by one caller at a time. Writes the mappings. */
void cache_export(struct block_cache *cache);
uint64_t cache_now_ms(void); /* CLOCK_MONOTONIC */

/* ---- For the reader ---- */

/* The head of KEY, if the cache knows it without asking. */
bool block_cache_head(struct block_cache *cache, const char *key, struct block_head *ret);

#endif
