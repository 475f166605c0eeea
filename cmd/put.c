/* protofs put: appends files as atoms. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/log.h"
#include "cmd/progress.h"
#include "cmd/source.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/verb.h"
#include "cmd/where.h"

enum { BATCH_MAX = 1024 }; /* atoms that one commit makes durable, and whose pointers wait for it */

struct put {
	const char *where;
	uint8_t format;
	const char **files; /* all other arguments */
	int file_count;
};

static const struct argp_option put_options[] = {
	{"format", 'f', "FORMAT", 0, "raw (default), json or msgpack; JSON is checked", 0},
	{0},
};

static int parse_format(const char *name, uint8_t *ret)
{
	static const struct {
		const char *name;
		uint8_t format;
	} formats[] = {
		{"raw", ENGINE_FORMAT_RAW},
		{"json", ENGINE_FORMAT_JSON},
		{"msgpack", ENGINE_FORMAT_MSGPACK},
	};
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		if (strcmp(name, formats[i].name) == 0) {
			*ret = formats[i].format;
			return 0;
		}
	}
	return -EINVAL;
}

static error_t parse_put(int key, char *arg, struct argp_state *state)
{
	struct put *put = state->input;
	switch (key) {
	case 'f':
		if (parse_format(arg, &put->format) < 0)
			argp_error(state, "a format is raw, json or msgpack, not '%s'", arg);
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num == 0)
			put->where = arg;
		else
			put->files[put->file_count++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (put->file_count == 0)
			argp_error(state, "an argument is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int put_file(struct where *where, const char *name, uint8_t format,
		    struct engine_pointer *ret)
{
	struct reterr err = {0};
	struct source source;

	int r = source_open(name, format, &source, &err);
	if (r == 0) {
		progress_begin(name, source.size);
		r = where->ops->put(where, &source, ret, &err);
		progress_end();
		source_close(&source);
	}
	if (r < 0)
		log_error("cannot put '%s' into '%s': %s", name, where->path, store_why(&err, r));
	return r;
}

/* The pointers are printed when they can be relied upon, not before. */
static int finish_batch(struct where *where, const struct engine_pointer *pointers, int count)
{
	char text[TEXT_POINTER_LENGTH];
	struct reterr err = {0};

	int r = count ? where->ops->sync(where, &err) : 0;
	if (r < 0) {
		log_error("cannot put into '%s': what was appended is not durable: %s", where->path,
			  store_why(&err, r));
		return r;
	}
	for (int i = 0; i < count; i++)
		(void)puts(text_pointer(&pointers[i], text));
	return 0;
}

/* Stops at the first failure: the lines printed are those of the files before it. */
static int put_all(struct where *where, const struct put *put)
{
	struct engine_pointer *pointers = calloc(BATCH_MAX, sizeof(*pointers));
	int count = 0, failed = 0, r = 0;

	if (!pointers) {
		log_error("cannot put into '%s': out of memory", where->path);
		return EXIT_CODE_FAILED;
	}
	for (int i = 0; r == 0 && !failed && i < put->file_count; i++) {
		failed = put_file(where, put->files[i], put->format, &pointers[count]);
		if (!failed)
			count++;
		if (count == BATCH_MAX || failed || i + 1 == put->file_count) {
			r = finish_batch(where, pointers, count);
			count = 0;
		}
	}
	free(pointers);
	return failed || r < 0 ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
}

int verb_put(int argc, char **argv)
{
	static const struct argp argp = {
		.options = put_options,
		.parser = parse_put,
		.args_doc = "WHERE FILE...",
		.doc = "Append each FILE ('-' is standard input) as an atom to the store WHERE, and print "
		       "its pointer, <uuid>/<offset>, one a line, once it is durable.\v"
		       "It stops at the first FILE that fails.",
	};
	struct put put = {.files = calloc((size_t)argc, sizeof(*put.files))};
	struct where *where;

	if (!put.files) {
		log_error("cannot put: out of memory");
		return EXIT_CODE_FAILED;
	}
	args_parse(&argp, argc, argv, &put);
	int code = where_open_for("open", put.where, WHERE_WRITE, &where);
	if (code == EXIT_CODE_DONE) {
		code = put_all(where, &put);
		where_close(where);
	}
	free(put.files);
	return code;
}
