#include "fs/decimal.h"

#include <errno.h>
#include <string.h>

int decimal_take(const char **text, uint64_t *ret)
{
	const char *at = *text;
	uint64_t value = 0;

	if (*at < '0' || *at > '9' || (at[0] == '0' && at[1] >= '0' && at[1] <= '9'))
		return -EINVAL;
	for (; *at >= '0' && *at <= '9'; at++) {
		unsigned digit = (unsigned)(*at - '0');
		if (value > (UINT64_MAX - digit) / 10)
			return -EINVAL;
		value = value * 10 + digit;
	}
	*text = at;
	*ret = value;
	return 0;
}

int decimal_parse(const char *text, uint64_t *ret)
{
	uint64_t value;
	int r = decimal_take(&text, &value);
	if (r < 0 || *text != '\0')
		return -EINVAL;
	*ret = value;
	return 0;
}

char *decimal_format(uint64_t value, char text[static DECIMAL_SIZE])
{
	char digits[DECIMAL_SIZE];
	size_t at = DECIMAL_SIZE;

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	memcpy(text, digits + at, DECIMAL_SIZE - at);
	text[DECIMAL_SIZE - at] = '\0';
	return text;
}
