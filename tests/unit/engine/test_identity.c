/* A store that uploads is known by its directory; others may be copied and moved. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/disk.h"
#include "engine/engine.h"
#include "engine/superblock.h"
#include "tests/lib/sim_disk.h"

static struct disk *disk;
static struct disk_ops hooked;
static struct disk_identity here;
static struct engine *e;
static struct engine_stats stats;

static int identity(struct disk *of, struct disk_identity *ret)
{
	(void)of;
	*ret = here;
	return 0;
}

/* The store's directory is somewhere else from now on. */
static void move_to(uint64_t inode, uint8_t machine)
{
	here = (struct disk_identity){.inode = inode};
	memset(here.machine, machine, sizeof(here.machine));
}

static void hook(void)
{
	hooked = *disk->ops;
	hooked.identity = identity;
	disk->ops = &hooked;
}

static void open_engine(bool take_over, bool read_only)
{
	struct engine_options options = {.take_over = take_over, .read_only = read_only};
	struct reterr err = {0};
	int r = engine_open(disk, &options, &err, &e);
	ck_assert_msg(r == 0, "%s", err.text);
	engine_stats(e, &stats);
}

static void close_engine(void)
{
	ck_assert_int_eq(engine_close(e, NULL), 0);
	e = NULL;
}

static void setup(void)
{
	ck_assert_int_eq(disk_memory_new(64 << 20, &disk), 0);
	hook();
	move_to(10, 1);
	ck_assert_int_eq(engine_format(disk, NULL, NULL), 0);
	open_engine(false, false);
}

static void teardown(void)
{
	engine_abandon(e);
	disk_free(disk);
}

static void start_uploading(void)
{
	ck_assert_int_eq(engine_journal_append(e, "x", 1, NULL), 0);
}

static void check_copied(const char *where)
{
	ck_assert(stats.copied && stats.read_only && !stats.damaged && !stats.clone);
	ck_assert_ptr_nonnull(strstr(stats.read_only_reason, "--take-over"));
	ck_assert_ptr_nonnull(strstr(stats.read_only_reason, where));
}

static void check_at_home(void)
{
	ck_assert(!stats.copied && !stats.read_only);
}

START_TEST(without_a_journal_a_store_may_be_anywhere)
{
	close_engine();
	move_to(11, 2);
	open_engine(false, false);
	check_at_home();
}
END_TEST

START_TEST(one_that_uploads_is_read_only_elsewhere_until_it_is_taken_over)
{
	static const struct {
		uint64_t inode;
		uint8_t machine;
		const char *where;
	} moves[] = {{11, 1, "directory"}, {10, 2, "machine"}, {11, 2, "machine"}};
	start_uploading();
	for (size_t i = 0; i < sizeof(moves) / sizeof(*moves); i++) {
		close_engine();
		move_to(moves[i].inode, moves[i].machine);
		open_engine(false, false);
		check_copied(moves[i].where);
		ck_assert_int_eq(engine_journal_append(e, "x", 1, NULL), -EROFS);
		close_engine();
		move_to(10, 1); /* back home nothing has happened */
		open_engine(false, false);
		check_at_home();
	}
	close_engine();
	move_to(11, 2);
	open_engine(true, false);
	check_at_home();
	close_engine();
	open_engine(false, false);
	check_at_home();
	close_engine();
	move_to(10, 1); /* the original is the copy now */
	open_engine(false, false);
	check_copied("machine");
}
END_TEST

START_TEST(what_has_no_number_is_not_different)
{
	start_uploading();
	close_engine();
	move_to(0, 0);
	open_engine(false, false);
	check_at_home();
	close_engine();
	move_to(10, 0);
	open_engine(false, false);
	check_at_home();
	close_engine();
	move_to(0, 1);
	open_engine(false, false);
	check_at_home();
	close_engine();
	move_to(11, 0);
	open_engine(false, false);
	check_copied("directory");
}
END_TEST

START_TEST(a_store_that_moved_before_it_uploads_is_at_home_where_it_begins)
{
	close_engine();
	move_to(11, 2);
	open_engine(false, false);
	start_uploading();
	close_engine();
	open_engine(false, false);
	check_at_home();
	close_engine();
	move_to(10, 1);
	open_engine(false, false);
	check_copied("machine");
}
END_TEST

START_TEST(a_reader_takes_nothing_over)
{
	start_uploading();
	close_engine();
	move_to(11, 2);
	open_engine(true, true);
	ck_assert(stats.read_only && stats.copied);
	close_engine();
	open_engine(false, false);
	check_copied("machine");
}
END_TEST

/* The power fails while it is taken over: it is the old one's or the new one's, never nobody's. */
START_TEST(a_power_cut_during_the_takeover)
{
	bool done = false;
	unsigned taken = 0;
	teardown();
	for (uint64_t cut = 0; !done; cut++) {
		struct engine_options options = {.take_over = true};
		disk = sim_disk_new(cut);
		struct disk *sim = disk;
		const struct disk_ops *ops = disk->ops;
		hook();
		move_to(10, 1);
		ck_assert_int_eq(engine_format(disk, NULL, NULL), 0);
		open_engine(false, false);
		start_uploading();
		close_engine();
		move_to(11, 2);
		sim_disk_cut_after(disk, cut);
		done = engine_open(disk, &options, NULL, &e) == 0;
		if (done)
			engine_abandon(e);
		sim->ops = ops;
		disk = sim_disk_crash(sim, cut + 7);
		disk_free(sim);
		hook();
		open_engine(false, false);
		ck_assert(stats.copied || !stats.read_only);
		ck_assert(!done || !stats.copied);
		ck_assert(!stats.damaged);
		taken += !stats.copied;
		engine_abandon(e);
		disk_free(disk);
	}
	ck_assert_uint_gt(taken, 0);
	setup();
}
END_TEST

START_TEST(programs_that_do_not_know_of_clones_or_remote_parts_keep_off)
{
	struct engine_inherited inherited = {.uuid = {{1}}, .length = 10};
	struct superblock sb;
	ck_assert_int_eq(superblock_read(disk, &sb, NULL), 0);
	ck_assert_uint_eq(sb.incompat, 0);
	ck_assert_uint_eq(sb.ro_compat, 0);
	ck_assert_int_eq(engine_inherit(e, &inherited, NULL), 0);
	ck_assert_int_eq(superblock_read(disk, &sb, NULL), 0);
	ck_assert_uint_eq(sb.incompat, SUPERBLOCK_INCOMPAT_REMOTE);
	ck_assert_int_eq(engine_make_clone(e, NULL, NULL), 0);
	ck_assert_int_eq(superblock_read(disk, &sb, NULL), 0);
	ck_assert_uint_eq(sb.ro_compat, SUPERBLOCK_RO_COMPAT_CLONE);
	close_engine();
	open_engine(true, false);
	ck_assert_int_eq(superblock_read(disk, &sb, NULL), 0);
	ck_assert_uint_eq(sb.ro_compat, 0);
	ck_assert_uint_eq(sb.incompat, SUPERBLOCK_INCOMPAT_REMOTE);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("identity");
	TCase *tcase = tcase_create("identity");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, without_a_journal_a_store_may_be_anywhere);
	tcase_add_test(tcase, one_that_uploads_is_read_only_elsewhere_until_it_is_taken_over);
	tcase_add_test(tcase, what_has_no_number_is_not_different);
	tcase_add_test(tcase, a_store_that_moved_before_it_uploads_is_at_home_where_it_begins);
	tcase_add_test(tcase, a_reader_takes_nothing_over);
	tcase_add_test(tcase, a_power_cut_during_the_takeover);
	tcase_add_test(tcase, programs_that_do_not_know_of_clones_or_remote_parts_keep_off);
	suite_add_tcase(suite, tcase);

	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
