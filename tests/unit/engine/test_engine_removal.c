/* Removed segments leave nothing behind, in particular not for the next segment of the same UUID. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/disk.h"
#include "engine/engine.h"

enum { BLOCK = 64 << 10, OLD_SIZE = 10000, NEW_SIZE = 20000 };

static struct disk *disk;
static const struct disk_ops *memory_ops;
static struct disk_ops hooked_ops;
static struct engine *e;
static struct uuid uuid;

/* Faults: no file goes away. */
static atomic_bool no_unlinks;
/* Gates: the first call that reaches one waits there. */
static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_changed = PTHREAD_COND_INITIALIZER;
static enum gate { GATE_NONE, GATE_UNLINK, GATE_MKDIR } gate;
static bool gate_reached, gate_open;

static void pass(enum gate here)
{
	(void)pthread_mutex_lock(&gate_lock);
	if (gate == here) {
		gate = GATE_NONE;
		gate_reached = true;
		(void)pthread_cond_broadcast(&gate_changed);
		while (!gate_open)
			(void)pthread_cond_wait(&gate_changed, &gate_lock);
	}
	(void)pthread_mutex_unlock(&gate_lock);
}

static void close_gate(enum gate which)
{
	(void)pthread_mutex_lock(&gate_lock);
	gate = which;
	gate_reached = gate_open = false;
	(void)pthread_mutex_unlock(&gate_lock);
}

static void await_gate_reached(void)
{
	(void)pthread_mutex_lock(&gate_lock);
	while (!gate_reached)
		(void)pthread_cond_wait(&gate_changed, &gate_lock);
	(void)pthread_mutex_unlock(&gate_lock);
}

static void open_gate(void)
{
	(void)pthread_mutex_lock(&gate_lock);
	gate_open = true;
	(void)pthread_cond_broadcast(&gate_changed);
	(void)pthread_mutex_unlock(&gate_lock);
}

static int hooked_unlink(struct disk *d, const char *path)
{
	if (strncmp(path, "staging/", 8) != 0)
		pass(GATE_UNLINK);
	return atomic_load(&no_unlinks) ? -EIO : memory_ops->unlink(d, path);
}

static int hooked_mkdir(struct disk *d, const char *path)
{
	if (strncmp(path, "sealed/", 7) == 0)
		pass(GATE_MKDIR);
	return memory_ops->mkdir(d, path);
}

static void open_engine(void)
{
	struct engine_options options = {.flush_interval_ms = 60 * 1000};
	struct engine_stats stats;
	struct reterr err = {0};
	int r = engine_open(disk, &options, &err, &e);
	ck_assert_msg(r == 0, "open: %d %s", r, err.text);
	engine_stats(e, &stats);
	ck_assert_msg(!stats.damaged && !stats.read_only, "%s", stats.read_only_reason);
}

static void setup(void)
{
	struct engine_format_options format = {.block_size = BLOCK};

	atomic_store(&no_unlinks, false);
	close_gate(GATE_NONE);
	ck_assert_int_eq(disk_memory_new(1u << 30, &disk), 0);
	memory_ops = disk->ops;
	hooked_ops = *memory_ops;
	hooked_ops.unlink = hooked_unlink;
	hooked_ops.mkdir = hooked_mkdir;
	disk->ops = &hooked_ops;
	ck_assert_int_eq(engine_format(disk, &format, NULL), 0);
	open_engine();
	ck_assert_int_eq(uuid_random(&uuid), 0);
}

static void teardown(void)
{
	if (e)
		ck_assert_int_eq(engine_close(e, NULL), 0);
	e = NULL;
	disk_free(disk);
}

static int append_bytes(struct engine_segment *segment, uint8_t byte, size_t size)
{
	uint8_t bytes[NEW_SIZE];
	struct iovec iov = {.iov_base = bytes, .iov_len = size};

	memset(bytes, byte, size);
	return engine_segment_append(e, segment, &iov, 1, NULL);
}

static struct engine_segment *create(uint8_t byte, size_t size)
{
	struct engine_segment *segment;

	ck_assert_int_eq(engine_segment_create(e, &uuid, &segment), 0);
	ck_assert_int_eq(append_bytes(segment, byte, size), 0);
	struct engine_position all = {.segment = segment, .length = UINT64_MAX};
	ck_assert_int_eq(engine_commit(e, &all, 1, NULL), 0);
	return segment;
}

static void check_bytes(uint8_t byte, size_t size)
{
	struct engine_segment *segment = engine_segment_find(e, &uuid);
	uint8_t bytes[NEW_SIZE + 1];
	struct reterr err = {0};
	size_t got;

	ck_assert_ptr_nonnull(segment);
	int r = engine_read(e, segment, bytes, sizeof(bytes), 0, ENGINE_READ_DISK, &got, &err);
	ck_assert_msg(r == 0, "%d %s", r, err.text);
	ck_assert_uint_eq(got, size);
	for (size_t i = 0; i < got; i++)
		ck_assert_uint_eq(bytes[i], byte);
}

/* The old segment's files could not be removed at once. */
static void make_leftovers(void)
{
	struct engine_segment *old = create('o', OLD_SIZE);

	ck_assert_int_eq(engine_seal(e, old, NULL), 0);
	atomic_store(&no_unlinks, true);
	ck_assert_int_eq(engine_segment_remove(e, old), 0);
}

START_TEST(an_old_table_never_cuts_the_new_segment)
{
	make_leftovers();
	atomic_store(&no_unlinks, false);
	struct engine_segment *segment = create('n', NEW_SIZE);
	ck_assert_int_eq(engine_seal(e, segment, NULL), 0);
	check_bytes('n', NEW_SIZE);
}
END_TEST

START_TEST(the_next_open_does_not_remove_the_new_segment)
{
	make_leftovers();
	atomic_store(&no_unlinks, false);
	(void)create('n', NEW_SIZE);
	engine_abandon(e);
	open_engine();
	check_bytes('n', NEW_SIZE);
}
END_TEST

START_TEST(nothing_is_appended_while_old_files_stay)
{
	struct engine_segment *segment;

	make_leftovers();
	ck_assert_int_eq(engine_segment_create(e, &uuid, &segment), 0);
	ck_assert_int_eq(append_bytes(segment, 'n', NEW_SIZE), -EIO);
	atomic_store(&no_unlinks, false);
	ck_assert_int_eq(append_bytes(segment, 'n', NEW_SIZE), 0);
	ck_assert_int_eq(engine_seal(e, segment, NULL), 0);
	check_bytes('n', NEW_SIZE);
}
END_TEST

static void *remove_it(void *arg)
{
	ck_assert_int_eq(engine_segment_remove(e, arg), 0);
	return NULL;
}

static atomic_bool made;

static void *make_it(void *arg)
{
	(void)create('n', NEW_SIZE);
	atomic_store(&made, true);
	return arg;
}

static void wait_for(atomic_bool *flag)
{
	struct timespec tick = {.tv_nsec = 10 * 1000000};
	for (int i = 0; i < 30 && !atomic_load(flag); i++)
		(void)nanosleep(&tick, NULL);
}

START_TEST(a_slow_removal_does_not_hit_the_new_segment)
{
	pthread_t remover, maker;
	struct engine_segment *old = create('o', OLD_SIZE);

	atomic_store(&made, false);
	close_gate(GATE_UNLINK);
	ck_assert_int_eq(pthread_create(&remover, NULL, remove_it, old), 0);
	await_gate_reached();
	ck_assert_int_eq(pthread_create(&maker, NULL, make_it, NULL), 0);
	wait_for(&made);
	open_gate();
	ck_assert_int_eq(pthread_join(remover, NULL), 0);
	ck_assert_int_eq(pthread_join(maker, NULL), 0);
	engine_abandon(e);
	open_engine();
	check_bytes('n', NEW_SIZE);
}
END_TEST

static void *seal_it(void *arg)
{
	(void)!engine_seal(e, arg, NULL);
	return NULL;
}

static atomic_bool removed;

static void *remove_and_tell(void *arg)
{
	remove_it(arg);
	atomic_store(&removed, true);
	return NULL;
}

START_TEST(a_seal_under_way_leaves_no_table_of_a_removed_segment)
{
	pthread_t sealer, remover;
	struct engine_segment *old = create('o', OLD_SIZE);

	atomic_store(&removed, false);
	close_gate(GATE_MKDIR);
	ck_assert_int_eq(pthread_create(&sealer, NULL, seal_it, old), 0);
	await_gate_reached();
	ck_assert_int_eq(pthread_create(&remover, NULL, remove_and_tell, old), 0);
	wait_for(&removed);
	open_gate();
	ck_assert_int_eq(pthread_join(sealer, NULL), 0);
	ck_assert_int_eq(pthread_join(remover, NULL), 0);
	struct engine_segment *segment = create('n', NEW_SIZE);
	ck_assert_int_eq(engine_seal(e, segment, NULL), 0);
	check_bytes('n', NEW_SIZE);
}
END_TEST

/* A deleted file takes its space until the last descriptor is closed. */
START_TEST(removal_gives_the_space_of_files_that_were_read_back)
{
	struct engine_stats before, after;
	struct engine_segment *segment = create('o', NEW_SIZE);

	ck_assert_int_eq(engine_seal(e, segment, NULL), 0);
	check_bytes('o', NEW_SIZE);
	engine_stats(e, &before);
	ck_assert_int_eq(engine_segment_remove(e, segment), 0);
	engine_stats(e, &after);
	ck_assert_uint_ge(after.disk_available, before.disk_available + NEW_SIZE);
}
END_TEST

START_TEST(a_root_outlives_a_segment_that_was_removed_and_made_again)
{
	struct engine_root root, current;
	struct engine_pointer pointer;
	char text[] = "atom";
	struct iovec iov = {.iov_base = text, .iov_len = 4};
	struct engine_segment *old;

	/* In the barrier of the root: not durable before it. */
	ck_assert_int_eq(engine_segment_create(e, &uuid, &old), 0);
	ck_assert_int_eq(append_bytes(old, 'o', NEW_SIZE), 0);
	ck_assert_int_eq(engine_append(e, ENGINE_CLASS_LOG, ENGINE_FORMAT_RAW, &iov, 1, &pointer),
			 0);
	ck_assert_int_eq(engine_root_publish(e, 0, &pointer, NULL, 0, &root, NULL), 0);
	ck_assert_int_eq(engine_segment_remove(e, old), 0);
	(void)create('n', OLD_SIZE);
	engine_abandon(e);
	open_engine();
	ck_assert_int_eq(engine_root_current(e, &current), 0);
	ck_assert_uint_eq(current.seq, root.seq);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine: removed segments");
	TCase *tcase = tcase_create("removal");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, an_old_table_never_cuts_the_new_segment);
	tcase_add_test(tcase, the_next_open_does_not_remove_the_new_segment);
	tcase_add_test(tcase, nothing_is_appended_while_old_files_stay);
	tcase_add_test(tcase, a_slow_removal_does_not_hit_the_new_segment);
	tcase_add_test(tcase, a_seal_under_way_leaves_no_table_of_a_removed_segment);
	tcase_add_test(tcase, removal_gives_the_space_of_files_that_were_read_back);
	tcase_add_test(tcase, a_root_outlives_a_segment_that_was_removed_and_made_again);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
