/*
 * Times as people and jq read them: RFC 3339 in UTC, with all nine digits, so that nothing is lost.
 */
#ifndef PROTOFS_FS_UTC_H
#define PROTOFS_FS_UTC_H

#include <stdint.h>

enum { UTC_TEXT_SIZE = 40 };

/* "2024-05-01T12:00:00.123456789Z" and a NUL; returns TEXT. */
char *utc_format(uint64_t time_ns, char text[static UTC_TEXT_SIZE]);

#endif
