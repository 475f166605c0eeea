/*
 * bench_paths: the three ways on which a commit reaches the disk, without the engine above.
 *
 *   bench_paths commit --dir DIR
 *
 * A commit here is what a group commit of one committer writes: 4 KiB of data and a block of each copy of the
 * commit table, submitted together, and one flush. Its side "limit" is the device's own: one write of 4 KiB,
 * O_DIRECT and O_DSYNC. What the engine loses against these is the engine's; what these lose, the path's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "engine/disk.h"
#include "options.h"
#include "raw.h"

enum { PATHS = 3, DATA_AREA = 64 << 20, TABLE_SIZE = 1 << 20, ENTRY_SIZE = 64 };

struct path {
	struct disk *disk;
	struct disk_file *file;
	uint8_t *block;
	uint64_t commits;
};

/* Zero-written up to its end, as the engine keeps what is ahead of it. */
static int write_zeros(struct disk_file *file)
{
	const size_t chunk = 1 << 20;
	void *zeros = aligned_alloc(DISK_BLOCK_SIZE, chunk);
	int r = zeros ? 0 : -ENOMEM;

	if (zeros)
		memset(zeros, 0, chunk);
	for (uint64_t at = 0; r == 0 && at < DATA_AREA + 2 * TABLE_SIZE; at += chunk)
		r = disk_write_flush(file, zeros, chunk, at);
	free(zeros);
	return r;
}

static int path_open(struct path *path, const char *dir, enum disk_path which, const char *name)
{
	struct disk_file *file;

	path->block = aligned_alloc(DISK_BLOCK_SIZE, DISK_BLOCK_SIZE);
	if (!path->block)
		return -ENOMEM;
	raw_fill(path->block, DISK_BLOCK_SIZE, 9);
	int r = disk_posix_open(dir, which, NULL, &path->disk);
	if (r == 0)
		r = disk_open(path->disk, name, DISK_WRITE | DISK_CREATE | DISK_REPLACE, &file);
	if (r < 0)
		return r;
	r = write_zeros(file);
	disk_close(file);
	if (r < 0)
		return r;
	return disk_open(path->disk, name, DISK_WRITE | DISK_DIRECT, &path->file);
}

static void path_close(struct path *path)
{
	disk_close(path->file);
	disk_free(path->disk);
	free(path->block);
	*path = (struct path){.file = NULL};
}

static int path_commit(void *arg, unsigned thread)
{
	struct path *path = arg;
	struct iovec iov = {.iov_base = path->block, .iov_len = DISK_BLOCK_SIZE};
	uint64_t n = path->commits++;
	uint64_t data = n * DISK_BLOCK_SIZE % DATA_AREA;
	uint64_t table = n * ENTRY_SIZE % TABLE_SIZE / DISK_BLOCK_SIZE * DISK_BLOCK_SIZE;
	struct disk_job job = {
		.file = path->file,
		.writes = {{.iov = &iov, .iov_count = 1, .offset = data},
			   {.iov = &iov, .iov_count = 1, .offset = DATA_AREA + table},
			   {.iov = &iov, .iov_count = 1, .offset = DATA_AREA + TABLE_SIZE + table}},
		.write_count = 3,
	};

	(void)thread;
	return disk_commit(path->disk, &job, 1);
}

static int run_commit(const struct options *options)
{
	static const struct {
		const char *name;
		enum disk_path path;
	} kinds[PATHS] = {{"io_uring", DISK_PATH_IO_URING},
			  {"threads", DISK_PATH_THREADS},
			  {"buffered", DISK_PATH_BUFFERED}};
	struct path paths[PATHS] = {{.file = NULL}};
	struct batch_side sides[PATHS + 2];
	struct raw_limit limit = {.fd = -1};
	struct raw_append append = {.count = 0};
	struct batch_plan plan = {.row = "paths",
				  .rounds = options->rounds,
				  .batch_ms = options->batch_ms,
				  .warmup = 1};
	int r = raw_limit_open(&limit, options->dir, 1);

	if (r == 0)
		r = raw_append_open(&append, options->dir, "append", 1);
	for (unsigned i = 0; r == 0 && i < PATHS; i++) {
		r = path_open(&paths[i], options->dir, kinds[i].path, kinds[i].name);
		sides[i] = (struct batch_side){
			.name = kinds[i].name, .op = path_commit, .arg = &paths[i]};
	}
	sides[PATHS] = (struct batch_side){.name = "limit", .op = raw_limit_write, .arg = &limit};
	sides[PATHS + 1] =
		(struct batch_side){.name = "append", .op = raw_append_write, .arg = &append};
	if (r == 0)
		r = batch_run(&plan, sides, ARRAY_SIZE(sides));
	for (unsigned i = 0; i < PATHS; i++)
		path_close(&paths[i]);
	raw_append_close(&append);
	raw_limit_close(&limit);
	return r;
}

int main(int argc, char **argv)
{
	static const struct verb verbs[] = {{"commit", run_commit}};

	return options_main(argc, argv, verbs, ARRAY_SIZE(verbs));
}
