/* Numbers in names: decimal digits without a sign, a space or a zero in front, so that each has one name. */
#ifndef PROTOFS_FS_DECIMAL_H
#define PROTOFS_FS_DECIMAL_H

#include <stdint.h>

#include "base/attr.h"

/* Takes the digits at *TEXT, which then points behind them. -EINVAL none there, a zero in front, more than 64 bits. */
MUST_CHECK int decimal_take(const char **text, uint64_t *ret);

/* TEXT is such a number and nothing else: -EINVAL otherwise. */
MUST_CHECK int decimal_parse(const char *text, uint64_t *ret);

#endif
