#include "fs/size_text.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/attr.h"

const char *size_text(uint64_t bytes, char text[static SIZE_TEXT_SIZE])
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes / 1024;
	size_t unit = 0;

	if (bytes < 1024) {
		(void)snprintf(text, SIZE_TEXT_SIZE, "%" PRIu64 " B", bytes);
		return text;
	}
	for (; value >= 1024 && unit + 1 < ARRAY_SIZE(units); unit++)
		value /= 1024;
	(void)snprintf(text, SIZE_TEXT_SIZE, "%.1f %s", value, units[unit]);
	return text;
}
