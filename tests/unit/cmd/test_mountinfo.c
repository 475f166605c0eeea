/* Lines of /proc/self/mountinfo. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "cmd/mountinfo.h"

static const struct {
	const char *line;
	int result;
	const char *mountpoint, *source;
} lines[] = {
	{"36 35 0:40 / /mnt rw,nosuid,nodev - fuse.protofs /srv/store rw,user_id=0\n", 0, "/mnt",
	 "/srv/store"},
	{"36 35 0:40 / /mnt rw shared:1 master:2 - fuse.protofs /srv/store rw\n", 0, "/mnt",
	 "/srv/store"},
	{"36 35 0:40 / /a\\040b\\134c rw - fuse.protofs /s\\011t rw\n", 0, "/a b\\c", "/s\tt"},
	{"36 35 0:40 / /a\\04 rw - fuse.protofs mem: rw\n", 0, "/a\\04", "mem:"},
	{"36 35 0:40 / /- rw - fuse.protofs - rw\n", 0, "/-", "-"},
	{"36 35 98:0 / / rw - ext4 /dev/vda rw\n", -ENOENT, NULL, NULL},
	{"36 35 0:40 / /mnt rw - fuse.protofs2 /srv/store rw\n", -ENOENT, NULL, NULL},
	{"36 35 0:40 / /mnt rw - fuse.protofs\n", -EINVAL, NULL, NULL},
	{"36 35 0:40 / /mnt rw -\n", -EINVAL, NULL, NULL},
	{"36 35 0:40 / /mnt rw\n", -EINVAL, NULL, NULL},
	{"- fuse.protofs /srv/store rw\n", -EINVAL, NULL, NULL},
	{"\n", -EINVAL, NULL, NULL},
	{"", -EINVAL, NULL, NULL},
};

START_TEST(lines_are_taken_apart)
{
	struct mountinfo mount = {0};
	char *line = strdup(lines[_i].line);

	ck_assert_int_eq(mountinfo_parse_line(line, &mount), lines[_i].result);
	if (lines[_i].result == 0) {
		ck_assert_str_eq(mount.mountpoint, lines[_i].mountpoint);
		ck_assert_str_eq(mount.source, lines[_i].source);
	} else {
		ck_assert_ptr_null(mount.mountpoint);
	}
	free(line);
}
END_TEST

START_TEST(every_prefix_of_a_line_is_refused_or_whole)
{
	static const char whole[] = "36 35 0:40 / /mnt rw shared:1 - fuse.protofs /srv/store rw";
	size_t known = (size_t)(strstr(whole, " /srv") + 2 - whole); /* one byte of the source */

	for (size_t length = 0; length < sizeof(whole); length++) {
		char line[sizeof(whole)];
		struct mountinfo mount;
		memcpy(line, whole, length);
		line[length] = '\0';
		int r = mountinfo_parse_line(line, &mount);
		ck_assert_msg(length >= known ? r == 0 : r < 0, "%zu bytes: %d", length, r);
	}
}
END_TEST

START_TEST(paths_are_made_absolute)
{
	char *real;
	ck_assert_int_eq(mountinfo_resolve("/proc/../tmp/.", &real), 0);
	ck_assert_str_eq(real, "/tmp");
	free(real);
	ck_assert_int_eq(mountinfo_resolve("/no/such/path", &real), -ENOENT);
	ck_assert_int_eq(mountinfo_resolve("", &real), -ENOENT);
}
END_TEST

START_TEST(nothing_is_mounted_where_nothing_can_be)
{
	struct mountinfo mount;
	ck_assert_int_eq(mountinfo_at("/proc", &mount), -ENOENT);
	ck_assert_int_eq(mountinfo_of("/proc", &mount), -ENOENT);
	ck_assert_int_eq(mountinfo_holding("/proc/self", &mount), -ENOENT);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("mountinfo");
	tcase_add_loop_test(tcase, lines_are_taken_apart, 0, (int)ARRAY_SIZE(lines));
	tcase_add_test(tcase, every_prefix_of_a_line_is_refused_or_whole);
	tcase_add_test(tcase, paths_are_made_absolute);
	tcase_add_test(tcase, nothing_is_mounted_where_nothing_can_be);
	Suite *suite = suite_create("cmd/mountinfo");
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
