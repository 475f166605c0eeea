/* XXH3: known sums, the text that xxh128sum prints, and streams that equal one call. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "base/hash.h"

enum { SIZE = 3000 };

static uint8_t data[SIZE];

static void fill(void)
{
	for (size_t i = 0; i < SIZE; i++)
		data[i] = (uint8_t)(i * 31 + i / 256);
}

/* What `printf '' | xxh128sum` and `printf abc | xxh128sum` print. */
START_TEST(test_known)
{
	char text[HASH_TEXT_LENGTH + 1];
	struct hash empty = hash_of("", 0);
	struct hash abc = hash_of("abc", 3);
	ck_assert_str_eq(hash_format(&empty, text), "99aa06d3014798d86001c324468d497f");
	ck_assert_str_eq(hash_format(&abc, text), "06b05ab6733a618578af5f94892f3950");
	ck_assert_uint_eq(hash64_of("", 0), 0x2d06800538d394c2);
}
END_TEST

START_TEST(test_parse)
{
	char text[HASH_TEXT_LENGTH + 2];
	struct hash sum = hash_of("abc", 3);
	struct hash parsed;
	(void)hash_format(&sum, text);
	ck_assert_int_eq(hash_parse(text, &parsed), 0);
	ck_assert(hash_equal(&sum, &parsed));
	for (size_t at = 0; at < HASH_TEXT_LENGTH; at++) {
		for (int c = 0; c < 256; c++) {
			char changed[HASH_TEXT_LENGTH + 1];
			memcpy(changed, text, sizeof(changed));
			changed[at] = (char)c; /* NUL: every prefix */
			bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
			parsed = (struct hash){{7}};
			ck_assert_int_eq(hash_parse(changed, &parsed), good ? 0 : -EINVAL);
			ck_assert(good || hash_equal(&parsed, &(struct hash){{7}}));
		}
	}
}
END_TEST

/* In any two pieces, and after a reset. */
START_TEST(test_stream)
{
	struct hash_stream *stream = NULL;
	fill();
	ck_assert_int_eq(hash_stream_new(&stream), 0);
	struct hash whole = hash_of(data, SIZE);
	for (size_t cut = 0; cut <= SIZE; cut += 37) {
		hash_stream_reset(stream);
		hash_stream_update(stream, data, cut);
		struct hash middle = hash_stream_sum(stream);
		struct hash wanted = hash_of(data, cut);
		ck_assert(hash_equal(&middle, &wanted));
		hash_stream_update(stream, data + cut, SIZE - cut);
		struct hash sum = hash_stream_sum(stream);
		ck_assert(hash_equal(&sum, &whole));
	}
	hash_stream_free(stream);
	hash_stream_free(NULL);
}
END_TEST

/* One flipped bit anywhere is another sum. */
START_TEST(test_flips)
{
	fill();
	struct hash whole = hash_of(data, SIZE);
	uint64_t whole64 = hash64_of(data, SIZE);
	for (size_t bit = 0; bit < (size_t)SIZE * 8; bit += 13) {
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		struct hash other = hash_of(data, SIZE);
		ck_assert(!hash_equal(&whole, &other));
		ck_assert(hash64_of(data, SIZE) != whole64);
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hash");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, test_known);
	tcase_add_test(tests, test_parse);
	tcase_add_test(tests, test_stream);
	tcase_add_test(tests, test_flips);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
