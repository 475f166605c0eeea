/* What is written ahead of commits must never meet a commit, nor the end of its part. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/disk.h"
#include "engine/engine.h"

/* Table copies of 1 MiB: they are zero-written in four windows. */
enum { BLOCK = 1 << 20, DATA_SIZE = 64 * BLOCK, TABLE_WINDOW = 256 << 10, ENTRY = 64 };

static struct disk *disk;
static const struct disk_ops *memory_ops;
static struct disk_ops gated_ops;
static struct engine *e;
static struct engine_segment *segment;

/* The gate: the second window of the table waits in front of it. */
static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_changed = PTHREAD_COND_INITIALIZER;
static bool gate_open, gate_reached;

static void sleep_ms(long ms)
{
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	(void)nanosleep(&time, NULL);
}

static int gated_commit(struct disk *d, struct disk_job *jobs, size_t count)
{
	if (jobs[0].writes[0].offset == DATA_SIZE + TABLE_WINDOW && jobs[0].write_count == 2) {
		(void)pthread_mutex_lock(&gate_lock);
		gate_reached = true;
		(void)pthread_cond_broadcast(&gate_changed);
		while (!gate_open)
			(void)pthread_cond_wait(&gate_changed, &gate_lock);
		(void)pthread_mutex_unlock(&gate_lock);
	}
	return memory_ops->commit(d, jobs, count);
}

static void open_gate(void)
{
	(void)pthread_mutex_lock(&gate_lock);
	gate_open = true;
	(void)pthread_cond_broadcast(&gate_changed);
	(void)pthread_mutex_unlock(&gate_lock);
}

static void await_gate_reached(void)
{
	(void)pthread_mutex_lock(&gate_lock);
	while (!gate_reached)
		(void)pthread_cond_wait(&gate_changed, &gate_lock);
	(void)pthread_mutex_unlock(&gate_lock);
}

static void open_engine(void)
{
	struct engine_options options = {.flush_interval_ms = 60 * 1000};
	struct reterr err = {0};
	int r = engine_open(disk, &options, &err, &e);
	ck_assert_msg(r == 0, "open: %d %s", r, err.text);
}

static void setup(void)
{
	struct engine_format_options options = {.block_size = BLOCK};
	struct uuid uuid;

	gate_open = gate_reached = false;
	ck_assert_int_eq(disk_memory_new(1u << 30, &disk), 0);
	memory_ops = disk->ops;
	gated_ops = *memory_ops;
	gated_ops.commit = gated_commit;
	disk->ops = &gated_ops;
	ck_assert_int_eq(engine_format(disk, &options, NULL), 0);
	open_engine();
	ck_assert_int_eq(uuid_random(&uuid), 0);
	ck_assert_int_eq(engine_segment_create(e, &uuid, &segment), 0);
}

static void teardown(void)
{
	disk_free(disk);
}

static void commit_bytes(unsigned commits)
{
	uint8_t byte = 'x';
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};

	for (unsigned i = 0; i < commits; i++) {
		struct engine_position all = {.segment = segment, .length = UINT64_MAX};
		ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
		ck_assert_int_eq(engine_commit(e, &all, 1, NULL), 0);
	}
}

static uint64_t length_of(void)
{
	struct engine_segment_info info;
	engine_segment_info(e, segment, &info);
	return info.length;
}

static void *seal_it(void *arg)
{
	atomic_bool *done = arg;
	ck_assert_int_eq(engine_seal(e, segment, NULL), 0);
	atomic_store(done, true);
	return NULL;
}

/* Sealed, the part has exactly its length: `cat` of a stopped store shows nothing else. */
START_TEST(zeros_ahead_of_the_table_never_land_behind_a_sealed_part)
{
	struct uuid uuid = *engine_segment_uuid(segment);
	char text[UUID_TEXT_LENGTH + 1], path[DISK_PATH_MAX];
	atomic_bool done = false;
	struct disk_file *file;
	pthread_t sealer;
	uint64_t size;

	commit_bytes(TABLE_WINDOW / 2 / ENTRY + 16);
	await_gate_reached();
	ck_assert_int_eq(pthread_create(&sealer, NULL, seal_it, &done), 0);
	for (int i = 0; i < 30 && !atomic_load(&done); i++)
		sleep_ms(10);
	open_gate();
	ck_assert_int_eq(pthread_join(sealer, NULL), 0);
	uint64_t length = length_of();
	ck_assert_int_eq(engine_close(e, NULL), 0);

	(void)snprintf(path, sizeof(path), "segments/%s/%020d", uuid_format(&uuid, text), 0);
	ck_assert_int_eq(disk_open(disk, path, DISK_READ, &file), 0);
	ck_assert_int_eq(disk_size(file, &size), 0);
	disk_close(file);
	ck_assert_uint_eq(size, length);
}
END_TEST

static atomic_bool committer_done;

static void *commit_beyond_the_window(void *arg)
{
	(void)arg;
	commit_bytes(TABLE_WINDOW / ENTRY);
	atomic_store(&committer_done, true);
	return NULL;
}

START_TEST(zeros_ahead_of_the_table_never_hide_a_commit)
{
	pthread_t committer;
	struct uuid uuid = *engine_segment_uuid(segment);

	atomic_store(&committer_done, false);
	commit_bytes(TABLE_WINDOW / 2 / ENTRY + 16);
	await_gate_reached();
	ck_assert_int_eq(pthread_create(&committer, NULL, commit_beyond_the_window, NULL), 0);
	/* Either all is committed while the zeros are on their way, or the commits wait for them. */
	for (uint64_t seen = 0; !atomic_load(&committer_done);) {
		struct engine_segment_info info;
		sleep_ms(200);
		engine_segment_info(e, segment, &info);
		if (info.durable == seen)
			break;
		seen = info.durable;
	}
	open_gate();
	ck_assert_int_eq(pthread_join(committer, NULL), 0);
	uint64_t length = length_of();
	engine_abandon(e);

	open_engine();
	segment = engine_segment_find(e, &uuid);
	ck_assert_ptr_nonnull(segment);
	ck_assert_uint_eq(length_of(), length);
	ck_assert_int_eq(engine_close(e, NULL), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine: written ahead");
	TCase *tcase = tcase_create("zeros");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 30);
	tcase_add_test(tcase, zeros_ahead_of_the_table_never_land_behind_a_sealed_part);
	tcase_add_test(tcase, zeros_ahead_of_the_table_never_hide_a_commit);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
