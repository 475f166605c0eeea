/* Clones: segments of which nothing is here, and the store that begins with them. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"
#include "engine/disk.h"
#include "engine/engine.h"
#include "tests/lib/fault_alloc.h"
#include "tests/lib/remote_model.h"
#include "tests/lib/sim_disk.h"

enum { BLOCK = 64 << 10, ATOMS = 300, ATOM_MAX = 30000 };

static struct remote_model model;
static struct uuid log_uuid, meta_uuid, foreign_uuid = {{0xf0, 2}};
static uint64_t offsets[ATOMS];
static struct engine_root original_root;

static struct disk *disk;
static struct engine *e;

static void open_on(struct disk *on, const struct engine_options *options)
{
	struct reterr err = {0};
	int r = engine_open(on, options, &err, &e);
	ck_assert_msg(r == 0, "%d %s", r, err.text);
}

static void open_clone(bool take_over)
{
	struct engine_options options = {.reader = &model.reader, .take_over = take_over};
	open_on(disk, &options);
}

static void close_engine(void)
{
	struct reterr err = {0};
	int r = engine_close(e, &err);
	ck_assert_msg(r == 0, "%d %s", r, err.text);
	e = NULL;
}

static struct engine_pointer append(enum engine_class class, size_t size, uint8_t fill)
{
	struct engine_pointer pointer;
	uint8_t *data = malloc(size + 1);
	memset(data, fill, size + 1);
	struct iovec iov = {.iov_base = data, .iov_len = size};
	ck_assert_int_eq(engine_append(e, class, ENGINE_FORMAT_JSON, &iov, 1, &pointer), 0);
	free(data);
	return pointer;
}

static size_t atom_size(unsigned i)
{
	return (size_t)i * 7919 % ATOM_MAX;
}

/* The store that is cloned: atoms, small files, a foreign segment that is no frames, some roots. */
static void make_original(void)
{
	struct disk *original;
	struct engine_segment *segment;
	struct engine_pointer pointer = {0};
	uint8_t noise[5000];

	ck_assert_int_eq(disk_memory_new(1u << 30, &original), 0);
	ck_assert_int_eq(engine_format(original, NULL, NULL), 0);
	open_on(original, NULL);
	for (unsigned i = 0; i < ATOMS; i++) {
		pointer = append(ENGINE_CLASS_LOG, atom_size(i), (uint8_t)i);
		offsets[i] = pointer.offset;
		log_uuid = pointer.segment;
	}
	meta_uuid = append(ENGINE_CLASS_META, 100, 1).segment;
	memset(noise, 0xff, sizeof(noise));
	struct iovec iov = {.iov_base = noise, .iov_len = sizeof(noise)};
	ck_assert_int_eq(engine_segment_create(e, &foreign_uuid, &segment), 0);
	ck_assert_int_eq(engine_segment_append(e, segment, &iov, 1, NULL), 0);
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(
			engine_root_publish(e, i, &pointer, "payload", 7, &original_root, NULL), 0);
	remote_model_copy(&model, e, segment);
	remote_model_copy(&model, e, engine_segment_find(e, &log_uuid));
	remote_model_copy(&model, e, engine_segment_find(e, &meta_uuid));
	close_engine();
	disk_free(original);
}

static int inherit(const struct uuid *uuid, enum engine_class class)
{
	struct engine_inherited inherited = {.uuid = *uuid,
					     .class = class,
					     .length = remote_model_find(&model, uuid)->length,
					     .node = 7,
					     .epoch = 3};
	return engine_inherit(e, &inherited, NULL);
}

static void inherit_all(void)
{
	ck_assert_int_eq(inherit(&log_uuid, ENGINE_CLASS_LOG), 0);
	ck_assert_int_eq(inherit(&meta_uuid, ENGINE_CLASS_META), 0);
	ck_assert_int_eq(inherit(&foreign_uuid, ENGINE_CLASS_FOREIGN), 0);
}

static void make_clone_on(struct disk *on)
{
	struct engine_format_options options = {.block_size = BLOCK};
	struct engine_options open_options = {.reader = &model.reader};
	disk = on;
	ck_assert_int_eq(engine_format(disk, &options, NULL), 0);
	open_on(disk, &open_options);
	inherit_all();
	ck_assert_int_eq(engine_make_clone(e, &original_root, NULL), 0);
}

static void setup(void)
{
	struct disk *memory;
	remote_model_init(&model);
	make_original();
	ck_assert_int_eq(disk_memory_new(1u << 30, &memory), 0);
	make_clone_on(memory);
}

static void teardown(void)
{
	engine_abandon(e);
	e = NULL;
	disk_free(disk);
	remote_model_done(&model);
}

static struct engine_segment *find(const struct uuid *uuid)
{
	struct engine_segment *segment = engine_segment_find(e, uuid);
	ck_assert_ptr_nonnull(segment);
	return segment;
}

static void check_bytes(const struct uuid *uuid)
{
	const struct remote_copy *copy = remote_model_find(&model, uuid);
	uint8_t *data = malloc(copy->length);
	size_t got;
	ck_assert_int_eq(engine_read(e, find(uuid), data, copy->length, 0, 0, &got, NULL), 0);
	ck_assert_uint_eq(got, copy->length);
	ck_assert_mem_eq(data, copy->data, got);
	free(data);
}

static void check_frames(void)
{
	struct engine_segment *segment = find(&log_uuid);
	struct engine_frame frames[7];
	unsigned seen = 0;
	uint64_t from = 0;
	size_t n = 1;
	while (n) {
		ck_assert_int_eq(engine_frames(e, segment, from, frames, 7, &n), 0);
		for (size_t i = 0; i < n; i++, seen++) {
			ck_assert_uint_lt(seen, ATOMS);
			ck_assert_uint_eq(frames[i].offset, offsets[seen]);
			ck_assert_uint_eq(frames[i].size, atom_size(seen));
			from = frames[i].offset + 1;
		}
	}
	ck_assert_uint_eq(seen, ATOMS);
}

static void check_root(uint64_t seq)
{
	struct engine_root root;
	uint64_t first, last;
	ck_assert_int_eq(engine_root_get(e, original_root.seq, &root), 0);
	ck_assert_mem_eq(&root, &original_root, sizeof(root));
	ck_assert_int_eq(engine_root_get(e, original_root.seq - 1, &root), -ENOENT);
	engine_root_range(e, &first, &last);
	ck_assert_uint_eq(first, original_root.seq);
	ck_assert_uint_eq(last, seq);
	ck_assert_int_eq(engine_root_current(e, &root), 0);
	ck_assert_uint_eq(root.seq, seq);
}

static void check_info(void)
{
	struct engine_segment_info info;
	engine_segment_info(e, find(&log_uuid), &info);
	ck_assert(info.inherited);
	ck_assert(info.final);
	ck_assert_int_eq(info.class, ENGINE_CLASS_LOG);
	ck_assert_int_eq(info.state, ENGINE_SEGMENT_SEALED);
	ck_assert_uint_eq(info.node, 7);
	ck_assert_uint_eq(info.epoch, 3);
	ck_assert_uint_eq(info.length, remote_model_find(&model, &log_uuid)->length);
	ck_assert_uint_eq(info.remote, info.length);
	ck_assert_uint_eq(info.physical, 0);
}

START_TEST(a_clone_shows_the_original_and_is_read_only)
{
	struct engine_stats stats;
	struct reterr err = {0};
	for (unsigned round = 0; round < 2; round++) {
		close_engine();
		model.reads = 0;
		open_clone(false);
		ck_assert_uint_eq(model.reads, 0); /* at once, with no request */
		engine_stats(e, &stats);
		ck_assert(stats.clone);
		ck_assert(!stats.copied);
		ck_assert(!stats.damaged);
		ck_assert(stats.read_only);
		ck_assert_ptr_nonnull(strstr(stats.read_only_reason, "--take-over"));
		ck_assert_uint_eq(stats.bytes_remote, stats.bytes_stored);
		check_info();
		check_root(original_root.seq);
		check_bytes(&log_uuid);
		check_bytes(&meta_uuid);
		check_bytes(&foreign_uuid);
		check_frames();
		ck_assert_int_eq(inherit(&log_uuid, ENGINE_CLASS_LOG), -EROFS);
		ck_assert_int_eq(engine_root_publish(e, original_root.seq, &original_root.pointer,
						     NULL, 0, NULL, &err),
				 -EROFS);
	}
}
END_TEST

START_TEST(taken_over_it_goes_on_with_segments_of_its_own)
{
	struct engine_stats stats;
	struct engine_root root;
	struct engine_pointer pointer;
	uint8_t byte = 1;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};

	close_engine();
	open_clone(true);
	engine_stats(e, &stats);
	ck_assert(!stats.clone && !stats.read_only);
	ck_assert_int_eq(engine_segment_append(e, find(&foreign_uuid), &iov, 1, NULL), -EROFS);
	pointer = append(ENGINE_CLASS_META, 10, 9);
	ck_assert(!uuid_equal(&pointer.segment, &meta_uuid));
	pointer = append(ENGINE_CLASS_LOG, 10, 9);
	ck_assert(!uuid_equal(&pointer.segment, &log_uuid));
	ck_assert_int_eq(engine_root_publish(e, original_root.seq, &pointer, NULL, 0, &root, NULL),
			 0);
	ck_assert_uint_eq(root.seq, original_root.seq + 1);
	/* Back to what is elsewhere. */
	ck_assert_int_eq(
		engine_root_publish(e, root.seq, &original_root.pointer, NULL, 0, &root, NULL), 0);
	close_engine();

	open_clone(false); /* once is enough */
	engine_stats(e, &stats);
	ck_assert(!stats.clone && !stats.read_only);
	check_root(original_root.seq + 2);
	check_bytes(&foreign_uuid);
	engine_abandon(e);
	open_clone(false);
	engine_stats(e, &stats);
	ck_assert(!stats.damaged);
	check_root(original_root.seq + 2);
}
END_TEST

START_TEST(a_single_frame_needs_little_where_the_reader_knows_more)
{
	struct engine_segment *segment = find(&log_uuid);
	struct engine_frame frame;

	model.block_size = 1 << 20;
	for (unsigned i = ATOMS; i-- > 0;) {
		ck_assert_int_eq(engine_frame_at(e, segment, offsets[i], &frame), 0);
		ck_assert_uint_eq(frame.size, atom_size(i));
		ck_assert_uint_eq(frame.format, ENGINE_FORMAT_JSON);
		ck_assert_int_eq(engine_frame_at(e, segment, offsets[i] + 1, &frame), -ENOENT);
	}
	ck_assert_uint_gt(model.hints, 0);
	ck_assert_int_eq(engine_frame_at(e, segment, 1u << 30, &frame), -ENOENT);

	close_engine();
	open_clone(false);
	segment = find(&log_uuid);
	model.bytes_read = 0;
	ck_assert_int_eq(engine_frame_at(e, segment, offsets[ATOMS - 1], &frame), 0);
	ck_assert_uint_lt(model.bytes_read, 2 << 20);
}
END_TEST

START_TEST(an_enumeration_asks_for_no_hints)
{
	model.block_size = 1 << 20;
	model.hints = 0;
	check_frames();
	ck_assert_uint_le(model.hints, 1);
}
END_TEST

START_TEST(a_reader_that_lies_or_fails_is_an_error_not_a_wild_read)
{
	struct engine_segment *segment = find(&log_uuid);
	struct engine_frame frame;
	model.frame_lies = true;
	ck_assert_int_eq(engine_frame_at(e, segment, offsets[9], &frame), -EBADMSG);
	model.frame_lies = false;
	model.read_error = -ETIMEDOUT;
	ck_assert_int_eq(engine_frame_at(e, segment, offsets[9], &frame), -ETIMEDOUT);
	model.read_error = 0;
	ck_assert_int_eq(engine_frame_at(e, segment, offsets[9], &frame), 0);
}
END_TEST

START_TEST(bytes_that_are_no_frames_show_none)
{
	struct engine_frame frames[3];
	size_t n;
	ck_assert_int_eq(engine_frames(e, find(&foreign_uuid), 0, frames, 3, &n), 0);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(engine_frame_at(e, find(&foreign_uuid), 0, &frames[0]), -ENOENT);
}
END_TEST

START_TEST(a_segment_that_ends_in_the_middle_of_a_frame)
{
	const struct remote_copy *copy = remote_model_find(&model, &log_uuid);
	struct engine_inherited inherited = {
		.uuid = {{5}}, .class = ENGINE_CLASS_LOG, .length = offsets[4] + 5};
	struct engine_frame frames[10];
	size_t n;
	model.copies[model.copy_count++] = (struct remote_copy){
		.uuid = {{5}}, .data = malloc(inherited.length), .length = inherited.length};
	memcpy(model.copies[model.copy_count - 1].data, copy->data, inherited.length);
	ck_assert_int_eq(engine_inherit(e, &inherited, NULL), 0);
	struct engine_segment *segment = find(&inherited.uuid);
	ck_assert_int_eq(engine_frames(e, segment, 0, frames, 10, &n), 0);
	ck_assert_uint_eq(n, 4);
	ck_assert_int_eq(engine_frame_at(e, segment, offsets[4], &frames[0]), -ENOENT);
}
END_TEST

START_TEST(sums_are_those_of_the_bytes)
{
	const struct remote_copy *copy = remote_model_find(&model, &log_uuid);
	struct engine_sum sums[20];
	size_t n;
	ck_assert_int_eq(engine_sums(e, find(&log_uuid), 0, UINT64_MAX, sums, 20, &n), 0);
	ck_assert_uint_eq(n, (copy->length + ENGINE_SUM_SIZE - 1) / ENGINE_SUM_SIZE);
	for (size_t i = 0; i < n; i++) {
		struct hash hash = hash_of(copy->data + sums[i].offset, sums[i].length);
		ck_assert(hash_equal(&hash, &sums[i].hash));
	}
}
END_TEST

START_TEST(what_cannot_be_inherited_is_refused)
{
	struct engine_inherited wrong = {.uuid = {{1}}, .length = 1};
	ck_assert_int_eq(inherit(&log_uuid, ENGINE_CLASS_LOG), -EEXIST);
	wrong.class = (enum engine_class)4;
	ck_assert_int_eq(engine_inherit(e, &wrong, NULL), -EINVAL);
	wrong.class = ENGINE_CLASS_LOG;
	wrong.length = 0;
	ck_assert_int_eq(engine_inherit(e, &wrong, NULL), -EINVAL);
	wrong.length = UINT64_MAX;
	ck_assert_int_eq(engine_inherit(e, &wrong, NULL), -EINVAL);
	wrong.length = 1;
	wrong.uuid = (struct uuid){{0}};
	ck_assert_int_eq(engine_inherit(e, &wrong, NULL), -EINVAL);

	ck_assert_int_eq(engine_make_clone(e, &original_root, NULL),
			 -ENOTEMPTY); /* it has a root */
}
END_TEST

START_TEST(no_memory_inherits_nothing_by_half)
{
	bool failed = true;
	for (unsigned n = 1; failed; n++) {
		struct engine_inherited more = {
			.uuid = {{9, (uint8_t)n}}, .class = ENGINE_CLASS_LOG, .length = 5};
		fault_alloc_fail(n);
		int r = engine_inherit(e, &more, NULL);
		failed = fault_alloc_stop();
		ck_assert(r == 0 || r == -ENOMEM);
		ck_assert((engine_segment_find(e, &more.uuid) != NULL) == (r == 0));
		if (r < 0)
			ck_assert_int_eq(engine_inherit(e, &more, NULL), 0);
		ck_assert_ptr_nonnull(engine_segment_find(e, &more.uuid));
	}
	struct engine_stats before, after;
	engine_stats(e, &before);
	close_engine();
	open_clone(false);
	engine_stats(e, &after);
	ck_assert_uint_eq(before.segments, after.segments);
	ck_assert_uint_eq(before.bytes_remote, after.bytes_remote);
}
END_TEST

START_TEST(only_an_empty_store_becomes_a_clone)
{
	struct engine_root root = original_root;
	struct disk *memory;
	teardown();
	remote_model_init(&model);
	make_original();
	ck_assert_int_eq(disk_memory_new(1u << 30, &memory), 0);
	disk = memory;
	ck_assert_int_eq(engine_format(disk, NULL, NULL), 0);
	open_clone(false);
	ck_assert_int_eq(engine_make_clone(e, &root, NULL), -EINVAL); /* no such segment */
	inherit_all();
	root.pointer.offset = remote_model_find(&model, &log_uuid)->length;
	ck_assert_int_eq(engine_make_clone(e, &root, NULL), -EINVAL);
	root = original_root;
	root.seq = 0;
	ck_assert_int_eq(engine_make_clone(e, &root, NULL), -EINVAL);
	(void)append(ENGINE_CLASS_LOG, 10, 1);
	ck_assert_int_eq(engine_make_clone(e, &original_root, NULL), -ENOTEMPTY);
	close_engine();
	open_clone(false); /* and none of that made it one */
	struct engine_stats stats;
	engine_stats(e, &stats);
	ck_assert(!stats.read_only);
}
END_TEST

START_TEST(a_clone_without_a_root_and_one_with_a_late_one)
{
	static const uint64_t seqs[] = {0, 1, 2, 65537, 65538, 1000000007};
	for (size_t i = 0; i < sizeof(seqs) / sizeof(*seqs); i++) {
		struct engine_root root = original_root, found;
		struct disk *memory;
		engine_abandon(e);
		disk_free(disk);
		ck_assert_int_eq(disk_memory_new(1u << 30, &memory), 0);
		disk = memory;
		ck_assert_int_eq(engine_format(disk, NULL, NULL), 0);
		open_clone(false);
		inherit_all();
		root.seq = seqs[i];
		ck_assert_int_eq(engine_make_clone(e, seqs[i] ? &root : NULL, NULL), 0);
		if (i % 2)
			close_engine();
		else
			engine_abandon(e);
		open_clone(true);
		struct engine_stats stats;
		engine_stats(e, &stats);
		ck_assert_msg(!stats.read_only, "%s", stats.read_only_reason);
		ck_assert_uint_eq(stats.roots_last, seqs[i]);
		ck_assert_int_eq(engine_root_publish(e, seqs[i], &original_root.pointer, NULL, 0,
						     &found, NULL),
				 0);
		ck_assert_uint_eq(found.seq, seqs[i] + 1);
		close_engine();
		open_clone(false);
		ck_assert_int_eq(engine_root_get(e, seqs[i] + 1, &found), 0);
	}
}
END_TEST

static struct engine_fsck_result check(bool repair)
{
	struct engine_fsck_result result;
	struct engine_fsck_options options = {.deep = true, .repair = repair};
	ck_assert_int_eq(engine_fsck(disk, &options, &result, NULL), 0);
	return result;
}

START_TEST(fsck_has_nothing_against_a_clone)
{
	struct engine_stats stats;
	engine_stats(e, &stats);
	close_engine();
	struct engine_fsck_result result = check(false);
	ck_assert_uint_eq(result.problems, 0);
	ck_assert_uint_eq(result.segments, 3);
	ck_assert_uint_eq(result.roots, 1);
	ck_assert_uint_eq(result.bytes_remote, stats.bytes_stored);
	ck_assert_uint_eq(result.bytes_unverified, stats.bytes_stored);
	open_clone(false);
}
END_TEST

START_TEST(inherited_segments_are_removed_like_others)
{
	close_engine();
	open_clone(true);
	ck_assert_int_eq(engine_segment_remove(e, find(&meta_uuid)), 0);
	ck_assert_ptr_null(engine_segment_find(e, &meta_uuid));
	close_engine();
	open_clone(false);
	ck_assert_ptr_null(engine_segment_find(e, &meta_uuid));
	check_bytes(&log_uuid);
	struct engine_part part;
	ck_assert_uint_eq(engine_parts(e, &part, 1), 0);
	ck_assert_int_eq(engine_evict(e, find(&log_uuid), 0, NULL), -ENOENT);
}
END_TEST

/* The power fails while the clone is made: what was acknowledged is there, and nobody writes to it. */
START_TEST(a_power_cut_while_a_clone_is_made)
{
	struct engine_format_options format = {.block_size = BLOCK};
	bool done = false;
	engine_abandon(e);
	disk_free(disk);
	for (uint64_t cut = 0; !done; cut++) {
		unsigned inherited = 0;
		struct disk *sim = sim_disk_new(cut);
		disk = sim;
		ck_assert_int_eq(engine_format(disk, &format, NULL), 0);
		open_clone(false);
		sim_disk_cut_after(sim, cut);
		if (inherit(&log_uuid, ENGINE_CLASS_LOG) == 0)
			inherited++;
		if (inherit(&foreign_uuid, ENGINE_CLASS_FOREIGN) == 0)
			inherited++;
		done = engine_make_clone(e, &original_root, NULL) == 0;
		engine_abandon(e);
		disk = sim_disk_crash(sim, cut + 1);
		disk_free(sim);
		open_clone(false);
		struct engine_stats stats;
		engine_stats(e, &stats);
		ck_assert_uint_ge(stats.segments, inherited);
		/* Half a clone may read as damaged; it is never written to. */
		ck_assert(!stats.damaged || stats.clone);
		ck_assert(!done || (stats.clone && !stats.damaged));
		ck_assert(stats.clone || stats.roots_last == 0);
		ck_assert(stats.clone == stats.read_only);
		if (inherited)
			check_bytes(&log_uuid);
		if (done)
			check_root(original_root.seq);
		engine_abandon(e);
		disk_free(disk);
	}
	ck_assert_int_eq(disk_memory_new(1u << 30, &disk), 0);
	make_clone_on(disk);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("inherit");
	TCase *tcase = tcase_create("inherit");

	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, a_clone_shows_the_original_and_is_read_only);
	tcase_add_test(tcase, taken_over_it_goes_on_with_segments_of_its_own);
	tcase_add_test(tcase, a_single_frame_needs_little_where_the_reader_knows_more);
	tcase_add_test(tcase, an_enumeration_asks_for_no_hints);
	tcase_add_test(tcase, a_reader_that_lies_or_fails_is_an_error_not_a_wild_read);
	tcase_add_test(tcase, bytes_that_are_no_frames_show_none);
	tcase_add_test(tcase, a_segment_that_ends_in_the_middle_of_a_frame);
	tcase_add_test(tcase, sums_are_those_of_the_bytes);
	tcase_add_test(tcase, what_cannot_be_inherited_is_refused);
	tcase_add_test(tcase, no_memory_inherits_nothing_by_half);
	tcase_add_test(tcase, only_an_empty_store_becomes_a_clone);
	tcase_add_test(tcase, a_clone_without_a_root_and_one_with_a_late_one);
	tcase_add_test(tcase, fsck_has_nothing_against_a_clone);
	tcase_add_test(tcase, inherited_segments_are_removed_like_others);
	tcase_add_test(tcase, a_power_cut_while_a_clone_is_made);
	suite_add_tcase(suite, tcase);

	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
