/* The cursor: exact at every length, and unmoved when it refuses. */
#include <check.h>
#include <errno.h>
#include <stdint.h>

#include "base/slice.h"

static const uint8_t bytes[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

START_TEST(test_take_every_size)
{
	for (size_t size = 0; size <= sizeof(bytes); size++) {
		for (size_t take = 0; take <= sizeof(bytes) + 1; take++) {
			struct slice in = {bytes, size};
			struct slice out = {0};
			int r = slice_take(&in, take, &out);
			ck_assert_int_eq(r, take <= size ? 0 : -ENODATA);
			ck_assert_ptr_eq(in.data, bytes + (r == 0 ? take : 0));
			ck_assert_uint_eq(in.size, r == 0 ? size - take : size);
			ck_assert_ptr_eq(out.data, r == 0 ? bytes : NULL);
			ck_assert_uint_eq(out.size, r == 0 ? take : 0);
		}
	}
}
END_TEST

START_TEST(test_take_absurd_sizes)
{
	struct slice in = {bytes, sizeof(bytes)};
	struct slice out;
	ck_assert_int_eq(slice_take(&in, SIZE_MAX, &out), -ENODATA);
	ck_assert_int_eq(slice_take(&in, SIZE_MAX - 15, &out), -ENODATA);
	ck_assert_int_eq(slice_take(&in, (size_t)1 << 60, &out), -ENODATA);
	ck_assert_uint_eq(in.size, sizeof(bytes));
}
END_TEST

START_TEST(test_take_numbers)
{
	for (size_t size = 0; size <= sizeof(bytes); size++) {
		struct slice in = {bytes + 1, size > 0 ? size - 1 : 0};
		struct slice before = in;
		uint32_t small = 7;
		uint64_t large = 7;
		int r = slice_take_le32(&in, &small);
		ck_assert_int_eq(r, before.size >= 4 ? 0 : -ENODATA);
		ck_assert_uint_eq(small, r == 0 ? 0x05040302 : 7);
		ck_assert_uint_eq(in.size, r == 0 ? before.size - 4 : before.size);

		in = before;
		r = slice_take_le64(&in, &large);
		ck_assert_int_eq(r, before.size >= 8 ? 0 : -ENODATA);
		ck_assert_uint_eq(large, r == 0 ? 0x0908070605040302 : 7);
		ck_assert_uint_eq(in.size, r == 0 ? before.size - 8 : before.size);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("slice");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, test_take_every_size);
	tcase_add_test(tests, test_take_absurd_sizes);
	tcase_add_test(tests, test_take_numbers);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
