#include "cmd/mountinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

void mountinfo_done(struct mountinfo *mount)
{
	free(mount->mountpoint);
	free(mount->source);
	*mount = (struct mountinfo){0};
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* The kernel writes space, tab, newline and backslash as \ooo. */
static void unescape(char *text)
{
	char *to = text;
	for (const char *from = text; *from; to++) {
		if (from[0] == '\\' && is_octal(from[1]) && is_octal(from[2]) &&
		    is_octal(from[3])) {
			*to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* id parent major:minor root MOUNTPOINT options [optional...] - TYPE SOURCE superoptions */
int mountinfo_parse_line(char *line, struct mountinfo *ret)
{
	enum { FIELD_MOUNTPOINT = 4, FIELDS_BEFORE_DASH = 6 };
	char *rest = NULL;
	char *mountpoint = NULL;
	char *field = strtok_r(line, " \n", &rest);

	for (int i = 0; field; i++, field = strtok_r(NULL, " \n", &rest)) {
		if (i == FIELD_MOUNTPOINT)
			mountpoint = field;
		if (i >= FIELDS_BEFORE_DASH && strcmp(field, "-") == 0)
			break;
	}
	char *type = field ? strtok_r(NULL, " \n", &rest) : NULL;
	char *source = type ? strtok_r(NULL, " \n", &rest) : NULL;
	if (!source || !mountpoint)
		return -EINVAL;
	if (strcmp(type, MOUNTINFO_TYPE) != 0)
		return -ENOENT;
	unescape(mountpoint);
	unescape(source);
	*ret = (struct mountinfo){.mountpoint = mountpoint, .source = source};
	return 0;
}

/* True if WANTED is the mountpoint, the source, or (HOLDING) something below the mountpoint. */
enum match { MATCH_AT, MATCH_OF, MATCH_HOLDING };

static bool matches(const struct mountinfo *mount, enum match how, const char *wanted)
{
	size_t length = strlen(mount->mountpoint);
	switch (how) {
	case MATCH_AT:
		return strcmp(mount->mountpoint, wanted) == 0;
	case MATCH_OF:
		return strcmp(mount->source, wanted) == 0;
	case MATCH_HOLDING:
		return strncmp(mount->mountpoint, wanted, length) == 0 &&
		       (wanted[length] == '/' || wanted[length] == '\0');
	}
	return false;
}

static int find(enum match how, const char *wanted, struct mountinfo *ret)
{
	struct mountinfo found = {0};
	char *line = NULL;
	size_t capacity = 0;
	int r = -ENOENT;

	FILE *file = fopen("/proc/self/mountinfo", "re");
	if (!file)
		return -errno;
	while (getline(&line, &capacity, file) > 0) {
		struct mountinfo mount;
		if (mountinfo_parse_line(line, &mount) < 0 || !matches(&mount, how, wanted))
			continue;
		mountinfo_done(&found); /* a later line lies on top of it */
		found.mountpoint = strdup(mount.mountpoint);
		found.source = strdup(mount.source);
		r = found.mountpoint && found.source ? 0 : -ENOMEM;
		if (r < 0)
			break;
	}
	free(line);
	(void)fclose(file);
	if (r < 0)
		mountinfo_done(&found);
	else
		*ret = found;
	return r;
}

int mountinfo_at(const char *path, struct mountinfo *ret)
{
	return find(MATCH_AT, path, ret);
}

int mountinfo_of(const char *source, struct mountinfo *ret)
{
	return find(MATCH_OF, source, ret);
}

int mountinfo_holding(const char *path, struct mountinfo *ret)
{
	return find(MATCH_HOLDING, path, ret);
}

bool mountinfo_is_dead(const struct mountinfo *mount)
{
	/* Not stat(2): the kernel may answer it from its cache, daemon or not. */
	struct statfs st;
	return statfs(mount->mountpoint, &st) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

int mountinfo_resolve(const char *path, char **ret)
{
	char *real = realpath(path, NULL);
	if (real) {
		*ret = real;
		return 0;
	}
	if (errno != ENOTCONN && errno != ECONNABORTED)
		return -errno;

	/* The last component is the dead mount: what is above it still answers. */
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	size_t length = strlen(copy);
	while (length > 1 && copy[length - 1] == '/')
		copy[--length] = '\0';
	char *slash = strrchr(copy, '/');
	const char *name = slash ? slash + 1 : copy;
	if (slash)
		*slash = '\0';
	real = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
	int r = real ? 0 : -errno;
	if (real && asprintf(ret, "%s/%s", strcmp(real, "/") == 0 ? "" : real, name) < 0)
		r = -ENOMEM;
	free(real);
	free(copy);
	return r;
}

/* An ordinary user may unmount only through the set-id helper. */
static int run_fusermount(const char *path, bool lazy)
{
	char program[] = "fusermount3", unmount[] = "-u", quiet[] = "-q", detach[] = "-z",
	     end[] = "--";
	char *target = strdup(path);
	if (!target)
		return -ENOMEM;
	char *argv[] = {program, unmount, quiet, lazy ? detach : end, target, NULL};
	pid_t pid;
	int status = 0;

	int r = -posix_spawnp(&pid, program, NULL, NULL, argv, environ);
	free(target);
	if (r < 0)
		return r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

int mountinfo_unmount(const char *path, bool lazy)
{
	if (geteuid() != 0)
		return run_fusermount(path, lazy);
	if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) < 0)
		return -errno;
	return 0;
}
