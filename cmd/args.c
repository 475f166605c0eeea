#include "cmd/args.h"

#include <stdlib.h>

#include "cmd/log.h"
#include "cmd/verb.h"

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
	(void)arg;
	(void)state;
	switch (key) {
	case 'v':
		log_adjust(1);
		return 0;
	case 'q':
		log_adjust(-1);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option common_options[] = {
	{"verbose", 'v', NULL, 0, "Say what is done, twice: in detail", -1},
	{"quiet", 'q', NULL, 0, "Only errors, no progress", -1},
	{0},
};

static const struct argp common = {.options = common_options, .parser = parse_common};

void args_parse(const struct argp *argp, int argc, char **argv, void *input)
{
	const struct argp_child children[] = {{&common, 0, NULL, -1}, {0}};
	struct argp whole = *argp;

	whole.children = children;
	argp_err_exit_status = EXIT_CODE_USAGE;
	if (argp_parse(&whole, argc, argv, 0, NULL, input) != 0) {
		log_error("cannot parse the arguments: out of memory");
		exit(EXIT_CODE_FAILED);
	}
}

error_t args_positional(struct argp_state *state, int key, char *arg, const char **slots,
			unsigned count)
{
	switch (key) {
	case ARGP_KEY_ARG:
		if (state->arg_num >= count)
			argp_error(state, "too many arguments: '%s'", arg);
		slots[state->arg_num] = arg;
		return 0;
	case ARGP_KEY_END:
		if (state->arg_num < count)
			argp_error(state, "%s",
				   state->arg_num ? "an argument is missing"
						  : "the arguments are missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}
