/*
 * What the frames of small files take stays a small multiple of what counts. When our segments of
 * them hold more than COMPACT_FACTOR times that, all files are copied to a new segment, a reset
 * frame behind the copy says that nothing before it counts any more, and once this is durable the
 * old segments are removed: before the mount, and while it lasts, by the flusher's thread.
 *
 * What a crash leaves, in the order of the steps: the old frames; them and a part of the copy,
 * which changes nothing; them and the whole copy with its reset; the copy.
 */
#include <errno.h>
#include <string.h>

#include "fs/core.h"
#include "fs/space.h"

enum { COMPACT_FACTOR = 4, FILE_OVERHEAD = 128 };

/* Our first segment of small files with a number above AFTER. */
static struct engine_segment *meta_next(struct space *space, uint32_t after,
					struct engine_segment_info *ret)
{
	struct engine_segment *segment;
	while ((segment = engine_segment_next(space->engine, after)) != NULL) {
		engine_segment_info(space->engine, segment, ret);
		if (ret->class == ENGINE_CLASS_META && ret->frames_end > 0)
			return segment;
		after = ret->number;
	}
	return NULL;
}

/* The number of the newest one, and what all hold. */
static uint32_t meta_last(struct space *space, uint64_t *ret_kept)
{
	struct engine_segment_info info;
	uint32_t last = 0;

	*ret_kept = 0;
	while (meta_next(space, last, &info)) {
		last = info.number;
		*ret_kept += info.length;
	}
	return last;
}

void space_compact_measure(struct space *space)
{
	uint64_t kept;
	(void)meta_last(space, &kept);
	pthread_mutex_lock(&space->lock);
	space->kept = kept;
	pthread_mutex_unlock(&space->lock);
}

bool space_compact_due(struct space *space, uint64_t size_min)
{
	struct engine_stats stats;
	uint64_t live = 0;

	pthread_mutex_lock(&space->lock);
	bool due = !space->damaged && space->kept > size_min && space->kept > space->compact_above;
	for (struct small_file *file = space->files; due && file; file = file->next)
		live += file->linked && !file->temporary ? file->size + FILE_OVERHEAD : 0;
	due = due && space->kept > COMPACT_FACTOR * live;
	pthread_mutex_unlock(&space->lock);
	if (!due || fs_options(space->fs)->read_only)
		return false;
	engine_stats(space->engine, &stats);
	return !stats.read_only && !stats.damaged;
}

/*
 * The first file from ORDER on, with a reference, that has content in the old segments: by its
 * name, or, without one, for who has it open.
 */
static struct small_file *copy_next(struct space *space, uint64_t order)
{
	pthread_mutex_lock(&space->lock);
	struct small_file *file = space->files;
	while (file && !(file->order >= order && ((file->linked && !file->temporary) ||
						  (file->opens > 0 && !file->loaded))))
		file = file->next;
	if (file)
		node_ref(&file->node, 1);
	pthread_mutex_unlock(&space->lock);
	return file;
}

static int copy_file(struct space *space, struct small_file *file, struct reterr *err)
{
	/* Changed under change, which we hold. */
	bool loaded = file->loaded;

	if (!file->linked)
		return small_file_load(file, err);
	int r = space_log_set(space, file, file->name, err);
	if (r < 0 || loaded)
		return r;
	/* Also of one that is open: a copy of all must not fill the memory. */
	pthread_mutex_lock(&space->lock);
	small_file_unload(file);
	pthread_mutex_unlock(&space->lock);
	return 0;
}

static int copy_all(struct space *space, struct reterr *err)
{
	struct small_file *file;
	uint64_t order = 0;
	int r = 0;

	while (r == 0 && (file = copy_next(space, order)) != NULL) {
		order = file->order + 1;
		r = copy_file(space, file, err);
		small_file_put(space, file);
	}
	return r;
}

/* Those up to the number LAST. */
static int remove_old(struct space *space, uint32_t last, struct reterr *err)
{
	struct engine_segment_info info;
	struct engine_segment *segment;
	uint32_t number = 0;
	int r = 0;

	while (r == 0 && (segment = meta_next(space, number, &info)) != NULL &&
	       info.number <= last) {
		number = info.number;
		r = engine_segment_remove(space->engine, segment);
	}
	return r < 0 ? reterr_set(err, r, "an old segment of small files cannot be removed: %s",
				  strerror(-r))
		     : 0;
}

static int compact(struct space *space, struct reterr *err)
{
	uint64_t since = space->next_seq, kept;

	/* The copy must not be durable where what came before it is not: half of it says nothing. */
	int r = space_log_commit(space, err);
	if (r < 0)
		return r;
	engine_roll(space->engine, ENGINE_CLASS_META);
	uint32_t last = meta_last(space, &kept);
	r = copy_all(space, err);
	if (r == 0)
		r = space_log_reset(space, since, err);
	if (r == 0)
		r = space_log_commit(space, err);
	return r < 0 ? r : remove_old(space, last, err);
}

void space_compact(struct space *space, uint64_t size_min)
{
	struct reterr why = {0};

	if (!space_compact_due(space, size_min))
		return;
	int r = compact(space, &why);
	space_compact_measure(space);
	/* After a failure, only when as much has come as the next attempt may write. */
	pthread_mutex_lock(&space->lock);
	space->compact_above = r < 0 ? space->kept + space->kept / COMPACT_FACTOR : 0;
	pthread_mutex_unlock(&space->lock);
	if (r < 0)
		fs_report(space->fs, &why); /* they are all there, only larger than need be */
}

int space_accept_loss(struct call *call)
{
	struct space *space = space_of(call);
	int r = 0;

	call_leave(call);
	pthread_mutex_lock(&space->change);
	pthread_mutex_lock(&space->lock);
	bool damaged = space->damaged;
	pthread_mutex_unlock(&space->lock);
	if (!damaged)
		r = reterr_set(&call->err, -EINVAL,
			       "every change of a file of space/ could be read");
	if (r == 0)
		r = compact(space, &call->err);
	if (r == 0) {
		space_compact_measure(space);
		pthread_mutex_lock(&space->lock);
		space->damaged = false;
		pthread_mutex_unlock(&space->lock);
	}
	pthread_mutex_unlock(&space->change);
	return r;
}
