/* Changes of small files: what is encoded is decoded; anything else is damage. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/small_file.h"

static const uint8_t reset_seq[8] = {1};

static const struct small_file_change changes[] = {
	{.op = SMALL_FILE_SET, .seq = 1, .name = "space.config", .mode = 0644, .mtime_ns = 1},
	{.op = SMALL_FILE_SET,
	 .seq = UINT64_MAX,
	 .name = "\xc3\xa4 b",
	 .mode = 0777,
	 .mtime_ns = INT64_MAX,
	 .content = {.data = (const uint8_t *)"content", .size = 7}},
	{.op = SMALL_FILE_UNLINK, .seq = 2, .name = "...", .mtime_ns = INT64_MIN},
	{.op = SMALL_FILE_RENAME,
	 .seq = 300,
	 .name = "from",
	 .mtime_ns = -1,
	 .content = {.data = (const uint8_t *)"to", .size = 2}},
	{.op = SMALL_FILE_RESET,
	 .seq = 70000,
	 .name = "-",
	 .content = {.data = reset_seq, .size = sizeof(reset_seq)}},
};

/* The whole payload; the caller releases it. */
static struct buf encode(const struct small_file_change *change)
{
	struct buf payload = {.max = SMALL_FILE_PAYLOAD_MAX};
	ck_assert_int_eq(small_file_encode(change, &payload), 0);
	ck_assert_uint_le(payload.size, SMALL_FILE_PREFIX_MAX);
	if (change->content.size > 0)
		ck_assert_int_eq(buf_append(&payload, change->content.data, change->content.size),
				 0);
	return payload;
}

static int decode(const uint8_t *data, size_t size, struct small_file_change *ret)
{
	struct reterr err = {0};
	int r = small_file_decode((struct slice){.data = data, .size = size}, ret, &err);
	ck_assert(r == 0 || (err.code == r && err.text[0] != '\0'));
	return r;
}

static void check_same(const struct small_file_change *a, const struct small_file_change *b)
{
	ck_assert_int_eq(a->op, b->op);
	ck_assert_uint_eq(a->seq, b->seq);
	ck_assert_str_eq(a->name, b->name);
	ck_assert_uint_eq(a->mode, b->mode);
	ck_assert_int_eq(a->mtime_ns, b->mtime_ns);
	ck_assert_uint_eq(a->content.size, b->content.size);
	if (a->content.size > 0)
		ck_assert_mem_eq(a->content.data, b->content.data, a->content.size);
}

START_TEST(test_round_trip)
{
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		struct buf payload = encode(&changes[i]);
		struct small_file_change got;
		ck_assert_int_eq(decode(payload.data, payload.size, &got), 0);
		check_same(&changes[i], &got);
		/* The content is the end of the payload: that is how it is found later. */
		if (got.content.size > 0)
			ck_assert_ptr_eq(got.content.data + got.content.size,
					 payload.data + payload.size);
		buf_done(&payload);
	}
}
END_TEST

START_TEST(test_every_prefix)
{
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		struct buf payload = encode(&changes[i]);
		for (size_t size = 0; size < payload.size; size++) {
			/* Memory of exactly that size, so that a sanitizer sees every byte too far. */
			uint8_t *copy = malloc(size + 1);
			ck_assert_ptr_nonnull(copy);
			memcpy(copy + 1, payload.data, size);
			struct small_file_change got;
			ck_assert_int_eq(decode(copy + 1, size, &got), -EBADMSG);
			free(copy);
		}
		ck_assert_int_eq(buf_append(&payload, "", 1), 0);
		struct small_file_change got;
		ck_assert_int_eq(decode(payload.data, payload.size, &got), -EBADMSG);
		buf_done(&payload);
	}
}
END_TEST

/* A flipped byte is noticed, or means another valid change: never more than what is there. */
START_TEST(test_every_flipped_byte)
{
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		struct buf payload = encode(&changes[i]);
		for (size_t at = 0; at < payload.size; at++) {
			for (int bit = 0; bit < 8; bit++) {
				struct small_file_change got;
				payload.data[at] ^= (uint8_t)(1 << bit);
				if (decode(payload.data, payload.size, &got) == 0) {
					ck_assert_uint_le(got.content.size, payload.size);
					ck_assert(small_file_name_ok(got.name, strlen(got.name)));
					ck_assert_uint_le(got.mode, 0777);
				}
				payload.data[at] ^= (uint8_t)(1 << bit);
			}
		}
		buf_done(&payload);
	}
}
END_TEST

START_TEST(test_names)
{
	char longest[SMALL_FILE_NAME_MAX + 1];
	memset(longest, 'n', sizeof(longest));
	ck_assert(small_file_name_ok("a", 1));
	ck_assert(small_file_name_ok("...", 3));
	ck_assert(small_file_name_ok(longest, SMALL_FILE_NAME_MAX));
	ck_assert(!small_file_name_ok(longest, SMALL_FILE_NAME_MAX + 1));
	ck_assert(!small_file_name_ok("", 0));
	ck_assert(!small_file_name_ok(".", 1));
	ck_assert(!small_file_name_ok("..", 2));
	ck_assert(!small_file_name_ok("a/b", 3));
	ck_assert(!small_file_name_ok("a\0b", 3));
}
END_TEST

START_TEST(test_limits)
{
	static const uint8_t zeros[SMALL_FILE_SIZE_MAX + 1];
	struct small_file_change change = {.op = SMALL_FILE_SET, .name = "large"};
	change.content = (struct slice){.data = zeros, .size = SMALL_FILE_SIZE_MAX};
	memset(change.name, 'n', SMALL_FILE_NAME_MAX);
	struct buf payload = encode(&change);
	struct small_file_change got;
	ck_assert_int_eq(decode(payload.data, payload.size, &got), 0);
	check_same(&change, &got);
	buf_done(&payload);

	change.content.size++;
	ck_assert_int_eq(small_file_encode(&change, &payload), -EINVAL);
	change.content.size = 0;
	change.name[0] = '\0';
	ck_assert_int_eq(small_file_encode(&change, &payload), -EINVAL);
	buf_done(&payload);
}
END_TEST

/* Headers that claim more than there is, where an unpacker would allocate it. */
START_TEST(test_absurd_sizes)
{
	static const uint8_t payloads[][16] = {
		{0xdf, 0xff, 0xff, 0xff, 0xff},                       /* a map of 2^32 - 1 */
		{0x86, 0xa2, 'o', 'p', 0xdd, 0xff, 0xff, 0xff, 0xff}, /* an array */
		{0x86, 0xa2, 'o', 'p', 0xdb, 0xff, 0xff, 0xff, 0xff}, /* a string */
		{0x86, 0xc6, 0xff, 0xff, 0xff, 0xff},                 /* a binary as key */
		{0xc1},
	};
	for (size_t i = 0; i < ARRAY_SIZE(payloads); i++) {
		struct small_file_change got;
		ck_assert_int_eq(decode(payloads[i], sizeof(payloads[i]), &got), -EBADMSG);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("small_file");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, test_round_trip);
	tcase_add_test(tests, test_every_prefix);
	tcase_add_test(tests, test_every_flipped_byte);
	tcase_add_test(tests, test_names);
	tcase_add_test(tests, test_limits);
	tcase_add_test(tests, test_absurd_sizes);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
