/* Atoms as JSON: exact texts, every prefix of samples, hostile headers, the limits. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "fs/render.h"
#include "tests/lib/fault_alloc.h"

static int render(uint8_t format, const void *data, size_t size, struct buf *out,
		  struct reterr *err)
{
	/* A copy of exactly this size, so that AddressSanitizer sees a read beyond it. */
	uint8_t *copy = malloc(size ? size : 1);
	ck_assert_ptr_nonnull(copy);
	memcpy(copy, data, size);
	int r = render_atom(format, (struct slice){.data = copy, .size = size}, out, err);
	free(copy);
	return r;
}

static void expect(uint8_t format, const void *data, size_t size, const char *text)
{
	struct buf out = {.max = RENDER_TEXT_MAX};
	struct reterr err = {0};
	int r = render(format, data, size, &out, &err);
	ck_assert_msg(r == 0, "%s: %s", text, err.text);
	ck_assert_int_eq(buf_append(&out, "", 1), 0);
	ck_assert_str_eq((const char *)out.data, text);
	buf_done(&out);
	ck_assert_int_eq(render(format, data, size, NULL, NULL), 0);
}

static void expect_error(uint8_t format, const void *data, size_t size, int code,
			 const char *message)
{
	struct buf out = {.max = RENDER_TEXT_MAX};
	struct reterr err = {0};
	ck_assert_int_eq(buf_append_text(&out, "before"), 0);
	ck_assert_int_eq(render(format, data, size, &out, &err), code);
	ck_assert_uint_eq(out.size, 6);
	ck_assert_int_eq(err.code, code);
	ck_assert_msg(strstr(err.text, message) != NULL, "\"%s\" in \"%s\"", message, err.text);
	buf_done(&out);
	ck_assert_int_eq(render(format, data, size, NULL, NULL), code);
}

#define JSON(text) ENGINE_FORMAT_JSON, text, sizeof(text) - 1
#define MSGPACK(text) ENGINE_FORMAT_MSGPACK, text, sizeof(text) - 1

START_TEST(test_json)
{
	expect(JSON("null"), "null\n");
	expect(JSON(" true "), "true\n");
	expect(JSON("12"), "12\n");
	expect(JSON("\"a\""), "\"a\"\n");
	expect(JSON("{}"), "{}\n");
	expect(JSON("[ ]"), "[]\n");
	expect(JSON("[[],{},[{}]]"), "[\n  [],\n  {},\n  [\n    {}\n  ]\n]\n");
	expect(JSON("{\"b\":1 , \"a\" :[1,\"x\"],\"b\":null}"),
	       "{\n  \"b\": 1,\n  \"a\": [\n    1,\n    \"x\"\n  ],\n  \"b\": null\n}\n");
}
END_TEST

/* What a parser's double or unescaped string would have changed. */
START_TEST(test_json_verbatim)
{
	expect(JSON("[1.10,1E400,-0,-0.0,1e-5,123456789012345678901234567890]"),
	       "[\n  1.10,\n  1E400,\n  -0,\n  -0.0,\n  1e-5,\n  123456789012345678901234567890\n]\n");
	expect(JSON("123456789012345678901234567890.000"), "123456789012345678901234567890.000\n");
	expect(JSON("\"\\u00e9\\/\\ud800\\n\\\"\\\\\""), "\"\\u00e9\\/\\ud800\\n\\\"\\\\\"\n");
	expect(JSON("{\"\\\"\" : \"\\\"\", \"\":\"\"}"),
	       "{\n  \"\\\"\": \"\\\"\",\n  \"\": \"\"\n}\n");
	expect(JSON("\"\xc3\xa9 \xf0\x9f\x98\x80\""), "\"\xc3\xa9 \xf0\x9f\x98\x80\"\n");
}
END_TEST

START_TEST(test_json_refused)
{
	expect_error(JSON(""), -EBADMSG, "byte 0: premature EOF");
	expect_error(JSON("   "), -EBADMSG, "byte 3: premature EOF");
	expect_error(JSON("{\"a\":1"), -EBADMSG, "byte 6: premature EOF");
	expect_error(JSON("[1,]"), -EBADMSG, "byte 4: ");
	expect_error(JSON("1 2"), -EBADMSG, "trailing garbage");
	expect_error(JSON("{} x"), -EBADMSG, "trailing garbage");
	expect_error(JSON("{1:2}"), -EBADMSG, "object key");
	expect_error(JSON("01"), -EBADMSG, "trailing garbage");
	expect_error(JSON("NaN"), -EBADMSG, "byte ");
	expect_error(JSON("// c\n1"), -EBADMSG, "byte ");
	expect_error(JSON("\"\n\""), -EBADMSG, "byte ");
	expect_error(JSON("\"\\x\""), -EBADMSG, "byte ");
	expect_error(JSON("[\"\xff\"]"), -EBADMSG, "byte 2: not UTF-8");
	expect_error(JSON("\"\xc0\x80\""), -EBADMSG, "byte 1: not UTF-8");     /* overlong */
	expect_error(JSON("\"\xed\xa0\x80\""), -EBADMSG, "byte 1: not UTF-8"); /* surrogate */
	expect_error(JSON("\"\xf4\x90\x80\x80\""), -EBADMSG, "byte 1: not UTF-8");
	expect_error(JSON("\"\xe2\x82\""), -EBADMSG, "byte 1: not UTF-8");
	expect_error(JSON("[1]\0"), -EBADMSG, "byte ");
}
END_TEST

START_TEST(test_json_every_prefix)
{
	static const char sample[] =
		"{\"key\": [1.5e3, -7, \"\\u00e9\xc3\xa9\", true, false, null, {}, []], \"b\": \"\"}";
	for (size_t n = 0; n < sizeof(sample) - 1; n++)
		ck_assert_int_eq(render(ENGINE_FORMAT_JSON, sample, n, NULL, NULL), -EBADMSG);
	ck_assert_int_eq(render(ENGINE_FORMAT_JSON, sample, sizeof(sample) - 1, NULL, NULL), 0);
}
END_TEST

START_TEST(test_msgpack_numbers)
{
	expect(MSGPACK("\xc0"), "null\n");
	expect(MSGPACK("\xc2"), "false\n");
	expect(MSGPACK("\xc3"), "true\n");
	expect(MSGPACK("\x00"), "0\n");
	expect(MSGPACK("\x7f"), "127\n");
	expect(MSGPACK("\xe0"), "-32\n");
	expect(MSGPACK("\xff"), "-1\n");
	expect(MSGPACK("\xcc\xff"), "255\n");
	expect(MSGPACK("\xcd\x01\x00"), "256\n");
	expect(MSGPACK("\xce\xff\xff\xff\xff"), "4294967295\n");
	expect(MSGPACK("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615\n");
	expect(MSGPACK("\xd0\x80"), "-128\n");
	expect(MSGPACK("\xd0\x05"), "5\n");
	expect(MSGPACK("\xd1\x80\x00"), "-32768\n");
	expect(MSGPACK("\xd2\x80\x00\x00\x00"), "-2147483648\n");
	expect(MSGPACK("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), "-9223372036854775808\n");
	expect(MSGPACK("\xd3\x7f\xff\xff\xff\xff\xff\xff\xff"), "9223372036854775807\n");
}
END_TEST

START_TEST(test_msgpack_floats)
{
	expect(MSGPACK("\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"), "0.1\n");
	expect(MSGPACK("\xca\x3d\xcc\xcc\xcd"), "0.1\n");
	expect(MSGPACK("\xcb\x3f\xd3\x33\x33\x33\x33\x33\x34"), "0.30000000000000004\n");
	expect(MSGPACK("\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"), "1.0\n");
	expect(MSGPACK("\xcb\x80\x00\x00\x00\x00\x00\x00\x00"), "-0.0\n");
	expect(MSGPACK("\xcb\x44\x80\xf0\xcf\x06\x4d\xd5\x92"), "1e+22\n");
	expect(MSGPACK("\xcb\x00\x00\x00\x00\x00\x00\x00\x01"), "4.94065645841247e-324\n");
	expect(MSGPACK("\xca\x7f\x7f\xff\xff"), "3.4028235e+38\n");
	expect(MSGPACK("\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), "\"NaN\"\n");
	expect(MSGPACK("\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"), "\"Infinity\"\n");
	expect(MSGPACK("\xca\xff\x80\x00\x00"), "\"-Infinity\"\n");
}
END_TEST

START_TEST(test_msgpack_bytes)
{
	expect(MSGPACK("\xa0"), "\"\"\n");
	expect(MSGPACK("\xa9\"\\/\n\x01\x7f\xc3\xa9\t"),
	       "\"\\\"\\\\/\\n\\u0001\x7f\xc3\xa9\\t\"\n");
	expect(MSGPACK("\xd9\x01x"), "\"x\"\n");
	expect(MSGPACK("\xda\x00\x01x"), "\"x\"\n");
	expect(MSGPACK("\xdb\x00\x00\x00\x01x"), "\"x\"\n");
	expect(MSGPACK("\xa2\xff\xfe"), "\"//4=\"\n"); /* a string that is no UTF-8 */
	expect(MSGPACK("\xc4\x00"), "\"\"\n");
	expect(MSGPACK("\xc4\x01M"), "\"TQ==\"\n");
	expect(MSGPACK("\xc5\x00\x02Ma"), "\"TWE=\"\n");
	expect(MSGPACK("\xc6\x00\x00\x00\x03Man"), "\"TWFu\"\n");
	expect(MSGPACK("\xd4\x05M"), "{\n  \"ext\": 5,\n  \"data\": \"TQ==\"\n}\n");
	expect(MSGPACK("\xd6\xff\x00\x00\x00\x00"),
	       "{\n  \"ext\": -1,\n  \"data\": \"AAAAAA==\"\n}\n");
	expect(MSGPACK("\xc7\x02\x80Ma"), "{\n  \"ext\": -128,\n  \"data\": \"TWE=\"\n}\n");
}
END_TEST

START_TEST(test_msgpack_containers)
{
	expect(MSGPACK("\x80"), "{}\n");
	expect(MSGPACK("\x90"), "[]\n");
	expect(MSGPACK("\xdc\x00\x00"), "[]\n");
	expect(MSGPACK("\xdf\x00\x00\x00\x00"), "{}\n");
	expect(MSGPACK("\x93\x01\xa1x\x91\xc0"), "[\n  1,\n  \"x\",\n  [\n    null\n  ]\n]\n");
	expect(MSGPACK("\x81\xa1k\x82\x01\x02\xc0\x91\x03"),
	       "{\n  \"k\": {\n    \"1\": 2,\n    \"null\": [\n      3\n    ]\n  }\n}\n");
	expect(MSGPACK("\x84\xc3\x01\xca\x3f\xc0\x00\x00\x02\xc4\x01M\x03\x92\x01\xa1\"\x04"),
	       "{\n  \"true\": 1,\n  \"1.5\": 2,\n  \"TQ==\": 3,\n  \"[1,\\\"\\\\\\\"\\\"]\": 4\n}\n");
	expect(MSGPACK("\x81\x81\xa1k\x90\x01"), "{\n  \"{\\\"k\\\":[]}\": 1\n}\n");
}
END_TEST

START_TEST(test_msgpack_refused)
{
	expect_error(MSGPACK(""), -EBADMSG, "byte 0: the payload ends");
	expect_error(MSGPACK("\xc1"), -EBADMSG, "byte 0: no MessagePack");
	expect_error(MSGPACK("\x92\x01\xc1"), -EBADMSG, "byte 2: no MessagePack");
	expect_error(MSGPACK("\x01\x02\x03"), -EBADMSG, "byte 1: 2 bytes follow");
	expect_error(MSGPACK("\xdd\xff\xff\xff\xff\x01"), -EBADMSG,
		     "byte 0: an array of 4294967295 in the 1 bytes");
	expect_error(MSGPACK("\xdf\xff\xff\xff\xff\x01"), -EBADMSG,
		     "byte 0: a map of 4294967295 in the 1 bytes");
	expect_error(MSGPACK("\xdf\x00\x00\x00\x01\x01"), -EBADMSG, "byte 0: a map of 1");
	expect_error(MSGPACK("\xc6\xff\xff\xff\xffx"), -EBADMSG, "byte 0: the payload ends");
	expect_error(MSGPACK("\xdb\xff\xff\xff\xffx"), -EBADMSG, "byte 0: the payload ends");
	expect_error(MSGPACK("\x91\xc9\xff\xff\xff\xff\x01x"), -EBADMSG,
		     "byte 1: the payload ends");
	expect_error(MSGPACK("\x81\x91\xc1\x01"), -EBADMSG, "byte 2: no MessagePack");
}
END_TEST

START_TEST(test_msgpack_every_prefix)
{
	static const char sample[] =
		"\x8b\x01\xc4\x02xy\x02\xd9\x01z\x03\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\x04\xca\x3f\x80"
		"\x00\x00\x05\xcf\x01\x02\x03\x04\x05\x06\x07\x08\x06\xd3\x81\x02\x03\x04\x05\x06\x07"
		"\x08\x07\xd8\x01qwertyuiqwertyui\x08\xc8\x00\x01\x05x\x09\xdc\x00\x02\x01\x02\x0a\xde"
		"\x00\x01\xa1k\xc0\xa2no\xc2";
	size_t size = sizeof(sample) - 1;
	for (size_t n = 0; n < size; n++)
		ck_assert_int_eq(render(ENGINE_FORMAT_MSGPACK, sample, n, NULL, NULL), -EBADMSG);
	ck_assert_int_eq(render(ENGINE_FORMAT_MSGPACK, sample, size, NULL, NULL), 0);
}
END_TEST

START_TEST(test_other_formats)
{
	expect(ENGINE_FORMAT_RAW, "", 0, "{\n  \"raw\": \"\"\n}\n");
	expect(ENGINE_FORMAT_RAW, "Man", 3, "{\n  \"raw\": \"TWFu\"\n}\n");
	expect(0x87, "M", 1, "{\n  \"format\": 135,\n  \"data\": \"TQ==\"\n}\n");
	expect(3, "M", 1, "{\n  \"format\": 3,\n  \"data\": \"TQ==\"\n}\n");
}
END_TEST

/* CORE, a byte or nothing (0), within DEPTH containers. */
static void nest(uint8_t format, char open, char core, char close, unsigned depth, int code)
{
	char text[1024];
	memset(text, open, depth);
	size_t size = depth;
	if (core)
		text[size++] = core;
	if (close) {
		memset(text + size, close, depth);
		size += depth;
	}
	if (code == 0)
		ck_assert_int_eq(render(format, text, size, NULL, NULL), 0);
	else
		expect_error(format, text, size, code, "nested deeper than 128");
}

START_TEST(test_depth)
{
	nest(ENGINE_FORMAT_JSON, '[', 0, ']', 128, 0);
	nest(ENGINE_FORMAT_JSON, '[', 0, ']', 129, -EFBIG);
	nest(ENGINE_FORMAT_MSGPACK, (char)0x91, 1, 0, 128, 0);
	nest(ENGINE_FORMAT_MSGPACK, (char)0x91, 1, 0, 129, -EFBIG);
	/* Maps whose keys are maps whose keys are maps. */
	char keys[2 * 200 + 1];
	memset(keys, 0x81, 200);
	memset(keys + 200, 0x01, 201);
	ck_assert_int_eq(render(ENGINE_FORMAT_MSGPACK, keys + 200 - 128, 128 + 129, NULL, NULL), 0);
	expect_error(ENGINE_FORMAT_MSGPACK, keys + 200 - 129, 129 + 130, -EFBIG,
		     "nested deeper than 128");
	/* Quotes double at each level of keys within keys: the text, not the memory, is what ends. */
	keys[200] = (char)0xa1;
	keys[201] = '"';
	keys[202] = 1;
	struct buf out = {.max = 1 << 20};
	ck_assert_int_eq(render(ENGINE_FORMAT_MSGPACK, keys + 200 - 60, 60 + 62, &out, NULL),
			 -EFBIG);
	buf_done(&out);
}
END_TEST

START_TEST(test_sizes)
{
	uint8_t *data = calloc(1, RENDER_PAYLOAD_MAX + 1);
	ck_assert_ptr_nonnull(data);
	struct buf out = {.max = RENDER_TEXT_MAX};
	struct reterr err = {0};

	ck_assert_int_eq(render(ENGINE_FORMAT_RAW, data, RENDER_PAYLOAD_MAX, &out, &err), 0);
	buf_clear(&out);
	ck_assert_int_eq(render(ENGINE_FORMAT_RAW, data, RENDER_PAYLOAD_MAX + 1, &out, &err),
			 -EFBIG);

	/* 16 M zeros in an array of arrays: more than 64 MiB of indentation. */
	memset(data, 0x91, 40);
	static const uint8_t array[] = {0xdd, 0x00, 0xff, 0x00, 0x00};
	memcpy(data + 40, array, sizeof(array));
	ck_assert_int_eq(render(ENGINE_FORMAT_MSGPACK, data, 45 + 0xff0000, &out, &err), -EFBIG);
	ck_assert_ptr_nonnull(strstr(err.text, "would exceed 67108864 bytes"));
	ck_assert_uint_le(out.capacity, RENDER_TEXT_MAX);
	buf_done(&out);
	free(data);
}
END_TEST

START_TEST(test_allocations_fail)
{
	static const char json[] = "{\"key\": [1, 2, {\"a\": \"b\"}]}";
	static const char keys[] = "\x81\x92\x01\xa1\"\x04";
	bool failed;
	uint64_t n = 0;
	do {
		struct buf out = {.max = RENDER_TEXT_MAX};
		fault_alloc_fail(++n);
		struct slice payload = {.data = (const uint8_t *)json, .size = sizeof(json) - 1};
		int r = render_atom(ENGINE_FORMAT_JSON, payload, &out, NULL);
		payload = (struct slice){.data = (const uint8_t *)keys, .size = sizeof(keys) - 1};
		int r2 = render_atom(ENGINE_FORMAT_MSGPACK, payload, &out, NULL);
		failed = fault_alloc_stop();
		ck_assert(r == 0 || r == -ENOMEM);
		ck_assert(r2 == 0 || r2 == -ENOMEM);
		ck_assert((r < 0 || r2 < 0) == failed);
		buf_done(&out);
	} while (failed);
	ck_assert_uint_gt(n, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("render");
	TCase *tests = tcase_create("all");
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, test_json);
	tcase_add_test(tests, test_json_verbatim);
	tcase_add_test(tests, test_json_refused);
	tcase_add_test(tests, test_json_every_prefix);
	tcase_add_test(tests, test_msgpack_numbers);
	tcase_add_test(tests, test_msgpack_floats);
	tcase_add_test(tests, test_msgpack_bytes);
	tcase_add_test(tests, test_msgpack_containers);
	tcase_add_test(tests, test_msgpack_refused);
	tcase_add_test(tests, test_msgpack_every_prefix);
	tcase_add_test(tests, test_other_formats);
	tcase_add_test(tests, test_depth);
	tcase_add_test(tests, test_sizes);
	tcase_add_test(tests, test_allocations_fail);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
