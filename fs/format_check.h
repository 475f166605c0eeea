/*
 * Is a payload of any size one whole, valid value of its format? Read piece by piece, in little memory: a
 * name like x.json in atoms/in asks it before the atom is made.
 */
#ifndef PROTOFS_FS_FORMAT_CHECK_H
#define PROTOFS_FS_FORMAT_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

/* Fills exactly SIZE bytes at DATA, of the payload's OFFSET, or returns -errno. */
typedef int format_source_fn(void *arg, void *data, size_t size, uint64_t offset);

/*
 * FORMAT is JSON or MessagePack.
 * 0        it is
 * -EBADMSG it is not
 * -EFBIG   nested deeper than 128, or a JSON token of more than 16 MiB: not judged
 * -ENOMEM, and the errors of READ
 */
MUST_CHECK int format_check(uint8_t format, uint64_t size, format_source_fn *read, void *arg);

#endif
