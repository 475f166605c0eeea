/* Restoring a backup: each segment is a file, its sums lie beside it. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "cmd/backup_dir.h"
#include "cmd/io.h"
#include "cmd/log.h"
#include "cmd/progress.h"
#include "cmd/restore_from.h"
#include "cmd/store.h"
#include "engine/engine.h"

struct backup {
	struct restore_from from;
	struct backup_dir dir;
	bool accept;
	uint8_t *chunk; /* ENGINE_SUM_SIZE bytes */
};

static struct backup *backup_of(struct restore_from *from)
{
	return (struct backup *)from;
}

static int backup_root(struct restore_from *from, struct engine_root *ret, struct reterr *err)
{
	return backup_dir_read_root(&backup_of(from)->dir, ret, err);
}

static int backup_list(struct restore_from *from, restore_segment_fn *fn, void *arg,
		       struct reterr *err)
{
	return backup_dir_list(&backup_of(from)->dir, fn, arg, err);
}

/* ---- One segment, in the engine's pieces ---------------------------------------------------- */

/* The file of a segment on its way in; CHUNK holds the MiB at AT, verified if a sum covers it. */
struct copy {
	uint8_t *chunk;
	int fd;
	struct sum_file sums;
	uint64_t at;
	size_t size; /* of what CHUNK holds */
	struct reterr err;
};

static int load(struct copy *copy, uint64_t at)
{
	size_t line = (size_t)(at / ENGINE_SUM_SIZE);
	size_t n = 0;
	int r = io_read_at(copy->fd, copy->chunk, ENGINE_SUM_SIZE, at, &n);

	copy->size = 0;
	if (r < 0)
		return reterr_set(&copy->err, r, "cannot read byte %" PRIu64 ": %s", at,
				  strerror(-r));
	copy->at = at;
	copy->size = n;
	if (line >= copy->sums.count)
		return 0;
	const struct engine_sum *sum = &copy->sums.sums[line];
	if (n < sum->length)
		return 0; /* shorter than its sums, which was accepted */
	struct hash hash = hash_of(copy->chunk, (size_t)sum->length);
	if (!hash_equal(&hash, &sum->hash))
		return reterr_set(&copy->err, -EBADMSG,
				  "the %" PRIu64 " bytes from byte %" PRIu64
				  " on do not match their sum: the copy is damaged",
				  sum->length, sum->offset);
	return 0;
}

static int read_copy(void *arg, void *data, size_t size, uint64_t offset)
{
	struct copy *copy = arg;
	uint8_t *to = data;

	while (size > 0) {
		uint64_t base = offset - offset % ENGINE_SUM_SIZE;
		if (copy->size == 0 || copy->at != base) {
			int r = load(copy, base);
			if (r < 0)
				return r;
		}
		size_t skip = (size_t)(offset - base);
		if (copy->size <= skip)
			return reterr_set(&copy->err, -ENODATA,
					  "it became shorter while it was read");
		size_t n = copy->size - skip < size ? copy->size - skip : size;
		memcpy(to, copy->chunk + skip, n);
		to += n;
		size -= n;
		offset += n;
		progress_add(n);
	}
	return 0;
}

/* What nobody can vouch for is refused, or counted. SIZE is that of the file. */
static int judge(const struct backup *backup, const struct copy *copy, uint64_t size,
		 uint64_t *ret_unverified, struct reterr *err)
{
	const struct sum_file *sums = &copy->sums;

	for (size_t i = 0; i < sums->count; i++)
		if (sums->sums[i].length > ENGINE_SUM_SIZE)
			return reterr_set(err, -EBADMSG, "its .sum has a line of more than a MiB");
	if (size >= sums->length) {
		*ret_unverified = size - sums->length; /* it grew while it was copied */
		return 0;
	}
	if (!backup->accept)
		return reterr_set(err, -ENODATA,
				  "the copy has %" PRIu64 " bytes, its .sum speaks of %" PRIu64
				  "; --accept takes what is there",
				  size, sums->length);
	log_warning("the copy of a segment ends at byte %" PRIu64 ", its .sum at %" PRIu64, size,
		    sums->length);
	*ret_unverified = size % ENGINE_SUM_SIZE;
	return 0;
}

static int open_copy(const struct backup *backup, const struct uuid *segment, struct copy *copy,
		     uint64_t *ret_size, struct reterr *err)
{
	struct reterr cause = {0};
	struct stat st;

	copy->fd = backup_dir_open_segment(&backup->dir, segment, false, err);
	if (copy->fd < 0)
		return copy->fd;
	if (fstat(copy->fd, &st) < 0)
		return reterr_set(err, -errno, "%s", strerror(errno));
	*ret_size = (uint64_t)st.st_size;
	int r = backup_dir_read_sums(&backup->dir, segment, &copy->sums, &cause);
	if (r == -ENOENT && !backup->accept)
		return reterr_set(err, r,
				  "%s, so nobody can tell whether it is whole; --accept takes it "
				  "nevertheless",
				  cause.text);
	return r < 0 && r != -ENOENT ? reterr_set(err, r, "%s", store_why(&cause, r)) : 0;
}

static int backup_import(struct restore_from *from, struct engine *e, const struct uuid *segment,
			 uint64_t *ret_bytes, uint64_t *ret_unverified, struct reterr *err)
{
	struct backup *backup = backup_of(from);
	struct copy copy = {.chunk = backup->chunk, .fd = -1};
	struct reterr cause = {0};

	*ret_bytes = *ret_unverified = 0;
	int r = open_copy(backup, segment, &copy, ret_bytes, err);
	if (r == 0)
		r = judge(backup, &copy, *ret_bytes, ret_unverified, err);
	if (r == 0 && *ret_bytes > 0) {
		r = engine_import_from(e, segment, *ret_bytes, read_copy, &copy, &cause);
		if (r < 0)
			(void)reterr_set(err, r, "%s",
					 store_why(copy.err.code ? &copy.err : &cause, r));
	}
	sum_file_done(&copy.sums);
	io_close(&copy.fd);
	return r;
}

/* ---- The whole ------------------------------------------------------------------------------ */

static void backup_close(struct restore_from *from)
{
	struct backup *backup = backup_of(from);
	backup_dir_close(&backup->dir);
	free(backup->chunk);
	free(backup);
}

static const struct restore_from_ops backup_ops = {
	.what = "backup",
	.root = backup_root,
	.list = backup_list,
	.import = backup_import,
	.close = backup_close,
};

int restore_from_backup(const char *dir, bool accept, struct reterr *err, struct restore_from **ret)
{
	struct backup *backup = calloc(1, sizeof(*backup));
	if (!backup)
		return reterr_set(err, -ENOMEM, "out of memory");
	backup->from.ops = &backup_ops;
	backup->accept = accept;
	backup->chunk = io_alloc(ENGINE_SUM_SIZE);
	int r = backup->chunk ? backup_dir_open(dir, &backup->dir, err)
			      : reterr_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		free(backup->chunk);
		free(backup);
		return r;
	}
	*ret = &backup->from;
	return 0;
}
