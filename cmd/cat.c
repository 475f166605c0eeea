/* protofs cat: prints an atom. */
#include <stdio.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/log.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/verb.h"
#include "cmd/where.h"

struct cat {
	const char *slots[2]; /* WHERE POINTER */
	enum where_form form;
};

static const struct argp_option cat_options[] = {
	{"json", 'j', NULL, 0, "As JSON: JSON and MessagePack pretty, other bytes as base64", 0},
	{"frame", 'F', NULL, 0, "With the frame's header, byte for byte as it is stored", 0},
	{0},
};

static void set_form(struct argp_state *state, enum where_form form)
{
	struct cat *cat = state->input;
	if (cat->form != WHERE_PAYLOAD && cat->form != form)
		argp_error(state, "either --json or --frame");
	cat->form = form;
}

static error_t parse_cat(int key, char *arg, struct argp_state *state)
{
	struct cat *cat = state->input;
	switch (key) {
	case 'j':
		set_form(state, WHERE_JSON);
		return 0;
	case 'F':
		set_form(state, WHERE_FRAME);
		return 0;
	default:
		return args_positional(state, key, arg, cat->slots, ARRAY_SIZE(cat->slots));
	}
}

int verb_cat(int argc, char **argv)
{
	static const struct argp argp = {
		.options = cat_options,
		.parser = parse_cat,
		.args_doc = "WHERE POINTER",
		.doc = "Print the atom that POINTER, <uuid>/<offset>, points to.",
	};
	struct engine_pointer pointer;
	struct reterr err = {0};
	struct cat cat = {0};
	struct where *where;

	args_parse(&argp, argc, argv, &cat);
	if (text_parse_pointer(cat.slots[1], &pointer) < 0) {
		log_error("'%s' is no pointer: <uuid>/<offset>, the UUID in lower case with dashes",
			  cat.slots[1]);
		return EXIT_CODE_USAGE;
	}
	int code = where_open_for("open", cat.slots[0], WHERE_READ, &where);
	if (code != EXIT_CODE_DONE)
		return code;
	int r = where->ops->cat(where, &pointer, cat.form, STDOUT_FILENO, &err);
	if (r < 0)
		log_error("cannot print atom %s of '%s': %s", cat.slots[1], where->path,
			  store_why(&err, r));
	where_close(where);
	return r < 0 ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
}
