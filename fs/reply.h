/*
 * The end of every request: the one place where -errno becomes the errno of a reply, and where the
 * reason of an error is recorded. Each function ends its call: the node is released, and CALL's
 * request must not be touched again.
 */
#ifndef PROTOFS_FS_REPLY_H
#define PROTOFS_FS_REPLY_H

#include "fs/core.h"

/* 0 answers "done"; an error is -errno. */
void reply_error(struct call *call, int result);

/*
 * The others are for operations that succeeded. A false return: nobody heard of it (the caller was
 * interrupted), what was opened for it must be released.
 */
bool reply_entry(struct call *call, const struct entry *entry);
void reply_attr(struct call *call, const struct entry *entry);
bool reply_open(struct call *call, const struct opened *opened, int flags);
bool reply_create(struct call *call, const struct entry *entry, const struct opened *opened,
		  int flags);
bool reply_data(struct call *call, const void *data, size_t size);
void reply_written(struct call *call, size_t size);
void reply_statfs(struct call *call, const struct statvfs *statfs);
/*
 * Of a value, or of its size only if the caller gave no room (SIZE 0). -ERANGE if it is too small.
 */
void reply_xattr(struct call *call, const struct buf *value, size_t size);

/* Ends a call that is answered by other means. */
void reply_none(struct call *call);

#endif
