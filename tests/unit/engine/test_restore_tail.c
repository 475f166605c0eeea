/* Tails that a disk lost though a witness knows of them: they come back, or the store is read-only. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"
#include "engine/disk.h"
#include "engine/engine.h"
#include "tests/lib/fake_clock.h"
#include "tests/lib/fault_alloc.h"
#include "tests/lib/remote_model.h"
#include "tests/lib/sim_disk.h"

enum { BLOCK = 64 << 10, PART = 64 * BLOCK, FRAME = 8009, FRAMES = 5, WHOLE = FRAMES * FRAME };

static struct disk *disk;
static struct engine *e;
static struct remote_model model;
static struct fake_clock fake;
static struct engine_options options;
/* Told by any thread, also by the engine's own; read when these have nothing to tell. */
static pthread_mutex_t report_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned reports;
static struct reterr reported;

static void on_report(void *arg, const struct reterr *event)
{
	(void)arg;
	(void)pthread_mutex_lock(&report_lock);
	reports++;
	reported = *event;
	(void)pthread_mutex_unlock(&report_lock);
}

static void open_engine(void)
{
	struct reterr err = {0};
	int r = engine_open(disk, &options, &err, &e);
	ck_assert_msg(r == 0, "%d %s", r, err.text);
}

static void format_on(struct disk *new)
{
	const struct engine_format_options format = {.block_size = BLOCK};
	disk = new;
	ck_assert_int_eq(engine_format(disk, &format, NULL), 0);
	open_engine();
}

static void setup(void)
{
	remote_model_init(&model);
	fake_clock_init(&fake);
	reports = 0;
	options = (struct engine_options){.clock = &fake.clock,
					  .reader = &model.reader,
					  .witnesses = true,
					  .report = on_report,
					  .flush_interval_ms = 100000};
	format_on(sim_disk_new(1));
}

static void teardown(void)
{
	engine_abandon(e);
	e = NULL;
	disk_free(disk);
	remote_model_done(&model);
}

/* ---- Segments ---- */

static const struct uuid foreign_uuid = {{0xf0, 2}};

static uint8_t byte_at(uint64_t offset)
{
	uint64_t in_frame = offset % FRAME;
	if (in_frame < 8)
		return (uint8_t)((uint64_t)(FRAME - ENGINE_FRAME_HEADER_SIZE) >> 8 * in_frame);
	return in_frame == 8 ? ENGINE_FORMAT_RAW : (uint8_t)((offset * 0x9E3779B97F4A7C15u) >> 56);
}

/* Appends bytes [FROM, TO) of the stream to the foreign segment, and commits them. */
static void append_foreign(uint64_t from, uint64_t to)
{
	struct engine_segment *segment = engine_segment_find(e, &foreign_uuid);
	if (!segment)
		ck_assert_int_eq(engine_segment_create(e, &foreign_uuid, &segment), 0);
	uint8_t *data = malloc(to - from);
	for (uint64_t i = from; i < to; i++)
		data[i - from] = byte_at(i);
	struct iovec iov = {.iov_base = data, .iov_len = to - from};
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
	free(data);
	ck_assert_int_eq(engine_sync(e, NULL), 0);
}

static void make_foreign(unsigned frames)
{
	for (unsigned i = 0; i < frames; i++)
		append_foreign((uint64_t)i * FRAME, (uint64_t)(i + 1) * FRAME);
	remote_model_copy(&model, e, engine_segment_find(e, &foreign_uuid));
}

static struct uuid append_atom(uint64_t number)
{
	struct engine_pointer pointer;
	uint8_t payload[FRAME - ENGINE_FRAME_HEADER_SIZE];
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = byte_at(number * FRAME + ENGINE_FRAME_HEADER_SIZE + i);
	struct iovec iov = {.iov_base = payload, .iov_len = sizeof(payload)};
	ck_assert_int_eq(engine_append(e, ENGINE_CLASS_LOG, ENGINE_FORMAT_RAW, &iov, 1, &pointer),
			 0);
	ck_assert_int_eq(engine_sync(e, NULL), 0);
	return pointer.segment;
}

static struct engine_segment_info info_of(const struct uuid *uuid)
{
	struct engine_segment_info info;
	struct engine_segment *segment = engine_segment_find(e, uuid);
	ck_assert_ptr_nonnull(segment);
	engine_segment_info(e, segment, &info);
	return info;
}

static struct engine_stats stats_of(void)
{
	struct engine_stats stats;
	engine_stats(e, &stats);
	return stats;
}

/* The process dies, and the disk loses what the last commit put at byte AT of the part. */
static void die_and_tear(const struct uuid *uuid, uint64_t at)
{
	char text[UUID_TEXT_LENGTH + 1], path[DISK_PATH_MAX];
	engine_abandon(e);
	(void)snprintf(path, sizeof(path), "segments/%s/%020u", uuid_format(uuid, text), 0U);
	sim_disk_flip(disk, path, at, 0xff);
}

static void check_bytes(const struct uuid *uuid, uint64_t length)
{
	struct reterr err = {0};
	uint8_t *data = malloc(length + 1);
	size_t got = 0;
	int r = engine_read(e, engine_segment_find(e, uuid), data, length + 1, 0, ENGINE_READ_DISK,
			    &got, &err);
	ck_assert_msg(r == 0 && got == length, "%d %s, %zu bytes", r, err.text, got);
	for (size_t i = 0; i < got; i++)
		if (data[i] != byte_at(i))
			ck_abort_msg("byte %zu", i);
	free(data);
}

static void check_frames(const struct uuid *uuid, unsigned count)
{
	static struct engine_frame frames[2000];
	size_t got = 0;
	struct engine_segment *segment = engine_segment_find(e, uuid);
	ck_assert_int_eq(engine_frames(e, segment, 0, frames, 2000, &got), 0);
	ck_assert_uint_eq(got, count);
	for (unsigned i = 0; i < count; i++)
		ck_assert_uint_eq(frames[i].offset, (uint64_t)i * FRAME);
	ck_assert_uint_eq(info_of(uuid).frames_end, (uint64_t)count * FRAME);
}

static void print_finding(void *arg, const struct reterr *finding, bool fixed)
{
	(void)arg;
	(void)fixed;
	(void)fprintf(stderr, "%s\n", finding->text);
}

static void check_fsck(void)
{
	const struct engine_fsck_options fsck = {.deep = true, .found = print_finding};
	struct engine_fsck_result result;
	ck_assert_int_eq(engine_fsck(disk, &fsck, &result, NULL), 0);
	ck_assert_uint_eq(result.problems, 0);
}

static int restore(const struct uuid *uuid, uint64_t length, struct reterr *err)
{
	return engine_restore_tail(e, uuid, length, err);
}

static void check_restored(const struct uuid *uuid, uint64_t length)
{
	struct reterr err = {0};
	int r = restore(uuid, length, &err);
	ck_assert_msg(r == 0, "%d %s", r, err.text);
	ck_assert_int_eq(engine_tails_restored(e, &err), 0);
	ck_assert_uint_eq(info_of(uuid).durable, length);
	ck_assert_uint_eq(info_of(uuid).length, length);
	check_bytes(uuid, length);
	ck_assert(!stats_of().read_only);
	ck_assert(!stats_of().damaged);
}

/* ---- What comes back ---- */

START_TEST(a_foreign_tail_comes_back)
{
	make_foreign(FRAMES);
	die_and_tear(&foreign_uuid, WHOLE - 100);
	open_engine();
	ck_assert_uint_eq(info_of(&foreign_uuid).durable, WHOLE - FRAME);
	ck_assert(!stats_of().read_only);
	check_restored(&foreign_uuid, WHOLE);
	check_frames(&foreign_uuid, FRAMES);
	ck_assert_uint_eq(reports, 1);
	ck_assert_ptr_nonnull(strstr(reported.text, "8009 bytes from byte 32036 on"));

	/* Once more there is nothing to do, and nobody is asked. */
	model.reads = 0;
	ck_assert_int_eq(restore(&foreign_uuid, WHOLE, NULL), 0);
	ck_assert_uint_eq(model.reads, 0);
	ck_assert_uint_eq(reports, 1);

	/* It goes on where it ended. */
	append_foreign(WHOLE, WHOLE + FRAME);
	check_frames(&foreign_uuid, FRAMES + 1);
	ck_assert_int_eq(engine_close(e, NULL), 0);
	check_fsck();
	open_engine();
	check_bytes(&foreign_uuid, WHOLE + FRAME);
	check_frames(&foreign_uuid, FRAMES + 1);
}
END_TEST

START_TEST(a_tail_within_a_frame_comes_back)
{
	make_foreign(3);
	append_foreign(3 * FRAME, 3 * FRAME + 4);
	append_foreign(3 * FRAME + 4, 3 * FRAME + 500);
	remote_model_copy(&model, e, engine_segment_find(e, &foreign_uuid));
	die_and_tear(&foreign_uuid, 3 * FRAME + 300);
	open_engine();
	ck_assert_uint_eq(info_of(&foreign_uuid).durable, 3 * FRAME + 4);
	check_restored(&foreign_uuid, 3 * FRAME + 500);
	append_foreign(3 * FRAME + 500, 4 * FRAME);
	check_frames(&foreign_uuid, 4);
}
END_TEST

START_TEST(an_own_tail_comes_back_and_is_final)
{
	struct uuid uuid = {{0}};
	for (unsigned i = 0; i < FRAMES; i++)
		uuid = append_atom(i);
	remote_model_copy(&model, e, engine_segment_find(e, &uuid));
	die_and_tear(&uuid, WHOLE - 100);
	open_engine();
	ck_assert_uint_eq(info_of(&uuid).durable, WHOLE - FRAME);
	check_restored(&uuid, WHOLE);
	check_frames(&uuid, FRAMES);
	ck_assert(info_of(&uuid).final);

	struct engine_pointer pointer = {.segment = uuid, .offset = WHOLE - FRAME};
	struct engine_root root;
	ck_assert_int_eq(engine_root_publish(e, 0, &pointer, NULL, 0, &root, NULL), 0);
	struct uuid next = append_atom(0);
	ck_assert(!uuid_equal(&next, &uuid));
	ck_assert_int_eq(engine_close(e, NULL), 0);
	check_fsck();
	open_engine();
	check_frames(&uuid, FRAMES);
	ck_assert(!stats_of().read_only);
}
END_TEST

/* Far more than a commit: of several parts. */
START_TEST(a_tail_of_many_parts_comes_back)
{
	const uint64_t length = 1300 * (uint64_t)FRAME;
	ck_assert_uint_gt(length, 2 * PART);
	append_foreign(0, length);
	remote_model_copy(&model, e, engine_segment_find(e, &foreign_uuid));
	engine_abandon(e);
	disk_free(disk);

	format_on(sim_disk_new(2));
	append_foreign(0, 3 * FRAME + 70);
	model.read_size_max = 50000;
	check_restored(&foreign_uuid, length);
	check_frames(&foreign_uuid, 1300);
	append_foreign(length, length + FRAME);
	ck_assert_int_eq(engine_close(e, NULL), 0);
	check_fsck();
	open_engine();
	check_bytes(&foreign_uuid, length + FRAME);
	check_frames(&foreign_uuid, 1301);
}
END_TEST

/* Nothing of it was left: recovery keeps it until no witness is left. */
START_TEST(a_segment_of_which_nothing_was_left_comes_back)
{
	make_foreign(1);
	die_and_tear(&foreign_uuid, 100);
	for (unsigned i = 0; i < 2; i++) {
		open_engine();
		ck_assert_uint_eq(info_of(&foreign_uuid).length, 0);
		ck_assert(!stats_of().read_only);
		/* Nobody forgets it, as he would one that was just made. */
		engine_segment_forget(e, engine_segment_find(e, &foreign_uuid));
		engine_abandon(e);
	}
	open_engine();
	check_restored(&foreign_uuid, FRAME);
	check_frames(&foreign_uuid, 1);
	ck_assert_int_eq(engine_close(e, NULL), 0);
	check_fsck();
	open_engine();
	check_bytes(&foreign_uuid, FRAME);
}
END_TEST

START_TEST(an_empty_segment_without_a_witness_is_removed)
{
	make_foreign(1);
	die_and_tear(&foreign_uuid, 100);
	open_engine();
	ck_assert_int_eq(engine_tails_restored(e, NULL), 0);
	ck_assert_ptr_null(engine_segment_find(e, &foreign_uuid));
	append_foreign(0, 2 * FRAME);
	ck_assert_int_eq(engine_close(e, NULL), 0);
	check_fsck();
	open_engine();
	check_bytes(&foreign_uuid, 2 * FRAME);
}
END_TEST

START_TEST(what_is_whole_or_gone_is_left_alone)
{
	const struct uuid unknown = {{1}};
	const struct engine_inherited inherited = {
		.uuid = {{2}}, .class = ENGINE_CLASS_LOG, .length = 100, .node = 1, .epoch = 1};
	make_foreign(2);
	ck_assert_int_eq(engine_inherit(e, &inherited, NULL), 0);
	model.reads = 0;
	ck_assert_int_eq(restore(&unknown, 1000, NULL), 0);
	ck_assert_int_eq(restore(&inherited.uuid, 1000, NULL), 0);
	ck_assert_int_eq(restore(&foreign_uuid, 2 * FRAME, NULL), 0);
	ck_assert_int_eq(restore(&foreign_uuid, 5, NULL), 0);
	ck_assert_int_eq(engine_segment_remove(e, engine_segment_find(e, &foreign_uuid)), 0);
	ck_assert_int_eq(restore(&foreign_uuid, 2 * FRAME, NULL), 0);
	ck_assert_ptr_null(engine_segment_find(e, &foreign_uuid));
	ck_assert_uint_eq(model.reads, 0);
	ck_assert_uint_eq(reports, 0);
}
END_TEST

/* The limit of the disk is for what is new. */
START_TEST(disk_max_does_not_keep_it_out)
{
	make_foreign(FRAMES);
	die_and_tear(&foreign_uuid, WHOLE - 100);
	options.disk_max = 1;
	open_engine();
	check_restored(&foreign_uuid, WHOLE);
}
END_TEST

static struct engine_root root_of(void)
{
	struct engine_root root = {0};
	ck_assert_int_eq(engine_root_current(e, &root), 0);
	return root;
}

/* Its bytes went out together with it: what tore them made it a torn publication. */
START_TEST(a_root_comes_back_when_its_bytes_have)
{
	struct engine_root published, root;
	struct engine_segment *segment;
	struct engine_pointer pointer = {.segment = foreign_uuid};
	uint8_t data[FRAME];

	make_foreign(FRAMES - 1);
	ck_assert_int_eq(engine_root_publish(e, 0, &pointer, "a", 1, &root, NULL), 0);
	for (unsigned i = 0; i < FRAME; i++)
		data[i] = byte_at(WHOLE - FRAME + i);
	struct iovec iov = {.iov_base = data, .iov_len = FRAME};
	segment = engine_segment_find(e, &foreign_uuid);
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
	pointer.offset = WHOLE - FRAME;
	ck_assert_int_eq(engine_root_publish(e, 1, &pointer, "bc", 2, &published, NULL), 0);
	remote_model_copy(&model, e, segment);
	die_and_tear(&foreign_uuid, WHOLE - 100);

	open_engine();
	ck_assert_uint_eq(root_of().seq, 1);
	/* Not while its bytes are missing, and only the next one. */
	ck_assert_int_eq(engine_restore_root(e, &published, NULL), 0);
	ck_assert_uint_eq(root_of().seq, 1);
	ck_assert_int_eq(restore(&foreign_uuid, WHOLE, NULL), 0);
	root = published;
	root.seq = 3;
	ck_assert_int_eq(engine_restore_root(e, &root, NULL), 0);
	ck_assert_uint_eq(root_of().seq, 1);
	reports = 0;
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(engine_restore_root(e, &published, NULL), 0);
		root = root_of();
		ck_assert_uint_eq(root.seq, 2);
		ck_assert_uint_eq(root.pointer.offset, WHOLE - FRAME);
		ck_assert_uint_eq(root.time_ns, published.time_ns);
		ck_assert_uint_eq(root.payload_size, 2);
		ck_assert_mem_eq(root.payload, "bc", 2);
		ck_assert_uint_eq(reports, 1);
		ck_assert_ptr_nonnull(strstr(reported.text, "root 2"));
	}
	ck_assert_int_eq(engine_tails_restored(e, NULL), 0);
	ck_assert_int_eq(engine_close(e, NULL), 0);
	check_fsck();
	open_engine();
	ck_assert_uint_eq(root_of().seq, 2);
}
END_TEST

START_TEST(a_root_that_cannot_be_written_leaves_the_store_read_only)
{
	struct engine_root root = {.seq = 1, .pointer = {.segment = foreign_uuid}};
	make_foreign(1);
	sim_disk_fail(disk, SIM_FLUSH, 1, -EIO, true);
	ck_assert_int_lt(engine_restore_root(e, &root, NULL), 0);
	ck_assert(stats_of().read_only);
	ck_assert_ptr_nonnull(strstr(stats_of().read_only_reason, "root 1"));
	ck_assert_int_eq(engine_restore_root(e, &root, NULL), -EROFS);
}
END_TEST

/* ---- What does not ---- */

/* What is said, wherever it is said. */
static void check_reason(const struct reterr *err, const char *why)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct engine_stats stats = stats_of();

	ck_assert_str_eq(err->text, stats.read_only_reason);
	ck_assert_str_eq(err->text, reported.text);
	ck_assert_ptr_nonnull(strstr(err->text, uuid_format(&foreign_uuid, text)));
	ck_assert_ptr_nonnull(strstr(err->text, "bytes 32036 to 40045"));
	ck_assert_msg(strstr(err->text, why), "%s", err->text);
}

static void check_refused(int code, bool damaged, const char *why)
{
	struct reterr err = {0};

	open_engine();
	reports = 0;
	ck_assert_int_eq(restore(&foreign_uuid, WHOLE, &err), code);
	ck_assert(stats_of().read_only);
	ck_assert_int_eq(stats_of().damaged, damaged);
	ck_assert_uint_eq(reports, 1);
	check_reason(&err, why);
	ck_assert_int_eq(restore(&foreign_uuid, WHOLE, NULL), -EROFS);
	ck_assert_int_eq(engine_tails_restored(e, NULL), 0);
	check_bytes(&foreign_uuid, WHOLE - FRAME);
	engine_abandon(e);
}

START_TEST(what_cannot_be_had_leaves_the_store_read_only)
{
	make_foreign(FRAMES);
	die_and_tear(&foreign_uuid, WHOLE - 100);

	model.read_error = -ETIMEDOUT;
	check_refused(-ETIMEDOUT, false, "mount it again");
	model.read_error = -ENOENT;
	check_refused(-EBADMSG, true, "fsck --repair");
	model.read_error = 0;
	struct remote_copy *copy = &model.copies[0];
	for (uint64_t length = WHOLE - FRAME; length < WHOLE; length += FRAME - 1) {
		copy->length = length;
		check_refused(-EBADMSG, true, "fsck --repair");
	}
	copy->length = WHOLE;
	/* Another segment that had its name. */
	for (unsigned i = 0; i < 2; i++) {
		model.flip_at = i ? WHOLE - FRAME - 1 : 20;
		check_refused(-EBADMSG, true, "others");
	}
	model.flip_at = UINT64_MAX;
	options.reader = NULL;
	check_refused(-ENOENT, false, "not connected");
	options.reader = &model.reader;

	/* It can be had again. */
	open_engine();
	check_restored(&foreign_uuid, WHOLE);
}
END_TEST

START_TEST(a_full_disk_leaves_the_store_read_only)
{
	struct reterr err = {0};
	make_foreign(FRAMES);
	die_and_tear(&foreign_uuid, WHOLE - 100);
	open_engine();
	sim_disk_set_space(disk, 1);
	ck_assert_int_eq(restore(&foreign_uuid, WHOLE, &err), -ENOSPC);
	ck_assert(stats_of().read_only);
	ck_assert(!stats_of().damaged);
	engine_abandon(e);
	sim_disk_set_space(disk, UINT64_MAX);
	open_engine();
	check_restored(&foreign_uuid, WHOLE);
}
END_TEST

START_TEST(no_segment_is_as_long_as_a_journal_can_say)
{
	make_foreign(FRAMES);
	ck_assert_int_eq(restore(&foreign_uuid, UINT64_MAX, NULL), -EBADMSG);
	ck_assert(stats_of().read_only);
}
END_TEST

/* ---- Crashes ---- */

/* Whatever it interrupts: the next start brings the rest. */
START_TEST(a_power_cut_in_the_middle_is_mended_by_the_next_start)
{
	bool done = false;
	unsigned cuts = 0;

	for (unsigned frames = 1; frames <= FRAMES; frames += FRAMES - 1, done = false) {
		for (uint64_t cut = 0; !done; cut++, cuts++) {
			uint64_t whole = (uint64_t)frames * FRAME;
			teardown();
			setup();
			make_foreign(frames);
			die_and_tear(&foreign_uuid, whole - 100);
			open_engine();
			sim_disk_cut_after(disk, cut);
			done = restore(&foreign_uuid, whole, NULL) == 0 && !sim_disk_is_off(disk);
			engine_abandon(e);
			struct disk *before = disk;
			for (uint64_t crash = 0; crash < 3; crash++) {
				disk = sim_disk_crash(before, cut * 3 + crash);
				open_engine();
				ck_assert_msg(!stats_of().read_only, "%s",
					      stats_of().read_only_reason);
				if (done)
					ck_assert_uint_eq(info_of(&foreign_uuid).durable, whole);
				check_restored(&foreign_uuid, whole);
				check_frames(&foreign_uuid, frames);
				ck_assert_int_eq(engine_close(e, NULL), 0);
				check_fsck();
				disk_free(disk);
			}
			disk = before;
			e = NULL;
		}
	}
	ck_assert_uint_gt(cuts, 20);
}
END_TEST

START_TEST(no_memory_is_an_error_and_mended_by_the_next_start)
{
	bool done = false;
	for (uint64_t nth = 1; !done; nth++) {
		teardown();
		setup();
		make_foreign(FRAMES);
		die_and_tear(&foreign_uuid, WHOLE - 100);
		open_engine();
		fault_alloc_fail(nth);
		int r = restore(&foreign_uuid, WHOLE, NULL);
		done = !fault_alloc_stop();
		ck_assert(r == 0 || (r == -ENOMEM && stats_of().read_only));
		engine_abandon(e);
		open_engine();
		check_restored(&foreign_uuid, WHOLE);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("restore_tail");
	TCase *tcase = tcase_create("restore_tail");

	tcase_set_timeout(tcase, 120);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, a_foreign_tail_comes_back);
	tcase_add_test(tcase, a_tail_within_a_frame_comes_back);
	tcase_add_test(tcase, an_own_tail_comes_back_and_is_final);
	tcase_add_test(tcase, a_tail_of_many_parts_comes_back);
	tcase_add_test(tcase, a_segment_of_which_nothing_was_left_comes_back);
	tcase_add_test(tcase, an_empty_segment_without_a_witness_is_removed);
	tcase_add_test(tcase, what_is_whole_or_gone_is_left_alone);
	tcase_add_test(tcase, disk_max_does_not_keep_it_out);
	tcase_add_test(tcase, a_root_comes_back_when_its_bytes_have);
	tcase_add_test(tcase, a_root_that_cannot_be_written_leaves_the_store_read_only);
	tcase_add_test(tcase, what_cannot_be_had_leaves_the_store_read_only);
	tcase_add_test(tcase, a_full_disk_leaves_the_store_read_only);
	tcase_add_test(tcase, no_segment_is_as_long_as_a_journal_can_say);
	tcase_add_test(tcase, a_power_cut_in_the_middle_is_mended_by_the_next_start);
	tcase_add_test(tcase, no_memory_is_an_error_and_mended_by_the_next_start);
	suite_add_tcase(suite, tcase);

	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
