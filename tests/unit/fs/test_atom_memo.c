/* The memo of atom sizes: what was put is found or forgotten, never mistaken for another one's. */
#include <check.h>
#include <stdlib.h>

#include "fs/atom_memo.h"

static struct atom_memo *memo;

static void setup(void)
{
	ck_assert_int_eq(atom_memo_new(&memo), 0);
}

static void teardown(void)
{
	atom_memo_free(memo);
}

START_TEST(test_found_again)
{
	uint64_t size = 42;

	ck_assert(!atom_memo_get(memo, 7, &size));
	ck_assert_uint_eq(size, 42);
	atom_memo_put(memo, 7, 100);
	ck_assert(atom_memo_get(memo, 7, &size));
	ck_assert_uint_eq(size, 100);
	atom_memo_put(memo, 7, 101);
	ck_assert(atom_memo_get(memo, 7, &size));
	ck_assert_uint_eq(size, 101);
}
END_TEST

/* Far more ids than slots, as a scan over a large segment brings them. */
START_TEST(test_never_mistaken)
{
	enum { IDS = 100000 };
	uint64_t found = 0;

	for (uint64_t id = 1; id <= IDS; id++)
		atom_memo_put(memo, id * 4105, id);
	for (uint64_t id = 1; id <= IDS; id++) {
		uint64_t size;
		if (!atom_memo_get(memo, id * 4105, &size))
			continue;
		ck_assert_uint_eq(size, id);
		found++;
	}
	/* Bounded, and still of use: the newest ids have nearly all slots. */
	ck_assert_uint_gt(found, 500);
	ck_assert_uint_le(found, 1024);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("atom_memo");
	TCase *cases = tcase_create("all");
	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, test_found_again);
	tcase_add_test(cases, test_never_mistaken);
	suite_add_tcase(suite, cases);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
