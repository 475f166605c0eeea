/*
 * How small files are kept: each change is a frame (small_file.h) in the engine's open META
 * segment. A frame is durable when somebody commits it, or after the engine's flush_interval.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "fs/space.h"

/* engine_append() only reads what an iovec, which has no const, points at. */
static struct iovec iovec_of(const void *data, size_t size)
{
	union {
		const void *from;
		void *base;
	} bytes = {.from = data};
	return (struct iovec){.iov_base = bytes.base, .iov_len = size};
}

/* With change held. RET_CONTENT may be NULL: where the content begins in the segment's stream. */
static int log_append(struct space *space, struct small_file_change *change,
		      struct engine_segment **ret_segment, uint64_t *ret_content,
		      struct reterr *err)
{
	CLEANUP(buf_done) struct buf prefix = {.max = SMALL_FILE_PREFIX_MAX};
	struct engine_pointer pointer;

	change->seq = space->next_seq;
	int r = small_file_encode(change, &prefix);
	if (r < 0)
		return reterr_set(err, r, "the small file %s cannot be recorded", change->name);
	struct iovec iov[2] = {iovec_of(prefix.data, prefix.size),
			       iovec_of(change->content.data, change->content.size)};
	r = engine_append(space->engine, ENGINE_CLASS_META, ENGINE_FORMAT_SMALL_FILE, iov,
			  change->content.size > 0 ? 2 : 1, &pointer);
	if (r < 0)
		return reterr_set(err, r, "the small file %s cannot be recorded: %s", change->name,
				  strerror(-r));
	space->next_seq++;

	struct engine_segment *segment = engine_segment_find(space->engine, &pointer.segment);
	pthread_mutex_lock(&space->lock);
	if (space->meta != segment)
		space->meta_begins = space->logged;
	space->meta = segment;
	space->logged++;
	space->kept += ENGINE_FRAME_HEADER_SIZE + prefix.size + change->content.size;
	if (space->kept > SPACE_COMPACT_MIN && space->kept > space->compact_above)
		space_flusher_wake_locked(space);
	pthread_mutex_unlock(&space->lock);
	if (ret_segment) {
		*ret_segment = segment;
		*ret_content = pointer.offset + ENGINE_FRAME_HEADER_SIZE + prefix.size;
	}
	return 0;
}

int space_log_set(struct space *space, struct small_file *file, const char *name,
		  struct reterr *err)
{
	struct small_file_change change = {.op = SMALL_FILE_SET};
	struct engine_segment *segment;
	uint64_t content;

	if (small_file_name_is_temporary(name))
		return 0;
	int r = small_file_load(file, err);
	if (r < 0)
		return r;
	strcpy(change.name, name);
	change.mode = file->mode;
	change.mtime_ns = file->mtime_ns;
	/* Nobody changes the bytes while we hold change. */
	change.content = (struct slice){.data = file->bytes.data, .size = file->bytes.size};
	r = log_append(space, &change, &segment, &content, err);
	if (r < 0)
		return r;

	pthread_mutex_lock(&space->lock);
	file->segment = segment;
	file->offset = content;
	file->dirty = false;
	if (file->opens == 0)
		small_file_unload(file);
	pthread_mutex_unlock(&space->lock);
	return 0;
}

int space_log_unlink(struct space *space, const char *name, struct reterr *err)
{
	struct small_file_change change = {.op = SMALL_FILE_UNLINK};
	strcpy(change.name, name);
	return log_append(space, &change, NULL, NULL, err);
}

int space_log_rename(struct space *space, const char *from, const char *to, struct reterr *err)
{
	struct small_file_change change = {.op = SMALL_FILE_RENAME};
	strcpy(change.name, from);
	change.content = (struct slice){.data = (const uint8_t *)to, .size = strlen(to)};
	return log_append(space, &change, NULL, NULL, err);
}

int space_log_reset(struct space *space, uint64_t since_seq, struct reterr *err)
{
	struct small_file_change change = {.op = SMALL_FILE_RESET, .name = "-"};
	uint8_t seq[sizeof(since_seq)];
	store_le64(seq, since_seq);
	change.content = (struct slice){.data = seq, .size = sizeof(seq)};
	return log_append(space, &change, NULL, NULL, err);
}

int space_log_flush(struct space *space, struct small_file *file, struct reterr *err)
{
	/* Changed under change, which we hold. */
	if (!file->dirty || !file->linked)
		return 0;
	return space_log_set(space, file, file->name, err);
}

bool space_log_is_pending(struct space *space)
{
	pthread_mutex_lock(&space->lock);
	bool pending = space->durable < space->logged;
	pthread_mutex_unlock(&space->lock);
	return pending;
}

int space_log_commit(struct space *space, struct reterr *err)
{
	pthread_mutex_lock(&space->lock);
	uint64_t logged = space->logged;
	bool pending = space->durable < logged;
	/* Frames of a segment that was full come first. */
	bool rolled = space->durable < space->meta_begins;
	struct engine_position all = {.segment = space->meta, .length = UINT64_MAX};
	pthread_mutex_unlock(&space->lock);
	if (!pending)
		return 0;

	int r = rolled ? engine_sync(space->engine, err)
		       : engine_commit(space->engine, &all, 1, err);
	pthread_mutex_lock(&space->lock);
	if (r == 0 && space->durable < logged)
		space->durable = logged;
	pthread_mutex_unlock(&space->lock);
	return r;
}
