/* UUIDs: 16 bytes; in text always the canonical 36 lower-case characters of Python's str(uuid). */
#ifndef PROTOFS_BASE_UUID_H
#define PROTOFS_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/attr.h"

enum { UUID_TEXT_LENGTH = 36 };

struct uuid {
	uint8_t bytes[16];
};

/* A random (version 4) UUID from the kernel. -errno of getrandom(2). */
PROTOFS_API MUST_CHECK int uuid_random(struct uuid *ret);

/* TEXT must be exactly the canonical form, lower-case: anything else is -EINVAL. */
PROTOFS_API MUST_CHECK int uuid_parse(const char *text, struct uuid *ret);

/* Writes 36 characters and a NUL; returns TEXT. */
PROTOFS_API char *uuid_format(const struct uuid *uuid, char text[static UUID_TEXT_LENGTH + 1]);

static inline bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static inline bool uuid_is_zero(const struct uuid *uuid)
{
	return uuid_equal(uuid, &(struct uuid){{0}});
}

#endif
