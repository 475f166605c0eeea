/* The check of a store: what an open would refuse is told, what a crash leaves is counted. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/catalogue.h"
#include "engine/disk.h"
#include "engine/engine.h"
#include "engine/superblock.h"

enum { BLOCK = 64 << 10, LENGTH = 5000 };

static struct disk *disk;
static struct engine *e;
static const struct uuid uuid = {{0xf0, 3}};
static char last_finding[RETERR_TEXT_SIZE];

static void setup(void)
{
	struct engine_format_options options = {.block_size = BLOCK};
	struct engine_segment *segment;
	static uint8_t bytes[LENGTH] = {1};
	struct iovec iov = {.iov_base = bytes, .iov_len = LENGTH};
	ck_assert_int_eq(disk_memory_new(1u << 30, &disk), 0);
	ck_assert_int_eq(engine_format(disk, &options, NULL), 0);
	ck_assert_int_eq(engine_open(disk, NULL, NULL, &e), 0);
	ck_assert_int_eq(engine_segment_create(e, &uuid, &segment), 0);
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
	ck_assert_int_eq(engine_sync(e, NULL), 0);
}

static void teardown(void)
{
	disk_free(disk);
}

static void note(void *arg, const struct reterr *finding, bool fixed)
{
	(void)arg;
	if (!fixed)
		memcpy(last_finding, finding->text, sizeof(last_finding));
}

static struct engine_fsck_result check(bool repair)
{
	struct engine_fsck_result result;
	struct engine_fsck_options options = {.deep = true, .repair = repair, .found = note};
	ck_assert_int_eq(engine_fsck(disk, &options, &result, NULL), 0);
	return result;
}

static struct catalogue_record record;

static int keep_record(void *arg, const struct catalogue_record *found)
{
	(void)arg;
	record = *found;
	return 0;
}

static bool opens_damaged(void)
{
	struct engine_stats stats;
	ck_assert_int_eq(engine_open(disk, NULL, NULL, &e), 0);
	engine_stats(e, &stats);
	ck_assert_int_eq(engine_close(e, NULL), 0);
	return stats.damaged;
}

START_TEST(an_open_record_above_what_is_there_is_a_problem)
{
	struct superblock sb;
	struct catalogue *catalogue;
	ck_assert_int_eq(engine_close(e, NULL), 0);
	ck_assert_int_eq(superblock_read(disk, &sb, NULL), 0);
	ck_assert_int_eq(catalogue_open(disk, &sb.store, true, keep_record, NULL, NULL, &catalogue),
			 0);
	catalogue_close(catalogue);
	ck_assert_uint_eq(check(false).problems, 0);

	record.state = CATALOGUE_OPEN;
	record.length = record.part_start = LENGTH; /* begun, and cut short: nothing is missing */
	ck_assert_int_eq(catalogue_rebuild(disk, &sb.store, &record, 1, NULL), 0);
	ck_assert_uint_eq(check(false).problems, 0);

	record.length = record.part_start = LENGTH + 1000;
	ck_assert_int_eq(catalogue_rebuild(disk, &sb.store, &record, 1, NULL), 0);
	ck_assert_uint_eq(check(false).problems, 1);
	ck_assert_ptr_nonnull(strstr(last_finding, "bytes from 5000 on are missing"));
	ck_assert(opens_damaged());
	struct engine_fsck_result result = check(true);
	ck_assert_uint_eq(result.fixed, 1);
	ck_assert(!opens_damaged());
	ck_assert_uint_eq(check(false).problems, 0);
}
END_TEST

START_TEST(torn_bytes_are_bytes)
{
	char text[UUID_TEXT_LENGTH + 1], path[DISK_PATH_MAX];
	struct disk_file *file;
	uint8_t tail[777];
	engine_abandon(e);
	ck_assert_uint_eq(check(false).torn_bytes, 0);
	memset(tail, 0xaa, sizeof(tail));
	(void)snprintf(path, sizeof(path), "segments/%s/%020d", uuid_format(&uuid, text), 0);
	ck_assert_int_eq(disk_open(disk, path, DISK_WRITE, &file), 0);
	ck_assert_int_eq(disk_write_flush(file, tail, sizeof(tail), LENGTH), 0);
	disk_close(file);
	struct engine_fsck_result result = check(false);
	ck_assert_uint_eq(result.problems, 0);
	ck_assert_uint_eq(result.torn_bytes, sizeof(tail));
	ck_assert(!opens_damaged());
	ck_assert_uint_eq(check(false).torn_bytes, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fsck");
	TCase *tcase = tcase_create("fsck");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, an_open_record_above_what_is_there_is_a_problem);
	tcase_add_test(tcase, torn_bytes_are_bytes);
	suite_add_tcase(suite, tcase);

	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
