/*
 * bench_s3: transfers to and from an S3 server (AWS_ENDPOINT_URL and credentials in the environment, --bucket).
 *
 *   bench_s3 put --threads N --size BYTES --count N     N blocks a batch by a bare loop, and by protofs's client
 *   bench_s3 get --threads N --size BYTES --count N     the same read again
 *   bench_s3 load --threads N --size BYTES --count N    the bare loop alone puts N blocks; with --count 0 for
 *            [--rate BYTES]                             --batch-ms; RATE a second at most
 *   bench_s3 fetch --threads N --size BYTES --ours FILE the bare loop alone gets the keys that FILE has, a line each
 *
 * Every thread has a connection of its own.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bare_s3.h"
#include "base/uuid.h"
#include "batch.h"
#include "cloud/cloud.h"
#include "options.h"
#include "raw.h"

enum { KEY_SIZE = BLOCK_KEY_MAX + 1, LINE_SIZE = 1024, URL_SIZE = 512 };

/* One side of a comparison: a loop that puts or gets blocks of a segment of its own. */
struct side {
	struct bare_s3 *bare;
	struct block_store *client; /* one of the two */
	char segment[UUID_TEXT_LENGTH + 1];
	uint64_t size;
	uint8_t *data; /* to put, the same for all threads */
	uint8_t *received[BATCH_THREADS_MAX];
	atomic_uint_fast64_t next; /* block */
	uint64_t first;            /* of this batch */
	uint64_t count;            /* of blocks that there are to get */
};

static void block_key(const struct side *s, uint64_t number, char *key)
{
	(void)snprintf(key, KEY_SIZE, "wal/%s/%020" PRIu64, s->segment, number * s->size);
}

static int report(int r, const struct reterr *err)
{
	if (r < 0)
		(void)fprintf(stderr, "%s\n", err->text);
	return r;
}

static int put_number(struct side *s, unsigned thread, uint64_t number)
{
	struct reterr err = {.code = 0};
	char key[KEY_SIZE];

	block_key(s, number, key);
	if (s->bare)
		return bare_s3_put(s->bare, thread, key, s->data, s->size);
	return report(block_store_put(s->client, key, s->data, s->size, 0, &err), &err);
}

static int put_one(void *arg, unsigned thread)
{
	struct side *s = arg;

	return put_number(s, thread, atomic_fetch_add(&s->next, 1));
}

static int get_one(void *arg, unsigned thread)
{
	struct side *s = arg;
	struct reterr err = {.code = 0};
	struct block_head head;
	char key[KEY_SIZE];
	size_t got = 0;

	block_key(s, atomic_fetch_add(&s->next, 1) % s->count, key);
	if (s->bare)
		return bare_s3_get(s->bare, thread, key, s->received[thread], s->size, &got);
	return report(block_store_get(s->client, key, s->received[thread], s->size, &head, &err),
		      &err);
}

/* What a batch has put goes away, or the server's disk is soon full. */
static int remove_batch(void *arg)
{
	struct side *s = arg;
	struct reterr err = {.code = 0};
	int r = 0;

	for (; r == 0 && s->first < atomic_load(&s->next); s->first++) {
		char key[KEY_SIZE];
		block_key(s, s->first, key);
		r = s->bare ? bare_s3_delete(s->bare, 0, key)
			    : report(block_store_delete(s->client, key, &err), &err);
	}
	return r;
}

static int side_open(struct side *s, const struct options *options)
{
	struct uuid uuid;
	int r = uuid_random(&uuid);

	if (r < 0)
		return r;
	(void)uuid_format(&uuid, s->segment);
	s->size = options->size;
	s->data = malloc(s->size);
	if (!s->data || options->threads > BATCH_THREADS_MAX)
		return s->data ? -EINVAL : -ENOMEM;
	raw_fill(s->data, s->size, 11);
	for (unsigned i = 0; i < options->threads; i++) {
		s->received[i] = malloc(s->size);
		if (!s->received[i])
			return -ENOMEM;
	}
	return 0;
}

static void side_close(struct side *s)
{
	for (unsigned i = 0; i < BATCH_THREADS_MAX; i++)
		free(s->received[i]);
	free(s->data);
	block_store_free(s->client);
	if (s->bare)
		bare_s3_close(s->bare);
}

static int client_open(const struct options *options, struct block_store **ret)
{
	const struct cloud_options cloud = {.make = false};
	struct reterr err = {.code = 0};
	char url[URL_SIZE];

	if (!options->bucket)
		return -EINVAL;
	(void)snprintf(url, sizeof(url), "s3://%s", options->bucket);
	return report(cloud_open(url, &cloud, &err, ret), &err);
}

static int compare(const struct options *options, const char *row, bool get)
{
	static struct bare_s3 bare;
	struct side ours = {.size = 0}, theirs = {.bare = &bare};
	uint64_t each = options->count / options->threads;
	struct batch_plan plan = {
		.row = row, .rounds = options->rounds, .ops = each ? each : 1, .warmup = 1};
	int (*op)(void *arg, unsigned thread) = get ? get_one : put_one;
	int (*after)(void *arg) = get ? NULL : remove_batch;
	const struct batch_side sides[] = {
		{.name = "client",
		 .threads = options->threads,
		 .op = op,
		 .after = after,
		 .arg = &ours},
		{.name = "bare",
		 .threads = options->threads,
		 .op = op,
		 .after = after,
		 .arg = &theirs},
	};

	int r = bare_s3_open(&bare, options->bucket, options->threads);
	if (r == 0)
		r = client_open(options, &ours.client);
	if (r == 0)
		r = side_open(&ours, options);
	if (r == 0)
		r = side_open(&theirs, options);
	ours.count = theirs.count = options->count;
	for (uint64_t i = 0; r == 0 && get && i < options->count; i++) {
		r = put_number(&ours, 0, i);
		if (r == 0)
			r = put_number(&theirs, 0, i);
	}
	if (r == 0)
		r = batch_run(&plan, sides, ARRAY_SIZE(sides));
	side_close(&ours);
	side_close(&theirs);
	return r;
}

static int run_put(const struct options *options)
{
	return compare(options, "s3-put", false);
}

static int run_get(const struct options *options)
{
	return compare(options, "s3-get", true);
}

/* ---- The bare loop alone -------------------------------------------------------------------- */

struct load {
	struct side side;
	struct bare_s3 bare;
	pthread_mutex_t lock; /* of the next */
	double free;          /* when the next block may go */
	double seconds_each;  /* that a block takes at the wanted rate; 0: no limit */
	char (*keys)[KEY_SIZE];
	uint64_t key_count;
	atomic_uint_fast64_t bytes;
};

static void sleep_until(double when)
{
	double left = when - batch_now_s();

	if (left <= 0)
		return;
	struct timespec t = {.tv_sec = (time_t)left,
			     .tv_nsec = (long)((left - (double)(time_t)left) * 1e9)};
	(void)nanosleep(&t, NULL);
}

/* Time in which this program was stopped is not made up for. */
static double reserve(struct load *l)
{
	double now = batch_now_s();

	(void)pthread_mutex_lock(&l->lock);
	double when = l->free > now ? l->free : now;
	l->free = when + l->seconds_each;
	(void)pthread_mutex_unlock(&l->lock);
	return when;
}

static int load_one(void *arg, unsigned thread)
{
	struct load *l = arg;
	uint64_t number = atomic_fetch_add(&l->side.next, 1);

	sleep_until(reserve(l));
	int r = put_number(&l->side, thread, number);
	if (r == 0)
		(void)atomic_fetch_add(&l->bytes, l->side.size);
	return r;
}

static int load_open(struct load *l, const struct options *options)
{
	l->side.bare = &l->bare;
	int r = bare_s3_open(&l->bare, options->bucket, options->threads);

	return r < 0 ? r : side_open(&l->side, options);
}

/* One batch of all threads; prints what it moved. */
static int load_run(struct load *l, const struct options *options, const char *row, uint64_t ops,
		    int (*op)(void *arg, unsigned thread))
{
	struct batch_plan plan = {
		.row = row, .rounds = 1, .ops = ops, .batch_ms = options->batch_ms};
	const struct batch_side side = {
		.name = "bare", .threads = options->threads, .op = op, .arg = l};
	int r = batch_run(&plan, &side, 1);

	if (r == 0)
		batch_value("bytes", "bare", (double)atomic_load(&l->bytes), "B");
	return r;
}

static int run_load(const struct options *options)
{
	static struct load load = {.lock = PTHREAD_MUTEX_INITIALIZER};
	int r = load_open(&load, options);

	if (options->rate)
		load.seconds_each = (double)options->size / (double)options->rate;
	if (r == 0)
		r = load_run(&load, options, "load", options->count / options->threads, load_one);
	side_close(&load.side);
	return r;
}

static int fetch_one(void *arg, unsigned thread)
{
	struct load *l = arg;
	uint64_t number = atomic_fetch_add(&l->side.next, 1);
	size_t got = 0;

	if (number >= l->key_count)
		return 0;
	int r = bare_s3_get(&l->bare, thread, l->keys[number], l->side.received[thread],
			    l->side.size, &got);
	(void)atomic_fetch_add(&l->bytes, got);
	return r;
}

static int load_keys(struct load *l, const char *path)
{
	char line[LINE_SIZE];
	FILE *file = path ? fopen(path, "re") : NULL;
	int r = 0;

	if (!file)
		return path ? -errno : -EINVAL;
	while (r == 0 && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		const size_t length = strlen(line);
		void *more = realloc(l->keys, (l->key_count + 1) * sizeof(*l->keys));
		if (!more || length >= KEY_SIZE) {
			r = more ? -EINVAL : -ENOMEM;
			l->keys = more ? more : l->keys;
			break;
		}
		l->keys = more;
		memcpy(l->keys[l->key_count++], line, length + 1);
	}
	(void)fclose(file);
	return r;
}

static int run_fetch(const struct options *options)
{
	static struct load load = {.lock = PTHREAD_MUTEX_INITIALIZER};
	int r = load_open(&load, options);

	if (r == 0)
		r = load_keys(&load, options->path_ours);
	if (r == 0)
		r = load_run(&load, options, "fetch", load.key_count / options->threads + 1,
			     fetch_one);
	free(load.keys);
	side_close(&load.side);
	return r;
}

int main(int argc, char **argv)
{
	static const struct verb verbs[] = {
		{"put", run_put}, {"get", run_get}, {"load", run_load}, {"fetch", run_fetch}};

	return options_main(argc, argv, verbs, ARRAY_SIZE(verbs));
}
