#include "cmd/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/engine.h"

/* Takes the digits at *TEXT and moves it behind them. */
static int take_digits(const char **text, uint64_t *ret)
{
	const char *at = *text;
	uint64_t value = 0;

	if (*at < '0' || *at > '9')
		return -EINVAL;
	for (; *at >= '0' && *at <= '9'; at++) {
		uint64_t digit = (uint64_t)(*at - '0');
		if (value > (UINT64_MAX - digit) / 10)
			return -ERANGE;
		value = value * 10 + digit;
	}
	*text = at;
	*ret = value;
	return 0;
}

int text_parse_u64(const char *text, uint64_t *ret)
{
	uint64_t value;
	int r = take_digits(&text, &value);
	if (r < 0)
		return r;
	if (*text)
		return -EINVAL;
	*ret = value;
	return 0;
}

int text_parse_size(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGTkmgt";
	uint64_t value;
	unsigned shift = 0;

	int r = take_digits(&text, &value);
	if (r < 0)
		return r;
	const char *unit = *text ? strchr(units, *text) : NULL;
	if (unit) {
		shift = 10 * (unsigned)((unit - units) % 4 + 1);
		text++;
		if (strcmp(text, "iB") == 0)
			text += 2;
	}
	if (strcmp(text, "B") == 0)
		text++;
	if (*text)
		return -EINVAL;
	if (value > UINT64_MAX >> shift)
		return -ERANGE;
	*ret = value << shift;
	return 0;
}

int text_parse_duration(const char *text, uint64_t unit_default_ms, uint64_t *ret_ms)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = {
		{"ms", 1},
		{"s", 1000},
		{"m", UINT64_C(60) * 1000},
		{"h", UINT64_C(3600) * 1000},
		{"d", UINT64_C(86400) * 1000},
		{"w", UINT64_C(7) * 86400 * 1000},
	};
	uint64_t value;
	uint64_t unit_ms = 0;

	int r = take_digits(&text, &value);
	if (r < 0)
		return r;
	if (!*text)
		unit_ms = unit_default_ms;
	for (size_t i = 0; *text && i < ARRAY_SIZE(units); i++)
		if (strcmp(text, units[i].name) == 0)
			unit_ms = units[i].ms;
	if (unit_ms == 0)
		return -EINVAL;
	if (value > UINT64_MAX / unit_ms)
		return -ERANGE;
	*ret_ms = value * unit_ms;
	return 0;
}

int text_parse_time(const char *text, uint64_t *ret_ns)
{
	struct tm utc = {0};
	uint64_t part_ns = 0;
	const char *at = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);

	if (!at)
		return -EINVAL;
	if (*at == '.') {
		at++;
		for (uint64_t unit = 100000000; *at >= '0' && *at <= '9' && unit; unit /= 10)
			part_ns += (uint64_t)(*at++ - '0') * unit;
	}
	if (strcmp(at, "Z") != 0)
		return -EINVAL;
	time_t seconds = timegm(&utc);
	if (seconds < 0)
		return -ERANGE;
	*ret_ns = (uint64_t)seconds * 1000000000 + part_ns;
	return 0;
}

int text_parse_pointer(const char *text, struct engine_pointer *ret)
{
	struct engine_pointer pointer;
	char name[UUID_TEXT_LENGTH + 1];

	if (strncmp(text, "../", 3) == 0)
		text += 3;
	if (strncmp(text, "atoms/", 6) == 0)
		text += 6;
	if (strnlen(text, UUID_TEXT_LENGTH + 1) <= UUID_TEXT_LENGTH ||
	    text[UUID_TEXT_LENGTH] != '/')
		return -EINVAL;
	memcpy(name, text, UUID_TEXT_LENGTH);
	name[UUID_TEXT_LENGTH] = '\0';
	int r = uuid_parse(name, &pointer.segment);
	if (r < 0)
		return r;
	r = text_parse_u64(text + UUID_TEXT_LENGTH + 1, &pointer.offset);
	if (r < 0)
		return r;
	*ret = pointer;
	return 0;
}

char *text_size(uint64_t bytes, char text[static TEXT_SIZE_LENGTH])
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	if (bytes < 1024) {
		(void)snprintf(text, TEXT_SIZE_LENGTH, "%u B", (unsigned)bytes);
		return text;
	}
	double value = (double)bytes / 1024;
	size_t unit = 0;
	while (value >= 1023.95 && unit + 1 < ARRAY_SIZE(units)) {
		value /= 1024;
		unit++;
	}
	(void)snprintf(text, TEXT_SIZE_LENGTH, "%.1f %s", value, units[unit]);
	return text;
}

char *text_pointer(const struct engine_pointer *pointer, char text[static TEXT_POINTER_LENGTH])
{
	char uuid[UUID_TEXT_LENGTH + 1];
	(void)snprintf(text, TEXT_POINTER_LENGTH, "%s/%" PRIu64,
		       uuid_format(&pointer->segment, uuid), pointer->offset);
	return text;
}
