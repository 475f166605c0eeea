#include "base/hash.h"

#include <errno.h>
#include <stdio.h>
#include <xxhash.h>
#ifdef PROTOFS_XXHASH_DISPATCH
/* The same sums by the widest registers that the processor has: 15 us a MiB instead of 51. */
#include <xxh_x86dispatch.h>
#endif

/* A struct hash_stream IS an XXH3_state_t; the name only keeps xxHash out of our headers. */

static struct hash canonical(XXH128_hash_t value)
{
	XXH128_canonical_t bytes;
	struct hash hash;

	XXH128_canonicalFromHash(&bytes, value);
	memcpy(hash.bytes, bytes.digest, sizeof(hash.bytes));
	return hash;
}

struct hash hash_of(const void *data, size_t size)
{
	return canonical(XXH3_128bits(data, size));
}

uint64_t hash64_of(const void *data, size_t size)
{
	return XXH3_64bits(data, size);
}

int hash_stream_new(struct hash_stream **ret)
{
	XXH3_state_t *state = XXH3_createState();
	if (!state)
		return -ENOMEM;
	(void)XXH3_128bits_reset(state);
	*ret = (struct hash_stream *)(void *)state;
	return 0;
}

void hash_stream_free(struct hash_stream *stream)
{
	(void)XXH3_freeState((XXH3_state_t *)(void *)stream);
}

void hash_stream_reset(struct hash_stream *stream)
{
	(void)XXH3_128bits_reset((XXH3_state_t *)(void *)stream);
}

void hash_stream_update(struct hash_stream *stream, const void *data, size_t size)
{
	(void)XXH3_128bits_update((XXH3_state_t *)(void *)stream, data, size);
}

struct hash hash_stream_sum(const struct hash_stream *stream)
{
	return canonical(XXH3_128bits_digest((const XXH3_state_t *)(const void *)stream));
}

char *hash_format(const struct hash *hash, char text[static HASH_TEXT_LENGTH + 1])
{
	static const char hex[] = "0123456789abcdef";

	for (unsigned i = 0; i < HASH_SIZE; i++) {
		text[2 * i] = hex[hash->bytes[i] >> 4];
		text[2 * i + 1] = hex[hash->bytes[i] & 15];
	}
	text[HASH_TEXT_LENGTH] = '\0';
	return text;
}

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int hash_parse(const char *text, struct hash *ret)
{
	struct hash hash;

	for (unsigned i = 0; i < HASH_SIZE; i++) {
		int high = nibble(text[2 * i]);
		int low = high < 0 ? -1 : nibble(text[2 * i + 1]);
		if (low < 0)
			return -EINVAL;
		hash.bytes[i] = (uint8_t)(high << 4 | low);
	}
	*ret = hash;
	return 0;
}
