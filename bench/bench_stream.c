/*
 * bench_stream: large sequential transfers through a mount, in calls of 1 MiB.
 *
 *   bench_stream write --ours MNT/space/UUID --base NULL/0 --dir DIR    write; the mount, the null file
 *                                system, and O_DIRECT to a new file in DIR
 *   bench_stream read --ours MNT/wal/UUID --base NULL/0 --dir DIR --store STORE   cold read of the same
 *   bench_stream through --ours MNT/space/UUID --size BYTES      write them and read them again
 *
 * A batch is 128 MiB, --rounds of them follow each other in one file; 8 are 1 GiB. Each written batch ends
 * with an fsync. Before a read nothing of the files, nor of the store beneath the mount, is cached.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batch.h"
#include "options.h"
#include "raw.h"

enum { CALL_SIZE = 1 << 20, BATCH_CALLS = 128, ALIGNMENT = 4096 };

struct stream {
	int fd;
	uint64_t at;    /* next byte to read */
	uint64_t limit; /* reads begin again here */
	const char *store;
	void *data;
};

static int stream_open(struct stream *s, const char *path, int flags)
{
	*s = (struct stream){.fd = open(path, flags | O_CLOEXEC, 0644)};
	if (s->fd < 0)
		return -errno;
	s->data = aligned_alloc(ALIGNMENT, CALL_SIZE);
	if (!s->data)
		return -ENOMEM;
	raw_fill(s->data, CALL_SIZE, 8);
	return 0;
}

static void stream_close(struct stream *s)
{
	if (s->data)
		(void)close(s->fd);
	free(s->data);
	*s = (struct stream){.fd = -1};
}

static int write_call(void *arg, unsigned thread)
{
	struct stream *s = arg;

	(void)thread;
	return raw_write_all(s->fd, s->data, CALL_SIZE);
}

static int sync_call(void *arg)
{
	struct stream *s = arg;

	return fsync(s->fd) < 0 ? -errno : 0;
}

static int read_call(void *arg, unsigned thread)
{
	struct stream *s = arg;

	(void)thread;
	for (size_t done = 0; done < CALL_SIZE;) {
		ssize_t n = pread(s->fd, (uint8_t *)s->data + done, CALL_SIZE - done,
				  (off_t)(s->at + done));
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		done += (size_t)n;
	}
	s->at += CALL_SIZE;
	return 0;
}

/* At the start, and when all was read, everything is made cold. */
static int make_cold(void *arg)
{
	struct stream *s = arg;

	if (s->at != 0 && s->at + (uint64_t)BATCH_CALLS * CALL_SIZE <= s->limit)
		return 0;
	s->at = 0;
	int r = -posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
	if (r == 0 && s->store)
		r = raw_evict_tree(s->store);
	return r;
}

static void direct_path(const struct options *options, char *path, size_t size)
{
	(void)snprintf(path, size, "%s/direct", options->dir);
}

static int run_write(const struct options *options)
{
	char path[512];
	struct stream ours = {.fd = -1}, null = {.fd = -1}, direct = {.fd = -1};
	struct batch_plan plan = {
		.row = "stream-write", .rounds = options->rounds, .ops = BATCH_CALLS};
	const struct batch_side sides[] = {
		{.name = "mount", .op = write_call, .finish = sync_call, .arg = &ours},
		{.name = "nullfs", .op = write_call, .finish = sync_call, .arg = &null},
		{.name = "direct", .op = write_call, .finish = sync_call, .arg = &direct},
	};

	direct_path(options, path, sizeof(path));
	int r = stream_open(&ours, options->path_ours, O_WRONLY | O_CREAT | O_APPEND);
	if (r == 0)
		r = stream_open(&null, options->path_base, O_WRONLY);
	if (r == 0)
		r = stream_open(&direct, path, O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT);
	if (r == 0)
		r = batch_run(&plan, sides, ARRAY_SIZE(sides));
	stream_close(&direct);
	stream_close(&null);
	stream_close(&ours);
	return r;
}

static int limit_of(struct stream *s)
{
	struct stat st;

	if (fstat(s->fd, &st) < 0)
		return -errno;
	s->limit = (uint64_t)st.st_size;
	return s->limit < (uint64_t)BATCH_CALLS * CALL_SIZE ? -ENODATA : 0;
}

static int run_read(const struct options *options)
{
	char path[512];
	struct stream ours = {.fd = -1}, null = {.fd = -1}, direct = {.fd = -1};
	struct stream *all[] = {&ours, &null, &direct};
	struct batch_plan plan = {
		.row = "stream-read", .rounds = options->rounds, .ops = BATCH_CALLS};
	const struct batch_side sides[] = {
		{.name = "mount", .before = make_cold, .op = read_call, .arg = &ours},
		{.name = "nullfs", .before = make_cold, .op = read_call, .arg = &null},
		{.name = "direct", .before = make_cold, .op = read_call, .arg = &direct},
	};

	direct_path(options, path, sizeof(path));
	int r = stream_open(&ours, options->path_ours, O_RDONLY);
	if (r == 0)
		r = stream_open(&null, options->path_base, O_RDONLY);
	if (r == 0)
		r = stream_open(&direct, path, O_RDONLY | O_DIRECT);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(all); i++)
		r = limit_of(all[i]);
	ours.store = options->store;
	if (r == 0)
		r = batch_run(&plan, sides, ARRAY_SIZE(sides));
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		stream_close(all[i]);
	return r;
}

static int run_through(const struct options *options)
{
	struct stream s;
	int r = stream_open(&s, options->path_ours, O_RDWR | O_CREAT | O_APPEND);

	for (uint64_t done = 0; r == 0 && done < options->size; done += CALL_SIZE)
		r = write_call(&s, 0);
	if (r == 0)
		r = sync_call(&s);
	for (s.at = 0; r == 0 && s.at < options->size;)
		r = read_call(&s, 0);
	stream_close(&s);
	return r;
}

int main(int argc, char **argv)
{
	static const struct verb verbs[] = {
		{"write", run_write}, {"read", run_read}, {"through", run_through}};

	return options_main(argc, argv, verbs, ARRAY_SIZE(verbs));
}
