/*
 * Arguments by glibc's argp, the same way in every verb: --help and --usage say all, -v and -q
 * adjust what is logged, and wrong use exits with 2 after a line that says what was wrong.
 */
#ifndef PROTOFS_CMD_ARGS_H
#define PROTOFS_CMD_ARGS_H

#include <argp.h>

/*
 * Parses ARGV into INPUT. Returns only if the arguments are right: --help has exited with 0, wrong
 * use with 2. ARGP's parser is told of each positional argument by ARGP_KEY_ARG; -v and -q never
 * reach it.
 */
void args_parse(const struct argp *argp, int argc, char **argv, void *input);

/* The COUNT positional arguments in SLOTS, in order: for parsers whose verb takes exactly these. */
error_t args_positional(struct argp_state *state, int key, char *arg, const char **slots,
			unsigned count);

#endif
