/* protofs version: what runs here. */
#include <stdio.h>
#include <sys/utsname.h>

#include "cmd/args.h"
#include "cmd/verb.h"
#include "fs/version.h"

static error_t parse_version(int key, char *arg, struct argp_state *state)
{
	return args_positional(state, key, arg, NULL, 0);
}

int verb_version(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse_version,
		.doc = "Print the versions of protofs, of the libraries that it found, and of the "
		       "kernel.",
	};
	struct utsname kernel;

	args_parse(&argp, argc, argv, NULL);
	(void)printf("protofs %s\n", PROTOFS_VERSION);
	(void)printf("libfuse %s\n", version_text());
	(void)puts("liburing " PROTOFS_URING_VERSION);
	if (uname(&kernel) == 0)
		(void)printf("kernel %s %s\n", kernel.sysname, kernel.release);
	return EXIT_CODE_DONE;
}
