/* Parts that were given up: their bytes come back verified, and nothing else misses them. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/disk.h"
#include "engine/engine.h"
#include "tests/lib/fake_clock.h"
#include "tests/lib/fault_alloc.h"
#include "tests/lib/remote_model.h"
#include "tests/lib/sim_disk.h"

enum { BLOCK = 64 << 10, PART = 64 * BLOCK, ATOM = 65536 - 9, ATOMS = 160 };

static struct disk *disk;
static struct engine *e;
static struct remote_model model;
static struct fake_clock fake;

static int try_open(bool with_reader)
{
	struct reterr err = {0};
	struct engine_options options = {.clock = &fake.clock,
					 .reader = with_reader ? &model.reader : NULL,
					 .flush_interval_ms = 100000};
	return engine_open(disk, &options, &err, &e);
}

static void open_engine(bool with_reader)
{
	ck_assert_int_eq(try_open(with_reader), 0);
}

static void close_engine(void)
{
	struct reterr err = {0};
	int r = engine_close(e, &err);
	ck_assert_msg(r == 0, "%d %s", r, err.text);
	e = NULL;
}

static void setup_on(struct disk *new)
{
	struct engine_format_options options = {.block_size = BLOCK};
	disk = new;
	ck_assert_int_eq(engine_format(disk, &options, NULL), 0);
	remote_model_init(&model);
	fake_clock_init(&fake);
	open_engine(true);
}

static void setup(void)
{
	struct disk *memory;
	ck_assert_int_eq(disk_memory_new(1u << 30, &memory), 0);
	setup_on(memory);
}

static void teardown(void)
{
	engine_abandon(e);
	e = NULL;
	disk_free(disk);
	remote_model_done(&model);
}

/* ---- Segments ---- */

static uint8_t byte_at(uint64_t offset)
{
	return (uint8_t)((offset * 0x9E3779B97F4A7C15u) >> 56);
}

/* COUNT atoms of SIZE bytes each, and their segment. */
static struct engine_segment *append_atoms(unsigned count, size_t size)
{
	struct engine_pointer pointer = {0};
	uint8_t *payload = malloc(size);
	for (unsigned i = 0; i < count; i++) {
		for (size_t k = 0; k < size; k++)
			payload[k] = byte_at(i * size + k);
		struct iovec iov = {.iov_base = payload, .iov_len = size};
		ck_assert_int_eq(engine_append(e, ENGINE_CLASS_LOG, 0, &iov, 1, &pointer), 0);
	}
	free(payload);
	return engine_segment_find(e, &pointer.segment);
}

/* Our own, of two parts and a bit, all sealed and final. */
static struct engine_segment *make_final(void)
{
	struct engine_segment *segment = append_atoms(ATOMS, ATOM);
	engine_roll(e, ENGINE_CLASS_LOG);
	ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
	struct engine_segment_info info;
	engine_segment_info(e, segment, &info);
	ck_assert(info.final);
	ck_assert_uint_gt(info.length, 2 * PART);
	remote_model_copy(&model, e, segment);
	return segment;
}

static int append_foreign(struct engine_segment *segment, uint64_t size)
{
	struct engine_segment_info info;
	uint8_t *data = malloc(size);
	engine_segment_info(e, segment, &info);
	for (uint64_t i = 0; i < size; i++)
		data[i] = byte_at(info.length + i);
	struct iovec iov = {.iov_base = data, .iov_len = size};
	int r = engine_segment_append(e, segment, &iov, 1, NULL);
	free(data);
	return r;
}

static const struct uuid foreign_uuid = {{0xf0, 1}};

static struct engine_segment *make_foreign(uint64_t size)
{
	struct engine_segment *segment;
	ck_assert_int_eq(engine_segment_create(e, &foreign_uuid, &segment), 0);
	ck_assert_int_eq(append_foreign(segment, size), 0);
	return segment;
}

static void check_bytes(struct engine_segment *segment, uint64_t from, size_t size, unsigned flags)
{
	const struct remote_copy *copy = remote_model_find(&model, engine_segment_uuid(segment));
	struct reterr err = {0};
	uint8_t *data = malloc(size + 1);
	size_t got;
	int r = engine_read(e, segment, data, size, from, flags, &got, &err);
	ck_assert_msg(r == 0, "%d %s", r, err.text);
	ck_assert_uint_eq(got, size);
	ck_assert_mem_eq(data, copy->data + from, size);
	free(data);
}

static void check_all(struct engine_segment *segment)
{
	const struct remote_copy *copy = remote_model_find(&model, engine_segment_uuid(segment));
	check_bytes(segment, 0, (size_t)copy->length, 0);
}

static int read_byte(struct engine_segment *segment, uint64_t at, struct reterr *err)
{
	uint8_t byte;
	size_t got;
	return engine_read(e, segment, &byte, 1, at, 0, &got, err);
}

static bool has_file(const char *dir, struct engine_segment *segment, uint64_t start,
		     const char *suffix)
{
	char text[UUID_TEXT_LENGTH + 1], path[DISK_PATH_MAX];
	struct disk_file *file;
	(void)snprintf(path, sizeof(path), "%s/%s/%020llu%s", dir,
		       uuid_format(engine_segment_uuid(segment), text), (unsigned long long)start,
		       suffix);
	int r = disk_open(disk, path, DISK_READ, &file);
	if (r == 0)
		disk_close(file);
	return r == 0;
}

static uint64_t remote_of(struct engine_segment *segment)
{
	struct engine_segment_info info;
	engine_segment_info(e, segment, &info);
	return info.remote;
}

static struct engine_segment *again(const struct uuid *uuid)
{
	struct engine_segment *segment = engine_segment_find(e, uuid);
	ck_assert_ptr_nonnull(segment);
	return segment;
}

/* ---- Tests ---- */

START_TEST(an_evicted_part_is_gone_and_reads_as_before)
{
	struct engine_segment *segment = make_final();
	uint64_t used = engine_disk_used(e);
	struct engine_stats stats;

	check_all(segment);
	ck_assert_uint_eq(model.reads, 0);
	ck_assert_int_eq(engine_evict(e, segment, PART, NULL), 0);
	ck_assert(!has_file("segments", segment, PART, ""));
	ck_assert(has_file("sealed", segment, PART, ".remote"));
	ck_assert(has_file("sealed", segment, PART, ".table"));
	ck_assert_uint_eq(remote_of(segment), PART);
	engine_stats(e, &stats);
	ck_assert_uint_eq(stats.bytes_remote, PART);
	ck_assert_uint_eq(stats.parts_evicted, 1);
	ck_assert_uint_le(engine_disk_used(e), used - PART);

	check_all(segment);
	ck_assert_uint_gt(model.reads, 0);
	ck_assert_int_eq(engine_evict(e, segment, PART, NULL), -ENOENT);
	ck_assert_int_eq(engine_evict(e, segment, 5, NULL), -ENOENT);
	ck_assert_int_eq(engine_evict(e, segment, 0, NULL), 0);
	ck_assert_int_eq(engine_evict(e, segment, 2 * PART, NULL), 0);
	check_all(segment);
}
END_TEST

START_TEST(long_reads_are_few_and_short_ones_are_cached)
{
	struct engine_segment *segment = make_final();
	for (uint64_t start = 0; start < 3 * PART; start += PART)
		ck_assert_int_eq(engine_evict(e, segment, start, NULL), 0);
	check_bytes(segment, 0, PART, 0);
	ck_assert_uint_eq(model.reads, 1);
	ck_assert_uint_eq(model.read_largest, PART);
	check_bytes(segment, 1 << 20, 1 << 20, 0);
	ck_assert_uint_eq(model.reads, 2);
	check_bytes(segment, 128 << 10, 128 << 10, 0);
	ck_assert_uint_eq(model.reads, 3);
	check_bytes(segment, PART + 1000, 100, 0);
	ck_assert_uint_eq(model.reads, 4);
	check_bytes(segment, PART + 2000, 100, 0);
	ck_assert_uint_eq(model.reads, 4);
	check_bytes(segment, PART + 2000, 100, ENGINE_READ_DISK);
	ck_assert_uint_eq(model.reads, 5);
}
END_TEST

START_TEST(a_reader_may_bring_little_at_once)
{
	struct engine_segment *segment = make_final();
	ck_assert_int_eq(engine_evict(e, segment, 0, NULL), 0);
	model.read_size_max = 7777;
	check_all(segment);
}
END_TEST

START_TEST(what_comes_back_wrong_or_not_at_all_is_an_error)
{
	struct engine_segment *segment = make_final();
	struct reterr err = {0};
	ck_assert_int_eq(engine_evict(e, segment, 0, NULL), 0);

	model.flip_at = 70000;
	ck_assert_int_eq(read_byte(segment, 65536, &err), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(err.text, "checksum"));
	model.flip_at = UINT64_MAX;

	model.read_error = -ENOENT;
	ck_assert_int_eq(read_byte(segment, 65536, &err), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(err.text, "the model says"));
	model.read_error = -ETIMEDOUT;
	ck_assert_int_eq(read_byte(segment, 65536, &err), -ETIMEDOUT);
	model.read_error = -ECANCELED;
	ck_assert_int_eq(read_byte(segment, 65536, &err), -ECANCELED);
	model.read_error = 0;
	ck_assert_int_eq(read_byte(segment, 65536, &err), 0);

	struct engine_stats stats;
	engine_stats(e, &stats);
	ck_assert(!stats.read_only);
}
END_TEST

START_TEST(without_a_reader_the_error_names_the_cloud)
{
	struct engine_segment *segment = make_final();
	struct uuid uuid = *engine_segment_uuid(segment);
	struct reterr err = {0};
	ck_assert_int_eq(engine_evict(e, segment, 0, NULL), 0);
	close_engine();
	open_engine(false);
	segment = again(&uuid);
	ck_assert_uint_eq(remote_of(segment), PART); /* known at once, without a read */
	ck_assert_int_eq(read_byte(segment, 5, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "cloud"));
	check_bytes(segment, PART, 1000, 0);
}
END_TEST

START_TEST(atoms_and_sums_of_an_evicted_part_are_local)
{
	struct engine_segment *segment = make_final();
	struct engine_frame frames[200];
	struct engine_sum before[10], after[10];
	size_t n;

	ck_assert_int_eq(engine_sums(e, segment, 0, 9 << 20, before, 9, &n), 0);
	ck_assert_uint_eq(n, 9);
	for (uint64_t start = 0; start < 3 * PART; start += PART)
		ck_assert_int_eq(engine_evict(e, segment, start, NULL), 0);
	ck_assert_int_eq(engine_frames(e, segment, 0, frames, 200, &n), 0);
	ck_assert_uint_eq(n, ATOMS);
	ck_assert_int_eq(engine_sums(e, segment, 0, 9 << 20, after, 9, &n), 0);
	ck_assert_uint_eq(n, 9);
	for (size_t i = 0; i < n; i++)
		ck_assert(hash_equal(&before[i].hash, &after[i].hash));
	ck_assert_uint_eq(model.reads, 0);
	ck_assert_int_eq(engine_frame_at(e, segment, frames[60].offset, &frames[0]), 0);
	ck_assert_uint_eq(frames[0].size, ATOM);
}
END_TEST

START_TEST(what_is_open_or_needed_stays)
{
	struct engine_segment *segment = make_foreign(PART + (300 << 10));
	struct reterr err = {0};
	ck_assert_int_eq(engine_sync(e, NULL), 0);
	ck_assert_int_eq(engine_evict(e, segment, PART, &err), -EBUSY);
	ck_assert_ptr_nonnull(strstr(err.text, "not sealed"));
	ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
	/* Its 300 KiB are all of the last MiB. */
	ck_assert_int_eq(engine_evict(e, segment, PART, &err), -EBUSY);
	ck_assert_ptr_nonnull(strstr(err.text, "append"));
	ck_assert_int_eq(engine_evict(e, segment, 0, &err), 0);
}
END_TEST

/* The end of what can grow stays: no append, seal or recovery needs the cloud, or asks it. */
START_TEST(an_evicted_foreign_segment_grows_without_the_cloud)
{
	static const uint64_t sizes[] = {PART - 5, PART, PART + 5, 3 * PART / 2, (1 << 20) + 1};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		teardown();
		setup();
		struct engine_segment *segment = make_foreign(sizes[i]);
		uint64_t last = (sizes[i] - 1) / PART * PART;
		ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
		remote_model_copy(&model, e, segment);
		for (uint64_t start = 0; start <= last; start += PART) {
			int r = engine_evict(e, segment, start, NULL);
			ck_assert(r == 0 || (r == -EBUSY && start == last));
		}
		ck_assert_uint_gt(remote_of(segment), 0);
		close_engine();

		open_engine(false);
		segment = again(&foreign_uuid);
		ck_assert_int_eq(append_foreign(segment, 3000), 0);
		ck_assert_int_eq(engine_sync(e, NULL), 0);
		engine_abandon(e);
		open_engine(false); /* recovery, and sealing of the new part */
		segment = again(&foreign_uuid);
		ck_assert_int_eq(append_foreign(segment, 2 << 20), 0);
		ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
		struct engine_stats stats;
		engine_stats(e, &stats);
		ck_assert(!stats.read_only);
		close_engine();

		model.reads = 0;
		open_engine(true);
		segment = again(&foreign_uuid);
		uint64_t length = sizes[i] + 3000 + (2 << 20);
		uint8_t *data = malloc(length);
		size_t got;
		ck_assert_int_eq(engine_read(e, segment, data, length, 0, 0, &got, NULL), 0);
		ck_assert_uint_eq(got, length);
		for (uint64_t k = 0; k < length; k++)
			if (data[k] != byte_at(k))
				ck_abort_msg("byte %llu", (unsigned long long)k);
		/* The sums of the MiB that several parts have are right, too. */
		struct engine_sum sums[16];
		ck_assert_int_eq(engine_sums(e, segment, 0, UINT64_MAX, sums, 16, &got), 0);
		for (size_t k = 0; k < got; k++) {
			struct hash hash = hash_of(data + sums[k].offset, sums[k].length);
			ck_assert(hash_equal(&hash, &sums[k].hash));
		}
		free(data);
	}
}
END_TEST

START_TEST(a_frame_header_across_the_end_of_an_evicted_part)
{
	for (unsigned over = 1; over < ENGINE_FRAME_HEADER_SIZE; over++) {
		teardown();
		setup();
		struct engine_segment *segment;
		uint8_t *frame = calloc(1, PART), header[ENGINE_FRAME_HEADER_SIZE] = {1};
		/* A frame that leaves room for OVER bytes of the next one's header. */
		uint64_t size = (1u << 20) - ENGINE_FRAME_HEADER_SIZE - over;
		memcpy(frame, &size, sizeof(size));
		struct iovec iov[2] = {{frame, (1u << 20) - over}, {header, over}};
		ck_assert_int_eq(engine_segment_create(e, &foreign_uuid, &segment), 0);
		ck_assert_int_eq(engine_segment_append(e, segment, iov, 1, NULL), 0);
		ck_assert_int_eq(engine_segment_append(e, segment, &iov[1], 1, NULL), 0);
		ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
		remote_model_copy(&model, e, segment);
		ck_assert_int_eq(engine_evict(e, segment, 0, NULL), 0);
		close_engine();
		open_engine(false);
		segment = again(&foreign_uuid);
		iov[0] = (struct iovec){header + over, ENGINE_FRAME_HEADER_SIZE - over};
		iov[1] = (struct iovec){frame, 1};
		ck_assert_int_eq(engine_segment_append(e, segment, iov, 2, NULL), 0);
		engine_abandon(e);
		open_engine(false);
		segment = again(&foreign_uuid);
		ck_assert_int_eq(engine_segment_append(e, segment, iov, 2, NULL) < 0, 0);
		ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
		struct engine_segment_info info;
		engine_segment_info(e, segment, &info);
		ck_assert(info.state == ENGINE_SEGMENT_SEALED);
		free(frame);
	}
}
END_TEST

static int unlink_of(struct engine_segment *segment, uint64_t start)
{
	char text[UUID_TEXT_LENGTH + 1], path[DISK_PATH_MAX];
	(void)snprintf(path, sizeof(path), "segments/%s/%020llu",
		       uuid_format(engine_segment_uuid(segment), text), (unsigned long long)start);
	return disk_unlink(disk, path);
}

START_TEST(a_missing_part_without_a_note_is_damage)
{
	struct engine_segment *segment = make_final();
	struct uuid uuid = *engine_segment_uuid(segment);
	struct reterr err = {0};
	ck_assert_int_eq(unlink_of(segment, PART), 0);
	ck_assert_int_eq(engine_evict(e, segment, 0, NULL), 0); /* its neighbour is no excuse */
	close_engine();
	open_engine(true);
	segment = again(&uuid);
	ck_assert_int_eq(read_byte(segment, PART + 5, &err), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(err.text, "missing"));
	ck_assert_int_eq(engine_evict(e, segment, PART, &err), -EBADMSG);
	ck_assert_uint_eq(remote_of(segment), PART);
}
END_TEST

START_TEST(a_part_with_a_damaged_table_is_not_given_up)
{
	struct engine_segment *segment = make_final();
	struct uuid uuid = *engine_segment_uuid(segment);
	char text[UUID_TEXT_LENGTH + 1], path[DISK_PATH_MAX];
	struct disk_file *file;
	uint8_t wrong = 0xee;
	close_engine();
	(void)snprintf(path, sizeof(path), "sealed/%s/%020d.table", uuid_format(&uuid, text), PART);
	ck_assert_int_eq(disk_open(disk, path, DISK_WRITE, &file), 0);
	ck_assert_int_eq(disk_write_flush(file, &wrong, 1, 140), 0);
	disk_close(file);
	open_engine(true);
	segment = again(&uuid);
	ck_assert_int_eq(engine_evict(e, segment, PART, NULL), -EBADMSG);
	ck_assert(has_file("segments", segment, PART, ""));
}
END_TEST

/* ---- Which parts, and what is used ---- */

START_TEST(parts_come_by_the_time_of_their_last_use)
{
	struct engine_segment *segment = make_final();
	struct engine_part parts[8];
	uint8_t byte;
	size_t got;

	ck_assert_uint_eq(engine_parts(e, parts, 8), 3);
	for (unsigned i = 0; i < 3; i++) {
		static const uint64_t order[] = {PART, 0, 2 * PART};
		fake_clock_advance_ms(&fake, 10);
		ck_assert_int_eq(engine_read(e, segment, &byte, 1, order[i], 0, &got, NULL), 0);
	}
	ck_assert_uint_eq(engine_parts(e, parts, 8), 3);
	ck_assert_uint_eq(parts[0].start, PART);
	ck_assert_uint_eq(parts[1].start, 0);
	ck_assert_uint_eq(parts[2].start, 2 * PART);
	ck_assert_uint_eq(parts[0].size, PART);
	ck_assert_uint_eq(engine_parts(e, parts, 2), 2);
	ck_assert_uint_eq(parts[1].start, 0);
	ck_assert_uint_eq(engine_parts(e, parts, 1), 1);
	ck_assert_uint_eq(parts[0].start, PART);
	ck_assert_uint_eq(engine_parts(e, parts, 0), 0);
	ck_assert_int_eq(engine_evict(e, segment, PART, NULL), 0);
	ck_assert_uint_eq(engine_parts(e, parts, 8), 2);
	ck_assert_uint_eq(parts[0].start, 0);
}
END_TEST

struct usage {
	uint64_t bytes;
	char dir[DISK_PATH_MAX];
};

static int add_usage(void *arg, const char *name, bool is_dir)
{
	struct usage *usage = arg, sub;
	char path[DISK_PATH_MAX];
	struct disk_file *file;
	uint64_t size;
	(void)snprintf(path, sizeof(path), "%.90s%s%.90s", usage->dir, usage->dir[0] ? "/" : "",
		       name);
	if (is_dir) {
		sub.bytes = 0;
		(void)snprintf(sub.dir, sizeof(sub.dir), "%s", path);
		ck_assert_int_eq(disk_list(disk, path, add_usage, &sub), 0);
		usage->bytes += sub.bytes;
		return 0;
	}
	if (strcmp(name, "reserve") == 0 || strcmp(name, "spare") == 0)
		return 0;
	ck_assert_int_eq(disk_open(disk, path, DISK_READ, &file), 0);
	ck_assert_int_eq(disk_size(file, &size), 0);
	disk_close(file);
	usage->bytes += size;
	return 0;
}

START_TEST(what_is_used_is_about_what_the_disk_says)
{
	struct engine_segment *segment = make_final();
	for (unsigned round = 0; round < 3; round++) {
		struct usage usage = {0};
		uint64_t used = engine_disk_used(e);
		ck_assert_int_eq(disk_list(disk, "", add_usage, &usage), 0);
		ck_assert_uint_lt(used, usage.bytes + (64 << 10));
		ck_assert_uint_gt(used, usage.bytes - (64 << 10));
		if (round < 2)
			ck_assert_int_eq(engine_evict(e, segment, round * PART, NULL), 0);
	}
}
END_TEST

/* ---- Removal, check, repair ---- */

START_TEST(a_removed_segment_leaves_no_note)
{
	struct engine_segment *segment = make_final();
	ck_assert_int_eq(engine_evict(e, segment, 0, NULL), 0);
	ck_assert_int_eq(engine_segment_remove(e, segment), 0);
	ck_assert(!has_file("sealed", segment, 0, ".remote"));
	ck_assert_int_eq(engine_evict(e, segment, PART, NULL), -ENOENT);
	struct engine_stats stats;
	engine_stats(e, &stats);
	ck_assert_uint_eq(stats.bytes_remote, 0);
}
END_TEST

static void print_finding(void *arg, const struct reterr *finding, bool fixed)
{
	(void)arg;
	(void)fixed;
	(void)fprintf(stderr, "%s\n", finding->text);
}

static struct engine_fsck_result check(bool deep, bool repair, bool with_reader)
{
	struct engine_fsck_result result;
	struct engine_fsck_options options = {.deep = deep,
					      .repair = repair,
					      .found = print_finding,
					      .reader = with_reader ? &model.reader : NULL};
	ck_assert_int_eq(engine_fsck(disk, &options, &result, NULL), 0);
	return result;
}

START_TEST(fsck_knows_what_is_elsewhere)
{
	struct engine_segment *segment = make_final();
	struct engine_segment_info info;
	engine_segment_info(e, segment, &info);
	ck_assert_int_eq(engine_evict(e, segment, PART, NULL), 0);
	close_engine();

	struct engine_fsck_result result = check(false, false, false);
	ck_assert_uint_eq(result.problems, 0);
	ck_assert_uint_eq(result.parts, 3);
	ck_assert_uint_eq(result.parts_remote, 1);
	ck_assert_uint_eq(result.bytes_remote, PART);
	ck_assert_uint_eq(result.frames, ATOMS);
	result = check(true, false, false);
	ck_assert_uint_eq(result.problems, 0);
	ck_assert_uint_eq(result.bytes_unverified, PART);
	ck_assert_uint_eq(result.bytes_verified, info.length - PART);
	result = check(true, false, true);
	ck_assert_uint_eq(result.problems, 0);
	ck_assert_uint_eq(result.bytes_unverified, 0);
	ck_assert_uint_eq(result.bytes_verified, info.length);
	model.flip_at = PART + 100;
	result = check(true, false, true);
	ck_assert_uint_eq(result.problems, 1);
	open_engine(true);
}
END_TEST

static void overwrite(const char *path, uint64_t at)
{
	struct disk_file *file;
	uint8_t wrong[16] = {0xee, 0xee};
	ck_assert_int_eq(disk_open(disk, path, DISK_WRITE, &file), 0);
	ck_assert_int_eq(disk_write_flush(file, wrong, sizeof(wrong), at), 0);
	disk_close(file);
}

/* A catalogue of which nothing is left: the directories say what there is, notes included. */
START_TEST(repair_of_the_catalogue_finds_evicted_parts)
{
	struct engine_segment *segment = make_final();
	struct uuid uuid = *engine_segment_uuid(segment);
	for (uint64_t start = 0; start < 3 * PART; start += PART)
		ck_assert_int_eq(engine_evict(e, segment, start, NULL), 0);
	/* A first append that failed leaves this. */
	ck_assert_int_eq(disk_mkdir(disk, "segments/00000000-0000-4000-8000-000000000001"), 0);
	close_engine();
	overwrite("catalogue", 8);
	overwrite("catalogue", 4096);
	overwrite("catalogue", 4096 + 128);
	struct engine_fsck_result result = check(false, true, false);
	ck_assert_uint_eq(result.fixed, result.problems);
	ck_assert_uint_gt(result.problems, 0);

	model.reads = 0;
	open_engine(true);
	ck_assert_uint_eq(model.reads, 0);
	segment = again(&uuid);
	struct engine_segment_info info;
	engine_segment_info(e, segment, &info);
	ck_assert_uint_eq(info.remote, info.length);
	check_all(segment);
	struct engine_stats stats;
	engine_stats(e, &stats);
	ck_assert_uint_eq(stats.segments, 1);
	ck_assert(!stats.read_only);
	close_engine();
	open_engine(false); /* and it is noted in the new catalogue */
	ck_assert_uint_eq(remote_of(again(&uuid)), info.length);
}
END_TEST

START_TEST(repair_does_not_take_a_remote_part_with_a_bad_table_for_an_open_one)
{
	struct engine_segment *segment = make_final();
	struct uuid uuid = *engine_segment_uuid(segment);
	char text[UUID_TEXT_LENGTH + 1], path[DISK_PATH_MAX];
	ck_assert_int_eq(engine_evict(e, segment, PART, NULL), 0);
	close_engine();
	(void)snprintf(path, sizeof(path), "sealed/%s/%020d.table", uuid_format(&uuid, text), PART);
	overwrite(path, 140);
	struct engine_fsck_result result = check(false, true, false);
	ck_assert_uint_eq(result.problems, 1);
	ck_assert_uint_eq(result.fixed, 0);
	open_engine(true);
	segment = again(&uuid);
	check_bytes(segment, 0, PART, 0);
	check_bytes(segment, 2 * PART, 1000, 0);
	ck_assert_int_eq(read_byte(segment, PART, NULL), -EBADMSG);
}
END_TEST

START_TEST(a_note_of_a_wrong_size_is_damage)
{
	struct engine_segment *segment = make_foreign(3 * PART / 2);
	char text[UUID_TEXT_LENGTH + 1], path[DISK_PATH_MAX];
	struct disk_file *file;
	ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
	remote_model_copy(&model, e, segment);
	ck_assert_int_eq(engine_evict(e, segment, PART, NULL), 0);
	close_engine();
	(void)snprintf(path, sizeof(path), "sealed/%s/%020d.remote",
		       uuid_format(&foreign_uuid, text), PART);
	ck_assert_int_eq(disk_open(disk, path, DISK_WRITE, &file), 0);
	ck_assert_int_eq(disk_truncate(file, 100), 0);
	disk_close(file);
	ck_assert_uint_eq(check(false, false, false).problems, 1);
	open_engine(true);
	ck_assert_int_eq(read_byte(again(&foreign_uuid), PART, NULL), -EBADMSG);
}
END_TEST

/* ---- Together ---- */

static atomic_bool stop_reading;

static void *read_main(void *arg)
{
	struct engine_segment *segment = arg;
	const struct remote_copy *copy = remote_model_find(&model, engine_segment_uuid(segment));
	unsigned seed = 1;
	uint8_t *data = malloc(300000);
	while (!atomic_load(&stop_reading)) {
		size_t got, size = (size_t)rand_r(&seed) % 300000;
		uint64_t at = (uint64_t)rand_r(&seed) % (copy->length - size);
		ck_assert_int_eq(engine_read(e, segment, data, size, at, 0, &got, NULL), 0);
		ck_assert_mem_eq(data, copy->data + at, size);
	}
	free(data);
	return NULL;
}

START_TEST(parts_go_while_they_are_read)
{
	struct engine_segment *segments[4];
	pthread_t threads[4];
	atomic_store(&stop_reading, false);
	for (unsigned i = 0; i < 4; i++)
		segments[i] = make_final();
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, read_main, segments[i / 2]), 0);
	for (unsigned i = 0; i < 4; i++)
		for (uint64_t start = 0; start < 3 * PART; start += PART)
			ck_assert_int_eq(engine_evict(e, segments[i], start, NULL), 0);
	atomic_store(&stop_reading, true);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	/* Nobody keeps a file that is gone: what the disk in memory holds is what is named. */
	for (unsigned i = 0; i < 4; i++)
		ck_assert_uint_eq(
			remote_of(segments[i]),
			remote_model_find(&model, engine_segment_uuid(segments[i]))->length);
}
END_TEST

/* Of a full disk something can always be given up. */
START_TEST(parts_go_when_the_disk_is_full)
{
	struct disk_space space;
	teardown();
	setup_on(sim_disk_new(3));
	struct engine_segment *segment = make_final(), *foreign = make_foreign(2 * PART);
	ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
	remote_model_copy(&model, e, foreign);
	ck_assert_int_eq(disk->ops->space(disk, &space), 0);
	sim_disk_set_space(disk, space.total - space.available);
	ck_assert_int_eq(append_foreign(foreign, 1 << 20), -ENOSPC);
	ck_assert_int_eq(engine_evict(e, foreign, PART, NULL), 0);
	ck_assert_int_eq(engine_evict(e, segment, PART, NULL), 0);
	ck_assert_int_eq(append_foreign(foreign, 1 << 20), 0);
	check_all(segment);
	check_all(foreign);
}
END_TEST

START_TEST(no_memory_gives_nothing_up_by_half)
{
	struct engine_segment *segment = make_final();
	bool failed = true;
	unsigned n = 0;
	while (failed) {
		struct engine_part part;
		fault_alloc_fail(++n);
		int r = engine_evict(e, segment, PART, NULL);
		failed = fault_alloc_stop();
		ck_assert_msg(r == 0 || r == -ENOMEM || (r == -ENOENT && n > 1), "%d", r);
		check_all(segment);
		fault_alloc_fail(n);
		(void)engine_parts(e, &part, 1);
		(void)engine_disk_used(e);
		(void)fault_alloc_stop();
		struct engine_stats stats;
		engine_stats(e, &stats);
		ck_assert(!stats.read_only);
	}
	ck_assert_uint_gt(n, 3);
	ck_assert_uint_eq(remote_of(segment), PART);
}
END_TEST

static void *grow_main(void *arg)
{
	struct engine_segment *segment = arg;
	for (unsigned i = 0; i < 40; i++) {
		ck_assert_int_eq(append_foreign(segment, 1 << 20), 0);
		if (i % 4 == 3)
			ck_assert_int_eq(engine_seal(e, segment, NULL), 0);
	}
	atomic_store(&stop_reading, true);
	return NULL;
}

START_TEST(parts_go_while_their_segment_grows)
{
	struct engine_segment *segment = make_foreign(PART);
	pthread_t thread;
	atomic_store(&stop_reading, false);
	ck_assert_int_eq(pthread_create(&thread, NULL, grow_main, segment), 0);
	unsigned evicted = 0;
	while (!atomic_load(&stop_reading)) {
		struct engine_part parts[4];
		size_t n = engine_parts(e, parts, 4);
		for (size_t i = 0; i < n; i++) {
			int r = engine_evict(e, segment, parts[i].start, NULL);
			ck_assert(r == 0 || r == -EBUSY);
			evicted += r == 0;
		}
	}
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_uint_gt(evicted, 0);
	close_engine();
	open_engine(false);
	struct engine_segment_info info;
	engine_segment_info(e, again(&foreign_uuid), &info);
	ck_assert_uint_eq(info.length, PART + 40 * (1 << 20));
	ck_assert_uint_gt(info.remote, 0);
}
END_TEST

/* ---- The power fails ------------------------------------------------------------------------ */

/*
 * One final segment and a foreign one; their parts are given up one after the other, bytes come in
 * between. After every operation the power fails: what was acknowledged is there, here or noted.
 */
static bool work(struct uuid *own, uint64_t *foreign_length)
{
	struct engine_segment *segment = again(own), *foreign = again(&foreign_uuid);
	static const uint64_t starts[] = {PART, 0, 2 * PART};
	for (unsigned i = 0; i < 3; i++) {
		if (engine_evict(e, segment, starts[i], NULL) < 0)
			return false;
		int r = engine_evict(e, foreign, i == 1 ? PART : 0, NULL);
		if (r < 0 && r != -ENOENT)
			return false;
		if (append_foreign(foreign, 70000) < 0 || engine_sync(e, NULL) < 0)
			return false;
		*foreign_length += 70000;
		if (i == 1 && engine_seal(e, NULL, NULL) < 0)
			return false;
	}
	return true;
}

static void check_after(const struct uuid *own, uint64_t foreign_length, uint64_t own_length)
{
	struct reterr err = {0};
	struct engine_stats stats;
	uint8_t *data = malloc(3 * PART);
	size_t got;
	ck_assert_uint_eq(check(true, false, true).problems, 0);
	model.reads = 0;
	open_engine(true);
	ck_assert_uint_eq(model.reads, 0); /* opening needs no cloud */
	engine_stats(e, &stats);
	ck_assert_msg(!stats.read_only, "%s", stats.read_only_reason);
	check_bytes(again(own), 0, own_length, 0);
	struct engine_segment *foreign = again(&foreign_uuid);
	int r = engine_read(e, foreign, data, foreign_length, 0, 0, &got, &err);
	ck_assert_msg(r == 0 && got == foreign_length, "%d %s", r, err.text);
	for (size_t i = 0; i < got; i++)
		if (data[i] != byte_at(i))
			ck_abort_msg("byte %zu", i);
	free(data);
	ck_assert_int_eq(append_foreign(foreign, 5000), 0);
	close_engine();
}

START_TEST(a_power_cut_leaves_every_part_here_or_noted)
{
	struct uuid own = {{0}};
	uint64_t own_length = 0;
	bool done = false;
	unsigned cuts = 0;

	teardown();
	for (uint64_t cut = 0; !done; cut++, cuts++) {
		uint64_t foreign_length = PART + PART / 2;
		setup_on(sim_disk_new(cut));
		struct engine_segment *segment = make_final();
		own = *engine_segment_uuid(segment);
		own_length = remote_model_find(&model, &own)->length;
		segment = make_foreign(foreign_length);
		ck_assert_int_eq(engine_seal(e, NULL, NULL), 0);
		remote_model_copy(&model, e, segment);
		sim_disk_cut_after(disk, cut);
		done = work(&own, &foreign_length);
		engine_abandon(e);
		struct disk *before = disk;
		for (uint64_t crash = 0; crash < 3; crash++) {
			disk = sim_disk_crash(before, cut * 3 + crash);
			check_after(&own, foreign_length, own_length);
			disk_free(disk);
		}
		disk_free(before);
		remote_model_done(&model);
	}
	ck_assert_uint_gt(cuts, 40);
	setup();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("evict");
	TCase *tcase = tcase_create("evict");

	tcase_set_timeout(tcase, 120);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, an_evicted_part_is_gone_and_reads_as_before);
	tcase_add_test(tcase, long_reads_are_few_and_short_ones_are_cached);
	tcase_add_test(tcase, a_reader_may_bring_little_at_once);
	tcase_add_test(tcase, what_comes_back_wrong_or_not_at_all_is_an_error);
	tcase_add_test(tcase, without_a_reader_the_error_names_the_cloud);
	tcase_add_test(tcase, atoms_and_sums_of_an_evicted_part_are_local);
	tcase_add_test(tcase, what_is_open_or_needed_stays);
	tcase_add_test(tcase, an_evicted_foreign_segment_grows_without_the_cloud);
	tcase_add_test(tcase, a_frame_header_across_the_end_of_an_evicted_part);
	tcase_add_test(tcase, a_missing_part_without_a_note_is_damage);
	tcase_add_test(tcase, a_part_with_a_damaged_table_is_not_given_up);
	tcase_add_test(tcase, parts_come_by_the_time_of_their_last_use);
	tcase_add_test(tcase, what_is_used_is_about_what_the_disk_says);
	tcase_add_test(tcase, a_removed_segment_leaves_no_note);
	tcase_add_test(tcase, fsck_knows_what_is_elsewhere);
	tcase_add_test(tcase, repair_of_the_catalogue_finds_evicted_parts);
	tcase_add_test(tcase, repair_does_not_take_a_remote_part_with_a_bad_table_for_an_open_one);
	tcase_add_test(tcase, a_note_of_a_wrong_size_is_damage);
	tcase_add_test(tcase, parts_go_while_they_are_read);
	tcase_add_test(tcase, parts_go_when_the_disk_is_full);
	tcase_add_test(tcase, no_memory_gives_nothing_up_by_half);
	tcase_add_test(tcase, parts_go_while_their_segment_grows);
	tcase_add_test(tcase, a_power_cut_leaves_every_part_here_or_noted);
	suite_add_tcase(suite, tcase);

	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
