/*
 * Files whose text is made when they are opened, and does not change for that reader: .ctl/,
 * *.json, *.sum. Such a file's operations are text_open at the end of its own open, text_read and
 * text_release.
 */
#ifndef PROTOFS_FS_TEXT_H
#define PROTOFS_FS_TEXT_H

#include "fs/view.h"

/*
 * The open texts of a mount. The kernel gives up the RELEASE of what was closed just before an
 * unmount: those that are left go with the table.
 */
struct text_table;
MUST_CHECK int text_table_new(struct text_table **ret);
void text_table_free(struct text_table *table); /* accepts NULL */

/*
 * Takes TEXT's bytes, leaving it empty, into RET's handle, and sets direct_io: st_size may be 0.
 * -ENOMEM.
 */
MUST_CHECK int text_open(struct call *call, struct buf *text, struct opened *ret);

/* The bytes of an open text. */
struct slice text_of(uint64_t handle);

/* For struct view. */
int text_read(struct call *call, uint64_t handle, int flags, void *data, size_t size,
	      uint64_t offset, struct slice *ret);
void text_release(struct call *call, uint64_t handle, int flags);

#endif
