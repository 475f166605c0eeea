/* Scratch files for bytes on their way in, and the import of a whole segment out of one. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/core.h"

#define STAGE_DIR "staging"

struct engine_stage {
	struct engine *engine;
	struct disk_file *file;
	uint64_t size;
	unsigned long name;
};

static void stage_path(unsigned long name, char path[static DISK_PATH_MAX])
{
	(void)snprintf(path, DISK_PATH_MAX, STAGE_DIR "/%lu", name);
}

int engine_stage_new(struct engine *e, struct engine_stage **ret)
{
	char path[DISK_PATH_MAX];

	int r = engine_check_writable(e, NULL);
	if (r < 0)
		return r;
	struct engine_stage *stage = calloc(1, sizeof(*stage));
	if (!stage)
		return -ENOMEM;
	stage->engine = e;
	stage->name = atomic_fetch_add(&e->stage_last, 1) + 1;
	stage_path(stage->name, path);
	r = disk_open(e->disk, path, DISK_WRITE | DISK_CREATE | DISK_REPLACE, &stage->file);
	if (r < 0) {
		free(stage);
		return r;
	}
	*ret = stage;
	return 0;
}

int engine_stage_write(struct engine_stage *stage, const void *data, size_t size, uint64_t offset)
{
	/* struct iovec has no const; nobody writes through it. */
	union {
		const void *in;
		void *out;
	} address = {.in = data};
	struct iovec iov = {.iov_base = address.out, .iov_len = size};
	struct disk_job job = {.file = stage->file,
			       .writes = {{.iov = &iov, .iov_count = 1, .offset = offset}},
			       .write_count = 1,
			       .no_flush = true};

	if (size == 0)
		return 0;
	if (offset > UINT64_MAX - size)
		return -EFBIG;
	int r = disk_commit(stage->engine->disk, &job, 1);
	if (r == 0 && offset + size > stage->size)
		stage->size = offset + size;
	return r;
}

int engine_stage_read(struct engine_stage *stage, void *data, size_t size, uint64_t offset,
		      size_t *ret)
{
	return disk_read(stage->file, data, size, offset, ret);
}

int engine_stage_truncate(struct engine_stage *stage, uint64_t size)
{
	int r = disk_truncate(stage->file, size);
	if (r == 0)
		stage->size = size;
	return r;
}

uint64_t engine_stage_size(const struct engine_stage *stage)
{
	return stage->size;
}

void engine_stage_free(struct engine_stage *stage)
{
	char path[DISK_PATH_MAX];

	if (!stage)
		return;
	disk_close(stage->file);
	stage_path(stage->name, path);
	(void)!disk_unlink(stage->engine->disk, path); /* else the next open does it */
	free(stage);
}

static int unlink_stage(void *arg, const char *name, bool is_dir)
{
	struct engine *e = arg;
	char path[DISK_PATH_MAX];

	if (!is_dir && snprintf(path, sizeof(path), STAGE_DIR "/%s", name) < DISK_PATH_MAX)
		(void)!disk_unlink(e->disk, path);
	return 0;
}

void stage_clear(struct engine *e)
{
	(void)!disk_list(e->disk, STAGE_DIR, unlink_stage, e);
}

/* ---- Import --------------------------------------------------------------------------------- */

static int copy_in(struct engine_segment *segment, uint64_t size, engine_source_fn *read, void *arg,
		   struct reterr *err)
{
	uint8_t *piece = malloc(APPEND_PIECE_MAX);
	int r = piece ? 0 : -ENOMEM;

	for (uint64_t done = 0; r == 0 && done < size;) {
		uint64_t left = size - done;
		size_t want = left < APPEND_PIECE_MAX ? (size_t)left : APPEND_PIECE_MAX;
		r = read(arg, piece, want, done);
		if (r == 0)
			r = segment_append_owned(segment, piece, want);
		done += want;
	}
	free(piece);
	if (r < 0)
		return reterr_set(err, r, "the segment cannot be copied in: %s", strerror(-r));
	return 0;
}

int engine_import_from(struct engine *e, const struct uuid *uuid, uint64_t size,
		       engine_source_fn *read, void *arg, struct reterr *err)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct engine_segment *segment;

	int r = engine_check_writable(e, err);
	if (r < 0)
		return r;
	if (size == 0)
		return reterr_set(err, -EINVAL, "segment %s is empty", uuid_format(uuid, text));
	if (size > ENGINE_FOREIGN_LENGTH_MAX)
		return reterr_set(err, -EFBIG, "segment %s is larger than 64 GiB",
				  uuid_format(uuid, text));
	r = segment_add(e, uuid, 0, ENGINE_CLASS_RESTORED, &segment);
	if (r == -EEXIST)
		return reterr_set(err, r, "there is a segment %s already", uuid_format(uuid, text));
	if (r < 0)
		return r;

	/*
	 * Until all is sealed the catalogue says "open", and recovery removes what a crash left
	 * half done.
	 */
	segment_lock(segment);
	segment->importing = true;
	segment_unlock(segment);
	r = copy_in(segment, size, read, arg, err);
	segment_lock(segment);
	segment->importing = r < 0;
	segment_unlock(segment);
	if (r == 0)
		r = engine_seal(e, segment, err);
	if (r < 0)
		(void)!engine_segment_remove(e, segment);
	return r;
}

static int read_stage(void *arg, void *data, size_t size, uint64_t offset)
{
	const struct engine_stage *stage = arg;
	return disk_read_full(stage->file, data, size, offset);
}

int engine_import(struct engine *e, const struct uuid *uuid, struct engine_stage *stage,
		  struct reterr *err)
{
	return engine_import_from(e, uuid, stage->size, read_stage, stage, err);
}
