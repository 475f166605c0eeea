/*
 * bench_disk: the baselines alone. What the disk and its file system do, and how well this machine can
 * be measured: a side against itself must give 1.0, and its spread is the noise of every other row.
 *
 *   bench_disk self --dir DIR       append+fdatasync against itself, the device's limit against itself
 *   bench_disk append --dir DIR --threads N    the limit, appends to one file, to a file for each thread
 */
#include <errno.h>
#include <stdlib.h>

#include "batch.h"
#include "options.h"
#include "raw.h"

static int run_self(const struct options *options)
{
	struct raw_limit limit = {.fd = -1};
	struct raw_append append = {.count = 0};
	struct batch_plan plan = {
		.rounds = options->rounds, .batch_ms = options->batch_ms, .warmup = 1};
	int r = raw_limit_open(&limit, options->dir, 1);

	if (r == 0)
		r = raw_append_open(&append, options->dir, "self", 1);
	if (r == 0) {
		const struct batch_side sides[] = {
			{.name = "self", .op = raw_append_write, .arg = &append},
			{.name = "append", .op = raw_append_write, .arg = &append},
		};
		plan.row = "self-append";
		r = batch_run(&plan, sides, ARRAY_SIZE(sides));
	}
	if (r == 0) {
		const struct batch_side sides[] = {
			{.name = "self", .op = raw_limit_write, .arg = &limit},
			{.name = "limit", .op = raw_limit_write, .arg = &limit},
		};
		plan.row = "self-limit";
		r = batch_run(&plan, sides, ARRAY_SIZE(sides));
	}
	raw_append_close(&append);
	raw_limit_close(&limit);
	return r;
}

static int run_append(const struct options *options)
{
	struct raw_limit limit = {.fd = -1};
	struct raw_append one = {.count = 0}, each = {.count = 0};
	struct batch_plan plan = {.row = "disk",
				  .rounds = options->rounds,
				  .batch_ms = options->batch_ms,
				  .warmup = 1};
	unsigned threads = options->threads;
	int r = raw_limit_open(&limit, options->dir, threads);

	if (r == 0)
		r = raw_append_open(&one, options->dir, "one", 1);
	if (r == 0)
		r = raw_append_open(&each, options->dir, "each", threads);
	if (r == 0) {
		const struct batch_side sides[] = {
			{.name = "limit", .threads = threads, .op = raw_limit_write, .arg = &limit},
			{.name = "one file",
			 .threads = threads,
			 .op = raw_append_write,
			 .arg = &one},
			{.name = "own files",
			 .threads = threads,
			 .op = raw_append_write,
			 .arg = &each},
		};
		r = batch_run(&plan, sides, ARRAY_SIZE(sides));
	}
	raw_append_close(&each);
	raw_append_close(&one);
	raw_limit_close(&limit);
	return r;
}

int main(int argc, char **argv)
{
	static const struct verb verbs[] = {{"self", run_self}, {"append", run_append}};

	return options_main(argc, argv, verbs, ARRAY_SIZE(verbs));
}
