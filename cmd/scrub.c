/*
 * protofs scrub: reads every durable byte from the disk against the sum that was recorded when it
 * was written.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "cmd/args.h"
#include "cmd/cloud_fsck.h"
#include "cmd/io.h"
#include "cmd/log.h"
#include "cmd/progress.h"
#include "cmd/segments.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/verb.h"

struct scrub {
	const char *path;
	bool json;
	bool cloud;
	uint8_t *chunk; /* ENGINE_SUM_SIZE bytes */
	uint64_t bytes;
	uint64_t problems;
};

static const struct argp_option scrub_options[] = {
	{"cloud", 'c', NULL, 0,
	 "Then get every object of its cloud, too, and compare it: it costs a request for each", 0},
	{"json", 'j', NULL, 0, "Print the summary as JSON", 0},
	{0},
};

static error_t parse_scrub(int key, char *arg, struct argp_state *state)
{
	struct scrub *scrub = state->input;
	if (key == 'j') {
		scrub->json = true;
		return 0;
	}
	if (key == 'c') {
		scrub->cloud = true;
		return 0;
	}
	return args_positional(state, key, arg, &scrub->path, 1);
}

static void problem(struct scrub *scrub, const struct uuid *segment, uint64_t offset,
		    const char *why)
{
	char uuid[UUID_TEXT_LENGTH + 1];
	scrub->problems++;
	log_error("'%s': segment %s, byte %" PRIu64 ": %s", scrub->path, uuid_format(segment, uuid),
		  offset, why);
}

/* One sum's bytes. Damage is counted, and the scrub goes on. */
static void scrub_range(struct scrub *scrub, struct where *where, const struct uuid *segment,
			const struct engine_sum *sum)
{
	struct reterr err = {0};
	size_t length = (size_t)sum->length, n = 0;

	int r = where->ops->read(where, segment, scrub->chunk, length, sum->offset, true, &n, &err);
	if (r < 0) {
		problem(scrub, segment, sum->offset, store_why(&err, r));
	} else if (n < length) {
		problem(scrub, segment, sum->offset + n, "it ends there, before its sums do");
	} else {
		struct hash hash = hash_of(scrub->chunk, length);
		if (!hash_equal(&hash, &sum->hash))
			problem(scrub, segment, sum->offset, "these bytes do not match their sum");
		scrub->bytes += length;
	}
	progress_add(length);
}

static void scrub_segment(struct scrub *scrub, struct where *where, const struct uuid *segment)
{
	struct reterr err = {0};
	struct sum_file sums = {0};

	int r = where->ops->sums(where, segment, &sums, &err);
	if (r < 0) {
		problem(scrub, segment, 0, store_why(&err, r));
		return;
	}
	for (size_t i = 0; i < sums.count; i++) {
		if (sums.sums[i].length > ENGINE_SUM_SIZE) {
			problem(scrub, segment, sums.sums[i].offset, "its sum covers too much");
			break;
		}
		scrub_range(scrub, where, segment, &sums.sums[i]);
	}
	sum_file_done(&sums);
}

static int scrub_all(struct scrub *scrub, struct where *where, struct reterr *err)
{
	struct segments segments;
	char bytes[TEXT_SIZE_LENGTH];

	int r = segments_list(where, &segments, err);
	if (r < 0)
		return r;
	progress_begin("scrubbing", segments.bytes);
	for (size_t i = 0; i < segments.count; i++)
		scrub_segment(scrub, where, &segments.items[i].uuid);
	progress_end();
	if (scrub->json)
		(void)printf("{\"segments\": %zu, \"bytes\": %" PRIu64 ", \"problems\": %" PRIu64
			     "}\n",
			     segments.count, scrub->bytes, scrub->problems);
	else
		(void)printf("%zu segments, %s read and verified, %" PRIu64 " problems\n",
			     segments.count, text_size(scrub->bytes, bytes), scrub->problems);
	segments_done(&segments);
	return 0;
}

static int scrub_cloud(const struct scrub *scrub, struct where *where)
{
	struct cloud_fsck fsck = {.deep = true, .json = scrub->json};
	struct reterr err = {0};
	uint64_t left = 0;
	char *store = NULL;

	int r = where_store(scrub->path, &store, &err);
	fsck.store = store;
	if (r == 0)
		r = cloud_fsck_where(&fsck, where, &left, &err);
	free(store);
	if (r < 0) {
		log_error("cannot scrub the cloud of '%s': %s", scrub->path, store_why(&err, r));
		return r == -EINVAL ? EXIT_CODE_USAGE : EXIT_CODE_FAILED;
	}
	if (left)
		log_error("the cloud of '%s' has problems; `protofs fsck --cloud --repair` uploads "
			  "again what is missing",
			  scrub->path);
	return left ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
}

int verb_scrub(int argc, char **argv)
{
	static const struct argp argp = {
		.options = scrub_options,
		.parser = parse_scrub,
		.args_doc = "WHERE",
		.doc = "Read every durable byte of a store from the disk and compare it with the sum that "
		       "was recorded when it was written. The store may be mounted and in use.\v"
		       "Exit code 1: something did not match.",
	};
	struct scrub scrub = {0};
	struct reterr err = {0};
	struct where *where;

	args_parse(&argp, argc, argv, &scrub);
	int code = where_open_for("open", scrub.path, WHERE_READ, &where);
	if (code != EXIT_CODE_DONE)
		return code;
	scrub.chunk = io_alloc(ENGINE_SUM_SIZE);
	int r = scrub.chunk ? scrub_all(&scrub, where, &err) : -ENOMEM;
	if (r < 0)
		log_error("cannot scrub '%s': %s", where->path, store_why(&err, r));
	else if (scrub.problems)
		log_error(
			"'%s' is damaged: restore it from a backup, or unmount it and see `protofs "
			"fsck`",
			where->path);
	free(scrub.chunk);
	code = r < 0 || scrub.problems ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
	if (scrub.cloud && code == EXIT_CODE_DONE)
		code = scrub_cloud(&scrub, where);
	where_close(where);
	return code;
}
