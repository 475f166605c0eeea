/*
 * cloud: blocks far away. The module's public header: places for blocks, what stacks on them, the
 * uploader, the cache, and what a restore starts from. The interfaces that they implement or stand
 * on are protofs/block_store.h, protofs/segment_source.h and protofs/remote.h.
 *
 * Errors are -errno; details in ERR (may be NULL). Every constructor can fail with -ENOMEM.
 */
#ifndef PROTOFS_CLOUD_CLOUD_H
#define PROTOFS_CLOUD_CLOUD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protofs/block_store.h>
#include <protofs/clock.h>
#include <protofs/remote.h>
#include <protofs/segment_source.h>

#include "base/attr.h"
#include "base/hash.h"
#include "base/reterr.h"
#include "base/uuid.h"

/* ---- Places --------------------------------------------------------------------------------- */

/* `mem:`. Holds at most SIZE_MAX bytes of blocks, then -ENOSPC. -ENOMEM. */
MUST_CHECK int block_store_memory_new(uint64_t size_max, struct block_store **ret);

/*
 * `file:///DIR`, an existing directory, opened once and then used only by descriptor. Several
 * processes may use one. -ENOENT,
 * -ENOTDIR, -EACCES and the like: ERR names DIR.
 */
MUST_CHECK int block_store_dir_open(const char *dir, struct reterr *err, struct block_store **ret);

struct s3_options {
	const char *bucket;
	const char *prefix;   /* without slashes at its ends; NULL or "": none */
	const char *endpoint; /* https://host[:port]; NULL: AWS_ENDPOINT_URL, the profile's, AWS */
	const char *region;   /* NULL: AWS_REGION, the profile's, us-east-1 */
	const char *profile;  /* NULL: AWS_PROFILE, "default" */
	const char *credentials_file; /* NULL: the environment, then ~/.aws; must be 0600 */
	const char *ca_bundle;        /* NULL: AWS_CA_BUNDLE, the system's */
	bool virtual_host;            /* bucket.host/key instead of host/bucket/key */
	/* http:// beyond this machine too; also by PROTOFS_S3_ALLOW_HTTP=1. Else -EINVAL. */
	bool allow_http;
	uint64_t connect_timeout_ms; /* 0: 10,000 */
	uint64_t stall_timeout_ms;   /* without a byte: 0: 30,000 */
	const struct clock *clock;   /* NULL: the system's */
};

/*
 * One attempt a call, without retries. Looks at credentials and options, speaks to nobody: -EINVAL
 * an option is no good, -EACCES there are no credentials or their file is open to others; ERR says
 * what to do.
 */
MUST_CHECK int block_store_s3_open(const struct s3_options *options, struct reterr *err,
				   struct block_store **ret);

/* ---- What stacks on a place: each owns the store below it, also when it fails --------------- */

/* Counts requests, bytes and failures for status. Below retrying, so that attempts count. */
MUST_CHECK int block_store_counting_new(struct block_store *below, struct block_store **ret);

struct retry_options {
	/* A call gives up when its next attempt would come after this; 0: 60,000 */
	uint64_t deadline_ms;
	uint64_t delay_max_ms;     /* 0: 20,000 */
	const struct clock *clock; /* NULL: the system's */
	/* Waits MS, or until it is told to STOP (an atomic flag); NULL: really. For tests. */
	void (*sleep)(void *arg, uint64_t ms);
	void *sleep_arg;
	uint64_t seed; /* of the jitter; 0: random */
};

/*
 * Tries again what failed with -EAGAIN: full jitter, the place's own wish (retry_after_ms), a quota
 * of tokens for all calls together. At the deadline -ETIMEDOUT, with the last cause in ERR. A put
 * that finds a block of equal bytes after an attempt of its own that may have taken effect is done.
 */
MUST_CHECK int block_store_retrying_new(struct block_store *below,
					const struct retry_options *options,
					struct block_store **ret);

/* Compares what get returns with its head; what differs is -EBADMSG. get_range is as it is below. */
MUST_CHECK int block_store_verifying_new(struct block_store *below, struct block_store **ret);

struct cloud_options {
	struct s3_options s3; /* bucket and prefix come from the URL */
	struct retry_options retry;
	uint64_t memory_size_max; /* of mem:; 0: 1 GiB */
	bool make;                /* file:///: the directory is made if it is not there */
};

/* The whole stack for s3://bucket/prefix, file:///dir or mem:. -EINVAL no such URL. */
MUST_CHECK int cloud_open(const char *url, const struct cloud_options *options, struct reterr *err,
			  struct block_store **ret);

/* ---- The cache of blocks -------------------------------------------------------------------- */

struct block_cache;

struct block_cache_options {
	const char *dir; /* the store's directory; the cache is cloud_page_cache/server_<id>/ in it */
	uint32_t server;   /* id */
	uint64_t size_max; /* bytes of disk, a hard limit; 0: 500 MB */
	uint64_t block_size;
	const struct clock *clock; /* NULL: the system's */
};

struct block_cache_status {
	uint64_t hits, misses, evictions, damaged; /* since open */
	uint64_t blocks, bytes, size_max;
	uint64_t read_ahead; /* blocks fetched before they were asked for */
};

/* BELOW is borrowed: freed after the cache. Survives a damaged directory: it begins empty then. */
MUST_CHECK int block_cache_open(const struct block_cache_options *options,
				struct block_store *below, struct reterr *err,
				struct block_cache **ret);
/* Writes what it has to; accepts NULL. No other call may be running. */
void block_cache_close(struct block_cache *cache);

/*
 * Bytes of the object KEY, verified; fewer than SIZE only at its end. One fetch at a time for each
 * key, whoever asks. Errors: those of block_store get. RET_HEAD may be NULL. A full disk is no
 * error: the block is then read without being kept.
 */
MUST_CHECK int block_cache_read(struct block_cache *cache, const char *key, void *data, size_t size,
				uint64_t offset, size_t *ret, struct block_head *ret_head,
				struct reterr *err);
/* Fetches KEY in the background, if it is not there and there is room for one more fetch. */
void block_cache_want(struct block_cache *cache, const char *key);
/* Whether KEY is there, and in which file (below the store's directory; at least 128 bytes). */
bool block_cache_has(struct block_cache *cache, const char *key, char *ret_path, size_t size);
void block_cache_stop(struct block_cache *cache);
void block_cache_status(struct block_cache *cache, struct block_cache_status *ret);

/* ---- Restore points ------------------------------------------------------------------------- */

struct restore_segment {
	struct uuid uuid;
	uint8_t class;            /* enum engine_class of its store */
	bool ended;               /* nothing follows LENGTH, ever */
	uint64_t length;          /* that can be had: the objects cover it without a gap */
	uint64_t length_manifest; /* that the newest manifest says: never more than LENGTH */
};

/* What the bucket holds, as of its newest manifest. */
struct restore_point {
	uint64_t manifest; /* its number */
	struct hash manifest_hash;
	struct uuid owner;   /* the store that wrote it */
	char owner_name[65]; /* its host */
	uint64_t epoch;
	uint64_t block_size;
	struct source_root root;          /* seq 0: none was published */
	struct restore_segment *segments; /* by UUID */
	size_t segment_count;
};

/*
 * Finds the newest manifest, follows the chain of hashes back to a full list, and lists the objects
 * of each segment. CHECK_TAILS: also asks for the head of each object beyond what the manifest says.
 * -ENOENT there is no manifest; -EBADMSG the chain is broken, an object that the manifest counts is
 * missing or has another size (ERR names it), or the place holds something else; -E2BIG more than
 * can be: the bucket is hostile.
 */
MUST_CHECK int restore_point_find(struct block_store *store, bool check_tails, struct reterr *err,
				  struct restore_point *ret);
void restore_point_done(struct restore_point *point); /* accepts a zeroed one */

/* ---- Reading segments back ------------------------------------------------------------------ */

struct cloud_reader_options {
	uint64_t block_size;
	uint64_t read_ahead_blocks; /* at once, of a sequential reader; 0: 8 */
	/*
	 * How many bytes a segment has at most: nothing behind them is asked for ahead, as it would
	 * cost a request to learn that it is not there. UINT64_MAX: nobody knows. Any thread, no lock
	 * held. NULL: nobody knows of any.
	 */
	uint64_t (*length)(void *arg, const struct uuid *segment);
	void *length_arg;
};

/*
 * Maps bytes of segments to blocks and deltas, through CACHE (borrowed, as is STORE, for listing
 * deltas).
 */
MUST_CHECK int cloud_reader_new(struct block_cache *cache, struct block_store *store,
				const struct cloud_reader_options *options,
				struct remote_reader **ret);
void cloud_reader_free(struct remote_reader *reader); /* accepts NULL */

/* ---- The uploader --------------------------------------------------------------------------- */

struct uploader;

struct uploader_options {
	uint64_t block_size;
	uint64_t upload_interval_ms; /* 0: 5,000 */
	unsigned transfers;          /* at once; 0: 8 */
	uint64_t bandwidth;          /* bytes a second; 0: no limit */
	uint64_t disk_max;           /* the source's parts are evicted above it; 0: never */
	struct uuid store;           /* who owns what is uploaded */
	const char *host;            /* shown to whoever collides with us */
	bool take_over;              /* another store's manifests are continued, once */
	const struct clock *clock;   /* NULL: the system's */
	/* Told once of each failure and when it is over; any thread, no lock held. May be NULL. */
	void (*report)(void *arg, const struct reterr *event);
	void *report_arg;
};

enum uploader_state {
	UPLOADER_IDLE, /* all is up there */
	UPLOADER_BUSY,
	UPLOADER_WAITING, /* the place is away: it goes on by itself */
	UPLOADER_PAUSED,  /* the place refuses: credentials, bucket. Tried again now and then */
	UPLOADER_FENCED,  /* another owner writes there: never again */
	UPLOADER_FAILED,  /* what is here cannot be read, or its journal is damaged */
};

struct uploader_status {
	enum uploader_state state;
	uint64_t bytes_behind;   /* durable here and not yet there */
	uint64_t ms_behind;      /* age of the oldest of them */
	uint64_t bytes_uploaded; /* bodies since start */
	uint64_t blocks_uploaded, deltas_uploaded, manifests;
	uint64_t manifest;   /* number of the newest; 0 none */
	uint64_t root_seq;   /* the newest root that is there */
	uint64_t in_flight;  /* transfers now */
	uint64_t retry_ms;   /* from now to the next attempt, while WAITING or PAUSED */
	bool conditional;    /* the place refuses second writers by itself */
	struct reterr error; /* why it is WAITING, PAUSED, FENCED or FAILED */
};

/*
 * Begins to upload what SOURCE has and STORE lacks, both borrowed. Reads the journal, speaks to
 * nobody yet. -EBADMSG the journal is damaged, or the place's block size is another.
 */
MUST_CHECK int uploader_start(struct segment_source *source, struct block_store *store,
			      const struct uploader_options *options, struct reterr *err,
			      struct uploader **ret);
/*
 * Ends its threads; what is on its way is given up and repeated by the next start. Accepts NULL.
 * Stop the store first, or it waits for the transfers.
 */
void uploader_free(struct uploader *uploader);
void uploader_status(struct uploader *uploader, struct uploader_status *ret);
/*
 * Returns when all that was durable at the call, and its root, is in the place. -ETIMEDOUT after
 * TIMEOUT_MS (UINT64_MAX: never); -EROFS fenced; -ECANCELED stopped.
 */
MUST_CHECK int uploader_flush(struct uploader *uploader, uint64_t timeout_ms, struct reterr *err);
/* Lives as long as the uploader. */
struct remote_keeper *uploader_keeper(struct uploader *uploader);

/*
 * Tells FN of each segment of which the uploader's journal says that the bytes below LENGTH were put, or
 * were about to be: they were durable in SOURCE. Nothing is told of those that were given up
 * (upload_give_up), nor by a journal that another owner has fenced. Speaks to nobody, changes nothing.
 * -EBADMSG the journal is damaged; FN's negative return ends it. RET_ROOT (may be NULL) is the newest root
 * of which it says that a manifest has it; seq 0: none.
 */
typedef int upload_witness_fn(void *arg, const struct uuid *segment, uint64_t length);
MUST_CHECK int upload_witness(struct segment_source *source, const struct uuid *store,
			      uint64_t block_size, upload_witness_fn *fn, void *arg,
			      struct source_root *ret_root, struct reterr *err);

/*
 * What SOURCE lost of SEGMENT is lost for good: the journal is no witness of it any more, and nothing of it
 * is uploaded to this place. No uploader may run. Errors: as above, and the journal's.
 */
MUST_CHECK int upload_give_up(struct segment_source *source, const struct uuid *store,
			      uint64_t block_size, const struct uuid *segment, struct reterr *err);

/* ---- Checking what is there ----------------------------------------------------------------- */

struct cloud_check_options {
	bool deep;   /* get every object and compare its bytes; else sizes and recorded sums */
	bool repair; /* put what is missing, from SOURCE; never deletes anything */
	/* Told of each finding; FIXED if repair mended it. */
	void (*found)(void *arg, const struct reterr *finding, bool fixed);
	void (*progress)(void *arg, uint64_t done, uint64_t total); /* bytes; may be NULL */
	void *arg;
};

struct cloud_check_result {
	uint64_t objects, bytes, problems, fixed;
	uint64_t orphans; /* objects that no segment needs */
};

/* Compares every object of every segment with SOURCE. Problems are no error. */
MUST_CHECK int cloud_check(struct segment_source *source, struct block_store *store,
			   uint64_t block_size, const struct cloud_check_options *options,
			   struct cloud_check_result *ret, struct reterr *err);

#endif
