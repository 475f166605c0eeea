/*
 * The program's one way to tell a human something: "protofs: MESSAGE" on stderr, or syslog or a
 * log file once mount runs as a daemon. Only cmd/ and fs/ log; the layers beneath return what
 * happened.
 *
 * Threads: log_*() from any; log_to_*() and log_adjust() before there is more than one.
 */
#ifndef PROTOFS_CMD_LOG_H
#define PROTOFS_CMD_LOG_H

#include <stdbool.h>

#include "base/attr.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DETAIL };

/* -v (STEP 1) and -q (STEP -1), each time they are given. Warnings are the default. */
void log_adjust(int step);
bool log_shows(enum log_level level);

void log_to_syslog(void);
/* Appends to PATH, with the time in front of each line. -errno of open(2). */
MUST_CHECK int log_to_file(const char *path);

void log_error(const char *format, ...) PRINTF_LIKE(1, 2);
void log_warning(const char *format, ...) PRINTF_LIKE(1, 2);
void log_info(const char *format, ...) PRINTF_LIKE(1, 2);
void log_detail(const char *format, ...) PRINTF_LIKE(1, 2);

#endif
