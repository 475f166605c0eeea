/* Where credentials and settings come from, and which of them counts; endpoints. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/s3_credentials.h"
#include "cloud/s3_endpoint.h"
#include "cloud/s3_settings.h"
#include "tests/lib/fault_alloc.h"

static char dir[64];
static struct s3_settings settings;
static struct reterr err;

/* A home of our own, and nothing else in the environment. */
static void setup(void)
{
	char aws[128];
	ck_assert_int_eq(clearenv(), 0);
	(void)snprintf(dir, sizeof(dir), "/tmp/test-s3-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	(void)snprintf(aws, sizeof(aws), "%s/.aws", dir);
	ck_assert_int_eq(mkdir(aws, 0700), 0);
	ck_assert_int_eq(setenv("HOME", dir, 1), 0);
}

static void teardown(void)
{
	char command[128];
	s3_settings_done(&settings);
	(void)snprintf(command, sizeof(command), "/bin/rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static const char *path_of(const char *name)
{
	static char path[256];
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void write_file(const char *name, const char *text, mode_t mode)
{
	FILE *file = fopen(path_of(name), "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
	ck_assert_int_eq(chmod(path_of(name), mode), 0);
}

static void set(const char *name, const char *value)
{
	ck_assert_int_eq(setenv(name, value, 1), 0);
}

static int load(struct s3_options options)
{
	s3_settings_done(&settings);
	err = (struct reterr){0};
	if (!options.bucket)
		options.bucket = "bucket";
	int r = s3_settings_load(&options, &err, &settings);
	ck_assert_msg((r < 0) == (err.code < 0), "%d %s", r, err.text);
	ck_assert_ptr_null(strstr(err.text, "HUSH"));
	return r;
}

static void ck_text(const char *part)
{
	ck_assert_msg(strstr(err.text, part) != NULL, "\"%s\" is not in \"%s\"", part, err.text);
}

static void ck_key(const char *key)
{
	ck_assert_msg(err.code == 0, "%s", err.text);
	ck_assert_str_eq(settings.credentials->key_id, key);
}

#define KEYS(id) "aws_access_key_id = " id "\naws_secret_access_key=HUSH-" id "\n"

START_TEST(nothing_at_all)
{
	ck_assert_int_eq(load((struct s3_options){0}), -EACCES);
	ck_text("AWS_ACCESS_KEY_ID");
	ck_text("credentials=FILE");
	set("AWS_ACCESS_KEY_ID", "K");
	ck_assert_int_eq(load((struct s3_options){0}), -EACCES);
	ck_text("the environment has an access key and no secret");
	set("AWS_SECRET_ACCESS_KEY", "");
	ck_assert_int_eq(load((struct s3_options){0}), -EACCES);
}
END_TEST

START_TEST(the_environment)
{
	set("AWS_ACCESS_KEY_ID", "K");
	set("AWS_SECRET_ACCESS_KEY", "HUSH");
	ck_assert_int_eq(load((struct s3_options){0}), 0);
	ck_key("K");
	ck_assert_str_eq(settings.credentials->token, "");
	ck_assert_str_eq(settings.region, "us-east-1");
	ck_assert(settings.endpoint.aws && settings.endpoint.tls && settings.endpoint.virtual_host);
	ck_assert(!settings.source.again);
	ck_assert_str_eq(settings.ca_bundle, "");

	set("AWS_SESSION_TOKEN", "T");
	set("AWS_DEFAULT_REGION", "eu-west-1");
	set("AWS_ENDPOINT_URL", "https://one.example:8443");
	set("AWS_CA_BUNDLE", "/dev/null");
	ck_assert_int_eq(load((struct s3_options){0}), 0);
	ck_assert_str_eq(settings.credentials->token, "T");
	ck_assert_str_eq(settings.region, "eu-west-1");
	ck_assert_str_eq(settings.endpoint.host, "one.example:8443");
	ck_assert_str_eq(settings.ca_bundle, "/dev/null");

	set("AWS_REGION", "eu-west-2");
	set("AWS_ENDPOINT_URL_S3", "https://two.example");
	ck_assert_int_eq(load((struct s3_options){0}), 0);
	ck_assert_str_eq(settings.region, "eu-west-2");
	ck_assert_str_eq(settings.endpoint.host, "two.example");

	ck_assert_int_eq(load((struct s3_options){.region = "eu-west-3",
						  .endpoint = "https://three.example/",
						  .ca_bundle = "/dev/zero"}),
			 0);
	ck_assert_str_eq(settings.region, "eu-west-3");
	ck_assert_str_eq(settings.endpoint.host, "three.example");
	ck_assert_str_eq(settings.ca_bundle, "/dev/zero");

	set("AWS_REGION", "a/../b");
	ck_assert_int_eq(load((struct s3_options){0}), -EINVAL);
	set("AWS_REGION", "");
	set("AWS_CA_BUNDLE", "/nonexistent/bundle");
	ck_assert_int_eq(load((struct s3_options){0}), -EINVAL);
	ck_text("/nonexistent/bundle");
}
END_TEST

START_TEST(the_files_of_awss_tools)
{
	write_file(".aws/credentials",
		   "# comment\n[default]\n" KEYS("D") "[other]\n" KEYS(
			   "O") "aws_session_token=T\n"
				"nonsense\n[half]\naws_access_key_id = H\n",
		   0644);
	write_file(".aws/config",
		   "[default]\nregion = eu-west-1\nendpoint_url = https://d.example\n"
		   "[profile other]\nregion=eu-west-2\ns3 =\n  addressing_style = virtual\n"
		   "  max_concurrent_requests = 20\nendpoint_url = https://o.example\n"
		   "[profile config]\n" KEYS("C") "[unprefixed]\n" KEYS(
			   "U") "[profile sso]\nsso_session = x\n",
		   0600);
	ck_assert_int_eq(load((struct s3_options){0}), 0);
	ck_key("D");
	ck_assert_str_eq(settings.credentials->secret, "HUSH-D");
	ck_assert_str_eq(settings.region, "eu-west-1");
	ck_assert_str_eq(settings.endpoint.host, "d.example");
	ck_assert(!settings.endpoint.virtual_host && settings.source.again);

	set("AWS_PROFILE", "other");
	ck_assert_int_eq(load((struct s3_options){0}), 0);
	ck_key("O");
	ck_assert_str_eq(settings.credentials->token, "T");
	ck_assert_str_eq(settings.region, "eu-west-2");
	ck_assert(settings.endpoint.virtual_host);

	/* The environment's keys count more, the option more still. */
	set("AWS_ACCESS_KEY_ID", "K");
	set("AWS_SECRET_ACCESS_KEY", "HUSH");
	ck_assert_int_eq(load((struct s3_options){0}), 0);
	ck_key("K");
	ck_assert_str_eq(settings.region, "eu-west-2");
	ck_assert_int_eq(load((struct s3_options){.profile = "config"}), 0);
	ck_key("C");

	ck_assert_int_eq(load((struct s3_options){.profile = "half"}), -EACCES);
	ck_assert_int_eq(load((struct s3_options){.profile = "unprefixed"}), -EACCES);
	ck_text("\"unprefixed\"");
	ck_assert_int_eq(load((struct s3_options){.profile = "sso"}), -EACCES);
	ck_text("sso_session");
	ck_assert_int_eq(
		load((struct s3_options){
			.profile = "a-name-that-is-longer-than-any-that-inih-keeps-whole"}),
		-EINVAL);
}
END_TEST

START_TEST(files_elsewhere)
{
	write_file("one", "[p]\n" KEYS("P"), 0600);
	write_file("two", "[profile p]\nregion = eu-west-9\n", 0600);
	set("AWS_SHARED_CREDENTIALS_FILE", path_of("one"));
	set("AWS_CONFIG_FILE", path_of("two"));
	ck_assert_int_eq(load((struct s3_options){.profile = "p"}), 0);
	ck_key("P");
	ck_assert_str_eq(settings.region, "eu-west-9");

	/* Read again it says something else. */
	struct s3_credentials *again = NULL;
	write_file("one", "[p]\n" KEYS("Q"), 0600);
	ck_assert_int_eq(s3_source_read(&settings.source, &err, &again), 0);
	ck_assert_str_eq(again->key_id, "Q");
	ck_assert(!s3_credentials_equal(again, settings.credentials));
	s3_credentials_unref(again);
	write_file("one", "", 0600);
	ck_assert_int_eq(s3_source_read(&settings.source, &err, &again), -EACCES);
}
END_TEST

START_TEST(a_private_file)
{
	char file[256];
	set("AWS_ACCESS_KEY_ID", "K");
	set("AWS_SECRET_ACCESS_KEY", "HUSH");
	write_file(".aws/config", "[default]\nregion = eu-west-1\n", 0600);
	write_file("private", KEYS("F") "region = eu-west-7\nendpoint_url = https://f.example\n",
		   0600);
	(void)snprintf(file, sizeof(file), "%s", path_of("private"));
	const struct s3_options options = {.credentials_file = file};
	ck_assert_int_eq(load(options), 0);
	ck_key("F");
	ck_assert_str_eq(settings.region, "eu-west-7");
	ck_assert_str_eq(settings.endpoint.host, "f.example");

	static const mode_t open_to_others[] = {0640, 0604, 0660, 0644, 0601};
	for (size_t i = 0; i < ARRAY_SIZE(open_to_others); i++) {
		ck_assert_int_eq(chmod(file, open_to_others[i]), 0);
		ck_assert_int_eq(load(options), -EACCES);
		ck_text("chmod 600");
	}
	ck_assert_int_eq(chmod(file, 0400), 0);
	ck_assert_int_eq(load(options), 0);
	if (geteuid() == 0) {
		ck_assert_int_eq(chown(file, 65534, 65534), 0);
		ck_assert_int_eq(load(options), -EACCES);
		ck_text("chown");
		ck_assert_int_eq(chown(file, 0, 0), 0);
	}

	write_file("private", "[default]\n" KEYS("F") "nonsense HUSH\n", 0600);
	ck_assert_int_eq(load(options), -EINVAL);
	ck_text("line 4");
	write_file("private", "[other]\n" KEYS("F"), 0600);
	ck_assert_int_eq(load(options), -EACCES);
	ck_text("\"default\"");
	write_file("private", "[other]\n" KEYS("F") "[profile default]\n" KEYS("G"), 0600);
	ck_assert_int_eq(load(options), 0);
	ck_key("G");

	ck_assert_int_eq(unlink(file), 0);
	ck_assert_int_eq(load(options), -EACCES);
	ck_text(file);
	ck_assert_int_eq(mkdir(file, 0700), 0);
	ck_assert_int_eq(load(options), -EACCES);
}
END_TEST

START_TEST(a_relative_path_stays_what_it_was)
{
	struct s3_credentials *again = NULL;
	write_file("private", KEYS("F"), 0600);
	ck_assert_int_eq(chdir(dir), 0);
	ck_assert_int_eq(load((struct s3_options){.credentials_file = "private"}), 0);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(s3_source_read(&settings.source, &err, &again), 0);
	s3_credentials_unref(again);
}
END_TEST

START_TEST(long_lines)
{
	/* A session token is longer than what inih takes by itself. */
	char text[8192] = KEYS("F") "aws_session_token = ";
	size_t length = strlen(text);
	memset(text + length, 't', S3_SESSION_TOKEN_SIZE - 1);
	write_file("private", text, 0600);
	const struct s3_options options = {.credentials_file = path_of("private")};
	char file[256];
	(void)snprintf(file, sizeof(file), "%s", options.credentials_file);
	ck_assert_int_eq(load((struct s3_options){.credentials_file = file}), 0);
	ck_assert_uint_eq(strlen(settings.credentials->token), S3_SESSION_TOKEN_SIZE - 1);

	/* One more is too long, and half a token is none. */
	strcat(text, "t");
	write_file("private", text, 0600);
	ck_assert_int_eq(load((struct s3_options){.credentials_file = file}), -EINVAL);
	ck_text("line 3");
}
END_TEST

START_TEST(large_files)
{
	char file[256];
	char *text = malloc(S3_INI_SIZE_MAX + 2);
	ck_assert_ptr_nonnull(text);
	memset(text, '\n', S3_INI_SIZE_MAX + 1);
	text[S3_INI_SIZE_MAX + 1] = '\0';
	write_file("private", text, 0600);
	free(text);
	(void)snprintf(file, sizeof(file), "%s", path_of("private"));
	ck_assert_int_eq(load((struct s3_options){.credentials_file = file}), -EINVAL);
	ck_text("more than");
}
END_TEST

START_TEST(buckets_and_prefixes)
{
	static const char *const bad_buckets[] = {"",    "ab",   "a/b", "a b", ".abc",
						  "-ab", "a..b", "a%b", "a?b", "a\nb"};
	static const char *const bad_prefixes[] = {"/",   "/a",   "a/",   "a//b", ".",    "..",
						   "a/.", "../a", "a/..", "a%b",  "a\nb", "a\x7f"};
	static const char *const prefixes[] = {"a", "a/b", "...", "a b+c", "\xc3\xa9", ".a/b."};
	set("AWS_ACCESS_KEY_ID", "K");
	set("AWS_SECRET_ACCESS_KEY", "HUSH");
	for (size_t i = 0; i < ARRAY_SIZE(bad_buckets); i++)
		ck_assert_msg(load((struct s3_options){.bucket = bad_buckets[i]}) == -EINVAL, "%s",
			      bad_buckets[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad_prefixes); i++)
		ck_assert_msg(load((struct s3_options){.prefix = bad_prefixes[i]}) == -EINVAL, "%s",
			      bad_prefixes[i]);
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
		ck_assert_int_eq(load((struct s3_options){.prefix = prefixes[i]}), 0);
		ck_assert_uint_eq(strlen(settings.prefix), strlen(prefixes[i]) + 1);
	}
	ck_assert_int_eq(load((struct s3_options){.prefix = ""}), 0);
	ck_assert_str_eq(settings.prefix, "");

	char prefix[S3_PREFIX_SIZE] = "";
	memset(prefix, 'p', S3_PREFIX_SIZE - 2);
	ck_assert_int_eq(load((struct s3_options){.prefix = prefix}), 0);
	prefix[S3_PREFIX_SIZE - 2] = 'p';
	prefix[S3_PREFIX_SIZE - 1] = '\0';
	ck_assert_int_eq(load((struct s3_options){.prefix = prefix}), -EINVAL);
}
END_TEST

static const struct {
	const char *url, *host; /* NULL: refused */
	bool loopback;
} endpoints[] = {
	{"https://a.example", "a.example", false},
	{"https://a.example/", "a.example", false},
	{"https://a.example:443", "a.example", false},
	{"https://a.example:80", "a.example:80", false},
	{"HTTPS://1.2.3.4:9000", "1.2.3.4:9000", false},
	{"https://[::2]:9000", "[::2]:9000", false},
	{"http://localhost:9000", "localhost:9000", true},
	{"http://x.localhost", "x.localhost", true},
	{"http://127.0.0.1:80", "127.0.0.1", true},
	{"http://127.1.2.3:9000", "127.1.2.3:9000", true},
	{"http://[::1]:9000", "[::1]:9000", true},
	{"http://a.example", NULL, false},
	{"http://127.0.0.1.evil.example", NULL, false},
	{"http://localhost.evil.example", NULL, false},
	{"http://10.0.0.1", NULL, false},
	{"a.example", NULL, false},
	{"ftp://a.example", NULL, false},
	{"https://", NULL, false},
	{"https:///", NULL, false},
	{"https://a.example/path", NULL, false},
	{"https://a.example?x", NULL, false},
	{"https://a.example#x", NULL, false},
	{"https://user:pw@a.example", NULL, false},
	{"https://a.example:", NULL, false},
	{"https://a.example:0", NULL, false},
	{"https://a.example:65536", NULL, false},
	{"https://a.example:8x", NULL, false},
	{"https://a b", NULL, false},
	{"https://a\r\nx", NULL, false},
	{"https://[::g]", NULL, false},
	{"https://[::1", NULL, false},
	{"https://[]", NULL, false},
	{"https://::1", NULL, false},
};

START_TEST(endpoint_urls)
{
	struct s3_endpoint endpoint;
	int r = s3_endpoint_parse(endpoints[_i].url, "bucket", false, false, &err, &endpoint);
	if (!endpoints[_i].host) {
		ck_assert_msg(r == -EINVAL, "%s", endpoints[_i].url);
		return;
	}
	ck_assert_msg(r == 0, "%s: %s", endpoints[_i].url, err.text);
	ck_assert_str_eq(endpoint.host, endpoints[_i].host);
	ck_assert(endpoint.loopback == endpoints[_i].loopback);
}
END_TEST

START_TEST(http_only_where_it_is_allowed)
{
	set("AWS_ACCESS_KEY_ID", "K");
	set("AWS_SECRET_ACCESS_KEY", "HUSH");
	const char *url = "http://minio:9000";
	ck_assert_int_eq(load((struct s3_options){.endpoint = url}), -EINVAL);
	ck_text("PROTOFS_S3_ALLOW_HTTP=1");
	ck_assert_int_eq(load((struct s3_options){.endpoint = url, .allow_http = true}), 0);
	ck_assert(!settings.endpoint.tls);
	set("PROTOFS_S3_ALLOW_HTTP", "1");
	ck_assert_int_eq(load((struct s3_options){.endpoint = url}), 0);
}
END_TEST

static void ck_host(const char *url, const char *bucket, bool virtual_host, const char *region,
		    const char *host)
{
	struct s3_endpoint endpoint;
	struct buf buf = {.max = 512};
	int r = s3_endpoint_parse(url, bucket, virtual_host, false, &err, &endpoint);
	if (!host) {
		ck_assert_int_eq(r, -EINVAL);
		return;
	}
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(s3_endpoint_host(&endpoint, bucket, region, &buf), 0);
	ck_assert_int_eq(buf_append_zeros(&buf, 1), 0);
	ck_assert_str_eq((char *)buf.data, host);
	buf_done(&buf);
}

START_TEST(hosts)
{
	ck_host(NULL, "bucket", false, "eu-west-3", "bucket.s3.eu-west-3.amazonaws.com");
	ck_host(NULL, "Bucket", false, "us-east-1", "s3.us-east-1.amazonaws.com");
	ck_host(NULL, "a.b", true, "cn-north-1", "s3.cn-north-1.amazonaws.com.cn");
	ck_host("https://h:1", "bucket", true, "r", "bucket.h:1");
	ck_host("https://h:1", "bucket", false, "r", "h:1");
	ck_host("https://h", "a.b", true, "r", NULL);
	ck_host("https://1.2.3.4:5", "bucket", true, "r", NULL);
	ck_host("https://[::1]:5", "bucket", true, "r", NULL);
}
END_TEST

START_TEST(without_memory)
{
	bool failed;
	uint64_t n = 0;
	write_file(".aws/credentials", "[default]\n" KEYS("D"), 0644);
	ck_assert(fault_alloc_available());
	do {
		struct s3_options options = {.bucket = "bucket"};
		s3_settings_done(&settings);
		fault_alloc_fail(++n);
		int r = s3_settings_load(&options, &err, &settings);
		failed = fault_alloc_stop();
		ck_assert_int_eq(r, failed ? -ENOMEM : 0);
	} while (failed);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("s3_settings");
	TCase *tcase = tcase_create("s3_settings");
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, nothing_at_all);
	tcase_add_test(tcase, the_environment);
	tcase_add_test(tcase, the_files_of_awss_tools);
	tcase_add_test(tcase, files_elsewhere);
	tcase_add_test(tcase, a_private_file);
	tcase_add_test(tcase, a_relative_path_stays_what_it_was);
	tcase_add_test(tcase, long_lines);
	tcase_add_test(tcase, large_files);
	tcase_add_test(tcase, buckets_and_prefixes);
	tcase_add_loop_test(tcase, endpoint_urls, 0, (int)ARRAY_SIZE(endpoints));
	tcase_add_test(tcase, http_only_where_it_is_allowed);
	tcase_add_test(tcase, hosts);
	tcase_add_test(tcase, without_memory);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
