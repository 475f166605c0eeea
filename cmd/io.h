/*
 * Whole reads and writes of ordinary files. All retry after a signal and continue short transfers;
 * -errno.
 */
#ifndef PROTOFS_CMD_IO_H
#define PROTOFS_CMD_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"

struct buf;

/* For CLEANUP: closes *FD unless it is negative. */
void io_close(int *fd);

MUST_CHECK int io_write(int fd, const void *data, size_t size);
/* Fewer than SIZE bytes only at the end of the file. */
MUST_CHECK int io_read_at(int fd, void *data, size_t size, uint64_t offset, size_t *ret);

/*
 * The whole of NAME below the directory AT (AT_FDCWD too), after what BUF holds. -EFBIG beyond its
 * ceiling.
 */
MUST_CHECK int io_read_file(int at, const char *name, struct buf *buf);

/* Replaces NAME below AT atomically and durably, by way of NAME.tmp, which is made with MODE. */
MUST_CHECK int io_replace_file(int at, const char *name, const void *data, size_t size,
			       mode_t mode);

/* Makes the directory durable that AT is, or that holds PATH. */
MUST_CHECK int io_sync_dir(int at);
MUST_CHECK int io_sync_parent(const char *path);

/* 1 if the directory PATH has no entries, 0 if it has. -ENOENT, -ENOTDIR. */
MUST_CHECK int io_dir_is_empty(const char *path);

/* Removes PATH with all that is below it, on this filesystem, as far as it can. */
void io_remove_tree(const char *path);

/* Aligned for direct I/O; released by free(3). NULL without memory. */
void *io_alloc(size_t size);

#endif
