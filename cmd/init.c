/* protofs init: makes an empty store. */
#include <string.h>

#include "cmd/args.h"
#include "cmd/log.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/verb.h"
#include "engine/engine.h"

enum { OPTION_DURABILITY = 256, OPTION_CLOUD };

struct init {
	const char *store;
	struct engine_format_options format;
};

static const struct argp_option init_options[] = {
	{"block-size", 'b', "SIZE", 0,
	 "The unit of upload; a part of a segment has 64 of them (default 5M; a multiple of 64K, up to "
	 "64M)",
	 0},
	{"node", 'n', "N", 0, "Number of this node, from 1 on (default 1)", 0},
	{"durability", OPTION_DURABILITY, "LEVEL", 0, "local: bytes are durable on this disk", 0},
	{"cloud", OPTION_CLOUD, "URL", OPTION_HIDDEN, "", 0},
	{0},
};

static void set_durability(struct argp_state *state, const char *level)
{
	if (strcmp(level, "quorum") == 0)
		argp_error(state,
			   "--durability=quorum needs peers, and a new store is in no cluster");
	if (strcmp(level, "cloud") == 0)
		argp_error(state,
			   "--durability=cloud needs a bucket; this protofs keeps its stores on "
			   "local disks only");
	if (strcmp(level, "local") != 0)
		argp_error(state, "durability is local, quorum or cloud, not '%s'", level);
}

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
	case OPTION_DURABILITY:
		set_durability(state, arg);
		return 0;
	case OPTION_CLOUD:
		argp_error(state, "--cloud: this protofs keeps its stores on local disks only");
		return 0;
	default:
		return args_positional(state, key, arg, &init->store, 1);
	}
}

int verb_init(int argc, char **argv)
{
	static const struct argp argp = {
		.options = init_options,
		.parser = parse_init,
		.args_doc = "STORE",
		.doc = "Make an empty store in the directory STORE, which must be empty or is made.\v"
		       "The block size is fixed from then on.",
	};
	struct init init = {0};
	struct reterr err = {0};

	args_parse(&argp, argc, argv, &init);
	if (store_is_memory(init.store)) {
		log_error(
			"cannot make the store 'mem:': it begins empty at each mount, without init");
		return EXIT_CODE_USAGE;
	}
	int r = store_make(init.store, &init.format, &err);
	if (r < 0) {
		log_error("cannot make a store in '%s': %s", init.store, store_why(&err, r));
		return EXIT_CODE_FAILED;
	}
	log_info("'%s' is a store now; `protofs mount` mounts it", init.store);
	return EXIT_CODE_DONE;
}
