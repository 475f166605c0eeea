#include "base/uuid.h"

#include <errno.h>
#include <sys/random.h>

int uuid_random(struct uuid *ret)
{
	struct uuid uuid;
	if (getrandom(uuid.bytes, sizeof(uuid.bytes), 0) != (ssize_t)sizeof(uuid.bytes))
		return errno ? -errno : -EIO;
	uuid.bytes[6] = (uint8_t)((uuid.bytes[6] & 0x0f) | 0x40);
	uuid.bytes[8] = (uint8_t)((uuid.bytes[8] & 0x3f) | 0x80);
	*ret = uuid;
	return 0;
}

static bool is_dash(unsigned position)
{
	return position == 8 || position == 13 || position == 18 || position == 23;
}

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int uuid_parse(const char *text, struct uuid *ret)
{
	struct uuid uuid = {{0}};
	unsigned digits = 0;

	for (unsigned i = 0; i < UUID_TEXT_LENGTH; i++) {
		if (is_dash(i)) {
			if (text[i] != '-')
				return -EINVAL;
			continue;
		}
		int value = nibble(text[i]); /* stops at a NUL: it is no digit */
		if (value < 0)
			return -EINVAL;
		uint8_t *byte = &uuid.bytes[digits / 2];
		*byte = (uint8_t)(*byte << 4 | value);
		digits++;
	}
	if (text[UUID_TEXT_LENGTH] != '\0')
		return -EINVAL;
	*ret = uuid;
	return 0;
}

char *uuid_format(const struct uuid *uuid, char text[static UUID_TEXT_LENGTH + 1])
{
	static const char hex[] = "0123456789abcdef";
	unsigned digits = 0;

	for (unsigned i = 0; i < UUID_TEXT_LENGTH; i++) {
		if (is_dash(i)) {
			text[i] = '-';
			continue;
		}
		uint8_t byte = uuid->bytes[digits / 2];
		text[i] = hex[digits % 2 ? byte & 15 : byte >> 4];
		digits++;
	}
	text[UUID_TEXT_LENGTH] = '\0';
	return text;
}
