/* The cache of blocks: what is read is what was put, whatever the disk, the place and other threads do. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cloud/block_cache.h"
#include "tests/lib/fault_alloc.h"
#include "tests/lib/faulty_store.h"
#include "tests/lib/temp_dir.h"

#define U "01234567-89ab-cdef-0123-456789abcdef"

enum { BLOCK = 64 << 10, DISK = BLOCK + 4096 };

static char dir[TEMP_DIR_SIZE];
static struct block_store *memory, *store; /* the place, and what the cache sees of it */
static struct block_cache *cache;
static struct faulty_options faults;

static char *key_of(unsigned number, char key[static BLOCK_KEY_MAX + 1])
{
	(void)snprintf(key, BLOCK_KEY_MAX + 1, "wal/" U "/%020u", number * BLOCK);
	return key;
}

static void fill(unsigned number, uint8_t data[static BLOCK])
{
	uint64_t x = number * UINT64_C(0x9e3779b97f4a7c15) + 1;
	for (size_t i = 0; i < BLOCK; i += 8) {
		x = x * UINT64_C(6364136223846793005) + 1442695040888963407U;
		memcpy(data + i, &x, 8);
	}
}

static void put_blocks(unsigned count)
{
	static uint8_t data[BLOCK];
	char key[BLOCK_KEY_MAX + 1];
	for (unsigned i = 0; i < count; i++) {
		fill(i, data);
		ck_assert_int_eq(block_store_put(memory, key_of(i, key), data, BLOCK, i, NULL), 0);
	}
}

static void open_cache(unsigned blocks)
{
	struct reterr err = {0};
	const struct block_cache_options options = {
		.dir = dir, .server = 1, .size_max = (uint64_t)blocks * DISK, .block_size = BLOCK};
	int r = block_cache_open(&options, store, &err, &cache);
	ck_assert_msg(r == 0, "%s", err.text);
}

static void setup(void)
{
	temp_dir_make(dir);
	faults = (struct faulty_options){.seed = 1};
	ck_assert_int_eq(block_store_memory_new(64 << 20, &memory), 0);
	ck_assert_int_eq(faulty_store_new(memory, &faults, &store), 0);
	ck_assert_int_eq(block_store_counting_new(store, &store), 0);
	ck_assert_int_eq(block_store_verifying_new(store, &store), 0);
	put_blocks(40);
}

static void teardown(void)
{
	block_cache_close(cache);
	block_store_free(store);
	block_store_free(memory);
	temp_dir_remove(dir);
}

static uint64_t gets(void)
{
	struct block_store_status status;
	block_store_status(store, &status);
	return status.requests[BLOCK_REQUEST_GET];
}

static struct block_cache_status status_now(void)
{
	struct block_cache_status status;
	block_cache_status(cache, &status);
	return status;
}

static void check_read(unsigned number, uint64_t offset, size_t size)
{
	uint8_t want[BLOCK], *have = malloc(size + 1);
	char key[BLOCK_KEY_MAX + 1];
	struct block_head head;
	struct reterr err = {0};
	size_t got;
	fill(number, want);
	int r = block_cache_read(cache, key_of(number, key), have, size, offset, &got, &head, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	size_t rest = offset < BLOCK ? BLOCK - (size_t)offset : 0;
	ck_assert_uint_eq(got, size < rest ? size : rest);
	if (got)
		ck_assert_mem_eq(have, want + offset, got);
	ck_assert_uint_eq(head.size, BLOCK);
	ck_assert_uint_eq(head.first_frame, number);
	free(have);
}

static char *path_of(unsigned number, char path[static 512])
{
	char key[BLOCK_KEY_MAX + 1], below[256];
	if (!block_cache_has(cache, key_of(number, key), below, sizeof(below)))
		return NULL;
	(void)snprintf(path, 512, "%s/%s", dir, below);
	return path;
}

/* All bytes of files below the cache's directory but the export, and their number. */
static uint64_t disk_bytes(unsigned *ret_files)
{
	char path[512];
	uint64_t bytes = 0;
	unsigned files = 0;
	(void)snprintf(path, sizeof(path), "%s/cloud_page_cache/server_1", dir);
	DIR *d = opendir(path);
	ck_assert_ptr_nonnull(d);
	const struct dirent *entry;
	while ((entry = readdir(d)) != NULL) {
		struct stat st;
		if (entry->d_name[0] == '.' || strstr(entry->d_name, "mappings") ||
		    fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		bytes += (uint64_t)(st.st_size + 4095) / 4096 * 4096;
		files++;
	}
	(void)closedir(d);
	if (ret_files)
		*ret_files = files;
	return bytes;
}

/* ---- One reader ---- */

START_TEST(a_block_is_fetched_once)
{
	open_cache(10);
	check_read(3, 0, BLOCK);
	check_read(3, 0, 10);
	check_read(3, 1000, 5000);
	check_read(3, BLOCK - 5, 10);
	check_read(3, BLOCK, 10);
	check_read(3, UINT64_MAX, 10);
	check_read(3, 7, 0);
	ck_assert_uint_eq(gets(), 1);
	struct block_cache_status status = status_now();
	ck_assert_uint_eq(status.misses, 1);
	ck_assert_uint_eq(status.hits, 6);
	ck_assert_uint_eq(status.blocks, 1);
	ck_assert_uint_eq(status.bytes, DISK);
	ck_assert_uint_eq(disk_bytes(NULL), DISK);
}
END_TEST

START_TEST(it_survives_a_restart)
{
	open_cache(10);
	for (unsigned i = 0; i < 5; i++)
		check_read(i, 0, 100);
	block_cache_close(cache);
	open_cache(10);
	ck_assert_uint_eq(status_now().blocks, 5);
	for (unsigned i = 0; i < 5; i++)
		check_read(i, 0, BLOCK);
	ck_assert_uint_eq(gets(), 5);
	ck_assert_uint_eq(status_now().hits, 5);

	/* A smaller limit holds at once. */
	block_cache_close(cache);
	open_cache(2);
	ck_assert_uint_eq(status_now().blocks, 2);
	ck_assert_uint_le(disk_bytes(NULL), 2 * DISK);
}
END_TEST

START_TEST(modes_are_private)
{
	char path[512];
	struct stat st;
	(void)umask(0);
	open_cache(10);
	check_read(1, 0, 1);
	ck_assert_int_eq(stat(path_of(1, path), &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	(void)snprintf(path, sizeof(path), "%s/cloud_page_cache/server_1", dir);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	(void)snprintf(path, sizeof(path), "%s/cloud_page_cache", dir);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
}
END_TEST

START_TEST(what_is_not_there)
{
	char data[4], path[512];
	size_t got = 7;
	struct reterr err = {0};
	open_cache(10);
	const char *key = "wal/" U "/00000000009999999999";
	ck_assert_int_eq(block_cache_read(cache, key, data, 4, 0, &got, NULL, &err), -ENOENT);
	ck_assert_uint_eq(got, 7);
	ck_assert_ptr_nonnull(strstr(err.text, key));
	ck_assert_int_eq(block_cache_read(cache, "../x", data, 4, 0, &got, NULL, &err), -EINVAL);
	block_cache_want(cache, "../x");
	ck_assert(!block_cache_has(cache, key, path, sizeof(path)));
	ck_assert_uint_eq(status_now().blocks, 0);
	/* Nothing remembers that: once it is there, it is read. */
	ck_assert_int_eq(block_store_put(memory, key, "abc", 3, BLOCK_NO_FRAME, NULL), 0);
	ck_assert_int_eq(block_cache_read(cache, key, data, 4, 0, &got, NULL, &err), 0);
	ck_assert_uint_eq(got, 3);
}
END_TEST

START_TEST(errors_pass)
{
	static const int codes[] = {-EACCES, -ETIMEDOUT, -EIO, -EBADMSG, -EAGAIN};
	char data[4], key[BLOCK_KEY_MAX + 1];
	size_t got;
	struct block_store *faulty;
	open_cache(10);
	block_cache_close(cache);
	block_store_free(store);
	ck_assert_int_eq(faulty_store_new(memory, &faults, &faulty), 0);
	store = faulty;
	open_cache(10);
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		struct reterr err = {0};
		faulty_store_set_down(faulty, codes[i]);
		ck_assert_int_eq(
			block_cache_read(cache, key_of(1, key), data, 4, 0, &got, NULL, &err),
			codes[i]);
		ck_assert_str_eq(err.text, "simulated: the place is away");
	}
	faulty_store_set_down(faulty, 0);
	check_read(1, 0, BLOCK);
}
END_TEST

START_TEST(an_object_larger_than_a_block)
{
	static uint8_t data[BLOCK + 1];
	size_t got;
	struct reterr err = {0};
	open_cache(10);
	ck_assert_int_eq(block_store_put(memory, "owner", data, sizeof(data), 0, NULL), 0);
	ck_assert_int_eq(block_cache_read(cache, "owner", data, 4, 0, &got, NULL, &err), -EFBIG);
}
END_TEST

/* ---- The limit ---- */

START_TEST(the_limit_holds)
{
	open_cache(7);
	for (unsigned i = 0; i < 40; i++) {
		check_read(i, 0, 100);
		ck_assert_uint_le(disk_bytes(NULL), 7 * DISK);
	}
	ck_assert_uint_eq(status_now().blocks, 7);
	ck_assert_uint_eq(status_now().evictions, 33);
}
END_TEST

/* No room for a single block: it is read, from memory where it can be, and nothing is on the disk. */
START_TEST(without_room_it_reads_all_the_same)
{
	open_cache(1);
	block_cache_close(cache);
	const struct block_cache_options options = {
		.dir = dir, .server = 1, .size_max = BLOCK, .block_size = BLOCK};
	ck_assert_int_eq(block_cache_open(&options, store, NULL, &cache), 0);
	for (unsigned i = 0; i < 20; i++) {
		for (uint64_t at = 0; at < BLOCK; at += 4096)
			check_read(i, at, 4096);
	}
	ck_assert_uint_eq(gets(), 20);
	unsigned files;
	(void)disk_bytes(&files);
	ck_assert_uint_eq(files, 0);
	ck_assert_uint_eq(status_now().blocks, 0);
}
END_TEST

/* A disk that takes no more, as a limit of the size of files says it. */
START_TEST(a_full_disk_is_no_error)
{
	open_cache(20);
	check_read(0, 0, 100);
	struct rlimit before, none = {.rlim_cur = 8192, .rlim_max = RLIM_INFINITY};
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
	none.rlim_max = before.rlim_max;
	(void)signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
	for (unsigned i = 1; i < 10; i++)
		check_read(i, 0, BLOCK);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
	ck_assert_uint_eq(status_now().blocks, 1);
	ck_assert_uint_eq(status_now().bytes, DISK);
	ck_assert_uint_eq(disk_bytes(NULL), DISK);
	check_read(20, 0, BLOCK);
	ck_assert_uint_eq(status_now().blocks, 2);
}
END_TEST

/* ---- Damage ---- */

static void spoil(const char *path, off_t at)
{
	uint8_t byte;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
	byte ^= 1;
	ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	(void)close(fd);
}

START_TEST(damage_is_fetched_again)
{
	static const off_t places[] = {0, 9, 17, 41, 135, 300, 4085, 4096, 40000, DISK - 1};
	char path[512];
	open_cache(10);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		check_read(1, 0, BLOCK);
		(void)path_of(1, path);
		block_cache_close(cache);
		spoil(path, places[i]);
		uint64_t before = gets();
		open_cache(10);
		check_read(1, 5, 100);
		ck_assert_uint_eq(gets(), before + 1);
		ck_assert_uint_eq(status_now().damaged, 1);
		ck_assert_uint_eq(status_now().blocks, 1);
		ck_assert_uint_eq(disk_bytes(NULL), DISK);
	}
}
END_TEST

START_TEST(a_file_that_goes_is_fetched_again)
{
	char path[512];
	open_cache(10);
	check_read(1, 0, 10);
	ck_assert_int_eq(unlink(path_of(1, path)), 0);
	check_read(1, 0, BLOCK);
	ck_assert_uint_eq(gets(), 2);
	ck_assert_int_eq(truncate(path_of(1, path), 5000), 0);
	check_read(1, 0, BLOCK);
	ck_assert_uint_eq(gets(), 3);
	ck_assert_uint_eq(status_now().damaged, 2);
	ck_assert_uint_eq(status_now().bytes, DISK);
}
END_TEST

START_TEST(a_strange_directory)
{
	char path[512];
	(void)snprintf(path, sizeof(path), "%s/cloud_page_cache", dir);
	ck_assert_int_eq(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	open_cache(10); /* a file was in the way */
	check_read(1, 0, 10);
	block_cache_close(cache);

	static const char *const names[] = {".tmp-17", ".tmp-mappings", "README",
					    "0123456789abcdef0123456789abcdef",
					    "0123456789ABCDEF0123456789ABCDEF"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/cloud_page_cache/server_1/%s", dir,
			       names[i]);
		ck_assert_int_eq(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	}
	(void)snprintf(path, sizeof(path),
		       "%s/cloud_page_cache/server_1/1123456789abcdef0123456789abcdef", dir);
	ck_assert_int_eq(symlink("/etc/passwd", path), 0);
	open_cache(10);
	ck_assert_uint_eq(status_now().blocks, 1);
	ck_assert_uint_eq(status_now().damaged, 1);
	ck_assert_int_eq(faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW), 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		bool ours = i < 2 || i == 3;
		(void)snprintf(path, sizeof(path), "%s/cloud_page_cache/server_1/%s", dir,
			       names[i]);
		ck_assert_msg((access(path, F_OK) < 0) == ours, "%s", names[i]);
	}
	check_read(1, 0, BLOCK);
	ck_assert_uint_eq(gets(), 1);
}
END_TEST

START_TEST(no_directory)
{
	struct reterr err = {0};
	const struct block_cache_options options = {
		.dir = "/nonexistent/x", .server = 1, .block_size = BLOCK};
	cache = NULL;
	ck_assert_int_eq(block_cache_open(&options, store, &err, &cache), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/x"));
}
END_TEST

/* A process that dies at any moment leaves nothing that is believed and wrong, or over the limit. */
START_TEST(a_killed_process)
{
	for (unsigned round = 0; round < 15; round++) {
		pid_t child = fork();
		ck_assert_int_ge(child, 0);
		if (child == 0) {
			open_cache(6);
			for (unsigned i = 0;; i++)
				check_read(i * 7 % 40, 0, 100);
		}
		(void)usleep(5000 + round * 3000);
		ck_assert_int_eq(kill(child, SIGKILL), 0);
		ck_assert_int_eq(waitpid(child, NULL, 0), child);
		open_cache(6);
		ck_assert_uint_le(disk_bytes(NULL), 6 * DISK);
		for (unsigned i = 0; i < 40; i++)
			check_read(i, 0, BLOCK);
		ck_assert_uint_eq(status_now().damaged, 0);
		block_cache_close(cache);
	}
	cache = NULL;
}
END_TEST

/* ---- The export ---- */

static char *mappings(void)
{
	char path[512];
	(void)snprintf(path, sizeof(path), "%s/cloud_page_cache/server_1/cache_mappings.json", dir);
	FILE *file = fopen(path, "re");
	if (!file)
		return NULL;
	char *text = calloc(1, 100000);
	ck_assert_uint_gt(fread(text, 1, 99999, file), 0);
	(void)fclose(file);
	return text;
}

START_TEST(mappings_are_exported)
{
	char path[512], want[1024], name[CACHE_FILE_NAME_SIZE];
	const char *delta = "wal/" U "/00000000000000065536+0000000010-0000000013";
	char data[8];
	size_t got;
	open_cache(10);
	check_read(2, 0, 10);
	ck_assert_int_eq(block_store_put(memory, delta, "abc", 3, BLOCK_NO_FRAME, NULL), 0);
	ck_assert_int_eq(block_cache_read(cache, delta, data, 8, 0, &got, NULL, NULL), 0);
	ck_assert_int_eq(block_store_put(memory, "owner", "abc", 3, BLOCK_NO_FRAME, NULL), 0);
	ck_assert_int_eq(block_cache_read(cache, "owner", data, 8, 0, &got, NULL, NULL), 0);
	block_cache_close(cache);
	cache = NULL;

	char *text = mappings();
	(void)snprintf(want, sizeof(want),
		       "    \"wal/" U "/00000000000000131072\": {\n"
		       "        \"transaction_id\": \"" U "\",\n"
		       "        \"offset\": 131072,\n"
		       "        \"size\": 65536,\n"
		       "        \"file\": \"%s\"\n    }",
		       cache_file_name("wal/" U "/00000000000000131072", name));
	ck_assert_msg(strstr(text, want) != NULL, "%s", text);
	ck_assert_ptr_nonnull(strstr(text, "\"offset\": 65546"));
	ck_assert_ptr_null(strstr(text, "owner"));
	free(text);

	/* It is never read back: damage changes nothing, and it is replaced. */
	(void)snprintf(path, sizeof(path), "%s/cloud_page_cache/server_1/cache_mappings.json", dir);
	FILE *file = fopen(path, "we");
	ck_assert_int_ge(fputs("{\"wal/", file), 0);
	(void)fclose(file);
	open_cache(10);
	ck_assert_uint_eq(status_now().blocks, 3);
	block_cache_close(cache);
	cache = NULL;
	text = mappings();
	ck_assert_ptr_nonnull(strstr(text, want));
	free(text);
}
END_TEST

START_TEST(mappings_come_while_it_runs)
{
	open_cache(10);
	check_read(2, 0, 10);
	char *text = NULL;
	for (unsigned i = 0; i < 500 && !text; i++) {
		(void)usleep(10000);
		text = mappings();
	}
	ck_assert_ptr_nonnull(text);
	free(text);
}
END_TEST

/* ---- Ahead ---- */

static void wait_for(bool (*done)(void))
{
	for (unsigned i = 0; i < 1000 && !done(); i++)
		(void)usleep(5000);
	ck_assert(done());
}

static bool ten_are_there(void)
{
	return status_now().blocks == 10;
}

START_TEST(what_is_wanted_comes)
{
	char key[BLOCK_KEY_MAX + 1];
	open_cache(20);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 10; i++)
			block_cache_want(cache, key_of(i, key));
	}
	wait_for(ten_are_there);
	ck_assert_uint_eq(status_now().read_ahead, 10);
	for (unsigned i = 0; i < 10; i++)
		check_read(i, 0, BLOCK);
	ck_assert_uint_eq(gets(), 10);
	ck_assert_uint_eq(status_now().hits, 10);
	ck_assert_uint_eq(status_now().misses, 0);
}
END_TEST

/* More is wanted than there is room for in the queue: no more happens than that some is not fetched. */
START_TEST(too_much_is_wanted)
{
	char key[BLOCK_KEY_MAX + 1];
	open_cache(5);
	for (unsigned i = 0; i < 10000; i++)
		block_cache_want(cache, key_of(i, key));
	check_read(39, 0, BLOCK);
	ck_assert_uint_le(disk_bytes(NULL), 5 * DISK);
}
END_TEST

/* ---- Many at once ---- */

enum { THREADS = 8, ROUNDS = 300 };

static void *read_randomly(void *arg)
{
	uint64_t random = (uintptr_t)arg + 1;
	char key[BLOCK_KEY_MAX + 1];
	for (unsigned i = 0; i < ROUNDS; i++) {
		random = random * UINT64_C(6364136223846793005) + 1442695040888963407U;
		unsigned number = (unsigned)(random >> 33) % 40;
		uint64_t offset = (random >> 20) % BLOCK;
		check_read(number, offset, 1 + (size_t)(random >> 45) % 20000);
		if (i % 7 == 0)
			block_cache_want(cache, key_of(number % 40, key));
		if (i % 50 == 0)
			ck_assert_uint_le(status_now().bytes, status_now().size_max);
	}
	return NULL;
}

static void run_threads(void *(*function)(void *))
{
	pthread_t threads[THREADS];
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, function, (void *)(i + 1)), 0);
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}

static atomic_bool watching;

static void *watch_disk(void *arg)
{
	uint64_t *most = arg;
	while (atomic_load(&watching)) {
		uint64_t bytes = disk_bytes(NULL);
		*most = bytes > *most ? bytes : *most;
	}
	return NULL;
}

START_TEST(the_limit_holds_under_races)
{
	uint64_t most = 0;
	pthread_t watcher;
	open_cache(6);
	atomic_store(&watching, true);
	ck_assert_int_eq(pthread_create(&watcher, NULL, watch_disk, &most), 0);
	run_threads(read_randomly);
	atomic_store(&watching, false);
	ck_assert_int_eq(pthread_join(watcher, NULL), 0);
	ck_assert_uint_gt(most, 0);
	ck_assert_uint_le(most, 6 * DISK);
	ck_assert_uint_eq(status_now().damaged, 0);
	ck_assert_uint_gt(status_now().evictions, 0);
}
END_TEST

static pthread_barrier_t barrier;

static void *read_together(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 40; i++) {
		(void)pthread_barrier_wait(&barrier);
		check_read(i, 0, BLOCK);
	}
	return NULL;
}

START_TEST(many_readers_are_one_fetch)
{
	open_cache(50);
	ck_assert_int_eq(pthread_barrier_init(&barrier, NULL, THREADS), 0);
	run_threads(read_together);
	ck_assert_uint_eq(gets(), 40);
	(void)pthread_barrier_destroy(&barrier);
}
END_TEST

/* Damaged files, under many readers. */
START_TEST(damage_under_races)
{
	char path[512];
	open_cache(50);
	for (unsigned i = 0; i < 40; i++)
		check_read(i, 0, 1);
	for (unsigned i = 0; i < 40; i += 3)
		spoil(path_of(i, path), 4096 + i);
	for (unsigned i = 1; i < 40; i += 3)
		ck_assert_int_eq(unlink(path_of(i, path)), 0);
	block_cache_close(cache);
	open_cache(50);
	ck_assert_int_eq(pthread_barrier_init(&barrier, NULL, THREADS), 0);
	run_threads(read_together);
	(void)pthread_barrier_destroy(&barrier);
	ck_assert_uint_eq(status_now().damaged, 14);
	ck_assert_uint_eq(gets(), 40 + 14 + 13);
}
END_TEST

/*
 * A file that is shorter takes PATH's place, if there is one: at once, since who cuts a file in place
 * shows the kernel's zeros to whoever is just reading it, which no cache can help.
 */
static void shorten(const char *path)
{
	char cut[512];
	(void)snprintf(cut, sizeof(cut), "%.500s/cut", dir);
	(void)unlink(cut);
	int fd = open(cut, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, 5000), 0);
	ck_assert_int_eq(close(fd), 0);
	int r = renameat2(AT_FDCWD, cut, AT_FDCWD, path, RENAME_EXCHANGE);
	(void)r; /* it may have gone by itself */
}

/* Files that vanish, or are cut, while others read them. */
static void *vandalise(void *arg)
{
	uint64_t random = 9;
	(void)arg;
	while (atomic_load(&watching)) {
		char path[512];
		random = random * UINT64_C(6364136223846793005) + 1442695040888963407U;
		if (!path_of((unsigned)(random >> 33) % 40, path))
			continue;
		if (random >> 63)
			(void)unlink(path);
		else
			shorten(path);
	}
	return NULL;
}

START_TEST(files_vanish_under_races)
{
	pthread_t vandal;
	open_cache(20);
	atomic_store(&watching, true);
	ck_assert_int_eq(pthread_create(&vandal, NULL, vandalise, NULL), 0);
	run_threads(read_randomly);
	atomic_store(&watching, false);
	ck_assert_int_eq(pthread_join(vandal, NULL), 0);
	ck_assert_uint_gt(status_now().damaged, 0);
	ck_assert_uint_le(disk_bytes(NULL), 20 * DISK);
}
END_TEST

/* While everything that is wanted ahead hangs, what is asked for is read. */
static atomic_bool hanging;

static void hang_for_late_blocks(void *arg, enum block_request kind, const char *key, bool before)
{
	char first[BLOCK_KEY_MAX + 1];
	(void)arg;
	while (before && kind == BLOCK_REQUEST_GET && strcmp(key, key_of(10, first)) >= 0 &&
	       atomic_load(&hanging))
		(void)usleep(1000);
}

START_TEST(what_is_asked_for_does_not_wait_for_what_is_not)
{
	char key[BLOCK_KEY_MAX + 1];
	block_store_free(store);
	faults.step = hang_for_late_blocks;
	ck_assert_int_eq(faulty_store_new(memory, &faults, &store), 0);
	open_cache(50);
	atomic_store(&hanging, true);
	for (unsigned i = 10; i < 40; i++)
		block_cache_want(cache, key_of(i, key));
	for (unsigned i = 0; i < 10; i++)
		check_read(i, 0, BLOCK);
	ck_assert_uint_eq(status_now().blocks, 10);
	atomic_store(&hanging, false);
	check_read(39, 0, BLOCK);
}
END_TEST

/* ---- Large blocks, which stay in memory for a moment ---- */

enum { LARGE = 1 << 20 };

static void open_large(unsigned blocks)
{
	const struct block_cache_options options = {
		.dir = dir,
		.server = 1,
		.size_max = (uint64_t)blocks * (LARGE + 4096),
		.block_size = LARGE,
	};
	ck_assert_int_eq(block_cache_open(&options, store, NULL, &cache), 0);
}

static uint8_t *large_bytes(unsigned number)
{
	static uint8_t bytes[LARGE];
	for (size_t at = 0; at < LARGE; at += BLOCK)
		fill(number * 1000 + (unsigned)(at / BLOCK), bytes + at);
	return bytes;
}

static void check_large(unsigned number)
{
	uint8_t *want = large_bytes(number), *have = malloc(LARGE);
	char key[BLOCK_KEY_MAX + 1];
	for (size_t at = 0; at < LARGE; at += LARGE / 4) {
		size_t got;
		int r = block_cache_read(cache, key_of(1000 + number, key), have, LARGE / 4, at,
					 &got, NULL, NULL);
		ck_assert_int_eq(r, 0);
		ck_assert_uint_eq(got, LARGE / 4);
		ck_assert_mem_eq(have, want + at, got);
	}
	free(have);
}

static unsigned buffers_used(void)
{
	pthread_mutex_lock(&cache->lock);
	unsigned used = cache->buffers_used;
	pthread_mutex_unlock(&cache->lock);
	return used;
}

static bool no_buffer_is_used(void)
{
	return buffers_used() == 0;
}

START_TEST(large_blocks)
{
	char key[BLOCK_KEY_MAX + 1], path[512];
	for (unsigned i = 0; i < 31; i++)
		ck_assert_int_eq(block_store_put(memory, key_of(1000 + i, key), large_bytes(i),
						 LARGE, BLOCK_NO_FRAME, NULL),
				 0);
	open_large(25);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 30; i++)
			check_large(i);
		ck_assert_uint_gt(buffers_used(), 0);
		ck_assert_uint_le(buffers_used(), CACHE_BUFFERS_MAX);
	}
	/* From memory, whatever happens to the file; and the memory is given back by itself. */
	check_large(30);
	ck_assert_int_eq(unlink(path_of(1030, path)), 0);
	check_large(30);
	wait_for(no_buffer_is_used);
	ck_assert_uint_eq(status_now().damaged, 0);
	check_large(30);
	ck_assert_uint_eq(status_now().damaged, 1);

	block_cache_close(cache);
	uint64_t before = gets();
	open_large(25);
	for (unsigned i = 20; i < 30; i++)
		check_large(i);
	ck_assert_uint_eq(gets(), before);
	ck_assert_uint_eq(status_now().damaged, 0);
}
END_TEST

/* ---- Stop ---- */

static void *read_hanging(void *arg)
{
	char data[4], key[BLOCK_KEY_MAX + 1];
	size_t got;
	/* Two of each block: one fetches, one waits for it; more than there are buffers. */
	unsigned number = (unsigned)(uintptr_t)arg / 2;
	int r = block_cache_read(cache, key_of(number, key), data, 4, 0, &got, NULL, NULL);
	ck_assert_int_eq(r, -ECANCELED);
	return NULL;
}

static void *stop_soon(void *arg)
{
	(void)arg;
	(void)usleep(100000);
	block_cache_stop(cache);
	block_store_stop(store);
	return NULL;
}

START_TEST(stop_ends_every_wait)
{
	pthread_t stopper;
	char data[4], key[BLOCK_KEY_MAX + 1];
	size_t got;
	block_store_free(store);
	faults.hang = 1000;
	ck_assert_int_eq(faulty_store_new(memory, &faults, &store), 0);
	open_cache(10);
	for (unsigned i = 20; i < 40; i++)
		block_cache_want(cache, key_of(i, key));
	ck_assert_int_eq(pthread_create(&stopper, NULL, stop_soon, NULL), 0);
	run_threads(read_hanging);
	ck_assert_int_eq(pthread_join(stopper, NULL), 0);
	ck_assert_int_eq(block_cache_read(cache, key_of(1, key), data, 4, 0, &got, NULL, NULL),
			 -ECANCELED);
}
END_TEST

/* ---- Memory ---- */

START_TEST(without_memory)
{
	char data[100], key[BLOCK_KEY_MAX + 1];
	const struct block_cache_options options = {
		.dir = dir, .server = 1, .size_max = 10 * DISK, .block_size = BLOCK};
	if (!fault_alloc_available())
		return;
	open_cache(10);
	check_read(1, 0, 10);
	block_cache_close(cache);
	bool failed = true;
	for (uint64_t n = 1; failed; n++) {
		size_t got;
		int r_read = 0, r_verify = 0;
		cache = NULL;
		fault_alloc_fail(n);
		int r = block_cache_open(&options, store, NULL, &cache);
		if (r == 0) {
			r_verify = block_cache_read(cache, key_of(1, key), data, 100, 0, &got, NULL,
						    NULL);
			r_read = block_cache_read(cache, key_of(2, key), data, 100, 0, &got, NULL,
						  NULL);
		}
		failed = fault_alloc_stop();
		ck_assert(r == 0 || r == -ENOMEM);
		ck_assert(r_verify == 0 || r_verify == -ENOMEM);
		ck_assert(r_read == 0 || r_read == -ENOMEM);
		ck_assert(failed || (r == 0 && r_verify == 0 && r_read == 0));
		if (r == 0)
			check_read(2, 0, BLOCK);
		block_cache_close(cache);
	}
	open_cache(10);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("block_cache");
	TCase *tcase = tcase_create("block_cache");
	tcase_set_timeout(tcase, 30);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, a_block_is_fetched_once);
	tcase_add_test(tcase, it_survives_a_restart);
	tcase_add_test(tcase, modes_are_private);
	tcase_add_test(tcase, what_is_not_there);
	tcase_add_test(tcase, errors_pass);
	tcase_add_test(tcase, an_object_larger_than_a_block);
	tcase_add_test(tcase, the_limit_holds);
	tcase_add_test(tcase, without_room_it_reads_all_the_same);
	tcase_add_test(tcase, a_full_disk_is_no_error);
	tcase_add_test(tcase, damage_is_fetched_again);
	tcase_add_test(tcase, a_file_that_goes_is_fetched_again);
	tcase_add_test(tcase, a_strange_directory);
	tcase_add_test(tcase, no_directory);
	tcase_add_test(tcase, a_killed_process);
	tcase_add_test(tcase, mappings_are_exported);
	tcase_add_test(tcase, mappings_come_while_it_runs);
	tcase_add_test(tcase, what_is_wanted_comes);
	tcase_add_test(tcase, too_much_is_wanted);
	tcase_add_test(tcase, the_limit_holds_under_races);
	tcase_add_test(tcase, many_readers_are_one_fetch);
	tcase_add_test(tcase, damage_under_races);
	tcase_add_test(tcase, files_vanish_under_races);
	tcase_add_test(tcase, what_is_asked_for_does_not_wait_for_what_is_not);
	tcase_add_test(tcase, large_blocks);
	tcase_add_test(tcase, stop_ends_every_wait);
	tcase_add_test(tcase, without_memory);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
