/* What names in the mount mean: numbers, targets of links in roots/, times. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fs/decimal.h"
#include "fs/root_text.h"
#include "fs/roots_pending.h"
#include "fs/utc.h"

#define UUID_TEXT "01234567-89ab-4cde-8f01-23456789abcd"

START_TEST(test_decimal)
{
	static const struct {
		const char *text;
		uint64_t value;
	} good[] = {{"0", 0}, {"7", 7}, {"10", 10}, {"18446744073709551615", UINT64_MAX}};
	static const char *const bad[] = {
		"",
		"00",
		"01",
		"+1",
		"-1",
		" 1",
		"1 ",
		"0x1",
		"1a",
		"a",
		"18446744073709551616",
		"99999999999999999999999999999999999999",
		"\xd9\xa1",
	};
	uint64_t value = 42;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		ck_assert_int_eq(decimal_parse(good[i].text, &value), 0);
		ck_assert_uint_eq(value, good[i].value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(decimal_parse(bad[i], &value) == -EINVAL, "%s", bad[i]);

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		char text[DECIMAL_SIZE];
		ck_assert_str_eq(decimal_format(good[i].value, text), good[i].text);
	}

	const char *text = "12.json";
	ck_assert_int_eq(decimal_take(&text, &value), 0);
	ck_assert_str_eq(text, ".json");
	ck_assert_uint_eq(value, 12);
}
END_TEST

START_TEST(test_wish)
{
	struct wish wish;
	ck_assert_int_eq(wish_parse("17", &wish), 0);
	ck_assert_uint_eq(wish.seq, 17);
	ck_assert_int_eq(wish_parse("../atoms/" UUID_TEXT "/68719476735", &wish), 0);
	ck_assert_uint_eq(wish.seq, 0);
	ck_assert_uint_eq(wish.pointer.offset, NODE_OFFSET_MAX);

	static const char *const bad[] = {
		"",
		"0",
		"1152921504606846976", /* 2^60 */
		"../atoms/" UUID_TEXT "/68719476736",
		"../atoms/" UUID_TEXT "/0/",
		"../atoms/" UUID_TEXT "/0.json",
		"../atoms/" UUID_TEXT "//0",
		"../Atoms/" UUID_TEXT "/0",
		"../atoms/01234567-89AB-4cde-8f01-23456789abcd/0",
		"../17",
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(wish_parse(bad[i], &wish) == -EINVAL, "%s", bad[i]);

	/* Every prefix of a good one but those that are good themselves. */
	static const char good[] = "../atoms/" UUID_TEXT "/102";
	char text[sizeof(good)];
	for (size_t n = 0; n < sizeof(good) - 1; n++) {
		memcpy(text, good, n);
		text[n] = '\0';
		int want = n >= sizeof(good) - 1 - 2 ? 0 : -EINVAL;
		ck_assert_msg(wish_parse(text, &wish) == want, "%s", text);
	}
}
END_TEST

START_TEST(test_utc)
{
	char text[UTC_TEXT_SIZE];
	ck_assert_str_eq(utc_format(0, text), "1970-01-01T00:00:00.000000000Z");
	ck_assert_str_eq(utc_format(951782399999999999, text), "2000-02-28T23:59:59.999999999Z");
	ck_assert_str_eq(utc_format(UINT64_MAX, text), "2554-07-21T23:34:33.709551615Z");
}
END_TEST

START_TEST(test_root_text)
{
	struct engine_root root = {
		.seq = UINT64_MAX,
		.pointer = {.offset = UINT64_MAX},
		.time_ns = UINT64_MAX,
		.node = UINT32_MAX,
	};
	struct buf out = {.max = ROOT_TEXT_MAX};
	ck_assert_int_eq(root_text_print(&root, &out), 0); /* the largest one fits */
	buf_clear(&out);

	root = (struct engine_root){.seq = 5, .pointer = {.offset = 77}, .time_ns = 1, .node = 2};
	ck_assert_int_eq(uuid_parse(UUID_TEXT, &root.pointer.segment), 0);
	ck_assert_int_eq(root_text_print(&root, &out), 0);
	ck_assert_int_eq(buf_append(&out, "", 1), 0);
	ck_assert_str_eq((const char *)out.data,
			 "{\"transaction_id\": \"" UUID_TEXT "\", \"offset\": 77, \"seq\": 5, "
			 "\"time\": \"1970-01-01T00:00:00.000000001Z\", \"node\": 2}\n");
	buf_done(&out);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("names");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, test_decimal);
	tcase_add_test(tests, test_wish);
	tcase_add_test(tests, test_utc);
	tcase_add_test(tests, test_root_text);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
