/*
 * Bytes on their way in: a file that is being written through atoms/in or wal/in. Small ones stay
 * in memory, larger ones go to a scratch file of the store (engine_stage).
 *
 * Not thread-safe: one user at a time. A zeroed blob with ENGINE and SIZE_MAX set is an empty one.
 * Errors are those of the engine's stages, and -EFBIG beyond SIZE_MAX; after an error the content
 * may be partly written, as of any file.
 */
#ifndef PROTOFS_FS_BLOB_H
#define PROTOFS_FS_BLOB_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct engine;
struct engine_stage;

enum {
	BLOB_MEMORY_MAX = 64 << 10,      /* of one blob */
	BLOB_MEMORY_TOTAL_MAX = 8 << 20, /* of all: beyond it even small ones are staged */
};

struct blob {
	struct engine *engine;
	uint64_t size_max;
	uint64_t size;
	uint8_t *memory; /* BLOB_MEMORY_MAX bytes, zero behind SIZE; NULL if empty or staged */
	struct engine_stage *stage;
};

/* A gap before OFFSET reads as zeros. */
MUST_CHECK int blob_write(struct blob *blob, const void *data, size_t size, uint64_t offset);
/* Fewer than SIZE bytes only at the end. */
MUST_CHECK int blob_read(struct blob *blob, void *data, size_t size, uint64_t offset, size_t *ret);
MUST_CHECK int blob_truncate(struct blob *blob, uint64_t size);

/* All of it in a stage, which stays the blob's. */
MUST_CHECK int blob_to_stage(struct blob *blob, struct engine_stage **ret);

/* Empties it and gives its memory and its stage back. */
void blob_done(struct blob *blob);

#endif
