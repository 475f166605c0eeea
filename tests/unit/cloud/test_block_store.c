/* Every block store keeps the same promises: each test runs on all of them. */
#include <protofs/block_store.h>

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cloud/block_key.h"
#include "cloud/block_store_dir.h"
#include "cloud/cloud.h"
#include "tests/lib/faulty_store.h"

#define U1 "01234567-89ab-cdef-0123-456789abcdef"
#define U2 "11234567-89ab-cdef-0123-456789abcdef"
#define P0 "00000000000000000000"
#define P5 "00000000000005242880"

/* STACK: all decorators on memory; SHAKY: retrying on one that often fails before its effect. */
enum kind { MEMORY, DIRECTORY, DIRECTORY_NAMES, STACK, SHAKY, KINDS };

static struct block_store *store;
static struct block_store *place; /* what a faulty store stands in front of */
static char dir[64];

static void open_dir(void)
{
	struct reterr err = {0};
	int r = block_store_dir_open(dir, &err, &store);
	ck_assert_msg(r == 0, "%s", err.text);
}

static void no_sleep(void *arg, uint64_t ms)
{
	(void)arg;
	(void)ms;
}

static void stack_up(void)
{
	const struct retry_options options = {.sleep = no_sleep, .seed = 1};
	ck_assert_int_eq(block_store_counting_new(store, &store), 0);
	ck_assert_int_eq(block_store_retrying_new(store, &options, &store), 0);
	ck_assert_int_eq(block_store_verifying_new(store, &store), 0);
}

static void setup_kind(int kind)
{
	const struct faulty_options shaky = {.seed = 7, .before = 250};
	dir[0] = '\0';
	place = NULL;
	if (kind == STACK || kind == SHAKY) {
		ck_assert_int_eq(block_store_memory_new(64 << 20, &store), 0);
		if (kind == SHAKY) {
			place = store;
			ck_assert_int_eq(faulty_store_new(place, &shaky, &store), 0);
		}
		stack_up();
		return;
	}
	if (kind == MEMORY) {
		ck_assert_int_eq(block_store_memory_new(64 << 20, &store), 0);
		return;
	}
	(void)snprintf(dir, sizeof(dir), "/tmp/protofs-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	open_dir();
	if (kind == DIRECTORY_NAMES)
		block_store_dir_use_names(store);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void teardown_kind(void)
{
	block_store_free(store);
	block_store_free(place);
	if (dir[0])
		(void)nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *key, const char *text)
{
	struct reterr err = {0};
	int r = block_store_put(store, key, text, strlen(text), BLOCK_NO_FRAME, &err);
	ck_assert_msg(r == 0, "%s: %s", key, err.text);
}

static void check_get(const char *key, const char *text, const struct block_head *head)
{
	char data[256] = "";
	struct block_head got;
	ck_assert_int_eq(block_store_get(store, key, data, sizeof(data), &got, NULL), 0);
	ck_assert_mem_eq(data, text, strlen(text));
	ck_assert_uint_eq(got.size, head->size);
	ck_assert_uint_eq(got.first_frame, head->first_frame);
	ck_assert_uint_eq(got.modified_ns, head->modified_ns);
	ck_assert_str_eq(got.etag, head->etag);
	ck_assert(hash_equal(&got.hash, &head->hash));
	ck_assert(got.recorded == head->recorded);
}

static void check_content(const char *key, const char *text)
{
	char data[256];
	size_t size;
	struct block_head head;
	struct hash hash = hash_of(text, strlen(text));
	ck_assert_int_eq(block_store_get_range(store, key, data, sizeof(data), 0, &size, NULL), 0);
	ck_assert_uint_eq(size, strlen(text));
	ck_assert_mem_eq(data, text, size);
	ck_assert_int_eq(block_store_head(store, key, &head, NULL), 0);
	ck_assert_uint_eq(head.size, strlen(text));
	ck_assert(hash_equal(&head.hash, &hash));
	check_get(key, text, &head);
}

/* ---- What a listing told ---- */

static char listed[64][BLOCK_KEY_MAX + 1];
static size_t listed_count;

static int note(void *arg, const char *key, uint64_t size)
{
	(void)arg;
	(void)size;
	ck_assert_uint_lt(listed_count, ARRAY_SIZE(listed));
	if (listed_count)
		ck_assert_str_lt(listed[listed_count - 1], key);
	(void)snprintf(listed[listed_count++], sizeof(listed[0]), "%s", key);
	return 0;
}

static size_t list(const char *prefix, const char *after)
{
	listed_count = 0;
	ck_assert_int_eq(block_store_list(store, prefix, after, note, NULL, NULL), 0);
	return listed_count;
}

/* ---- Tests ---- */

START_TEST(a_block_is_stored_once)
{
	setup_kind(_i);
	const char *key = "wal/" U1 "/" P0;
	put(key, "first");
	check_content(key, "first");
	ck_assert_int_eq(block_store_put(store, key, "second", 6, BLOCK_NO_FRAME, NULL), -EEXIST);
	int r = block_store_put(store, key, "first", 5, BLOCK_NO_FRAME, NULL);
	ck_assert(r == -EEXIST || (_i == SHAKY && r == 0)); /* equal bytes are as good as done */
	check_content(key, "first");
	ck_assert_int_eq(block_store_delete(store, key, NULL), 0);
	ck_assert_int_eq(block_store_delete(store, key, NULL), 0);
	put(key, "third");
	check_content(key, "third");
	teardown_kind();
}
END_TEST

START_TEST(a_block_is_got_whole_or_not)
{
	setup_kind(_i);
	const char *key = "wal/" U1 "/" P5;
	char data[16] = "untouched";
	struct block_head head = {.size = 77};
	put(key, "0123456789");
	ck_assert_int_eq(block_store_get(store, key, data, 9, &head, NULL), -EFBIG);
	ck_assert_uint_eq(head.size, 77);
	ck_assert_int_eq(block_store_get(store, key, data, 10, &head, NULL), 0);
	ck_assert_uint_eq(head.size, 10);
	ck_assert(head.recorded);
	ck_assert_uint_gt(head.modified_ns, 0);
	ck_assert_uint_eq(head.first_frame, BLOCK_NO_FRAME);
	teardown_kind();
}
END_TEST

START_TEST(the_first_frame_is_kept)
{
	setup_kind(_i);
	static const uint64_t frames[] = {0, 1, 4, BLOCK_NO_FRAME};
	for (size_t i = 0; i < ARRAY_SIZE(frames); i++) {
		struct block_head head;
		char key[BLOCK_KEY_MAX + 1], data[8];
		(void)snprintf(key, sizeof(key), "roots/%020zu", i);
		ck_assert_int_eq(block_store_put(store, key, "abcde", 5, frames[i], NULL), 0);
		ck_assert_int_eq(block_store_head(store, key, &head, NULL), 0);
		ck_assert_uint_eq(head.first_frame, frames[i]);
		ck_assert_int_eq(block_store_get(store, key, data, 8, &head, NULL), 0);
		ck_assert_uint_eq(head.first_frame, frames[i]);
	}
	teardown_kind();
}
END_TEST

START_TEST(only_the_owner_is_replaced)
{
	setup_kind(_i);
	ck_assert_int_eq(block_store_replace(store, "owner", "first", 5, NULL), 0);
	check_content("owner", "first");
	ck_assert_int_eq(block_store_replace(store, "owner", "the second", 10, NULL), 0);
	check_content("owner", "the second");
	ck_assert_int_eq(block_store_replace(store, "roots/" P0, "x", 1, NULL), -EINVAL);
	ck_assert_int_eq(block_store_replace(store, "../owner", "x", 1, NULL), -EINVAL);
	ck_assert_uint_eq(list("", ""), 1);
	teardown_kind();
}
END_TEST

static int stop_it(void *arg, const char *key, uint64_t size)
{
	unsigned *calls = arg;
	(void)key;
	(void)size;
	++*calls;
	block_store_stop(store);
	return 0;
}

START_TEST(stop_ends_every_call)
{
	setup_kind(_i);
	char data[4];
	size_t size;
	unsigned calls = 0;
	struct block_head head;
	struct block_store_status status;
	put("owner", "x");
	put("roots/" P0, "x");
	block_store_status(store, &status);
	ck_assert(status.conditional);
	ck_assert_int_eq(block_store_list(store, "", "", stop_it, &calls, NULL), -ECANCELED);
	ck_assert_uint_eq(calls, 1);
	ck_assert_int_eq(block_store_put(store, "roots/" P5, "x", 1, BLOCK_NO_FRAME, NULL),
			 -ECANCELED);
	ck_assert_int_eq(block_store_replace(store, "owner", "x", 1, NULL), -ECANCELED);
	ck_assert_int_eq(block_store_get(store, "owner", data, 4, &head, NULL), -ECANCELED);
	ck_assert_int_eq(block_store_get_range(store, "owner", data, 4, 0, &size, NULL),
			 -ECANCELED);
	ck_assert_int_eq(block_store_head(store, "owner", &head, NULL), -ECANCELED);
	ck_assert_int_eq(block_store_delete(store, "owner", NULL), -ECANCELED);
	ck_assert_int_eq(block_store_list(store, "", "", stop_it, &calls, NULL), -ECANCELED);
	ck_assert_uint_eq(calls, 1);
	teardown_kind();
}
END_TEST

START_TEST(ranges)
{
	setup_kind(_i);
	char data[16];
	size_t size;
	put("owner", "0123456789");
	for (uint64_t offset = 0; offset < 14; offset++) {
		for (size_t want = 0; want < 14; want++) {
			size_t there = offset < 10 ? 10 - (size_t)offset : 0;
			ck_assert_int_eq(block_store_get_range(store, "owner", data, want, offset,
							       &size, NULL),
					 0);
			ck_assert_uint_eq(size, want < there ? want : there);
			ck_assert_mem_eq(data, &"0123456789"[offset < 10 ? offset : 0],
					 size ? size : 0);
		}
	}
	ck_assert_int_eq(block_store_get_range(store, "owner", data, 4, UINT64_MAX, &size, NULL),
			 0);
	ck_assert_uint_eq(size, 0);
	teardown_kind();
}
END_TEST

START_TEST(an_empty_block)
{
	setup_kind(_i);
	put("owner", "");
	check_content("owner", "");
	ck_assert_uint_eq(list("", ""), 1);
	teardown_kind();
}
END_TEST

START_TEST(what_is_not_there)
{
	setup_kind(_i);
	char data[4];
	size_t size = 77;
	struct block_head head;
	struct reterr err = {0};
	const char *key = "wal/" U1 "/" P0;
	ck_assert_int_eq(block_store_get_range(store, key, data, 4, 0, &size, &err), -ENOENT);
	ck_assert_uint_eq(size, 77);
	ck_assert_ptr_nonnull(strstr(err.text, key));
	ck_assert_int_eq(block_store_head(store, key, &head, &err), -ENOENT);
	ck_assert_int_eq(block_store_get(store, key, data, 4, &head, &err), -ENOENT);
	ck_assert_int_eq(block_store_delete(store, key, &err), 0);
	ck_assert_uint_eq(list("", ""), 0);
	teardown_kind();
}
END_TEST

static const char *const bad_keys[] = {
	"",
	"/",
	".",
	"..",
	"../owner",
	"/etc/passwd",
	"owner/",
	"owner/x",
	"./owner",
	"Owner",
	"wal",
	"wal/",
	"wal/" U1,
	"wal/" U1 "/",
	"wal/" U1 "/1",
	"wal/" U1 "/0000000000000000000",
	"wal/" U1 "/" P0 "0",
	"wal/" U1 "/" P0 " ",
	"wal/" U1 "/" P0 "/",
	"wal/" U1 "/../" P0,
	"wal/../../" P0,
	"wal//" U1 "/" P0,
	"wal/0123456789abcdef0123456789abcdef/" P0,
	"wal/01234567-89AB-CDEF-0123-456789ABCDEF/" P0,
	"wal/" U1 "/99999999999999999999",
	"wal/" U1 "/-0000000000000000001",
	"wal/" U1 "/" P0 "+",
	"wal/" U1 "/" P0 "+0000000000-",
	"wal/" U1 "/" P0 "+0000000000-0000000000",
	"wal/" U1 "/" P0 "+0000000002-0000000001",
	"wal/" U1 "/" P0 "+0000000000-9999999999",
	"wal/" U1 "/" P0 "+0000000000-0000000001x",
	"wal/" U1 "/" P0 "+000000000-0000000001",
	"roots/",
	"roots/1",
	"roots/" P0 "0",
	"roots/" P0 "+0000000000-0000000001",
	"roots/00000000000000000001\n",
};

START_TEST(no_path_from_a_hostile_key)
{
	setup_kind(_i);
	char data[4];
	size_t size;
	struct block_head head;
	for (size_t i = 0; i < ARRAY_SIZE(bad_keys); i++) {
		ck_assert_int_eq(block_store_put(store, bad_keys[i], "x", 1, BLOCK_NO_FRAME, NULL),
				 -EINVAL);
		ck_assert_int_eq(block_store_get_range(store, bad_keys[i], data, 4, 0, &size, NULL),
				 -EINVAL);
		ck_assert_int_eq(block_store_head(store, bad_keys[i], &head, NULL), -EINVAL);
		ck_assert_int_eq(block_store_get(store, bad_keys[i], data, 4, &head, NULL),
				 -EINVAL);
		ck_assert_int_eq(block_store_delete(store, bad_keys[i], NULL), -EINVAL);
	}
	ck_assert_uint_eq(list("", ""), 0);
	teardown_kind();
}
END_TEST

START_TEST(keys_have_one_spelling)
{
	static const char *const keys[] = {
		"owner",
		"roots/00000000000000000001",
		"wal/" U1 "/" P0,
		"wal/" U1 "/" P5,
		"wal/" U1 "/" P5 "+0000000000-0000000001",
		"wal/" U1 "/" P5 "+0005242879-0005242880",
		"wal/" U1 "/04611686018427387904",
	};
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		struct block_key key;
		char text[BLOCK_KEY_MAX + 1];
		ck_assert_int_eq(block_key_parse(keys[i], &key), 0);
		ck_assert_str_eq(block_key_format(&key, text), keys[i]);
	}
	struct block_key key;
	ck_assert_int_eq(block_key_parse(keys[5], &key), 0);
	ck_assert_int_eq(key.kind, BLOCK_KEY_DELTA);
	ck_assert_uint_eq(key.position, 5242880);
	ck_assert_uint_eq(key.from, 5242879);
	ck_assert_uint_eq(key.to, 5242880);
}
END_TEST

START_TEST(listings_are_sorted_and_bounded)
{
	/* Sorted. */
	static const char *const keys[] = {
		"owner",
		"roots/00000000000000000001",
		"roots/00000000000000000002",
		"roots/00000000000000000010",
		"wal/" U1 "/" P0,
		"wal/" U1 "/" P0 "+0000000000-0000000005",
		"wal/" U1 "/" P0 "+0000000005-0000000007",
		"wal/" U1 "/" P5,
		"wal/" U2 "/" P0,
	};
	enum { COUNT = ARRAY_SIZE(keys) };
	setup_kind(_i);
	for (size_t i = 0; i < COUNT; i++)
		put(keys[i * 5 % COUNT], keys[i * 5 % COUNT]);

	/* By every prefix of a key, after every key: what a filter of the sorted array gives. */
	for (size_t p = 0; p < COUNT; p++) {
		for (size_t length = 0; length <= strlen(keys[p]); length++) {
			char prefix[BLOCK_KEY_MAX + 1];
			(void)snprintf(prefix, sizeof(prefix), "%.*s", (int)length, keys[p]);
			for (size_t a = 0; a <= COUNT; a++) {
				const char *after = a < COUNT ? keys[a] : "";
				size_t at = 0;
				(void)list(prefix, after);
				for (size_t i = 0; i < COUNT; i++) {
					if (strncmp(keys[i], prefix, length) != 0 ||
					    strcmp(keys[i], after) <= 0)
						continue;
					ck_assert_uint_lt(at, listed_count);
					ck_assert_str_eq(listed[at++], keys[i]);
				}
				ck_assert_uint_eq(at, listed_count);
			}
		}
	}
	ck_assert_uint_eq(list("x", ""), 0);
	ck_assert_uint_eq(list("", "x"), 0);
	ck_assert_uint_eq(list("", "wal/" U1 "/" P0 "x"), 2);
	teardown_kind();
}
END_TEST

static int stop_at_two(void *arg, const char *key, uint64_t size)
{
	unsigned *calls = arg;
	(void)key;
	ck_assert_uint_eq(size, 1);
	return ++*calls == 2 ? -ECANCELED : 0;
}

static int delete_it(void *arg, const char *key, uint64_t size)
{
	(void)arg;
	(void)size;
	return block_store_delete(store, key, NULL);
}

START_TEST(a_listing_can_be_ended_and_can_delete)
{
	setup_kind(_i);
	unsigned calls = 0;
	put("roots/00000000000000000001", "a");
	put("roots/00000000000000000002", "b");
	put("roots/00000000000000000003", "c");
	ck_assert_int_eq(block_store_list(store, "", "", stop_at_two, &calls, NULL), -ECANCELED);
	ck_assert_uint_eq(calls, 2);
	ck_assert_int_eq(block_store_list(store, "roots/", "", delete_it, NULL, NULL), 0);
	ck_assert_uint_eq(list("", ""), 0);
	teardown_kind();
}
END_TEST

START_TEST(too_large)
{
	setup_kind(_i);
	void *data = calloc(1, BLOCK_STORE_SIZE_MAX + 1);
	ck_assert_ptr_nonnull(data);
	ck_assert_int_eq(block_store_put(store, "owner", data, BLOCK_STORE_SIZE_MAX + 1,
					 BLOCK_NO_FRAME, NULL),
			 -EFBIG);
	ck_assert_uint_eq(list("", ""), 0);
	free(data);
	teardown_kind();
}
END_TEST

/* ---- Races ---- */

enum { THREADS = 8, ROUNDS = 40 };

struct racer {
	pthread_t thread;
	pthread_barrier_t *barrier;
	unsigned id;
	bool won[ROUNDS];
};

static void *race(void *arg)
{
	struct racer *racer = arg;
	char key[BLOCK_KEY_MAX + 1], text[32];
	for (unsigned i = 0; i < ROUNDS; i++) {
		(void)snprintf(key, sizeof(key), "roots/%020u", i);
		(void)snprintf(text, sizeof(text), "racer %u", racer->id);
		(void)pthread_barrier_wait(racer->barrier);
		int r = block_store_put(store, key, text, strlen(text), BLOCK_NO_FRAME, NULL);
		ck_assert(r == 0 || r == -EEXIST);
		racer->won[i] = r == 0;
		if (r == -EEXIST) { /* whoever is told of it can read it */
			char data[32];
			size_t size;
			ck_assert_int_eq(block_store_get_range(store, key, data, sizeof(data), 0,
							       &size, NULL),
					 0);
			ck_assert_uint_eq(size, strlen(text));
		}
	}
	return NULL;
}

START_TEST(of_many_puts_one_wins)
{
	setup_kind(_i);
	struct racer racers[THREADS] = {{0}};
	pthread_barrier_t barrier;
	ck_assert_int_eq(pthread_barrier_init(&barrier, NULL, THREADS), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		racers[i].id = i;
		racers[i].barrier = &barrier;
		ck_assert_int_eq(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(racers[i].thread, NULL), 0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned winners = 0;
		for (unsigned i = 0; i < THREADS; i++) {
			if (!racers[i].won[round])
				continue;
			char key[BLOCK_KEY_MAX + 1], text[32];
			(void)snprintf(key, sizeof(key), "roots/%020u", round);
			(void)snprintf(text, sizeof(text), "racer %u", i);
			check_content(key, text);
			winners++;
		}
		ck_assert_uint_eq(winners, 1);
	}
	(void)pthread_barrier_destroy(&barrier);
	teardown_kind();
}
END_TEST

/* ---- Memory only ---- */

START_TEST(memory_has_a_limit)
{
	ck_assert_int_eq(block_store_memory_new(10, &store), 0);
	put("owner", "123456");
	ck_assert_int_eq(block_store_put(store, "roots/" P0, "12345", 5, BLOCK_NO_FRAME, NULL),
			 -ENOSPC);
	put("roots/" P0, "1234");
	ck_assert_int_eq(block_store_delete(store, "owner", NULL), 0);
	put("owner", "654321");
	block_store_free(store);
}
END_TEST

/* ---- Directory only ---- */

static char *path_of(const char *name, char path[static 256])
{
	(void)snprintf(path, 256, "%s/%s", dir, name);
	return path;
}

START_TEST(a_directory_keeps_plain_bytes)
{
	char path[256], data[64];
	setup_kind(DIRECTORY + _i);
	put("wal/" U1 "/" P0, "hello, ");
	put("wal/" U1 "/" P5, "world");
	block_store_free(store);
	open_dir();
	check_content("wal/" U1 "/" P0, "hello, ");
	char command[600];
	(void)snprintf(command, sizeof(command), "cat %s/wal/" U1 "/*", dir);
	FILE *pipe = popen(command, "r");
	size_t size = fread(data, 1, sizeof(data), pipe);
	(void)pclose(pipe);
	ck_assert_uint_eq(size, 12);
	ck_assert_mem_eq(data, "hello, world", 12);

	/* No leftovers. */
	(void)snprintf(command, sizeof(command), "find %s -name '.*' -type f | wc -l", dir);
	pipe = popen(command, "r");
	ck_assert_int_eq(fgetc(pipe), '0');
	(void)pclose(pipe);

	/* Without the attribute the hash is that of the bytes, and head says so. */
	struct block_head head;
	(void)removexattr(path_of("wal/" U1 "/" P0, path), "user.protofs.xxh3");
	ck_assert_int_eq(block_store_head(store, "wal/" U1 "/" P0, &head, NULL), 0);
	ck_assert(!head.recorded);
	check_content("wal/" U1 "/" P0, "hello, ");
	teardown_kind();
}
END_TEST

START_TEST(a_directory_with_strange_things_in_it)
{
	char path[256], target[256];
	struct block_head head;
	setup_kind(DIRECTORY);
	put("wal/" U1 "/" P0, "block");
	put("roots/" P0, "root");
	/* Names that are no keys, and keys that are no regular files. */
	ck_assert_int_eq(close(open(path_of("README", path), O_CREAT | O_WRONLY, 0600)), 0);
	ck_assert_int_eq(close(open(path_of("wal/" U1 "/junk", path), O_CREAT | O_WRONLY, 0600)),
			 0);
	ck_assert_int_eq(symlink("/etc/passwd", path_of("owner", path)), 0);
	ck_assert_int_eq(mkfifo(path_of("roots/00000000000000000007", path), 0600), 0);
	ck_assert_int_eq(mkdir(path_of("roots/00000000000000000008", path), 0700), 0);
	ck_assert_int_eq(symlink(path_of("wal/" U1, target), path_of("wal/" U2, path)), 0);
	ck_assert_uint_eq(list("", ""), 2);
	ck_assert_int_lt(block_store_head(store, "owner", &head, NULL), 0);
	ck_assert_int_lt(block_store_head(store, "roots/00000000000000000007", &head, NULL), 0);
	ck_assert_int_lt(block_store_head(store, "roots/00000000000000000008", &head, NULL), 0);
	ck_assert_int_lt(block_store_head(store, "wal/" U2 "/" P0, &head, NULL), 0);
	ck_assert_int_lt(block_store_put(store, "wal/" U2 "/" P5, "x", 1, BLOCK_NO_FRAME, NULL), 0);
	ck_assert_int_eq(block_store_put(store, "owner", "x", 1, BLOCK_NO_FRAME, NULL), -EEXIST);
	teardown_kind();
}
END_TEST

START_TEST(leftovers_go_at_open_unless_in_use)
{
	char path[256];
	setup_kind(DIRECTORY);
	block_store_free(store);
	ck_assert_int_eq(close(open(path_of(".tmp-1-2", path), O_CREAT | O_WRONLY, 0600)), 0);
	open_dir();
	ck_assert_int_lt(access(path, F_OK), 0);
	teardown_kind();

	struct reterr err = {0};
	ck_assert_int_eq(block_store_dir_open("/nonexistent/x", &err, &store), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/x"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("block_store");
	TCase *tcase = tcase_create("block_store");
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, a_block_is_stored_once, 0, KINDS);
	tcase_add_loop_test(tcase, a_block_is_got_whole_or_not, 0, KINDS);
	tcase_add_loop_test(tcase, the_first_frame_is_kept, 0, KINDS);
	tcase_add_loop_test(tcase, only_the_owner_is_replaced, 0, KINDS);
	tcase_add_loop_test(tcase, stop_ends_every_call, 0, KINDS);
	tcase_add_loop_test(tcase, ranges, 0, KINDS);
	tcase_add_loop_test(tcase, an_empty_block, 0, KINDS);
	tcase_add_loop_test(tcase, what_is_not_there, 0, KINDS);
	tcase_add_loop_test(tcase, no_path_from_a_hostile_key, 0, KINDS);
	tcase_add_loop_test(tcase, listings_are_sorted_and_bounded, 0, KINDS);
	tcase_add_loop_test(tcase, a_listing_can_be_ended_and_can_delete, 0, KINDS);
	tcase_add_loop_test(tcase, too_large, 0, KINDS);
	tcase_add_loop_test(tcase, of_many_puts_one_wins, 0, KINDS);
	tcase_add_test(tcase, keys_have_one_spelling);
	tcase_add_test(tcase, memory_has_a_limit);
	tcase_add_loop_test(tcase, a_directory_keeps_plain_bytes, 0, 2);
	tcase_add_test(tcase, a_directory_with_strange_things_in_it);
	tcase_add_test(tcase, leftovers_go_at_open_unless_in_use);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
