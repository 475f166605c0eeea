/* What waits for a keeper, in which order, and what never does; listeners; the fence. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/disk.h"
#include "engine/engine.h"
#include "tests/lib/remote_model.h"

enum { BLOCK = 64 << 10 };

static struct disk *disk;
static struct engine *e;
static struct remote_model model;

static void open_engine(void)
{
	struct reterr err = {0};
	struct engine_options options = {.flush_interval_ms = 10};
	int r = engine_open(disk, &options, &err, &e);
	ck_assert_msg(r == 0, "%s", err.text);
}

static void setup(void)
{
	struct engine_format_options options = {.block_size = BLOCK};
	ck_assert_int_eq(disk_memory_new(1u << 30, &disk), 0);
	ck_assert_int_eq(engine_format(disk, &options, NULL), 0);
	remote_model_init(&model);
	open_engine();
	engine_set_keeper(e, &model.keeper);
}

static void teardown(void)
{
	ck_assert_int_eq(engine_close(e, NULL), 0);
	disk_free(disk);
	remote_model_done(&model);
}

static struct engine_pointer append(const char *text)
{
	struct engine_pointer pointer;
	char copy[256];
	size_t size = strlen(text);
	ck_assert_uint_lt(size, sizeof(copy));
	(void)snprintf(copy, sizeof(copy), "%s", text);
	struct iovec iov = {.iov_base = copy, .iov_len = size};
	ck_assert_int_eq(engine_append(e, ENGINE_CLASS_LOG, ENGINE_FORMAT_RAW, &iov, 1, &pointer),
			 0);
	return pointer;
}

static uint64_t newest(void)
{
	struct engine_root root = {0};
	return engine_root_current(e, &root) == 0 ? root.seq : 0;
}

START_TEST(a_commit_waits_for_the_keeper_with_the_lengths_it_was_asked_for)
{
	struct engine_pointer pointer = append("twelve bytes"); /* and 9 of header */
	struct engine_segment *segment = engine_segment_find(e, &pointer.segment);
	struct engine_position all = {.segment = segment, .length = UINT64_MAX};
	struct engine_position some = {.segment = segment, .length = 10};

	ck_assert_int_eq(engine_commit(e, &all, 1, NULL), 0);
	ck_assert_int_eq(engine_commit(e, &some, 1, NULL), 0);
	ck_assert_int_eq(engine_sync(e, NULL), 0);
	ck_assert_str_eq(model.log, "bytes 21;bytes 10;bytes 21;");
}
END_TEST

START_TEST(what_is_durable_here_already_is_waited_for_as_well)
{
	struct engine_pointer pointer = append("x");
	struct engine_segment_info info;
	do {
		(void)usleep(1000); /* the flusher commits it, and waits for nobody */
		engine_segment_info(e, engine_segment_find(e, &pointer.segment), &info);
	} while (info.durable < info.length);
	ck_assert_str_eq(model.log, "");
	ck_assert_int_eq(engine_sync(e, NULL), 0);
	ck_assert_str_eq(model.log, "bytes 10;");
}
END_TEST

START_TEST(a_root_goes_out_between_its_bytes_and_itself)
{
	struct engine_root root = {0};
	struct engine_pointer pointer = append("x");
	ck_assert_int_eq(engine_root_publish(e, 0, &pointer, NULL, 0, &root, NULL), 0);
	ck_assert_uint_eq(root.seq, 1);
	ck_assert_str_eq(model.log, "bytes 10;root 1;");
	/* Refused without a wait. */
	ck_assert_int_eq(engine_root_publish(e, 0, &pointer, NULL, 0, &root, NULL), -ESTALE);
	ck_assert_str_eq(model.log, "bytes 10;root 1;");
}
END_TEST

struct publication {
	struct engine_pointer pointer;
	uint64_t expected;
	struct engine_root root;
	int result;
};

static void *publish_main(void *arg)
{
	struct publication *p = arg;
	p->result = engine_root_publish(e, p->expected, &p->pointer, NULL, 0, &p->root, NULL);
	return NULL;
}

START_TEST(a_stalled_keeper_holds_back_the_root_and_nobody_else)
{
	struct publication first = {.pointer = append("x")}, second = first;
	pthread_t a, b;

	remote_model_stall(&model, true);
	ck_assert_int_eq(pthread_create(&a, NULL, publish_main, &first), 0);
	ck_assert_int_eq(pthread_create(&b, NULL, publish_main, &second), 0);
	remote_model_await(&model, 2); /* both at their bytes: no flag is held */
	ck_assert_uint_eq(newest(), 0);
	(void)append("y");
	ck_assert_int_eq(engine_root_prune(e, 1, false, NULL, NULL), 0);
	remote_model_stall(&model, false);
	ck_assert_int_eq(pthread_join(a, NULL), 0);
	ck_assert_int_eq(pthread_join(b, NULL), 0);
	/* Compare-and-swap still decides: one of them came first. */
	ck_assert_int_eq(first.result + second.result, -ESTALE);
	ck_assert_uint_eq(newest(), 1);
}
END_TEST

START_TEST(stop_ends_the_wait_and_says_that_nothing_was_published)
{
	struct publication p = {.pointer = append("x"), .root = {.seq = 77}};
	pthread_t thread;

	remote_model_stall(&model, true);
	ck_assert_int_eq(pthread_create(&thread, NULL, publish_main, &p), 0);
	remote_model_await(&model, 1);
	model.keeper.ops->stop(&model.keeper);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(p.result, -ECANCELED);
	ck_assert_uint_eq(p.root.seq, 0);
	ck_assert_uint_eq(newest(), 0);
	(void)append("not lost"); /* and closing waits for no keeper: teardown */
}
END_TEST

START_TEST(a_keeper_that_refuses_says_how_far_a_root_came)
{
	struct engine_pointer pointer = append("x");
	struct engine_root root = {.seq = 77};
	struct reterr err = {0};

	model.keep_error = -EROFS; /* of the bytes: the root is nowhere */
	ck_assert_int_eq(engine_root_publish(e, 0, &pointer, NULL, 0, &root, &err), -EROFS);
	ck_assert_str_eq(err.text, "the model says -30");
	ck_assert_uint_eq(root.seq, 0);
	ck_assert_uint_eq(newest(), 0);

	model.keep_error = 0;
	model.keep_root_error = -EROFS; /* of the root: it is here only */
	ck_assert_int_eq(engine_root_publish(e, 0, &pointer, NULL, 0, &root, NULL), -EROFS);
	ck_assert_uint_eq(root.seq, 1);
	ck_assert_uint_eq(newest(), 1);
}
END_TEST

START_TEST(nobody_waits_for_a_dangling_root)
{
	struct engine_segment *segment;
	struct uuid uuid = {{7}};
	uint8_t header[ENGINE_FRAME_HEADER_SIZE] = {4};
	struct iovec iov = {.iov_base = header, .iov_len = sizeof(header)};
	struct engine_pointer pointer = {.segment = uuid};
	struct engine_root root;

	ck_assert_int_eq(engine_segment_create(e, &uuid, &segment), 0);
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
	remote_model_stall(&model, true);
	ck_assert_int_eq(engine_root_publish(e, 0, &pointer, NULL, 0, &root, NULL), 1);
	iov = (struct iovec){.iov_base = header, .iov_len = 4};
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
	while (newest() == 0)
		(void)usleep(1000);
	ck_assert_str_eq(model.log, "");
}
END_TEST

START_TEST(removed_segments_and_empty_ones_are_not_waited_for)
{
	struct engine_segment *segment;
	struct uuid uuid = {{7}};
	uint8_t byte = 1;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};

	ck_assert_int_eq(engine_segment_create(e, &uuid, &segment), 0);
	ck_assert_int_eq(engine_sync(e, NULL), 0);
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
	ck_assert_int_eq(engine_segment_remove(e, segment), 0);
	ck_assert_int_eq(engine_sync(e, NULL), 0);
	struct engine_position all = {.segment = segment, .length = UINT64_MAX};
	ck_assert_int_eq(engine_commit(e, &all, 1, NULL), 0);
	ck_assert_str_eq(model.log, "");
}
END_TEST

/* ---- Listeners and the fence ---- */

static atomic_uint changes;

static void count_change(void *arg)
{
	ck_assert_ptr_eq(arg, &changes);
	atomic_fetch_add(&changes, 1);
}

START_TEST(a_listener_is_told_of_bytes_roots_and_segments_until_it_leaves)
{
	engine_set_keeper(e, NULL);
	engine_listen(e, count_change, &changes);
	struct engine_pointer pointer = append("x");
	ck_assert_int_eq(engine_sync(e, NULL), 0);
	ck_assert_uint_gt(atomic_load(&changes), 0);

	unsigned before = atomic_load(&changes);
	ck_assert_int_eq(engine_root_publish(e, 0, &pointer, NULL, 0, NULL, NULL), 0);
	ck_assert_uint_gt(atomic_load(&changes), before);

	before = atomic_load(&changes);
	ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
	ck_assert_uint_gt(atomic_load(&changes), before);

	before = atomic_load(&changes);
	ck_assert_int_eq(engine_segment_remove(e, engine_segment_find(e, &pointer.segment)), 0);
	ck_assert_uint_gt(atomic_load(&changes), before);

	engine_listen(e, NULL, NULL);
	before = atomic_load(&changes);
	(void)append("y");
	ck_assert_int_eq(engine_sync(e, NULL), 0);
	ck_assert_uint_eq(atomic_load(&changes), before);
}
END_TEST

static atomic_bool listener_gone, appender_done;

static void slow_listener(void *arg)
{
	(void)arg;
	(void)usleep(300);
	ck_assert(!atomic_load(&listener_gone));
}

static void *append_main(void *arg)
{
	(void)arg;
	while (!atomic_load(&appender_done)) {
		(void)append("z");
		(void)!engine_sync(e, NULL);
	}
	return NULL;
}

START_TEST(no_call_runs_after_the_listener_has_left)
{
	pthread_t threads[3];
	engine_set_keeper(e, NULL);
	atomic_store(&appender_done, false);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, append_main, NULL), 0);
	for (unsigned i = 0; i < 50; i++) {
		atomic_store(&listener_gone, false);
		engine_listen(e, slow_listener, NULL);
		(void)usleep(1000);
		engine_listen(e, NULL, NULL);
		atomic_store(&listener_gone, true);
	}
	atomic_store(&appender_done, true);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}
END_TEST

START_TEST(a_fenced_engine_refuses_and_still_keeps_what_it_accepted)
{
	struct reterr reason, err = {0};
	struct engine_stats stats;
	char text[] = "late";
	struct iovec iov = {.iov_base = text, .iov_len = 4};
	struct engine_pointer pointer = append("accepted"), late;

	(void)reterr_set(&reason, -EROFS, "node 7 took over");
	engine_fence(e, &reason);
	ck_assert_int_eq(engine_append(e, ENGINE_CLASS_LOG, 0, &iov, 1, &late), -EROFS);
	ck_assert_int_eq(engine_root_publish(e, 0, &pointer, NULL, 0, NULL, &err), -EROFS);
	ck_assert_ptr_nonnull(strstr(err.text, "node 7 took over"));
	engine_stats(e, &stats);
	ck_assert(stats.read_only);
	ck_assert_str_eq(stats.read_only_reason, "node 7 took over");

	ck_assert_int_eq(engine_close(e, NULL), 0);
	open_engine();
	struct engine_frame frame;
	ck_assert_int_eq(engine_frame_at(e, engine_segment_find(e, &pointer.segment),
					 pointer.offset, &frame),
			 0);
	ck_assert_uint_eq(frame.size, 8);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("keeper");
	TCase *tcase = tcase_create("keeper");

	tcase_set_timeout(tcase, 30);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, a_commit_waits_for_the_keeper_with_the_lengths_it_was_asked_for);
	tcase_add_test(tcase, what_is_durable_here_already_is_waited_for_as_well);
	tcase_add_test(tcase, a_root_goes_out_between_its_bytes_and_itself);
	tcase_add_test(tcase, a_stalled_keeper_holds_back_the_root_and_nobody_else);
	tcase_add_test(tcase, stop_ends_the_wait_and_says_that_nothing_was_published);
	tcase_add_test(tcase, a_keeper_that_refuses_says_how_far_a_root_came);
	tcase_add_test(tcase, nobody_waits_for_a_dangling_root);
	tcase_add_test(tcase, removed_segments_and_empty_ones_are_not_waited_for);
	tcase_add_test(tcase, a_listener_is_told_of_bytes_roots_and_segments_until_it_leaves);
	tcase_add_test(tcase, no_call_runs_after_the_listener_has_left);
	tcase_add_test(tcase, a_fenced_engine_refuses_and_still_keeps_what_it_accepted);
	suite_add_tcase(suite, tcase);

	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
