/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef PROTOFS_FS_UTF8_H
#define PROTOFS_FS_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

/*
 * RET_AT (may be NULL) is where the first sequence that is none begins; TEXT's size if all is well.
 */
bool utf8_valid(struct slice text, size_t *ret_at);

#endif
