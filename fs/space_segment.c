/*
 * space/<uuid>: a foreign segment, which clients append to byte by byte. Its bytes are taken as
 * they come; the offset of a write through O_APPEND means nothing, as with every file. Other
 * segments can be opened here for reading, since a root may point into them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "fs/segment_file.h"
#include "fs/space.h"

/* Python's buffers, and so its writes, have this size. */
enum { SEGMENT_BLOCK_SIZE = 1 << 20 };

/* Writes that are worth another receiver. */
enum { SEGMENT_LONG_WRITE = 64 << 10 };

static bool segment_is_writable(const struct engine_segment_info *info)
{
	return info->class == ENGINE_CLASS_FOREIGN && info->state != ENGINE_SEGMENT_DAMAGED;
}

bool space_segment_is_listed(const struct engine_segment_info *info)
{
	return info->class == ENGINE_CLASS_FOREIGN || info->class == ENGINE_CLASS_RESTORED;
}

void space_segment_entry(const struct call *call, const struct engine_segment_info *info,
			 struct entry *ret)
{
	*ret = (struct entry){.id = node_make(NODE_SEGMENT, info->number, NODE_FACE_SPACE)};
	segment_file_attr(call, info, segment_is_writable(info) ? 0644 : 0444, ret);
	ret->attr.st_blksize = SEGMENT_BLOCK_SIZE;
	/*
	 * Foreign segments grow through this node only, so the kernel sees every change. One
	 * without a byte may go without the kernel's doing.
	 */
	if (info->class == ENGINE_CLASS_FOREIGN) {
		ret->attr_timeout = FS_FOREVER;
		ret->entry_timeout = info->state == ENGINE_SEGMENT_VOLATILE ? FS_NEVER : FS_FOREVER;
	}
}

static int segment_info(const struct call *call, struct engine_segment **ret_segment,
			struct engine_segment_info *ret)
{
	*ret_segment = call_segment(call);
	if (!*ret_segment)
		return -ESTALE;
	engine_segment_info(call->engine, *ret_segment, ret);
	return 0;
}

static int segment_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	struct engine_segment *segment;
	struct engine_segment_info info;
	int r = segment_info(call, &segment, &info);
	if (r == 0)
		space_segment_entry(call, &info, ret);
	return r;
}

/* A segment never gets shorter, so only what changes nothing is allowed. */
static int segment_setattr(struct call *call, const uint64_t *handle, const struct setting *setting,
			   struct entry *ret)
{
	struct engine_segment *segment;
	struct engine_segment_info info;
	int r = segment_info(call, &segment, &info);
	if (r < 0)
		return r;
	if (!segment_is_writable(&info))
		return -EROFS;
	if (setting->valid != SET_SIZE || (uint64_t)setting->attr.st_size != info.length)
		return -EPERM;
	return segment_getattr(call, handle, ret);
}

int space_segment_lookup(struct call *call, const struct uuid *uuid, struct entry *ret)
{
	struct engine_segment_info info;
	struct engine_segment *segment = engine_segment_find(call->engine, uuid);
	if (!segment)
		return -ENOENT;
	engine_segment_info(call->engine, segment, &info);
	space_segment_entry(call, &info, ret);
	return 0;
}

/* An open that can write is a writer until its release: HANDLE says which is one. */
enum { HANDLE_READER = 0, HANDLE_WRITER = 1 };

static int segment_open(struct call *call, int flags, struct opened *ret)
{
	struct engine_segment *segment;
	struct engine_segment_info info;
	int r = segment_info(call, &segment, &info);
	if (r < 0)
		return r;
	if ((flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC)) {
		segment_file_open(&info, ret);
		return 0;
	}
	if (!segment_is_writable(&info))
		return -EROFS;
	if ((flags & O_TRUNC) && info.length > 0)
		return -EPERM;
	engine_writer_add(call->engine, segment);
	ret->handle = HANDLE_WRITER;
	ret->direct_io = true;
	return 0;
}

int space_segment_create(struct call *call, const struct uuid *uuid, int flags, struct entry *ret,
			 struct opened *ret_opened)
{
	struct engine_segment *segment;
	struct engine_segment_info info;
	int r = engine_segment_create(call->engine, uuid, &segment);
	if (r < 0 && r != -EEXIST)
		return r;
	if (r == -EEXIST && (flags & O_EXCL))
		return r;
	engine_segment_info(call->engine, segment, &info);
	space_segment_entry(call, &info, ret);
	if (!ret_opened)
		return 0;

	uint64_t directory = call->id;
	call->id = ret->id;
	r = segment_open(call, flags, ret_opened);
	call->id = directory;
	return r;
}

static int segment_commit(struct call *call, struct engine_segment *segment)
{
	struct engine_position all = {.segment = segment, .length = UINT64_MAX};
	return engine_commit(call->engine, &all, 1, &call->err);
}

static int segment_write(struct call *call, uint64_t handle, int flags, const void *data,
			 size_t size, uint64_t offset)
{
	(void)handle;
	struct engine_segment *segment;
	struct engine_segment_info info;
	int r = segment_info(call, &segment, &info);
	if (r < 0)
		return r;
	/*
	 * The kernel lets one write of a file through at a time, so the length does not move
	 * meanwhile.
	 */
	if (!(flags & O_APPEND) && offset != info.length)
		return -EPERM;
	/* The first byte of a part makes files. */
	bool synchronous = (flags & (O_SYNC | O_DSYNC)) != 0;
	if (synchronous || size >= SEGMENT_LONG_WRITE || info.state != ENGINE_SEGMENT_OPEN ||
	    fs_options(call->fs)->appends_wait)
		call_leave(call);
	/* engine_segment_append() only reads what an iovec, which has no const, points at. */
	union {
		const void *from;
		void *base;
	} bytes = {.from = data};
	struct iovec iov = {.iov_base = bytes.base, .iov_len = size};
	r = engine_segment_append(call->engine, segment, &iov, 1, NULL);
	/* The kernel sends no FSYNC behind a direct write. */
	if (r == 0 && synchronous)
		r = segment_commit(call, segment);
	return r;
}

static int segment_fsync(struct call *call, uint64_t handle)
{
	(void)handle;
	struct engine_segment *segment;
	struct engine_segment_info info;
	int r = segment_info(call, &segment, &info);
	if (r < 0 || info.durable >= info.length)
		return r;
	call_block(call);
	return segment_commit(call, segment);
}

static void segment_release(struct call *call, uint64_t handle, int flags)
{
	(void)flags;
	struct engine_segment *segment = call_segment(call);
	if (segment && handle == HANDLE_WRITER)
		engine_writer_drop(call->engine, segment);
}

/* Whether a root that is kept may refer to the segment: it came after its first byte. */
static bool segment_is_needed(struct call *call, const struct engine_segment_info *info)
{
	struct engine_root dangling;
	uint64_t first, last;
	engine_root_range(call->engine, &first, &last);
	return last > info->born_root || engine_root_dangling(call->engine, &dangling) == 0;
}

int space_segment_unlink(struct call *call, const struct uuid *uuid)
{
	char name[UUID_TEXT_LENGTH + 1], sum_name[UUID_TEXT_LENGTH + 5];
	struct engine_segment_info info;
	struct engine_segment *segment = engine_segment_find(call->engine, uuid);
	if (!segment)
		return -ENOENT;
	engine_segment_info(call->engine, segment, &info);
	if (info.state == ENGINE_SEGMENT_VOLATILE) {
		engine_segment_forget(call->engine, segment);
		return 0;
	}
	if (!space_segment_is_listed(&info))
		return -EPERM;
	if (!fs_options(call->fs)->noprotect && segment_is_needed(call, &info))
		return -EPERM;

	call_leave(call);
	int r = engine_segment_remove(call->engine, segment);
	if (r < 0)
		return r;
	uuid_format(uuid, name);
	snprintf(sum_name, sizeof(sum_name), "%s.sum", name);
	fs_forget_entry(call->fs, NODE_WAL, name);
	fs_forget_entry(call->fs, NODE_WAL, sum_name);
	fs_forget_entry(call->fs, NODE_ATOMS, name);
	return 0;
}

const struct view view_space_segment = {
	.name = "space/<uuid>",
	.getattr = segment_getattr,
	.setattr = segment_setattr,
	.open = segment_open,
	.read = segment_file_view_read,
	.write = segment_write,
	.fsync = segment_fsync,
	.release = segment_release,
	.getxattr = segment_file_getxattr,
	.listxattr = segment_file_listxattr,
};
