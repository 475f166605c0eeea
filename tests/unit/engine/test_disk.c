/* One contract, every implementation of struct disk: each commit path by name, the memory disk, the simulated one. */
#include <check.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/disk.h"
#include "tests/lib/sim_disk.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

enum { BLOCK = DISK_BLOCK_SIZE };

struct variant {
	const char *name; /* what ops->name must begin with */
	enum { POSIX, MEMORY, SIMULATED } kind;
	enum disk_path path;
	const char *refused; /* why it cannot run here */
};

static struct variant variants[] = {
	{.name = "io_uring", .kind = POSIX, .path = DISK_PATH_IO_URING},
	{.name = "threads", .kind = POSIX, .path = DISK_PATH_THREADS},
	{.name = "buffered", .kind = POSIX, .path = DISK_PATH_BUFFERED},
	{.name = "", .kind = POSIX, .path = DISK_PATH_AUTO},
	{.name = "memory", .kind = MEMORY},
	{.name = "simulated", .kind = SIMULATED},
};

/* ---- A disk for each test ---- */

static char dir[64];
static struct disk *disk;
static const struct variant *variant;

static struct disk *open_posix(enum disk_path path)
{
	struct reterr err = {0};
	struct disk *ret = NULL;
	int r = disk_posix_open(dir, path, &err, &ret);
	ck_assert_msg(r == 0, "%d %s", r, err.text);
	return ret;
}

static void make_dir(void)
{
	(void)snprintf(dir, sizeof(dir), "disk-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_dir(void)
{
	char command[128];
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

static void begin(int index)
{
	variant = &variants[index];
	if (variant->kind == POSIX) {
		make_dir();
		disk = open_posix(variant->path);
	} else if (variant->kind == MEMORY) {
		ck_assert_int_eq(disk_memory_new(256 * MIB, &disk), 0);
	} else {
		disk = sim_disk_new(1);
	}
}

static void end(void)
{
	disk_free(disk);
	if (variant->kind == POSIX)
		remove_dir();
}

/* ---- Helpers ---- */

static struct disk_file *open_file(const char *path, unsigned flags)
{
	struct disk_file *file = NULL;
	int r = disk_open(disk, path, flags, &file);
	ck_assert_msg(r == 0, "open %s: %d", path, r);
	return file;
}

static int try_open(const char *path, unsigned flags)
{
	struct disk_file *file = NULL;
	int r = disk_open(disk, path, flags, &file);
	if (r == 0)
		disk_close(file);
	return r;
}

static struct disk_file *create_direct(const char *path)
{
	return open_file(path, DISK_WRITE | DISK_CREATE | DISK_DIRECT);
}

static void *aligned(size_t size, int fill)
{
	void *data = aligned_alloc(BLOCK, size);
	ck_assert_ptr_nonnull(data);
	memset(data, fill, size);
	return data;
}

static void check_bytes(struct disk_file *file, uint64_t offset, size_t size, int value)
{
	uint8_t *data = malloc(size);
	ck_assert_ptr_nonnull(data);
	int r = disk_read_full(file, data, size, offset);
	ck_assert_msg(r == 0, "read of %zu at %llu: %d", size, (unsigned long long)offset, r);
	/* An assertion for each byte would be what the test spends its time with. */
	size_t good = 0;
	while (good < size && data[good] == value)
		good++;
	ck_assert_msg(good == size, "byte %llu is %d, not %d", (unsigned long long)(offset + good),
		      good < size ? data[good] : 0, value);
	free(data);
}

static uint64_t size_of(struct disk_file *file)
{
	uint64_t size = 0;
	ck_assert_int_eq(disk_size(file, &size), 0);
	return size;
}

static int commit_one(struct disk_file *file, void *data, size_t size, uint64_t offset)
{
	struct iovec iov = {.iov_base = data, .iov_len = size};
	struct disk_job job = {.file = file, .writes = {{&iov, 1, offset}}, .write_count = 1};
	int r = disk_commit(disk, &job, 1);
	ck_assert_int_eq(job.result, r);
	return r;
}

/* ---- Files ---- */

START_TEST(test_name)
{
	begin(_i);
	ck_assert_msg(strncmp(disk->ops->name, variant->name, strlen(variant->name)) == 0, "%s",
		      disk->ops->name);
	end();
}
END_TEST

START_TEST(test_open_flags)
{
	begin(_i);
	ck_assert_int_eq(try_open("f", DISK_READ), -ENOENT);
	ck_assert_int_eq(try_open("f", DISK_WRITE), -ENOENT);
	ck_assert_int_eq(try_open("no/f", DISK_WRITE | DISK_CREATE), -ENOENT);
	ck_assert_int_eq(try_open("f", DISK_WRITE | DISK_CREATE), 0);
	ck_assert_int_eq(try_open("f", DISK_WRITE | DISK_CREATE), -EEXIST);
	ck_assert_int_eq(try_open("f/g", DISK_READ), -ENOTDIR);

	struct disk_file *file = open_file("f", DISK_WRITE);
	ck_assert_int_eq(disk_write_flush(file, "hello", 5, 0), 0);
	disk_close(file);
	file = open_file("f", DISK_WRITE | DISK_CREATE | DISK_REPLACE);
	ck_assert_uint_eq(size_of(file), 0);
	disk_close(file);

	ck_assert_int_eq(disk_mkdir(disk, "d"), 0);
	ck_assert_int_eq(try_open("d", DISK_READ), -EISDIR);
	end();
}
END_TEST

START_TEST(test_bad_paths)
{
	static const char *const bad[] = {"/f", "a//f", "f/", "..", "../f", "d/../f", ".", "./f"};
	char longer[DISK_PATH_MAX + 2];

	begin(_i);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_int_eq(try_open(bad[i], DISK_WRITE | DISK_CREATE), -EINVAL);
		ck_assert_int_eq(disk_mkdir(disk, bad[i]), -EINVAL);
		ck_assert_int_eq(disk_unlink(disk, bad[i]), -EINVAL);
		ck_assert_int_eq(disk_rename(disk, bad[i], "g"), -EINVAL);
		ck_assert_int_eq(disk_rename(disk, "g", bad[i]), -EINVAL);
	}
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	ck_assert_int_eq(try_open(longer, DISK_WRITE | DISK_CREATE), -ENAMETOOLONG);
	end();
}
END_TEST

START_TEST(test_read_and_write)
{
	begin(_i);
	struct disk_file *file = open_file("f", DISK_WRITE | DISK_CREATE);
	struct iovec iov[] = {{.iov_base = (char[]){"one,"}, .iov_len = 4},
			      {.iov_base = (char[]){""}, .iov_len = 0},
			      {.iov_base = (char[]){"two"}, .iov_len = 3}};
	struct disk_job job = {.file = file, .writes = {{iov, 3, 100 * KIB + 1}}, .write_count = 1};
	ck_assert_int_eq(disk_commit(disk, &job, 1), 0);
	ck_assert_uint_eq(size_of(file), 100 * KIB + 8);

	char data[16];
	size_t got = 99;
	ck_assert_int_eq(disk_read(file, data, sizeof(data), 100 * KIB + 1, &got), 0);
	ck_assert_uint_eq(got, 7);
	ck_assert_mem_eq(data, "one,two", 7);
	ck_assert_int_eq(disk_read_full(file, data, 7, 100 * KIB + 1), 0);
	ck_assert_int_eq(disk_read_full(file, data, 8, 100 * KIB + 1), -ENODATA);
	ck_assert_int_eq(disk_read(file, data, sizeof(data), 100 * KIB + 8, &got), 0);
	ck_assert_uint_eq(got, 0);
	ck_assert_int_eq(disk_read(file, data, sizeof(data), (uint64_t)1 << 40, &got), 0);
	ck_assert_uint_eq(got, 0);
	check_bytes(file, 0, 100 * KIB + 1, 0);
	disk_close(file);
	end();
}
END_TEST

START_TEST(test_many_iovecs)
{
	enum { COUNT = IOV_MAX + 500 };
	static struct iovec iov[COUNT];
	static char byte[2] = {'a', 'b'};

	begin(_i);
	struct disk_file *file = open_file("f", DISK_WRITE | DISK_CREATE);
	for (size_t i = 0; i < COUNT; i++)
		iov[i] = (struct iovec){.iov_base = &byte[i >= IOV_MAX], .iov_len = 1};
	struct disk_job job = {.file = file, .writes = {{iov, COUNT, 5}}, .write_count = 1};
	ck_assert_int_eq(disk_commit(disk, &job, 1), 0);
	ck_assert_uint_eq(size_of(file), 5 + COUNT);
	check_bytes(file, 5, IOV_MAX, 'a');
	check_bytes(file, 5 + IOV_MAX, COUNT - IOV_MAX, 'b');

	/* The same among others, hence through the ring or a helper. */
	job.write_count = 2;
	job.writes[1] = (struct disk_write){iov, COUNT, 64 * KIB};
	ck_assert_int_eq(disk_commit(disk, &job, 1), 0);
	check_bytes(file, 64 * KIB, IOV_MAX, 'a');
	check_bytes(file, 64 * KIB + IOV_MAX, COUNT - IOV_MAX, 'b');
	disk_close(file);
	end();
}
END_TEST

START_TEST(test_truncate)
{
	begin(_i);
	struct disk_file *file = open_file("f", DISK_WRITE | DISK_CREATE);
	char *data = aligned(200 * KIB, 'x');
	ck_assert_int_eq(disk_write_flush(file, data, 200 * KIB, 0), 0);
	ck_assert_int_eq(disk_truncate(file, 70001), 0);
	ck_assert_uint_eq(size_of(file), 70001);
	ck_assert_int_eq(disk_truncate(file, 150 * KIB), 0);
	check_bytes(file, 0, 70001, 'x');
	check_bytes(file, 70001, 150 * KIB - 70001, 0);
	ck_assert_int_eq(disk_flush(file), 0);
	free(data);
	disk_close(file);
	end();
}
END_TEST

START_TEST(test_reserve)
{
	begin(_i);
	struct disk_file *file = open_file("f", DISK_WRITE | DISK_CREATE);
	struct disk_space before;
	struct disk_space after;

	ck_assert_int_eq(disk_write_flush(file, "kept", 4, 4096), 0);
	ck_assert_int_eq(disk->ops->space(disk, &before), 0);
	ck_assert_int_eq(disk_reserve(file, 0, 8 * MIB), 0);
	ck_assert_int_eq(disk->ops->space(disk, &after), 0);
	ck_assert_uint_ge(size_of(file), 8 * MIB);
	if (variant->kind != POSIX) /* others use the same disk */
		ck_assert_uint_ge(before.available - after.available, 8 * MIB - 64 * KIB);
	check_bytes(file, 0, 4096, 0);
	char data[4];
	ck_assert_int_eq(disk_read_full(file, data, 4, 4096), 0);
	ck_assert_mem_eq(data, "kept", 4);
	check_bytes(file, 4100, 1 * MIB, 0);
	check_bytes(file, 8 * MIB - 64 * KIB, 64 * KIB, 0);
	ck_assert_int_eq(disk_reserve(file, 1 * MIB, 0), 0);
	disk_close(file);
	end();
}
END_TEST

/* ---- Commits ---- */

START_TEST(test_direct_commit)
{
	begin(_i);
	struct disk_file *file = create_direct("part");
	char *a = aligned(BLOCK, 0);
	char *b = aligned(BLOCK, 0);
	char *c = aligned(2 * BLOCK, 0);

	/* The same places again and again: reads, which are buffered, must never see an older round. */
	for (int round = 1; round < 50; round++) {
		memset(a, round, BLOCK);
		memset(b, round + 50, BLOCK);
		memset(c, round + 100, 2 * BLOCK);
		struct iovec ia = {a, BLOCK};
		struct iovec ib = {b, BLOCK};
		struct iovec ic[] = {{c, BLOCK}, {c + BLOCK, BLOCK}};
		struct disk_job job = {.file = file,
				       .writes = {{&ia, 1, 0}, {&ib, 1, 1 * MIB}, {ic, 2, 2 * MIB}},
				       .write_count = 3};
		ck_assert_int_eq(disk_commit(disk, &job, 1), 0);
		check_bytes(file, 0, BLOCK, round);
		check_bytes(file, 1 * MIB, BLOCK, round + 50);
		check_bytes(file, 2 * MIB, 2 * BLOCK, round + 100);
		check_bytes(file, 5 * BLOCK, BLOCK, 0);
	}
	/* One write, which brings its own flush. */
	memset(a, 77, BLOCK);
	ck_assert_int_eq(commit_one(file, a, BLOCK, BLOCK), 0);
	check_bytes(file, BLOCK, BLOCK, 77);
	free(a);
	free(b);
	free(c);
	disk_close(file);
	end();
}
END_TEST

/* Long aligned reads of such a file go another way; all must see the same bytes, whoever wrote them last. */
START_TEST(test_read_once)
{
	enum { SIZE = 256 << 10, TAIL = 100 };
	uint8_t *data = aligned(SIZE, 7), *got = aligned(2 * SIZE, 0);
	size_t count;

	begin(_i);
	struct disk_file *writer = create_direct("file");
	ck_assert_int_eq(commit_one(writer, data, SIZE, 0), 0);
	struct disk_file *file = open_file("file", DISK_WRITE | DISK_READ_ONCE);
	memset(data, 9, TAIL);
	ck_assert_int_eq(disk_write_flush(file, data, TAIL, SIZE), 0);
	check_bytes(file, 0, SIZE, 7);

	/* Aligned, and beyond an end that is not. */
	ck_assert_int_eq(disk_read(file, got, (size_t)2 * SIZE, 0, &count), 0);
	ck_assert_uint_eq(count, SIZE + TAIL);
	ck_assert_uint_eq(got[SIZE - 1], 7);
	ck_assert_uint_eq(got[SIZE], 9);
	ck_assert_uint_eq(got[SIZE + TAIL - 1], 9);

	/* Neither address, offset nor size are multiples of a block. */
	ck_assert_int_eq(disk_read(file, got + 1, SIZE, 1, &count), 0);
	ck_assert_uint_eq(count, SIZE);
	ck_assert_uint_eq(got[SIZE - 1], 7);
	ck_assert_uint_eq(got[SIZE], 9);

	/* A direct write is seen through what was read before. */
	memset(data, 8, SIZE);
	ck_assert_int_eq(commit_one(writer, data, SIZE, 0), 0);
	ck_assert_int_eq(disk_read(file, got, SIZE, 0, &count), 0);
	ck_assert_uint_eq(got[0], 8);
	ck_assert_uint_eq(got[SIZE - 1], 8);
	/* The end of the file itself. */
	ck_assert_int_eq(disk_read(file, got, SIZE, (uint64_t)4 * SIZE, &count), 0);
	ck_assert_uint_eq(count, 0);
	disk_close(file);
	disk_close(writer);
	end();
	free(got);
	free(data);
}
END_TEST

START_TEST(test_direct_wants_alignment)
{
	begin(_i);
	struct disk_file *file = create_direct("part");
	char *data = aligned(4 * BLOCK, 'x');
	ck_assert_int_eq(commit_one(file, data, BLOCK, 512), -EINVAL);
	ck_assert_int_eq(commit_one(file, data, BLOCK - 512, 0), -EINVAL);
	ck_assert_int_eq(commit_one(file, data + 512, BLOCK, 0), -EINVAL);
	ck_assert_uint_eq(size_of(file), 0);
	ck_assert_int_eq(commit_one(file, data + BLOCK, 2 * BLOCK, BLOCK), 0);
	free(data);
	disk_close(file);
	end();
}
END_TEST

START_TEST(test_many_jobs)
{
	enum { FILES = 40 };
	struct disk_file *files[FILES];
	struct disk_job jobs[FILES];
	struct iovec iov[FILES][DISK_WRITES_MAX];
	char name[16];

	begin(_i);
	char *data = aligned((size_t)FILES * BLOCK, 0);
	for (int i = 0; i < FILES; i++) {
		(void)snprintf(name, sizeof(name), "f%d", i);
		files[i] = create_direct(name);
		memset(data + (ptrdiff_t)i * BLOCK, i + 1, BLOCK);
		jobs[i] = (struct disk_job){.file = files[i]};
		/* 1 to 4 writes; every fifth file is left to a later flush. */
		jobs[i].write_count = 1 + (unsigned)i % DISK_WRITES_MAX;
		jobs[i].no_flush = i % 5 == 4;
		for (unsigned w = 0; w < jobs[i].write_count; w++) {
			iov[i][w] = (struct iovec){data + (ptrdiff_t)i * BLOCK, BLOCK};
			jobs[i].writes[w] = (struct disk_write){&iov[i][w], 1, w * 1 * MIB};
		}
	}
	ck_assert_int_eq(disk_commit(disk, jobs, FILES), 0);
	for (int i = 0; i < FILES; i++) {
		ck_assert_int_eq(jobs[i].result, 0);
		for (unsigned w = 0; w < jobs[i].write_count; w++)
			check_bytes(files[i], w * 1 * MIB, BLOCK, i + 1);
		if (jobs[i].no_flush)
			ck_assert_int_eq(disk_flush(files[i]), 0);
		disk_close(files[i]);
	}
	free(data);
	end();
}
END_TEST

START_TEST(test_flush_only_and_nothing)
{
	begin(_i);
	struct disk_file *file = create_direct("f");
	struct disk_job job = {.file = file, .result = 1};
	ck_assert_int_eq(disk_commit(disk, &job, 1), 0);
	ck_assert_int_eq(job.result, 0);
	ck_assert_int_eq(disk_commit(disk, NULL, 0), 0);
	job.write_count = 1;
	job.writes[0] = (struct disk_write){.iov = NULL, .iov_count = 0, .offset = 0};
	job.result = 1;
	ck_assert_int_eq(disk_commit(disk, &job, 1), 0);
	ck_assert_int_eq(job.result, 0);
	ck_assert_uint_eq(size_of(file), 0);
	disk_close(file);
	end();
}
END_TEST

/* A job that fails neither hides nor spoils the others. */
START_TEST(test_one_job_fails)
{
	begin(_i);
	struct disk_file *files[3] = {create_direct("a"), NULL, create_direct("c")};
	disk_close(create_direct("b"));
	files[1] = open_file("b", DISK_READ);
	char *data = aligned(BLOCK, 'x');
	struct iovec iov = {data, BLOCK};
	struct disk_job jobs[3];
	for (int i = 0; i < 3; i++)
		jobs[i] = (struct disk_job){.file = files[i],
					    .writes = {{&iov, 1, 0}, {&iov, 1, BLOCK}},
					    .write_count = 2};
	ck_assert_int_eq(disk_commit(disk, jobs, 3), -EBADF);
	ck_assert_int_eq(jobs[0].result, 0);
	ck_assert_int_eq(jobs[1].result, -EBADF);
	ck_assert_int_eq(jobs[2].result, 0);
	check_bytes(files[0], 0, (size_t)2 * BLOCK, 'x');
	check_bytes(files[2], 0, (size_t)2 * BLOCK, 'x');
	ck_assert_uint_eq(size_of(files[1]), 0);
	for (int i = 0; i < 3; i++)
		disk_close(files[i]);
	free(data);
	end();
}
END_TEST

enum { WORKERS = 8, ROUNDS = 25 };

struct worker {
	pthread_t thread;
	int number;
	struct disk_file *own;
	struct disk_file *shared;
};

/* More threads than rings, each with commits of a file of its own and of one that all share. */
static void *work(void *arg)
{
	struct worker *worker = arg;
	uint64_t place = (uint64_t)worker->number * 64 * KIB;
	char *data = aligned(BLOCK, worker->number + 1);
	struct iovec iov = {data, BLOCK};

	for (uint64_t i = 0; i < ROUNDS; i++) {
		struct disk_job jobs[] = {
			{.file = worker->own,
			 .writes = {{&iov, 1, i * BLOCK}, {&iov, 1, 1 * MIB}, {&iov, 1, 2 * MIB}},
			 .write_count = 3},
			{.file = worker->shared,
			 .writes = {{&iov, 1, place + i % 16 * BLOCK}},
			 .write_count = 1},
		};
		ck_assert_int_eq(disk_commit(disk, jobs, i % 3 ? 2 : 1), 0);
		check_bytes(worker->own, i * BLOCK, BLOCK, worker->number + 1);
	}
	free(data);
	return NULL;
}

START_TEST(test_threads)
{
	struct worker workers[WORKERS];
	char name[16];

	begin(_i);
	struct disk_file *shared = create_direct("shared");
	for (int i = 0; i < WORKERS; i++) {
		(void)snprintf(name, sizeof(name), "own%d", i);
		workers[i] =
			(struct worker){.number = i, .own = create_direct(name), .shared = shared};
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < WORKERS; i++) {
		ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
		check_bytes(workers[i].own, 0, (size_t)ROUNDS * BLOCK, i + 1);
		check_bytes(shared, (uint64_t)i * 64 * KIB + BLOCK, BLOCK, i + 1);
		disk_close(workers[i].own);
	}
	disk_close(shared);
	end();
}
END_TEST

/* ---- Names ---- */

struct listing {
	char text[256];
	int stop_after;
};

static int add_name(void *arg, const char *name, bool is_dir)
{
	struct listing *listing = arg;
	size_t length = strlen(listing->text);
	(void)snprintf(listing->text + length, sizeof(listing->text) - length, "%s%s ", name,
		       is_dir ? "/" : "");
	return --listing->stop_after == 0 ? -ECANCELED : 0;
}

static int unlink_listed(void *arg, const char *name, bool is_dir)
{
	char path[64];
	(void)is_dir;
	(*(int *)arg)++;
	(void)snprintf(path, sizeof(path), "d/%s", name);
	return disk_unlink(disk, path);
}

static void put_text(const char *path, const char *text)
{
	ck_assert_int_eq(disk_replace_file(disk, "", path, text, strlen(text)), 0);
}

static void check_text(const char *path, const char *text)
{
	void *data = NULL;
	size_t size = 0;
	ck_assert_int_eq(disk_read_file(disk, path, 100, &data, &size), 0);
	ck_assert_uint_eq(size, strlen(text));
	ck_assert_mem_eq(data, text, size);
	free(data);
}

START_TEST(test_directories)
{
	begin(_i);
	ck_assert_int_eq(disk_mkdir(disk, "d"), 0);
	ck_assert_int_eq(disk_mkdir(disk, "d"), -EEXIST);
	ck_assert_int_eq(disk_mkdir(disk, "x/y"), -ENOENT);
	ck_assert_int_eq(disk_mkdir(disk, "d/e"), 0);
	ck_assert_int_eq(disk->ops->rmdir(disk, "d"), -ENOTEMPTY);
	ck_assert_int_eq(disk_unlink(disk, "d/e"), -EISDIR);
	put_text("d/f", "1");
	ck_assert_int_eq(disk->ops->rmdir(disk, "d/f"), -ENOTDIR);
	ck_assert_int_eq(disk_sync_dir(disk, ""), 0);
	ck_assert_int_eq(disk_sync_dir(disk, "d"), 0);
	ck_assert_int_eq(disk_sync_dir(disk, "x"), -ENOENT);
	ck_assert_int_eq(disk_sync_dir(disk, "d/f"), -ENOTDIR);

	struct listing listing = {.text = ""};
	ck_assert_int_eq(disk_list(disk, "d", add_name, &listing), 0);
	ck_assert(strcmp(listing.text, "e/ f ") == 0 || strcmp(listing.text, "f e/ ") == 0);
	struct listing first = {.stop_after = 1};
	ck_assert_int_eq(disk_list(disk, "d", add_name, &first), -ECANCELED);
	ck_assert_int_eq((int)(strchr(first.text, ' ') - first.text + 1), (int)strlen(first.text));
	struct listing root = {.text = ""};
	ck_assert_int_eq(disk_list(disk, "", add_name, &root), 0);
	ck_assert_str_eq(root.text, "d/ ");
	ck_assert_int_eq(disk_list(disk, "x", add_name, &root), -ENOENT);
	ck_assert_int_eq(disk_list(disk, "d/f", add_name, &root), -ENOTDIR);

	ck_assert_int_eq(disk->ops->rmdir(disk, "d/e"), 0);
	ck_assert_int_eq(disk->ops->rmdir(disk, "d/e"), -ENOENT);
	end();
}
END_TEST

START_TEST(test_list_while_removing)
{
	enum { COUNT = 300 };
	char path[16];
	int seen = 0;

	begin(_i);
	ck_assert_int_eq(disk_mkdir(disk, "d"), 0);
	for (int i = 0; i < COUNT; i++) {
		(void)snprintf(path, sizeof(path), "d/%d", i);
		disk_close(open_file(path, DISK_WRITE | DISK_CREATE));
	}
	ck_assert_int_eq(disk_list(disk, "d", unlink_listed, &seen), 0);
	ck_assert_int_eq(seen, COUNT);
	ck_assert_int_eq(disk->ops->rmdir(disk, "d"), 0);
	end();
}
END_TEST

START_TEST(test_unlink_and_rename)
{
	begin(_i);
	ck_assert_int_eq(disk_unlink(disk, "f"), -ENOENT);
	put_text("f", "old");
	struct disk_file *file = open_file("f", DISK_WRITE);
	ck_assert_int_eq(disk_unlink(disk, "f"), 0);
	ck_assert_int_eq(try_open("f", DISK_READ), -ENOENT);
	check_bytes(file, 0, 1, 'o');
	ck_assert_int_eq(disk_write_flush(file, "x", 1, 0), 0);
	check_bytes(file, 0, 1, 'x');
	disk_close(file);

	ck_assert_int_eq(disk_mkdir(disk, "d"), 0);
	put_text("a", "1");
	put_text("b", "2");
	put_text("d/c", "3");
	ck_assert_int_eq(disk_rename(disk, "no", "a"), -ENOENT);
	ck_assert_int_eq(disk_rename(disk, "a", "b"), 0);
	check_text("b", "1");
	ck_assert_int_eq(try_open("a", DISK_READ), -ENOENT);
	ck_assert_int_eq(disk_rename(disk, "b", "d/c"), 0);
	check_text("d/c", "1");
	ck_assert_int_eq(disk_rename(disk, "d/c", "d/a"), 0);
	ck_assert_int_eq(disk_rename(disk, "d/a", "d/z"), 0);
	check_text("d/z", "1");
	ck_assert_int_eq(disk_rename(disk, "d/z", "d/z"), 0);
	check_text("d/z", "1");
	ck_assert_int_eq(disk_rename(disk, "d/z", "no/z"), -ENOENT);
	ck_assert_int_eq(disk_mkdir(disk, "e"), 0);
	ck_assert_int_eq(disk_rename(disk, "d/z", "e"), -EISDIR);
	end();
}
END_TEST

START_TEST(test_whole_files)
{
	begin(_i);
	ck_assert_int_eq(disk_replace_file(disk, "", "f", "first version", 13), 0);
	ck_assert_int_eq(disk_replace_file(disk, "", "f", "second", 6), 0);
	check_text("f", "second");
	ck_assert_int_eq(try_open("f.tmp", DISK_READ), -ENOENT);
	put_text("empty", "");
	check_text("empty", "");

	void *data = NULL;
	size_t size = 0;
	ck_assert_int_eq(disk_read_file(disk, "f", 5, &data, &size), -EFBIG);
	ck_assert_int_eq(disk_read_file(disk, "no", 5, &data, &size), -ENOENT);
	ck_assert_ptr_null(data);
	ck_assert_int_eq(disk_replace_file(disk, "no", "no/f", "x", 1), -ENOENT);
	/* A name that is a directory cannot be replaced, and the temporary file does not stay. */
	ck_assert_int_eq(disk_mkdir(disk, "d"), 0);
	ck_assert_int_lt(disk_replace_file(disk, "", "d", "x", 1), 0);
	ck_assert_int_eq(try_open("d.tmp", DISK_READ), -ENOENT);
	end();
}
END_TEST

/* ---- Main ---- */

static void find_refused(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		struct reterr err = {0};
		struct disk *probe = NULL;
		if (variants[i].kind != POSIX)
			continue;
		int r = disk_posix_open(".", variants[i].path, &err, &probe);
		if (r == -ENOSYS || r == -EPERM)
			variants[i].refused = strerror(-r);
		disk_free(probe);
	}
}

static void add_tests(TCase *tests, int i)
{
	const TTest *const every[] = {
		test_name,
		test_open_flags,
		test_bad_paths,
		test_read_and_write,
		test_many_iovecs,
		test_truncate,
		test_reserve,
		test_direct_commit,
		test_read_once,
		test_direct_wants_alignment,
		test_many_jobs,
		test_flush_only_and_nothing,
		test_one_job_fails,
		test_threads,
		test_directories,
		test_list_while_removing,
		test_unlink_and_rename,
		test_whole_files,
	};

	for (size_t t = 0; t < ARRAY_SIZE(every); t++)
		tcase_add_loop_test(tests, every[t], i, i + 1);
}

int main(void)
{
	bool refused = false;
	Suite *suite = suite_create("disk");
	find_refused();
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		if (variants[i].refused) {
			refused = true;
			continue;
		}
		TCase *tests = tcase_create(*variants[i].name ? variants[i].name : "auto");
		tcase_set_timeout(tests, 60);
		add_tests(tests, (int)i);
		suite_add_tcase(suite, tests);
	}

	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		if (variants[i].refused)
			(void)printf("SKIP: %s is refused here: %s\n", variants[i].name,
				     variants[i].refused);
	}
	if (failed)
		return 1;
	return refused ? 77 : 0;
}
