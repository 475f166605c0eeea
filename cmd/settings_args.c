#include "cmd/settings_args.h"

#include <string.h>

#include "base/attr.h"
#include "base/invariant.h"

const struct argp_option *settings_flags(struct settings_flags *flags,
					 const struct argp_option *own, size_t count)
{
	return settings_flags_but(flags, own, count, "");
}

const struct argp_option *settings_flags_but(struct settings_flags *flags,
					     const struct argp_option *own, size_t count,
					     const char *but)
{
	const char *name, *argument, *help;
	size_t n = 0;

	invariant(count <= SETTINGS_OWN_MAX);
	for (; n < count; n++)
		flags->argp[n] = own[n];
	for (size_t i = 0; settings_describe(i, &name, &argument, &help); i++) {
		invariant(i < SETTINGS_FLAGS_MAX);
		if (strcmp(name, but) == 0)
			continue;
		char *dashed = flags->names[i];
		(void)strncpy(dashed, name, SETTINGS_FLAG_SIZE - 1);
		for (char *c = dashed; *c; c++)
			if (*c == '_')
				*c = '-';
		int key = SETTINGS_FLAG_FIRST + (int)i;
		flags->argp[n++] = (struct argp_option){dashed, key, argument, 0, help, 1};
		if (strcmp(dashed, name) != 0)
			flags->argp[n++] = (struct argp_option){
				name, 0, NULL, OPTION_ALIAS | OPTION_HIDDEN, NULL, 1};
	}
	flags->argp[n] = (struct argp_option){0};
	return flags->argp;
}

error_t settings_flag(struct argp_state *state, int key, const char *value,
		      struct settings *settings)
{
	const char *name, *argument, *help;
	struct reterr err = {0};

	if (key < SETTINGS_FLAG_FIRST ||
	    !settings_describe((size_t)(key - SETTINGS_FLAG_FIRST), &name, &argument, &help))
		return ARGP_ERR_UNKNOWN;
	if (settings_set(settings, name, value, &err) < 0)
		argp_error(state, "%s", err.text);
	return 0;
}
