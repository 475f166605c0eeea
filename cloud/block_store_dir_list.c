/*
 * Listing a directory store in the order of its keys.
 *
 * The tree is walked as the keys are spelled: owner, roots, wal and its segments. The names of one
 * directory are read and sorted at a time; whatever is no key (leftovers, a user's own files,
 * symlinks) is passed over.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/uuid.h"
#include "cloud/block_key.h"
#include "cloud/block_store_dir.h"

enum { NAMES_MAX = 1 << 20 }; /* in one directory: a segment of 64 GiB has 13,108 blocks */

/* The sorted names of a directory. */
struct names {
	char **names;
	size_t count;
	size_t capacity;
};

static void names_done(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->names[i]);
	free((void *)names->names);
}

static int names_add(struct names *names, const char *name)
{
	if (names->count == names->capacity) {
		size_t capacity = names->capacity ? names->capacity * 2 : 64;
		if (capacity > NAMES_MAX)
			return -E2BIG;
		void *grown = realloc((void *)names->names, capacity * sizeof(*names->names));
		if (!grown)
			return -ENOMEM;
		names->names = grown;
		names->capacity = capacity;
	}
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	names->names[names->count++] = copy;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	const char *const *left = a, *const *right = b;
	return strcmp(*left, *right);
}

/* FD is borrowed. */
static int names_read(int fd, struct names *ret)
{
	int own_fd = block_dir_enter(fd, ".");
	DIR *dir = own_fd >= 0 ? fdopendir(own_fd) : NULL;
	if (!dir) {
		int r = own_fd < 0 ? own_fd : -errno;
		if (own_fd >= 0)
			(void)close(own_fd);
		return r;
	}
	int r = 0;
	for (;;) {
		errno = 0;
		const struct dirent *entry = readdir(dir);
		if (!entry) {
			r = -errno;
			break;
		}
		r = names_add(ret, entry->d_name);
		if (r < 0)
			break;
	}
	(void)closedir(dir);
	if (r == 0 && ret->count)
		qsort((void *)ret->names, ret->count, sizeof(*ret->names), compare_names);
	return r;
}

struct listing {
	const struct dir_store *store;
	const char *prefix;
	const char *after;
	block_store_list_fn *fn;
	void *arg;
};

/* Whether a key below PATH (which ends with a slash) can be asked for. */
static bool wants_tree(const struct listing *l, const char *path)
{
	size_t length = strlen(path), prefix_length = strlen(l->prefix);
	size_t common = length < prefix_length ? length : prefix_length;
	return strncmp(path, l->prefix, common) == 0 && strncmp(l->after, path, length) <= 0;
}

/* The file NAME in the directory PATH, if it is a block that is asked for. */
static int tell(const struct listing *l, int fd, const char *path, const char *name)
{
	char key[BLOCK_KEY_MAX + 1];
	struct stat st;
	int length = snprintf(key, sizeof(key), "%s%s", path, name);
	if (length < 0 || (size_t)length >= sizeof(key) || block_key_parse(key, NULL) < 0 ||
	    strncmp(key, l->prefix, strlen(l->prefix)) != 0 || strcmp(key, l->after) <= 0)
		return 0;
	int r = block_dir_admit(l->store, NULL, NULL);
	if (r < 0)
		return r;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	return S_ISREG(st.st_mode) ? l->fn(l->arg, key, (uint64_t)st.st_size) : 0;
}

/* The blocks of one directory. */
static int list_files(const struct listing *l, int fd, const char *path)
{
	CLEANUP(names_done) struct names names = {0};
	int r = names_read(fd, &names);
	for (size_t i = 0; i < names.count && r >= 0; i++)
		r = tell(l, fd, path, names.names[i]);
	return r < 0 ? r : 0;
}

/* The directory NAME below FD, whose keys begin with PATH. */
static int list_below(const struct listing *l, int fd, const char *name, const char *path,
		      int (*list)(const struct listing *l, int fd, const char *path))
{
	if (!wants_tree(l, path))
		return 0;
	int below = block_dir_enter(fd, name);
	if (below == -ENOENT || below == -ENOTDIR || below == -ELOOP)
		return 0;
	if (below < 0)
		return below;
	int r = list(l, below, path);
	(void)close(below);
	return r;
}

static int list_segments(const struct listing *l, int fd, const char *path)
{
	CLEANUP(names_done) struct names names = {0};
	int r = names_read(fd, &names);
	for (size_t i = 0; i < names.count && r >= 0; i++) {
		char below[BLOCK_KEY_MAX + 1];
		struct uuid uuid;
		if (uuid_parse(names.names[i], &uuid) < 0)
			continue;
		(void)snprintf(below, sizeof(below), "%s%s/", path, names.names[i]);
		r = list_below(l, fd, names.names[i], below, list_files);
	}
	return r < 0 ? r : 0;
}

int block_dir_list(struct block_store *base, const char *prefix, const char *after,
		   block_store_list_fn *fn, void *arg, struct reterr *err)
{
	const struct dir_store *store = block_dir_of(base);
	const struct listing l = {
		.store = store, .prefix = prefix, .after = after, .fn = fn, .arg = arg};
	int fd = store->dir_fd;
	int r = block_dir_admit(store, NULL, err);
	if (r < 0)
		return r;
	r = tell(&l, fd, "", "owner");
	if (r >= 0)
		r = list_below(&l, fd, "roots", "roots/", list_files);
	if (r >= 0)
		r = list_below(&l, fd, "wal", "wal/", list_segments);
	return r < 0 ? reterr_set(err, r, "cannot list \"%.100s\": %s", prefix, strerror(-r)) : 0;
}
