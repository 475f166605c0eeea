/*
 * bench_engine: the engine without a mount, against the disk beneath it.
 *
 *   bench_engine commit --dir DIR --threads N   durable commits of 4 KiB, N committers
 *   bench_engine atoms --dir DIR --count N      N atoms of 100 B, one wait at the end
 *   bench_engine open --dir DIR --size BYTES    open after a clean stop, and after kill -9
 *   bench_engine fill --dir DIR --count N --size BYTES   makes DIR a store of N atoms of SIZE
 *
 * A commit of 4 KiB is 4,096 bytes of a segment, as a client of the mount appends them, so that every side
 * writes the same bytes; "engine atoms" are atoms whose payload is 4,096 bytes, nine more with their header, so that
 * each commit rewrites the block in which the one before ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/le.h"
#include "batch.h"
#include "engine/engine.h"
#include "options.h"
#include "raw.h"
#include "store.h"

enum { ATOM_SIZE = 100, CRASH_TAIL = 4096 };

struct committer {
	struct store store;
	struct engine_segment *segment; /* foreign; NULL: atoms in our own */
	uint8_t data[RAW_WRITE_SIZE];
};

static int commit_bytes(void *arg, unsigned thread)
{
	struct committer *c = arg;
	struct iovec iov = {.iov_base = c->data, .iov_len = sizeof(c->data)};
	uint64_t offset;

	(void)thread;
	int r = engine_segment_append(c->store.engine, c->segment, &iov, 1, &offset);
	if (r < 0)
		return r;
	struct engine_position until = {.segment = c->segment, .length = offset + sizeof(c->data)};
	return engine_commit(c->store.engine, &until, 1, NULL);
}

static int commit_atom(void *arg, unsigned thread)
{
	struct committer *c = arg;
	struct iovec iov = {.iov_base = c->data, .iov_len = sizeof(c->data)};
	struct engine_pointer at;

	(void)thread;
	int r = engine_append(c->store.engine, ENGINE_CLASS_LOG, ENGINE_FORMAT_RAW, &iov, 1, &at);
	if (r < 0)
		return r;
	struct engine_position until = {
		.segment = engine_segment_find(c->store.engine, &at.segment),
		.length = at.offset + ENGINE_FRAME_HEADER_SIZE + sizeof(c->data),
	};
	return engine_commit(c->store.engine, &until, 1, NULL);
}

static int committer_open(struct committer *c, const char *dir)
{
	struct uuid uuid;

	raw_fill(c->data, sizeof(c->data), 3);
	int r = store_make(&c->store, dir, "commit-store");
	if (r == 0)
		r = uuid_random(&uuid);
	return r < 0 ? r : engine_segment_create(c->store.engine, &uuid, &c->segment);
}

static int measure_commits(const struct options *options, struct committer *c)
{
	struct raw_limit limit = {.fd = -1};
	struct raw_append one = {.count = 0}, each = {.count = 0};
	unsigned threads = options->threads;
	char row[32];
	struct batch_plan plan = {
		.row = row, .rounds = options->rounds, .batch_ms = options->batch_ms, .warmup = 1};
	const struct batch_side sides[] = {
		{.name = "engine", .threads = threads, .op = commit_bytes, .arg = c},
		{.name = "limit", .threads = threads, .op = raw_limit_write, .arg = &limit},
		{.name = "one file", .threads = threads, .op = raw_append_write, .arg = &one},
		{.name = "own files", .threads = threads, .op = raw_append_write, .arg = &each},
		{.name = "engine atoms", .threads = threads, .op = commit_atom, .arg = c},
	};

	(void)snprintf(row, sizeof(row), "commit-%u", threads);
	int r = raw_limit_open(&limit, options->dir, threads);
	if (r == 0)
		r = raw_append_open(&one, options->dir, "one", 1);
	if (r == 0)
		r = raw_append_open(&each, options->dir, "each", threads);
	if (r == 0)
		r = batch_run(&plan, sides, ARRAY_SIZE(sides));
	raw_append_close(&each);
	raw_append_close(&one);
	raw_limit_close(&limit);
	return r;
}

static int run_commit(const struct options *options)
{
	struct committer c = {.segment = NULL};
	int r = committer_open(&c, options->dir);

	if (r == 0)
		r = measure_commits(options, &c);
	int closed = store_close(&c.store);
	return r < 0 ? r : closed;
}

/* ---- Small atoms ---------------------------------------------------------------------------- */

struct small {
	struct store store;
	uint8_t data[ATOM_SIZE];
};

static int append_small(void *arg, unsigned thread)
{
	struct small *s = arg;
	struct iovec iov = {.iov_base = s->data, .iov_len = sizeof(s->data)};
	struct engine_pointer at;

	(void)thread;
	return engine_append(s->store.engine, ENGINE_CLASS_LOG, ENGINE_FORMAT_RAW, &iov, 1, &at);
}

static int sync_small(void *arg)
{
	struct small *s = arg;

	return engine_sync(s->store.engine, NULL);
}

/* What a loop would do that knows nothing but its own buffer: frames into it, written when it is full. */
struct loop {
	int fd;
	size_t used;
	uint8_t atom[ATOM_SIZE];
	uint8_t buffer[1 << 20];
};

static int append_loop(void *arg, unsigned thread)
{
	struct loop *loop = arg;
	uint64_t size = sizeof(loop->atom);

	(void)thread;
	if (sizeof(loop->buffer) - loop->used < ENGINE_FRAME_HEADER_SIZE + sizeof(loop->atom)) {
		int r = raw_write_all(loop->fd, loop->buffer, loop->used);
		if (r < 0)
			return r;
		loop->used = 0;
	}
	uint8_t *at = loop->buffer + loop->used;
	store_le64(at, size);
	at[8] = ENGINE_FORMAT_RAW;
	memcpy(at + ENGINE_FRAME_HEADER_SIZE, loop->atom, sizeof(loop->atom));
	loop->used += ENGINE_FRAME_HEADER_SIZE + sizeof(loop->atom);
	return 0;
}

static int sync_loop(void *arg)
{
	struct loop *loop = arg;

	int r = raw_write_all(loop->fd, loop->buffer, loop->used);
	loop->used = 0;
	if (r < 0)
		return r;
	return fdatasync(loop->fd) < 0 ? -errno : 0;
}

static int run_atoms(const struct options *options)
{
	struct small small = {.store = {.engine = NULL}};
	struct raw_append file = {.count = 0};
	struct loop *loop = calloc(1, sizeof(*loop));
	struct batch_plan plan = {.row = "atoms",
				  .rounds = options->rounds,
				  .ops = options->count,
				  .stride = 64,
				  .warmup = 1};
	int r = loop ? store_make(&small.store, options->dir, "atoms-store") : -ENOMEM;

	if (r == 0)
		r = raw_append_open(&file, options->dir, "loop", 1);
	if (r == 0) {
		const struct batch_side sides[] = {
			{.name = "engine", .op = append_small, .finish = sync_small, .arg = &small},
			{.name = "bare loop", .op = append_loop, .finish = sync_loop, .arg = loop},
		};
		loop->fd = file.fds[0];
		raw_fill(small.data, sizeof(small.data), 4);
		raw_fill(loop->atom, sizeof(loop->atom), 4);
		r = batch_run(&plan, sides, ARRAY_SIZE(sides));
	}
	raw_append_close(&file);
	free(loop);
	int closed = store_close(&small.store);
	return r < 0 ? r : closed;
}

/* ---- Open ----------------------------------------------------------------------------------- */

static int time_open(const char *path, const char *row)
{
	struct store store;

	int r = raw_evict_tree(path);
	if (r < 0)
		return r;
	double start = batch_now_s();
	r = store_open(&store, path);
	if (r < 0)
		return r;
	batch_value(row, "engine", batch_now_s() - start, "s");
	return store_close(&store);
}

/* Fills a store until it is killed: a daemon that dies in the middle of its work. */
NORETURN static void fill_and_wait(const char *dir, const char *name, uint64_t size, int ready)
{
	struct store store;
	int r = store_make(&store, dir, name);

	if (r == 0)
		r = store_fill(&store, size / (64 << 10), (64 << 10) - ENGINE_FRAME_HEADER_SIZE);
	if (r == 0)
		r = engine_sync(store.engine, NULL);
	if (r == 0)
		r = store_fill(&store, 1, CRASH_TAIL); /* not yet durable when it dies */
	(void)!write(ready, &r, sizeof(r));
	for (;;)
		(void)pause();
}

static int make_crashed(const char *dir, const char *name, uint64_t size)
{
	int ends[2], r = -EIO;

	if (pipe(ends) < 0)
		return -errno;
	pid_t child = fork();
	if (child < 0)
		return -errno;
	if (child == 0)
		fill_and_wait(dir, name, size, ends[1]);
	(void)close(ends[1]);
	if (read(ends[0], &r, sizeof(r)) != (ssize_t)sizeof(r))
		r = -EIO;
	(void)close(ends[0]);
	(void)kill(child, SIGKILL);
	(void)waitpid(child, NULL, 0);
	return r;
}

static int run_open(const struct options *options)
{
	char path[512];
	int r = 0;

	for (unsigned i = 0; r == 0 && i < options->rounds; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "open-store-%u", i);
		(void)snprintf(path, sizeof(path), "%s/%s", options->dir, name);
		r = make_crashed(options->dir, name, options->size);
		if (r == 0)
			r = time_open(path, "open-crash");
		for (int again = 0; r == 0 && again < 5; again++)
			r = time_open(path, "open-clean");
		if (r == 0)
			r = store_remove(path);
	}
	return r;
}

static int run_fill(const struct options *options)
{
	struct store store;
	int r = store_make(&store, options->dir, ".");

	if (r < 0)
		return r;
	r = store_fill(&store, options->count, options->size);
	int closed = store_close(&store);
	return r < 0 ? r : closed;
}

int main(int argc, char **argv)
{
	static const struct verb verbs[] = {{"commit", run_commit},
					    {"atoms", run_atoms},
					    {"open", run_open},
					    {"fill", run_fill}};

	return options_main(argc, argv, verbs, ARRAY_SIZE(verbs));
}
