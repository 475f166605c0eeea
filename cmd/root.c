/* protofs root: shows, lists and publishes roots. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/log.h"
#include "cmd/print.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/verb.h"
#include "cmd/where.h"

enum action { ACTION_NONE, ACTION_SHOW, ACTION_LOG, ACTION_SET, ACTION_ROLLBACK };

struct root_verb {
	const char *where;
	enum action action;
	const char *argument; /* of set and rollback; of show, perhaps */
	struct engine_pointer pointer;
	uint64_t seq;
	uint64_t count;    /* of log */
	uint64_t expected; /* of set and rollback */
	bool json;
};

static const struct argp_option root_options[] = {
	{"json", 'j', NULL, 0, "Print JSON", 0},
	{"count", 'n', "N", 0, "log: the newest N only", 0},
	{"expect", 'e', "SEQ", 0,
	 "set, rollback: only if the newest root still is SEQ (0: there is none yet)", 0},
	{0},
};

static enum action action_of(const char *word)
{
	static const char *const words[] = {
		[ACTION_NONE] = "",   [ACTION_SHOW] = "show",         [ACTION_LOG] = "log",
		[ACTION_SET] = "set", [ACTION_ROLLBACK] = "rollback",
	};
	for (size_t i = ACTION_SHOW; i < ARRAY_SIZE(words); i++)
		if (strcmp(word, words[i]) == 0)
			return (enum action)i;
	return ACTION_NONE;
}

static void take_argument(struct argp_state *state, char *arg)
{
	struct root_verb *root = state->input;

	root->argument = arg;
	switch (root->action) {
	case ACTION_SET:
		if (text_parse_pointer(arg, &root->pointer) < 0)
			argp_error(
				state,
				"'%s' is no pointer: <uuid>/<offset>, the UUID in lower case with "
				"dashes",
				arg);
		return;
	case ACTION_SHOW:
	case ACTION_ROLLBACK:
		if (text_parse_u64(arg, &root->seq) < 0 || root->seq == 0)
			argp_error(state, "'%s' is no number of a root: they begin with 1", arg);
		return;
	case ACTION_NONE:
	case ACTION_LOG:
		argp_error(state, "too many arguments: '%s'", arg);
		return;
	}
}

static error_t parse_root(int key, char *arg, struct argp_state *state)
{
	struct root_verb *root = state->input;
	switch (key) {
	case 'j':
		root->json = true;
		return 0;
	case 'n':
		if (text_parse_u64(arg, &root->count) < 0 || root->count == 0)
			argp_error(state, "'%s' is no number from 1 on", arg);
		return 0;
	case 'e':
		if (text_parse_u64(arg, &root->expected) < 0 ||
		    root->expected == ENGINE_ROOT_EXPECT_ANY)
			argp_error(state, "'%s' is no number of a root", arg);
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num == 0)
			root->where = arg;
		else if (state->arg_num == 1 && (root->action = action_of(arg)) == ACTION_NONE)
			argp_error(state, "show, log, set or rollback, not '%s'", arg);
		else if (state->arg_num == 2)
			take_argument(state, arg);
		else if (state->arg_num > 2)
			argp_error(state, "too many arguments: '%s'", arg);
		return 0;
	case ARGP_KEY_END:
		if (!root->where || root->action == ACTION_NONE ||
		    (!root->argument && root->action >= ACTION_SET))
			argp_error(state, "an argument is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int show(struct where *where, const struct root_verb *verb, struct reterr *err)
{
	struct engine_root root;
	int r = verb->argument ? where->ops->root(where, verb->seq, &root, err)
			       : where_root_newest(where, &root, err);
	if (r == 0 && root.seq == 0)
		return reterr_set(err, -ENOENT, "no root has been published yet");
	if (r == 0)
		print_root_alone(&root, verb->json);
	return r;
}

/* The newest first: that is the one looked for. */
static int list(struct where *where, const struct root_verb *verb, struct reterr *err)
{
	struct print print = {.json = verb->json};
	struct engine_root root;
	uint64_t first, last;

	int r = where->ops->roots(where, &first, &last, err);
	if (r < 0)
		return r;
	print_begin(&print);
	for (uint64_t i = 0; r == 0 && last != 0 && i <= last - first && i < verb->count; i++) {
		r = where->ops->root(where, last - i, &root, err);
		if (r == 0)
			print_root(&print, &root);
		else if (r == -ENOENT)
			r = 0; /* pruned meanwhile, or written off by a repair */
	}
	print_end(&print);
	return r;
}

static int publish(struct where *where, struct root_verb *verb, struct reterr *err)
{
	struct engine_root wanted = {.pointer = verb->pointer}, root;
	int r = 0;

	if (verb->action == ACTION_ROLLBACK)
		r = where->ops->root(where, verb->seq, &wanted, err);
	if (r == 0)
		r = where->ops->publish(where, verb->expected, &wanted, &root, err);
	if (r == 0)
		print_root_alone(&root, verb->json);
	return r;
}

int verb_root(int argc, char **argv)
{
	static const struct argp argp = {
		.options = root_options,
		.parser = parse_root,
		.args_doc = "WHERE show [SEQ]\nWHERE log\nWHERE set POINTER\nWHERE rollback SEQ",
		.doc = "Show the newest root, or root SEQ; list the roots that are kept, the newest "
		       "first; publish POINTER as the new root; publish the pointer of the old root SEQ "
		       "again.\v"
		       "Publishing makes everything durable that was written before, and prints the new "
		       "root.",
	};
	struct root_verb verb = {.count = UINT64_MAX, .expected = ENGINE_ROOT_EXPECT_ANY};
	struct reterr err = {0};
	struct where *where;

	args_parse(&argp, argc, argv, &verb);
	bool reads = verb.action == ACTION_SHOW || verb.action == ACTION_LOG;
	int code = where_open_for("open", verb.where, reads ? WHERE_READ : WHERE_WRITE, &where);
	if (code != EXIT_CODE_DONE)
		return code;
	int r;
	if (verb.action == ACTION_SHOW)
		r = show(where, &verb, &err);
	else if (verb.action == ACTION_LOG)
		r = list(where, &verb, &err);
	else
		r = publish(where, &verb, &err);
	if (r < 0)
		log_error("cannot %s of '%s': %s", reads ? "show the root" : "set the root",
			  where->path, store_why(&err, r));
	where_close(where);
	return r < 0 ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
}
