#include "fs/utc.h"

#include <stdio.h>
#include <time.h>

enum { NS_PER_S = 1000000000 };

char *utc_format(uint64_t time_ns, char text[static UTC_TEXT_SIZE])
{
	time_t seconds = (time_t)(time_ns / NS_PER_S);
	struct tm utc;
	size_t length = 0;

	/* 64 bits of nanoseconds end in the year 2554: both always succeed. */
	if (gmtime_r(&seconds, &utc))
		length = strftime(text, UTC_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
	(void)snprintf(text + length, UTC_TEXT_SIZE - length, ".%09uZ",
		       (unsigned)(time_ns % NS_PER_S));
	return text;
}
