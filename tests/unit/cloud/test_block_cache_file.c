/* A file of the cache: valid or not, and nothing in between. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/block_cache_file.h"
#include "tests/lib/temp_dir.h"

#define KEY "wal/01234567-89ab-cdef-0123-456789abcdef/00000000000005242880+0000000000-0000000010"

static char dir[64];
static int dir_fd;

static void setup(void)
{
	temp_dir_make(dir);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(dir_fd, 0);
}

static void teardown(void)
{
	(void)close(dir_fd);
	temp_dir_remove(dir);
}

static struct cache_file sample(const void *data, size_t size)
{
	struct cache_file file = {
		.key = KEY,
		.head = {.size = size,
			 .first_frame = size > 3 ? 3 : BLOCK_NO_FRAME,
			 .modified_ns = 1234567890123456789,
			 .etag = "\"d41d8cd98f00b204e9800998ecf8427e\"",
			 .hash = hash_of(data, size),
			 .recorded = true},
	};
	return file;
}

static void check_same(const struct cache_file *a, const struct cache_file *b)
{
	ck_assert_str_eq(a->key, b->key);
	ck_assert_uint_eq(a->head.size, b->head.size);
	ck_assert_uint_eq(a->head.first_frame, b->head.first_frame);
	ck_assert_uint_eq(a->head.modified_ns, b->head.modified_ns);
	ck_assert_str_eq(a->head.etag, b->head.etag);
	ck_assert(hash_equal(&a->head.hash, &b->head.hash));
	ck_assert(a->head.recorded == b->head.recorded);
}

START_TEST(a_header_comes_back)
{
	uint8_t bytes[CACHE_FILE_HEADER_SIZE];
	struct cache_file file = sample("0123456789", 10), back;
	cache_file_encode(&file, bytes);
	ck_assert_int_eq(cache_file_decode((struct slice){bytes, sizeof(bytes)}, &back), 0);
	check_same(&file, &back);
	for (size_t size = 0; size < sizeof(bytes); size++)
		ck_assert_int_eq(cache_file_decode((struct slice){bytes, size}, &back), -ENODATA);
}
END_TEST

/* Any byte that is another makes it invalid, or changes nothing that is told. */
START_TEST(a_damaged_header_is_refused)
{
	uint8_t bytes[CACHE_FILE_HEADER_SIZE];
	struct cache_file file = sample("0123456789", 10), back;
	cache_file_encode(&file, bytes);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		for (unsigned bit = 0; bit < 8; bit += 3) {
			bytes[i] = (uint8_t)(bytes[i] ^ (1U << bit));
			int r = cache_file_decode((struct slice){bytes, sizeof(bytes)}, &back);
			ck_assert_msg(r == -EBADMSG, "byte %zu", i);
			bytes[i] = (uint8_t)(bytes[i] ^ (1U << bit));
		}
	}
}
END_TEST

static void sign(uint8_t bytes[static CACHE_FILE_HEADER_SIZE])
{
	struct hash sum = hash_of(bytes, 4080);
	memcpy(bytes + 4080, sum.bytes, HASH_SIZE);
}

/* A right sum proves nothing: the values are judged, too. */
START_TEST(a_hostile_header_is_refused)
{
	static const struct {
		size_t offset;
		uint8_t bytes[8];
		size_t size;
	} changes[] = {
		{0, "Protoblk", 8},
		{8, {2, 0, 0, 0}, 4},
		{16, {1, 0, 0, 4, 0, 0, 0, 0}, 8}, /* 64 MiB + 1 */
		{16, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 8},
		{24, {10, 0, 0, 0, 0, 0, 0, 0}, 8}, /* first frame = size */
		{24, {0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 8},
		{56, {200, 0, 0, 0}, 4},
		{56, {0xff, 0xff, 0xff, 0xff}, 4},
		{56, {3, 0, 0, 0}, 4},
		{60 + BLOCK_ETAG_SIZE - 1, {'x'}, 1},
		{132, {'W'}, 1},
		{132 + 127, {'x'}, 1},
		{140, {0}, 1},
	};
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		uint8_t bytes[CACHE_FILE_HEADER_SIZE];
		struct cache_file file = sample("0123456789", 10), back;
		cache_file_encode(&file, bytes);
		bool tail = changes[i].offset ==
			    132 + 127; /* zeros behind the key are not judged */
		memcpy(bytes + changes[i].offset, changes[i].bytes, changes[i].size);
		sign(bytes);
		int r = cache_file_decode((struct slice){bytes, sizeof(bytes)}, &back);
		ck_assert_msg(r == (tail ? 0 : -EBADMSG), "%zu: %d", i, r);
	}
}
END_TEST

START_TEST(a_file_comes_back)
{
	static const size_t sizes[] = {0, 1, 10, 4095, 4096, 4097, 300000};
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *data = malloc(sizes[i] + 1), *back = malloc(sizes[i] + 10);
		for (size_t k = 0; k < sizes[i]; k++)
			data[k] = (uint8_t)(k * 7 + k / 256);
		struct cache_file file = sample(data, sizes[i]), found;
		char name[CACHE_FILE_NAME_SIZE];
		uint64_t used_ns = 0;
		size_t size;
		ck_assert_int_eq(cache_file_write(dir_fd, i, &file, data, sizes[i]), 0);
		ck_assert_int_eq(
			cache_file_load(dir_fd, cache_file_name(KEY, name), &found, &used_ns), 0);
		check_same(&file, &found);
		ck_assert_uint_gt(used_ns, 0);
		ck_assert_int_eq(cache_file_verify(dir_fd, &found), 0);
		ck_assert_int_eq(cache_file_read(dir_fd, &found, back, sizes[i] + 10, 0, &size), 0);
		ck_assert_uint_eq(size, sizes[i]);
		ck_assert_mem_eq(back, data, size);
		for (uint64_t at = 0; at < sizes[i] + 20; at += 37 + sizes[i] / 50) {
			ck_assert_int_eq(cache_file_read(dir_fd, &found, back, 5, at, &size), 0);
			uint64_t rest = at < sizes[i] ? sizes[i] - at : 0;
			ck_assert_uint_eq(size, rest < 5 ? rest : 5);
			if (size)
				ck_assert_mem_eq(back, data + at, size);
		}
		struct stat st;
		ck_assert_int_eq(fstatat(dir_fd, name, &st, 0), 0);
		ck_assert_uint_eq(st.st_mode & 07777, 0600);
		ck_assert_uint_le((uint64_t)st.st_size, cache_file_disk(sizes[i]));
		free(data);
		free(back);
	}
}
END_TEST

/* A large object in pages of its own goes past the page cache, and is the same file. */
START_TEST(a_large_file_comes_back)
{
	static const size_t sizes[] = {CACHE_FILE_DIRECT_MIN, CACHE_FILE_DIRECT_MIN + 5,
				       CACHE_FILE_DIRECT_MIN + 4095};
	const size_t capacity = CACHE_FILE_DIRECT_MIN + 4096;
	uint8_t *data = aligned_alloc(4096, capacity), *back = malloc(capacity);
	char name[CACHE_FILE_NAME_SIZE];
	for (size_t i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
		size_t want = sizes[i / 2], size;
		struct stat st;
		memset(data, 0xee, capacity);
		for (size_t k = 0; k < want; k++)
			data[k] = (uint8_t)(k * 7 + k / 256 + i);
		struct cache_file file = sample(data, want);
		/* The second time there is no room for a last page: it takes the other way. */
		ck_assert_int_eq(
			cache_file_write(dir_fd, i, &file, data, i % 2 ? want - 1 : capacity), 0);
		ck_assert_int_eq(fstatat(dir_fd, cache_file_name(KEY, name), &st, 0), 0);
		ck_assert_uint_eq((uint64_t)st.st_size, CACHE_FILE_HEADER_SIZE + want);
		ck_assert_int_eq(cache_file_verify(dir_fd, &file), 0);
		ck_assert_int_eq(cache_file_read(dir_fd, &file, back, capacity, 0, &size), 0);
		ck_assert_uint_eq(size, want);
		ck_assert_mem_eq(back, data, want);
	}
	free(data);
	free(back);
}
END_TEST

/* Every single byte of the file, flipped, and every length of it. */
START_TEST(a_damaged_file_is_found)
{
	enum { SIZE = 1000 };
	uint8_t data[SIZE], byte;
	char name[CACHE_FILE_NAME_SIZE];
	uint64_t used_ns;
	memset(data, 7, sizeof(data));
	struct cache_file file = sample(data, SIZE), found;
	ck_assert_int_eq(cache_file_write(dir_fd, 1, &file, data, SIZE), 0);
	int fd = openat(dir_fd, cache_file_name(KEY, name), O_RDWR | O_CLOEXEC);
	for (off_t at = 0; at < CACHE_FILE_HEADER_SIZE + SIZE; at++) {
		ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
		ck_assert_int_eq(cache_file_verify(dir_fd, &file), -EBADMSG);
		byte ^= 0x10;
		ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	}
	ck_assert_int_eq(cache_file_verify(dir_fd, &file), 0);
	ck_assert_int_eq(pwrite(fd, &byte, 1, CACHE_FILE_HEADER_SIZE + SIZE), 1);
	ck_assert_int_eq(cache_file_verify(dir_fd, &file), -EBADMSG);
	for (off_t size = CACHE_FILE_HEADER_SIZE + SIZE - 1; size >= 0; size -= 13) {
		ck_assert_int_eq(ftruncate(fd, size), 0);
		ck_assert_int_eq(cache_file_verify(dir_fd, &file), -EBADMSG);
		ck_assert_int_eq(cache_file_load(dir_fd, name, &found, &used_ns), -EBADMSG);
	}
	(void)close(fd);
}
END_TEST

START_TEST(what_is_not_ours)
{
	char name[CACHE_FILE_NAME_SIZE], other[CACHE_FILE_NAME_SIZE];
	char x[] = "x";
	struct cache_file file = sample(x, 1), found;
	uint64_t used_ns;
	(void)cache_file_name(KEY, name);
	ck_assert_int_eq(cache_file_load(dir_fd, name, &found, &used_ns), -ENOENT);
	ck_assert_int_eq(symlinkat("/etc/passwd", dir_fd, name), 0);
	ck_assert_int_eq(cache_file_load(dir_fd, name, &found, &used_ns), -EINVAL);
	ck_assert_int_eq(unlinkat(dir_fd, name, 0), 0);
	ck_assert_int_eq(mkfifoat(dir_fd, name, 0600), 0);
	ck_assert_int_eq(cache_file_load(dir_fd, name, &found, &used_ns), -EINVAL);
	ck_assert_int_eq(unlinkat(dir_fd, name, 0), 0);
	ck_assert_int_eq(mkdirat(dir_fd, name, 0700), 0);
	ck_assert_int_eq(cache_file_load(dir_fd, name, &found, &used_ns), -EINVAL);
	ck_assert_int_lt(cache_file_write(dir_fd, 1, &file, x, 1), 0);
	ck_assert_int_lt(faccessat(dir_fd, CACHE_FILE_TEMPORARY "1", F_OK, 0), 0);
	ck_assert_int_eq(unlinkat(dir_fd, name, AT_REMOVEDIR), 0);

	/* A valid file under another key's name. */
	ck_assert_int_eq(cache_file_write(dir_fd, 1, &file, x, 1), 0);
	ck_assert_int_eq(renameat(dir_fd, name, dir_fd, cache_file_name("owner", other)), 0);
	ck_assert_int_eq(cache_file_load(dir_fd, other, &found, &used_ns), -EBADMSG);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("block_cache_file");
	TCase *tcase = tcase_create("block_cache_file");
	tcase_set_timeout(tcase, 20);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, a_header_comes_back);
	tcase_add_test(tcase, a_damaged_header_is_refused);
	tcase_add_test(tcase, a_hostile_header_is_refused);
	tcase_add_test(tcase, a_file_comes_back);
	tcase_add_test(tcase, a_large_file_comes_back);
	tcase_add_test(tcase, a_damaged_file_is_found);
	tcase_add_test(tcase, what_is_not_ours);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
