/*
 * The small files of space/: whatever name is no segment, root or lock. Their contents are read
 * from the engine; one is in memory only while it changes, while it has no frame yet, or while it
 * is temporary.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/invariant.h"
#include "fs/space.h"

static const char temporary_prefix[] = "space_root.";
static const char temporary_suffix[] = ".tmp";

bool small_file_name_is_temporary(const char *name)
{
	size_t length = strlen(name), prefix = strlen(temporary_prefix),
	       suffix = strlen(temporary_suffix);
	return length >= prefix + suffix && memcmp(name, temporary_prefix, prefix) == 0 &&
	       strcmp(name + length - suffix, temporary_suffix) == 0;
}

int64_t small_file_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- The table ------------------------------------------------------------------------------- */

static void small_file_free(struct node *node)
{
	struct small_file *file = (struct small_file *)node;
	struct space *space = file->space;

	if (space) {
		pthread_mutex_lock(&space->lock);
		struct small_file **link = &space->files;
		while (*link != file)
			link = &(*link)->next;
		*link = file->next;
		if (file->loaded)
			space->loaded_size -= file->bytes.size;
		pthread_mutex_unlock(&space->lock);
	}
	buf_done(&file->bytes);
	free(file);
}

int small_file_new(struct space *space, uint32_t mode, struct small_file **ret)
{
	struct small_file *file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->space = space;
	file->mode = mode & 0777;
	file->mtime_ns = small_file_now_ns();
	file->loaded = true;
	file->bytes.max = SMALL_FILE_SIZE_MAX;
	int r = node_add(fs_nodes(space->fs), &file->node, &view_small_file, small_file_free);
	if (r < 0) {
		free(file);
		return r;
	}
	pthread_mutex_lock(&space->lock);
	file->order = space->next_order++;
	struct small_file **end = &space->files;
	while (*end)
		end = &(*end)->next;
	*end = file;
	pthread_mutex_unlock(&space->lock);
	*ret = file;
	return 0;
}

struct small_file *small_file_find(struct space *space, const char *name)
{
	struct small_file *file = space->files;
	while (file && !(file->linked && strcmp(file->name, name) == 0))
		file = file->next;
	return file;
}

struct small_file *small_file_get(struct space *space, const char *name)
{
	pthread_mutex_lock(&space->lock);
	struct small_file *file = small_file_find(space, name);
	if (file)
		node_ref(&file->node, 1);
	pthread_mutex_unlock(&space->lock);
	return file;
}

void small_file_put(struct space *space, struct small_file *file)
{
	if (file)
		node_unref(fs_nodes(space->fs), &file->node, 1);
}

/* The counter of names that are kept, or of temporary ones. With the lock held. */
unsigned *space_names_of(struct space *space, bool temporary)
{
	return temporary ? &space->temporaries : &space->linked;
}

/* The name's reference is the caller's to drop, without the lock: it may be the last. */
void small_file_unlink_locked(struct space *space, struct small_file *file,
			      struct small_file **ret_unref)
{
	invariant(file->linked);
	*space_names_of(space, file->temporary) -= 1;
	file->linked = false;
	file->dirty = false;
	*ret_unref = file;
}

void small_file_entry(const struct call *call, struct small_file *file, struct entry *ret)
{
	struct space *space = file->space;

	*ret = (struct entry){.id = file->node.id, .attr_timeout = FS_FOREVER};
	pthread_mutex_lock(&space->lock);
	attr_file(call->fs, &ret->attr, file->node.id, file->mode, file->size,
		  (uint64_t)(file->mtime_ns > 0 ? file->mtime_ns : 0));
	if (!file->linked && !file->frozen)
		ret->attr.st_nlink = 0;
	pthread_mutex_unlock(&space->lock);
	/*
	 * No entry_timeout: a root, or what a restore brings, appears under a name without the
	 * kernel's doing.
	 */
}

bool small_file_is_open(struct small_file *file)
{
	pthread_mutex_lock(&file->space->lock);
	bool is_open = file->opens > 0;
	pthread_mutex_unlock(&file->space->lock);
	return is_open;
}

bool small_file_is_frozen(struct small_file *file)
{
	pthread_mutex_lock(&file->space->lock);
	bool is_frozen = file->frozen;
	pthread_mutex_unlock(&file->space->lock);
	return is_frozen;
}

/* ---- Contents -------------------------------------------------------------------------------- */

int small_file_read(struct small_file *file, void *data, size_t size, uint64_t offset, size_t *ret,
		    struct reterr *err)
{
	struct space *space = file->space;

	/* Again if the segment goes in between: the content is then in a newer one. */
	for (int attempt = 0;; attempt++) {
		pthread_mutex_lock(&space->lock);
		uint64_t rest = offset < file->size ? file->size - offset : 0;
		size_t count = size < rest ? size : (size_t)rest;
		bool loaded = file->loaded;
		if (loaded && count > 0)
			memcpy(data, file->bytes.data + offset, count);
		struct engine_segment *segment = file->segment;
		uint64_t from = file->offset + offset;
		pthread_mutex_unlock(&space->lock);

		int r = 0;
		if (!loaded && count > 0)
			r = engine_read(space->engine, segment, data, count, from, 0, ret, err);
		else
			*ret = count;
		if (r != -ENOENT || attempt > 0)
			return r;
	}
}

int small_file_load(struct small_file *file, struct reterr *err)
{
	struct space *space = file->space;
	struct buf bytes = {.max = SMALL_FILE_SIZE_MAX};
	size_t count = 0;

	if (file->loaded)
		return 0;
	int r = buf_append_zeros(&bytes, (size_t)file->size);
	if (r == 0 && file->size > 0)
		r = small_file_read(file, bytes.data, bytes.size, 0, &count, err);
	if (r == 0 && count != file->size)
		r = reterr_set(err, -EIO, "the small file %s is shorter than its frame says",
			       file->name);
	if (r < 0) {
		buf_done(&bytes);
		return r;
	}
	pthread_mutex_lock(&space->lock);
	bool needed = !file->loaded; /* unless it has become a root meanwhile */
	if (needed) {
		file->bytes = bytes;
		file->loaded = true;
		space->loaded_size += bytes.size;
	}
	pthread_mutex_unlock(&space->lock);
	if (!needed)
		buf_done(&bytes);
	return 0;
}

void small_file_unload(struct small_file *file)
{
	/* One without a name has no frame that stays, and perhaps never had one of what it is now. */
	if (!file->loaded || !file->linked || file->dirty || file->temporary || file->frozen ||
	    !file->segment)
		return;
	file->space->loaded_size -= file->bytes.size;
	buf_done(&file->bytes);
	file->bytes = (struct buf){.max = SMALL_FILE_SIZE_MAX};
	file->loaded = false;
}

/* With change and lock held; the content is loaded. */
int small_file_resize(struct small_file *file, uint64_t size)
{
	struct space *space = file->space;
	size_t before = file->bytes.size;

	if (size > SMALL_FILE_SIZE_MAX)
		return -EFBIG;
	if (size > before) {
		int r = buf_append_zeros(&file->bytes, (size_t)size - before);
		if (r < 0)
			return r;
	} else {
		file->bytes.size = (size_t)size;
	}
	space->loaded_size = space->loaded_size - before + file->bytes.size;
	file->size = size;
	return 0;
}

/* With the lock held: FILE's bytes or attributes have changed. */
void small_file_changed(struct small_file *file)
{
	struct space *space = file->space;
	if (!file->linked || file->temporary)
		return;
	file->dirty = true;
	space_flusher_wake_locked(space);
}

/* With change held. What cannot be unloaded must not fill the memory. */
int small_file_make_room(struct small_file *file, struct reterr *err)
{
	struct space *space = file->space;

	pthread_mutex_lock(&space->lock);
	bool full = space->loaded_size > SPACE_LOADED_MAX;
	pthread_mutex_unlock(&space->lock);
	if (!full)
		return 0;
	int r = space_log_flush(space, file, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&space->lock);
	small_file_unload(file);
	full = space->loaded_size > 2 * (size_t)SPACE_LOADED_MAX;
	pthread_mutex_unlock(&space->lock);
	return full ? reterr_set(err, -ENOSPC,
				 "too many small files of space/ are being changed at once")
		    : 0;
}

void space_touch(struct space *space)
{
	uint64_t now_ns = (uint64_t)small_file_now_ns();
	pthread_mutex_lock(&space->lock);
	space->changed_ns = now_ns;
	pthread_mutex_unlock(&space->lock);
}
