/* UUIDs: one canonical text, everything else refused. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "base/uuid.h"

static const char text[] = "00112233-4455-6677-8899-aabbccddeeff";
static const struct uuid uuid = {{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa,
				  0xbb, 0xcc, 0xdd, 0xee, 0xff}};

START_TEST(test_round_trip)
{
	struct uuid parsed;
	char out[UUID_TEXT_LENGTH + 1];
	ck_assert_int_eq(uuid_parse(text, &parsed), 0);
	ck_assert(uuid_equal(&parsed, &uuid));
	ck_assert_str_eq(uuid_format(&uuid, out), text);
	ck_assert(!uuid_is_zero(&uuid));
	ck_assert(uuid_is_zero(&(struct uuid){{0}}));
}
END_TEST

START_TEST(test_every_prefix)
{
	for (size_t length = 0; length < UUID_TEXT_LENGTH; length++) {
		char prefix[UUID_TEXT_LENGTH + 1];
		struct uuid parsed = {{1}};
		memcpy(prefix, text, length);
		prefix[length] = '\0';
		ck_assert_int_eq(uuid_parse(prefix, &parsed), -EINVAL);
		ck_assert(uuid_equal(&parsed, &(struct uuid){{1}}));
	}
}
END_TEST

/* Any other character at any place; of the digits only the lower-case ones pass. */
START_TEST(test_every_character)
{
	for (size_t at = 0; at <= UUID_TEXT_LENGTH; at++) {
		for (int c = 1; c < 256; c++) {
			char changed[UUID_TEXT_LENGTH + 2] = {0};
			struct uuid parsed;
			memcpy(changed, text, sizeof(text));
			changed[at] = (char)c;
			bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
			bool dash = at == 8 || at == 13 || at == 18 || at == 23;
			bool good = at < UUID_TEXT_LENGTH && (dash ? c == '-' : digit);
			ck_assert_int_eq(uuid_parse(changed, &parsed), good ? 0 : -EINVAL);
		}
	}
}
END_TEST

START_TEST(test_other_forms)
{
	static const char *const bad[] = {
		"00112233445566778899aabbccddeeff",
		"{00112233-4455-6677-8899-aabbccddeeff}",
		"00112233-4455-6677-8899-AABBCCDDEEFF",
		" 00112233-4455-6677-8899-aabbccddeeff",
		"00112233-4455-6677-8899-aabbccddeeff ",
		"urn:uuid:00112233-4455-6677-8899-aabbccddeeff",
		"../../../../../../../../../etc/passwd",
	};
	struct uuid parsed;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_eq(uuid_parse(bad[i], &parsed), -EINVAL);
}
END_TEST

START_TEST(test_random)
{
	struct uuid last = {{0}};
	for (int i = 0; i < 100; i++) {
		struct uuid fresh;
		struct uuid parsed;
		char out[UUID_TEXT_LENGTH + 1];
		ck_assert_int_eq(uuid_random(&fresh), 0);
		ck_assert(!uuid_equal(&fresh, &last));
		ck_assert_int_eq(uuid_parse(uuid_format(&fresh, out), &parsed), 0);
		ck_assert(uuid_equal(&fresh, &parsed));
		ck_assert_int_eq(out[14], '4');
		ck_assert(strchr("89ab", out[19]) != NULL);
		last = fresh;
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("uuid");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, test_round_trip);
	tcase_add_test(tests, test_every_prefix);
	tcase_add_test(tests, test_every_character);
	tcase_add_test(tests, test_other_forms);
	tcase_add_test(tests, test_random);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
