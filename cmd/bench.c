/*
 * protofs bench: how fast this disk makes 4 KiB durable, and how near the engine comes to it. The
 * ways take turns in short batches, so that whatever else the machine does hits all of them;
 * medians are compared.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/io.h"
#include "cmd/log.h"
#include "cmd/progress.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/verb.h"
#include "engine/engine.h"

enum {
	WRITE_SIZE = 4096, /* of a frame, too: header and payload */
	BATCH = 32,
	SAMPLES_MAX = 1 << 16, /* batches of each way */
	RAW_FILE_SIZE = 64 << 20,
	DURATION_DEFAULT_MS = 3000,
};

enum way { WAY_RAW, WAY_FILE, WAY_ENGINE, WAYS };

struct bench {
	const char *dir;
	uint64_t duration_ms;
	bool json;
	char work[PATH_MAX]; /* our own directory below DIR */
	uint8_t *data;       /* WRITE_SIZE bytes, aligned */
	int raw_fd, file_fd;
	uint64_t raw_offset;
	struct engine *engine;
	double *samples[WAYS]; /* microseconds a write */
	size_t counts[WAYS];
};

static const struct argp_option bench_options[] = {
	{"time", 't', "TIME", 0, "How long to measure (default 3s)", 0},
	{"json", 'j', NULL, 0, "Print JSON", 0},
	{0},
};

static error_t parse_bench(int key, char *arg, struct argp_state *state)
{
	struct bench *bench = state->input;
	switch (key) {
	case 't':
		if (text_parse_duration(arg, 1000, &bench->duration_ms) < 0 ||
		    bench->duration_ms == 0)
			argp_error(state, "'%s' is no time such as 3s", arg);
		return 0;
	case 'j':
		bench->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num > 0)
			argp_error(state, "too many arguments: '%s'", arg);
		bench->dir = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- The three ways ------------------------------------------------------------------------- */

/* The device's limit: the blocks are there already, nothing but the data has to reach the disk. */
static int write_raw(struct bench *bench)
{
	ssize_t n = pwrite(bench->raw_fd, bench->data, WRITE_SIZE, (off_t)bench->raw_offset);
	bench->raw_offset = (bench->raw_offset + WRITE_SIZE) % RAW_FILE_SIZE;
	return n == WRITE_SIZE ? 0 : n < 0 ? -errno : -EIO;
}

/* What an application does by itself. */
static int write_file(struct bench *bench)
{
	int r = io_write(bench->file_fd, bench->data, WRITE_SIZE);
	return r == 0 && fdatasync(bench->file_fd) < 0 ? -errno : r;
}

static int write_engine(struct bench *bench)
{
	const struct iovec iov = {
		.iov_base = bench->data,
		.iov_len = WRITE_SIZE - ENGINE_FRAME_HEADER_SIZE,
	};
	struct engine_pointer pointer;
	int r = engine_append(bench->engine, ENGINE_CLASS_LOG, ENGINE_FORMAT_RAW, &iov, 1,
			      &pointer);
	if (r < 0)
		return r;
	const struct engine_position position = {
		.segment = engine_segment_find(bench->engine, &pointer.segment),
		.length = pointer.offset + WRITE_SIZE,
	};
	return engine_commit(bench->engine, &position, 1, NULL);
}

static const struct {
	const char *name, *description;
	int (*write)(struct bench *bench);
} ways[WAYS] = {
	[WAY_RAW] = {"limit", "O_DIRECT and O_DSYNC, in place", write_raw},
	[WAY_FILE] = {"append+fdatasync", "a plain file", write_file},
	[WAY_ENGINE] = {"protofs", "append and commit", write_engine},
};

static double now_us(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int measure(struct bench *bench, struct reterr *err)
{
	double start_us = now_us(), end_us = start_us + (double)bench->duration_ms * 1e3;

	while (now_us() < end_us && bench->counts[WAY_RAW] < SAMPLES_MAX) {
		for (int way = 0; way < WAYS; way++) {
			double before_us = now_us();
			int r = 0;
			for (int i = 0; r == 0 && i < BATCH; i++)
				r = ways[way].write(bench);
			if (r < 0)
				return reterr_set(err, r, "%s: %s", ways[way].name, strerror(-r));
			bench->samples[way][bench->counts[way]++] = (now_us() - before_us) / BATCH;
		}
	}
	return 0;
}

/* ---- The directory -------------------------------------------------------------------------- */

static int make_raw_file(struct bench *bench, const char *path)
{
	enum { FILL_SIZE = 1 << 20 };
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	uint8_t *zeros = io_alloc(FILL_SIZE);
	int r = fd < 0 ? -errno : zeros ? 0 : -ENOMEM;

	if (zeros)
		memset(zeros, 0, FILL_SIZE);
	for (uint64_t at = 0; r == 0 && at < RAW_FILE_SIZE; at += FILL_SIZE)
		r = io_write(fd, zeros, FILL_SIZE);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	free(zeros);
	io_close(&fd);
	if (r < 0)
		return r;
	bench->raw_fd = open(path, O_WRONLY | O_DIRECT | O_DSYNC | O_CLOEXEC);
	if (bench->raw_fd < 0 && errno == EINVAL) {
		log_warning("'%s' refuses O_DIRECT: the limit is measured with O_DSYNC alone",
			    bench->dir);
		bench->raw_fd = open(path, O_WRONLY | O_DSYNC | O_CLOEXEC);
	}
	return bench->raw_fd < 0 ? -errno : 0;
}

static int path_of(struct bench *bench, const char *name, char path[static PATH_MAX])
{
	int length = snprintf(path, PATH_MAX, "%s/%s", bench->work, name);
	return length > 0 && length < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int prepare(struct bench *bench, struct store *store, struct reterr *err)
{
	char path[PATH_MAX];
	int r = path_of(bench, "raw", path);

	if (r == 0)
		r = make_raw_file(bench, path);
	if (r == 0)
		r = path_of(bench, "file", path);
	if (r == 0) {
		bench->file_fd =
			open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
		r = bench->file_fd < 0 ? -errno : 0;
	}
	for (int way = 0; r == 0 && way < WAYS; way++) {
		bench->samples[way] = calloc(SAMPLES_MAX, sizeof(double));
		r = bench->samples[way] ? 0 : -ENOMEM;
	}
	if (r == 0)
		r = path_of(bench, "store", path);
	if (r < 0)
		return reterr_set(err, r, "%s", strerror(-r));
	r = store_make(path, &(struct engine_format_options){0}, err);
	if (r == 0)
		r = store_disk(path, 0, err, store);
	if (r == 0)
		r = store_open(store, NULL, err);
	bench->engine = store->engine;
	return r;
}

/* ---- The result ----------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static void print_result(struct bench *bench, const char *disk_path)
{
	double median[WAYS];

	for (int way = 0; way < WAYS; way++) {
		qsort(bench->samples[way], bench->counts[way], sizeof(double), compare);
		median[way] = bench->samples[way][bench->counts[way] / 2];
	}
	if (bench->json) {
		(void)printf("{\"write_size\": %d, \"disk_path\": \"%s\", \"writes\": %zu",
			     WRITE_SIZE, disk_path, bench->counts[WAY_RAW] * BATCH);
		(void)printf(", \"limit_us\": %.2f, \"file_us\": %.2f, \"engine_us\": %.2f"
			     ", \"engine_to_limit\": %.3f, \"engine_to_file\": %.3f}\n",
			     median[WAY_RAW], median[WAY_FILE], median[WAY_ENGINE],
			     median[WAY_RAW] / median[WAY_ENGINE],
			     median[WAY_FILE] / median[WAY_ENGINE]);
		return;
	}
	(void)printf("durable writes of 4 KiB, one after the other (%s, %zu writes each)\n",
		     disk_path, bench->counts[WAY_RAW] * BATCH);
	(void)printf("%-18s %10s %10s   %s\n", "", "us", "of limit", "");
	for (int way = 0; way < WAYS; way++)
		(void)printf("%-18s %10.1f %10.2f   %s\n", ways[way].name, median[way],
			     median[WAY_RAW] / median[way], ways[way].description);
}

static int run(struct bench *bench, struct reterr *err)
{
	struct store store = {0};
	struct engine_stats stats;

	int r = prepare(bench, &store, err);
	if (r == 0)
		r = measure(bench, err);
	if (r == 0) {
		engine_stats(bench->engine, &stats);
		print_result(bench, stats.disk_path);
	}
	store_abandon(&store); /* it is removed anyway */
	return r;
}

int verb_bench(int argc, char **argv)
{
	static const struct argp argp = {
		.options = bench_options,
		.parser = parse_bench,
		.args_doc = "[DIR]",
		.doc = "Measure durable 4 KiB writes in the directory DIR (default: the current one): what "
		       "the disk can do at most, what append and fdatasync of a file take, and what a "
		       "commit of protofs takes.\v"
		       "It works in a directory of its own below DIR, which it removes.",
	};
	struct bench bench = {
		.dir = ".", .duration_ms = DURATION_DEFAULT_MS, .raw_fd = -1, .file_fd = -1};
	struct reterr err = {0};

	args_parse(&argp, argc, argv, &bench);
	bench.data = io_alloc(WRITE_SIZE);
	int length = snprintf(bench.work, sizeof(bench.work), "%s/protofs-bench.XXXXXX", bench.dir);
	int r = !bench.data ? -ENOMEM : length >= PATH_MAX ? -ENAMETOOLONG : 0;
	if (r == 0 && !mkdtemp(bench.work))
		r = -errno;
	if (r == 0) {
		memset(bench.data, 'p', WRITE_SIZE);
		r = run(&bench, &err);
		io_remove_tree(bench.work);
	}
	if (r < 0)
		log_error("cannot measure in '%s': %s", bench.dir, store_why(&err, r));
	io_close(&bench.raw_fd);
	io_close(&bench.file_fd);
	for (int way = 0; way < WAYS; way++)
		free(bench.samples[way]);
	free(bench.data);
	return r < 0 ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
}
