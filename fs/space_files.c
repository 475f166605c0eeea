/*
 * The small files of space/: whatever name is no segment, root or lock. Their contents are read from the engine;
 * one is in memory only while it changes, while it has no frame yet, or while it is temporary.
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

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static struct small_file *file_of(const struct call *call)
{
	/* The node is the first member. */
	return (struct small_file *)call->node;
}

/* ---- The table -------------------------------------------------------------------------------- */

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
	file->mtime_ns = now_ns();
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

static void small_file_put(struct space *space, struct small_file *file)
{
	if (file)
		node_unref(fs_nodes(space->fs), &file->node, 1);
}

/* The counter of names that are kept, or of temporary ones. With the lock held. */
static unsigned *names_of(struct space *space, bool temporary)
{
	return temporary ? &space->temporaries : &space->linked;
}

/* The name's reference is the caller's to drop, without the lock: it may be the last. */
void small_file_unlink_locked(struct space *space, struct small_file *file,
			      struct small_file **ret_unref)
{
	invariant(file->linked);
	*names_of(space, file->temporary) -= 1;
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
	 * No entry_timeout: a root, or what a restore brings, appears under a name without the kernel's doing.
	 */
}

/* ---- Contents --------------------------------------------------------------------------------- */

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
	file->bytes = bytes;
	file->loaded = true;
	space->loaded_size += bytes.size;
	pthread_mutex_unlock(&space->lock);
	return 0;
}

void small_file_unload(struct small_file *file)
{
	if (!file->loaded || file->dirty || file->temporary || file->frozen || !file->segment)
		return;
	file->space->loaded_size -= file->bytes.size;
	buf_done(&file->bytes);
	file->bytes = (struct buf){.max = SMALL_FILE_SIZE_MAX};
	file->loaded = false;
}

/* With change and lock held; the content is loaded. */
static int file_resize(struct small_file *file, uint64_t size)
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
static void file_changed(struct small_file *file)
{
	struct space *space = file->space;
	if (!file->linked || file->temporary)
		return;
	file->dirty = true;
	if (!space->flusher_needed) {
		space->flusher_needed = true;
		pthread_cond_signal(&space->flusher_wake);
	}
}

/* With change held. What cannot be unloaded must not fill the memory. */
static int file_make_room(struct small_file *file, struct reterr *err)
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

/* ---- The file's operations -------------------------------------------------------------------- */

static int file_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	small_file_entry(call, file_of(call), ret);
	return 0;
}

static int file_apply(struct small_file *file, const struct setting *setting)
{
	struct space *space = file->space;
	int r = 0;

	pthread_mutex_lock(&space->lock);
	if (setting->valid & SET_SIZE) {
		r = file_resize(file, (uint64_t)setting->attr.st_size);
		file->mtime_ns = now_ns();
	}
	if (r == 0 && (setting->valid & SET_MODE))
		file->mode = setting->attr.st_mode & 0777;
	if (r == 0 && (setting->valid & SET_MTIME))
		file->mtime_ns = (int64_t)setting->attr.st_mtim.tv_sec * 1000000000 +
				 setting->attr.st_mtim.tv_nsec;
	if (r == 0 && (setting->valid & (SET_SIZE | SET_MODE | SET_MTIME)))
		file_changed(file);
	pthread_mutex_unlock(&space->lock);
	return r;
}

static int file_setattr(struct call *call, const uint64_t *handle, const struct setting *setting,
			struct entry *ret)
{
	(void)handle;
	struct small_file *file = file_of(call);
	struct space *space = file->space;
	struct stat now;

	small_file_entry(call, file, ret);
	now = ret->attr;
	if (((setting->valid & SET_UID) && setting->attr.st_uid != now.st_uid) ||
	    ((setting->valid & SET_GID) && setting->attr.st_gid != now.st_gid))
		return -EPERM;

	call_leave(call);
	pthread_mutex_lock(&space->change);
	int r = file->frozen ? -EPERM : 0;
	if (r == 0 && (setting->valid & SET_SIZE))
		r = small_file_load(file, &call->err);
	if (r == 0)
		r = file_apply(file, setting);
	/* Nobody who has it open will flush it. */
	if (r == 0 && file->opens == 0)
		r = space_log_flush(space, file, &call->err);
	pthread_mutex_unlock(&space->change);
	if (r == 0)
		small_file_entry(call, file, ret);
	return r;
}

static int file_read(struct call *call, uint64_t handle, int flags, void *data, size_t size,
		     uint64_t offset, struct slice *ret)
{
	(void)handle;
	(void)flags;
	size_t count = 0;
	int r = small_file_read(file_of(call), data, size, offset, &count, &call->err);
	*ret = (struct slice){.data = data, .size = r < 0 ? 0 : count};
	return r;
}

/* With the lock held, and change unless it is temporary: its content is loaded. */
static int file_splice(struct small_file *file, const void *data, size_t size, uint64_t offset)
{
	int r = 0;
	if (offset + size > file->size)
		r = file_resize(file, offset + size);
	if (r == 0 && size > 0) {
		memcpy(file->bytes.data + offset, data, size);
		file->mtime_ns = now_ns();
		file_changed(file);
	}
	return r;
}

/* 1: FILE is not temporary, and nothing was done. */
static int file_write_temporary(struct call *call, struct small_file *file, int flags,
				const void *data, size_t size, uint64_t offset)
{
	struct space *space = file->space;
	int r = 1;

	pthread_mutex_lock(&space->lock);
	if (file->frozen)
		r = -EPERM;
	else if (file->temporary && space->loaded_size + size > 2 * (size_t)SPACE_LOADED_MAX)
		r = reterr_set(&call->err, -ENOSPC, "the temporary files of space/ fill the memory "
						    "that is set aside for them");
	else if (file->temporary)
		r = file_splice(file, data, size, flags & O_APPEND ? file->size : offset);
	pthread_mutex_unlock(&space->lock);
	return r;
}

static int file_write(struct call *call, uint64_t handle, int flags, const void *data, size_t size,
		      uint64_t offset)
{
	(void)handle;
	struct small_file *file = file_of(call);
	struct space *space = file->space;
	bool synchronous = (flags & (O_SYNC | O_DSYNC)) != 0;

	if (offset > SMALL_FILE_SIZE_MAX)
		return -EFBIG;
	int r = file_write_temporary(call, file, flags, data, size, offset);
	if (r <= 0)
		return r;
	call_leave(call);
	pthread_mutex_lock(&space->change);
	r = file->frozen ? -EPERM : small_file_load(file, &call->err);
	if (r == 0) {
		pthread_mutex_lock(&space->lock);
		r = file_splice(file, data, size, flags & O_APPEND ? file->size : offset);
		pthread_mutex_unlock(&space->lock);
	}
	if (r == 0)
		r = file_make_room(file, &call->err);
	if (r == 0 && synchronous)
		r = space_log_flush(space, file, &call->err);
	pthread_mutex_unlock(&space->change);
	return r == 0 && synchronous ? space_log_commit(space, &call->err) : r;
}

static int file_flush_changes(struct call *call, struct small_file *file)
{
	struct space *space = file->space;

	pthread_mutex_lock(&space->lock);
	bool dirty = file->dirty;
	pthread_mutex_unlock(&space->lock);
	if (!dirty)
		return 0;
	call_leave(call);
	pthread_mutex_lock(&space->change);
	int r = space_log_flush(space, file, &call->err);
	pthread_mutex_unlock(&space->change);
	return r;
}

static int file_flush(struct call *call, uint64_t handle)
{
	(void)handle;
	return file_flush_changes(call, file_of(call));
}

static int file_fsync(struct call *call, uint64_t handle)
{
	(void)handle;
	struct small_file *file = file_of(call);
	struct space *space = file->space;

	int r = file_flush_changes(call, file);
	if (r < 0)
		return r;
	pthread_mutex_lock(&space->lock);
	bool pending = space->meta_pending && !file->temporary;
	pthread_mutex_unlock(&space->lock);
	if (!pending)
		return 0;
	call_block(call);
	return space_log_commit(space, &call->err);
}

static void file_release(struct call *call, uint64_t handle, int flags)
{
	(void)handle;
	(void)flags;
	struct small_file *file = file_of(call);
	struct space *space = file->space;

	/* After a FLUSH nothing is left to do; a mapping may have written since. */
	if (file_flush_changes(call, file) < 0)
		fs_report(call->fs, &call->err);
	pthread_mutex_lock(&space->lock);
	bool last = --file->opens == 0 && file->loaded && !file->temporary && !file->frozen;
	pthread_mutex_unlock(&space->lock);
	if (!last)
		return;
	call_leave(call);
	pthread_mutex_lock(&space->change);
	pthread_mutex_lock(&space->lock);
	if (file->opens == 0)
		small_file_unload(file);
	pthread_mutex_unlock(&space->lock);
	pthread_mutex_unlock(&space->change);
}

static int file_open(struct call *call, int flags, struct opened *ret)
{
	struct small_file *file = file_of(call);
	struct space *space = file->space;
	bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);

	if (writes && file->frozen)
		return -EPERM;
	/* Open first, so that the emptiness is no change of its own but goes with what is written. */
	pthread_mutex_lock(&space->lock);
	file->opens++;
	pthread_mutex_unlock(&space->lock);
	if (flags & O_TRUNC) {
		struct setting empty = {.valid = SET_SIZE};
		struct entry unused;
		int r = file_setattr(call, NULL, &empty, &unused);
		if (r < 0) {
			file_release(call, 0, flags);
			return r;
		}
	}
	ret->keep_cache = true;
	ret->flushless = !writes;
	return 0;
}

const struct view view_small_file = {
	.name = "a small file of space/",
	.getattr = file_getattr,
	.setattr = file_setattr,
	.open = file_open,
	.read = file_read,
	.write = file_write,
	.flush = file_flush,
	.fsync = file_fsync,
	.release = file_release,
};

/* ---- Names ------------------------------------------------------------------------------------ */

/* Gives FILE the name, and the name's reference. */
static int file_link(struct space *space, struct small_file *file, const char *name,
		     struct reterr *err)
{
	bool temporary = small_file_name_is_temporary(name);
	unsigned limit = temporary ? SPACE_TEMPORARIES_MAX : SPACE_FILES_MAX;
	int r = 0;

	pthread_mutex_lock(&space->lock);
	unsigned *names = names_of(space, temporary);
	if (small_file_find(space, name)) {
		r = -EEXIST;
	} else if (*names >= limit) {
		r = -ENOSPC;
	} else {
		strcpy(file->name, name);
		file->linked = true;
		file->temporary = temporary;
		*names += 1;
		node_ref(&file->node, 1);
	}
	pthread_mutex_unlock(&space->lock);
	if (r == -ENOSPC)
		reterr_set(err, r, "space/ holds %u %s files, which is the limit", limit,
			   temporary ? "temporary" : "small");
	return r;
}

static int file_add(struct call *call, const char *name, mode_t mode, struct small_file **ret)
{
	struct space *space = space_of(call);
	struct small_file *file;
	int r = small_file_new(space, mode, &file);
	if (r < 0)
		return r;
	r = file_link(space, file, name, &call->err);
	if (r < 0) {
		small_file_put(space, file);
		return r;
	}
	r = space_log_set(space, file, name, &call->err);
	if (r < 0) {
		struct small_file *unref = NULL;
		pthread_mutex_lock(&space->lock);
		small_file_unlink_locked(space, file, &unref);
		pthread_mutex_unlock(&space->lock);
		small_file_put(space, unref);
		small_file_put(space, file);
		return r;
	}
	*ret = file;
	return 0;
}

int small_file_create(struct call *call, const char *name, mode_t mode, struct entry *ret,
		      struct opened *ret_opened)
{
	struct space *space = space_of(call);
	struct small_file *file = NULL;
	/* A temporary one is in no frame, so its order among changes does not matter. */
	bool is_change = !small_file_name_is_temporary(name);

	if (is_change) {
		call_leave(call);
		pthread_mutex_lock(&space->change);
	}
	int r = file_add(call, name, mode, &file);
	if (is_change)
		pthread_mutex_unlock(&space->change);
	if (r < 0)
		return r;
	small_file_entry(call, file, ret);
	if (ret_opened) {
		pthread_mutex_lock(&space->lock);
		file->opens++;
		pthread_mutex_unlock(&space->lock);
		ret_opened->keep_cache = true;
	}
	/* The name has its own reference, and the kernel gets one with the reply. */
	small_file_put(space, file);
	return 0;
}

int small_file_unlink(struct call *call, const char *name)
{
	struct space *space = space_of(call);
	struct small_file *unref = NULL;
	int r = 0;

	call_leave(call);
	pthread_mutex_lock(&space->change);
	struct small_file *file = small_file_get(space, name);
	if (!file)
		r = -ENOENT;
	else if (file->opens > 0)
		r = small_file_load(file, &call->err); /* it outlives its frame */
	if (r == 0 && !file->temporary)
		r = space_log_unlink(space, name, &call->err);
	if (r == 0) {
		pthread_mutex_lock(&space->lock);
		small_file_unlink_locked(space, file, &unref);
		pthread_mutex_unlock(&space->lock);
	}
	pthread_mutex_unlock(&space->change);
	small_file_put(space, unref);
	small_file_put(space, file);
	return r;
}

/* With change held. The frames of a rename: what is temporary is in none. */
static int rename_log(struct space *space, struct small_file *file, const char *to,
		      struct reterr *err)
{
	bool from_kept = !file->temporary, to_kept = !small_file_name_is_temporary(to);

	if (!from_kept)
		return to_kept ? space_log_set(space, file, to, err) : 0;
	int r = space_log_flush(space, file, err);
	if (r == 0 && to_kept)
		return space_log_rename(space, file->name, to, err);
	/* It becomes a temporary one, whose content is nowhere but in memory. */
	if (r == 0)
		r = small_file_load(file, err);
	return r < 0 ? r : space_log_unlink(space, file->name, err);
}

/* With change held. */
static int rename_table(struct space *space, struct small_file *file, struct small_file *target,
			const char *to, struct reterr *err)
{
	struct small_file *unref = NULL;
	int r = 0;

	if (file->temporary && !small_file_name_is_temporary(to) && !target &&
	    space->linked >= SPACE_FILES_MAX)
		r = reterr_set(err, -ENOSPC, "space/ holds %d small files, which is the limit",
			       SPACE_FILES_MAX);
	if (r == 0 && target && target->opens > 0)
		r = small_file_load(target, err);
	if (r == 0)
		r = rename_log(space, file, to, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&space->lock);
	if (target)
		small_file_unlink_locked(space, target, &unref);
	strcpy(file->name, to);
	*names_of(space, file->temporary) -= 1;
	file->temporary = small_file_name_is_temporary(to);
	*names_of(space, file->temporary) += 1;
	pthread_mutex_unlock(&space->lock);
	small_file_put(space, unref);
	return 0;
}

int small_file_rename(struct call *call, const char *from, const char *to, unsigned flags)
{
	struct space *space = space_of(call);

	call_leave(call);
	pthread_mutex_lock(&space->change);
	struct small_file *file = small_file_get(space, from);
	struct small_file *target = small_file_get(space, to);
	int r = 0;
	if (!file)
		r = -ENOENT;
	else if (target && (flags & RENAME_NOREPLACE))
		r = -EEXIST;
	else if (file != target)
		r = rename_table(space, file, target, to, &call->err);
	pthread_mutex_unlock(&space->change);
	small_file_put(space, file);
	small_file_put(space, target);
	return r;
}
