/* A mounted store from its opening to its end: the life of the daemon. */
#ifndef PROTOFS_CMD_SERVE_H
#define PROTOFS_CMD_SERVE_H

#include "base/attr.h"

struct daemon;
struct options;

struct serve {
	const char *store;      /* absolute, or "mem:" */
	const char *mountpoint; /* absolute */
	const struct options *options;
	struct daemon *daemon; /* whose command waits; NULL in the foreground */
};

/*
 * Opens the store, mounts it, serves until it is unmounted or SIGTERM, SIGINT or SIGHUP comes, and
 * closes it. Has logged what went wrong; returns the exit code.
 */
MUST_CHECK int serve_run(struct serve *serve);

#endif
