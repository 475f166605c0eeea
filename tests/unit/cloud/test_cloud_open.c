/* URLs of clouds: what they open, and what is said of those that are none. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/cloud.h"
#include "tests/lib/fault_alloc.h"
#include "tests/lib/temp_dir.h"

static struct block_store *store;
static char dir[TEMP_DIR_SIZE];

static void setup(void)
{
	temp_dir_make(dir);
	(void)setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1);
	(void)setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test", 1);
}

static void teardown(void)
{
	temp_dir_remove(dir);
}

static const struct cloud_options options = {.retry = {.seed = 1}};

static const char *place_of(const char *url)
{
	struct reterr err = {0};
	struct block_store_status status;
	int r = cloud_open(url, &options, &err, &store);
	ck_assert_msg(r == 0, "%s: %s", url, err.text);
	block_store_status(store, &status);
	return status.place;
}

START_TEST(memory)
{
	struct block_store_status status;
	char data[8];
	struct block_head head;
	ck_assert_str_eq(place_of("mem:"), "memory");
	ck_assert_int_eq(block_store_put(store, "owner", "abc", 3, BLOCK_NO_FRAME, NULL), 0);
	ck_assert_int_eq(block_store_get(store, "owner", data, 8, &head, NULL), 0);
	block_store_status(store, &status);
	ck_assert_uint_eq(status.requests[BLOCK_REQUEST_PUT], 1);
	ck_assert_uint_eq(status.requests[BLOCK_REQUEST_GET], 1);
	block_store_free(store);

	const struct cloud_options small = {.memory_size_max = 2};
	ck_assert_int_eq(cloud_open("mem:", &small, NULL, &store), 0);
	ck_assert_int_eq(block_store_put(store, "owner", "abc", 3, BLOCK_NO_FRAME, NULL), -ENOSPC);
	block_store_free(store);
}
END_TEST

START_TEST(a_directory)
{
	char url[256], path[256];
	struct reterr err = {0};
	struct stat st;
	(void)snprintf(url, sizeof(url), "file://%s", dir);
	ck_assert_str_eq(place_of(url), "directory");
	ck_assert_int_eq(block_store_put(store, "owner", "abc", 3, BLOCK_NO_FRAME, NULL), 0);
	block_store_free(store);
	(void)snprintf(path, sizeof(path), "%s/owner", dir);
	ck_assert_int_eq(stat(path, &st), 0);

	(void)snprintf(url, sizeof(url), "file://%s/a/b//c/", dir);
	ck_assert_int_eq(cloud_open(url, &options, &err, &store), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "/a/b//c/"));
	const struct cloud_options make = {.make = true};
	ck_assert_int_eq(cloud_open(url, &make, &err, &store), 0);
	block_store_free(store);
	(void)snprintf(path, sizeof(path), "%s/a/b/c", dir);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);

	(void)snprintf(url, sizeof(url), "file://%s/owner/x", dir);
	ck_assert_int_eq(cloud_open(url, &make, &err, &store), -ENOTDIR);
	ck_assert_ptr_nonnull(strstr(err.text, "/owner"));
}
END_TEST

START_TEST(buckets)
{
	static const char *const urls[] = {
		"s3://bucket",       "s3://bucket/",       "s3://bucket/prefix",
		"s3://bucket/a/b/c", "s3://bucket/a/b/c/", "s3://My_bucket.x-1/\xc3\xa4 b",
	};
	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		ck_assert_str_eq(place_of(urls[i]), "s3");
		block_store_free(store);
	}
}
END_TEST

START_TEST(what_is_no_cloud)
{
	static const struct {
		const char *url, *says;
	} cases[] = {
		{"", "s3://bucket/prefix"},
		{"bucket", "s3://bucket/prefix, file:///directory or mem:"},
		{"/var/blocks", "file:///directory"},
		{"S3://bucket", "s3://"},
		{"s3:bucket", "s3://"},
		{"s3:/bucket", "s3://"},
		{"s3://", "has no bucket"},
		{"s3:///prefix", "has no bucket"},
		{"s3://user@host/prefix", "no name of a bucket"},
		{"s3://host:9000/bucket", "no name of a bucket"},
		{"s3://buck et", "no name of a bucket"},
		{"s3://bucket//prefix", "components without names"},
		{"s3://bucket/a//b", "components without names"},
		{"s3://bucket/a//", "components without names"},
		{"s3://bucket/../other", "\"..\""},
		{"s3://bucket/a/./b", "\"..\""},
		{"s3://bucket/a?versionId=3", "\"?\""},
		{"s3://bucket/a#b", "\"#\""},
		{"s3://bucket/a\nb", "control characters"},
		{"file://relative", "three slashes"},
		{"file:/etc", "file:///directory"},
		{"file://", "three slashes"},
		{"mem:x", "nothing can follow"},
		{"mem://", "nothing can follow"},
		{"mem", "mem:"},
		{"https://s3.amazonaws.com/bucket", "endpoint"},
		{"http://localhost:9000", "endpoint"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct reterr err = {0};
		int r = cloud_open(cases[i].url, &options, &err, &store);
		ck_assert_msg(r == -EINVAL, "%s: %d", cases[i].url, r);
		ck_assert_int_eq(err.code, -EINVAL);
		ck_assert_msg(strstr(err.text, cases[i].says), "%s: %s", cases[i].url, err.text);
	}
	static const char *const beginnings[] = {"s3://bucket/", "s3://bucket"};
	for (size_t i = 0; i < ARRAY_SIZE(beginnings); i++) {
		char url[4000];
		(void)snprintf(url, sizeof(url), "%s%03900d", beginnings[i], 1);
		ck_assert_int_eq(cloud_open(url, &options, NULL, &store), -EINVAL);
	}
}
END_TEST

START_TEST(no_memory)
{
	char url[256];
	if (!fault_alloc_available())
		return;
	(void)snprintf(url, sizeof(url), "file://%s", dir);
	const char *const urls[] = {"mem:", url, "s3://bucket/prefix"};
	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		bool failed = true;
		for (uint64_t n = 1; failed; n++) {
			fault_alloc_fail(n);
			int r = cloud_open(urls[i], &options, NULL, &store);
			failed = fault_alloc_stop();
			ck_assert_msg(r == (failed ? -ENOMEM : 0), "%s: %d", urls[i], r);
			if (r == 0)
				block_store_free(store);
		}
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cloud_open");
	TCase *tcase = tcase_create("cloud_open");
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, memory);
	tcase_add_test(tcase, a_directory);
	tcase_add_test(tcase, buckets);
	tcase_add_test(tcase, what_is_no_cloud);
	tcase_add_test(tcase, no_memory);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
