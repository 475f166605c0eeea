/*
 * Files whose text is made when they are opened, and does not change for that reader: .ctl/,
 * *.json, *.sum. Such a file's operations are text_open at the end of its own open, text_read and
 * text_release.
 */
#ifndef PROTOFS_FS_TEXT_H
#define PROTOFS_FS_TEXT_H

#include "fs/view.h"

/*
 * Takes TEXT's bytes, leaving it empty, into RET's handle, and sets direct_io: st_size may be 0.
 * -ENOMEM.
 */
MUST_CHECK int text_open(struct buf *text, struct opened *ret);

/* The bytes of an open text. */
struct slice text_of(uint64_t handle);

/* For struct view. */
int text_read(struct call *call, uint64_t handle, int flags, void *data, size_t size,
	      uint64_t offset, struct slice *ret);
void text_release(struct call *call, uint64_t handle, int flags);

#endif
