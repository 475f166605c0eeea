#include "cmd/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "cmd/progress.h"

enum { LOG_LINE_SIZE = 2048 };

static struct {
	enum log_level level;
	bool syslog;
	int file_fd; /* of log_to_file; -1 none */
} output = {.level = LOG_LEVEL_WARNING, .file_fd = -1};

void log_adjust(int step)
{
	int level = (int)output.level + step;
	if (level < LOG_LEVEL_ERROR)
		level = LOG_LEVEL_ERROR;
	if (level > LOG_LEVEL_DETAIL)
		level = LOG_LEVEL_DETAIL;
	output.level = (enum log_level)level;
}

bool log_shows(enum log_level level)
{
	return level <= output.level;
}

void log_to_syslog(void)
{
	openlog("protofs", LOG_PID, LOG_DAEMON);
	output.syslog = true;
}

int log_to_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return -errno;
	if (output.file_fd >= 0)
		(void)close(output.file_fd);
	output.file_fd = fd;
	return 0;
}

static int priority_of(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return LOG_ERR;
	case LOG_LEVEL_WARNING:
		return LOG_WARNING;
	case LOG_LEVEL_INFO:
		return LOG_INFO;
	case LOG_LEVEL_DETAIL:
		return LOG_DEBUG;
	}
	return LOG_ERR;
}

/* One write(2) a line, so that lines of several threads and processes stay whole. */
static void write_line(int fd, const char *prefix, const char *message)
{
	char line[LOG_LINE_SIZE + 64];
	int length = snprintf(line, sizeof(line), "%s%s\n", prefix, message);
	if (length <= 0)
		return;
	size_t size = (size_t)length < sizeof(line) ? (size_t)length : sizeof(line) - 1;
	line[size - 1] = '\n';
	ssize_t n = write(fd, line, size);
	(void)n; /* there is nobody left to tell */
}

PRINTF_LIKE(2, 0)
static void log_va(enum log_level level, const char *format, va_list args)
{
	char message[LOG_LINE_SIZE];
	int saved_errno = errno;

	if (!log_shows(level))
		return;
	(void)vsnprintf(message, sizeof(message), format, args);
	if (output.file_fd >= 0) {
		char prefix[64];
		time_t now = time(NULL);
		struct tm utc;
		if (!gmtime_r(&now, &utc) || !strftime(prefix, sizeof(prefix), "%FT%TZ ", &utc))
			prefix[0] = '\0';
		write_line(output.file_fd, prefix, message);
	} else if (output.syslog) {
		syslog(priority_of(level), "%s", message);
	} else {
		progress_hide();
		write_line(STDERR_FILENO, "protofs: ", message);
	}
	errno = saved_errno;
}

void log_error(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	log_va(LOG_LEVEL_ERROR, format, args);
	va_end(args);
}

void log_warning(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	log_va(LOG_LEVEL_WARNING, format, args);
	va_end(args);
}

void log_info(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	log_va(LOG_LEVEL_INFO, format, args);
	va_end(args);
}

void log_detail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	log_va(LOG_LEVEL_DETAIL, format, args);
	va_end(args);
}
