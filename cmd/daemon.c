#include "cmd/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/log.h"
#include "cmd/verb.h"

NORETURN static void wait_for_child(int fd, pid_t child)
{
	uint8_t code;
	ssize_t n;
	int status = 0;

	do
		n = read(fd, &code, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		_exit(code);
	if (waitpid(child, &status, 0) == child && WIFSIGNALED(status))
		log_error("the daemon was ended by signal %d (%s) before it had mounted",
			  WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		log_error("the daemon ended before it had mounted");
	_exit(EXIT_CODE_FAILED);
}

int daemon_fork(struct daemon *ret)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid_t child = fork();
	if (child < 0) {
		int r = -errno;
		(void)close(fds[0]);
		(void)close(fds[1]);
		return r;
	}
	if (child > 0) {
		(void)close(fds[1]);
		wait_for_child(fds[0], child);
	}
	(void)close(fds[0]);
	(void)setsid();
	ret->pipe_fd = fds[1];
	return 0;
}

static void send_code(struct daemon *daemon, int code)
{
	uint8_t byte = (uint8_t)code;
	if (daemon->pipe_fd < 0)
		return;
	ssize_t n = write(daemon->pipe_fd, &byte, 1);
	(void)n; /* nobody waits any more */
	(void)close(daemon->pipe_fd);
	daemon->pipe_fd = -1;
}

void daemon_ready(struct daemon *daemon)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
			(void)dup2(null, fd);
		if (null > STDERR_FILENO)
			(void)close(null);
	}
	if (chdir("/") < 0)
		log_warning("cannot leave the working directory: %s", strerror(errno));
	send_code(daemon, EXIT_CODE_DONE);
}

void daemon_fail(struct daemon *daemon, int code)
{
	send_code(daemon, code);
}
