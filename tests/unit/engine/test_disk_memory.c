/* What only the memory disk promises: a size limit, and holes and zeros that take no memory. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/disk.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

enum { BLOCK = DISK_BLOCK_SIZE };

static struct disk *disk;

static char *aligned(size_t size, int fill)
{
	char *data = aligned_alloc(BLOCK, size);
	ck_assert_ptr_nonnull(data);
	memset(data, fill, size);
	return data;
}

static struct disk_file *open_new(const char *path)
{
	struct disk_file *file = NULL;
	ck_assert_int_eq(disk_open(disk, path, DISK_WRITE | DISK_CREATE, &file), 0);
	return file;
}

static void check_bytes(struct disk_file *file, uint64_t offset, size_t size, int value)
{
	char *wanted = aligned(size, value);
	char *data = aligned(size, ~value);
	ck_assert_int_eq(disk_read_full(file, data, size, offset), 0);
	ck_assert_mem_eq(data, wanted, size);
	free(wanted);
	free(data);
}

/* Kilobytes that this process has touched and not given back. */
static uint64_t memory_kib(void)
{
	unsigned long long total = 0;
	unsigned long long resident = 0;
	FILE *statm = fopen("/proc/self/statm", "r");
	ck_assert_ptr_nonnull(statm);
	ck_assert_int_eq(fscanf(statm, "%llu %llu", &total, &resident), 2);
	(void)fclose(statm);
	return resident * 4;
}

START_TEST(test_memory_space)
{
	struct disk_space space;
	char *data = aligned(1 * MIB, 'x');

	ck_assert_int_eq(disk_memory_new(1 * MIB, &disk), 0);
	struct disk_file *file = open_new("f");
	/* A hole takes nothing. */
	ck_assert_int_eq(disk_write_flush(file, "x", 1, 64 * KIB * MIB), 0);
	ck_assert_int_eq(disk->ops->space(disk, &space), 0);
	ck_assert_uint_eq(space.total, 1 * MIB);
	ck_assert_uint_ge(space.available, 1 * MIB - 128 * KIB);
	ck_assert_int_eq(disk_write_flush(file, data, 1 * MIB, 0), -ENOSPC);
	ck_assert_int_eq(disk_truncate(file, 0), 0);

	/* Reserved space is there, and nobody else's. */
	ck_assert_int_eq(disk_reserve(file, 0, 512 * KIB), 0);
	struct disk_file *other = open_new("g");
	ck_assert_int_eq(disk_write_flush(other, data, 512 * KIB, 0), -ENOSPC);
	ck_assert_int_eq(disk_write_flush(file, data, 512 * KIB, 0), 0);
	check_bytes(file, 0, 512 * KIB, 'x');
	ck_assert_int_eq(disk_reserve(file, 0, 2 * MIB), -ENOSPC);
	disk_close(other);

	/* An open file without a name keeps its space. */
	ck_assert_int_eq(disk_unlink(disk, "f"), 0);
	ck_assert_int_eq(disk_unlink(disk, "g"), 0);
	check_bytes(file, 0, 512 * KIB, 'x');
	disk_close(file);
	ck_assert_int_eq(disk->ops->space(disk, &space), 0);
	ck_assert_uint_eq(space.available, 1 * MIB);
	free(data);
	disk_free(disk);
}
END_TEST

START_TEST(test_zeros_are_cheap)
{
	enum { SIZE = 128 };
	struct disk_space space;
	char *zeros = aligned(1 * MIB, 0);

	ck_assert_int_eq(disk_memory_new(SIZE * MIB, &disk), 0);
	struct disk_file *file = open_new("f");
	uint64_t before_kib = memory_kib();
	for (uint64_t i = 0; i < SIZE / 2; i++)
		ck_assert_int_eq(disk_write_flush(file, zeros, 1 * MIB, i * MIB), 0);
	ck_assert_uint_lt(memory_kib() - before_kib, 4096);
	/* They count, so that what is written over them cannot fail. */
	ck_assert_int_eq(disk->ops->space(disk, &space), 0);
	ck_assert_uint_le(space.available, SIZE / 2 * MIB);
	check_bytes(file, 10 * MIB, 64 * KIB, 0);
	memset(zeros, 'x', 1 * MIB);
	ck_assert_int_eq(disk_write_flush(file, zeros, 1 * MIB, 10 * MIB + 1), 0);
	check_bytes(file, 10 * MIB + 1, 64 * KIB, 'x');
	disk_close(file);
	free(zeros);
	disk_free(disk);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("disk_memory");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, test_memory_space);
	tcase_add_test(tests, test_zeros_are_cheap);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
