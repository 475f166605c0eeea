/* Errors carry their reason, cut to fit, and nobody has to take it. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "base/reterr.h"

START_TEST(test_set)
{
	struct reterr err = {0};
	ck_assert_int_eq(reterr_set(&err, -EIO, "part %d of %s", 3, "it"), -EIO);
	ck_assert_int_eq(err.code, -EIO);
	ck_assert_str_eq(err.text, "part 3 of it");
	ck_assert_int_eq(reterr_set(&err, -EROFS, "later"), -EROFS);
	ck_assert_str_eq(err.text, "later");
}
END_TEST

START_TEST(test_nobody_cares)
{
	ck_assert_int_eq(reterr_set(NULL, -ENOSPC, "%s", "x"), -ENOSPC);
}
END_TEST

START_TEST(test_long_text)
{
	struct reterr err = {0};
	char text[2 * RETERR_TEXT_SIZE];
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	ck_assert_int_eq(reterr_set(&err, -EIO, "%s", text), -EIO);
	ck_assert_uint_eq(strlen(err.text), RETERR_TEXT_SIZE - 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("reterr");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, test_set);
	tcase_add_test(tests, test_nobody_cares);
	tcase_add_test(tests, test_long_text);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
