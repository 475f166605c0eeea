/* space_root's JSON: what ProtoDB writes is taken, everything else is refused with a reason. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/node.h"
#include "fs/root_json.h"

#define UUID "0f8fad5b-d9cb-469f-a165-70867728950e"
#define GOOD "{\"transaction_id\": \"" UUID "\", \"offset\": 4711}"

static int parse(const char *text, struct engine_pointer *ret)
{
	struct reterr err = {0};
	struct slice in = {.data = (const uint8_t *)text, .size = strlen(text)};
	int r = root_json_parse(in, ret, &err);
	ck_assert_msg(r == 0 || (err.code == r && err.text[0] != '\0'), "no reason for: %s", text);
	return r;
}

START_TEST(test_good)
{
	static const char *const texts[] = {
		GOOD,
		" \n" GOOD "\n",
		"{\"offset\":4711,\"transaction_id\":\"" UUID "\"}",
		"{\"x\": [1, {\"offset\": \"y\", \"transaction_id\": 5}], \"offset\": 4711, "
		"\"transaction_id\": \"" UUID "\", \"z\": null, \"t\": true}",
	};
	struct uuid uuid;
	ck_assert_int_eq(uuid_parse(UUID, &uuid), 0);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct engine_pointer pointer = {0};
		ck_assert_msg(parse(texts[i], &pointer) == 0, "refused: %s", texts[i]);
		ck_assert_uint_eq(pointer.offset, 4711);
		ck_assert(uuid_equal(&pointer.segment, &uuid));
	}
}
END_TEST

START_TEST(test_refused)
{
	static const char *const texts[] = {
		"",
		" ",
		"null",
		"4711",
		"\"" UUID "\"",
		"[]",
		"{}",
		"[" GOOD "]",
		GOOD GOOD,
		GOOD "x",
		"{\"transaction_id\": \"" UUID "\"}",
		"{\"offset\": 4711}",
		"{\"transaction_id\": null, \"offset\": 4711}",
		"{\"transaction_id\": 5, \"offset\": 4711}",
		"{\"transaction_id\": {}, \"offset\": 4711}",
		"{\"transaction_id\": [\"" UUID "\"], \"offset\": 4711}",
		"{\"transaction_id\": \"\", \"offset\": 4711}",
		"{\"transaction_id\": \"" UUID "0\", \"offset\": 4711}",
		"{\"transaction_id\": \"0F8FAD5B-D9CB-469F-A165-70867728950E\", \"offset\": 4711}",
		"{\"transaction_id\": \"0f8fad5bd9cb469fa16570867728950e\", \"offset\": 4711}",
		"{\"transaction_id\": \"0f8fad5b-d9cb-469f-a165-7086772895\\u0000e\", \"offset\": 1}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": \"4711\"}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": -1}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": 1.0}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": 1e3}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": NaN}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": 18446744073709551616}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": 99999999999999999999999999999}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": {}}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": null}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": 1, \"offset\": 2}",
		"{\"transaction_id\": \"" UUID "\", \"transaction_id\": \"" UUID
		"\", \"offset\": 1}",
		"{\"x\": [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]], \"transaction_id\": \"" UUID
		"\", \"offset\": 1}",
	};
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct engine_pointer pointer = {.offset = 77};
		ck_assert_msg(parse(texts[i], &pointer) == -EINVAL, "taken: %s", texts[i]);
		ck_assert_uint_eq(pointer.offset, 77);
	}
}
END_TEST

START_TEST(test_every_prefix)
{
	for (size_t size = 0; size < strlen(GOOD); size++) {
		struct engine_pointer pointer;
		struct slice in = {.data = (const uint8_t *)GOOD, .size = size};
		ck_assert_int_eq(root_json_parse(in, &pointer, NULL), -EINVAL);
	}
}
END_TEST

START_TEST(test_offsets)
{
	const uint64_t offsets[] = {0, 1, NODE_OFFSET_MAX};
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		struct engine_pointer pointer = {.offset = offsets[i]}, again = {0};
		struct buf text = {.max = ROOT_JSON_SIZE_MAX};
		ck_assert_int_eq(uuid_parse(UUID, &pointer.segment), 0);
		ck_assert_int_eq(root_json_print(&pointer, &text), 0);
		struct slice in = {.data = text.data, .size = text.size};
		ck_assert_int_eq(root_json_parse(in, &again, NULL), 0);
		ck_assert_uint_eq(again.offset, offsets[i]);
		buf_done(&text);
	}
	char beyond[256];
	struct engine_pointer pointer;
	snprintf(beyond, sizeof(beyond), "{\"transaction_id\": \"" UUID "\", \"offset\": %llu}",
		 (unsigned long long)NODE_OFFSET_MAX + 1);
	ck_assert_int_eq(parse(beyond, &pointer), -EINVAL);
}
END_TEST

START_TEST(test_size)
{
	char text[ROOT_JSON_SIZE_MAX + 2];
	struct engine_pointer pointer;
	struct slice in = {.data = (const uint8_t *)text, .size = ROOT_JSON_SIZE_MAX};
	memset(text, ' ', sizeof(text));
	for (size_t i = 0; i < strlen(GOOD); i++)
		text[i] = GOOD[i];
	ck_assert_int_eq(root_json_parse(in, &pointer, NULL), 0);
	in.size++;
	ck_assert_int_eq(root_json_parse(in, &pointer, NULL), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("root_json");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, test_good);
	tcase_add_test(tests, test_refused);
	tcase_add_test(tests, test_every_prefix);
	tcase_add_test(tests, test_offsets);
	tcase_add_test(tests, test_size);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
