/* The settings of a cloud as flags of verbs other than mount: --cloud URL, --upload-interval 5s. */
#ifndef PROTOFS_CMD_SETTINGS_ARGS_H
#define PROTOFS_CMD_SETTINGS_ARGS_H

#include <argp.h>
#include <stddef.h>

#include "cmd/settings.h"

enum {
	SETTINGS_FLAG_FIRST = 512, /* + the setting's number: keys of argp */
	SETTINGS_FLAGS_MAX = 32,
	SETTINGS_FLAG_SIZE = 32,
	SETTINGS_OWN_MAX = 8,
};

struct settings_flags {
	char names[SETTINGS_FLAGS_MAX][SETTINGS_FLAG_SIZE];
	struct argp_option argp[2 * SETTINGS_FLAGS_MAX + SETTINGS_OWN_MAX + 1];
};

/* A table for argp: the COUNT options OWN, then the settings. It lies in FLAGS. */
const struct argp_option *settings_flags(struct settings_flags *flags,
					 const struct argp_option *own, size_t count);
/* The same without the setting BUT, which the verb takes in another way. */
const struct argp_option *settings_flags_but(struct settings_flags *flags,
					     const struct argp_option *own, size_t count,
					     const char *but);

/* For the parser: 0, or ARGP_ERR_UNKNOWN if KEY is none of these. Wrong values end in argp_error. */
error_t settings_flag(struct argp_state *state, int key, const char *value,
		      struct settings *settings);

#endif
