/*
 * How small files come back: all their frames, of our META segments and of restored ones, in the order of their seq. A
 * segment's frames are in that order, and segments follow each other, so sorting the segments is enough.
 *
 * Every start of the daemon makes a new META segment. When those before it hold more than COMPACT_FACTOR times what still
 * counts, that is copied, a reset frame says that nothing before the copy counts any more, and once all this is
 * durable they are removed. A crash in between leaves frames too many, never too few.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/space.h"

enum { COMPACT_FACTOR = 4, COMPACT_SIZE_MIN = 64 << 10, FILE_OVERHEAD = 128, FRAME_BATCH = 128 };

struct replay_source {
	struct engine_segment *segment;
	uint64_t first_seq;
	uint64_t length;
	bool is_ours; /* may be removed */
};

struct replay {
	struct space *space;
	struct replay_source *sources;
	size_t count;
	uint8_t *payload; /* SMALL_FILE_PAYLOAD_MAX bytes */
};

/* Damage costs what it hit, not the mount: it is reported, and what follows is read. */
static void replay_complain(struct replay *replay, struct engine_segment *segment, uint64_t offset,
			    const struct reterr *why)
{
	char uuid[UUID_TEXT_LENGTH + 1];
	struct reterr event;
	reterr_set(&event, why->code,
		   "a change of a small file of space/, at %s/%llu, cannot be read: %.300s",
		   uuid_format(engine_segment_uuid(segment), uuid), (unsigned long long)offset,
		   why->text);
	fs_report(replay->space->fs, &event);
}

/*
 * The change in the frame at FRAME. 1: it is one, with RET_CONTENT its content's place in the stream. 0: it is something
 * else. What cannot be read is an error.
 */
static int replay_read(struct replay *replay, struct engine_segment *segment, uint64_t offset,
		       struct small_file_change *ret, uint64_t *ret_content, struct reterr *err)
{
	struct engine *e = replay->space->engine;
	struct engine_frame frame;
	size_t count = 0;

	int r = engine_frame_at(e, segment, offset, &frame);
	if (r < 0)
		return reterr_set(err, r, "no frame begins there");
	if (frame.format != ENGINE_FORMAT_SMALL_FILE)
		return 0;
	if (frame.size > SMALL_FILE_PAYLOAD_MAX)
		return reterr_set(err, -EBADMSG, "it has %llu bytes",
				  (unsigned long long)frame.size);
	uint64_t begin = offset + ENGINE_FRAME_HEADER_SIZE;
	r = engine_read(e, segment, replay->payload, (size_t)frame.size, begin, 0, &count, err);
	if (r == 0 && count != frame.size)
		r = reterr_set(err, -EBADMSG, "its frame is cut short");
	if (r == 0)
		r = small_file_decode((struct slice){.data = replay->payload, .size = count}, ret,
				      err);
	if (r < 0)
		return r;
	*ret_content = begin + count - ret->content.size;
	return 1;
}

/* ---- One change ------------------------------------------------------------------------------- */

static void replay_drop(struct space *space, struct small_file *file)
{
	struct small_file *unref = NULL;
	pthread_mutex_lock(&space->lock);
	small_file_unlink_locked(space, file, &unref);
	pthread_mutex_unlock(&space->lock);
	node_unref(fs_nodes(space->fs), &unref->node, 1);
}

static int replay_set(struct space *space, const struct small_file_change *change,
		      struct engine_segment *segment, uint64_t content)
{
	struct small_file *file = small_file_find(space, change->name);
	if (!file) {
		int r = small_file_new(space, change->mode, &file);
		if (r < 0)
			return r;
		/* The reference becomes the name's. */
		strcpy(file->name, change->name);
		file->linked = true;
		space->linked++;
	}
	file->mode = change->mode;
	file->mtime_ns = change->mtime_ns;
	file->size = change->content.size;
	file->segment = segment;
	file->offset = content;
	file->seq = change->seq;
	file->loaded = false;
	return 0;
}

static void replay_rename(struct space *space, const struct small_file_change *change)
{
	char to[SMALL_FILE_NAME_MAX + 1] = {0};
	struct small_file *file = small_file_find(space, change->name);
	if (!file)
		return;
	memcpy(to, change->content.data, change->content.size);
	struct small_file *target = small_file_find(space, to);
	if (target && target != file)
		replay_drop(space, target);
	strcpy(file->name, to);
	file->seq = change->seq;
}

static void replay_reset(struct space *space, const struct small_file_change *change)
{
	uint64_t since = load_le64(change->content.data);
	struct small_file *next;
	for (struct small_file *file = space->files; file; file = next) {
		next = file->next;
		if (file->linked && file->seq < since)
			replay_drop(space, file);
	}
}

static int replay_apply(struct space *space, const struct small_file_change *change,
			struct engine_segment *segment, uint64_t content)
{
	struct small_file *file;
	int r = 0;

	switch (change->op) {
	case SMALL_FILE_SET:
		r = replay_set(space, change, segment, content);
		break;
	case SMALL_FILE_UNLINK:
		file = small_file_find(space, change->name);
		if (file)
			replay_drop(space, file);
		break;
	case SMALL_FILE_RENAME:
		replay_rename(space, change);
		break;
	case SMALL_FILE_RESET:
		replay_reset(space, change);
		break;
	}
	if (change->seq >= space->next_seq)
		space->next_seq = change->seq + 1;
	return r;
}

/* ---- Segments --------------------------------------------------------------------------------- */

static int replay_segment(struct replay *replay, struct engine_segment *segment)
{
	struct engine_frame frames[FRAME_BATCH];
	uint64_t from = 0;
	size_t count;

	do {
		int r = engine_frames(replay->space->engine, segment, from, frames, FRAME_BATCH,
				      &count);
		if (r < 0) {
			struct reterr why;
			reterr_set(&why, r, "%s", strerror(-r));
			replay_complain(replay, segment, from, &why);
			return 0;
		}
		for (size_t i = 0; i < count; i++) {
			struct small_file_change change;
			struct reterr why = {0};
			uint64_t content = 0;
			from = frames[i].offset + 1;
			r = replay_read(replay, segment, frames[i].offset, &change, &content, &why);
			if (r == 1)
				r = replay_apply(replay->space, &change, segment, content);
			else if (r < 0)
				replay_complain(replay, segment, frames[i].offset, &why);
			if (r == -ENOMEM)
				return r;
		}
	} while (count > 0);
	return 0;
}

static int source_compare(const void *a, const void *b)
{
	const struct replay_source *left = a, *right = b;
	if (left->first_seq != right->first_seq)
		return left->first_seq < right->first_seq ? -1 : 1;
	return 0;
}

/* Adds SEGMENT if its first frame is a change of a small file. */
static int replay_consider(struct replay *replay, struct engine_segment *segment)
{
	struct engine_segment_info info;
	struct small_file_change change;
	struct reterr why = {0};
	uint64_t content;

	engine_segment_info(replay->space->engine, segment, &info);
	bool is_ours = info.class == ENGINE_CLASS_META;
	if ((!is_ours && info.class != ENGINE_CLASS_RESTORED) || info.frames_end == 0)
		return 0;
	int r = replay_read(replay, segment, 0, &change, &content, &why);
	if (r < 0 && is_ours)
		replay_complain(replay, segment, 0, &why);
	if (r <= 0 && !is_ours)
		return 0;

	struct replay_source *grown =
		reallocarray(replay->sources, replay->count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	replay->sources = grown;
	grown[replay->count++] = (struct replay_source){
		.segment = segment,
		.first_seq = r == 1 ? change.seq : 0,
		.length = info.length,
		.is_ours = is_ours,
	};
	return 0;
}

/* ---- Compaction ------------------------------------------------------------------------------- */

static bool replay_should_compact(const struct replay *replay)
{
	uint64_t live = 0, kept = 0;
	for (const struct small_file *file = replay->space->files; file; file = file->next)
		live += file->size + FILE_OVERHEAD;
	for (size_t i = 0; i < replay->count; i++)
		kept += replay->sources[i].is_ours ? replay->sources[i].length : 0;
	return kept > COMPACT_SIZE_MIN && kept > COMPACT_FACTOR * live;
}

static int replay_compact(struct replay *replay, struct reterr *err)
{
	struct space *space = replay->space;
	uint64_t since = space->next_seq;
	int r = 0;

	for (struct small_file *file = space->files; file && r == 0; file = file->next)
		r = space_log_set(space, file, file->name, err);
	if (r == 0)
		r = space_log_reset(space, since, err);
	if (r == 0)
		r = space_log_commit(space, err);
	for (size_t i = 0; i < replay->count && r == 0; i++) {
		struct replay_source *source = &replay->sources[i];
		if (source->is_ours && source->segment != space->meta)
			r = engine_segment_remove(space->engine, source->segment);
	}
	return r;
}

static int replay_all(struct replay *replay, struct reterr *err)
{
	struct space *space = replay->space;
	struct engine_segment *segment = NULL;
	uint32_t number = 0;
	int r = 0;

	while (r == 0 && (segment = engine_segment_next(space->engine, number)) != NULL) {
		number = engine_segment_number(segment);
		r = replay_consider(replay, segment);
	}
	/* Stable order is not needed: equal seqs only come from copies of one segment. */
	if (replay->count > 0)
		qsort(replay->sources, replay->count, sizeof(*replay->sources), source_compare);
	for (size_t i = 0; i < replay->count && r == 0; i++)
		r = replay_segment(replay, replay->sources[i].segment);
	if (r < 0)
		return reterr_set(err, r, "the small files of space/ cannot be read: %s",
				  strerror(-r));

	struct engine_stats stats;
	engine_stats(space->engine, &stats);
	if (stats.read_only || stats.damaged || fs_options(space->fs)->read_only ||
	    !replay_should_compact(replay))
		return 0;
	struct reterr why = {0};
	r = replay_compact(replay, &why);
	if (r < 0)
		fs_report(space->fs, &why); /* they are all there, only larger than need be */
	return 0;
}

int space_replay(struct space *space, struct reterr *err)
{
	struct replay replay = {.space = space, .payload = malloc(SMALL_FILE_PAYLOAD_MAX)};
	if (!replay.payload)
		return -ENOMEM;
	pthread_mutex_lock(&space->change);
	int r = replay_all(&replay, err);
	pthread_mutex_unlock(&space->change);
	free(replay.sources);
	free(replay.payload);
	return r;
}
