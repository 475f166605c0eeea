/* A store for bench_engine: its disk and its engine, made, filled and removed. */
#ifndef PROTOFS_BENCH_STORE_H
#define PROTOFS_BENCH_STORE_H

#include <stdint.h>

#include "base/attr.h"

struct disk;
struct engine;

struct store {
	struct disk *disk;
	struct engine *engine;
};

/* All: 0 or -errno, with the cause on stderr. */
/* Makes DIR/NAME (an empty directory may be there), formats and opens it. */
MUST_CHECK int store_make(struct store *store, const char *dir, const char *name);
MUST_CHECK int store_open(struct store *store, const char *path);
/* Stops cleanly. Accepts a store that failed to open. */
int store_close(struct store *store);
/* COUNT atoms of SIZE bytes. Not durable on return. */
MUST_CHECK int store_fill(struct store *store, uint64_t count, uint64_t size);
/* Removes the closed store at PATH. */
MUST_CHECK int store_remove(const char *path);

#endif
