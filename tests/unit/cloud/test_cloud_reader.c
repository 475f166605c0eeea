/* Segments from blocks and deltas: what is read is the segment, or an error that names what is missing. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cloud/block_key.h"
#include "cloud/cloud.h"
#include "tests/lib/fault_alloc.h"
#include "tests/lib/faulty_store.h"
#include "tests/lib/temp_dir.h"

enum { BLOCK = 64 << 10, SEGMENT_MAX = 40 * BLOCK };

static char dir[TEMP_DIR_SIZE];
static struct block_store *memory, *faulty, *store;
static struct block_cache *cache;
static struct remote_reader *reader;
static uint8_t bytes[SEGMENT_MAX]; /* of the segment */
static struct uuid uuid;

static char *block_key(uint64_t number, char key[static BLOCK_KEY_MAX + 1])
{
	const struct block_key parsed = {
		.kind = BLOCK_KEY_BLOCK, .segment = uuid, .position = number * BLOCK};
	return block_key_format(&parsed, key);
}

static char *delta_key(uint64_t number, uint64_t from, uint64_t to,
		       char key[static BLOCK_KEY_MAX + 1])
{
	const struct block_key parsed = {.kind = BLOCK_KEY_DELTA,
					 .segment = uuid,
					 .position = number * BLOCK,
					 .from = from,
					 .to = to};
	return block_key_format(&parsed, key);
}

static void put_block(uint64_t number, size_t size, uint64_t first_frame)
{
	char key[BLOCK_KEY_MAX + 1];
	ck_assert_int_eq(block_store_put(memory, block_key(number, key), bytes + number * BLOCK,
					 size, first_frame, NULL),
			 0);
}

static void put_delta(uint64_t number, uint64_t from, uint64_t to, uint64_t first_frame)
{
	char key[BLOCK_KEY_MAX + 1];
	ck_assert_int_eq(block_store_put(memory, delta_key(number, from, to, key),
					 bytes + number * BLOCK + from, (size_t)(to - from),
					 first_frame, NULL),
			 0);
}

static void delete_key(const char *key)
{
	ck_assert_int_eq(block_store_delete(memory, key, NULL), 0);
}

static void open_reader(uint64_t cache_blocks)
{
	struct reterr err = {0};
	const struct block_cache_options options = {
		.dir = dir,
		.server = 1,
		.size_max = cache_blocks * (BLOCK + 4096),
		.block_size = BLOCK,
	};
	const struct cloud_reader_options reader_options = {.block_size = BLOCK};
	int r = block_cache_open(&options, store, &err, &cache);
	ck_assert_msg(r == 0, "%s", err.text);
	ck_assert_int_eq(cloud_reader_new(cache, store, &reader_options, &reader), 0);
}

static void close_reader(void)
{
	cloud_reader_free(reader);
	block_cache_close(cache);
}

static void setup(void)
{
	const struct faulty_options none = {.seed = 1};
	temp_dir_make(dir);
	ck_assert_int_eq(uuid_parse("01234567-89ab-cdef-0123-456789abcdef", &uuid), 0);
	uint64_t x = 1;
	for (size_t i = 0; i < sizeof(bytes); i += 8) {
		x = x * UINT64_C(6364136223846793005) + 1442695040888963407U;
		memcpy(bytes + i, &x, 8);
	}
	ck_assert_int_eq(block_store_memory_new(64 << 20, &memory), 0);
	ck_assert_int_eq(faulty_store_new(memory, &none, &faulty), 0);
	ck_assert_int_eq(block_store_counting_new(faulty, &store), 0);
	ck_assert_int_eq(block_store_verifying_new(store, &store), 0);
	open_reader(400);
}

static void teardown(void)
{
	close_reader();
	block_store_free(store);
	block_store_free(memory);
	temp_dir_remove(dir);
}

static uint64_t requests(enum block_request kind)
{
	struct block_store_status status;
	block_store_status(store, &status);
	return status.requests[kind];
}

/* Reads, and compares what came; returns how much. */
static size_t check_read(uint64_t offset, size_t size)
{
	uint8_t *data = malloc(size);
	size_t got;
	struct reterr err = {0};
	int r = reader->ops->read(reader, &uuid, data, size, offset, &got, &err);
	ck_assert_msg(r == 0, "at %llu: %s", (unsigned long long)offset, err.text);
	ck_assert_uint_gt(got, 0);
	ck_assert_mem_eq(data, bytes + offset, got);
	free(data);
	return got;
}

static struct reterr last;

static int read_fails(uint64_t offset)
{
	char data[16];
	size_t got = 77;
	last = (struct reterr){0};
	int r = reader->ops->read(reader, &uuid, data, sizeof(data), offset, &got, &last);
	ck_assert_int_lt(r, 0);
	ck_assert_int_eq(last.code, r);
	ck_assert_uint_eq(got, 77);
	return r;
}

/* ---- Blocks ---- */

START_TEST(blocks_are_the_segment)
{
	for (unsigned i = 0; i < 5; i++)
		put_block(i, i < 4 ? BLOCK : 1000, BLOCK_NO_FRAME);
	const uint64_t length = 4 * BLOCK + 1000;
	ck_assert_uint_eq(check_read(0, SEGMENT_MAX), length);
	for (uint64_t at = 0; at < length; at += 12345) {
		size_t want = at + 70000 < length ? 70000 : (size_t)(length - at);
		ck_assert_uint_eq(check_read(at, 70000), want);
	}
	ck_assert_int_eq(read_fails(length), -ENOENT);
	ck_assert_ptr_nonnull(strstr(last.text, "00000000000000262144 ends at byte 1000"));
}
END_TEST

START_TEST(a_missing_block_is_damage)
{
	char key[BLOCK_KEY_MAX + 1];
	put_block(0, BLOCK, 0);
	put_block(2, BLOCK, 0);
	ck_assert_int_eq(read_fails(BLOCK + 5), -ENOENT);
	ck_assert_ptr_nonnull(strstr(last.text, block_key(1, key)));
	ck_assert_ptr_nonnull(strstr(last.text, "damage"));
	/* What is before it is read; the hole is never zeros. */
	ck_assert_uint_eq(check_read(BLOCK - 10, 100), 10);
	ck_assert_uint_eq(check_read(2 * BLOCK, 100), 100);
	ck_assert_int_eq(read_fails(UINT64_MAX), -ENOENT);
	ck_assert_int_eq(read_fails(UINT64_C(1) << 62), -ENOENT);
	ck_assert_int_eq(read_fails((UINT64_C(1) << 62) - 16), -ENOENT);
}
END_TEST

START_TEST(a_block_that_is_too_large)
{
	char key[BLOCK_KEY_MAX + 1];
	ck_assert_int_eq(block_store_put(memory, block_key(0, key), bytes, BLOCK + 1, 0, NULL), 0);
	ck_assert_int_eq(read_fails(0), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(last.text, key));
}
END_TEST

START_TEST(errors_say_what_to_do)
{
	static const struct {
		int from, to;
	} cases[] = {{-EACCES, -EACCES}, {-ETIMEDOUT, -ETIMEDOUT}, {-EAGAIN, -ETIMEDOUT},
		     {-EIO, -EIO},       {-EBADMSG, -EBADMSG},     {-ENOMEM, -ENOMEM}};
	put_block(0, BLOCK, 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t frame;
		char data[4];
		size_t got;
		struct reterr err = {0};
		faulty_store_set_down(faulty, cases[i].from);
		int r = reader->ops->read(reader, &uuid, data, 4, 0, &got, &err);
		ck_assert_int_eq(r, cases[i].to);
		ck_assert_str_eq(err.text, "simulated: the place is away");
		r = reader->ops->frame_before(reader, &uuid, 5, &frame, &err);
		ck_assert_int_eq(r, cases[i].to);
	}
	faulty_store_set_down(faulty, 0);
	ck_assert_uint_eq(check_read(0, BLOCK), BLOCK);
}
END_TEST

/* ---- Deltas ---- */

START_TEST(deltas_stand_in_for_a_block)
{
	put_block(0, BLOCK, 0);
	put_delta(1, 0, 100, 0);
	put_delta(1, 100, 5000, BLOCK_NO_FRAME);
	put_delta(1, 5000, 5001, BLOCK_NO_FRAME);
	put_delta(1, 5001, 60000, BLOCK_NO_FRAME);
	const uint64_t length = BLOCK + 60000;
	ck_assert_uint_eq(check_read(0, SEGMENT_MAX), length);
	for (uint64_t at = BLOCK - 50; at < length; at += 333) {
		size_t want = at + 7000 < length ? 7000 : (size_t)(length - at);
		ck_assert_uint_eq(check_read(at, 7000), want);
	}
	ck_assert_int_eq(read_fails(length), -ENOENT);
}
END_TEST

START_TEST(a_gap_between_deltas_is_not_there)
{
	put_delta(0, 0, 100, 0);
	put_delta(0, 101, 200, 0);
	ck_assert_uint_eq(check_read(0, 1000), 100);
	ck_assert_int_eq(read_fails(100), -ENOENT);
	ck_assert_ptr_nonnull(strstr(last.text, "holds byte 100"));
	ck_assert_uint_eq(check_read(101, 1000), 99);
}
END_TEST

START_TEST(overlapping_deltas_must_be_equal)
{
	put_delta(0, 0, 100, 0);
	put_delta(0, 0, 300, 0);
	put_delta(0, 50, 120, 0);
	put_delta(0, 250, 400, 0);
	put_delta(0, 260, 300, 0);
	for (uint64_t at = 0; at < 400; at++)
		ck_assert_uint_eq(check_read(at, 1000), 400 - at);

	/* One that disagrees in a byte that is read. */
	char key[BLOCK_KEY_MAX + 1];
	uint8_t other[BLOCK];
	memcpy(other, bytes, sizeof(other));
	other[299] ^= 1;
	ck_assert_int_eq(
		block_store_put(memory, delta_key(0, 240, 350, key), other + 240, 110, 0, NULL), 0);
	close_reader();
	open_reader(400);
	char data[400];
	size_t got;
	struct reterr err = {0};
	ck_assert_int_eq(reader->ops->read(reader, &uuid, data, 400, 0, &got, &err), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(err.text, "disagrees"));
	ck_assert_uint_eq(check_read(0, 299), 299);
	ck_assert_uint_eq(check_read(300, 10), 10);
}
END_TEST

START_TEST(a_delta_of_another_size)
{
	char key[BLOCK_KEY_MAX + 1];
	ck_assert_int_eq(block_store_put(memory, delta_key(0, 0, 100, key), bytes, 99, 0, NULL), 0);
	ck_assert_int_eq(read_fails(0), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(last.text, key));
	delete_key(key);
	ck_assert_int_eq(
		block_store_put(memory, delta_key(0, BLOCK - 1, BLOCK + 1, key), bytes, 2, 0, NULL),
		0);
	ck_assert_int_eq(read_fails(0), -EBADMSG);
}
END_TEST

/* The uploader puts the block, then deletes the deltas: a reader never stumbles. */
START_TEST(a_tail_becomes_a_block)
{
	char key[BLOCK_KEY_MAX + 1];
	put_delta(0, 0, 100, 0);
	put_delta(0, 100, 200, 0);
	ck_assert_uint_eq(check_read(0, 50), 50);
	put_block(0, BLOCK, 0);
	delete_key(delta_key(0, 0, 100, key));
	delete_key(delta_key(0, 100, 200, key));
	ck_assert_uint_eq(check_read(100, 50), 50);
	ck_assert_uint_eq(check_read(0, SEGMENT_MAX), BLOCK);
}
END_TEST

/* Between our look at the block and our listing: a part of the deltas is gone already. */
static unsigned looks;

static void finish_block(void *arg, enum block_request kind, const char *key, bool before)
{
	char own[BLOCK_KEY_MAX + 1];
	(void)arg;
	if (before || kind != BLOCK_REQUEST_GET || strcmp(key, block_key(0, own)) != 0 || looks++)
		return;
	put_block(0, BLOCK, 0);
	delete_key(delta_key(0, 100, 200, own));
}

START_TEST(a_tail_becomes_a_block_under_our_eyes)
{
	const struct faulty_options options = {.seed = 1, .step = finish_block};
	put_delta(0, 0, 100, 0);
	put_delta(0, 100, 200, 0);
	faulty_store_set(faulty, &options);
	ck_assert_uint_eq(check_read(0, 200), 200);
	ck_assert_uint_eq(looks, 2);
}
END_TEST

START_TEST(a_tail_grows)
{
	put_delta(0, 0, 100, 0);
	ck_assert_uint_eq(check_read(0, 1000), 100);
	put_delta(0, 100, 200, 0);
	ck_assert_uint_eq(check_read(0, 1000), 200);
	ck_assert_uint_eq(check_read(150, 1000), 50);
	put_delta(0, 200, 300, 0);
	ck_assert_uint_eq(check_read(250, 1000), 50);
}
END_TEST

START_TEST(a_delta_that_is_gone_for_good)
{
	char key[BLOCK_KEY_MAX + 1];
	put_delta(0, 0, 100, 0);
	put_delta(0, 100, 200, 0);
	ck_assert_uint_eq(check_read(0, 50), 50); /* now the list is remembered */
	delete_key(delta_key(0, 100, 200, key));
	close_reader();
	open_reader(400);
	ck_assert_int_eq(read_fails(150), -ENOENT);
	ck_assert_uint_eq(check_read(0, 200), 100);
}
END_TEST

START_TEST(a_tail_is_not_asked_for_again_and_again)
{
	for (unsigned i = 0; i < 1000; i++)
		put_delta(0, i * 10, i * 10 + 10, 0);
	for (uint64_t at = 0; at < 9990; at += 10)
		ck_assert_uint_eq(check_read(at, 10), 10);
	ck_assert_uint_le(requests(BLOCK_REQUEST_LIST), 1);
	ck_assert_uint_le(requests(BLOCK_REQUEST_GET), 1001);
}
END_TEST

/* ---- Frames ---- */

static uint64_t frame_before(uint64_t offset)
{
	uint64_t frame = 12345678;
	struct reterr err = {0};
	int r = reader->ops->frame_before(reader, &uuid, offset, &frame, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	return frame;
}

START_TEST(frames)
{
	put_block(0, BLOCK, 0);
	put_block(1, BLOCK, 500);
	put_block(2, BLOCK, BLOCK_NO_FRAME);
	put_block(3, BLOCK, BLOCK_NO_FRAME);
	put_block(4, BLOCK, BLOCK - 1);
	put_delta(5, 0, 100, 50);
	put_delta(5, 100, 200, BLOCK_NO_FRAME);
	put_delta(5, 200, 300, 0);
	for (unsigned round = 0; round < 2; round++) {
		ck_assert_uint_eq(frame_before(0), 0);
		ck_assert_uint_eq(frame_before(BLOCK), 0);
		ck_assert_uint_eq(frame_before(BLOCK + 499), 0);
		ck_assert_uint_eq(frame_before(BLOCK + 500), BLOCK + 500);
		ck_assert_uint_eq(frame_before(2 * BLOCK), BLOCK + 500);
		ck_assert_uint_eq(frame_before(4 * BLOCK), BLOCK + 500);
		ck_assert_uint_eq(frame_before(5 * BLOCK - 1), 5 * BLOCK - 1);
		ck_assert_uint_eq(frame_before(5 * BLOCK + 49), 5 * BLOCK - 1);
		ck_assert_uint_eq(frame_before(5 * BLOCK + 50), 5 * BLOCK + 50);
		ck_assert_uint_eq(frame_before(5 * BLOCK + 199), 5 * BLOCK + 50);
		ck_assert_uint_eq(frame_before(5 * BLOCK + 200), 5 * BLOCK + 200);
		/* The second time from the cache: no block is fetched for it, none asked again. */
		if (round == 0) {
			ck_assert_uint_eq(requests(BLOCK_REQUEST_GET), 0);
			ck_assert_uint_eq(check_read(0, SEGMENT_MAX), 5 * BLOCK + 300);
		}
	}
	uint64_t frame;
	struct reterr err = {0};
	ck_assert_int_eq(reader->ops->frame_before(reader, &uuid, 6 * BLOCK, &frame, &err),
			 -ENOENT);
	ck_assert_uint_eq(frame_before(5 * BLOCK + 299), 5 * BLOCK + 200);
}
END_TEST

START_TEST(frames_that_a_place_has_lost)
{
	const struct faulty_options forgets = {.seed = 1, .forget = 1000};
	put_block(0, BLOCK, 7);
	put_block(1, BLOCK, 500);
	faulty_store_set(faulty, &forgets);
	ck_assert_uint_eq(frame_before(2 * BLOCK - 1), 0);
}
END_TEST

/* ---- Ahead ---- */

static void put_segment(void)
{
	for (unsigned i = 0; i < 40; i++)
		put_block(i, BLOCK, 0);
}

static struct block_cache_status cache_status(void)
{
	struct block_cache_status status;
	block_cache_status(cache, &status);
	return status;
}

START_TEST(a_sequential_reader_is_read_ahead_of)
{
	put_segment();
	for (uint64_t at = 0; at < SEGMENT_MAX; at += 4096)
		ck_assert_uint_eq(check_read(at, 4096), 4096);
	/* Nothing twice. Who is faster is chance, but a reader who is never late has no luck that long. */
	ck_assert_uint_ge(cache_status().read_ahead + cache_status().misses, 40);
	ck_assert_uint_ge(cache_status().read_ahead, 5);
	ck_assert_uint_le(requests(BLOCK_REQUEST_GET), 40 + 8);
}
END_TEST

static uint64_t segment_length(void *arg, const struct uuid *segment)
{
	(void)arg;
	ck_assert(uuid_equal(segment, &uuid));
	return SEGMENT_MAX;
}

START_TEST(behind_a_known_end_nothing_is_asked_for)
{
	const struct cloud_reader_options options = {.block_size = BLOCK, .length = segment_length};
	put_segment();
	cloud_reader_free(reader);
	ck_assert_int_eq(cloud_reader_new(cache, store, &options, &reader), 0);
	for (uint64_t at = 0; at < SEGMENT_MAX; at += 4096)
		ck_assert_uint_eq(check_read(at, 4096), 4096);
	ck_assert_uint_ge(cache_status().read_ahead, 5);
	ck_assert_uint_eq(requests(BLOCK_REQUEST_GET), SEGMENT_MAX / BLOCK);
}
END_TEST

START_TEST(a_random_reader_is_not)
{
	put_segment();
	uint64_t random = 3;
	for (unsigned i = 0; i < 200; i++) {
		random = random * UINT64_C(6364136223846793005) + 1442695040888963407U;
		uint64_t block = (random >> 33) % 40;
		(void)check_read(block * BLOCK + (random >> 20) % (BLOCK - 100), 100);
	}
	ck_assert_uint_le(requests(BLOCK_REQUEST_GET), 40);
	ck_assert_uint_le(cache_status().read_ahead, 2);
}
END_TEST

enum { THREADS = 4 };

/*
 * The place may fail two times in a row, which is one more than is mended below: then the reader is
 * told so, and asks again. What comes is right, or nothing.
 */
static size_t read_stubbornly(uint64_t offset, uint8_t *data, size_t size)
{
	struct reterr err = {0};
	size_t got = 0;
	int r = -EAGAIN;
	for (unsigned i = 0; i < 20 && (r == -EAGAIN || r == -EBADMSG); i++)
		r = reader->ops->read(reader, &uuid, data, size, offset, &got, &err);
	ck_assert_msg(r == 0, "at %llu: %s", (unsigned long long)offset, err.text);
	ck_assert_uint_gt(got, 0);
	ck_assert_mem_eq(data, bytes + offset, got);
	return got;
}

static void *read_all(void *arg)
{
	size_t step = 1000 + (uintptr_t)arg * 7777;
	uint8_t *data = malloc(step);
	for (uint64_t at = 0; at < SEGMENT_MAX;)
		at += read_stubbornly(at, data, step);
	free(data);
	return NULL;
}

/* A cache much smaller than the segment, a place that fails, many readers. */
START_TEST(many_readers)
{
	pthread_t threads[THREADS];
	const struct faulty_options shaky = {.seed = 5, .corrupt = 20, .cut = 20};
	put_segment();
	close_reader();
	open_reader((uint64_t)_i);
	faulty_store_set(faulty, &shaky);
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, read_all, (void *)i), 0);
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}
END_TEST

/* A reader runs after an uploader, which turns deltas into blocks as it goes. */
static _Atomic uint64_t uploaded;

static void *upload(void *arg)
{
	(void)arg;
	for (uint64_t block = 0; block < 20; block++) {
		char key[BLOCK_KEY_MAX + 1];
		const uint64_t step = BLOCK / 8;
		for (uint64_t at = 0; at < BLOCK; at += step) {
			put_delta(block, at, at + step, 0);
			atomic_store(&uploaded, block * BLOCK + at + step);
			(void)usleep(300);
		}
		put_block(block, BLOCK, 0);
		for (uint64_t at = 0; at < BLOCK; at += step)
			delete_key(delta_key(block, at, at + step, key));
	}
	return NULL;
}

START_TEST(a_reader_and_an_uploader)
{
	pthread_t thread;
	ck_assert_int_eq(pthread_create(&thread, NULL, upload, NULL), 0);
	uint64_t at = 0;
	while (at < 20 * BLOCK) {
		uint64_t length = atomic_load(&uploaded);
		if (at == length)
			(void)usleep(100);
		else
			at += check_read(at, (size_t)(length - at));
	}
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_uint_eq(check_read(0, 20 * BLOCK), 20 * BLOCK);
}
END_TEST

/* ---- Stop, memory ---- */

static void *stop_soon(void *arg)
{
	(void)arg;
	(void)usleep(50000);
	reader->ops->stop(reader);
	block_store_stop(store);
	return NULL;
}

START_TEST(stop_ends_a_read)
{
	pthread_t thread;
	const struct faulty_options hangs = {.seed = 1, .hang = 1000};
	put_segment();
	faulty_store_set(faulty, &hangs);
	ck_assert_int_eq(pthread_create(&thread, NULL, stop_soon, NULL), 0);
	ck_assert_int_eq(read_fails(0), -ECANCELED);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(read_fails(0), -ECANCELED);
	uint64_t frame;
	ck_assert_int_eq(reader->ops->frame_before(reader, &uuid, 0, &frame, NULL), -ECANCELED);
}
END_TEST

START_TEST(without_memory)
{
	if (!fault_alloc_available())
		return;
	put_delta(0, 0, 200, 0);
	put_delta(0, 100, 300, 0);
	struct remote_reader *own;
	const struct cloud_reader_options options = {.block_size = BLOCK};
	bool missing = true;
	for (uint64_t n = 1; missing; n++) {
		char data[300];
		size_t got = 0;
		int r_read = 0;
		fault_alloc_fail(n);
		int r = cloud_reader_new(cache, store, &options, &own);
		if (r == 0)
			r_read = own->ops->read(own, &uuid, data, 300, 0, &got, NULL);
		missing = fault_alloc_stop();
		ck_assert(r == 0 || r == -ENOMEM);
		ck_assert(r_read == 0 || r_read == -ENOMEM);
		ck_assert(missing || got == 300);
		if (r == 0)
			cloud_reader_free(own);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cloud_reader");
	TCase *tcase = tcase_create("cloud_reader");
	tcase_set_timeout(tcase, 30);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, blocks_are_the_segment);
	tcase_add_test(tcase, a_missing_block_is_damage);
	tcase_add_test(tcase, a_block_that_is_too_large);
	tcase_add_test(tcase, errors_say_what_to_do);
	tcase_add_test(tcase, deltas_stand_in_for_a_block);
	tcase_add_test(tcase, a_gap_between_deltas_is_not_there);
	tcase_add_test(tcase, overlapping_deltas_must_be_equal);
	tcase_add_test(tcase, a_delta_of_another_size);
	tcase_add_test(tcase, a_tail_becomes_a_block);
	tcase_add_test(tcase, a_tail_becomes_a_block_under_our_eyes);
	tcase_add_test(tcase, a_tail_grows);
	tcase_add_test(tcase, a_delta_that_is_gone_for_good);
	tcase_add_test(tcase, a_tail_is_not_asked_for_again_and_again);
	tcase_add_test(tcase, frames);
	tcase_add_test(tcase, frames_that_a_place_has_lost);
	tcase_add_test(tcase, a_sequential_reader_is_read_ahead_of);
	tcase_add_test(tcase, behind_a_known_end_nothing_is_asked_for);
	tcase_add_test(tcase, a_random_reader_is_not);
	tcase_add_loop_test(tcase, many_readers, 1, 3);
	tcase_add_loop_test(tcase, many_readers, 30, 32);
	tcase_add_test(tcase, a_reader_and_an_uploader);
	tcase_add_test(tcase, stop_ends_a_read);
	tcase_add_test(tcase, without_memory);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed_count = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed_count ? EXIT_FAILURE : EXIT_SUCCESS;
}
