#include "fs/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATUS_SIZE = 2048 };

/* /proc/<tid>/status as text; -ESRCH. */
static int status_read(pid_t tid, char text[static STATUS_SIZE])
{
	char path[32];
	if (tid <= 0)
		return -ESRCH;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -ESRCH;
	ssize_t size = read(fd, text, STATUS_SIZE - 1);
	close(fd);
	if (size <= 0)
		return -ESRCH;
	text[size] = '\0';
	return 0;
}

/* The number of BASE behind KEY, which includes the newline before it; 0 if it is not there. */
static uint64_t status_number(const char *text, const char *key, int base)
{
	const char *line = strstr(text, key);
	return line ? strtoull(line + strlen(key), NULL, base) : 0;
}

int process_of_thread(pid_t tid, pid_t *ret)
{
	char text[STATUS_SIZE];
	int r = status_read(tid, text);
	if (r < 0)
		return r;
	pid_t process = (pid_t)status_number(text, "\nTgid:", 10);
	if (process <= 0)
		return -ESRCH;
	*ret = process;
	return 0;
}

bool process_is_dying(pid_t tid)
{
	char text[STATUS_SIZE];
	if (status_read(tid, text) < 0)
		return false;
	uint64_t pending = status_number(text, "\nSigPnd:", 16);
	pending |= status_number(text, "\nShdPnd:", 16);
	return (pending >> (SIGKILL - 1) & 1) != 0;
}
