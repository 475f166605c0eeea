/* The check of JSON and MessagePack that is put in, and roots as JSON. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "cmd/content_check.h"
#include "cmd/root_parse.h"
#include "engine/engine.h"
#include "fs/root_text.h"

static const struct {
	const char *text;
	bool valid;
	const char *says;
} texts[] = {
	{"{\"a\": [1, 2.5e300, null, true, \"\\u00e4\"]}", true, NULL},
	{"123456789012345678901234567890", true, NULL},
	{" \"text\" \n", true, NULL},
	{"[]", true, NULL},
	{"", false, "byte 0"},
	{"   ", false, "byte 3"},
	{"{\"a\": 1", false, "byte 7"},
	{"{\"a\": 1}}", false, "byte"},
	{"[1] [2]", false, "byte"},
	{"[1,]", false, "byte"},
	{"{a: 1}", false, "byte"},
	{"nul", false, "byte"},
	{"\"\xff\"", false, "byte"},
	{"[\"a\nb\"]", false, "byte"},
};

static int check_in_pieces(const char *text, size_t piece, struct reterr *err)
{
	struct json_check *check;
	size_t length = strlen(text);
	int r = 0;

	ck_assert_int_eq(json_check_new(&check), 0);
	for (size_t at = 0; r == 0 && at < length; at += piece)
		r = json_check_feed(check, text + at, at + piece < length ? piece : length - at,
				    err);
	if (r == 0)
		r = json_check_end(check, err);
	json_check_free(check);
	return r;
}

START_TEST(the_answer_does_not_depend_on_the_pieces)
{
	for (size_t piece = 1; piece <= strlen(texts[_i].text) + 1; piece++) {
		struct reterr err = {0};
		int r = check_in_pieces(texts[_i].text, piece, &err);
		ck_assert_int_eq(r, texts[_i].valid ? 0 : -EINVAL);
		if (r < 0)
			ck_assert_msg(strstr(err.text, texts[_i].says), "%s", err.text);
	}
}
END_TEST

START_TEST(the_byte_is_counted_from_the_first_piece_on)
{
	struct reterr err = {0};
	ck_assert_int_eq(check_in_pieces("[1, 2, 3, x]", 4, &err), -EINVAL);
	ck_assert_msg(strstr(err.text, "at byte 10:"), "%s", err.text);
}
END_TEST

static const struct {
	const char *bytes;
	size_t size;
	bool valid;
	const char *says;
} packed[] = {
	{"\x01", 1, true, NULL},
	{"\xc0", 1, true, NULL},
	{"\x82\xa1"
	 "a\x01\xa1"
	 "b\x92\x01\x02",
	 9, true, NULL},
	{"\xdd\x00\x00\x00\x00", 5, true, NULL},
	{"", 0, false, "ends within the value at byte 0"},
	{"\xc1", 1, false, "at byte 0"},
	{"\x92\x01\xc1", 3, false, "at byte 2"},
	{"\x01\x02", 2, false, "before byte 1"},
	{"\xdb\xff\xff\xff\xffx", 6, false, "ends within"},
	{"\xdd\xff\xff\xff\xff\x01", 6, false, "ends within"}, /* counts that nobody can have */
	{"\xdf\xff\xff\xff\xff\x01\x01", 7, false, "ends within"},
};

START_TEST(msgpack_is_one_whole_value)
{
	struct slice whole = {
		.data = (const uint8_t *)packed[_i].bytes,
		.size = packed[_i].size,
	};
	struct reterr err = {0};
	ck_assert_int_eq(msgpack_check(whole, &err), packed[_i].valid ? 0 : -EINVAL);
	if (!packed[_i].valid)
		ck_assert_msg(strstr(err.text, packed[_i].says), "%s", err.text);
	while (whole.size > 0) { /* every prefix */
		whole.size--;
		ck_assert(msgpack_check(whole, NULL) == -EINVAL || !packed[_i].valid);
	}
}
END_TEST

#define UUID "01234567-89ab-4def-8123-456789abcdef"

static int parse(const char *text, struct engine_root *ret)
{
	return root_parse((struct slice){.data = (const uint8_t *)text, .size = strlen(text)}, ret);
}

START_TEST(a_root_is_read_back_as_it_was_written)
{
	struct engine_root root = {
		.seq = UINT64_C(12345678901234567890),
		.pointer = {.offset = (UINT64_C(1) << 36) - 1},
		.time_ns = UINT64_C(1714564800123456789),
		.node = UINT32_MAX,
	};
	struct engine_root back;
	struct buf text = {.max = ROOT_TEXT_MAX};

	ck_assert_int_eq(uuid_parse(UUID, &root.pointer.segment), 0);
	ck_assert_int_eq(root_text_print(&root, &text), 0);
	ck_assert_int_eq(root_parse((struct slice){.data = text.data, .size = text.size}, &back),
			 0);
	buf_done(&text);
	ck_assert(uuid_equal(&back.pointer.segment, &root.pointer.segment));
	ck_assert_uint_eq(back.pointer.offset, root.pointer.offset);
	ck_assert_uint_eq(back.seq, root.seq);
	ck_assert_uint_eq(back.time_ns, root.time_ns);
	ck_assert_uint_eq(back.node, root.node);
}
END_TEST

START_TEST(every_prefix_of_a_root_is_refused)
{
	static const char whole[] = "{\"transaction_id\": \"" UUID "\", \"offset\": 7}";
	struct engine_root root;

	for (size_t length = 0; length < sizeof(whole) - 1; length++) {
		const struct slice text = {.data = (const uint8_t *)whole, .size = length};
		ck_assert_int_eq(root_parse(text, &root), -EINVAL);
	}
	ck_assert_int_eq(parse(whole, &root), 0);
	ck_assert_uint_eq(root.pointer.offset, 7);
	ck_assert_uint_eq(root.seq, 0);
}
END_TEST

START_TEST(what_is_no_root_is_refused)
{
	static const char *const roots[] = {
		"null",
		"[]",
		"{}",
		"{\"transaction_id\": \"" UUID "\"}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": -1}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": 1.5}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": \"1\"}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": 1e3}",
		"{\"transaction_id\": 1, \"offset\": 1}",
		"{\"transaction_id\": \"x\", \"offset\": 1}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": 1, \"node\": 4294967296}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": 1, \"seq\": -1}",
		"{\"transaction_id\": \"" UUID "\", \"offset\": 1, \"time\": \"soon\"}",
	};
	struct engine_root root;
	for (size_t i = 0; i < ARRAY_SIZE(roots); i++)
		ck_assert_msg(parse(roots[i], &root) == -EINVAL, "%s", roots[i]);
}
END_TEST

START_TEST(a_huge_root_is_refused)
{
	struct engine_root root;
	char *text = malloc(ROOT_PARSE_SIZE_MAX + 2);

	memset(text, ' ', ROOT_PARSE_SIZE_MAX + 1);
	text[ROOT_PARSE_SIZE_MAX + 1] = '\0';
	ck_assert_int_eq(parse(text, &root), -EINVAL);
	memset(text, '[', ROOT_PARSE_SIZE_MAX - 1);
	text[ROOT_PARSE_SIZE_MAX - 1] = '\0';
	ck_assert_int_eq(parse(text, &root), -EINVAL);
	free(text);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("content");
	tcase_add_loop_test(tcase, the_answer_does_not_depend_on_the_pieces, 0,
			    (int)ARRAY_SIZE(texts));
	tcase_add_test(tcase, the_byte_is_counted_from_the_first_piece_on);
	tcase_add_loop_test(tcase, msgpack_is_one_whole_value, 0, (int)ARRAY_SIZE(packed));
	tcase_add_test(tcase, a_root_is_read_back_as_it_was_written);
	tcase_add_test(tcase, every_prefix_of_a_root_is_refused);
	tcase_add_test(tcase, what_is_no_root_is_refused);
	tcase_add_test(tcase, a_huge_root_is_refused);
	Suite *suite = suite_create("cmd/content");
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
