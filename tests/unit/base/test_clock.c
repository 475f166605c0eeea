/* The system's clocks move, the right way; the fake one only when it is told to. */
#include <check.h>

#include "tests/lib/fake_clock.h"

START_TEST(test_system)
{
	const struct clock *clock = clock_system();
	uint64_t first = clock->now_ms(clock);
	uint64_t last = first;
	for (int i = 0; i < 1000000 && last == first; i++) {
		uint64_t now = clock->now_ms(clock);
		ck_assert_uint_ge(now, last);
		last = now;
	}
	ck_assert_uint_gt(last, first);
	/* After 2020, and before 2100. */
	ck_assert_uint_gt(clock->wall_ns(clock), 1577836800000000000);
	ck_assert_uint_lt(clock->wall_ns(clock), 4102444800000000000);
}
END_TEST

START_TEST(test_fake)
{
	struct fake_clock fake;
	fake_clock_init(&fake);
	const struct clock *clock = &fake.clock;
	uint64_t now_ms = clock->now_ms(clock);
	uint64_t wall_ns = clock->wall_ns(clock);
	ck_assert_uint_gt(now_ms, 0);
	ck_assert_uint_eq(clock->now_ms(clock), now_ms);
	fake_clock_advance_ms(&fake, 30000);
	ck_assert_uint_eq(clock->now_ms(clock), now_ms + 30000);
	ck_assert_uint_eq(clock->wall_ns(clock), wall_ns + 30000000000);
	fake_clock_set_wall_ns(&fake, wall_ns - 1);
	ck_assert_uint_eq(clock->wall_ns(clock), wall_ns - 1);
	ck_assert_uint_eq(clock->now_ms(clock), now_ms + 30000);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("clock");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, test_system);
	tcase_add_test(tests, test_fake);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
