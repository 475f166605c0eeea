/* A part that the disk failed to write: what was pending moves to a new part, with its frames and without its memory. */
#include <check.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/disk.h"
#include "engine/engine.h"

enum { BLOCK = 64 << 10, PAGE = 64 << 10, HEADER = ENGINE_FRAME_HEADER_SIZE };

static struct disk *disk;
static const struct disk_ops *memory_ops;
static struct disk_ops faulty_ops;
static atomic_int failing_commits;
static atomic_bool no_renames;
static struct engine *e;
static struct engine_segment *segment;

/* The stream that a test appends, whose frames are known. */
static uint8_t stream[4 << 20];
static uint64_t frames[16];
static size_t frame_count;
static size_t stream_size, appended;

static int faulty_commit(struct disk *d, struct disk_job *jobs, size_t count)
{
	/* A commit of a part writes data and two tables. */
	if (jobs[0].write_count >= 3 && atomic_load(&failing_commits) > 0) {
		(void)atomic_fetch_sub(&failing_commits, 1);
		for (size_t i = 0; i < count; i++)
			jobs[i].result = -EIO;
		return -EIO;
	}
	return memory_ops->commit(d, jobs, count);
}

static int faulty_rename(struct disk *d, const char *from, const char *to)
{
	return atomic_load(&no_renames) ? -EIO : memory_ops->rename(d, from, to);
}

static void setup(void)
{
	struct engine_format_options format = {.block_size = BLOCK};
	struct engine_options options = {.flush_interval_ms = 60 * 1000};
	struct reterr err = {0};
	struct uuid uuid;

	atomic_store(&failing_commits, 0);
	atomic_store(&no_renames, false);
	frame_count = stream_size = appended = 0;
	ck_assert_int_eq(disk_memory_new(1u << 30, &disk), 0);
	memory_ops = disk->ops;
	faulty_ops = *memory_ops;
	faulty_ops.commit = faulty_commit;
	faulty_ops.rename = faulty_rename;
	disk->ops = &faulty_ops;
	ck_assert_int_eq(engine_format(disk, &format, NULL), 0);
	int r = engine_open(disk, &options, &err, &e);
	ck_assert_msg(r == 0, "%s", err.text);
	ck_assert_int_eq(uuid_random(&uuid), 0);
	ck_assert_int_eq(engine_segment_create(e, &uuid, &segment), 0);
}

static void teardown(void)
{
	atomic_store(&no_renames, false);
	ck_assert_int_eq(engine_close(e, NULL), 0);
	disk_free(disk);
}

static void add_frame(size_t payload)
{
	uint8_t *at = stream + stream_size;

	frames[frame_count++] = stream_size;
	memset(at, 0, HEADER);
	for (unsigned i = 0; i < 8; i++)
		at[i] = (uint8_t)(payload >> (8 * i));
	memset(at + HEADER, (int)frame_count, payload);
	stream_size += HEADER + payload;
}

static void append_up_to(size_t end)
{
	while (appended < end) {
		size_t piece = end - appended < (1 << 20) ? end - appended : 1 << 20;
		struct iovec iov = {.iov_base = stream + appended, .iov_len = piece};
		ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
		appended += piece;
	}
}

static void commit(void)
{
	struct engine_position all = {.segment = segment, .length = UINT64_MAX};
	struct reterr err = {0};
	int r = engine_commit(e, &all, 1, &err);
	ck_assert_msg(r == 0, "%d %s", r, err.text);
}

static void check_frames(void)
{
	struct engine_frame got[16], one;
	size_t n;

	ck_assert_int_eq(engine_frames(e, segment, 0, got, 16, &n), 0);
	ck_assert_uint_eq(n, frame_count);
	for (size_t i = 0; i < n; i++) {
		ck_assert_uint_eq(got[i].offset, frames[i]);
		ck_assert_int_eq(engine_frame_at(e, segment, frames[i], &one), 0);
	}
}

/* A header that begins in one part and ends in the next, which is then poisoned before its first commit. */
START_TEST(frames_behind_a_header_across_parts_stay_listed)
{
	add_frame(100);
	add_frame(200);
	add_frame(300);
	append_up_to(frames[1] + 4);
	ck_assert_int_eq(engine_seal(e, segment, NULL), 0);
	append_up_to(stream_size);
	atomic_store(&failing_commits, 1);
	commit();
	check_frames();
}
END_TEST

/* A poisoned part ends within a header that begins in an earlier page. */
START_TEST(a_header_across_a_page_and_a_poisoned_end_stays_listed)
{
	add_frame(PAGE - 2 - HEADER);
	add_frame(200);
	add_frame(300);
	append_up_to(PAGE + 3);
	commit();
	append_up_to(stream_size);
	atomic_store(&failing_commits, 1);
	commit();
	check_frames();
}
END_TEST

/* Two of them would otherwise use up the pool, and every appender would wait for ever. */
START_TEST(a_poisoned_part_gives_its_memory_back_before_it_is_sealed)
{
	struct engine_stats stats;

	atomic_store(&no_renames, true);
	add_frame(1000);
	append_up_to(stream_size);
	commit();
	add_frame(3 << 20);
	append_up_to(stream_size);
	atomic_store(&failing_commits, 1);
	commit();
	engine_stats(e, &stats);
	ck_assert_uint_eq(stats.parts_poisoned, 1);
	ck_assert_uint_le(stats.buffer_bytes, 512 << 10);
	check_frames();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine: poisoned parts");
	TCase *tcase = tcase_create("poison");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, frames_behind_a_header_across_parts_stay_listed);
	tcase_add_test(tcase, a_header_across_a_page_and_a_poisoned_end_stays_listed);
	tcase_add_test(tcase, a_poisoned_part_gives_its_memory_back_before_it_is_sealed);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
