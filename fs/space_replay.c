/*
 * How small files come back: all their frames, of our META segments and of restored ones, in the
 * order of their seq. A segment's frames are in that order, and segments follow each other, so
 * sorting the segments is enough. Every start of the daemon and every compaction makes a new META
 * segment.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/small_table.h"
#include "fs/space.h"

enum { FRAME_BATCH = 128 };

struct replay_source {
	struct engine_segment *segment;
	uint64_t first_seq;
};

struct replay {
	struct space *space;
	struct replay_source *sources;
	size_t count;
	struct small_table table;
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
	pthread_mutex_lock(&replay->space->lock);
	replay->space->damaged = true;
	pthread_mutex_unlock(&replay->space->lock);
	fs_report(replay->space->fs, &event);
}

/*
 * The change in the frame at FRAME. 1: it is one, with RET_CONTENT its content's place in the
 * stream. 0: it is something else. What cannot be read is an error.
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

/* ---- Segments -------------------------------------------------------------------------------- */

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
				r = small_table_apply(&replay->table, &change, segment, content);
			if (r == -ENOMEM)
				return r;
			if (r == -ENOSPC)
				reterr_set(&why, r, "there are more than %d files",
					   SPACE_FILES_MAX);
			if (r < 0)
				replay_complain(replay, segment, frames[i].offset, &why);
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
	};
	return 0;
}

/* ---- Installation ---------------------------------------------------------------------------- */

/* Whether FILE is what ENTRY describes already, so that it can stay. With the lock held. */
static bool file_is_entry(const struct small_file *file, const struct small_entry *entry)
{
	return file->linked && !file->temporary && file->segment == entry->segment &&
	       file->offset == entry->offset && strcmp(file->name, entry->name) == 0;
}

static void file_of_entry(struct small_file *file, const struct small_entry *entry)
{
	file->mode = entry->mode;
	file->mtime_ns = entry->mtime_ns;
	file->size = entry->size;
	file->segment = entry->segment;
	file->offset = entry->offset;
	file->loaded = false;
	strcpy(file->name, entry->name);
}

/*
 * The names of the table, instead of all that were there; FILES has a new file for each. Those that
 * lose their names are put there, and so are the new ones that are not needed: the caller drops
 * them.
 */
static void install_names(struct space *space, const struct small_table *table,
			  struct small_file **files)
{
	pthread_mutex_lock(&space->lock);
	for (size_t i = 0; i < table->count; i++) {
		const struct small_entry *entry = &table->entries[i];
		struct small_file *old = small_file_find(space, entry->name);
		if (old && file_is_entry(old, entry)) {
			old->replayed = true;
			continue;
		}
		struct small_file *file = files[i];
		files[i] = NULL;
		file_of_entry(file, entry);
		if (old)
			small_file_unlink_locked(space, old, &files[i]);
		file->linked = true; /* its reference is now the name's */
		file->replayed = true;
		space->linked++;
	}
	pthread_mutex_unlock(&space->lock);
}

/* A file with a name that no frame gives it any more, with that name's reference. */
static struct small_file *install_leftover(struct space *space)
{
	struct small_file *unref = NULL;
	pthread_mutex_lock(&space->lock);
	struct small_file *file = space->files;
	while (file && !(file->linked && !file->temporary && !file->replayed))
		file = file->next;
	if (file)
		small_file_unlink_locked(space, file, &unref);
	pthread_mutex_unlock(&space->lock);
	return unref;
}

/* With change held. */
static int replay_install(struct replay *replay)
{
	struct space *space = replay->space;
	struct small_table *table = &replay->table;
	struct small_file **files = calloc(table->count + 1, sizeof(struct small_file *));
	struct small_file *file;
	int r = files ? 0 : -ENOMEM;

	pthread_mutex_lock(&space->lock);
	for (file = space->files; file; file = file->next)
		file->replayed = false;
	pthread_mutex_unlock(&space->lock);

	for (size_t i = 0; i < table->count && r == 0; i++)
		r = small_file_new(space, 0, &files[i]);
	if (r == 0)
		install_names(space, table, files);
	for (size_t i = 0; files && i < table->count; i++)
		small_file_put(space, files[i]);
	while (r == 0 && (file = install_leftover(space)) != NULL)
		small_file_put(space, file);
	if (table->next_seq > space->next_seq)
		space->next_seq = table->next_seq;
	free(files);
	return r;
}

/* ---- All of it ------------------------------------------------------------------------------- */

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
	if (r == 0)
		r = replay_install(replay);
	if (r < 0)
		return reterr_set(err, r, "the small files of space/ cannot be read: %s",
				  strerror(-r));
	return 0;
}

/* With change held: what is in no frame yet gets one, so that it is replayed with the rest. */
static int replay_flush(struct space *space, struct reterr *err)
{
	for (;;) {
		pthread_mutex_lock(&space->lock);
		struct small_file *file = space->files;
		while (file && !(file->dirty && file->linked))
			file = file->next;
		if (file)
			node_ref(&file->node, 1);
		pthread_mutex_unlock(&space->lock);
		if (!file)
			return 0;
		int r = space_log_flush(space, file, err);
		small_file_put(space, file);
		if (r < 0)
			return r;
	}
}

static int replay_run(struct space *space, bool again, struct reterr *err)
{
	struct replay replay = {.space = space,
				.table = {.count_max = SPACE_FILES_MAX},
				.payload = malloc(SMALL_FILE_PAYLOAD_MAX)};
	if (!replay.payload)
		return -ENOMEM;
	pthread_mutex_lock(&space->change);
	int r = again ? replay_flush(space, err) : 0;
	if (r == 0)
		r = replay_all(&replay, err);
	if (r == 0) {
		space_compact_measure(space);
		if (!again)
			space_compact(space, SPACE_COMPACT_START_MIN);
	}
	pthread_mutex_unlock(&space->change);
	small_table_done(&replay.table);
	free(replay.sources);
	free(replay.payload);
	return r;
}

int space_replay(struct space *space, struct reterr *err)
{
	return replay_run(space, false, err);
}

int space_replay_again(struct space *space, struct reterr *err)
{
	int r = replay_run(space, true, err);
	space_touch(space);
	return r;
}

int space_restored(struct fs *fs, const struct uuid *uuid, struct reterr *err)
{
	struct space *space = fs_state(fs, FS_MODULE_SPACE);
	struct engine_segment *segment = engine_segment_find(space->engine, uuid);
	struct engine_frame frame;

	if (!segment || engine_frame_at(space->engine, segment, 0, &frame) < 0 ||
	    frame.format != ENGINE_FORMAT_SMALL_FILE)
		return 0;
	return space_replay_again(space, err);
}
