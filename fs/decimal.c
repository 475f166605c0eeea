#include "fs/decimal.h"

#include <errno.h>

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
