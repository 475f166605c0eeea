/* protofs prune: drops old roots. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <protofs/clock.h>

#include "cmd/args.h"
#include "cmd/log.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/verb.h"
#include "cmd/where.h"

struct prune {
	const char *where;
	const char *keep;    /* as given */
	uint64_t keep_count; /* 0: by age */
	uint64_t keep_age_ms;
	bool yes;
	bool json;
};

static const struct argp_option prune_options[] = {
	{"keep-roots", 'k', "N|AGE", 0,
	 "Keep the newest N roots, or those of the last AGE: 30d, 12h, 2w", 0},
	{"yes", 'y', NULL, 0, "Do it; without it, only say what would be dropped", 0},
	{"json", 'j', NULL, 0, "Print JSON", 0},
	{0},
};

static error_t parse_prune(int key, char *arg, struct argp_state *state)
{
	struct prune *prune = state->input;
	switch (key) {
	case 'k':
		prune->keep = arg;
		if (text_parse_u64(arg, &prune->keep_count) == 0) {
			if (prune->keep_count == 0)
				argp_error(state,
					   "the newest root is always kept: N is 1 at least");
		} else if (text_parse_duration(arg, 0, &prune->keep_age_ms) < 0) {
			argp_error(state, "'%s' is no number, and no age such as 30d", arg);
		}
		return 0;
	case 'y':
		prune->yes = true;
		return 0;
	case 'j':
		prune->json = true;
		return 0;
	case ARGP_KEY_END:
		if (!prune->keep)
			argp_error(state, "--keep-roots=N|AGE is missing");
		return args_positional(state, key, arg, &prune->where, 1);
	default:
		return args_positional(state, key, arg, &prune->where, 1);
	}
}

/*
 * The oldest root that was published at or after TIME_NS, else the newest one: times never go
 * back.
 */
static int first_since(struct where *where, uint64_t time_ns, uint64_t first, uint64_t last,
		       uint64_t *ret, struct reterr *err)
{
	while (first < last) {
		uint64_t middle = first + (last - first) / 2;
		struct engine_root root;
		int r = where->ops->root(where, middle, &root, err);
		if (r < 0)
			return r;
		if (root.time_ns >= time_ns)
			last = middle;
		else
			first = middle + 1;
	}
	*ret = first;
	return 0;
}

static int keep_from(struct where *where, const struct prune *prune, uint64_t *ret,
		     struct reterr *err)
{
	const struct clock *clock = clock_system();
	uint64_t now_ns = clock->wall_ns(clock);
	uint64_t first, last;

	int r = where->ops->roots(where, &first, &last, err);
	if (r < 0)
		return r;
	if (prune->keep_count) {
		*ret = prune->keep_count > last - first ? first : last - prune->keep_count + 1;
		return 0;
	}
	uint64_t age_ns = prune->keep_age_ms < now_ns / 1000000 ? prune->keep_age_ms * 1000000
								: now_ns;
	return first_since(where, now_ns - age_ns, first, last, ret, err);
}

static int drop(struct where *where, const struct prune *prune, struct reterr *err)
{
	uint64_t first, last, from, dropped = 0;

	int r = where->ops->roots(where, &first, &last, err);
	if (r == 0)
		r = keep_from(where, prune, &from, err);
	if (r == 0)
		r = where->ops->prune(where, from, !prune->yes, &dropped, err);
	if (r < 0)
		return r;
	uint64_t kept = last ? last - first + 1 - dropped : 0;
	if (prune->json)
		(void)printf("{\"dropped\": %" PRIu64 ", \"kept\": %" PRIu64 ", \"done\": %s}\n",
			     dropped, kept, prune->yes ? "true" : "false");
	else
		(void)printf("%" PRIu64 " roots %s, %" PRIu64 " kept\n", dropped,
			     prune->yes ? "dropped" : "would be dropped", kept);
	if (!prune->yes && dropped)
		log_info("--yes drops them");
	return 0;
}

int verb_prune(int argc, char **argv)
{
	static const struct argp argp = {
		.options = prune_options,
		.parser = parse_prune,
		.args_doc = "WHERE --keep-roots=N|AGE",
		.doc = "Drop old roots, so that the store can no longer be read as it was at them. The "
		       "newest root is always kept.\v"
		       "Without --yes nothing is changed.",
	};
	struct prune prune = {0};
	struct reterr err = {0};
	struct where *where;

	args_parse(&argp, argc, argv, &prune);
	int code =
		where_open_for("open", prune.where, prune.yes ? WHERE_WRITE : WHERE_READ, &where);
	if (code != EXIT_CODE_DONE)
		return code;
	int r = drop(where, &prune, &err);
	if (r < 0)
		log_error("cannot prune '%s': %s", where->path, store_why(&err, r));
	where_close(where);
	return r < 0 ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
}
