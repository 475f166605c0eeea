/* More of everything than the engine keeps at hand. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/disk.h"
#include "engine/engine.h"

enum { BLOCK = 64 << 10, READERS = 140, PIECE = 10 };

static struct disk *disk;
static const struct disk_ops *memory_ops;
static struct disk_ops hooked_ops;
static struct engine *e;

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

static void setup(void)
{
	struct engine_format_options format = {.block_size = BLOCK};
	struct reterr err = {0};

	part_file_count = gathered = 0;
	gather = false;
	ck_assert_int_eq(disk_memory_new(1u << 30, &disk), 0);
	memory_ops = disk->ops;
	hooked_ops = *memory_ops;
	hooked_ops.open = hooked_open;
	hooked_ops.read = hooked_read;
	disk->ops = &hooked_ops;
	ck_assert_int_eq(engine_format(disk, &format, NULL), 0);
	int r = engine_open(disk, NULL, &err, &e);
	ck_assert_msg(r == 0, "%s", err.text);
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
	ck_assert_int_eq(engine_open(disk, NULL, NULL, &e), 0);
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

int main(void)
{
	Suite *suite = suite_create("engine: limits");
	TCase *tcase = tcase_create("limits");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 30);
	tcase_add_test(tcase, more_readers_of_parts_than_open_files);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
