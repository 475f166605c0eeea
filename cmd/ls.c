/* protofs ls: segments, atoms of a segment, roots. */
#include <string.h>

#include "cmd/args.h"
#include "cmd/log.h"
#include "cmd/ls_cloud.h"
#include "cmd/print.h"
#include "cmd/store.h"
#include "cmd/verb.h"
#include "cmd/where.h"

enum listed { LIST_SEGMENTS, LIST_ATOMS, LIST_ROOTS, LIST_CLOUD };

struct ls {
	const char *where;
	enum listed what;
	struct uuid segment;
	bool segment_set;
	struct print print;
};

static const struct argp_option ls_options[] = {
	{"json", 'j', NULL, 0, "A JSON array, one object a line", 0},
	{0},
};

static void take_word(struct argp_state *state, const char *word)
{
	struct ls *ls = state->input;
	if (strcmp(word, "segments") == 0)
		ls->what = LIST_SEGMENTS;
	else if (strcmp(word, "atoms") == 0)
		ls->what = LIST_ATOMS;
	else if (strcmp(word, "roots") == 0)
		ls->what = LIST_ROOTS;
	else if (strcmp(word, "cloud") == 0)
		ls->what = LIST_CLOUD;
	else
		argp_error(state, "segments, atoms, roots or cloud, not '%s'", word);
}

static error_t parse_ls(int key, char *arg, struct argp_state *state)
{
	struct ls *ls = state->input;
	switch (key) {
	case 'j':
		ls->print.json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num == 0) {
			ls->where = arg;
		} else if (state->arg_num == 1) {
			take_word(state, arg);
		} else if (state->arg_num == 2 && ls->what == LIST_ATOMS) {
			if (uuid_parse(arg, &ls->segment) < 0)
				argp_error(state,
					   "'%s' is no segment: a UUID in lower case with dashes",
					   arg);
			ls->segment_set = true;
		} else {
			argp_error(state, "too many arguments: '%s'", arg);
		}
		return 0;
	case ARGP_KEY_END:
		if (!ls->where || (ls->what == LIST_ATOMS && !ls->segment_set))
			argp_error(state, "an argument is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int on_segment(void *arg, const struct where_segment *segment)
{
	struct ls *ls = arg;
	print_segment(&ls->print, segment);
	return 0;
}

static int on_atom(void *arg, uint64_t offset, uint64_t size)
{
	struct ls *ls = arg;
	print_atom(&ls->print, &ls->segment, offset, size);
	return 0;
}

static int list_roots(struct where *where, struct print *print, struct reterr *err)
{
	struct engine_root root;
	uint64_t first, last;

	int r = where->ops->roots(where, &first, &last, err);
	for (uint64_t seq = first; r == 0 && last != 0 && seq <= last; seq++) {
		r = where->ops->root(where, seq, &root, err);
		if (r == 0)
			print_root(print, &root);
	}
	return r;
}

static int list(struct ls *ls, struct where *where, struct reterr *err)
{
	switch (ls->what) {
	case LIST_SEGMENTS:
		return where->ops->segments(where, on_segment, ls, err);
	case LIST_ATOMS:
		return where->ops->atoms(where, &ls->segment, on_atom, ls, err);
	case LIST_ROOTS:
		return list_roots(where, &ls->print, err);
	case LIST_CLOUD:
		break;
	}
	return 0;
}

int verb_ls(int argc, char **argv)
{
	static const struct argp argp = {
		.options = ls_options,
		.parser = parse_ls,
		.args_doc = "WHERE [segments | atoms SEGMENT | roots | cloud]",
		.doc = "List the segments of a store (UUID, state, length, durable bytes, last change), "
		       "the atoms of one (pointer, size), the roots that are kept, or the objects in its "
		       "cloud (size, last change, mark, whether it is in the cache, key).\v"
		       "`cloud` asks the cloud for each object: a request that costs money.",
	};
	struct ls ls = {0};
	struct reterr err = {0};
	struct where *where;

	args_parse(&argp, argc, argv, &ls);
	if (ls.what == LIST_CLOUD)
		return ls_cloud(ls.where, &ls.print);
	int code = where_open_for("open", ls.where, WHERE_READ, &where);
	if (code != EXIT_CODE_DONE)
		return code;
	print_begin(&ls.print);
	int r = list(&ls, where, &err);
	print_end(&ls.print);
	if (r < 0)
		log_error("cannot list '%s': %s", where->path, store_why(&err, r));
	where_close(where);
	return r < 0 ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
}
