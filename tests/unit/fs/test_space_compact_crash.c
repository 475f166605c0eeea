/* Power cuts after each operation of a compaction: the files are what they were, in the order of their changes. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/disk.h"
#include "engine/engine.h"
#include "fs/fs.h"
#include "fs/space.h"
#include "tests/lib/sim_disk.h"

enum { CHURN_SIZE = 2000, CHURN = 50, FILES = 5, SEEDS = 5, CUTS_MAX = 500 };

static struct engine *engine;
static struct fs *fs;
static char churn[CHURN_SIZE];

static struct space *space_open(struct disk *disk)
{
	static const struct fs_options options = {.mountpoint = "/nonexistent", .store = "test"};
	/* Nothing happens by itself: each cut comes at the same step. */
	const struct engine_options engine_options = {.flush_interval_ms = 600 * 1000};
	struct reterr err = {0};

	ck_assert_msg(engine_open(disk, &engine_options, &err, &engine) == 0, "%s", err.text);
	struct engine_stats stats;
	engine_stats(engine, &stats);
	ck_assert_msg(!stats.damaged, "%s", stats.read_only_reason);
	ck_assert_msg(fs_new(engine, &options, &err, &fs) == 0, "%s", err.text);
	return fs_state(fs, FS_MODULE_SPACE);
}

static void space_crash(void)
{
	fs_free(fs);
	engine_abandon(engine);
}

/* As a create and a write. With change held. */
static void write_file(struct space *space, const char *name, const char *data, size_t size)
{
	struct reterr err = {0};
	struct small_file *file = small_file_get(space, name);

	if (!file) {
		ck_assert_int_eq(small_file_new(space, 0600, &file), 0);
		pthread_mutex_lock(&space->lock);
		strcpy(file->name, name);
		file->linked = true;
		space->linked++;
		node_ref(&file->node, 1);
		pthread_mutex_unlock(&space->lock);
	}
	ck_assert_int_eq(small_file_load(file, &err), 0);
	pthread_mutex_lock(&space->lock);
	ck_assert_int_eq(small_file_resize(file, size), 0);
	memcpy(file->bytes.data, data, size);
	file->dirty = true;
	pthread_mutex_unlock(&space->lock);
	ck_assert_msg(space_log_flush(space, file, &err) == 0, "%s", err.text);
	small_file_put(space, file);
}

static void write_text(struct space *space, const char *name, const char *text)
{
	write_file(space, name, text, strlen(text));
}

static bool file_is(struct space *space, const char *name, const char *data, size_t size)
{
	static char got[CHURN_SIZE + 1];
	size_t count = 0;
	struct reterr err = {0};
	struct small_file *file = small_file_get(space, name);

	ck_assert_msg(file != NULL, "%s is not there", name);
	ck_assert_msg(small_file_read(file, got, sizeof(got), 0, &count, &err) == 0, "%s: %s", name,
		      err.text);
	small_file_put(space, file);
	return count == size && memcmp(got, data, size) == 0;
}

static bool text_is(struct space *space, const char *name, const char *text)
{
	return file_is(space, name, text, strlen(text));
}

/* Files that are durable, and behind them two changes that are not. With change held. */
static void fill(struct space *space)
{
	char name[32];
	struct reterr err = {0};

	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "quiet %u", i);
		write_text(space, name, name);
	}
	write_text(space, "gone", "x");
	/* Copied in the order of their creation: half a copy has the later change alone. */
	write_text(space, "second", "old");
	write_text(space, "first", "old");
	for (unsigned i = 0; i < CHURN; i++)
		write_file(space, "large", churn, sizeof(churn));
	struct small_file *gone = small_file_get(space, "gone"), *unref = NULL;
	ck_assert_int_eq(space_log_unlink(space, "gone", &err), 0);
	pthread_mutex_lock(&space->lock);
	small_file_unlink_locked(space, gone, &unref);
	pthread_mutex_unlock(&space->lock);
	small_file_put(space, unref);
	small_file_put(space, gone);
	ck_assert_int_eq(space_log_commit(space, &err), 0);
	write_text(space, "first", "new");
	write_text(space, "second", "new");
}

static void check_files(struct space *space, bool all_durable, uint64_t cut, uint64_t seed)
{
	char name[32];

	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "quiet %u", i);
		ck_assert_msg(text_is(space, name, name), "%s, cut %d, seed %d", name, (int)cut,
			      (int)seed);
	}
	ck_assert(file_is(space, "large", churn, sizeof(churn)));
	struct small_file *gone = small_file_get(space, "gone");
	ck_assert_msg(!gone, "cut %d, seed %d: an unlinked file is back", (int)cut, (int)seed);
	bool first = text_is(space, "first", "new"), second = text_is(space, "second", "new");
	ck_assert(first || text_is(space, "first", "old"));
	ck_assert(second || text_is(space, "second", "old"));
	ck_assert_msg(first || !second, "cut %d, seed %d: the later change alone", (int)cut,
		      (int)seed);
	ck_assert_msg(second || !all_durable, "cut %d, seed %d: a durable change is lost", (int)cut,
		      (int)seed);
	ck_assert_uint_eq(space->linked, FILES + 3);
}

/* Whether the power went off before the end. */
static bool cut_after(uint64_t cut)
{
	struct disk *disk = sim_disk_new(cut + 1);
	ck_assert_int_eq(engine_format(disk, NULL, NULL), 0);
	struct space *space = space_open(disk);

	pthread_mutex_lock(&space->change);
	fill(space);
	sim_disk_cut_after(disk, cut);
	space_compact(space, SPACE_COMPACT_START_MIN);
	bool all_durable = !space_log_is_pending(space);
	pthread_mutex_unlock(&space->change);
	bool off = sim_disk_is_off(disk);
	ck_assert(off || all_durable);
	space_crash();

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct disk *after = sim_disk_crash(disk, seed);
		/* The first start may compact. */
		for (int start = 0; start < 2; start++) {
			check_files(space_open(after), all_durable, cut, seed);
			space_crash();
		}
		disk_free(after);
	}
	disk_free(disk);
	return off;
}

START_TEST(a_power_cut_at_any_step_loses_nothing)
{
	uint64_t cut = 0;
	memset(churn, 'x', sizeof(churn));
	while (cut < CUTS_MAX && cut_after(cut))
		cut++;
	ck_assert_uint_gt(cut, 8);
	ck_assert_uint_lt(cut, CUTS_MAX);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("space_compact_crash");
	TCase *tests = tcase_create("all");
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, a_power_cut_at_any_step_loses_nothing);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
