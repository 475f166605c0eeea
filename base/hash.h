/*
 * XXH3, as the formats use it: guards against accidents, proves nothing against an enemy.
 * A 128-bit sum is stored and printed in xxHash's canonical (big-endian) form, which is what
 * `xxh128sum` prints.
 */
#ifndef PROTOFS_BASE_HASH_H
#define PROTOFS_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/attr.h"

enum { HASH_SIZE = 16, HASH_TEXT_LENGTH = 32 };

struct hash {
	uint8_t bytes[HASH_SIZE];
};

struct hash hash_of(const void *data, size_t size);
uint64_t hash64_of(const void *data, size_t size);

/* A running sum. Opaque; -ENOMEM. hash_stream_free() accepts NULL. */
struct hash_stream;
MUST_CHECK int hash_stream_new(struct hash_stream **ret);
void hash_stream_free(struct hash_stream *stream);
void hash_stream_reset(struct hash_stream *stream);
void hash_stream_update(struct hash_stream *stream, const void *data, size_t size);
struct hash hash_stream_sum(const struct hash_stream *stream);

/* Writes 32 hex digits and a NUL; returns TEXT. */
PROTOFS_API char *hash_format(const struct hash *hash, char text[static HASH_TEXT_LENGTH + 1]);
/* TEXT begins with 32 lower-case hex digits; -EINVAL otherwise. */
MUST_CHECK int hash_parse(const char *text, struct hash *ret);

static inline bool hash_equal(const struct hash *a, const struct hash *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

#endif
