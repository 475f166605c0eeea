/*
 * What can be done with an open small file. Its changes are in memory until it is flushed, synced
 * or released, or until the flusher comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fs/space.h"

static struct small_file *file_of(const struct call *call)
{
	/* The node is the first member. */
	return (struct small_file *)call->node;
}

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
		r = small_file_resize(file, (uint64_t)setting->attr.st_size);
		file->mtime_ns = small_file_now_ns();
	}
	if (r == 0 && (setting->valid & SET_MODE))
		file->mode = setting->attr.st_mode & 0777;
	if (r == 0 && (setting->valid & SET_MTIME))
		file->mtime_ns = (int64_t)setting->attr.st_mtim.tv_sec * 1000000000 +
				 setting->attr.st_mtim.tv_nsec;
	if (r == 0 && (setting->valid & (SET_SIZE | SET_MODE | SET_MTIME)))
		small_file_changed(file);
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
	int r = small_file_is_frozen(file) ? -EPERM : 0;
	if (r == 0 && (setting->valid & SET_SIZE))
		r = small_file_load(file, &call->err);
	if (r == 0)
		r = file_apply(file, setting);
	/* Nobody who has it open will flush it. */
	if (r == 0 && !small_file_is_open(file))
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
		r = small_file_resize(file, offset + size);
	if (r == 0 && size > 0) {
		memcpy(file->bytes.data + offset, data, size);
		file->mtime_ns = small_file_now_ns();
		small_file_changed(file);
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
		r = reterr_set(&call->err, -ENOSPC,
			       "the temporary files of space/ fill the memory "
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
	r = small_file_is_frozen(file) ? -EPERM : small_file_load(file, &call->err);
	if (r == 0) {
		pthread_mutex_lock(&space->lock);
		r = file_splice(file, data, size, flags & O_APPEND ? file->size : offset);
		pthread_mutex_unlock(&space->lock);
	}
	if (r == 0)
		r = small_file_make_room(file, &call->err);
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
	bool temporary = file->temporary;
	pthread_mutex_unlock(&space->lock);
	if (temporary || !space_log_is_pending(space))
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

	if (writes && small_file_is_frozen(file))
		return -EPERM;
	/*
	 * Open first, so that the emptiness is no change of its own but goes with what is written.
	 */
	pthread_mutex_lock(&space->lock);
	/* It has lost its name since the lookup, and its segment may go: the kernel looks again. */
	bool is_stale = !file->linked && !file->loaded && file->opens == 0;
	if (!is_stale)
		file->opens++;
	pthread_mutex_unlock(&space->lock);
	if (is_stale)
		return -ESTALE;
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

static int file_getxattr(struct call *call, const char *name, struct buf *ret)
{
	return space_root_getxattr(call, file_of(call), name, ret);
}

static int file_listxattr(struct call *call, struct buf *ret)
{
	return space_root_listxattr(file_of(call), ret);
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
	.getxattr = file_getxattr,
	.listxattr = file_listxattr,
};
