/* A whole segment as a file: what space/<uuid> and wal/<uuid> have in common. */
#ifndef PROTOFS_FS_SEGMENT_FILE_H
#define PROTOFS_FS_SEGMENT_FILE_H

#include "engine/engine.h"
#include "fs/view.h"

/*
 * Whether the segment will never change again, so that the kernel may keep all of it. Foreign ones
 * are never: a client may go on with a sealed one, and what grows beside an inode must not be in
 * the page cache.
 */
bool segment_file_is_final(const struct engine_segment_info *info);

/* Of a name that leads to it. Segments of small files go when these are compacted. */
double segment_file_entry_timeout(const struct engine_segment_info *info);

/* Attributes and timeouts; the id is the call's or ENTRY's own, set by the caller before. */
void segment_file_attr(const struct call *call, const struct engine_segment_info *info, mode_t mode,
		       struct entry *entry);

/* Opens for reading only. */
void segment_file_open(const struct engine_segment_info *info, struct opened *ret);

/* Reads at most SIZE bytes at OFFSET; O_DIRECT in FLAGS reads and verifies on the disk. */
MUST_CHECK int segment_file_read(struct call *call, struct engine_segment *segment, int flags,
				 void *data, size_t size, uint64_t offset, struct slice *ret);

/* struct view's read, of the segment that the call's id names. */
int segment_file_view_read(struct call *call, uint64_t handle, int flags, void *data, size_t size,
			   uint64_t offset, struct slice *ret);

/* struct view's getxattr and listxattr of it. */
int segment_file_getxattr(struct call *call, const char *name, struct buf *ret);
int segment_file_listxattr(struct call *call, struct buf *ret);

#endif
