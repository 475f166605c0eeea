/* .sum files: what is written is read back; anything else is refused and named. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/sum_file.h"

#define MIB ENGINE_SUM_SIZE
#define HEX "00112233445566778899aabbccddeeff"

static int parse(const char *text, size_t size, struct sum_file *ret, struct reterr *err)
{
	struct slice in = {.data = (const uint8_t *)text, .size = size};
	return sum_file_parse(in, ret, err);
}

static int parse_text(const char *text, struct reterr *err)
{
	struct sum_file file = {0};
	int r = parse(text, strlen(text), &file, err);
	sum_file_done(&file);
	return r;
}

/* LENGTH bytes of sums, as a file that the caller frees. */
static char *make_file(uint64_t length, size_t *ret_size)
{
	size_t size = (size_t)sum_file_size(length);
	char *text = malloc(size + 1);
	ck_assert_ptr_nonnull(text);
	size_t at = 0;
	for (uint64_t offset = 0; offset < length; offset += MIB, at += SUM_FILE_LINE_SIZE) {
		uint64_t rest = length - offset;
		struct engine_sum sum = {.offset = offset, .length = rest < MIB ? rest : MIB};
		sum.hash = hash_of(&offset, sizeof(offset));
		sum_file_line(&sum, text + at);
	}
	ck_assert_uint_eq(at, size);
	*ret_size = size;
	return text;
}

START_TEST(test_round_trip)
{
	static const uint64_t lengths[] = {0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB, 5 * MIB + 77};
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		size_t size;
		char *text = make_file(lengths[i], &size);
		struct sum_file file;
		ck_assert_int_eq(parse(text, size, &file, NULL), 0);
		ck_assert_uint_eq(file.length, lengths[i]);
		ck_assert_uint_eq(file.count, (lengths[i] + MIB - 1) / MIB);
		for (size_t n = 0; n < file.count; n++) {
			struct hash hash = hash_of(&file.sums[n].offset, sizeof(uint64_t));
			ck_assert(hash_equal(&hash, &file.sums[n].hash));
		}
		sum_file_done(&file);
		free(text);
	}
}
END_TEST

START_TEST(test_exact_line)
{
	struct engine_sum sum = {.offset = 7 * MIB, .length = 12};
	ck_assert_int_eq(hash_parse(HEX, &sum.hash), 0);
	char line[SUM_FILE_LINE_SIZE + 1] = {0};
	sum_file_line(&sum, line);
	ck_assert_str_eq(line, "00007340032 0000012 " HEX "\n");
}
END_TEST

START_TEST(test_every_prefix)
{
	size_t size;
	char *text = make_file(2 * MIB + 5, &size);
	for (size_t n = 0; n <= size; n++) {
		char *copy = malloc(n ? n : 1); /* so that a read beyond it is seen */
		ck_assert_ptr_nonnull(copy);
		memcpy(copy, text, n);
		struct sum_file file = {0};
		struct reterr err = {0};
		int r = parse(copy, n, &file, &err);
		if (n % SUM_FILE_LINE_SIZE == 0) {
			ck_assert_int_eq(r, 0);
			ck_assert_uint_eq(file.count, n / SUM_FILE_LINE_SIZE);
		} else {
			ck_assert_int_eq(r, -EBADMSG);
			ck_assert_int_eq(err.code, -EBADMSG);
		}
		sum_file_done(&file);
		free(copy);
	}
	free(text);
}
END_TEST

START_TEST(test_every_flipped_byte)
{
	size_t size;
	char *text = make_file(MIB + 5, &size);
	struct sum_file good, file;
	ck_assert_int_eq(parse(text, size, &good, NULL), 0);
	for (size_t n = 0; n < size; n++) {
		text[n] ^= 0x10; /* a digit becomes none; a hex letter another or none */
		if (parse(text, size, &file, NULL) == 0) {
			ck_assert_uint_eq(file.count, good.count);
			ck_assert(!hash_equal(&file.sums[0].hash, &good.sums[0].hash) ||
				  !hash_equal(&file.sums[1].hash, &good.sums[1].hash));
			sum_file_done(&file);
		}
		text[n] ^= 0x10;
	}
	sum_file_done(&good);
	free(text);
}
END_TEST

START_TEST(test_without_zeros)
{
	ck_assert_int_eq(parse_text("0 1048576 " HEX "\n1048576 1 " HEX "\n", NULL), 0);
	ck_assert_int_eq(parse_text("0 1 " HEX "\n", NULL), 0);
}
END_TEST

START_TEST(test_refused)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"\n", "line 1"},
		{"0 5 " HEX, "line 1"},
		{"0 5  " HEX "\n", "line 1"},
		{" 0 5 " HEX "\n", "line 1"},
		{"0 5 " HEX "\r\n", "line 1"},
		{"+0 5 " HEX "\n", "line 1"},
		{"-1 5 " HEX "\n", "line 1"},
		{"0x0 5 " HEX "\n", "line 1"},
		{"0 0 " HEX "\n", "covers 0 bytes"},
		{"0 1048577 " HEX "\n", "covers 1048577 bytes"},
		{"0 99999999 " HEX "\n", "line 1"},
		{"000000000000 5 " HEX "\n", "line 1"},
		{"18446744073709551616 5 " HEX "\n", "line 1"},
		{"1048576 5 " HEX "\n", "line 1 begins at byte 1048576"},
		{"0 5 " HEX "\n5 5 " HEX "\n", "line 2 follows one of less than a MiB"},
		{"0 5 " HEX "\n0 5 " HEX "\n", "line 2 begins at byte 0"},
		{"0 1048576 " HEX "\n2097152 5 " HEX "\n", "line 2 begins at byte 2097152"},
		{"0 5 00112233445566778899AABBCCDDEEFF\n", "line 1"},
		{"0 5 g0112233445566778899aabbccddeeff\n", "line 1"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct reterr err = {0};
		ck_assert_msg(parse_text(cases[i].text, &err) == -EBADMSG, "%s", cases[i].text);
		ck_assert_msg(strstr(err.text, cases[i].message) != NULL, "%s: %s", cases[i].text,
			      err.text);
	}
}
END_TEST

START_TEST(test_too_many_lines)
{
	size_t size;
	char *text = make_file((uint64_t)(SUM_FILE_LINES_MAX + 1) * MIB, &size);
	struct sum_file file = {0};
	ck_assert_int_eq(parse(text, size, &file, NULL), -EFBIG);
	ck_assert_int_eq(parse(text, size - SUM_FILE_LINE_SIZE, &file, NULL), 0);
	ck_assert_uint_eq(file.count, SUM_FILE_LINES_MAX);
	sum_file_done(&file);
	free(text);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sum_file");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, test_round_trip);
	tcase_add_test(tests, test_exact_line);
	tcase_add_test(tests, test_every_prefix);
	tcase_add_test(tests, test_every_flipped_byte);
	tcase_add_test(tests, test_without_zeros);
	tcase_add_test(tests, test_refused);
	tcase_add_test(tests, test_too_many_lines);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
