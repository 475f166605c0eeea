/*
 * protofs restore: makes a store of a backup or of a bucket's directory. It is built beside its
 * place, under STORE.partial, and takes its name when it is whole, so that no half of a store can be
 * mistaken for one.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/io.h"
#include "cmd/log.h"
#include "cmd/new_place.h"
#include "cmd/progress.h"
#include "cmd/restore_from.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/verb.h"
#include "engine/engine.h"

struct restore {
	const char *slots[2]; /* DIR STORE */
	bool accept;
	bool json;
	struct restore_from *from;
	struct new_place place;
	struct engine *engine;
	uint64_t total, segments, bytes, unverified;
	struct reterr *err; /* where the listing's callback leaves its own */
};

static const struct argp_option restore_options[] = {
	{"accept", 'a', NULL, 0,
	 "Take segments also without a .sum, or shorter than it: nobody can tell whether they are whole",
	 0},
	{"json", 'j', NULL, 0, "Print the summary as JSON", 0},
	{0},
};

static error_t parse_restore(int key, char *arg, struct argp_state *state)
{
	struct restore *restore = state->input;
	switch (key) {
	case 'a':
		restore->accept = true;
		return 0;
	case 'j':
		restore->json = true;
		return 0;
	default:
		return args_positional(state, key, arg, restore->slots, ARRAY_SIZE(restore->slots));
	}
}

/* ---- Segments ------------------------------------------------------------------------------- */

static int on_segment(void *arg, const struct uuid *segment, uint64_t size)
{
	struct restore *restore = arg;
	char uuid[UUID_TEXT_LENGTH + 1];
	struct reterr cause = {0};

	uint64_t bytes = 0, unverified = 0;

	(void)size;
	int r = restore->from->ops->import(restore->from, restore->engine, segment, &bytes,
					   &unverified, &cause);
	if (r == 0 && bytes > 0) {
		restore->segments++;
		restore->bytes += bytes;
		restore->unverified += unverified;
	}
	return r < 0 ? reterr_set(restore->err, r, "segment %s: %.400s", uuid_format(segment, uuid),
				  store_why(&cause, r))
		     : 0;
}

static int add_size(void *arg, const struct uuid *segment, uint64_t size)
{
	struct restore *restore = arg;
	(void)segment;
	restore->total += size;
	return 0;
}

/* ---- All of it ------------------------------------------------------------------------------ */

static int set_root(struct restore *restore, const struct engine_root *root, struct reterr *err)
{
	char pointer[TEXT_POINTER_LENGTH];
	struct reterr cause = {0};

	int r = engine_root_publish(restore->engine, ENGINE_ROOT_EXPECT_ANY, &root->pointer,
				    root->payload, root->payload_size, NULL, &cause);
	if (r > 0 || r == -ENODATA)
		return reterr_set(err, -ENODATA,
				  "its root points at %s, and the copy has no whole atom there",
				  text_pointer(&root->pointer, pointer));
	return r < 0 ? reterr_set(err, r, "its root: %s", store_why(&cause, r)) : 0;
}

static int fill(struct restore *restore, bool has_root, const struct engine_root *root,
		struct reterr *err)
{
	const struct engine_options options = {.strict_root = true};
	struct store store;

	int r = store_make(restore->place.partial, &(struct engine_format_options){0}, err);
	if (r == 0)
		r = store_disk(restore->place.partial, 0, err, &store);
	if (r < 0)
		return r;
	r = store_open(&store, &options, err);
	if (r < 0) {
		store_abandon(&store);
		return r;
	}
	restore->engine = store.engine;
	restore->err = err;
	r = restore->from->ops->list(restore->from, add_size, restore, err);
	progress_begin("restoring", restore->total);
	if (r == 0)
		r = restore->from->ops->list(restore->from, on_segment, restore, err);
	progress_end();
	if (r == 0 && restore->segments == 0)
		r = reterr_set(err, -ENOENT, "it holds no segment");
	if (r == 0 && has_root)
		r = set_root(restore, root, err);
	struct reterr cause = {0};
	int closed = store_close(&store, &cause);
	if (r == 0 && closed < 0)
		r = reterr_set(err, closed, "%s", store_why(&cause, closed));
	return r;
}

static void print_summary(const struct restore *restore, bool has_root)
{
	char bytes[TEXT_SIZE_LENGTH];

	if (restore->json) {
		(void)printf("{\"segments\": %" PRIu64 ", \"bytes\": %" PRIu64
			     ", \"unverified\": %" PRIu64 ", \"root\": %s}\n",
			     restore->segments, restore->bytes, restore->unverified,
			     has_root ? "true" : "false");
		return;
	}
	(void)printf("%" PRIu64 " segments, %s%s\n", restore->segments,
		     text_size(restore->bytes, bytes), has_root ? ", and their root" : "");
	if (restore->unverified)
		(void)printf("%" PRIu64 " bytes lie beyond the sums of the copy: nobody can tell "
			     "whether they are whole\n",
			     restore->unverified);
}

static int restore_all(struct restore *restore, struct reterr *err)
{
	struct engine_root root;
	int has_root = restore->from->ops->root(restore->from, &root, err);

	if (has_root < 0 && has_root != -ENOENT)
		return has_root;
	int r = new_place_check(restore->slots[1], &restore->place, err);
	if (r < 0)
		return r;
	r = fill(restore, has_root == 0, &root, err);
	if (r < 0) {
		log_warning("'%s' holds what was restored so far: remove it",
			    restore->place.partial);
		return r;
	}
	r = new_place_take(&restore->place, err);
	if (r < 0)
		return r;
	if (has_root < 0)
		log_warning(
			"'%s' holds no root, so '%s' has none yet: `protofs root ... set` publishes "
			"one",
			restore->slots[0], restore->slots[1]);
	print_summary(restore, has_root == 0);
	return 0;
}

int verb_restore(int argc, char **argv)
{
	static const struct argp argp = {
		.options = restore_options,
		.parser = parse_restore,
		.args_doc = "DIR STORE",
		.doc = "Make the store STORE of the backup in DIR, of any copy of the files of a mount, or "
		       "of a bucket's directory, and verify all of it. STORE must not be there yet, or be "
		       "an empty directory.",
	};
	struct restore restore = {0};
	struct reterr err = {0};

	args_parse(&argp, argc, argv, &restore);
	const char *dir = restore.slots[0];
	int r = restore_is_bucket(dir)
			? restore_from_bucket(dir, &err, &restore.from)
			: restore_from_backup(dir, restore.accept, &err, &restore.from);
	if (r == 0) {
		r = restore_all(&restore, &err);
		restore.from->ops->close(restore.from);
	}
	if (r == 0)
		return EXIT_CODE_DONE;
	log_error("cannot restore '%s' to '%s': %s", restore.slots[0], restore.slots[1],
		  store_why(&err, r));
	return EXIT_CODE_FAILED;
}
