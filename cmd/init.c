/* protofs init: makes an empty store. */
#include <errno.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/log.h"
#include "cmd/settings.h"
#include "cmd/settings_args.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/verb.h"
#include "engine/engine.h"

struct init {
	const char *store;
	struct engine_format_options format;
	struct settings settings;
};

static error_t parse_init(int key, char *arg, struct argp_state *state)
{
	struct init *init = state->input;
	uint64_t number;

	switch (key) {
	case 'b':
		if (text_parse_size(arg, &number) < 0 || number < ENGINE_BLOCK_SIZE_MIN ||
		    number > ENGINE_BLOCK_SIZE_MAX || number % ENGINE_BLOCK_SIZE_MIN != 0)
			argp_error(state,
				   "a block size is a multiple of 64K, from 64K to 64M, not '%s'",
				   arg);
		init->format.block_size = number;
		return 0;
	case 'n':
		if (text_parse_u64(arg, &number) < 0 || number == 0 || number > UINT32_MAX)
			argp_error(state, "a node is a number from 1 on, not '%s'", arg);
		init->format.node = (uint32_t)number;
		return 0;
	default:
		if (settings_flag(state, key, arg, &init->settings) == 0)
			return 0;
		return args_positional(state, key, arg, &init->store, 1);
	}
}

/* What is wrong together is wrong use, before anything is made. */
static int check_settings(const struct init *init, struct reterr *err)
{
	if (init->settings.cloud && strcmp(init->settings.cloud, "mem:") == 0)
		return reterr_set(
			err, -EINVAL,
			"nothing keeps what is uploaded to mem:; only a mem: store can have "
			"such a cloud, at its mount");
	return settings_check(&init->settings, err);
}

static int make(const struct init *init, struct reterr *err)
{
	int r = store_make(init->store, &init->format, err);
	if (r == 0 && settings_any(&init->settings))
		r = settings_save(init->store, &init->settings, err);
	return r;
}

static int run(const struct init *init)
{
	struct reterr err = {0};

	if (store_is_memory(init->store)) {
		log_error(
			"cannot make the store 'mem:': it begins empty at each mount, without init");
		return EXIT_CODE_USAGE;
	}
	int r = check_settings(init, &err);
	if (r == 0)
		r = make(init, &err);
	if (r < 0) {
		log_error("cannot make a store in '%s': %s", init->store, store_why(&err, r));
		return r == -EINVAL ? EXIT_CODE_USAGE : EXIT_CODE_FAILED;
	}
	log_info("'%s' is a store now; `protofs mount` mounts it", init->store);
	return EXIT_CODE_DONE;
}

int verb_init(int argc, char **argv)
{
	static const struct argp_option own[] = {
		{"block-size", 'b', "SIZE", 0,
		 "The unit of upload; a part of a segment has 64 of them (default 5M; a multiple of "
		 "64K, up to 64M)",
		 0},
		{"node", 'n', "N", 0, "Number of this node, from 1 on (default 1)", 0},
	};
	static struct settings_flags flags;
	const struct argp argp = {
		.options = settings_flags(&flags, own, ARRAY_SIZE(own)),
		.parser = parse_init,
		.args_doc = "STORE",
		.doc = "Make an empty store in the directory STORE, which must be empty or is made.\v"
		       "The block size is fixed from then on. What is said of the cloud is remembered in "
		       "STORE/cloud.conf; a mount's options count before it.",
	};
	struct init init = {0};

	args_parse(&argp, argc, argv, &init);
	int code = run(&init);
	settings_done(&init.settings);
	return code;
}
