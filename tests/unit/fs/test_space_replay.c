/* Small files come back after a restart, whatever the order and number of the segments that hold them. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/disk.h"
#include "engine/engine.h"
#include "fs/fs.h"
#include "fs/space.h"

enum { MIB = 1 << 20 };

static struct disk *disk;
static struct engine *engine;
static struct fs *fs;

static void store_open(void)
{
	struct reterr err = {0};
	ck_assert_msg(engine_open(disk, NULL, &err, &engine) == 0, "%s", err.text);
}

static void store_close(void)
{
	struct reterr err = {0};
	ck_assert_msg(engine_close(engine, &err) == 0, "%s", err.text);
	engine = NULL;
}

/* A filesystem that is never mounted: its start replays. */
static struct space *space_open(void)
{
	static const struct fs_options options = {.mountpoint = "/nonexistent", .store = "test"};
	struct reterr err = {0};
	ck_assert_msg(fs_new(engine, &options, &err, &fs) == 0, "%s", err.text);
	return fs_state(fs, FS_MODULE_SPACE);
}

static void setup(void)
{
	ck_assert_int_eq(disk_memory_new(64 * MIB, &disk), 0);
	ck_assert_int_eq(engine_format(disk, NULL, NULL), 0);
	store_open();
}

static void teardown(void)
{
	if (engine)
		store_close();
	disk_free(disk);
}

static void append(enum small_file_op op, uint64_t seq, const char *name, const char *content)
{
	struct small_file_change change = {.op = op, .seq = seq, .mode = 0600, .mtime_ns = 5};
	struct buf payload = {.max = SMALL_FILE_PAYLOAD_MAX};
	struct engine_pointer pointer;
	uint8_t since[8] = {0};

	strcpy(change.name, name);
	change.content = (struct slice){.data = (const uint8_t *)content, .size = strlen(content)};
	if (op == SMALL_FILE_RESET) {
		since[0] = (uint8_t)content[0];
		change.content = (struct slice){.data = since, .size = sizeof(since)};
	}
	ck_assert_int_eq(small_file_encode(&change, &payload), 0);
	if (change.content.size > 0)
		ck_assert_int_eq(buf_append(&payload, change.content.data, change.content.size), 0);
	struct iovec iov = {.iov_base = payload.data, .iov_len = payload.size};
	ck_assert_int_eq(engine_append(engine, ENGINE_CLASS_META, ENGINE_FORMAT_SMALL_FILE, &iov, 1,
				       &pointer),
			 0);
	buf_done(&payload);
}

static void check_file(struct space *space, const char *name, const char *want)
{
	char got[256] = {0};
	size_t size = 0;
	struct reterr err = {0};
	struct small_file *file = small_file_get(space, name);
	if (!want) {
		ck_assert_msg(!file, "%s is there", name);
		return;
	}
	ck_assert_msg(file != NULL, "%s is not there", name);
	ck_assert_uint_eq(file->size, strlen(want));
	ck_assert_msg(small_file_read(file, got, sizeof(got) - 1, 0, &size, &err) == 0, "%s",
		      err.text);
	ck_assert_str_eq(got, want);
	ck_assert_uint_eq(file->mode, 0600);
	small_file_put(space, file);
}

static unsigned meta_segments(void)
{
	struct engine_segment *segment;
	uint32_t number = 0;
	unsigned count = 0;
	while ((segment = engine_segment_next(engine, number)) != NULL) {
		struct engine_segment_info info;
		engine_segment_info(engine, segment, &info);
		number = info.number;
		count += info.class == ENGINE_CLASS_META ? 1 : 0;
	}
	return count;
}

START_TEST(test_changes)
{
	append(SMALL_FILE_SET, 1, "a", "one");
	append(SMALL_FILE_SET, 2, "b", "two");
	append(SMALL_FILE_SET, 3, "a", "three");
	append(SMALL_FILE_RENAME, 4, "b", "c");
	append(SMALL_FILE_SET, 5, "gone", "x");
	append(SMALL_FILE_UNLINK, 6, "gone", "");
	append(SMALL_FILE_SET, 7, "d", "four");
	append(SMALL_FILE_RENAME, 8, "d", "a");
	append(SMALL_FILE_RENAME, 9, "no such file", "y");
	append(SMALL_FILE_UNLINK, 10, "no such file", "");
	struct space *space = space_open();
	check_file(space, "a", "four");
	check_file(space, "b", NULL);
	check_file(space, "c", "two");
	check_file(space, "d", NULL);
	check_file(space, "gone", NULL);
	ck_assert_uint_eq(space->linked, 2);
	ck_assert_uint_eq(space->next_seq, 11);
	fs_free(fs);
}
END_TEST

/* What is before a reset and not copied behind it does not count, also if the frame that removed it is lost. */
START_TEST(test_reset)
{
	append(SMALL_FILE_SET, 1, "zombie", "old");
	append(SMALL_FILE_SET, 2, "kept", "old");
	append(SMALL_FILE_SET, 5, "kept", "copy");
	append(SMALL_FILE_RESET, 6, "-", "\5");
	append(SMALL_FILE_SET, 7, "later", "new");
	struct space *space = space_open();
	check_file(space, "zombie", NULL);
	check_file(space, "kept", "copy");
	check_file(space, "later", "new");
	fs_free(fs);
}
END_TEST

/* A copy that was not finished changes nothing. */
START_TEST(test_half_copy)
{
	append(SMALL_FILE_SET, 1, "a", "one");
	append(SMALL_FILE_SET, 2, "b", "two");
	append(SMALL_FILE_SET, 3, "a", "one");
	struct space *space = space_open();
	check_file(space, "a", "one");
	check_file(space, "b", "two");
	fs_free(fs);
}
END_TEST

/* What is no change, and a change that is damaged, cost what they hit and nothing else. */
START_TEST(test_bad_frames)
{
	struct iovec iov = {.iov_base = (char[]){"\x86\xa2op"}, .iov_len = 4};
	struct engine_pointer pointer;
	append(SMALL_FILE_SET, 1, "a", "one");
	ck_assert_int_eq(engine_append(engine, ENGINE_CLASS_META, ENGINE_FORMAT_SMALL_FILE, &iov, 1,
				       &pointer),
			 0);
	ck_assert_int_eq(
		engine_append(engine, ENGINE_CLASS_META, ENGINE_FORMAT_JSON, &iov, 1, &pointer), 0);
	append(SMALL_FILE_SET, 2, "b", "two");
	struct space *space = space_open();
	check_file(space, "a", "one");
	check_file(space, "b", "two");
	CLEANUP(buf_done) struct buf errors = {.max = 65536};
	ck_assert_int_eq(fs_errors_text(fs, &errors), 0);
	ck_assert_int_eq(buf_append(&errors, "", 1), 0);
	ck_assert_msg(strstr((const char *)errors.data, "small file") != NULL, "%s",
		      (const char *)errors.data);
	fs_free(fs);
}
END_TEST

/* Segments that are nearly all old are given up at the next start, and all that counts is kept. */
START_TEST(test_compaction)
{
	static char content[2001];
	memset(content, 'x', sizeof(content) - 1);
	uint64_t seq = 1;
	for (int run = 0; run < 3; run++) {
		for (int i = 0; i < 40; i++)
			append(SMALL_FILE_SET, seq++, "large", content);
		append(SMALL_FILE_SET, seq++, "small", "kept");
		append(SMALL_FILE_SET, seq++, "gone", "x");
		append(SMALL_FILE_UNLINK, seq++, "gone", "");
		store_close();
		store_open();
	}
	ck_assert_uint_eq(meta_segments(), 3);
	struct space *space = space_open();
	ck_assert_uint_eq(meta_segments(), 1);
	check_file(space, "small", "kept");
	check_file(space, "gone", NULL);
	fs_free(fs);

	/* And from then on: nothing is left of the old ones. */
	store_close();
	store_open();
	space = space_open();
	ck_assert_uint_eq(meta_segments(), 1);
	check_file(space, "small", "kept");
	struct small_file *large = small_file_get(space, "large");
	ck_assert_ptr_nonnull(large);
	ck_assert_uint_eq(large->size, strlen(content));
	small_file_put(space, large);
	check_file(space, "gone", NULL);
	ck_assert_uint_ge(space->next_seq, seq);
	fs_free(fs);
}
END_TEST

static void write_file(struct space *space, const char *name, const char *content)
{
	struct reterr err = {0};
	struct small_file *file = small_file_get(space, name);
	ck_assert_ptr_nonnull(file);
	pthread_mutex_lock(&space->change);
	ck_assert_int_eq(small_file_load(file, &err), 0);
	pthread_mutex_lock(&space->lock);
	ck_assert_int_eq(small_file_resize(file, strlen(content)), 0);
	memcpy(file->bytes.data, content, strlen(content));
	small_file_changed(file);
	pthread_mutex_unlock(&space->lock);
	ck_assert_msg(space_log_flush(space, file, &err) == 0, "%s", err.text);
	pthread_mutex_unlock(&space->change);
	small_file_put(space, file);
}

/* Without bringing what it held to memory. */
static void unlink_file(struct space *space, const char *name)
{
	struct reterr err = {0};
	struct small_file *file = small_file_get(space, name), *unref = NULL;
	ck_assert_ptr_nonnull(file);
	pthread_mutex_lock(&space->change);
	ck_assert_int_eq(space_log_unlink(space, name, &err), 0);
	pthread_mutex_lock(&space->lock);
	small_file_unlink_locked(space, file, &unref);
	pthread_mutex_unlock(&space->lock);
	pthread_mutex_unlock(&space->change);
	small_file_put(space, unref);
	small_file_put(space, file);
}

static void compact(struct space *space)
{
	pthread_mutex_lock(&space->change);
	space_compact(space, SPACE_COMPACT_START_MIN);
	pthread_mutex_unlock(&space->change);
}

/* The same while the files are used: who has one open reads on, and a crash right behind it costs nothing. */
START_TEST(test_compaction_in_use)
{
	static char content[2001], got[sizeof(content)];
	struct reterr err = {0};
	size_t size = 0;
	append(SMALL_FILE_SET, 1, "large", "x");
	append(SMALL_FILE_SET, 2, "small", "kept");
	append(SMALL_FILE_SET, 3, "gone", "still read");
	append(SMALL_FILE_SET, 4, "dirty", "before");
	struct space *space = space_open();
	memset(content, 'x', sizeof(content) - 1);
	ck_assert(!space_compact_due(space, SPACE_COMPACT_START_MIN));

	/* Open, and without a name: what a replay leaves of a file that another one replaced. */
	struct small_file *gone = small_file_get(space, "gone");
	pthread_mutex_lock(&space->lock);
	gone->opens++;
	pthread_mutex_unlock(&space->lock);
	unlink_file(space, "gone");
	ck_assert(!gone->loaded);

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 60; i++)
			write_file(space, "large", content);
		ck_assert(space_compact_due(space, SPACE_COMPACT_START_MIN));
		ck_assert(!space_compact_due(space, SPACE_COMPACT_MIN));
		struct engine_segment *old = space->meta;
		compact(space);
		ck_assert_ptr_ne(space->meta, old);
		ck_assert_uint_eq(meta_segments(), 1);
		ck_assert_uint_lt(space->kept, 4096);
		ck_assert(!space_log_is_pending(space));
		ck_assert(!space_compact_due(space, SPACE_COMPACT_START_MIN));
		check_file(space, "small", "kept");
		check_file(space, "dirty", round == 0 ? "before" : "after");
		write_file(space, "dirty", "after");
		ck_assert_int_eq(small_file_read(gone, got, sizeof(got), 0, &size, &err), 0);
		ck_assert_uint_eq(size, strlen("still read"));
		ck_assert_mem_eq(got, "still read", size);
	}
	ck_assert_int_eq(space_log_commit(space, &err), 0);
	uint64_t next_seq = space->next_seq;
	pthread_mutex_lock(&space->lock);
	gone->opens--;
	pthread_mutex_unlock(&space->lock);
	small_file_put(space, gone);
	fs_free(fs);
	engine_abandon(engine);

	store_open();
	space = space_open();
	check_file(space, "small", "kept");
	check_file(space, "dirty", "after");
	check_file(space, "gone", NULL);
	struct small_file *large = small_file_get(space, "large");
	ck_assert_ptr_nonnull(large);
	ck_assert_int_eq(small_file_read(large, got, sizeof(got), 0, &size, &err), 0);
	ck_assert_uint_eq(size, strlen(content));
	ck_assert_mem_eq(got, content, size);
	small_file_put(space, large);
	ck_assert_uint_eq(space->linked, 3);
	ck_assert_uint_ge(space->next_seq, next_seq);
	fs_free(fs);
}
END_TEST

/* Frames of a restored segment, as a copy brings them. */
static void restore(const char *uuid_text, uint64_t seq, const char *name, const char *content)
{
	struct small_file_change change = {.op = SMALL_FILE_SET, .seq = seq, .mode = 0600};
	struct buf bytes = {.max = MIB};
	struct engine_stage *stage;
	struct uuid uuid;
	struct reterr err = {0};

	strcpy(change.name, name);
	change.content = (struct slice){.data = (const uint8_t *)content, .size = strlen(content)};
	ck_assert_int_eq(buf_append_zeros(&bytes, ENGINE_FRAME_HEADER_SIZE), 0);
	ck_assert_int_eq(small_file_encode(&change, &bytes), 0);
	ck_assert_int_eq(buf_append(&bytes, content, strlen(content)), 0);
	store_le64(bytes.data, bytes.size - ENGINE_FRAME_HEADER_SIZE);
	bytes.data[8] = ENGINE_FORMAT_SMALL_FILE;

	ck_assert_int_eq(uuid_parse(uuid_text, &uuid), 0);
	ck_assert_int_eq(engine_stage_new(engine, &stage), 0);
	ck_assert_int_eq(engine_stage_write(stage, bytes.data, bytes.size, 0), 0);
	ck_assert_msg(engine_import(engine, &uuid, stage, &err) == 0, "%s", err.text);
	engine_stage_free(stage);
	buf_done(&bytes);
	ck_assert_msg(space_restored(fs, &uuid, &err) == 0, "%s", err.text);
}

/* Restored segments come in any order, and what was there stays what it is. */
START_TEST(test_restored)
{
	append(SMALL_FILE_SET, 1, "mine", "stays");
	append(SMALL_FILE_SET, 2, "both", "old");
	struct space *space = space_open();
	struct small_file *mine = small_file_get(space, "mine");
	ck_assert_ptr_nonnull(mine);
	restore("0f8fad5b-d9cb-469f-a165-70867728950e", 60, "both", "newest");
	restore("1f8fad5b-d9cb-469f-a165-70867728950e", 50, "both", "newer");
	restore("2f8fad5b-d9cb-469f-a165-70867728950e", 55, "theirs", "restored");
	check_file(space, "both", "newest");
	check_file(space, "mine", "stays");
	check_file(space, "theirs", "restored");
	ck_assert_uint_eq(space->linked, 3);
	ck_assert_uint_eq(space->next_seq, 61);

	/* The same node: who has it open, and the kernel, need not notice. */
	struct small_file *again = small_file_get(space, "mine");
	ck_assert_ptr_eq(again, mine);
	small_file_put(space, again);
	small_file_put(space, mine);
	fs_free(fs);
}
END_TEST

/* Restored segments stay, and what they hold does not come back when the frame that removed it goes. */
START_TEST(test_compaction_of_restored)
{
	static char content[2001];
	memset(content, 'x', sizeof(content) - 1);
	append(SMALL_FILE_SET, 1, "large", "x");
	struct space *space = space_open();
	restore("0f8fad5b-d9cb-469f-a165-70867728950e", 60, "theirs", "restored");
	restore("1f8fad5b-d9cb-469f-a165-70867728950e", 70, "gone", "restored");
	unlink_file(space, "gone");
	for (int i = 0; i < 60; i++)
		write_file(space, "large", content);
	struct engine_segment *old = space->meta;
	compact(space);
	ck_assert_ptr_ne(space->meta, old);
	ck_assert_uint_eq(meta_segments(), 1);
	fs_free(fs);
	store_close();

	store_open();
	space = space_open();
	ck_assert_int_eq(space->linked, 2);
	check_file(space, "gone", NULL);
	struct small_file *theirs = small_file_get(space, "theirs");
	ck_assert_ptr_nonnull(theirs);
	small_file_put(space, theirs);
	fs_free(fs);
}
END_TEST

START_TEST(test_too_many)
{
	char name[32];
	for (unsigned i = 0; i < SPACE_FILES_MAX + 3; i++) {
		snprintf(name, sizeof(name), "file %u", i);
		append(SMALL_FILE_SET, i + 1, name, "x");
	}
	struct space *space = space_open();
	ck_assert_uint_eq(space->linked, SPACE_FILES_MAX);
	check_file(space, "file 0", "x");
	check_file(space, name, NULL);
	fs_free(fs);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("space_replay");
	TCase *tests = tcase_create("all");
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_changes);
	tcase_add_test(tests, test_reset);
	tcase_add_test(tests, test_half_copy);
	tcase_add_test(tests, test_bad_frames);
	tcase_add_test(tests, test_compaction);
	tcase_add_test(tests, test_compaction_in_use);
	tcase_add_test(tests, test_restored);
	tcase_add_test(tests, test_compaction_of_restored);
	tcase_add_test(tests, test_too_many);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
