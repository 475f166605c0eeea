/* Options of a mount, alone and in lists. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "cmd/options.h"

static struct options options;
static struct reterr err;

static void setup(void)
{
	options_init(&options);
	err = (struct reterr){0};
}

static void teardown(void)
{
	options_done(&options);
}

START_TEST(a_list_sets_what_it_names)
{
	ck_assert_int_eq(options_parse(&options,
				       "ro,flush_interval=250ms,uid=7,gid=8,size=2G,strict_root,"
				       "log=/var/log/p.log,blob_max=1M,allow_other",
				       &err),
			 0);
	ck_assert(options.read_only && options.strict_root && options.allow_other);
	ck_assert(!options.noprotect && !options.fence_root);
	ck_assert(options.uid_set && options.uid == 7);
	ck_assert(options.gid_set && options.gid == 8);
	ck_assert_uint_eq(options.flush_interval_ms, 250);
	ck_assert_uint_eq(options.memory_size, UINT64_C(2) << 30);
	ck_assert_uint_eq(options.blob_size_max, 1 << 20);
	ck_assert_str_eq(options.log_path, "/var/log/p.log");
	ck_assert_uint_eq(options.fuse.size, 0);
}
END_TEST

START_TEST(a_plain_interval_is_in_milliseconds)
{
	ck_assert_int_eq(options_set(&options, "flush_interval", "1500", &err), 0);
	ck_assert_uint_eq(options.flush_interval_ms, 1500);
	ck_assert_int_eq(options_set(&options, "flush-interval", "2s", &err), 0);
	ck_assert_uint_eq(options.flush_interval_ms, 2000);
}
END_TEST

START_TEST(users_and_groups_have_names_too)
{
	ck_assert_int_eq(options_parse(&options, "uid=root,gid=root", &err), 0);
	ck_assert(options.uid_set && options.uid == 0 && options.gid_set && options.gid == 0);
}
END_TEST

START_TEST(what_mount_and_fstab_add_is_taken_and_means_nothing)
{
	ck_assert_int_eq(options_parse(&options,
				       "rw,dev,suid,noauto,user,_netdev,x-systemd.automount,nofail,"
				       "defaults,comment=a,relatime",
				       &err),
			 0);
	ck_assert_uint_eq(options.fuse.size, 0);
	ck_assert(!options.read_only);
}
END_TEST

START_TEST(the_options_of_fuse_are_passed_on)
{
	ck_assert_int_eq(options_parse(&options, "noatime,ro,max_read=4096,noexec", &err), 0);
	ck_assert_str_eq((const char *)options.fuse.data, "noatime,max_read=4096,noexec");
	ck_assert(options.read_only);
}
END_TEST

START_TEST(a_backslash_keeps_a_comma)
{
	ck_assert_int_eq(options_parse(&options, "log=/a\\,b\\\\c,ro", &err), 0);
	ck_assert_str_eq(options.log_path, "/a,b\\c");
	ck_assert(options.read_only);
}
END_TEST

START_TEST(empty_items_are_harmless)
{
	ck_assert_int_eq(options_parse(&options, "", &err), 0);
	ck_assert_int_eq(options_parse(&options, ",,ro,", &err), 0);
	ck_assert(options.read_only);
}
END_TEST

START_TEST(the_cloud_has_its_options)
{
	ck_assert_int_eq(
		options_parse(&options,
			      "cloud=s3://bucket/a/b,durability=cloud,upload_interval=250ms,"
			      "transfers=16,bandwidth=10M,disk_max=50G,cache_max=2G,"
			      "endpoint=http://localhost:9000,region=eu-west-1,profile=p,"
			      "credentials=/etc/p/key,ca_bundle=/ca.pem,virtual_host,take_over,"
			      "server_id=7",
			      &err),
		0);
	const struct settings *s = &options.settings;
	ck_assert_str_eq(s->cloud, "s3://bucket/a/b");
	ck_assert_int_eq(s->durability, DURABILITY_CLOUD);
	ck_assert_uint_eq(s->upload_interval_ms, 250);
	ck_assert_uint_eq(s->transfers, 16);
	ck_assert_uint_eq(s->bandwidth, 10 << 20);
	ck_assert_uint_eq(s->disk_max, UINT64_C(50) << 30);
	ck_assert_uint_eq(s->cache_max, UINT64_C(2) << 30);
	ck_assert_str_eq(s->endpoint, "http://localhost:9000");
	ck_assert_str_eq(s->region, "eu-west-1");
	ck_assert_str_eq(s->profile, "p");
	ck_assert_str_eq(s->credentials, "/etc/p/key");
	ck_assert_str_eq(s->ca_bundle, "/ca.pem");
	ck_assert(s->virtual_host && options.take_over);
	ck_assert_uint_eq(s->server_id, 7);
	ck_assert_int_eq(settings_check(s, &err), 0);
}
END_TEST

static const struct {
	const char *list;
	const char *says; /* part of the message */
} refused[] = {
	{"nonsense", "nonsense"},
	{"ro,nonsense=1", "nonsense"},
	{"ro=1", "takes no value"},
	{"flush_interval", "needs a value"},
	{"flush_interval=", "needs a value"},
	{"flush_interval=0", "flush_interval"},
	{"flush_interval=2h", "flush_interval"},
	{"flush_interval=soon", "soon"},
	{"uid=nobody-of-this-name", "uid"},
	{"uid=4294967295", "uid"}, /* -1: chown's "leave it" */
	{"size=1K", "size"},
	{"size=lots", "lots"},
	{"receivers=0", "receivers"},
	{"receivers=65", "receivers"},
	{"durability=quorum", "needs peers"},
	{"durability=all", "all"},
	{"durability", "needs a value"},
	{"cloud=s3://key:secret@bucket/prefix", "no name and password"},
	{"cloud=s3://key@bucket", "no name and password"},
	{"endpoint=https://key:secret@host", "no name and password"},
	{"endpoint=host:9000", "https://"},
	{"cloud=bucket", "s3://"},
	{"cloud=file://dir", "file:///"},
	{"cloud=http://host/bucket", "s3://"},
	{"cloud=", "needs a value"},
	{"cloud=s3://b/a;b", "';'"},
	{"region= x", "space"},
	{"transfers=0", "transfers"},
	{"transfers=1000", "transfers"},
	{"bandwidth=1", "bandwidth"},
	{"disk_max=1M", "disk_max"},
	{"virtual_host=1", "takes no value"},
	{"server_id=0", "server_id"},
	{"=1", ""},
	{"fsname=x", "fsname"}, /* ours to say */
	{"subtype=x", "subtype"},
	{"max_read", "max_read"},
	{"noatime=1", "noatime"},
	{"an-option-whose-name-is-longer-than-any-that-there-is", "longer"},
};

START_TEST(what_is_no_option_is_refused_by_name)
{
	ck_assert_int_eq(options_parse(&options, refused[_i].list, &err), -EINVAL);
	ck_assert_int_eq(err.code, -EINVAL);
	ck_assert_msg(strstr(err.text, refused[_i].says), "%s: %s", refused[_i].list, err.text);
}
END_TEST

START_TEST(the_list_for_fuse_has_an_end)
{
	char list[] = "noatime";
	int r = 0;
	for (int i = 0; r == 0 && i < 10000; i++)
		r = options_parse(&options, list, &err);
	ck_assert_int_eq(r, -EFBIG);
}
END_TEST

START_TEST(every_option_is_described_and_can_be_set_by_its_name)
{
	const char *name, *argument, *help;
	size_t count = 0;
	for (; options_describe(count, &name, &argument, &help); count++) {
		ck_assert_ptr_nonnull(help);
		int r = options_set(&options, name, argument ? "?" : NULL, &err);
		ck_assert_msg(r == 0 || !strstr(err.text, "there is no option"), "%s", name);
	}
	ck_assert_uint_ge(count, 30);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("options");
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, a_list_sets_what_it_names);
	tcase_add_test(tcase, a_plain_interval_is_in_milliseconds);
	tcase_add_test(tcase, users_and_groups_have_names_too);
	tcase_add_test(tcase, what_mount_and_fstab_add_is_taken_and_means_nothing);
	tcase_add_test(tcase, the_options_of_fuse_are_passed_on);
	tcase_add_test(tcase, a_backslash_keeps_a_comma);
	tcase_add_test(tcase, empty_items_are_harmless);
	tcase_add_test(tcase, the_cloud_has_its_options);
	tcase_add_loop_test(tcase, what_is_no_option_is_refused_by_name, 0,
			    (int)ARRAY_SIZE(refused));
	tcase_add_test(tcase, the_list_for_fuse_has_an_end);
	tcase_add_test(tcase, every_option_is_described_and_can_be_set_by_its_name);
	Suite *suite = suite_create("cmd/options");
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
