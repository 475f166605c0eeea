/* Bytes on their way in: memory, then a stage of the store; compared with a plain array. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/disk.h"
#include "engine/engine.h"
#include "fs/blob.h"
#include "tests/lib/fault_alloc.h"

enum { SIZE_MAX_TEST = 300 << 10 };

static struct disk *disk;
static struct engine *engine;

/* Numbers that look random and are the same in each run. */
static size_t next_number(void)
{
	static uint64_t state = 17;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (size_t)(state >> 16);
}

static void setup(void)
{
	ck_assert_int_eq(disk_memory_new(64 << 20, &disk), 0);
	ck_assert_int_eq(engine_format(disk, NULL, NULL), 0);
	ck_assert_int_eq(engine_open(disk, NULL, NULL, &engine), 0);
}

static void teardown(void)
{
	ck_assert_int_eq(engine_close(engine, NULL), 0);
	disk_free(disk);
}

static struct blob blob_new(void)
{
	return (struct blob){.engine = engine, .size_max = SIZE_MAX_TEST};
}

static void expect(struct blob *blob, const uint8_t *bytes, size_t size)
{
	static uint8_t got[SIZE_MAX_TEST + 100];
	size_t n, done = 0;
	ck_assert_uint_eq(blob->size, size);
	do {
		ck_assert_int_eq(blob_read(blob, got + done, sizeof(got) - done, done, &n), 0);
		done += n;
	} while (n > 0);
	ck_assert_uint_eq(done, size);
	ck_assert(memcmp(got, bytes, size) == 0);
}

START_TEST(test_small_stays_in_memory)
{
	struct blob blob = blob_new();
	expect(&blob, (const uint8_t *)"", 0);
	ck_assert_int_eq(blob_write(&blob, "hello", 5, 3), 0);
	ck_assert_ptr_null(blob.stage);
	expect(&blob, (const uint8_t *)"\0\0\0hello", 8);
	ck_assert_int_eq(blob_truncate(&blob, 4), 0);
	ck_assert_int_eq(blob_truncate(&blob, 6), 0);
	expect(&blob, (const uint8_t *)"\0\0\0h\0\0", 6);
	ck_assert_int_eq(blob_truncate(&blob, 0), 0);
	ck_assert_ptr_null(blob.memory);
	blob_done(&blob);
}
END_TEST

START_TEST(test_limits)
{
	struct blob blob = blob_new();
	ck_assert_int_eq(blob_write(&blob, "x", 1, SIZE_MAX_TEST - 1), 0);
	ck_assert_int_eq(blob_write(&blob, "x", 1, SIZE_MAX_TEST), -EFBIG);
	ck_assert_int_eq(blob_write(&blob, "xy", 2, SIZE_MAX_TEST - 1), -EFBIG);
	ck_assert_int_eq(blob_write(&blob, "x", 1, UINT64_MAX), -EFBIG);
	ck_assert_int_eq(blob_truncate(&blob, SIZE_MAX_TEST + 1), -EFBIG);
	ck_assert_uint_eq(blob.size, SIZE_MAX_TEST);
	blob_done(&blob);
}
END_TEST

/* Random writes and truncations, like the same ones on an array. */
START_TEST(test_like_an_array)
{
	static uint8_t bytes[SIZE_MAX_TEST], data[SIZE_MAX_TEST];
	struct blob blob = blob_new();
	size_t size = 0;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)next_number();
	for (int round = 0; round < 400; round++) {
		size_t range = round % 3 ? (size_t)BLOB_MEMORY_MAX + 5 : SIZE_MAX_TEST;
		size_t offset = next_number() % range, length = next_number() % (range - offset);
		if (next_number() % 8 == 0) {
			ck_assert_int_eq(blob_truncate(&blob, offset), 0);
			if (offset > size)
				memset(bytes + size, 0, offset - size);
			size = offset;
		} else if (length > 0) {
			ck_assert_int_eq(blob_write(&blob, data, length, offset), 0);
			if (offset > size)
				memset(bytes + size, 0, offset - size);
			memcpy(bytes + offset, data, length);
			if (offset + length > size)
				size = offset + length;
		}
		expect(&blob, bytes, size);
		if (next_number() % 50 == 0) {
			blob_done(&blob);
			size = 0;
		}
	}
	blob_done(&blob);
}
END_TEST

START_TEST(test_memory_of_all_is_bounded)
{
	enum { COUNT = BLOB_MEMORY_TOTAL_MAX / BLOB_MEMORY_MAX + 10 };
	static struct blob blobs[COUNT];
	unsigned in_memory = 0;
	for (unsigned i = 0; i < COUNT; i++) {
		blobs[i] = blob_new();
		ck_assert_int_eq(blob_write(&blobs[i], &i, sizeof(i), 0), 0);
		in_memory += blobs[i].memory != NULL;
	}
	ck_assert_uint_eq(in_memory, COUNT - 10);
	for (unsigned i = 0; i < COUNT; i++) {
		expect(&blobs[i], (const uint8_t *)&i, sizeof(i));
		blob_done(&blobs[i]);
	}
}
END_TEST

START_TEST(test_to_stage)
{
	struct blob blob = blob_new();
	struct engine_stage *stage;
	ck_assert_int_eq(blob_write(&blob, "hello", 5, 0), 0);
	ck_assert_int_eq(blob_to_stage(&blob, &stage), 0);
	ck_assert_uint_eq(engine_stage_size(stage), 5);
	expect(&blob, (const uint8_t *)"hello", 5);
	ck_assert_int_eq(blob_write(&blob, "!", 1, 5), 0);
	expect(&blob, (const uint8_t *)"hello!", 6);
	blob_done(&blob);
}
END_TEST

/* Without memory bytes are staged, or the write fails and the blob can still be used. */
START_TEST(test_allocations_fail)
{
	bool failed;
	uint64_t n = 0;
	do {
		struct blob blob = blob_new();
		fault_alloc_fail(++n);
		int r = blob_write(&blob, "hello", 5, 0);
		failed = fault_alloc_stop();
		ck_assert(r == 0 || (failed && r == -ENOMEM));
		if (r == 0)
			expect(&blob, (const uint8_t *)"hello", 5);
		else
			ck_assert_uint_eq(blob.size, 0);
		blob_done(&blob);
	} while (failed);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("blob");
	TCase *tests = tcase_create("all");
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, test_small_stays_in_memory);
	tcase_add_test(tests, test_limits);
	tcase_add_test(tests, test_like_an_array);
	tcase_add_test(tests, test_memory_of_all_is_bounded);
	tcase_add_test(tests, test_to_stage);
	tcase_add_test(tests, test_allocations_fail);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
