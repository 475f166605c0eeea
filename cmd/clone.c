/*
 * protofs clone: makes a store of what a bucket holds. No byte of a segment is fetched: the store
 * knows the segments, their lengths and the root, and reads the rest when somebody asks for it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <protofs/block_store.h>

#include "cloud/cloud.h"
#include "cmd/args.h"
#include "cmd/clone_fetch.h"
#include "cmd/io.h"
#include "cmd/log.h"
#include "cmd/new_place.h"
#include "cmd/settings.h"
#include "cmd/settings_args.h"
#include "cmd/store.h"
#include "cmd/store_cloud.h"
#include "cmd/text.h"
#include "cmd/verb.h"
#include "engine/engine.h"
#include "fs/utc.h"

enum { OPTION_FULL = 256, OPTION_TAKE_OVER };

struct clone {
	const char *slots[2]; /* URL STORE */
	bool full;
	bool take_over;
	bool json;
	struct engine_format_options format;
	struct settings settings;
	struct new_place place;
	struct restore_point point;
	uint64_t bytes; /* of all segments */
};

static error_t parse_clone(int key, char *arg, struct argp_state *state)
{
	struct clone *clone = state->input;
	uint64_t number;
	struct reterr err = {0};

	switch (key) {
	case OPTION_FULL:
		clone->full = true;
		return 0;
	case OPTION_TAKE_OVER:
		clone->take_over = true;
		return 0;
	case 'n':
		if (text_parse_u64(arg, &number) < 0 || number == 0 || number > UINT32_MAX)
			argp_error(state, "a node is a number from 1 on, not '%s'", arg);
		clone->format.node = (uint32_t)number;
		return 0;
	case 'j':
		clone->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num == 0 && settings_set(&clone->settings, "cloud", arg, &err) < 0)
			argp_error(state, "%s", err.text);
		break;
	default:
		if (settings_flag(state, key, arg, &clone->settings) == 0)
			return 0;
		break;
	}
	return args_positional(state, key, arg, clone->slots, ARRAY_SIZE(clone->slots));
}

/* ---- Making it ------------------------------------------------------------------------------ */

static int inherit(struct clone *clone, struct engine *e, const struct restore_segment *segment,
		   struct reterr *err)
{
	char uuid[UUID_TEXT_LENGTH + 1];
	struct reterr cause = {0};

	if (segment->length == 0)
		return 0;
	(void)uuid_format(&segment->uuid, uuid);
	if (segment->class > ENGINE_CLASS_RESTORED)
		return reterr_set(err, -EBADMSG, "segment %s is of the unknown class %u", uuid,
				  segment->class);
	const struct engine_inherited inherited = {
		.uuid = segment->uuid,
		.class = (enum engine_class)segment->class,
		.length = segment->length,
		.node = clone->point.root.node ? clone->point.root.node : 1,
		.epoch = clone->point.epoch < UINT32_MAX ? (uint32_t)clone->point.epoch
							 : UINT32_MAX,
	};
	int r = engine_inherit(e, &inherited, &cause);
	if (r < 0)
		return reterr_set(err, r, "segment %s: %.400s", uuid, store_why(&cause, r));
	clone->bytes += segment->length;
	return 0;
}

static int make_clone(const struct clone *clone, struct engine *e, struct reterr *err)
{
	const struct source_root *from = &clone->point.root;
	struct engine_root root = {
		.seq = from->seq,
		.pointer = {.segment = from->segment, .offset = from->offset},
		.time_ns = from->time_ns,
		.node = from->node,
		.payload_size = from->payload_size,
	};
	_Static_assert(sizeof(root.payload) == sizeof(from->payload), "the payload of a root");

	if (from->payload_size > sizeof(root.payload))
		return reterr_set(err, -EBADMSG, "the root of the newest manifest is damaged");
	memcpy(root.payload, from->payload, from->payload_size);
	return engine_make_clone(e, from->seq ? &root : NULL, err);
}

static int fill(struct clone *clone, struct reterr *err)
{
	struct store store;

	int r = store_disk(clone->place.partial, 0, err, &store);
	if (r < 0)
		return r;
	r = store_open(&store, &(struct engine_options){0}, err);
	for (size_t i = 0; r == 0 && i < clone->point.segment_count; i++)
		r = inherit(clone, store.engine, &clone->point.segments[i], err);
	if (r == 0)
		r = make_clone(clone, store.engine, err);
	if (r < 0) {
		store_abandon(&store);
		return r;
	}
	struct reterr cause = {0};
	r = store_close(&store, &cause);
	return r < 0 ? reterr_set(err, r, "%s", store_why(&cause, r)) : 0;
}

/* What is there is small: a failure leaves nothing. */
static int build(struct clone *clone, struct reterr *err)
{
	clone->format.block_size = clone->point.block_size;
	int r = store_make(clone->place.partial, &clone->format, err);
	if (r == 0)
		r = fill(clone, err);
	if (r == 0)
		r = settings_save(clone->place.partial, &clone->settings, err);
	if (r == 0)
		r = new_place_take(&clone->place, err);
	if (r < 0)
		io_remove_tree(clone->place.partial);
	return r;
}

static int find_point(struct clone *clone, struct reterr *err)
{
	struct reterr cause = {0};
	struct block_store *place;

	int r = store_cloud_open_place(&clone->settings, false, err, &place);
	if (r < 0)
		return r;
	r = restore_point_find(place, true, &cause, &clone->point);
	block_store_free(place);
	if (r == -ENOENT)
		return reterr_set(err, r, "no store was ever uploaded there: %.300s",
				  store_why(&cause, r));
	return r < 0 ? reterr_set(err, r, "%s", store_why(&cause, r)) : 0;
}

/* ---- Taking over ---------------------------------------------------------------------------- */

/* Returns when the bucket says so: from then on the other store is refused there. */
static int take_over(const struct clone *clone, struct reterr *err)
{
	const struct engine_options options = {.take_over = true};
	struct reterr cause = {0};
	struct store store;

	int r = store_disk(clone->slots[1], 0, err, &store);
	if (r < 0)
		return r;
	r = store_open_with_cloud(&store, clone->slots[1], &clone->settings, STORE_CLOUD_UPLOAD,
				  &options, err);
	if (r == 0)
		r = store_cloud_flush(store.cloud, UINT64_MAX, err);
	if (r < 0) {
		store_abandon(&store);
		return r;
	}
	r = store_close(&store, &cause);
	return r < 0 ? reterr_set(err, r, "%s", store_why(&cause, r)) : 0;
}

/* ---- The verb ------------------------------------------------------------------------------- */

static void print_summary(const struct clone *clone)
{
	const struct restore_point *point = &clone->point;
	char bytes[TEXT_SIZE_LENGTH], time[UTC_TEXT_SIZE], owner[UUID_TEXT_LENGTH + 1];

	(void)uuid_format(&point->owner, owner);
	(void)utc_format(point->root.time_ns, time);
	if (clone->json) {
		(void)printf("{\"segments\": %zu, \"bytes\": %" PRIu64 ", \"manifest\": %" PRIu64
			     ", \"root\": %" PRIu64 ", \"block_size\": %" PRIu64
			     ", \"owner\": \"%s\", \"full\": %s, \"taken_over\": %s}\n",
			     point->segment_count, clone->bytes, point->manifest, point->root.seq,
			     point->block_size, owner, clone->full ? "true" : "false",
			     clone->take_over ? "true" : "false");
		return;
	}
	(void)printf("%zu segments, %s, as of manifest %" PRIu64 "\n", point->segment_count,
		     text_size(clone->bytes, bytes), point->manifest);
	if (point->root.seq)
		(void)printf("root %" PRIu64 ", published %s\n", point->root.seq, time);
	else
		(void)puts("no root");
}

static int run(struct clone *clone, struct reterr *err)
{
	int r = new_place_check(clone->slots[1], &clone->place, err);
	if (r == 0)
		r = find_point(clone, err);
	if (r == 0)
		r = build(clone, err);
	if (r < 0)
		return r;
	if (clone->take_over) {
		r = take_over(clone, err);
		if (r < 0)
			log_warning("'%s' is a whole clone, but not taken over; `protofs mount -o "
				    "take_over` does it",
				    clone->slots[1]);
	}
	if (r == 0 && clone->full) {
		r = clone_fetch(clone->slots[1], err);
		if (r < 0)
			log_warning(
				"'%s' is a whole clone that fetches what is missing as it reads; "
				"`protofs clone --full` goes on where it stopped",
				clone->slots[1]);
	}
	if (r < 0)
		return r;
	print_summary(clone);
	if (!clone->take_over)
		log_info("'%s' is read-only until it is mounted with -o take_over",
			 clone->slots[1]);
	return 0;
}

/* A clone of the same cloud, of which more is to be fetched: nothing is made. */
static bool is_to_go_on(const struct clone *clone)
{
	struct settings there = {0};
	struct reterr err = {0};

	if (!clone->full || clone->take_over)
		return false;
	bool same = settings_load(clone->slots[1], &there, &err) == 0 && there.cloud &&
		    strcmp(there.cloud, clone->settings.cloud) == 0;
	settings_done(&there);
	return same;
}

int verb_clone(int argc, char **argv)
{
	static const struct argp_option own[] = {
		{"full", OPTION_FULL, NULL, 0,
		 "Fetch everything now, and keep it in the cache on this disk", 0},
		{"take-over", OPTION_TAKE_OVER, NULL, 0,
		 "Make it writable, and the one that goes on: whoever uploaded there is refused from "
		 "then on",
		 0},
		{"node", 'n', "N", 0, "Number of this node, from 1 on (default 1)", 0},
		{"json", 'j', NULL, 0, "Print the summary as JSON", 0},
	};
	static struct settings_flags flags;
	const struct argp argp = {
		.options = settings_flags_but(&flags, own, ARRAY_SIZE(own), "cloud"),
		.parser = parse_clone,
		.args_doc = "URL STORE",
		.doc = "Make the store STORE of what lies at URL: the newest root there, and every byte "
		       "that it needs. STORE must not be there yet, or be an empty directory.\v"
		       "Bytes are fetched when they are read. The clone is read-only until it is taken "
		       "over. The flags of the cloud are remembered in STORE/cloud.conf.",
	};
	struct clone clone = {0};
	struct reterr err = {0};

	args_parse(&argp, argc, argv, &clone);
	int r = is_to_go_on(&clone) ? clone_fetch(clone.slots[1], &err) : run(&clone, &err);
	if (r < 0)
		log_error("cannot clone '%s' to '%s': %s", clone.slots[0], clone.slots[1],
			  store_why(&err, r));
	restore_point_done(&clone.point);
	settings_done(&clone.settings);
	return r == -EINVAL ? EXIT_CODE_USAGE : r < 0 ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
}
