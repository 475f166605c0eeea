#include "cmd/backup_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "cmd/io.h"
#include "cmd/root_parse.h"
#include "cmd/text.h"
#include "engine/engine.h"
#include "fs/root_text.h"

enum { NAME_SIZE = UUID_TEXT_LENGTH + 8 };

static int open_below(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void backup_dir_close(struct backup_dir *dir)
{
	io_close(&dir->segments);
	io_close(&dir->top);
}

int backup_dir_open(const char *path, struct backup_dir *ret, struct reterr *err)
{
	static const char *const places[] = {"wal", "space", "."};
	struct backup_dir dir = {.path = path, .segments = -1};
	struct stat st;

	dir.top = open_below(AT_FDCWD, path);
	if (dir.top < 0)
		return reterr_set(err, dir.top, "%s", strerror(-dir.top));
	if (fstatat(dir.top, "segments", &st, 0) == 0 && fstatat(dir.top, "lock", &st, 0) == 0) {
		backup_dir_close(&dir);
		return reterr_set(
			err, -EINVAL,
			"it is a store, not a copy of its files; `protofs mount` mounts it");
	}
	for (size_t i = 0; dir.segments < 0 && i < ARRAY_SIZE(places); i++)
		dir.segments = open_below(dir.top, places[i]);
	if (dir.segments < 0) {
		int r = dir.segments;
		backup_dir_close(&dir);
		return reterr_set(err, r, "%s", strerror(-r));
	}
	*ret = dir;
	return 0;
}

/*
 * Nothing but what a backup has may be there: whoever mistypes DIR must not find files in his
 * home.
 */
static int check_names(int top, struct reterr *err)
{
	int fd = open_below(top, ".");
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int r = 0;

	if (!directory) {
		r = fd < 0 ? fd : -errno;
		io_close(&fd);
		return reterr_set(err, r, "%s", strerror(-r));
	}
	while (r == 0 && (entry = readdir(directory))) {
		const char *name = entry->d_name;
		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strcmp(name, "wal") != 0 &&
		    strcmp(name, "roots") != 0)
			r = reterr_set(
				err, -ENOTEMPTY,
				"it holds '%.200s', which no backup has; name an empty or a new "
				"directory",
				name);
	}
	(void)closedir(directory);
	return r;
}

int backup_dir_make(const char *path, struct backup_dir *ret, struct reterr *err)
{
	struct backup_dir dir = {.path = path, .top = -1, .segments = -1};
	int r = mkdir(path, 0777) == 0 || errno == EEXIST ? 0 : -errno;

	if (r == 0)
		r = dir.top = open_below(AT_FDCWD, path);
	if (r >= 0) {
		r = check_names(dir.top, err);
		if (r < 0)
			goto fail;
	}
	if (r >= 0 && ((mkdirat(dir.top, "wal", 0777) < 0 && errno != EEXIST) ||
		       (mkdirat(dir.top, "roots", 0777) < 0 && errno != EEXIST)))
		r = -errno;
	if (r >= 0)
		r = dir.segments = open_below(dir.top, "wal");
	if (r >= 0)
		r = io_sync_dir(dir.top);
	if (r >= 0)
		r = io_sync_parent(path);
	if (r >= 0) {
		*ret = dir;
		return 0;
	}
	(void)reterr_set(err, r, "%s", strerror(-r));
fail:
	backup_dir_close(&dir);
	return r;
}

/* ---- The root ------------------------------------------------------------------------------- */

int backup_dir_read_root(const struct backup_dir *dir, struct engine_root *ret, struct reterr *err)
{
	static const char *const names[] = {"roots/current", "current", "space/space_root",
					    "space_root"};
	CLEANUP(buf_done) struct buf text = {.max = ROOT_PARSE_SIZE_MAX};
	int r = -ENOENT;
	size_t i = 0;

	for (; r == -ENOENT && i < ARRAY_SIZE(names); i++)
		r = io_read_file(dir->top, names[i], &text);
	if (r == -ENOENT)
		return reterr_set(err, r, "it holds no root: no roots/current");
	if (r < 0)
		return reterr_set(err, r, "%s: %s", names[i - 1], strerror(-r));
	r = root_parse((struct slice){.data = text.data, .size = text.size}, ret);
	return r < 0 ? reterr_set(err, -EBADMSG,
				  "%s: it is no root: "
				  "{\"transaction_id\": UUID, \"offset\": N} is one",
				  names[i - 1])
		     : 0;
}

int backup_dir_write_root(const struct backup_dir *dir, const struct engine_root *root,
			  struct reterr *err)
{
	CLEANUP(buf_done) struct buf text = {.max = ROOT_TEXT_MAX};
	CLEANUP(io_close) int roots = open_below(dir->top, "roots");

	int r = roots < 0 ? roots : root_text_print(root, &text);
	if (r == 0)
		r = io_replace_file(roots, "current", text.data, text.size, 0644);
	return r < 0 ? reterr_set(err, r, "roots/current: %s", strerror(-r)) : 0;
}

/* ---- Segments ------------------------------------------------------------------------------- */

static char *file_name(const struct uuid *segment, const char *suffix, char name[static NAME_SIZE])
{
	char uuid[UUID_TEXT_LENGTH + 1];
	(void)snprintf(name, NAME_SIZE, "%s%s", uuid_format(segment, uuid), suffix);
	return name;
}

int backup_dir_read_sums(const struct backup_dir *dir, const struct uuid *segment,
			 struct sum_file *ret, struct reterr *err)
{
	CLEANUP(buf_done) struct buf text = {.max = SUM_FILE_SIZE_MAX};
	struct reterr cause = {0};
	char name[NAME_SIZE];

	int r = io_read_file(dir->segments, file_name(segment, ".sum", name), &text);
	if (r == -ENOENT)
		return reterr_set(err, r, "there is no %s", name);
	if (r < 0)
		return reterr_set(err, r, "%s: %s", name, strerror(-r));
	r = sum_file_parse((struct slice){.data = text.data, .size = text.size}, ret, &cause);
	return r < 0 ? reterr_set(err, r, "%s: %.300s", name,
				  cause.text[0] ? cause.text : strerror(-r))
		     : 0;
}

int backup_dir_write_sums(const struct backup_dir *dir, const struct uuid *segment,
			  const struct sum_file *sums, struct reterr *err)
{
	size_t size = sums->count * SUM_FILE_LINE_SIZE;
	char *text = malloc(size ? size : 1);
	char name[NAME_SIZE];

	if (!text)
		return reterr_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < sums->count; i++)
		sum_file_line(&sums->sums[i], text + i * SUM_FILE_LINE_SIZE);
	int r = io_replace_file(dir->segments, file_name(segment, ".sum", name), text, size, 0644);
	free(text);
	return r < 0 ? reterr_set(err, r, "%s: %s", name, strerror(-r)) : 0;
}

int backup_dir_open_segment(const struct backup_dir *dir, const struct uuid *segment, bool write,
			    struct reterr *err)
{
	int flags = write ? O_RDWR | O_CREAT | O_NOFOLLOW : O_RDONLY;
	char name[NAME_SIZE];
	int fd = openat(dir->segments, file_name(segment, "", name), flags | O_CLOEXEC, 0644);
	return fd < 0 ? reterr_set(err, -errno, "%s: %s", name, strerror(errno)) : fd;
}

int backup_dir_list(const struct backup_dir *dir, backup_dir_fn *fn, void *arg, struct reterr *err)
{
	int fd = open_below(dir->segments, ".");
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int r = 0;

	if (!directory) {
		r = fd < 0 ? fd : -errno;
		io_close(&fd);
		return reterr_set(err, r, "cannot list its segments: %s", strerror(-r));
	}
	for (errno = 0; r == 0 && (entry = readdir(directory)); errno = 0) {
		struct uuid uuid;
		struct stat st;
		if (uuid_parse(entry->d_name, &uuid) < 0)
			continue;
		if (fstatat(dirfd(directory), entry->d_name, &st, 0) < 0)
			r = reterr_set(err, -errno, "%s: %s", entry->d_name, strerror(errno));
		else if (S_ISREG(st.st_mode))
			r = fn(arg, &uuid, (uint64_t)st.st_size);
	}
	if (r == 0 && errno)
		r = reterr_set(err, -errno, "cannot list its segments: %s", strerror(errno));
	(void)closedir(directory);
	return r;
}
