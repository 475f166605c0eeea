/*
 * The cloud of an opened store: the place, the cache of blocks, the reader that the engine asks for
 * what is not on the disk, and the uploader.
 *
 * Life: store_cloud_new, then the engine is opened with store_cloud_reader, store_cloud_start,
 * (mounted), store_cloud_stop, the engine is closed, store_cloud_free. Nothing after
 * store_cloud_stop waits for the place: what was not uploaded is, by the next start.
 */
#ifndef PROTOFS_CMD_STORE_CLOUD_H
#define PROTOFS_CMD_STORE_CLOUD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"

struct block_store;
struct engine;
struct engine_options;
struct fs_cloud;
struct remote_reader;
struct segment_source;
struct settings;
struct store_cloud;

struct store_cloud_options {
	const struct settings *settings; /* borrowed; cloud is set */
	const char *store;               /* the directory; borrowed. NULL: a mem: store */
	uint64_t block_size;             /* of the store */
	uint32_t node;
	/*
	 * Nothing is written to the store's directory: what is read is kept elsewhere, and for as
	 * long as this lives only.
	 */
	bool read_only;
	/* What nobody waits for; any thread, no lock held. */
	void (*report)(void *arg, const struct reterr *event);
	void *report_arg;
};

/* Speaks to nobody yet. -EINVAL disk_max is too small for parts of such blocks. */
MUST_CHECK int store_cloud_new(const struct store_cloud_options *options, struct reterr *err,
			       struct store_cloud **ret);

/*
 * Opens place and cache; the first read would else do it. -EINVAL the URL or an option is no good;
 * -EACCES credentials: ERR says what to do.
 */
MUST_CHECK int store_cloud_connect(struct store_cloud *cloud, struct reterr *err);

/* What the engine needs of it: its reader, and the limit of what the store's own files may take. */
void store_cloud_engine_options(struct store_cloud *cloud, struct engine_options *ret);

/* Lives as long as CLOUD. */
struct remote_reader *store_cloud_reader(struct store_cloud *cloud);
/* The engine that reads through it, once it is open: it knows how long segments are. */
void store_cloud_set_engine(struct store_cloud *cloud, struct engine *engine);

/* The place and its cache, connected; for verbs that look there themselves. */
MUST_CHECK int store_cloud_place(struct store_cloud *cloud, struct reterr *err,
				 struct block_store **ret);
/* Whether KEY is in the cache, and in which file: at least 128 bytes. */
bool store_cloud_cached(struct store_cloud *cloud, const char *key, char *ret_path, size_t size);

/*
 * Uploads from now on, unless ENGINE is read-only, and lets it wait for the cloud where the
 * settings say so. -EBADMSG as uploader_start.
 */
MUST_CHECK int store_cloud_start(struct store_cloud *cloud, struct engine *engine, bool take_over,
				 struct reterr *err);

/*
 * Returns when all that was durable at the call is in the cloud. -ETIMEDOUT after TIMEOUT_MS
 * (UINT64_MAX: never); -EROFS it never will be, or nothing is uploaded; -ECANCELED stopped.
 */
MUST_CHECK int store_cloud_flush(struct store_cloud *cloud, uint64_t timeout_ms,
				 struct reterr *err);

/* For the mount. Lives as long as CLOUD. */
const struct fs_cloud *store_cloud_fs(struct store_cloud *cloud);

/* Ends every wait for the place, and the uploader. Accepts NULL; may be called again. */
void store_cloud_stop(struct store_cloud *cloud);
void store_cloud_free(struct store_cloud *cloud); /* accepts NULL */

/* Opens only the place that SETTINGS name. MAKE: a directory is made. */
MUST_CHECK int store_cloud_open_place(const struct settings *settings, bool make,
				      struct reterr *err, struct block_store **ret);

#endif
