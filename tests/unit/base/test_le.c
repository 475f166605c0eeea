/* Little-endian, at any alignment, whatever the machine is. */
#include <check.h>
#include <string.h>

#include "base/le.h"

START_TEST(test_bytes)
{
	uint8_t bytes[16];
	static const uint8_t wanted[] = {0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01};

	for (size_t at = 0; at < 8; at++) {
		memset(bytes, 0x55, sizeof(bytes));
		store_le64(bytes + at, 0x0123456789abcdef);
		ck_assert_mem_eq(bytes + at, wanted, 8);
		ck_assert_uint_eq(load_le64(bytes + at), 0x0123456789abcdef);
		ck_assert_uint_eq(load_le32(bytes + at), 0x89abcdef);
		ck_assert_uint_eq(bytes[at + 8], 0x55);

		store_le32(bytes + at, 0xfedcba98);
		ck_assert_uint_eq(load_le32(bytes + at), 0xfedcba98);
		ck_assert_uint_eq(load_le64(bytes + at), 0x01234567fedcba98);
	}
}
END_TEST

START_TEST(test_extremes)
{
	static const uint64_t values[] = {0, 1, 0xff, 0x8000000000000000, UINT64_MAX};
	uint8_t bytes[8];

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		store_le64(bytes, values[i]);
		ck_assert_uint_eq(load_le64(bytes), values[i]);
		store_le32(bytes, (uint32_t)values[i]);
		ck_assert_uint_eq(load_le32(bytes), (uint32_t)values[i]);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("le");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, test_bytes);
	tcase_add_test(tests, test_extremes);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
