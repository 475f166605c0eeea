/*
 * Numbers in names: decimal digits without a sign, a space or a zero in front, so that each has one
 * name.
 */
#ifndef PROTOFS_FS_DECIMAL_H
#define PROTOFS_FS_DECIMAL_H

#include <stdint.h>

#include "base/attr.h"

/*
 * Takes the digits at *TEXT, which then points behind them. -EINVAL none there, a zero in front,
 * more than 64 bits.
 */
MUST_CHECK int decimal_take(const char **text, uint64_t *ret);

/* TEXT is such a number and nothing else: -EINVAL otherwise. */
MUST_CHECK int decimal_parse(const char *text, uint64_t *ret);

enum { DECIMAL_SIZE = 21 };

/*
 * Writes VALUE and a NUL; returns TEXT. A fifth of the time of listing millions of atoms went to
 * snprintf(3).
 */
char *decimal_format(uint64_t value, char text[static DECIMAL_SIZE]);

#endif
