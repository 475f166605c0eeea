/* Validity of payloads, read in pieces: agrees with rendering, wherever the pieces end. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "fs/format_check.h"
#include "fs/render.h"
#include "tests/lib/fault_alloc.h"

enum { WINDOW = 64 << 10 };

static int read_slice(void *arg, void *data, size_t size, uint64_t offset)
{
	const struct slice *payload = arg;
	ck_assert_uint_le(offset, payload->size);
	ck_assert_uint_le(size, payload->size - offset);
	memcpy(data, payload->data + offset, size);
	return 0;
}

static int judge(uint8_t format, const void *data, size_t size)
{
	struct slice payload = {.data = data, .size = size};
	int r = format_check(format, size, read_slice, &payload);
	int rendered = render_atom(format, payload, NULL, NULL);
	ck_assert_msg((r == 0) == (rendered == 0), "%d, rendered %d", r, rendered);
	return r;
}

START_TEST(test_json)
{
	static const char *const good[] = {"1", " [] ", "{\"a\": [1, \"\\u00e9\xc3\xa9\", null]}",
					   "\"\""};
	static const char *const bad[] = {"",        " ",        "[",        "1 2",
					  "{\"a\"}", "\"\xff\"", "\"\xc3\"", "nul"};
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		ck_assert_int_eq(judge(ENGINE_FORMAT_JSON, good[i], strlen(good[i])), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(judge(ENGINE_FORMAT_JSON, bad[i], strlen(bad[i])), -EBADMSG);
}
END_TEST

/* A document that is moved over the end of the first window, byte by byte. */
START_TEST(test_pieces_end_anywhere)
{
	static const char json[] = "{\"k\xf0\x9f\x98\x80\": [-1.5e3, \"\\\"\\u00e9\", true]}";
	static const char msgpack[] =
		"\x83\xa1k\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\xc4\x03xyz\xcf\x01\x02\x03\x04\x05\x06"
		"\x07\x08\x01\xd8\x01qwertyuiqwertyui";
	enum { ROOM = 100 };
	char *text = malloc(WINDOW + ROOM);
	ck_assert_ptr_nonnull(text);

	for (size_t at = WINDOW - ROOM; at < WINDOW + 5; at++) {
		size_t size = sizeof(json) - 1;
		memset(text, ' ', WINDOW + ROOM);
		memcpy(text + at, json, size);
		ck_assert_int_eq(judge(ENGINE_FORMAT_JSON, text, at + size), 0);
		ck_assert_int_eq(judge(ENGINE_FORMAT_JSON, text, at + size - 1), -EBADMSG);
		text[at + 3] = ' '; /* the emoji is cut */
		ck_assert_int_eq(judge(ENGINE_FORMAT_JSON, text, at + size), -EBADMSG);
	}
	/* An array of nils, and in it the value. */
	for (uint32_t at = WINDOW - ROOM; at < WINDOW + 5; at++) {
		size_t size = sizeof(msgpack) - 1;
		uint8_t head[5] = {0xdd, 0, (uint8_t)((at - 4) >> 16), (uint8_t)((at - 4) >> 8),
				   (uint8_t)(at - 4)};
		memset(text, 0xc0, WINDOW + ROOM);
		memcpy(text, head, sizeof(head));
		memcpy(text + at, msgpack, size);
		ck_assert_int_eq(judge(ENGINE_FORMAT_MSGPACK, text, at + size), 0);
		ck_assert_int_eq(judge(ENGINE_FORMAT_MSGPACK, text, at + size - 1), -EBADMSG);
		ck_assert_int_eq(judge(ENGINE_FORMAT_MSGPACK, text, at + size + 1), -EBADMSG);
	}
	free(text);
}
END_TEST

START_TEST(test_depth)
{
	char text[300];
	memset(text, '[', 128);
	memset(text + 128, ']', 128);
	ck_assert_int_eq(judge(ENGINE_FORMAT_JSON, text, 256), 0);
	memset(text, '[', 129);
	memset(text + 129, ']', 129);
	ck_assert_int_eq(judge(ENGINE_FORMAT_JSON, text, 258), -EFBIG);
	memset(text, 0x91, 129);
	text[128] = 1;
	ck_assert_int_eq(judge(ENGINE_FORMAT_MSGPACK, text, 129), 0);
	text[128] = (char)0x91;
	text[129] = 1;
	ck_assert_int_eq(judge(ENGINE_FORMAT_MSGPACK, text, 130), -EFBIG);
}
END_TEST

/* A payload of ARG's head and then one byte again and again, as long as it is said to be. */
struct endless {
	const char *head;
	size_t head_size;
	char byte;
};

static int read_endless(void *arg, void *data, size_t size, uint64_t offset)
{
	const struct endless *payload = arg;
	memset(data, payload->byte, size);
	if (offset < payload->head_size) {
		size_t head = payload->head_size - (size_t)offset;
		memcpy(data, payload->head + offset, head < size ? head : size);
	}
	return 0;
}

START_TEST(test_huge)
{
	struct endless binary = {"\xc6\xff\xff\xff\xff", 5, 'x'};
	uint64_t size = 5 + (uint64_t)UINT32_MAX;
	ck_assert_int_eq(format_check(ENGINE_FORMAT_MSGPACK, size, read_endless, &binary), 0);
	ck_assert_int_eq(format_check(ENGINE_FORMAT_MSGPACK, size - 1, read_endless, &binary),
			 -EBADMSG);

	/* 20 MiB of spaces are JSON's, 20 MiB of one string are too much to keep. */
	struct endless spaces = {"[]", 2, ' '}, string = {"\"", 1, 'x'}, open = {"", 0, '['};
	ck_assert_int_eq(format_check(ENGINE_FORMAT_JSON, 20 << 20, read_endless, &spaces), 0);
	ck_assert_int_eq(format_check(ENGINE_FORMAT_JSON, 20 << 20, read_endless, &string), -EFBIG);
	ck_assert_int_eq(format_check(ENGINE_FORMAT_JSON, 20 << 20, read_endless, &open), -EFBIG);
}
END_TEST

static int read_fails(void *arg, void *data, size_t size, uint64_t offset)
{
	(void)arg;
	(void)data;
	(void)size;
	(void)offset;
	return -EIO;
}

START_TEST(test_errors)
{
	ck_assert_int_eq(format_check(ENGINE_FORMAT_JSON, 5, read_fails, NULL), -EIO);
	ck_assert_int_eq(format_check(ENGINE_FORMAT_MSGPACK, 5, read_fails, NULL), -EIO);
	ck_assert_int_eq(format_check(ENGINE_FORMAT_RAW, 0, read_fails, NULL), -EBADMSG);

	struct endless payload = {"[1]", 3, ' '};
	bool failed;
	uint64_t n = 0;
	do {
		fault_alloc_fail(++n);
		int r = format_check(ENGINE_FORMAT_JSON, 5, read_endless, &payload);
		failed = fault_alloc_stop();
		ck_assert_int_eq(r, failed ? -ENOMEM : 0);
	} while (failed);
	ck_assert_uint_gt(n, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("format_check");
	TCase *tests = tcase_create("all");
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, test_json);
	tcase_add_test(tests, test_pieces_end_anywhere);
	tcase_add_test(tests, test_depth);
	tcase_add_test(tests, test_huge);
	tcase_add_test(tests, test_errors);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
