#include "fs/segment_file.h"

#include <errno.h>
#include <fcntl.h>

#include "fs/xattr.h"

/* Reads that are worth another receiver: below, the copy is shorter than waking one. */
enum { SEGMENT_FILE_LONG_READ = 64 << 10, SEGMENT_FILE_STAT_UNIT = 512 };

bool segment_file_is_final(const struct engine_segment_info *info)
{
	return info->final;
}

double segment_file_entry_timeout(const struct engine_segment_info *info)
{
	bool may_go = info->class == ENGINE_CLASS_META;
	return segment_file_is_final(info) && !may_go ? FS_FOREVER : FS_NEVER;
}

void segment_file_attr(const struct call *call, const struct engine_segment_info *info, mode_t mode,
		       struct entry *entry)
{
	bool final = segment_file_is_final(info);
	attr_file(call->fs, &entry->attr, entry->id, mode, info->length, info->modified_ns);
	/* Space that is only set aside is not shown. */
	blkcnt_t physical = (blkcnt_t)(info->physical / SEGMENT_FILE_STAT_UNIT);
	if (physical < entry->attr.st_blocks)
		entry->attr.st_blocks = physical;
	entry->entry_timeout = segment_file_entry_timeout(info);
	entry->attr_timeout = final ? FS_FOREVER : FS_NEVER;
}

void segment_file_open(const struct engine_segment_info *info, struct opened *ret)
{
	bool final = segment_file_is_final(info);
	ret->keep_cache = final;
	ret->direct_io = !final;
	ret->flushless = true;
}

int segment_file_read(struct call *call, struct engine_segment *segment, int flags, void *data,
		      size_t size, uint64_t offset, struct slice *ret)
{
	bool from_disk = (flags & O_DIRECT) != 0;
	struct engine_segment_info info;
	size_t count = 0;

	/* Clients ask for a page of 1 MiB where there are a few bytes. */
	engine_segment_info(call->engine, segment, &info);
	uint64_t left = offset < info.length ? info.length - offset : 0;
	if (from_disk || (size < left ? size : left) >= SEGMENT_FILE_LONG_READ)
		call_block(call);
	int r = engine_read(call->engine, segment, data, size, offset,
			    from_disk ? ENGINE_READ_DISK : 0, &count, &call->err);
	*ret = (struct slice){.data = data, .size = r < 0 ? 0 : count};
	return r;
}

int segment_file_view_read(struct call *call, uint64_t handle, int flags, void *data, size_t size,
			   uint64_t offset, struct slice *ret)
{
	(void)handle;
	struct engine_segment *segment = call_segment(call);
	if (!segment)
		return -ESTALE;
	return segment_file_read(call, segment, flags, data, size, offset, ret);
}

int segment_file_getxattr(struct call *call, const char *name, struct buf *ret)
{
	struct engine_segment *segment = call_segment(call);
	return segment ? xattr_segment(call, segment, name, ret) : -ESTALE;
}

int segment_file_listxattr(struct call *call, struct buf *ret)
{
	(void)call;
	return xattr_segment_list(ret);
}
