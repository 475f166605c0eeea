/*
 * bench_mount: small operations through a mount, against the file system below and the null one.
 *
 *   bench_mount append --ours MNT/space --base DIR     append 4 KiB + fsync
 *   bench_mount commits --ours MNT/space/UUID          the same on the mount alone, in that segment
 *   bench_mount publish --ours MNT/space --base DIR    ProtoDB's whole publish sequence
 *   bench_mount publish-pages ...                      the same, reading the root's segment each time
 *   bench_mount write-publish ...                      the same, each with an atom appended before
 *   bench_mount hot --ours MNT/atoms/UUID --base NULL  open + read + close, read, stat of atoms read before
 *   bench_mount atoms --ours MNT/space --count N --size BYTES
 *                                  appends N atoms to a new segment, fsyncs it and prints its name
 *
 * One client, one thread. Both sides run the same code on different paths.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/uuid.h"
#include "batch.h"
#include "client.h"
#include "options.h"
#include "raw.h"

enum { HOT_ATOMS = 64, READ_MAX = 64 << 10 };

/* ---- Append and fsync ----------------------------------------------------------------------- */

static int open_file(const char *path, struct raw_append *ret)
{
	int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	*ret = (struct raw_append){.fds = {fd}, .count = 1, .full_sync = true};
	raw_fill(ret->data, sizeof(ret->data), 6);
	return 0;
}

static int open_segment(const char *dir, struct raw_append *ret)
{
	char name[UUID_TEXT_LENGTH + 1], path[CLIENT_PATH_MAX];
	struct uuid uuid;

	int r = uuid_random(&uuid);
	if (r < 0)
		return r;
	(void)snprintf(path, sizeof(path), "%s/%s", dir, uuid_format(&uuid, name));
	return open_file(path, ret);
}

static int run_append(const struct options *options)
{
	struct raw_append ours = {.count = 0}, base = {.count = 0};
	struct batch_plan plan = {.row = "mount-append",
				  .rounds = options->rounds,
				  .batch_ms = options->batch_ms,
				  .warmup = 1};
	const struct batch_side sides[] = {
		{.name = "mount", .op = raw_append_write, .arg = &ours},
		{.name = "ext4", .op = raw_append_write, .arg = &base},
	};

	int r = open_segment(options->path_ours, &ours);
	if (r == 0)
		r = open_segment(options->path_base, &base);
	if (r == 0)
		r = batch_run(&plan, sides, ARRAY_SIZE(sides));
	raw_append_close(&ours);
	raw_append_close(&base);
	return r;
}

static int run_commits(const struct options *options)
{
	struct raw_append ours = {.count = 0};
	struct batch_plan plan = {
		.row = "commits", .rounds = options->rounds, .batch_ms = options->batch_ms};
	const struct batch_side side = {.name = "mount", .op = raw_append_write, .arg = &ours};

	int r = open_file(options->path_ours, &ours);
	if (r == 0)
		r = batch_run(&plan, &side, 1);
	raw_append_close(&ours);
	return r;
}

/* ---- ProtoDB's publication ------------------------------------------------------------------ */

static int publish(void *arg, unsigned thread)
{
	(void)thread;
	return client_publish(arg);
}

static int write_publish(void *arg, unsigned thread)
{
	(void)thread;
	int r = client_append(arg);
	return r < 0 ? r : client_publish(arg);
}

static int measure_publish(const struct options *options, const char *row, bool reads_pages,
			   int (*op)(void *arg, unsigned thread))
{
	struct client ours, base;
	struct batch_plan plan = {
		.row = row, .rounds = options->rounds, .batch_ms = options->batch_ms, .warmup = 1};
	const struct batch_side sides[] = {
		{.name = "mount", .op = op, .arg = &ours},
		{.name = "ext4", .op = op, .arg = &base},
	};

	int r = client_open(&ours, options->path_ours);
	if (r == 0)
		r = client_open(&base, options->path_base);
	ours.reads_pages = base.reads_pages = reads_pages;
	return r < 0 ? r : batch_run(&plan, sides, ARRAY_SIZE(sides));
}

static int run_publish(const struct options *options)
{
	return measure_publish(options, "mount-publish", false, publish);
}

static int run_publish_pages(const struct options *options)
{
	return measure_publish(options, "mount-publish-pages", true, publish);
}

static int run_write_publish(const struct options *options)
{
	return measure_publish(options, "mount-write-publish", false, write_publish);
}

/* ---- Hot atoms ------------------------------------------------------------------------------ */

struct hot {
	char paths[HOT_ATOMS][CLIENT_PATH_MAX];
	int fd; /* of the first */
	unsigned count, next;
	char data[READ_MAX];
};

/* The first files of DIR. */
static int hot_open(struct hot *hot, const char *dir)
{
	*hot = (struct hot){.fd = -1};
	DIR *stream = opendir(dir);
	if (!stream)
		return -errno;
	for (struct dirent *entry; hot->count < HOT_ATOMS && (entry = readdir(stream));) {
		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(hot->paths[hot->count++], CLIENT_PATH_MAX, "%s/%s", dir,
			       entry->d_name);
	}
	(void)closedir(stream);
	if (hot->count == 0)
		return -ENOENT;
	hot->fd = open(hot->paths[0], O_RDONLY | O_CLOEXEC);
	return hot->fd < 0 ? -errno : 0;
}

static const char *next_path(struct hot *hot)
{
	hot->next = (hot->next + 1) % hot->count;
	return hot->paths[hot->next];
}

static int hot_cat(void *arg, unsigned thread)
{
	struct hot *hot = arg;

	(void)thread;
	int fd = open(next_path(hot), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, hot->data, sizeof(hot->data));
	int r = n < 0 ? -errno : n == 0 ? -ENODATA : 0;
	(void)close(fd);
	return r;
}

static int hot_read(void *arg, unsigned thread)
{
	struct hot *hot = arg;

	(void)thread;
	ssize_t n = pread(hot->fd, hot->data, sizeof(hot->data), 0);
	return n < 0 ? -errno : n == 0 ? -ENODATA : 0;
}

static int hot_stat(void *arg, unsigned thread)
{
	struct stat st;

	(void)thread;
	return stat(next_path(arg), &st) < 0 ? -errno : 0;
}

static int run_hot(const struct options *options)
{
	static struct hot ours, null;
	struct {
		const char *row;
		int (*op)(void *arg, unsigned thread);
	} ops[] = {{"cat", hot_cat}, {"read", hot_read}, {"stat", hot_stat}};

	int r = hot_open(&ours, options->path_ours);
	if (r == 0)
		r = hot_open(&null, options->path_base);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(ops); i++) {
		struct batch_plan plan = {.row = ops[i].row,
					  .rounds = options->rounds,
					  .batch_ms = options->batch_ms,
					  .stride = 8,
					  .warmup = 1};
		const struct batch_side sides[] = {
			{.name = "mount", .op = ops[i].op, .arg = &ours},
			{.name = "nullfs", .op = ops[i].op, .arg = &null},
		};
		r = batch_run(&plan, sides, ARRAY_SIZE(sides));
	}
	return r;
}

static int run_atoms(const struct options *options)
{
	struct raw_append segment;
	uint64_t size = options->size;
	uint8_t *frame = calloc(1, size + CLIENT_FRAME_HEADER_SIZE);
	int r = frame ? open_segment(options->path_ours, &segment) : -ENOMEM;

	if (r < 0) {
		free(frame);
		return r;
	}
	client_frame(frame, size);
	for (uint64_t i = 0; r == 0 && i < options->count; i++)
		r = raw_write_all(segment.fds[0], frame, size + CLIENT_FRAME_HEADER_SIZE);
	if (r == 0 && fsync(segment.fds[0]) < 0)
		r = -errno;
	char link[64], path[CLIENT_PATH_MAX];
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", segment.fds[0]);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	raw_append_close(&segment);
	free(frame);
	if (r < 0 || n < 0)
		return r < 0 ? r : -errno;
	path[n] = '\0';
	(void)printf("%s\n", strrchr(path, '/') + 1);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct verb verbs[] = {{"append", run_append},
					    {"commits", run_commits},
					    {"publish", run_publish},
					    {"publish-pages", run_publish_pages},
					    {"write-publish", run_write_publish},
					    {"hot", run_hot},
					    {"atoms", run_atoms}};

	return options_main(argc, argv, verbs, ARRAY_SIZE(verbs));
}
