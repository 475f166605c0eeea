/* The superblock: what is written is read, and no single byte can change it unseen. */
#include "engine/superblock.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/le.h"
#include "engine/engine.h"

enum { SUM_OFFSET = SUPERBLOCK_COPY_SIZE - HASH_SIZE };

static struct disk *disk;
static struct superblock made;

static void setup(void)
{
	ck_assert_int_eq(disk_memory_new(1 << 20, &disk), 0);
	ck_assert_int_eq(
		superblock_init(disk, ENGINE_BLOCK_SIZE_DEFAULT, 7, 1234567890123456789u, &made),
		0);
	ck_assert_int_eq(superblock_write(disk, &made, NULL), 0);
}

static void teardown(void)
{
	disk_free(disk);
}

static void poke(uint64_t offset, const void *data, size_t size)
{
	struct disk_file *file;
	ck_assert_int_eq(disk_open(disk, SUPERBLOCK_PATH, DISK_WRITE, &file), 0);
	ck_assert_int_eq(disk_write_flush(file, data, size, offset), 0);
	disk_close(file);
}

/* Every field that is stored, by the bytes that it would become. */
static void check_same(const struct superblock *sb)
{
	uint8_t got[SUPERBLOCK_COPY_SIZE], want[SUPERBLOCK_COPY_SIZE];
	superblock_encode(sb, got);
	superblock_encode(&made, want);
	ck_assert_mem_eq(got, want, sizeof(want));
	ck_assert_uint_eq(sb->node, 7);
	ck_assert_uint_eq(sb->created_ns, 1234567890123456789u);
}

/* Both copies of MADE after CHANGE, with checksums that match. */
static int read_changed(void (*change)(uint8_t *bytes), struct superblock *ret, struct reterr *err)
{
	uint8_t bytes[SUPERBLOCK_COPY_SIZE];
	superblock_encode(&made, bytes);
	change(bytes);
	struct hash sum = hash_of(bytes, SUM_OFFSET);
	memcpy(bytes + SUM_OFFSET, sum.bytes, HASH_SIZE);
	poke(0, bytes, sizeof(bytes));
	poke(SUPERBLOCK_COPY_SIZE, bytes, sizeof(bytes));
	return superblock_read(disk, ret, err);
}

START_TEST(reads_what_was_written)
{
	struct superblock sb;
	ck_assert_int_eq(superblock_read(disk, &sb, NULL), 0);
	check_same(&sb);
	ck_assert(!sb.read_only);
	ck_assert_uint_eq(sb.bad_copies, 0);
	ck_assert(!uuid_is_zero(&sb.store));
}
END_TEST

START_TEST(two_stores_differ)
{
	struct superblock other;
	ck_assert_int_eq(superblock_init(disk, ENGINE_BLOCK_SIZE_DEFAULT, 7, 1, &other), 0);
	ck_assert(!uuid_equal(&other.store, &made.store));
	ck_assert_mem_ne(other.seed, made.seed, sizeof(made.seed));
}
END_TEST

START_TEST(no_store_names_init)
{
	struct reterr err = {0};
	struct superblock sb;
	ck_assert_int_eq(disk_unlink(disk, SUPERBLOCK_PATH), 0);
	ck_assert_int_eq(superblock_read(disk, &sb, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "protofs init"));
}
END_TEST

START_TEST(every_byte_of_one_copy_is_checked)
{
	for (unsigned copy = 0; copy < SUPERBLOCK_COPY_COUNT; copy++) {
		for (unsigned i = 0; i < SUPERBLOCK_COPY_SIZE; i++) {
			uint8_t bytes[SUPERBLOCK_COPY_SIZE], bad;
			struct superblock sb;
			superblock_encode(&made, bytes);
			bad = bytes[i] ^ (uint8_t)(1u << i % 8);
			poke(copy * SUPERBLOCK_COPY_SIZE + i, &bad, 1);
			ck_assert_int_eq(superblock_read(disk, &sb, NULL), 0);
			check_same(&sb);
			ck_assert_uint_eq(sb.bad_copies, 1);
			poke(copy * SUPERBLOCK_COPY_SIZE + i, bytes + i, 1);
		}
	}
	struct superblock sb;
	ck_assert_int_eq(superblock_read(disk, &sb, NULL), 0);
	ck_assert_uint_eq(sb.bad_copies, 0);
}
END_TEST

START_TEST(two_bad_copies_are_damage)
{
	struct reterr err = {0};
	struct superblock sb = {.node = 99};
	uint8_t bytes[SUPERBLOCK_COPY_SIZE];
	superblock_encode(&made, bytes);
	bytes[0] ^= 1;
	bytes[SUM_OFFSET] ^= 1;
	poke(0, bytes, 1);
	poke(SUPERBLOCK_COPY_SIZE + SUM_OFFSET, bytes + SUM_OFFSET, 1);
	ck_assert_int_eq(superblock_read(disk, &sb, &err), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(err.text, "byte 0"));
	ck_assert_ptr_nonnull(strstr(err.text, "byte 4096"));
	ck_assert_uint_eq(sb.node, 99);
}
END_TEST

START_TEST(every_shorter_file_is_damage_or_whole)
{
	static const uint64_t sizes[] = {0, 1, 511, 4095, 4096, 4097, 8191};
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct disk_file *file;
		struct superblock sb;
		ck_assert_int_eq(superblock_write(disk, &made, NULL), 0);
		ck_assert_int_eq(disk_open(disk, SUPERBLOCK_PATH, DISK_WRITE, &file), 0);
		ck_assert_int_eq(disk_truncate(file, sizes[i]), 0);
		disk_close(file);
		int r = superblock_read(disk, &sb, NULL);
		if (sizes[i] < SUPERBLOCK_COPY_SIZE) {
			ck_assert_int_eq(r, -EBADMSG);
		} else {
			ck_assert_int_eq(r, 0);
			ck_assert_uint_eq(sb.bad_copies, 1);
		}
	}
}
END_TEST

static void newer_version(uint8_t *bytes)
{
	store_le32(bytes + 8, SUPERBLOCK_VERSION + 1);
}

START_TEST(a_newer_version_is_refused_by_name)
{
	struct reterr err = {0};
	struct superblock sb;
	ck_assert_int_eq(read_changed(newer_version, &sb, &err), -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(err.text, "version 2"));
	ck_assert_ptr_nonnull(strstr(err.text, "version 1"));
	ck_assert_uint_eq(sb.version, 2);
}
END_TEST

/* A rotted version word must read as a bad copy, not as a newer store. */
START_TEST(a_rotted_version_is_not_a_newer_one)
{
	uint8_t two[4] = {2, 0, 0, 0};
	struct superblock sb;
	poke(8, two, sizeof(two));
	ck_assert_int_eq(superblock_read(disk, &sb, NULL), 0);
	ck_assert_uint_eq(sb.bad_copies, 1);
}
END_TEST

static void version_zero(uint8_t *bytes)
{
	store_le32(bytes + 8, 0);
}

static void unknown_incompat(uint8_t *bytes)
{
	store_le64(bytes + 32, (uint64_t)1 << 63);
}

static void unknown_ro_compat(uint8_t *bytes)
{
	store_le64(bytes + 24, 4);
}

static void unknown_compat(uint8_t *bytes)
{
	store_le64(bytes + 16, UINT64_MAX);
	bytes[2000] = 1; /* and what such a feature keeps in the reserved bytes */
}

static void bad_block_size(uint8_t *bytes)
{
	store_le64(bytes + 56, ENGINE_BLOCK_SIZE_MIN + 1);
}

static void huge_block_size(uint8_t *bytes)
{
	store_le64(bytes + 56, ENGINE_BLOCK_SIZE_MAX * 2);
}

START_TEST(feature_words)
{
	struct reterr err = {0};
	struct superblock sb;
	ck_assert_int_eq(read_changed(unknown_incompat, &sb, &err), -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(err.text, "0x8000000000000000"));
	ck_assert_int_eq(read_changed(unknown_ro_compat, &sb, &err), 0);
	ck_assert(sb.read_only);
	ck_assert_int_eq(read_changed(unknown_compat, &sb, &err), 0);
	ck_assert(!sb.read_only);
	ck_assert_int_eq(read_changed(version_zero, &sb, &err), -ENOTSUP);
	ck_assert_int_eq(read_changed(bad_block_size, &sb, &err), -EBADMSG);
	ck_assert_int_eq(read_changed(huge_block_size, &sb, &err), -EBADMSG);
}
END_TEST

START_TEST(every_prefix_is_short)
{
	uint8_t bytes[SUPERBLOCK_COPY_SIZE];
	struct superblock sb = {.node = 99};
	superblock_encode(&made, bytes);
	for (size_t size = 0; size < sizeof(bytes); size++) {
		struct slice in = {.data = bytes, .size = size};
		ck_assert_int_eq(superblock_decode(in, &sb, NULL), -ENODATA);
	}
	ck_assert_uint_eq(sb.node, 99);
	ck_assert_int_eq(superblock_decode((struct slice){bytes, sizeof(bytes)}, &sb, NULL), 0);
	check_same(&sb);
}
END_TEST

START_TEST(the_twin_is_readable_and_has_no_secret)
{
	void *data;
	size_t size;
	char store[UUID_TEXT_LENGTH + 1];
	ck_assert_int_eq(disk_read_file(disk, SUPERBLOCK_CONF_PATH, 4096, &data, &size), 0);
	char *text = strndup(data, size);
	free(data);
	ck_assert_ptr_nonnull(strstr(text, "block_size = 5242880\n"));
	ck_assert_ptr_nonnull(strstr(text, "node = 7\n"));
	ck_assert_ptr_nonnull(strstr(text, uuid_format(&made.store, store)));
	ck_assert_ptr_nonnull(strstr(text, "created = 2009-02-13T23:31:30Z\n"));
	ck_assert_ptr_nonnull(strstr(text, "the binary counts"));
	ck_assert_ptr_null(strstr(text, "seed"));
	free(text);

	/* Nobody reads it. */
	struct superblock sb;
	ck_assert_int_eq(disk_unlink(disk, SUPERBLOCK_CONF_PATH), 0);
	ck_assert_int_eq(superblock_read(disk, &sb, NULL), 0);
}
END_TEST

START_TEST(a_rewrite_mends_a_bad_copy)
{
	struct superblock sb;
	poke(100, "x", 1);
	ck_assert_int_eq(superblock_read(disk, &sb, NULL), 0);
	ck_assert_uint_eq(sb.bad_copies, 1);
	sb.node = 8;
	ck_assert_int_eq(superblock_write(disk, &sb, NULL), 0);
	ck_assert_int_eq(superblock_read(disk, &sb, NULL), 0);
	ck_assert_uint_eq(sb.bad_copies, 0);
	ck_assert_uint_eq(sb.node, 8);
}
END_TEST

START_TEST(a_full_disk_keeps_the_old_one)
{
	struct disk *small;
	struct reterr err = {0};
	struct superblock sb;
	ck_assert_int_eq(disk_memory_new(1, &small), 0);
	ck_assert_int_eq(superblock_write(small, &made, &err), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(err.text, SUPERBLOCK_PATH));
	ck_assert_int_eq(superblock_read(small, &sb, NULL), -ENOENT);
	disk_free(small);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("superblock");
	TCase *tcase = tcase_create("superblock");
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, reads_what_was_written);
	tcase_add_test(tcase, two_stores_differ);
	tcase_add_test(tcase, no_store_names_init);
	tcase_add_test(tcase, every_byte_of_one_copy_is_checked);
	tcase_add_test(tcase, two_bad_copies_are_damage);
	tcase_add_test(tcase, every_shorter_file_is_damage_or_whole);
	tcase_add_test(tcase, a_newer_version_is_refused_by_name);
	tcase_add_test(tcase, a_rotted_version_is_not_a_newer_one);
	tcase_add_test(tcase, feature_words);
	tcase_add_test(tcase, every_prefix_is_short);
	tcase_add_test(tcase, the_twin_is_readable_and_has_no_secret);
	tcase_add_test(tcase, a_rewrite_mends_a_bad_copy);
	tcase_add_test(tcase, a_full_disk_keeps_the_old_one);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
