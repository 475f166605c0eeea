/* Restore points out of places that are whole, damaged and hostile. */
#include <inttypes.h>

#include "tests/unit/cloud/upload_driver.h"

static struct watch_store *place;
static struct block_store *store;
static struct uuid owner, segment;
static struct hash hashes[8192]; /* of the manifests, by number */

static void setup(void)
{
	place = watch_new();
	store = place->below;
	owner = source_model_uuid(1);
	segment = source_model_uuid(2);
}

static void teardown(void)
{
	block_store_free(&place->base);
}

/* Puts N with the head that the caller changed, and LENGTH bytes of the one segment. */
static void put_manifest(struct manifest m, uint64_t n, uint64_t length, bool ended)
{
	struct manifest_segment entry = {.uuid = segment, .length = length, .ended = ended};
	struct buf text = {.max = MANIFEST_SIZE_MAX};
	char key[BLOCK_KEY_MAX + 1];
	m.n = n;
	m.previous = hashes[n - 1];
	m.owner = owner;
	(void)snprintf(m.host, sizeof(m.host), "h");
	if (m.block_size == 0)
		m.block_size = BLOCK;
	m.segments = &entry;
	m.segment_count = length > 0;
	ck_assert_int_eq(manifest_print(&m, &text), 0);
	hashes[n] = hash_of(text.data, text.size);
	(void)snprintf(key, sizeof(key), "roots/%020" PRIu64, n);
	ck_assert_int_eq(block_store_put(store, key, text.data, text.size, BLOCK_NO_FRAME, NULL),
			 0);
	buf_done(&text);
}

static void put_round(uint64_t n, uint64_t length)
{
	put_manifest((struct manifest){.since = n - 1}, n, length, false);
}

static void put_object(const char *rest, size_t size, char fill)
{
	char uuid[UUID_TEXT_LENGTH + 1], key[BLOCK_KEY_MAX + 1];
	char *data = malloc(size);
	memset(data, fill, size);
	(void)snprintf(key, sizeof(key), "wal/%s/%s", uuid_format(&segment, uuid), rest);
	ck_assert_int_eq(block_store_put(store, key, data, size, BLOCK_NO_FRAME, NULL), 0);
	free(data);
}

static void delete_manifest(uint64_t n)
{
	char key[BLOCK_KEY_MAX + 1];
	(void)snprintf(key, sizeof(key), "roots/%020" PRIu64, n);
	ck_assert_int_eq(block_store_delete(store, key, NULL), 0);
}

#define P0 "00000000000000000000"
#define P1 "00000000000000065536"

/* Finds; the length of the segment, or the error. TEXT must be in it. */
static int64_t find(const char *text)
{
	struct restore_point point;
	struct reterr err = {0};
	int r = restore_point_find(&place->base, true, &err, &point);
	if (r < 0) {
		ck_assert_int_eq(err.code, r);
		ck_assert_msg(text && strstr(err.text, text), "%s", err.text);
		return r;
	}
	ck_assert_msg(text == NULL, "it was taken");
	int64_t length = point.segment_count > 0 ? (int64_t)point.segments[0].length : 0;
	restore_point_done(&point);
	return length;
}

START_TEST(test_whole)
{
	put_round(1, 0);
	put_round(2, BLOCK + 10);
	put_object(P0, BLOCK, 'a');
	put_object(P1 "+0000000000-0000000010", 10, 'b');
	ck_assert_int_eq(find(NULL), BLOCK + 10);
	/* What follows without a gap is there, too. */
	put_object(P1 "+0000000010-0000000015", 5, 'b');
	put_object(P1 "+0000000016-0000000020", 4, 'b');
	ck_assert_int_eq(find(NULL), BLOCK + 15);
	/* A block has the last word about its deltas. */
	put_object(P1, BLOCK, 'c');
	ck_assert_int_eq(find(NULL), 2 * BLOCK);
}
END_TEST

START_TEST(test_ended)
{
	put_manifest((struct manifest){.since = 0}, 1, 10, true);
	put_object(P0 "+0000000000-0000000010", 10, 'b');
	put_object(P0 "+0000000010-0000000020", 10, 'x');
	ck_assert_int_eq(find(NULL), 10);
}
END_TEST

START_TEST(test_missing)
{
	ck_assert_int_eq(find("no manifest"), -ENOENT);
	put_round(1, 2 * BLOCK);
	ck_assert_int_eq(find(P0 " is missing"), -EBADMSG);
	put_object(P0, BLOCK, 'a');
	ck_assert_int_eq(find(P1 " is missing"), -EBADMSG);
	put_object(P1 "+0000000000-0000000010", 10, 'b');
	ck_assert_int_eq(find(P1 " is missing"), -EBADMSG);
	put_object(P1, BLOCK, 'b');
	ck_assert_int_eq(find(NULL), 2 * BLOCK);
}
END_TEST

START_TEST(test_sizes)
{
	put_round(1, BLOCK);
	put_object(P0, BLOCK + 1, 'a');
	ck_assert_int_eq(find("no object of it has"), -EBADMSG);
}
END_TEST

START_TEST(test_delta_size)
{
	put_round(1, 10);
	put_object(P0 "+0000000000-0000000010", 9, 'a');
	ck_assert_int_eq(find("no object of it has"), -EBADMSG);
}
END_TEST

START_TEST(test_odd_position)
{
	put_round(1, 10);
	put_object("00000000000000000001", 9, 'a');
	ck_assert_int_eq(find("no object of it has"), -EBADMSG);
}
END_TEST

/* Two owners' deltas: never mixed. */
START_TEST(test_overlap)
{
	put_round(1, 10);
	put_object(P0 "+0000000000-0000000010", 10, 'a');
	put_object(P0 "+0000000000-0000000020", 20, 'a');
	ck_assert_int_eq(find(NULL), 20);
	put_object(P0 "+0000000005-0000000030", 25, 'b');
	ck_assert_int_eq(find("overlap and differ"), -EBADMSG);
}
END_TEST

START_TEST(test_hole)
{
	for (uint64_t n = 1; n <= 9; n++)
		put_round(n, 0);
	delete_manifest(1);
	ck_assert_int_eq(find("manifest 1 is missing"), -EBADMSG);
	put_round(1, 0);
	delete_manifest(5);
	ck_assert_int_eq(find("is missing"), -EBADMSG);
}
END_TEST

START_TEST(test_exchanged)
{
	for (uint64_t n = 1; n <= 4; n++)
		put_round(n, 0);
	struct hash real = hashes[2];
	delete_manifest(2);
	put_manifest((struct manifest){.since = 1, .epoch = 77}, 2, 0, false);
	ck_assert(!hash_equal(&real, &hashes[2]));
	ck_assert_int_eq(find("not the one that a later one"), -EBADMSG);
}
END_TEST

START_TEST(test_block_size)
{
	put_round(1, 0);
	put_manifest((struct manifest){.since = 1, .block_size = 2 * BLOCK}, 2, 0, false);
	ck_assert_int_eq(find("another block size"), -EBADMSG);
}
END_TEST

START_TEST(test_uncounted_root)
{
	struct manifest m = {.root = {.seq = 1, .segment = segment, .offset = 10}};
	put_manifest(m, 1, 10, false);
	put_object(P0 "+0000000000-0000000010", 10, 'a');
	ck_assert_int_eq(find("do not count that byte"), -EBADMSG);
}
END_TEST

START_TEST(test_no_manifest)
{
	static char junk[7 << 20];
	const char *key = "roots/00000000000000000001";
	ck_assert_int_eq(block_store_put(store, key, "hello", 5, BLOCK_NO_FRAME, NULL), 0);
	ck_assert_int_eq(find("no JSON"), -EBADMSG);
	ck_assert_int_eq(block_store_delete(store, key, NULL), 0);
	ck_assert_int_eq(block_store_put(store, key, junk, sizeof(junk), BLOCK_NO_FRAME, NULL), 0);
	ck_assert_int_eq(find("too many"), -EBADMSG);
}
END_TEST

/* Says that it is another one. */
START_TEST(test_number)
{
	struct buf text = {.max = 65536};
	struct manifest m = {.n = 7, .since = 6, .owner = owner, .block_size = BLOCK};
	ck_assert_int_eq(manifest_print(&m, &text), 0);
	ck_assert_int_eq(block_store_put(store, "roots/00000000000000000001", text.data, text.size,
					 BLOCK_NO_FRAME, NULL),
			 0);
	ck_assert_int_eq(find("says that it is manifest 7"), -EBADMSG);
	buf_done(&text);
}
END_TEST

/* A chain without end is not followed for ever. */
START_TEST(test_endless)
{
	for (uint64_t n = 1; n <= 1100; n++)
		put_round(n, 0);
	ck_assert_int_eq(find("full list"), -E2BIG);
}
END_TEST

/* Half a year of rounds: the newest is found by a few requests. */
START_TEST(test_probing)
{
	for (uint64_t n = 1; n <= 8000; n++)
		put_manifest((struct manifest){.since = n % 64 == 0 ? 0 : n - 1}, n, 0, false);
	place->requests = 0;
	ck_assert_int_eq(find(NULL), 0);
	ck_assert_uint_le(place->requests, 64 + 40);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("restore point");
	TCase *tcase = tcase_create("restore point");
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, test_whole);
	tcase_add_test(tcase, test_ended);
	tcase_add_test(tcase, test_missing);
	tcase_add_test(tcase, test_sizes);
	tcase_add_test(tcase, test_delta_size);
	tcase_add_test(tcase, test_odd_position);
	tcase_add_test(tcase, test_overlap);
	tcase_add_test(tcase, test_hole);
	tcase_add_test(tcase, test_exchanged);
	tcase_add_test(tcase, test_block_size);
	tcase_add_test(tcase, test_uncounted_root);
	tcase_add_test(tcase, test_no_manifest);
	tcase_add_test(tcase, test_number);
	tcase_add_test(tcase, test_endless);
	tcase_add_test(tcase, test_probing);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
