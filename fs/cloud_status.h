/*
 * What a mounted store knows of its cloud: .ctl/upload, and its part of .ctl/status, stats.json and
 * metrics. Filled by whoever mounts (struct fs_cloud); this module knows no cloud.
 */
#ifndef PROTOFS_FS_CLOUD_STATUS_H
#define PROTOFS_FS_CLOUD_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include <protofs/block_store.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/reterr.h"

struct json_writer;

enum { CLOUD_URL_SIZE = 256 };

enum cloud_state {
	CLOUD_IDLE,      /* all is there */
	CLOUD_BUSY,      /* uploading */
	CLOUD_WAITING,   /* the place is away: it goes on by itself */
	CLOUD_PAUSED,    /* the place refuses; tried again now and then */
	CLOUD_FENCED,    /* another owner writes there */
	CLOUD_FAILED,    /* what is here cannot be uploaded */
	CLOUD_READING,   /* nothing is uploaded: the mount is read-only */
	CLOUD_UNMOUNTED, /* nothing is uploaded: no daemon has the store */
	CLOUD_STATES,
};

struct cloud_status {
	char url[CLOUD_URL_SIZE];
	const char *durability; /* the level that fsync waits for: "local", "cloud" */
	enum cloud_state state;

	uint64_t bytes_behind; /* durable here and not yet there */
	uint64_t ms_behind;    /* age of the oldest of them */
	uint64_t bytes_uploaded, blocks_uploaded, deltas_uploaded, manifests; /* since the mount */
	uint64_t manifest; /* number of the newest; 0 none */
	uint64_t root_seq; /* the newest root that is there; 0 none */
	uint64_t in_flight;
	uint64_t retry_ms;   /* until the next attempt; 0: none is planned */
	struct reterr error; /* code 0: none */
	bool conditional;    /* the place itself refuses a second writer */

	struct block_store_status place;

	uint64_t cache_hits, cache_misses, cache_evictions, cache_damaged; /* since the mount */
	uint64_t cache_blocks, cache_bytes, cache_size_max, cache_read_ahead;
};

const char *cloud_state_name(enum cloud_state state);

/* All append to OUT, or to W's: 0; -ENOMEM; -EFBIG. */
MUST_CHECK int cloud_status_as_text(const struct cloud_status *status, struct buf *out);
/* Its lines of the store's own status. */
MUST_CHECK int cloud_status_as_summary(const struct cloud_status *status, struct buf *out);
/* As the member "cloud" of the map that is open; NULL becomes null. */
MUST_CHECK int cloud_status_as_json(const struct cloud_status *status, struct json_writer *w);
MUST_CHECK int cloud_status_as_metrics(const struct cloud_status *status, struct buf *out);
/* The line of .ctl/errors for what is wrong now; nothing while nothing is. */
MUST_CHECK int cloud_status_as_error(const struct cloud_status *status, struct buf *out);

#endif
