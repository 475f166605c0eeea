#include "cloud/block_key.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/invariant.h"

#define WAL_PREFIX "wal/"
#define ROOTS_PREFIX "roots/"

/* Moves TEXT behind EXPECTED, or leaves it. */
static bool skip(const char **text, const char *expected)
{
	size_t length = strlen(expected);
	if (strncmp(*text, expected, length) != 0)
		return false;
	*text += length;
	return true;
}

/* Exactly DIGITS digits, of a number up to MAX. */
static bool take_number(const char **text, unsigned digits, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < digits; i++) {
		char c = (*text)[i];
		if (c < '0' || c > '9')
			return false;
		uint64_t digit = (uint64_t)(c - '0');
		if (value > (max - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*text += digits;
	*ret = value;
	return true;
}

static bool take_uuid(const char **text, struct uuid *ret)
{
	char copy[UUID_TEXT_LENGTH + 1];
	if (strnlen(*text, UUID_TEXT_LENGTH) != UUID_TEXT_LENGTH)
		return false;
	memcpy(copy, *text, UUID_TEXT_LENGTH);
	copy[UUID_TEXT_LENGTH] = '\0';
	if (uuid_parse(copy, ret) < 0)
		return false;
	*text += UUID_TEXT_LENGTH;
	return true;
}

static bool take_range(const char **text, struct block_key *key)
{
	const uint64_t max = BLOCK_STORE_SIZE_MAX;
	return take_number(text, BLOCK_KEY_RANGE_DIGITS, max, &key->from) && skip(text, "-") &&
	       take_number(text, BLOCK_KEY_RANGE_DIGITS, max, &key->to) && key->from < key->to;
}

static bool take_key(const char **text, struct block_key *key)
{
	const unsigned digits = BLOCK_KEY_POSITION_DIGITS;
	if (skip(text, WAL_PREFIX)) {
		if (!take_uuid(text, &key->segment) || !skip(text, "/") ||
		    !take_number(text, digits, BLOCK_KEY_POSITION_MAX, &key->position))
			return false;
		key->kind = BLOCK_KEY_BLOCK;
		if (!skip(text, "+"))
			return true;
		key->kind = BLOCK_KEY_DELTA;
		return take_range(text, key);
	}
	if (skip(text, ROOTS_PREFIX)) {
		key->kind = BLOCK_KEY_ROOT;
		return take_number(text, digits, BLOCK_KEY_POSITION_MAX, &key->position);
	}
	key->kind = BLOCK_KEY_OWNER;
	return skip(text, "owner");
}

int block_key_parse(const char *text, struct block_key *ret)
{
	struct block_key key = {.kind = BLOCK_KEY_BLOCK};
	if (!take_key(&text, &key) || *text != '\0')
		return -EINVAL;
	if (ret)
		*ret = key;
	return 0;
}

char *block_key_format(const struct block_key *key, char text[static BLOCK_KEY_MAX + 1])
{
	char uuid[UUID_TEXT_LENGTH + 1];
	int length = 0;

	(void)uuid_format(&key->segment, uuid);
	switch (key->kind) {
	case BLOCK_KEY_BLOCK:
		length = snprintf(text, BLOCK_KEY_MAX + 1, WAL_PREFIX "%s/%020" PRIu64, uuid,
				  key->position);
		break;
	case BLOCK_KEY_DELTA:
		length = snprintf(text, BLOCK_KEY_MAX + 1,
				  WAL_PREFIX "%s/%020" PRIu64 "+%010" PRIu64 "-%010" PRIu64, uuid,
				  key->position, key->from, key->to);
		break;
	case BLOCK_KEY_ROOT:
		length = snprintf(text, BLOCK_KEY_MAX + 1, ROOTS_PREFIX "%020" PRIu64,
				  key->position);
		break;
	case BLOCK_KEY_OWNER:
		length = snprintf(text, BLOCK_KEY_MAX + 1, "owner");
		break;
	}
	invariant(length > 0 && length <= BLOCK_KEY_MAX);
	return text;
}
