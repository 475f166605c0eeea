/*
 * What users type and read: sizes, durations, counts, pointers, times. Parsers take the whole text
 * or nothing:
 * -EINVAL what it is not, -ERANGE what does not fit.
 */
#ifndef PROTOFS_CMD_TEXT_H
#define PROTOFS_CMD_TEXT_H

#include <stdint.h>

#include "base/attr.h"
#include "base/uuid.h"

struct engine_pointer;

/* Decimal digits only: no sign, no space, no prefix. */
MUST_CHECK int text_parse_u64(const char *text, uint64_t *ret);

/*
 * Bytes: digits, then perhaps K, M, G or T (powers of 1024), then perhaps B or iB: 5M, 64KiB,
 * 4096.
 */
MUST_CHECK int text_parse_size(const char *text, uint64_t *ret);

/*
 * Digits and a unit: ms, s, m, h, d, w. Without a unit the number is in UNIT_DEFAULT_MS; 0 there
 * demands a unit. The result is in milliseconds.
 */
MUST_CHECK int text_parse_duration(const char *text, uint64_t unit_default_ms, uint64_t *ret_ms);

/* What utc_format() of fs/utc.h writes, with 0 to 9 digits behind the second. */
MUST_CHECK int text_parse_time(const char *text, uint64_t *ret_ns);

/* <uuid>/<offset>; a leading "atoms/" or "../atoms/" is what a copied path or link brings along. */
MUST_CHECK int text_parse_pointer(const char *text, struct engine_pointer *ret);

enum {
	TEXT_SIZE_LENGTH = 16,
	TEXT_POINTER_LENGTH = UUID_TEXT_LENGTH + 22,
};

/* Both write a NUL too, and return TEXT. Sizes as "1.5 MiB". */
char *text_size(uint64_t bytes, char text[static TEXT_SIZE_LENGTH]);
char *text_pointer(const struct engine_pointer *pointer, char text[static TEXT_POINTER_LENGTH]);

#endif
