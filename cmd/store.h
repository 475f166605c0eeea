/*
 * A store directory opened without a mount: its disk and its engine, closed together.
 */
#ifndef PROTOFS_CMD_STORE_H
#define PROTOFS_CMD_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"

struct disk;
struct engine;
struct engine_format_options;
struct engine_options;
struct settings;
struct store_cloud;

struct store {
	struct disk *disk;
	struct engine *engine;     /* NULL until store_open */
	struct store_cloud *cloud; /* NULL: it has none, or nobody asked for it */
};

#define STORE_MEMORY_SIZE_DEFAULT ((uint64_t)1 << 30)

/* "mem:" names a store that nothing keeps. */
bool store_is_memory(const char *path);

/*
 * The disk under PATH, without looking what lies there. PROTOFS_DISK_PATH in the environment
 * forces how commits reach it: io_uring, threads or buffered. MEMORY_SIZE bounds a "mem:" store,
 * which is made on the spot.
 */
MUST_CHECK int store_disk(const char *path, uint64_t memory_size, struct reterr *err,
			  struct store *ret);

/*
 * Makes an empty store in the directory PATH, which is made too if it is not there. ERR says what
 * was in the way.
 */
MUST_CHECK int store_make(const char *path, const struct engine_format_options *options,
			  struct reterr *err);

/* What can be known of it before its engine is opened. */
struct store_geometry {
	uint64_t block_size;
	uint32_t node;
};

/*
 * Of the store on the disk that store_disk opened. Errors as store_open's.
 */
MUST_CHECK int store_geometry(const struct store *store, struct store_geometry *ret,
			      struct reterr *err);
/* Takes the store for this process before its engine is opened. -EBUSY somebody else has it. */
MUST_CHECK int store_lock(struct store *store, bool exclusive, struct reterr *err);

/*
 * Opens the engine on the disk that store_disk opened. Errors are engine_open's, with what to do
 * about them.
 */
MUST_CHECK int store_open(struct store *store, const struct engine_options *options,
			  struct reterr *err);

/*
 * The same with the store's cloud, if SETTINGS (borrowed until the store is closed) name one: bytes
 * that are not on this disk are read from there. OPTIONS must be set; its reader is set here.
 */
enum store_cloud_use {
	STORE_CLOUD_READ,   /* connected by the first read that needs it */
	STORE_CLOUD_LOOK,   /* connected at once: what is wrong with it is an error here */
	STORE_CLOUD_UPLOAD, /* and what it lacks is uploaded, unless the store is read-only */
};
MUST_CHECK int store_open_with_cloud(struct store *store, const char *path,
				     const struct settings *settings, enum store_cloud_use use,
				     const struct engine_options *options, struct reterr *err);

/*
 * Closes what is open; accepts a zeroed one. The error of engine_close. Nothing waits for the cloud:
 * what is not uploaded yet is by the next mount.
 */
int store_close(struct store *store, struct reterr *err);
void store_abandon(struct store *store);

/* 0 if nobody holds the store at PATH, -EBUSY if ERR names who does, else why nobody can tell. */
MUST_CHECK int store_is_free(const char *path, struct reterr *err);

/* What went wrong, for a message: ERR's text, or that of CODE where ERR is empty. */
const char *store_why(const struct reterr *err, int code);

#endif
