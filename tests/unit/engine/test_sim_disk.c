/* The simulated disk: what was flushed survives every crash, what was not sometimes does not, and faults come when told. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/disk.h"
#include "tests/lib/sim_disk.h"

#define KIB ((uint64_t)1 << 10)

enum { SEEDS = 300, BLOCK = DISK_BLOCK_SIZE };

static struct disk *disk;

static void setup(void)
{
	disk = sim_disk_new(1);
}

static void teardown(void)
{
	disk_free(disk);
}

static struct disk_file *create(const char *path)
{
	struct disk_file *file = NULL;
	ck_assert_int_eq(disk_open(disk, path, DISK_WRITE | DISK_CREATE, &file), 0);
	return file;
}

static int put(struct disk_file *file, int value, size_t size, uint64_t offset, bool flush)
{
	char *data = malloc(size);
	ck_assert_ptr_nonnull(data);
	memset(data, value, size);
	struct iovec iov = {data, size};
	struct disk_job job = {
		.file = file, .writes = {{&iov, 1, offset}}, .write_count = 1, .no_flush = !flush};
	int r = disk_commit(disk, &job, 1);
	free(data);
	return r;
}

/* A file that is wholly stable, its name too. */
static struct disk_file *stable_file(const char *path, int value, size_t size)
{
	struct disk_file *file = create(path);
	ck_assert_int_eq(put(file, value, size, 0, true), 0);
	ck_assert_int_eq(disk_sync_dir(disk, ""), 0);
	return file;
}

/* The file's bytes, or NULL if its name is lost; the caller frees. */
static char *read_all(struct disk *from, const char *path, size_t *ret_size)
{
	void *data = NULL;
	int r = disk_read_file(from, path, 1 << 20, &data, ret_size);
	ck_assert(r == 0 || r == -ENOENT);
	return data;
}

static bool all_are(const char *data, size_t size, int value)
{
	for (size_t i = 0; i < size; i++) {
		if (data[i] != value)
			return false;
	}
	return true;
}

START_TEST(test_flushed_survives)
{
	struct disk_file *file = stable_file("f", 'a', 64 * KIB);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		size_t size = 0;
		struct disk *after = sim_disk_crash(disk, seed);
		char *data = read_all(after, "f", &size);
		ck_assert_ptr_nonnull(data);
		ck_assert_uint_eq(size, 64 * KIB);
		ck_assert(all_are(data, size, 'a'));
		free(data);
		disk_free(after);
	}
	disk_close(file);
}
END_TEST

/* Each sector of an overwrite is the old one or the new one, and all mixtures come. */
START_TEST(test_unflushed_tears)
{
	unsigned all_old = 0;
	unsigned all_new = 0;
	unsigned mixed = 0;
	struct disk_file *file = stable_file("f", 'a', BLOCK);
	ck_assert_int_eq(put(file, 'b', BLOCK, 0, false), 0);

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		size_t size = 0;
		unsigned fresh = 0;
		struct disk *after = sim_disk_crash(disk, seed);
		char *data = read_all(after, "f", &size);
		ck_assert_uint_eq(size, BLOCK);
		for (size_t at = 0; at < BLOCK; at += DISK_SECTOR_SIZE) {
			bool is_new = data[at] == 'b';
			ck_assert(all_are(data + at, DISK_SECTOR_SIZE, is_new ? 'b' : 'a'));
			fresh += is_new;
		}
		all_old += fresh == 0;
		all_new += fresh == BLOCK / DISK_SECTOR_SIZE;
		mixed += fresh > 0 && fresh < BLOCK / DISK_SECTOR_SIZE;
		free(data);
		disk_free(after);
	}
	ck_assert_uint_gt(all_old, 0);
	ck_assert_uint_gt(all_new, 0);
	ck_assert_uint_gt(mixed, 0);
	disk_close(file);
}
END_TEST

/* Of two unflushed versions of a sector any may be there, the one before them too; after the flush only the last. */
START_TEST(test_versions)
{
	unsigned seen[3] = {0};
	struct disk_file *file = stable_file("f", 'a', DISK_SECTOR_SIZE);
	ck_assert_int_eq(put(file, 'b', DISK_SECTOR_SIZE, 0, false), 0);
	ck_assert_int_eq(put(file, 'c', DISK_SECTOR_SIZE, 0, false), 0);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		size_t size = 0;
		struct disk *after = sim_disk_crash(disk, seed);
		char *data = read_all(after, "f", &size);
		ck_assert(data[0] >= 'a' && data[0] <= 'c');
		seen[data[0] - 'a']++;
		free(data);
		disk_free(after);
	}
	ck_assert(seen[0] && seen[1] && seen[2]);

	ck_assert_int_eq(disk_flush(file), 0);
	struct disk *after = sim_disk_crash(disk, 7);
	size_t size = 0;
	char *data = read_all(after, "f", &size);
	ck_assert(all_are(data, size, 'c'));
	free(data);
	disk_free(after);
	disk_close(file);
}
END_TEST

/* A file that grew may have any of its sizes; bytes that are not there read as zeros. */
START_TEST(test_sizes)
{
	unsigned shorter = 0;
	unsigned holes = 0;
	struct disk_file *file = stable_file("f", 'a', 1000);
	ck_assert_int_eq(put(file, 'b', 1000, 1000, false), 0);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		size_t size = 0;
		struct disk *after = sim_disk_crash(disk, seed);
		char *data = read_all(after, "f", &size);
		ck_assert(size == 1000 || size == 2000);
		ck_assert(all_are(data, 1000, 'a'));
		for (size_t i = 1000; i < size; i++)
			ck_assert(data[i] == 'b' || data[i] == 0);
		shorter += size == 1000;
		holes += size == 2000 && memchr(data + 1000, 0, 1000);
		free(data);
		disk_free(after);
	}
	ck_assert_uint_gt(shorter, 0);
	ck_assert_uint_gt(holes, 0);
	disk_close(file);
}
END_TEST

/* What was cut off never comes back once the cut is stable; before, it may. */
START_TEST(test_truncate)
{
	unsigned old = 0;
	struct disk_file *file = stable_file("f", 'a', BLOCK);
	ck_assert_int_eq(disk_truncate(file, 100), 0);
	ck_assert_int_eq(disk_truncate(file, BLOCK), 0);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		size_t size = 0;
		struct disk *after = sim_disk_crash(disk, seed);
		char *data = read_all(after, "f", &size);
		ck_assert(size == 100 || size == BLOCK);
		ck_assert(all_are(data, 100, 'a'));
		old += size == BLOCK && data[100] == 'a';
		free(data);
		disk_free(after);
	}
	ck_assert_uint_gt(old, 0);

	ck_assert_int_eq(disk_flush(file), 0);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		size_t size = 0;
		struct disk *after = sim_disk_crash(disk, seed);
		char *data = read_all(after, "f", &size);
		ck_assert_uint_eq(size, BLOCK);
		ck_assert(all_are(data + 100, BLOCK - 100, 0));
		free(data);
		disk_free(after);
	}
	disk_close(file);
}
END_TEST

static bool exists(struct disk *from, const char *path)
{
	struct disk_file *file = NULL;
	int r = disk_open(from, path, DISK_READ, &file);
	ck_assert(r == 0 || r == -ENOENT);
	if (r == 0)
		disk_close(file);
	return r == 0;
}

START_TEST(test_names)
{
	unsigned lost = 0;
	unsigned kept = 0;
	unsigned out_of_order = 0;
	struct disk_file *a = create("a");
	struct disk_file *b = create("b");
	/* A flush of a file says nothing about its name. */
	ck_assert_int_eq(put(a, 'x', 10, 0, true), 0);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct disk *after = sim_disk_crash(disk, seed);
		bool has_a = exists(after, "a");
		bool has_b = exists(after, "b");
		lost += !has_a;
		kept += has_a;
		out_of_order += has_b && !has_a;
		disk_free(after);
	}
	ck_assert(lost && kept && out_of_order);

	ck_assert_int_eq(disk_sync_dir(disk, ""), 0);
	ck_assert_int_eq(disk_unlink(disk, "b"), 0);
	lost = kept = 0;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct disk *after = sim_disk_crash(disk, seed);
		ck_assert(exists(after, "a"));
		lost += !exists(after, "b");
		kept += exists(after, "b");
		disk_free(after);
	}
	ck_assert(lost && kept);
	disk_close(a);
	disk_close(b);
}
END_TEST

/* The recipe of disk_replace_file: old or new, whole, wherever the power fails. */
START_TEST(test_replace_file)
{
	unsigned old = 0;
	unsigned fresh = 0;
	disk_close(stable_file("f", 'a', 3000));
	char data[2000];
	memset(data, 'b', sizeof(data));
	for (uint64_t cut = 0; cut < 6; cut++) {
		for (uint64_t seed = 0; seed < 50; seed++) {
			struct disk *one = sim_disk_crash(disk, seed);
			sim_disk_cut_after(one, cut);
			int r = disk_replace_file(one, "", "f", data, sizeof(data));
			struct disk *after = sim_disk_crash(one, seed);
			size_t size = 0;
			char *found = read_all(after, "f", &size);
			ck_assert_ptr_nonnull(found);
			bool is_new = size == sizeof(data) && all_are(found, size, 'b');
			bool is_old = size == 3000 && all_are(found, size, 'a');
			ck_assert(is_new || is_old);
			ck_assert(r < 0 || is_new);
			old += is_old;
			fresh += is_new;
			free(found);
			disk_free(after);
			disk_free(one);
		}
	}
	ck_assert(old && fresh);
}
END_TEST

/* Without the flush before the rename the same recipe is broken, and the disk shows it. */
START_TEST(test_replace_without_flush)
{
	unsigned torn = 0;
	disk_close(stable_file("f", 'a', 3000));
	struct disk_file *file = create("g");
	ck_assert_int_eq(put(file, 'b', 2000, 0, false), 0);
	ck_assert_int_eq(disk_rename(disk, "g", "f"), 0);
	ck_assert_int_eq(disk_sync_dir(disk, ""), 0);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct disk *after = sim_disk_crash(disk, seed);
		size_t size = 0;
		char *found = read_all(after, "f", &size);
		torn += size != 2000 || !all_are(found, size, 'b');
		free(found);
		disk_free(after);
	}
	ck_assert_uint_gt(torn, 0);
	disk_close(file);
}
END_TEST

START_TEST(test_directories)
{
	unsigned lost = 0;
	ck_assert_int_eq(disk_mkdir(disk, "d"), 0);
	struct disk_file *file = create("d/f");
	ck_assert_int_eq(put(file, 'x', 10, 0, true), 0);
	ck_assert_int_eq(disk_sync_dir(disk, "d"), 0);
	/* The name of the directory itself is not safe yet. */
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct disk *after = sim_disk_crash(disk, seed);
		lost += !exists(after, "d/f");
		disk_free(after);
	}
	ck_assert_uint_gt(lost, 0);
	ck_assert_int_eq(disk_sync_dir(disk, ""), 0);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct disk *after = sim_disk_crash(disk, seed);
		ck_assert(exists(after, "d/f"));
		disk_free(after);
	}
	disk_close(file);
}
END_TEST

/* One directory's sync makes a rename between two stable, whole. */
START_TEST(test_rename_is_atomic)
{
	ck_assert_int_eq(disk_mkdir(disk, "d"), 0);
	disk_close(stable_file("f", 'x', 10));
	ck_assert_int_eq(disk_rename(disk, "f", "d/g"), 0);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct disk *after = sim_disk_crash(disk, seed);
		ck_assert(exists(after, "f") != exists(after, "d/g"));
		disk_free(after);
	}
	ck_assert_int_eq(disk_sync_dir(disk, "d"), 0);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct disk *after = sim_disk_crash(disk, seed);
		ck_assert(!exists(after, "f") && exists(after, "d/g"));
		disk_free(after);
	}
}
END_TEST

START_TEST(test_power)
{
	struct disk_file *file = stable_file("f", 'a', 10);
	uint64_t before = sim_disk_operations(disk);
	ck_assert_int_eq(put(file, 'b', 10, 0, true), 0);
	ck_assert_uint_eq(sim_disk_operations(disk) - before, 2);

	/* The writes are one operation, the flush the next: between them nothing is safe. */
	sim_disk_cut_after(disk, 1);
	ck_assert(!sim_disk_is_off(disk));
	ck_assert_int_eq(put(file, 'c', 10, 0, true), -EIO);
	ck_assert(sim_disk_is_off(disk));
	char byte;
	size_t got;
	ck_assert_int_eq(disk_read(file, &byte, 1, 0, &got), -EIO);
	ck_assert_int_eq(disk_mkdir(disk, "d"), -EIO);
	ck_assert_int_eq(disk_flush(file), -EIO);
	disk_close(file);

	unsigned seen[2] = {0};
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct disk *after = sim_disk_crash(disk, seed);
		size_t size = 0;
		char *data = read_all(after, "f", &size);
		ck_assert(data[0] == 'b' || data[0] == 'c');
		seen[data[0] - 'b']++;
		free(data);
		disk_free(after);
	}
	ck_assert(seen[0] && seen[1]);
}
END_TEST

/* The same seed, the same crash. */
START_TEST(test_repeatable)
{
	struct disk_file *file = stable_file("f", 'a', 16 * KIB);
	ck_assert_int_eq(put(file, 'b', 16 * KIB, 0, false), 0);
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct disk *one = sim_disk_crash(disk, seed);
		struct disk *two = sim_disk_crash(disk, seed);
		size_t size_one = 0;
		size_t size_two = 0;
		char *data_one = read_all(one, "f", &size_one);
		char *data_two = read_all(two, "f", &size_two);
		ck_assert_uint_eq(size_one, size_two);
		ck_assert_int_eq(memcmp(data_one, data_two, size_one), 0);
		free(data_one);
		free(data_two);
		disk_free(one);
		disk_free(two);
	}
	disk_close(file);
}
END_TEST

START_TEST(test_faults)
{
	struct disk_file *file = stable_file("f", 'a', 10);
	sim_disk_fail(disk, SIM_WRITE, 2, -EIO, false);
	ck_assert_int_eq(put(file, 'b', 10, 0, true), 0);
	ck_assert_int_eq(put(file, 'c', 10, 0, true), -EIO);
	ck_assert_int_eq(put(file, 'd', 10, 0, true), 0);
	ck_assert_uint_eq(sim_disk_failures(disk), 1);

	sim_disk_fail(disk, SIM_MKDIR, 1, -ENOSPC, true);
	ck_assert_int_eq(disk_mkdir(disk, "d"), -ENOSPC);
	ck_assert_int_eq(disk_mkdir(disk, "d"), -ENOSPC);
	sim_disk_fail(disk, SIM_MKDIR, 0, 0, false);
	ck_assert_int_eq(disk_mkdir(disk, "d"), 0);
	ck_assert_uint_eq(sim_disk_calls(disk, SIM_MKDIR), 3);
	disk_close(file);
}
END_TEST

/* What a failed flush has lost no later flush brings back, though reads show it: the trap that fsync is. */
START_TEST(test_failed_flush)
{
	unsigned lost = 0;
	for (uint64_t seed = 0; seed < 100; seed++) {
		struct disk *one = sim_disk_new(seed);
		struct disk *kept = disk;
		disk = one;
		struct disk_file *file = stable_file("f", 'a', BLOCK);
		sim_disk_fail(disk, SIM_FLUSH, 1, -EIO, false);
		ck_assert_int_eq(put(file, 'b', BLOCK, 0, true), -EIO);
		ck_assert_int_eq(disk_flush(file), 0);
		char shown[BLOCK];
		ck_assert_int_eq(disk_read_full(file, shown, sizeof(shown), 0), 0);
		ck_assert(all_are(shown, sizeof(shown), 'b'));

		struct disk *after = sim_disk_crash(disk, seed);
		size_t size = 0;
		char *data = read_all(after, "f", &size);
		lost += memchr(data, 'a', size) != NULL;
		free(data);
		disk_free(after);
		disk_close(file);
		disk_free(one);
		disk = kept;
	}
	ck_assert_uint_gt(lost, 0);
}
END_TEST

START_TEST(test_space)
{
	struct disk_space space;
	struct disk_file *file = create("f");
	sim_disk_set_space(disk, 64 * KIB);
	ck_assert_int_eq(disk->ops->space(disk, &space), 0);
	uint64_t free_at_first = space.available;
	ck_assert_uint_lt(free_at_first, 64 * KIB);
	ck_assert_int_eq(put(file, 'a', 128 * KIB, 0, true), -ENOSPC);
	ck_assert_int_eq(disk_truncate(file, 0), 0);
	ck_assert_int_eq(disk_reserve(file, 0, 32 * KIB), 0);
	ck_assert_int_eq(disk->ops->space(disk, &space), 0);
	ck_assert_uint_eq(space.available, free_at_first - 32 * KIB);
	struct disk_file *other = create("g");
	ck_assert_int_eq(put(other, 'a', 32 * KIB, 0, true), -ENOSPC);
	ck_assert_int_eq(put(file, 'a', 32 * KIB, 0, true), 0);
	disk_close(file);
	disk_close(other);
	ck_assert_int_eq(disk_unlink(disk, "f"), 0);
	ck_assert_int_eq(disk_unlink(disk, "g"), 0);
	ck_assert_int_eq(disk->ops->space(disk, &space), 0);
	ck_assert_uint_ge(space.available, free_at_first);
}
END_TEST

START_TEST(test_damage)
{
	char data[3 * DISK_SECTOR_SIZE];
	struct disk_file *file = stable_file("f", 'a', DISK_SECTOR_SIZE);
	ck_assert_int_eq(put(file, 'b', DISK_SECTOR_SIZE, DISK_SECTOR_SIZE, true), 0);
	ck_assert_int_eq(put(file, 'c', DISK_SECTOR_SIZE, 2 * DISK_SECTOR_SIZE, true), 0);
	sim_disk_flip(disk, "f", 0, 1);
	sim_disk_zero(disk, "f", 1, 2);
	sim_disk_swap(disk, "f", DISK_SECTOR_SIZE, 2 * DISK_SECTOR_SIZE, DISK_SECTOR_SIZE);
	ck_assert_int_eq(disk_read_full(file, data, sizeof(data), 0), 0);
	ck_assert_mem_eq(data, "\x60\0\0\x61", 4);
	ck_assert(all_are(data + DISK_SECTOR_SIZE, DISK_SECTOR_SIZE, 'c'));
	ck_assert(all_are(data + 2 * DISK_SECTOR_SIZE, DISK_SECTOR_SIZE, 'b'));
	disk_close(file);

	size_t size = 0;
	struct disk *after = sim_disk_crash(disk, 3);
	char *found = read_all(after, "f", &size);
	ck_assert_mem_eq(found, data, sizeof(data));
	free(found);
	disk_free(after);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sim_disk");
	TCase *tests = tcase_create("all");
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_flushed_survives);
	tcase_add_test(tests, test_unflushed_tears);
	tcase_add_test(tests, test_versions);
	tcase_add_test(tests, test_sizes);
	tcase_add_test(tests, test_truncate);
	tcase_add_test(tests, test_names);
	tcase_add_test(tests, test_replace_file);
	tcase_add_test(tests, test_replace_without_flush);
	tcase_add_test(tests, test_directories);
	tcase_add_test(tests, test_rename_is_atomic);
	tcase_add_test(tests, test_power);
	tcase_add_test(tests, test_repeatable);
	tcase_add_test(tests, test_faults);
	tcase_add_test(tests, test_failed_flush);
	tcase_add_test(tests, test_space);
	tcase_add_test(tests, test_damage);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
