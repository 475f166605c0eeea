/* What a store remembers of its cloud: the file, what a mount says instead, what is refused. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"
#include "cmd/settings.h"
#include "tests/lib/fault_alloc.h"

static char store[64];
static struct settings settings, given;
static struct reterr err;

static void setup(void)
{
	(void)snprintf(store, sizeof(store), "/tmp/protofs-settings-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(store));
	settings = given = (struct settings){0};
	err = (struct reterr){0};
}

static void teardown(void)
{
	char path[128];
	settings_done(&settings);
	settings_done(&given);
	(void)snprintf(path, sizeof(path), "%s/cloud.conf", store);
	(void)unlink(path);
	ck_assert_int_eq(rmdir(store), 0); /* nothing else was left there */
}

static void set(struct settings *s, const char *name, const char *value)
{
	ck_assert_msg(settings_set(s, name, value, &err) == 0, "%s: %s", name, err.text);
}

static void write_file(const char *text)
{
	char path[128];
	(void)snprintf(path, sizeof(path), "%s/cloud.conf", store);
	FILE *file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

START_TEST(what_is_saved_is_loaded)
{
	struct stat st;
	char path[128];

	set(&given, "cloud", "s3://bucket/some/prefix with spaces");
	set(&given, "durability", "cloud");
	set(&given, "upload_interval", "1500ms");
	set(&given, "transfers", "3");
	set(&given, "bandwidth", "10M");
	set(&given, "disk_max", "50G");
	set(&given, "cache_max", "1G");
	set(&given, "endpoint", "https://s3.example.org:9000");
	set(&given, "region", "eu-west-1");
	set(&given, "profile", "work");
	set(&given, "credentials", "/etc/protofs/key");
	set(&given, "ca_bundle", "/etc/ca.pem");
	set(&given, "virtual_host", NULL);
	set(&given, "server_id", "12");
	ck_assert_int_eq(settings_save(store, &given, &err), 0);
	ck_assert_int_eq(settings_load(store, &settings, &err), 0);

	ck_assert_str_eq(settings.cloud, given.cloud);
	ck_assert_int_eq(settings.durability, DURABILITY_CLOUD);
	ck_assert_uint_eq(settings.upload_interval_ms, 1500);
	ck_assert_uint_eq(settings.transfers, 3);
	ck_assert_uint_eq(settings.bandwidth, 10 << 20);
	ck_assert_uint_eq(settings.disk_max, UINT64_C(50) << 30);
	ck_assert_uint_eq(settings.cache_max, UINT64_C(1) << 30);
	ck_assert_str_eq(settings.endpoint, given.endpoint);
	ck_assert_str_eq(settings.region, "eu-west-1");
	ck_assert_str_eq(settings.profile, "work");
	ck_assert_str_eq(settings.credentials, "/etc/protofs/key");
	ck_assert_str_eq(settings.ca_bundle, "/etc/ca.pem");
	ck_assert(settings.virtual_host);
	ck_assert_uint_eq(settings.server_id, 12);

	(void)snprintf(path, sizeof(path), "%s/cloud.conf", store);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
}
END_TEST

/* One that the setting NAME takes, whose ARGUMENT's kind is that. */
static const char *some_value(const char *name, const char *argument)
{
	static const struct {
		const char *of, *value;
	} values[] = {
		{"cloud", "file:///x"}, {"endpoint", "http://x"}, {"durability", "local"},
		{"SIZE", "1G"},         {"TIME", "3s"},           {"N", "5"},
	};
	if (!argument)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		if (strcmp(values[i].of, name) == 0 || strcmp(values[i].of, argument) == 0)
			return values[i].value;
	return "/x";
}

START_TEST(every_setting_survives_the_file)
{
	const char *name, *argument, *help;
	for (size_t i = 0; settings_describe(i, &name, &argument, &help); i++) {
		const char *value = some_value(name, argument);
		struct settings back = {0};
		set(&settings, name, value);
		ck_assert_msg(settings_any(&settings), "%s is nothing", name);
		ck_assert_int_eq(settings_save(store, &settings, &err), 0);
		ck_assert_int_eq(settings_load(store, &back, &err), 0);
		settings_done(&settings);
		ck_assert_msg(settings_any(&back), "%s got lost", name);
		settings_done(&back);
	}
}
END_TEST

START_TEST(a_value_is_as_long_as_it_may_be)
{
	char value[SETTINGS_TEXT_MAX + 2] = "file:///";
	memset(value + 8, 'x', sizeof(value) - 9);
	value[sizeof(value) - 1] = '\0';
	ck_assert_int_eq(settings_set(&given, "cloud", value, &err), -EINVAL);
	value[SETTINGS_TEXT_MAX] = '\0';
	set(&given, "cloud", value);
	ck_assert_int_eq(settings_save(store, &given, &err), 0);
	ck_assert_int_eq(settings_load(store, &settings, &err), 0);
	ck_assert_str_eq(settings.cloud, value);
}
END_TEST

START_TEST(a_path_is_absolute_for_whoever_works_elsewhere)
{
	char here[PATH_MAX], want[PATH_MAX + 8];
	ck_assert_int_eq(chdir("/tmp"), 0);
	ck_assert_ptr_nonnull(getcwd(here, sizeof(here)));
	(void)snprintf(want, sizeof(want), "%s/key", here);
	set(&settings, "credentials", "key");
	ck_assert_str_eq(settings.credentials, want);
}
END_TEST

START_TEST(a_store_without_the_file_has_nothing_set)
{
	ck_assert_int_eq(settings_load(store, &settings, &err), 0);
	ck_assert(!settings_any(&settings));
	ck_assert_int_eq(settings_load("/nonexistent", &settings, &err), -ENOENT);
}
END_TEST

static const struct {
	const char *text;
	const char *says;
} damaged[] = {
	{"colour = red\n", "line 1: there is no setting 'colour'"},
	{"# fine\ncloud = file:///x\ntransfers = many\n", "line 3"},
	{"transfers = many\ncolour = red\n", "many"}, /* the first counts */
	{"cloud\n", "line 1"},
	{"cloud =\n", "needs a value"},
	{"cloud = s3://a:b@c/d\n", "no name and password"},
	{"[s3]\ncloud = file:///x\n", "sections"},
	{"virtual_host = maybe\n", "takes no value"},
	{"\x01\x02\x03\n", "line 1"},
};

START_TEST(what_is_no_setting_is_told_with_its_line)
{
	write_file(damaged[_i].text);
	ck_assert_int_eq(settings_load(store, &settings, &err), -EINVAL);
	ck_assert_msg(strstr(err.text, damaged[_i].says), "%s: %s", damaged[_i].text, err.text);
	ck_assert_ptr_null(settings.cloud);
}
END_TEST

START_TEST(a_line_that_would_be_cut_is_refused)
{
	char text[300] = "cloud = file:///";
	memset(text + 16, 'x', 240);
	text[256] = '\n';
	text[257] = '\0';
	write_file(text);
	ck_assert_int_eq(settings_load(store, &settings, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "bytes"));
}
END_TEST

START_TEST(what_a_mount_says_counts_before_what_is_remembered)
{
	set(&settings, "cloud", "file:///a");
	set(&settings, "transfers", "3");
	set(&settings, "durability", "cloud");
	ck_assert_int_eq(settings_save(store, &settings, &err), 0);

	set(&given, "transfers", "5");
	set(&given, "durability", "local");
	set(&given, "cloud", "file:///a");
	ck_assert_int_eq(settings_resolve(store, &given, &err), 0);
	ck_assert_str_eq(given.cloud, "file:///a");
	ck_assert_uint_eq(given.transfers, 5);
	ck_assert_int_eq(given.durability, DURABILITY_LOCAL);
}
END_TEST

START_TEST(another_cloud_than_the_stores_is_refused)
{
	set(&settings, "cloud", "file:///a");
	ck_assert_int_eq(settings_save(store, &settings, &err), 0);
	set(&given, "cloud", "file:///b");
	ck_assert_int_eq(settings_resolve(store, &given, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "file:///a"));
	ck_assert_ptr_nonnull(strstr(err.text, "file:///b"));
}
END_TEST

START_TEST(some_things_need_a_cloud)
{
	set(&given, "durability", "cloud");
	ck_assert_int_eq(settings_resolve(store, &given, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "needs a bucket"));
	set(&settings, "disk_max", "1G");
	ck_assert_int_eq(settings_resolve(NULL, &settings, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "needs a bucket"));
}
END_TEST

START_TEST(memory_is_no_cloud_for_what_lasts)
{
	set(&given, "cloud", "mem:");
	ck_assert_int_eq(settings_resolve(NULL, &given, &err), 0);
	ck_assert_int_eq(settings_resolve(store, &given, &err), -EINVAL);
}
END_TEST

START_TEST(the_first_cloud_is_remembered_and_nothing_else)
{
	set(&given, "cloud", "file:///a");
	set(&given, "transfers", "3");
	ck_assert_int_eq(settings_remember(store, &given, &err), 0);
	ck_assert_int_eq(settings_load(store, &settings, &err), 0);
	ck_assert_str_eq(settings.cloud, "file:///a");
	ck_assert_uint_eq(settings.transfers, 0);

	settings_done(&given);
	set(&given, "cloud", "file:///b");
	ck_assert_int_eq(settings_remember(store, &given, &err), 0);
	settings_done(&settings);
	ck_assert_int_eq(settings_load(store, &settings, &err), 0);
	ck_assert_str_eq(settings.cloud, "file:///a");
}
END_TEST

START_TEST(without_memory_nothing_is_half_done)
{
	static const char text[] =
		"cloud = file:///a\ncredentials = key\nprofile = p\ntransfers = 3\n";
	const struct slice file = {.data = (const uint8_t *)text, .size = sizeof(text) - 1};
	bool failed;
	uint64_t n = 0;

	do {
		struct settings over = {0};
		fault_alloc_fail(++n);
		int r = settings_parse(file, &settings, &err);
		if (r == 0)
			r = settings_override(&over, &settings);
		failed = fault_alloc_stop();
		ck_assert_int_eq(r < 0, failed);
		ck_assert(r == 0 || r == -ENOMEM);
		settings_done(&over);
		settings_done(&settings);
	} while (failed);
	ck_assert_uint_gt(n, 5);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("settings");
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, what_is_saved_is_loaded);
	tcase_add_test(tcase, every_setting_survives_the_file);
	tcase_add_test(tcase, a_value_is_as_long_as_it_may_be);
	tcase_add_test(tcase, a_path_is_absolute_for_whoever_works_elsewhere);
	tcase_add_test(tcase, a_store_without_the_file_has_nothing_set);
	tcase_add_loop_test(tcase, what_is_no_setting_is_told_with_its_line, 0,
			    (int)ARRAY_SIZE(damaged));
	tcase_add_test(tcase, a_line_that_would_be_cut_is_refused);
	tcase_add_test(tcase, what_a_mount_says_counts_before_what_is_remembered);
	tcase_add_test(tcase, another_cloud_than_the_stores_is_refused);
	tcase_add_test(tcase, some_things_need_a_cloud);
	tcase_add_test(tcase, memory_is_no_cloud_for_what_lasts);
	tcase_add_test(tcase, the_first_cloud_is_remembered_and_nothing_else);
	tcase_add_test(tcase, without_memory_nothing_is_half_done);
	Suite *suite = suite_create("cmd/settings");
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
