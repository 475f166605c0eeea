/* What users type: sizes, durations, pointers, times. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/attr.h"
#include "cmd/text.h"
#include "engine/engine.h"
#include "fs/utc.h"

static const struct {
	const char *text;
	int result;
	uint64_t value;
} sizes[] = {
	{"0", 0, 0},
	{"4096", 0, 4096},
	{"4096B", 0, 4096},
	{"5M", 0, 5 << 20},
	{"5m", 0, 5 << 20},
	{"64K", 0, 64 << 10},
	{"64KB", 0, 64 << 10},
	{"64KiB", 0, 64 << 10},
	{"1G", 0, 1 << 30},
	{"2T", 0, UINT64_C(2) << 40},
	{"18446744073709551615", 0, UINT64_MAX},
	{"18446744073709551616", -ERANGE, 0},
	{"16777216T", -ERANGE, 0},
	{"16777215T", 0, UINT64_C(16777215) << 40},
	{"", -EINVAL, 0},
	{"M", -EINVAL, 0},
	{"-1", -EINVAL, 0},
	{"+1", -EINVAL, 0},
	{" 1", -EINVAL, 0},
	{"1 ", -EINVAL, 0},
	{"1.5M", -EINVAL, 0},
	{"0x10", -EINVAL, 0},
	{"5MM", -EINVAL, 0},
	{"5iB", -EINVAL, 0},
	{"5Mi", -EINVAL, 0},
	{"5X", -EINVAL, 0},
	{"5\x0b", -EINVAL, 0}, /* 'K' without the bit that makes it a letter */
};

START_TEST(sizes_are_parsed_whole_or_not_at_all)
{
	uint64_t value = 77;
	ck_assert_int_eq(text_parse_size(sizes[_i].text, &value), sizes[_i].result);
	ck_assert_uint_eq(value, sizes[_i].result ? 77 : sizes[_i].value);
}
END_TEST

static const struct {
	const char *text;
	uint64_t unit_default_ms;
	int result;
	uint64_t value_ms;
} durations[] = {
	{"500ms", 1, 0, 500},
	{"500", 1, 0, 500},
	{"3", 1000, 0, 3000},
	{"1s", 1, 0, 1000},
	{"2m", 0, 0, 120000},
	{"12h", 0, 0, 43200000},
	{"30d", 0, 0, UINT64_C(30) * 86400000},
	{"2w", 0, 0, UINT64_C(14) * 86400000},
	{"5", 0, -EINVAL, 0},
	{"", 1, -EINVAL, 0},
	{"s", 1, -EINVAL, 0},
	{"1 s", 1, -EINVAL, 0},
	{"1S", 1, -EINVAL, 0},
	{"1y", 1, -EINVAL, 0},
	{"1ss", 1, -EINVAL, 0},
	{"-1s", 1, -EINVAL, 0},
	{"99999999999999999w", 1, -ERANGE, 0},
};

START_TEST(durations_have_a_unit)
{
	uint64_t value_ms = 77;
	ck_assert_int_eq(
		text_parse_duration(durations[_i].text, durations[_i].unit_default_ms, &value_ms),
		durations[_i].result);
	ck_assert_uint_eq(value_ms, durations[_i].result ? 77 : durations[_i].value_ms);
}
END_TEST

#define UUID "01234567-89ab-4def-8123-456789abcdef"

static const struct {
	const char *text;
	int result;
	uint64_t offset;
} pointers[] = {
	{UUID "/0", 0, 0},
	{UUID "/4096", 0, 4096},
	{UUID "/18446744073709551615", 0, UINT64_MAX},
	{"../" UUID "/7", 0, 7},
	{"atoms/" UUID "/7", 0, 7},
	{"../atoms/" UUID "/7", 0, 7},
	{UUID "/18446744073709551616", -ERANGE, 0},
	{UUID "/", -EINVAL, 0},
	{UUID, -EINVAL, 0},
	{UUID "/1x", -EINVAL, 0},
	{UUID "/-1", -EINVAL, 0},
	{UUID "/1/2", -EINVAL, 0},
	{UUID ":1", -EINVAL, 0},
	{"../../" UUID "/7", -EINVAL, 0},
	{"01234567-89AB-4def-8123-456789abcdef/0", -EINVAL, 0},
	{"0123456789ab4def8123456789abcdef/0", -EINVAL, 0},
	{"", -EINVAL, 0},
	{"/", -EINVAL, 0},
};

START_TEST(pointers_are_uuid_and_offset)
{
	struct engine_pointer pointer = {.offset = 77};
	char text[TEXT_POINTER_LENGTH];

	ck_assert_int_eq(text_parse_pointer(pointers[_i].text, &pointer), pointers[_i].result);
	ck_assert_uint_eq(pointer.offset, pointers[_i].result ? 77 : pointers[_i].offset);
	if (pointers[_i].result < 0)
		return;
	struct engine_pointer again;
	ck_assert_int_eq(text_parse_pointer(text_pointer(&pointer, text), &again), 0);
	ck_assert(uuid_equal(&again.segment, &pointer.segment));
	ck_assert_uint_eq(again.offset, pointer.offset);
}
END_TEST

START_TEST(every_prefix_of_a_pointer_is_refused)
{
	static const char whole[] = UUID "/";
	char text[sizeof(whole)] = {0};
	struct engine_pointer pointer;

	for (size_t length = 0; length < sizeof(whole); length++) {
		ck_assert_int_eq(text_parse_pointer(text, &pointer), -EINVAL);
		text[length] = whole[length];
	}
}
END_TEST

START_TEST(sizes_are_written_with_one_decimal)
{
	static const struct {
		uint64_t size;
		const char *text;
	} cases[] = {
		{0, "0 B"},           {1023, "1023 B"},           {1024, "1.0 KiB"},
		{1536, "1.5 KiB"},    {(1 << 20) - 1, "1.0 MiB"}, /* never "1024.0 KiB" */
		{5 << 20, "5.0 MiB"}, {UINT64_MAX, "16.0 EiB"},
	};
	char text[TEXT_SIZE_LENGTH];
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		ck_assert_str_eq(text_size(cases[i].size, text), cases[i].text);
}
END_TEST

START_TEST(times_are_written_and_read_back)
{
	static const uint64_t times[] = {
		0, 1, 1714564800123456789, 999999999, UINT64_C(4102444800) * 1000000000,
	};
	char text[UTC_TEXT_SIZE];
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		uint64_t back_ns;
		ck_assert_int_eq(text_parse_time(utc_format(times[i], text), &back_ns), 0);
		ck_assert_uint_eq(back_ns, times[i]);
	}
	ck_assert_str_eq(utc_format(1714564800123456789, text), "2024-05-01T12:00:00.123456789Z");
}
END_TEST

START_TEST(what_is_no_time_is_refused)
{
	static const char *const texts[] = {
		"",
		"now",
		"2024-05-01",
		"2024-05-01T12:00:00",
		"2024-05-01T12:00:00.5",
		"2024-05-01T12:00:00.1234567890Z",
		"2024-13-01T12:00:00Z",
		"2024-05-01T12:00:00ZZ",
	};
	uint64_t time_ns;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		ck_assert_msg(text_parse_time(texts[i], &time_ns) == -EINVAL, "%s", texts[i]);
	ck_assert_int_eq(text_parse_time("1960-01-01T00:00:00Z", &time_ns), -ERANGE);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("text");
	tcase_add_loop_test(tcase, sizes_are_parsed_whole_or_not_at_all, 0, (int)ARRAY_SIZE(sizes));
	tcase_add_loop_test(tcase, durations_have_a_unit, 0, (int)ARRAY_SIZE(durations));
	tcase_add_loop_test(tcase, pointers_are_uuid_and_offset, 0, (int)ARRAY_SIZE(pointers));
	tcase_add_test(tcase, every_prefix_of_a_pointer_is_refused);
	tcase_add_test(tcase, sizes_are_written_with_one_decimal);
	tcase_add_test(tcase, times_are_written_and_read_back);
	tcase_add_test(tcase, what_is_no_time_is_refused);
	Suite *suite = suite_create("cmd/text");
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
