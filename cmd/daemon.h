/*
 * Going into the background in two steps: the command that the user typed returns only when the
 * work of the daemon stands (it is mounted) or has failed, with its exit code.
 */
#ifndef PROTOFS_CMD_DAEMON_H
#define PROTOFS_CMD_DAEMON_H

#include "base/attr.h"

struct daemon {
	int pipe_fd; /* to the command that waits; -1 without one */
};

/*
 * Forks. In the child: 0, in a session of its own, stderr still the user's. The parent exits with
 * the code that daemon_ready() or daemon_fail() sends, or with 1 and a message if the child dies.
 * -errno if it cannot fork.
 */
MUST_CHECK int daemon_fork(struct daemon *ret);

/* The work stands: lets the command return 0, and leaves its terminal and directory. */
void daemon_ready(struct daemon *daemon);
/* The daemon is about to end with CODE. Does nothing after daemon_ready(). */
void daemon_fail(struct daemon *daemon, int code);

#endif
