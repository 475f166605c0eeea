/* Starts from what should not be there, or is not there: damage is told, and nothing of it is made worse. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/catalogue.h"
#include "engine/disk.h"
#include "engine/engine.h"
#include "engine/sealed.h"
#include "tests/lib/sim_disk.h"

enum { BLOCK = 64 << 10, SIZE = 4096 };

static struct disk *disk;
static struct engine *e;
static struct uuid uuid;

static int open_with(const struct engine_options *options, struct reterr *err)
{
	return engine_open(disk, options, err, &e);
}

static void open_engine(void)
{
	struct engine_options options = {.flush_interval_ms = 60 * 1000};
	struct reterr err = {0};
	int r = open_with(&options, &err);
	ck_assert_msg(r == 0, "open: %d %s", r, err.text);
}

static void setup(void)
{
	struct engine_format_options format = {.block_size = BLOCK};

	disk = sim_disk_new(1);
	ck_assert_int_eq(engine_format(disk, &format, NULL), 0);
	open_engine();
	ck_assert_int_eq(uuid_random(&uuid), 0);
}

static void teardown(void)
{
	engine_abandon(e);
	e = NULL;
	disk_free(disk);
}

static void stop_hard(void)
{
	engine_abandon(e);
	e = NULL;
}

static void append(struct engine_segment *segment, char byte, size_t size)
{
	static char bytes[1 << 20];
	struct iovec iov = {.iov_base = bytes, .iov_len = size};

	memset(bytes, byte, size);
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
}

static void commit(struct engine_segment *segment)
{
	struct engine_position all = {.segment = segment, .length = UINT64_MAX};
	ck_assert_int_eq(engine_commit(e, &all, 1, NULL), 0);
}

static struct engine_segment *create(void)
{
	struct engine_segment *segment;
	ck_assert_int_eq(engine_segment_create(e, &uuid, &segment), 0);
	return segment;
}

static void part_name(char path[static DISK_PATH_MAX], const char *dir, uint64_t start,
		      const char *suffix)
{
	char text[UUID_TEXT_LENGTH + 1];
	(void)snprintf(path, DISK_PATH_MAX, "%s/%s/%020llu%s", dir, uuid_format(&uuid, text),
		       (unsigned long long)start, suffix);
}

static void check_damaged(const char *word)
{
	struct engine_stats stats;
	char text[UUID_TEXT_LENGTH + 1];

	engine_stats(e, &stats);
	ck_assert(stats.damaged);
	ck_assert(stats.read_only);
	ck_assert_msg(strstr(stats.read_only_reason, uuid_format(&uuid, text)) != NULL, "%s",
		      stats.read_only_reason);
	ck_assert_msg(strstr(stats.read_only_reason, word) != NULL, "%s", stats.read_only_reason);
}

/* A root whose barrier was met, but whose bytes have rotted since. */
START_TEST(damage_takes_no_root_away)
{
	struct engine_pointer pointer;
	struct engine_root root;
	char path[DISK_PATH_MAX], text[] = "atom";
	struct iovec iov = {.iov_base = text, .iov_len = 4};
	struct engine_segment *segment = create();

	append(segment, 'a', SIZE);
	commit(segment);
	append(segment, 'b', SIZE);
	commit(segment);
	append(segment, 'c', SIZE);
	ck_assert_int_eq(engine_append(e, ENGINE_CLASS_LOG, ENGINE_FORMAT_RAW, &iov, 1, &pointer),
			 0);
	ck_assert_int_eq(engine_root_publish(e, 0, &pointer, NULL, 0, &root, NULL), 0);
	stop_hard();
	part_name(path, "segments", 0, "");
	sim_disk_flip(disk, path, SIZE + 100, 1);
	open_engine();
	check_damaged("damage at byte 4096");
	stop_hard();
	/* Somebody who has a good copy of the byte puts it back. */
	sim_disk_flip(disk, path, SIZE + 100, 1);
	open_engine();
	ck_assert_int_eq(engine_root_current(e, &root), 0);
	ck_assert_uint_eq(root.seq, 1);
}
END_TEST

static void remove_file(const char *dir, uint64_t start, const char *suffix)
{
	char path[DISK_PATH_MAX];

	part_name(path, dir, start, suffix);
	ck_assert_int_eq(disk_unlink(disk, path), 0);
}

/* The catalogue knows how long a segment was when its last part began. */
START_TEST(missing_parts_are_damage_even_when_no_part_is_left)
{
	struct engine_segment *segment = create();

	append(segment, 'a', SIZE);
	ck_assert_int_eq(engine_seal(e, segment, NULL), 0);
	append(segment, 'b', SIZE);
	commit(segment);
	stop_hard();
	remove_file("segments", 0, "");
	remove_file("segments", SIZE, "");
	remove_file("sealed", 0, ".table");
	open_engine();
	check_damaged("missing");
}
END_TEST

/* Everything else stays readable, and the message says where the disk failed. */
START_TEST(an_open_part_that_cannot_be_read_is_damage_of_its_segment)
{
	struct engine_segment *segment = create();
	struct reterr err = {0};
	struct engine_stats stats = {.damaged = false};

	append(segment, 'a', SIZE);
	commit(segment);
	stop_hard();
	for (uint64_t nth = 1; !stats.damaged; nth++) {
		struct disk *copy = sim_disk_crash(disk, nth);
		sim_disk_fail(copy, SIM_READ, nth, -EIO, false);
		int r = engine_open(copy, NULL, &err, &e);
		ck_assert_msg(sim_disk_failures(copy) > 0, "the part was never read");
		if (r == 0)
			engine_stats(e, &stats);
		if (stats.damaged)
			check_damaged("cannot be read");
		if (r == 0)
			stop_hard();
		disk_free(copy);
	}
	open_engine();
	struct engine_segment_info info;
	engine_segment_info(e, engine_segment_find(e, &uuid), &info);
	ck_assert_uint_eq(info.length, SIZE);
}
END_TEST

/* `.ctl/seal` while a segment is copied in, and then a crash: a part of a copy is no segment. */
static int seal_and_die(void *arg, void *data, size_t size, uint64_t offset)
{
	(void)arg;
	memset(data, 'i', size);
	if (offset == 0)
		return 0;
	ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
	sim_disk_cut_after(disk, 0);
	return 0;
}

START_TEST(a_copy_that_a_crash_cut_short_is_no_segment)
{
	struct reterr err = {0};

	ck_assert_int_lt(engine_import_from(e, &uuid, 3 << 20, seal_and_die, NULL, &err), 0);
	stop_hard();
	struct disk *after = sim_disk_crash(disk, 7);
	disk_free(disk);
	disk = after;
	open_engine();
	ck_assert_ptr_null(engine_segment_find(e, &uuid));
}
END_TEST

/* All that a table says fits together: a checksum keeps nobody from writing one of his own. */
static void forge(void (*change)(uint8_t *table))
{
	struct engine_segment *segment = create();
	char path[DISK_PATH_MAX];
	struct sealed_header header;
	void *table;
	size_t size;

	append(segment, 'a', SIZE);
	ck_assert_int_eq(engine_seal(e, segment, NULL), 0);
	part_name(path, "sealed", 0, ".table");
	ck_assert_int_eq(disk_read_file(disk, path, 1 << 20, &table, &size), 0);
	ck_assert_int_eq(sealed_header_load(table, size, &header), 0);
	change(table);
	struct hash sum = hash_of(table, size - HASH_SIZE);
	memcpy((uint8_t *)table + size - HASH_SIZE, sum.bytes, HASH_SIZE);
	ck_assert_int_eq(sealed_header_load(table, size, &header), -EBADMSG);
	free(table);
}

static void forge_frames_next(uint8_t *table)
{
	memset(table + 96, 0, 8);
	table[116] = 0; /* frames_bad */
}

static void forge_start(uint8_t *table)
{
	memset(table + 32, 0xff, 8);
}

static void forge_mibs(uint8_t *table)
{
	table[56] = 1;
}

START_TEST(a_table_that_contradicts_itself_is_damage)
{
	forge(_i == 0 ? forge_frames_next : _i == 1 ? forge_start : forge_mibs);
}
END_TEST

START_TEST(damage_is_told_to_a_reader_too)
{
	struct engine_segment *segment = create();
	struct engine_options options = {.read_only = true};
	char path[DISK_PATH_MAX];

	append(segment, 'a', SIZE);
	commit(segment);
	append(segment, 'b', SIZE);
	commit(segment);
	stop_hard();
	part_name(path, "segments", 0, "");
	sim_disk_flip(disk, path, 100, 1);
	ck_assert_int_eq(open_with(&options, NULL), 0);
	check_damaged("damage at byte 0");
}
END_TEST

/* A record that says that frames begin where whole ones lie: nothing is followed from there. */
START_TEST(a_record_that_contradicts_its_segment_is_damage)
{
	char bytes[32] = {[0] = 5};
	struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
	struct engine_segment *segment = create();
	struct engine_stats stats;

	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
	ck_assert_int_eq(engine_seal(e, segment, NULL), 0);
	engine_stats(e, &stats);
	stop_hard();
	struct catalogue_record record = {.uuid = uuid,
					  .number = 1,
					  .node = 1,
					  .epoch = 1,
					  .class = ENGINE_CLASS_FOREIGN,
					  .state = CATALOGUE_SEALED,
					  .length = sizeof(bytes)};
	ck_assert_int_eq(catalogue_rebuild(disk, &stats.store, &record, 1, NULL), 0);
	open_engine();
	segment = engine_segment_find(e, &uuid);
	ck_assert_ptr_nonnull(segment);
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), -EBADMSG);
}
END_TEST

START_TEST(nothing_is_abandoned)
{
	engine_abandon(NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine: recovery");
	TCase *tcase = tcase_create("recovery");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, damage_takes_no_root_away);
	tcase_add_test(tcase, missing_parts_are_damage_even_when_no_part_is_left);
	tcase_add_test(tcase, an_open_part_that_cannot_be_read_is_damage_of_its_segment);
	tcase_add_test(tcase, a_copy_that_a_crash_cut_short_is_no_segment);
	tcase_add_loop_test(tcase, a_table_that_contradicts_itself_is_damage, 0, 3);
	tcase_add_test(tcase, damage_is_told_to_a_reader_too);
	tcase_add_test(tcase, a_record_that_contradicts_its_segment_is_damage);
	tcase_add_test(tcase, nothing_is_abandoned);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
