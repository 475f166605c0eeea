#include "fs/blob.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

/* Memory that all blobs of the process hold. */
static atomic_size_t blob_memory_total;

/* False: there is no memory for it; the caller stages. */
static bool memory_take(struct blob *blob)
{
	if (atomic_fetch_add(&blob_memory_total, BLOB_MEMORY_MAX) <=
	    BLOB_MEMORY_TOTAL_MAX - BLOB_MEMORY_MAX)
		blob->memory = calloc(1, BLOB_MEMORY_MAX);
	if (!blob->memory)
		atomic_fetch_sub(&blob_memory_total, BLOB_MEMORY_MAX);
	return blob->memory != NULL;
}

static void memory_give(struct blob *blob)
{
	if (!blob->memory)
		return;
	free(blob->memory);
	blob->memory = NULL;
	atomic_fetch_sub(&blob_memory_total, BLOB_MEMORY_MAX);
}

/* Whether bytes up to END can be in memory, which is then there. */
static bool memory_holds(struct blob *blob, uint64_t end)
{
	if (blob->stage || end > BLOB_MEMORY_MAX)
		return false;
	return blob->memory || memory_take(blob);
}

int blob_to_stage(struct blob *blob, struct engine_stage **ret)
{
	int r = 0;
	if (!blob->stage) {
		struct engine_stage *stage;
		r = engine_stage_new(blob->engine, &stage);
		if (r < 0)
			return r;
		/* Without memory the blob is empty. */
		if (blob->size > 0)
			r = engine_stage_write(stage, blob->memory, (size_t)blob->size, 0);
		if (r < 0) {
			engine_stage_free(stage);
			return r;
		}
		memory_give(blob);
		blob->stage = stage;
	}
	*ret = blob->stage;
	return 0;
}

int blob_write(struct blob *blob, const void *data, size_t size, uint64_t offset)
{
	if (size == 0)
		return 0;
	if (offset > blob->size_max || size > blob->size_max - offset)
		return -EFBIG;

	uint64_t end = offset + size;
	if (memory_holds(blob, end)) {
		memcpy(blob->memory + offset, data, size);
	} else {
		struct engine_stage *stage;
		int r = blob_to_stage(blob, &stage);
		if (r == 0)
			r = engine_stage_write(stage, data, size, offset);
		if (r < 0)
			return r;
	}
	if (end > blob->size)
		blob->size = end;
	return 0;
}

int blob_read(struct blob *blob, void *data, size_t size, uint64_t offset, size_t *ret)
{
	*ret = 0;
	if (offset >= blob->size || size == 0)
		return 0;
	if (size > blob->size - offset)
		size = (size_t)(blob->size - offset);
	if (blob->stage)
		return engine_stage_read(blob->stage, data, size, offset, ret);
	memcpy(data, blob->memory + offset, size);
	*ret = size;
	return 0;
}

int blob_truncate(struct blob *blob, uint64_t size)
{
	if (size > blob->size_max)
		return -EFBIG;
	if (size == blob->size)
		return 0;
	if (size == 0) {
		blob_done(blob);
		return 0;
	}
	if (memory_holds(blob, size)) {
		if (size < blob->size)
			memset(blob->memory + size, 0, (size_t)(blob->size - size));
	} else {
		struct engine_stage *stage;
		int r = blob_to_stage(blob, &stage);
		if (r == 0)
			r = engine_stage_truncate(stage, size);
		if (r < 0)
			return r;
	}
	blob->size = size;
	return 0;
}

void blob_done(struct blob *blob)
{
	memory_give(blob);
	engine_stage_free(blob->stage);
	blob->stage = NULL;
	blob->size = 0;
}
