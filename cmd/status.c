/* protofs status: the state of a store, once or again and again. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "cmd/args.h"
#include "cmd/log.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/verb.h"
#include "cmd/where.h"

enum { TEXT_MAX = 1 << 20, INTERVAL_MS = 1000 };

struct status {
	const char *where;
	bool json;
	bool watch;
	uint64_t count; /* snapshots under --watch */
};

static const struct argp_option status_options[] = {
	{"json", 'j', NULL, 0, "Print JSON", 0},
	{"watch", 'w', NULL, 0, "Again each second, until interrupted", 0},
	{"count", 'n', "N", 0, "With --watch: N times", 0},
	{0},
};

static error_t parse_status(int key, char *arg, struct argp_state *state)
{
	struct status *status = state->input;
	switch (key) {
	case 'j':
		status->json = true;
		return 0;
	case 'w':
		status->watch = true;
		return 0;
	case 'n':
		if (text_parse_u64(arg, &status->count) < 0 || status->count == 0)
			argp_error(state, "'%s' is no number from 1 on", arg);
		return 0;
	default:
		return args_positional(state, key, arg, &status->where, 1);
	}
}

/*
 * WHERE is opened for each snapshot: a store that gets mounted meanwhile is then reached by its
 * mount.
 */
static int print_snapshot(const struct status *status)
{
	CLEANUP(buf_done) struct buf text = {.max = TEXT_MAX};
	struct reterr err = {0};
	struct where *where;

	int code = where_open_for("open", status->where, WHERE_READ, &where);
	if (code != EXIT_CODE_DONE)
		return code;
	int r = where->ops->status(where, status->json, &text, &err);
	where_close(where);
	if (r < 0) {
		log_error("cannot print the state of '%s': %s", status->where, store_why(&err, r));
		return EXIT_CODE_FAILED;
	}
	if (status->watch && isatty(STDOUT_FILENO))
		(void)fputs("\033[H\033[2J", stdout);
	(void)fwrite(text.data, 1, text.size, stdout);
	if (text.size && text.data[text.size - 1] != '\n')
		(void)putchar('\n');
	(void)fflush(stdout);
	return EXIT_CODE_DONE;
}

int verb_status(int argc, char **argv)
{
	static const struct argp argp = {
		.options = status_options,
		.parser = parse_status,
		.args_doc = "WHERE",
		.doc = "Print the state of a store: sizes, roots, commits, what is not durable yet, and "
		       "what is wrong.",
	};
	const struct timespec pause = {.tv_sec = INTERVAL_MS / 1000};
	struct status status = {.count = UINT64_MAX};

	args_parse(&argp, argc, argv, &status);
	int code = print_snapshot(&status);
	for (uint64_t i = 1; status.watch && code == EXIT_CODE_DONE && i < status.count; i++) {
		(void)nanosleep(&pause, NULL);
		code = print_snapshot(&status);
		if (ferror(stdout))
			break;
	}
	return code;
}
