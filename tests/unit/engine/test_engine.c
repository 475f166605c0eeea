/* The engine through its public header, on a disk in memory and on a directory. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/disk.h"
#include "engine/engine.h"

enum { BLOCK = 64 << 10, PART_DATA_SIZE = 64 * BLOCK };

static struct disk *disk;
static struct engine *e;

static void open_engine_with(const struct engine_options *options)
{
	struct reterr err = {0};
	int r = engine_open(disk, options, &err, &e);
	ck_assert_msg(r == 0, "open: %d %s", r, err.text);
}

static void close_engine(void)
{
	struct reterr err = {0};
	int r = engine_close(e, &err);
	ck_assert_msg(r == 0, "close: %d %s", r, err.text);
	e = NULL;
}

static void setup(void)
{
	struct reterr err = {0};
	struct engine_format_options options = {.block_size = BLOCK};
	ck_assert_int_eq(disk_memory_new(1u << 30, &disk), 0);
	ck_assert_msg(engine_format(disk, &options, &err) == 0, "%s", err.text);
	open_engine_with(NULL);
}

static void teardown(void)
{
	if (e)
		close_engine();
	disk_free(disk);
}

static struct engine_pointer append_text(const char *text)
{
	struct engine_pointer pointer;
	union {
		const char *in;
		char *out;
	} address = {.in = text};
	struct iovec iov = {.iov_base = address.out, .iov_len = strlen(text)};
	ck_assert_int_eq(engine_append(e, ENGINE_CLASS_LOG, ENGINE_FORMAT_JSON, &iov, 1, &pointer),
			 0);
	return pointer;
}

static void check_text(const struct engine_pointer *pointer, const char *text)
{
	char data[256] = "";
	size_t got;
	struct engine_frame frame;
	struct reterr err = {0};
	struct engine_segment *segment = engine_segment_find(e, &pointer->segment);

	ck_assert_ptr_nonnull(segment);
	ck_assert_int_eq(engine_frame_at(e, segment, pointer->offset, &frame), 0);
	ck_assert_uint_eq(frame.size, strlen(text));
	ck_assert_uint_eq(frame.format, ENGINE_FORMAT_JSON);
	int r = engine_read(e, segment, data, strlen(text),
			    pointer->offset + ENGINE_FRAME_HEADER_SIZE, 0, &got, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	ck_assert_uint_eq(got, strlen(text));
	ck_assert_mem_eq(data, text, got);
}

START_TEST(an_atom_is_readable_at_once_and_after_reopen)
{
	struct engine_pointer pointer = append_text("{\"a\": 1}");
	check_text(&pointer, "{\"a\": 1}");
	close_engine();
	open_engine_with(NULL);
	check_text(&pointer, "{\"a\": 1}");
}
END_TEST

START_TEST(committed_atoms_survive_an_abandoned_engine)
{
	struct engine_pointer pointer = append_text("committed");
	struct engine_position position = {.segment = engine_segment_find(e, &pointer.segment),
					   .length = UINT64_MAX};
	ck_assert_int_eq(engine_commit(e, &position, 1, NULL), 0);
	engine_abandon(e);
	open_engine_with(NULL);
	check_text(&pointer, "committed");
	struct engine_stats stats;
	engine_stats(e, &stats);
	ck_assert(stats.recovered);
	ck_assert(!stats.damaged);
}
END_TEST

/* Deterministic bytes: what lies at an offset follows from the offset alone. */
static void fill(uint8_t *data, size_t size, uint64_t offset)
{
	for (size_t i = 0; i < size; i++) {
		uint64_t x = (offset + i) * 0x9E3779B97F4A7C15u;
		data[i] = (uint8_t)(x >> 56);
	}
}

static void check_stream(struct engine_segment *segment, uint64_t length, size_t step)
{
	static uint8_t got_bytes[3 << 20], wanted[3 << 20];
	uint64_t offset = 0;

	while (offset < length) {
		size_t got;
		struct reterr err = {0};
		int r = engine_read(e, segment, got_bytes, step, offset, 0, &got, &err);
		ck_assert_msg(r == 0, "at %llu: %d %s", (unsigned long long)offset, r, err.text);
		size_t want = length - offset < step ? (size_t)(length - offset) : step;
		ck_assert_uint_eq(got, want);
		fill(wanted, got, offset);
		ck_assert_msg(memcmp(got_bytes, wanted, got) == 0, "bytes differ near %llu",
			      (unsigned long long)offset);
		offset += got;
	}
}

static struct engine_segment *new_foreign(void)
{
	struct uuid uuid;
	struct engine_segment *segment;
	ck_assert_int_eq(uuid_random(&uuid), 0);
	ck_assert_int_eq(engine_segment_create(e, &uuid, &segment), 0);
	return segment;
}

static void append_stream(struct engine_segment *segment, uint64_t from, uint64_t to, size_t step)
{
	static uint8_t data[1 << 20];
	while (from < to) {
		size_t n = to - from < step ? (size_t)(to - from) : step;
		uint64_t offset;
		fill(data, n, from);
		struct iovec iov = {.iov_base = data, .iov_len = n};
		ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, &offset), 0);
		ck_assert_uint_eq(offset, from);
		from += n;
	}
}

START_TEST(a_stream_over_several_parts_reads_back)
{
	struct engine_segment *segment = new_foreign();
	struct uuid uuid = *engine_segment_uuid(segment);
	uint64_t length = 3 * (uint64_t)PART_DATA_SIZE + 12345;

	append_stream(segment, 0, length, 100001);
	check_stream(segment, length, 70001);
	ck_assert_int_eq(engine_sync(e, NULL), 0);
	check_stream(segment, length, 1 << 20);
	ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
	check_stream(segment, length, 999);
	check_stream(segment, length, 3 << 20);
	close_engine();
	open_engine_with(NULL);
	segment = engine_segment_find(e, &uuid);
	ck_assert_ptr_nonnull(segment);
	check_stream(segment, length, 1 << 20);
	append_stream(segment, length, length + 5000, 777);
	check_stream(segment, length + 5000, 65536);
}
END_TEST

START_TEST(a_stream_survives_an_abandoned_engine)
{
	struct engine_segment *segment = new_foreign();
	struct uuid uuid = *engine_segment_uuid(segment);
	uint64_t length = (uint64_t)PART_DATA_SIZE + 300000;

	append_stream(segment, 0, length, 100001);
	ck_assert_int_eq(engine_sync(e, NULL), 0);
	engine_abandon(e);
	struct engine_options read_only = {.read_only = true};
	open_engine_with(&read_only);
	segment = engine_segment_find(e, &uuid);
	ck_assert_ptr_nonnull(segment);
	check_stream(segment, length, 1 << 20);
	close_engine();
	open_engine_with(NULL);
	segment = engine_segment_find(e, &uuid);
	check_stream(segment, length, 1 << 20);
}
END_TEST

START_TEST(sums_cover_the_stream)
{
	struct engine_segment *segment = new_foreign();
	uint64_t length = 2 * (uint64_t)PART_DATA_SIZE + 1000000;
	struct engine_sum sums[16];
	static uint8_t mib[1 << 20];
	size_t n;

	append_stream(segment, 0, length, 1 << 20);
	ck_assert_int_eq(engine_sync(e, NULL), 0);
	for (int sealed = 0; sealed < 2; sealed++) {
		ck_assert_int_eq(engine_sums(e, segment, 0, UINT64_MAX, sums, 16, &n), 0);
		ck_assert_uint_eq(n, (length + (1 << 20) - 1) >> 20);
		for (size_t i = 0; i < n; i++) {
			fill(mib, (size_t)sums[i].length, sums[i].offset);
			struct hash hash = hash_of(mib, (size_t)sums[i].length);
			ck_assert_mem_eq(hash.bytes, sums[i].hash.bytes, HASH_SIZE);
		}
		ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
	}
}
END_TEST

/* Counts frames and checks that they follow each other. */
static uint64_t count_frames(struct engine_segment *segment)
{
	struct engine_frame frames[100];
	uint64_t from = 0, total = 0;
	size_t n;

	for (;;) {
		ck_assert_int_eq(engine_frames(e, segment, from, frames, 100, &n), 0);
		if (n == 0)
			return total;
		for (size_t i = 0; i < n; i++) {
			ck_assert_uint_ge(frames[i].offset, from);
			from = frames[i].offset + 1;
		}
		total += n;
	}
}

START_TEST(all_atoms_are_listed_open_sealed_and_reopened)
{
	enum { ATOMS = 100000 };
	struct engine_pointer first = append_text("0"), pointer = first;

	for (int i = 1; i < ATOMS; i++) {
		char text[128];
		(void)snprintf(text, sizeof(text), "atom %d %*s", i, i % 90, "");
		pointer = append_text(text);
	}
	struct engine_segment *segment = engine_segment_find(e, &first.segment);
	ck_assert_uint_eq(count_frames(segment), ATOMS);
	ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
	ck_assert_uint_eq(count_frames(segment), ATOMS);
	struct engine_frame frame;
	ck_assert_int_eq(engine_frame_at(e, segment, pointer.offset, &frame), 0);
	ck_assert_int_eq(engine_frame_at(e, segment, pointer.offset + 1, &frame), -ENOENT);
	close_engine();
	open_engine_with(NULL);
	segment = engine_segment_find(e, &first.segment);
	ck_assert_uint_eq(count_frames(segment), ATOMS);
	check_text(&first, "0");
}
END_TEST

static int read_fill(void *arg, void *data, size_t size, uint64_t offset)
{
	(void)arg;
	fill(data, size, offset);
	return 0;
}

START_TEST(an_atom_larger_than_a_part_is_one_frame)
{
	struct engine_pointer pointer;
	struct engine_frame frame;
	uint64_t size = 2 * (uint64_t)PART_DATA_SIZE + 7;

	(void)append_text("before");
	ck_assert_int_eq(
		engine_append_from(e, ENGINE_CLASS_LOG, 0, size, read_fill, NULL, &pointer), 0);
	struct engine_pointer after = append_text("after");
	struct engine_segment *segment = engine_segment_find(e, &pointer.segment);
	ck_assert_uint_eq(count_frames(segment), 3);
	ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
	ck_assert_uint_eq(count_frames(segment), 3);
	ck_assert_int_eq(engine_frame_at(e, segment, pointer.offset, &frame), 0);
	ck_assert_uint_eq(frame.size, size);
	check_text(&after, "after");
}
END_TEST

static int read_failing(void *arg, void *data, size_t size, uint64_t offset)
{
	(void)arg;
	memset(data, 1, size);
	return offset > 1 << 20 ? -EIO : 0;
}

START_TEST(a_source_that_fails_leaves_no_atom)
{
	struct engine_pointer before = append_text("before"), pointer;
	ck_assert_int_eq(
		engine_append_from(e, ENGINE_CLASS_LOG, 0, 4 << 20, read_failing, NULL, &pointer),
		-EIO);
	struct engine_pointer after = append_text("after");
	ck_assert(!uuid_equal(&before.segment, &after.segment));
	ck_assert_uint_eq(count_frames(engine_segment_find(e, &before.segment)), 1);
	check_text(&after, "after");
}
END_TEST

START_TEST(a_root_is_published_by_compare_and_swap)
{
	struct engine_root root;
	struct engine_pointer one = append_text("one"), two = append_text("two");

	ck_assert_int_eq(engine_root_current(e, &root), -ENOENT);
	ck_assert_int_eq(engine_root_publish(e, 0, &one, "x", 1, &root, NULL), 0);
	ck_assert_uint_eq(root.seq, 1);
	ck_assert_int_eq(engine_root_publish(e, 0, &two, NULL, 0, &root, NULL), -ESTALE);
	ck_assert_uint_eq(root.seq, 1);
	ck_assert_int_eq(engine_root_publish(e, 1, &two, NULL, 0, &root, NULL), 0);
	engine_abandon(e);
	open_engine_with(NULL);
	ck_assert_int_eq(engine_root_current(e, &root), 0);
	ck_assert_uint_eq(root.seq, 2);
	ck_assert_uint_eq(root.pointer.offset, two.offset);
	check_text(&two, "two");
	ck_assert_int_eq(engine_root_get(e, 1, &root), 0);
	ck_assert_uint_eq(root.payload_size, 1);
}
END_TEST

START_TEST(a_dangling_root_is_held_until_its_bytes_come)
{
	struct engine_segment *segment = new_foreign();
	struct engine_pointer pointer = {.segment = *engine_segment_uuid(segment), .offset = 0};
	struct engine_root root;
	uint8_t frame[] = {3, 0, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 'c'};

	ck_assert_int_eq(engine_root_publish(e, 0, &pointer, NULL, 0, &root, NULL), 1);
	ck_assert_int_eq(engine_root_current(e, &root), -ENOENT);
	ck_assert_int_eq(engine_root_dangling(e, &root), 0);
	struct iovec iov = {.iov_base = frame, .iov_len = sizeof(frame)};
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
	for (int i = 0; i < 500 && engine_root_current(e, &root) < 0; i++)
		(void)usleep(10000);
	ck_assert_int_eq(engine_root_current(e, &root), 0);
	ck_assert_int_eq(engine_root_dangling(e, &root), -ENOENT);
	ck_assert_uint_eq(root.seq, 1);
}
END_TEST

START_TEST(strict_root_refuses_a_dangling_one)
{
	struct engine_options options = {.strict_root = true};
	close_engine();
	open_engine_with(&options);
	struct engine_segment *segment = new_foreign();
	struct engine_pointer pointer = {.segment = *engine_segment_uuid(segment), .offset = 0};
	ck_assert_int_eq(engine_root_publish(e, 0, &pointer, NULL, 0, NULL, NULL), -ENODATA);
}
END_TEST

enum { RACERS = 8, RACES = 200 };

static void *race(void *arg)
{
	uint64_t *won = arg;
	for (int i = 0; i < RACES; i++) {
		struct engine_pointer pointer;
		char text[] = "race";
		struct iovec iov = {.iov_base = text, .iov_len = 4};
		struct engine_root root = {0};
		if (engine_append(e, ENGINE_CLASS_LOG, 1, &iov, 1, &pointer) < 0)
			return NULL;
		(void)!engine_root_current(e, &root);
		if (engine_root_publish(e, root.seq, &pointer, NULL, 0, NULL, NULL) == 0)
			(*won)++;
	}
	return NULL;
}

START_TEST(a_frame_that_is_not_whole_survives_seal_and_crash)
{
	struct engine_segment *segment = new_foreign();
	struct uuid uuid = *engine_segment_uuid(segment);
	uint8_t header[] = {100, 0, 0, 0, 0, 0, 0, 0, 0};
	uint8_t payload[100] = {1};
	struct engine_segment_info info;

	/* A sealed part that ends inside a frame, and an open one behind it. */
	struct iovec iov = {.iov_base = header, .iov_len = sizeof(header)};
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
	ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
	iov = (struct iovec){.iov_base = payload, .iov_len = 40};
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
	engine_abandon(e); /* before a byte of the second part was committed */
	open_engine_with(NULL);
	segment = engine_segment_find(e, &uuid);
	engine_segment_info(e, segment, &info);
	ck_assert_uint_eq(info.length, sizeof(header));
	ck_assert_uint_eq(info.frames_end, 0);
	close_engine();
	open_engine_with(NULL);
	segment = engine_segment_find(e, &uuid);
	engine_segment_info(e, segment, &info);
	ck_assert_uint_eq(info.frames_end, 0);
	iov = (struct iovec){.iov_base = payload, .iov_len = sizeof(payload)};
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
	ck_assert_uint_eq(count_frames(segment), 1);
}
END_TEST

START_TEST(one_publisher_wins_each_race)
{
	pthread_t threads[RACERS];
	uint64_t won[RACERS] = {0}, total = 0, first, last;

	for (int i = 0; i < RACERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, race, &won[i]), 0);
	for (int i = 0; i < RACERS; i++) {
		(void)pthread_join(threads[i], NULL);
		total += won[i];
	}
	engine_root_range(e, &first, &last);
	ck_assert_uint_eq(last, total);
	ck_assert_uint_gt(total, 0);
}
END_TEST

static void *commit_many(void *arg)
{
	(void)arg;
	for (int i = 0; i < 200; i++) {
		struct engine_pointer pointer;
		char text[64];
		(void)snprintf(text, sizeof(text), "thread %p %d", (void *)&pointer, i);
		struct iovec iov = {.iov_base = text, .iov_len = strlen(text)};
		if (engine_append(e, ENGINE_CLASS_LOG, 1, &iov, 1, &pointer) < 0)
			return arg;
		struct engine_position position = {
			.segment = engine_segment_find(e, &pointer.segment),
			.length = pointer.offset + ENGINE_FRAME_HEADER_SIZE + iov.iov_len};
		if (engine_commit(e, &position, 1, NULL) < 0)
			return arg;
	}
	return NULL;
}

START_TEST(concurrent_committers_all_return)
{
	pthread_t threads[RACERS];
	struct engine_stats stats;

	for (int i = 0; i < RACERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, commit_many, threads), 0);
	for (int i = 0; i < RACERS; i++) {
		void *failed;
		(void)pthread_join(threads[i], &failed);
		ck_assert_ptr_null(failed);
	}
	engine_stats(e, &stats);
	ck_assert_uint_eq(stats.bytes_pending, 0);
	ck_assert_uint_eq(stats.commit_waiters, RACERS * 200);
	ck_assert_uint_le(stats.commits, stats.commit_waiters + 2);
}
END_TEST

START_TEST(bytes_that_nobody_waits_for_become_durable)
{
	(void)append_text("nobody waits");
	struct engine_stats stats;
	for (int i = 0; i < 300; i++) {
		engine_stats(e, &stats);
		if (stats.bytes_pending == 0)
			break;
		(void)usleep(10000);
	}
	ck_assert_uint_eq(stats.bytes_pending, 0);
}
END_TEST

START_TEST(an_imported_segment_is_read_only)
{
	struct engine_stage *stage;
	struct uuid uuid;
	static uint8_t data[1 << 20];
	uint64_t length = 5 << 20;

	ck_assert_int_eq(uuid_random(&uuid), 0);
	ck_assert_int_eq(engine_stage_new(e, &stage), 0);
	for (uint64_t offset = 0; offset < length; offset += sizeof(data)) {
		fill(data, sizeof(data), offset);
		ck_assert_int_eq(engine_stage_write(stage, data, sizeof(data), offset), 0);
	}
	ck_assert_int_eq(engine_import(e, &uuid, stage, NULL), 0);
	ck_assert_int_eq(engine_import(e, &uuid, stage, NULL), -EEXIST);
	engine_stage_free(stage);
	struct engine_segment *segment = engine_segment_find(e, &uuid);
	check_stream(segment, length, 1 << 20);
	struct iovec iov = {.iov_base = data, .iov_len = 1};
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), -EROFS);
	close_engine();
	open_engine_with(NULL);
	check_stream(engine_segment_find(e, &uuid), length, 1 << 20);
}
END_TEST

START_TEST(a_removed_segment_is_gone_and_its_uuid_free)
{
	struct engine_segment *segment = new_foreign(), *again;
	struct uuid uuid = *engine_segment_uuid(segment);

	append_stream(segment, 0, 100000, 1000);
	ck_assert_int_eq(engine_segment_remove(e, segment), 0);
	ck_assert_ptr_null(engine_segment_find(e, &uuid));
	ck_assert_int_eq(engine_segment_create(e, &uuid, &again), 0);
	append_stream(again, 0, 500, 100);
	close_engine();
	open_engine_with(NULL);
	check_stream(engine_segment_find(e, &uuid), 500, 100);
}
END_TEST

/* A roll ends one class's segment, without a trace if that holds nothing, and what was in it stays. */
START_TEST(after_a_roll_atoms_go_to_a_new_segment)
{
	struct iovec iov = {.iov_base = (char[]){"meta"}, .iov_len = 4};
	struct engine_pointer meta, meta_after;

	engine_roll(e, ENGINE_CLASS_LOG); /* there is none yet */
	struct engine_pointer first = append_text("first");
	struct engine_pointer second = append_text("second");
	ck_assert(uuid_equal(&first.segment, &second.segment));
	ck_assert_int_eq(
		engine_append(e, ENGINE_CLASS_META, ENGINE_FORMAT_SMALL_FILE, &iov, 1, &meta), 0);

	engine_roll(e, ENGINE_CLASS_LOG);
	engine_roll(e, ENGINE_CLASS_LOG);
	struct engine_pointer third = append_text("third");
	ck_assert(!uuid_equal(&first.segment, &third.segment));
	ck_assert_uint_eq(third.offset, 0);
	struct engine_pointer fourth = append_text("fourth");
	ck_assert(uuid_equal(&third.segment, &fourth.segment));
	ck_assert_int_eq(
		engine_append(e, ENGINE_CLASS_META, ENGINE_FORMAT_SMALL_FILE, &iov, 1, &meta_after),
		0);
	ck_assert(uuid_equal(&meta.segment, &meta_after.segment));

	struct engine_segment *old = engine_segment_find(e, &first.segment);
	ck_assert_uint_lt(engine_segment_number(old),
			  engine_segment_number(engine_segment_find(e, &third.segment)));
	ck_assert_int_eq(engine_sync(e, NULL), 0);
	engine_abandon(e);
	open_engine_with(NULL);
	check_text(&first, "first");
	check_text(&second, "second");
	check_text(&third, "third");
	check_text(&fourth, "fourth");
}
END_TEST

START_TEST(a_newer_root_stays_when_old_ones_are_pruned)
{
	struct engine_pointer pointer = append_text("root");
	uint64_t dropped, first, last;

	for (uint64_t i = 0; i < 10; i++)
		ck_assert_int_eq(engine_root_publish(e, i, &pointer, NULL, 0, NULL, NULL), 0);
	ck_assert_int_eq(engine_root_prune(e, 6, true, &dropped, NULL), 0);
	ck_assert_uint_eq(dropped, 5);
	engine_root_range(e, &first, &last);
	ck_assert_uint_eq(first, 1);
	ck_assert_int_eq(engine_root_prune(e, 6, false, &dropped, NULL), 0);
	engine_root_range(e, &first, &last);
	ck_assert_uint_eq(first, 6);
	ck_assert_uint_eq(last, 10);
	ck_assert_int_eq(engine_root_prune(e, 1000, false, &dropped, NULL), 0);
	engine_root_range(e, &first, &last);
	ck_assert_uint_eq(first, 10);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine");
	TCase *tc = tcase_create("memory");

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, an_atom_is_readable_at_once_and_after_reopen);
	tcase_add_test(tc, committed_atoms_survive_an_abandoned_engine);
	tcase_add_test(tc, a_stream_over_several_parts_reads_back);
	tcase_add_test(tc, a_stream_survives_an_abandoned_engine);
	tcase_add_test(tc, sums_cover_the_stream);
	tcase_add_test(tc, all_atoms_are_listed_open_sealed_and_reopened);
	tcase_add_test(tc, an_atom_larger_than_a_part_is_one_frame);
	tcase_add_test(tc, a_source_that_fails_leaves_no_atom);
	tcase_add_test(tc, a_root_is_published_by_compare_and_swap);
	tcase_add_test(tc, a_dangling_root_is_held_until_its_bytes_come);
	tcase_add_test(tc, strict_root_refuses_a_dangling_one);
	tcase_add_test(tc, a_frame_that_is_not_whole_survives_seal_and_crash);
	tcase_add_test(tc, one_publisher_wins_each_race);
	tcase_add_test(tc, concurrent_committers_all_return);
	tcase_add_test(tc, bytes_that_nobody_waits_for_become_durable);
	tcase_add_test(tc, an_imported_segment_is_read_only);
	tcase_add_test(tc, a_removed_segment_is_gone_and_its_uuid_free);
	tcase_add_test(tc, after_a_roll_atoms_go_to_a_new_segment);
	tcase_add_test(tc, a_newer_root_stays_when_old_ones_are_pruned);
	suite_add_tcase(suite, tc);

	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
