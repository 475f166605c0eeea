/* The buffer: keeps below its ceiling, and is unchanged by what fails. */
#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "tests/lib/fault_alloc.h"

START_TEST(test_append)
{
	struct buf buf = {.max = 100};
	ck_assert_int_eq(buf_append(&buf, "abc", 3), 0);
	ck_assert_int_eq(buf_append(&buf, NULL, 0), 0);
	ck_assert_int_eq(buf_append_zeros(&buf, 2), 0);
	ck_assert_int_eq(buf_append_text(&buf, "xyz"), 0);
	ck_assert_int_eq(buf_printf(&buf, "%d-%s", 42, "!"), 0);
	ck_assert_uint_eq(buf.size, 12);
	ck_assert_mem_eq(buf.data, "abc\0\0xyz42-!", 12);
	buf_clear(&buf);
	ck_assert_uint_eq(buf.size, 0);
	buf_done(&buf);
	ck_assert_ptr_null(buf.data);
	ck_assert_uint_eq(buf.max, 100);
	buf_done(&buf);
}
END_TEST

START_TEST(test_ceiling)
{
	char bytes[700];
	memset(bytes, 'x', sizeof(bytes));
	for (size_t max = 0; max < 600; max += 7) {
		struct buf buf = {.max = max};
		ck_assert_int_eq(buf_append(&buf, bytes, max + 1), -EFBIG);
		ck_assert_int_eq(buf_append(&buf, bytes, max), 0);
		ck_assert_int_eq(buf_append(&buf, bytes, 1), -EFBIG);
		ck_assert_int_eq(buf_append_zeros(&buf, SIZE_MAX), -EFBIG);
		ck_assert_int_eq(buf_append(&buf, bytes, 0), 0);
		ck_assert_uint_eq(buf.size, max);
		ck_assert_uint_le(buf.capacity, max > 256 ? max : 256);
		buf_done(&buf);
	}
}
END_TEST

/* Byte by byte through every doubling. */
START_TEST(test_growth)
{
	struct buf buf = {.max = 5000};
	for (unsigned i = 0; i < 5000; i++) {
		uint8_t byte = (uint8_t)(i * 7);
		ck_assert_int_eq(buf_append(&buf, &byte, 1), 0);
	}
	ck_assert_int_eq(buf_append(&buf, "x", 1), -EFBIG);
	for (unsigned i = 0; i < 5000; i++)
		ck_assert(buf.data[i] == (uint8_t)(i * 7));
	buf_done(&buf);
}
END_TEST

START_TEST(test_printf_ceiling)
{
	struct buf buf = {.max = 8};
	ck_assert_int_eq(buf_printf(&buf, "%s", "123456789"), -EFBIG);
	ck_assert_uint_eq(buf.size, 0);
	ck_assert_int_eq(buf_printf(&buf, "%s", "1234567"), 0);
	ck_assert_int_eq(buf_printf(&buf, "%s", "12"), -EFBIG);
	ck_assert_uint_eq(buf.size, 7);
	ck_assert_mem_eq(buf.data, "1234567", 7);
	buf_done(&buf);
}
END_TEST

START_TEST(test_no_memory)
{
	struct buf buf = {.max = 10000};
	ck_assert_int_eq(buf_append(&buf, "abc", 3), 0);
	ck_assert(fault_alloc_available());
	fault_alloc_fail(1);
	ck_assert_int_eq(buf_append_zeros(&buf, 1000), -ENOMEM);
	ck_assert(fault_alloc_stop());
	ck_assert_uint_eq(buf.size, 3);
	ck_assert_mem_eq(buf.data, "abc", 3);
	ck_assert_int_eq(buf_append_zeros(&buf, 1000), 0);
	buf_done(&buf);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("buf");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, test_append);
	tcase_add_test(tests, test_ceiling);
	tcase_add_test(tests, test_growth);
	tcase_add_test(tests, test_printf_ceiling);
	tcase_add_test(tests, test_no_memory);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
