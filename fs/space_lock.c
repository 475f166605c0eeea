/*
 * space/space_root.lock: an empty file, always there, on which clients take the root lock with
 * flock(2). The lock itself is flock.c's.
 */
#include <errno.h>
#include <fcntl.h>

#include "fs/space.h"

static int lock_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	attr_file(call->fs, &ret->attr, call->id, 0644, 0, fs_started_ns(call->fs));
	ret->attr_timeout = FS_FOREVER;
	return 0;
}

/* Clients truncate or touch it; it stays as it is. */
static int lock_setattr(struct call *call, const uint64_t *handle, const struct setting *setting,
			struct entry *ret)
{
	unsigned allowed = SET_SIZE | SET_ATIME | SET_MTIME;
	if ((setting->valid & ~allowed) ||
	    ((setting->valid & SET_SIZE) && setting->attr.st_size != 0))
		return -EPERM;
	return lock_getattr(call, handle, ret);
}

static int lock_read(struct call *call, uint64_t handle, int flags, void *data, size_t size,
		     uint64_t offset, struct slice *ret)
{
	(void)call;
	(void)handle;
	(void)flags;
	(void)size;
	(void)offset;
	*ret = (struct slice){.data = data, .size = 0};
	return 0;
}

/* Nothing is ever written to it, and flock ends with RELEASE. */
static int lock_open(struct call *call, int flags, struct opened *ret)
{
	(void)call;
	(void)flags;
	ret->flushless = true;
	return 0;
}

const struct view view_space_lock = {
	.name = "space/space_root.lock",
	.getattr = lock_getattr,
	.setattr = lock_setattr,
	.open = lock_open,
	.read = lock_read,
};
