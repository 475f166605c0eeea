/* More of everything than the engine keeps at hand. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/core.h"
#include "engine/disk.h"
#include "engine/engine.h"
#include "tests/lib/fake_clock.h"

enum { BLOCK = 64 << 10, READERS = 140, PIECE = 10, SEGMENTS = 300, CREATORS = 8, OPEN_MAX = 220 };

static struct disk *disk;
static const struct disk_ops *memory_ops;
static struct disk_ops hooked_ops;
static struct engine *e;
static struct fake_clock fake;

/* Files of parts; reads of them wait until all READERS are there. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct disk_file *part_files[2 * READERS];
static size_t part_file_count;
static bool gather;
static unsigned gathered;

static int hooked_open(struct disk *d, const char *path, unsigned flags, struct disk_file **ret)
{
	int r = memory_ops->open(d, path, flags, ret);
	(void)pthread_mutex_lock(&lock);
	if (r == 0 && gather && strncmp(path, "segments/", 9) == 0)
		part_files[part_file_count++] = *ret;
	(void)pthread_mutex_unlock(&lock);
	return r;
}

static int hooked_read(struct disk_file *file, void *data, size_t size, uint64_t offset,
		       size_t *ret)
{
	(void)pthread_mutex_lock(&lock);
	bool of_part = false;
	for (size_t i = 0; i < part_file_count; i++)
		of_part |= part_files[i] == file;
	if (of_part) {
		gathered++;
		(void)pthread_cond_broadcast(&changed);
		while (gathered < READERS)
			(void)pthread_cond_wait(&changed, &lock);
	}
	(void)pthread_mutex_unlock(&lock);
	return memory_ops->read(file, data, size, offset, ret);
}

/* Sealing: slow, or possible only for the segment whose UUID is this. */
static char only[UUID_TEXT_LENGTH + 1]; /* under lock */
static atomic_long slow_ms;

static void allow_only(const char *text)
{
	(void)pthread_mutex_lock(&lock);
	(void)snprintf(only, sizeof(only), "%s", text);
	(void)pthread_mutex_unlock(&lock);
}

static bool is_allowed(const char *path)
{
	(void)pthread_mutex_lock(&lock);
	bool allowed = strstr(path, only) != NULL;
	(void)pthread_mutex_unlock(&lock);
	return allowed;
}

static void sleep_ms(long ms)
{
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	(void)nanosleep(&time, NULL);
}

static int hooked_rename(struct disk *d, const char *from, const char *to)
{
	if (strncmp(to, "sealed/", 7) == 0) {
		if (slow_ms)
			sleep_ms(slow_ms);
		if (!is_allowed(to))
			return -EIO;
	}
	return memory_ops->rename(d, from, to);
}

static void open_engine(void)
{
	struct engine_options options = {.clock = &fake.clock, .flush_interval_ms = 60 * 1000};
	struct reterr err = {0};
	int r = engine_open(disk, &options, &err, &e);
	ck_assert_msg(r == 0, "%s", err.text);
}

static void setup(void)
{
	struct engine_format_options format = {.block_size = BLOCK};

	fake_clock_init(&fake);
	part_file_count = gathered = 0;
	allow_only("");
	slow_ms = 0;
	gather = false;
	ck_assert_int_eq(disk_memory_new((uint64_t)1 << 40, &disk), 0);
	memory_ops = disk->ops;
	hooked_ops = *memory_ops;
	hooked_ops.open = hooked_open;
	hooked_ops.read = hooked_read;
	hooked_ops.rename = hooked_rename;
	disk->ops = &hooked_ops;
	ck_assert_int_eq(engine_format(disk, &format, NULL), 0);
	open_engine();
}

static void teardown(void)
{
	ck_assert_int_eq(engine_close(e, NULL), 0);
	disk_free(disk);
}

static struct engine_segment *segment;

static void *read_piece(void *arg)
{
	uint64_t at = *(const uint64_t *)arg;
	char data[PIECE];
	size_t got;
	struct reterr err = {0};
	int r = engine_read(e, segment, data, PIECE, at * PIECE, ENGINE_READ_DISK, &got, &err);
	ck_assert_msg(r == 0, "%d %s", r, err.text);
	ck_assert_uint_eq(got, PIECE);
	return NULL;
}

START_TEST(more_readers_of_parts_than_open_files)
{
	char bytes[PIECE] = "0123456789";
	struct iovec iov = {.iov_base = bytes, .iov_len = PIECE};
	pthread_t threads[READERS];
	uint64_t numbers[READERS];
	struct uuid uuid;

	ck_assert_int_eq(uuid_random(&uuid), 0);
	ck_assert_int_eq(engine_segment_create(e, &uuid, &segment), 0);
	for (unsigned i = 0; i < READERS; i++) {
		ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
		ck_assert_int_eq(engine_seal(e, segment, NULL), 0);
	}
	(void)pthread_mutex_lock(&lock);
	gather = true;
	(void)pthread_mutex_unlock(&lock);
	ck_assert_int_eq(engine_close(e, NULL), 0);
	open_engine();
	segment = engine_segment_find(e, &uuid);
	for (unsigned i = 0; i < READERS; i++) {
		numbers[i] = i;
		ck_assert_int_eq(pthread_create(&threads[i], NULL, read_piece, &numbers[i]), 0);
	}
	for (unsigned i = 0; i < READERS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	ck_assert_uint_ge(gathered, READERS);
}
END_TEST

static struct engine_segment *append_to_new(void)
{
	char bytes[PIECE] = "0123456789";
	struct iovec iov = {.iov_base = bytes, .iov_len = PIECE};
	struct engine_segment *made;
	struct uuid uuid;

	ck_assert_int_eq(uuid_random(&uuid), 0);
	ck_assert_int_eq(engine_segment_create(e, &uuid, &made), 0);
	ck_assert_int_eq(engine_segment_append(e, made, &iov, 1, NULL), 0);
	return made;
}

static struct engine_segment *new_segment(void)
{
	struct engine_segment *made = append_to_new();
	struct engine_position all = {.segment = made, .length = UINT64_MAX};
	ck_assert_int_eq(engine_commit(e, &all, 1, NULL), 0);
	return made;
}

/* Of the parts that could not be sealed the oldest can again, its 300 younger ones cannot. */
START_TEST(a_part_is_sealed_behind_many_that_cannot_be)
{
	struct engine_segment_info info = {.state = ENGINE_SEGMENT_OPEN};
	char text[UUID_TEXT_LENGTH + 1];

	allow_only("none");
	struct engine_segment *oldest = new_segment();
	for (unsigned i = 0; i < SEGMENTS; i++)
		(void)new_segment();
	allow_only(uuid_format(engine_segment_uuid(oldest), text));
	for (unsigned i = 0; i < 200 && info.state == ENGINE_SEGMENT_OPEN; i++) {
		fake_clock_advance_ms(&fake, 61 * 1000);
		sleep_ms(50);
		engine_segment_info(e, oldest, &info);
	}
	ck_assert_int_eq(info.state, ENGINE_SEGMENT_SEALED);
	allow_only("");
}
END_TEST

static void *create_many(void *arg)
{
	unsigned *most_open = arg;

	for (unsigned i = 0; i < SEGMENTS / CREATORS * 2; i++) {
		struct engine_stats stats;
		(void)new_segment();
		engine_stats(e, &stats);
		if (stats.open_parts > *most_open)
			*most_open = (unsigned)stats.open_parts;
	}
	return NULL;
}

/* Each costs a descriptor and memory, and the next start would have to scan them all. */
START_TEST(open_parts_stay_few_when_sealing_is_slow)
{
	pthread_t threads[CREATORS];
	unsigned most_open[CREATORS] = {0};

	slow_ms = 5;
	for (unsigned i = 0; i < CREATORS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, create_many, &most_open[i]), 0);
	for (unsigned i = 0; i < CREATORS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	for (unsigned i = 0; i < CREATORS; i++)
		ck_assert_uint_le(most_open[i], OPEN_MAX);
	slow_ms = 0;
}
END_TEST

/* As if a segment had grown that long: how it would, takes 64 GiB. */
START_TEST(a_foreign_segment_ends_at_its_limit)
{
	const struct uuid uuid = {.bytes = {1, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10}};
	char bytes[] = "123456";
	struct iovec iov = {.iov_base = bytes, .iov_len = 6};
	struct engine_segment_info info;
	uint64_t offset = 0;

	ck_assert_int_eq(engine_segment_create(e, &uuid, &segment), 0);
	segment->length = ENGINE_FOREIGN_LENGTH_MAX - 5;
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, &offset), -EFBIG);
	engine_segment_info(e, segment, &info);
	ck_assert_uint_eq(info.length, ENGINE_FOREIGN_LENGTH_MAX - 5);

	/* It is the length that refuses, and the segment is as usable as before. */
	segment->length = 0;
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, &offset), 0);
	ck_assert_uint_eq(offset, 0);
	ck_assert_int_eq(engine_sync(e, NULL), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine: limits");
	TCase *tcase = tcase_create("limits");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 30);
	tcase_add_test(tcase, more_readers_of_parts_than_open_files);
	tcase_add_test(tcase, a_part_is_sealed_behind_many_that_cannot_be);
	tcase_add_test(tcase, open_parts_stay_few_when_sealing_is_slow);
	tcase_add_test(tcase, a_foreign_segment_ends_at_its_limit);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
