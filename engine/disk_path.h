/* Checks that every implementation of struct disk makes alike. Private to them. */
#ifndef PROTOFS_ENGINE_DISK_PATH_H
#define PROTOFS_ENGINE_DISK_PATH_H

#include <stdbool.h>

#include "engine/disk.h"

/*
 * -EINVAL for a path that is absolute, or has an empty component, "." or ".."; -ENAMETOOLONG beyond
 * DISK_PATH_MAX bytes. "" is the store's own directory.
 */
MUST_CHECK int disk_path_check(const char *path);

/* Whether the offset, and each address and length, is a multiple of DISK_BLOCK_SIZE. */
MUST_CHECK bool disk_write_is_aligned(const struct disk_write *write);

MUST_CHECK size_t disk_write_size(const struct disk_write *write);

#endif
