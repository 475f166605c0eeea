/* Roots of a mounted store: the files and links of roots/. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "cmd/io.h"
#include "cmd/root_parse.h"
#include "cmd/text.h"
#include "cmd/where_mount.h"

enum { PUBLISH_TRIES_MAX = 100 };

/* ---- Roots ---------------------------------------------------------------------------------- */

int where_mount_roots(struct where *where, uint64_t *ret_first, uint64_t *ret_last,
		      struct reterr *err)
{
	struct mounted *mounted = where_mount_of(where);
	const struct dirent *entry;
	uint64_t first = 0, last = 0;

	CLEANUP(where_mount_directory_close)
	DIR *directory = where_mount_directory(mounted, "roots");
	if (!directory)
		return where_mount_failed(mounted, -errno, "roots", err);
	for (errno = 0; (entry = readdir(directory)); errno = 0) {
		uint64_t seq;
		if (text_parse_u64(entry->d_name, &seq) < 0 || seq == 0)
			continue;
		if (first == 0 || seq < first)
			first = seq;
		if (seq > last)
			last = seq;
	}
	if (errno)
		return where_mount_failed(mounted, -errno, "roots", err);
	*ret_first = first;
	*ret_last = last;
	return 0;
}

static int read_root(struct mounted *mounted, const char *path, struct engine_root *ret,
		     struct reterr *err)
{
	CLEANUP(buf_done) struct buf text = {.max = ROOT_PARSE_SIZE_MAX};
	int r = io_read_file(mounted->top, path, &text);
	if (r == -ENOENT)
		return reterr_set(err, r,
				  "%s is not kept; `protofs root ... log` lists those that "
				  "are",
				  path);
	if (r < 0)
		return where_mount_failed(mounted, r, path, err);
	r = root_parse((struct slice){.data = text.data, .size = text.size}, ret);
	return r < 0 ? reterr_set(err, r, "%s holds no root", path) : 0;
}

int where_mount_root(struct where *where, uint64_t seq, struct engine_root *ret, struct reterr *err)
{
	char path[64];
	(void)snprintf(path, sizeof(path), "roots/%" PRIu64, seq);
	return read_root(where_mount_of(where), path, ret, err);
}

/* What roots/current is to become: a number is an old root again. */
static void link_target(const struct engine_root *wanted, char *target, size_t size)
{
	char text[TEXT_POINTER_LENGTH];
	if (wanted->seq)
		(void)snprintf(target, size, "%" PRIu64, wanted->seq);
	else
		(void)snprintf(target, size, "../atoms/%s", text_pointer(&wanted->pointer, text));
}

/* -EBUSY the root moved since the link was made; -ESTALE it was not EXPECTED then. */
static int try_publish(struct mounted *mounted, uint64_t expected, const struct engine_root *wanted,
		       struct engine_root *ret, struct reterr *err)
{
	char name[WHERE_MOUNT_NAME_SIZE], path[96], target[TEXT_POINTER_LENGTH + 16];
	struct engine_root newest = {0};
	int r = 0;

	(void)snprintf(path, sizeof(path), "roots/%s", where_mount_name(mounted, name));
	link_target(wanted, target, sizeof(target));
	if (symlinkat(target, mounted->top, path) < 0)
		return where_mount_failed(mounted, -errno, "cannot make a link in roots/", err);

	/*
	 * The link remembers the root of its birth, and the rename checks it: what is read now is
	 * that one, or it fails.
	 */
	if (expected != ENGINE_ROOT_EXPECT_ANY) {
		r = read_root(mounted, "roots/current", &newest, err);
		if (r == -ENOENT)
			r = 0;
		if (r == 0 && newest.seq != expected)
			r = reterr_set(err, -ESTALE, "the newest root is %" PRIu64 ", not %" PRIu64,
				       newest.seq, expected);
	}
	if (r == 0 && renameat(mounted->top, path, mounted->top, "roots/current") < 0)
		r = where_mount_failed(mounted, -errno, "cannot publish", err);
	if (r < 0) {
		(void)unlinkat(mounted->top, path, 0);
		return r;
	}
	return read_root(mounted, "roots/current", ret, err);
}

int where_mount_publish(struct where *where, uint64_t expected, const struct engine_root *wanted,
			struct engine_root *ret, struct reterr *err)
{
	struct mounted *mounted = where_mount_of(where);
	char path[TEXT_POINTER_LENGTH + 16], text[TEXT_POINTER_LENGTH];
	struct stat st;
	int r = -EBUSY;

	(void)snprintf(path, sizeof(path), "atoms/%s", text_pointer(&wanted->pointer, text));
	if (fstatat(mounted->top, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return where_mount_failed(mounted, -errno, path, err);
		(void)where_mount_no_atom(mounted, &wanted->pointer, err);
		return -ENODATA;
	}
	for (int i = 0; r == -EBUSY && i < PUBLISH_TRIES_MAX; i++)
		r = try_publish(mounted, expected, wanted, ret, err);
	return r;
}

int where_mount_prune(struct where *where, uint64_t keep_from, bool dry_run, uint64_t *ret_dropped,
		      struct reterr *err)
{
	struct mounted *mounted = where_mount_of(where);
	uint64_t first = 0, last = 0;
	char seq[32];

	int r = where_mount_roots(where, &first, &last, err);
	if (r < 0)
		return r;
	if (keep_from > last)
		keep_from = last;
	*ret_dropped = keep_from > first ? keep_from - first : 0;
	if (dry_run || *ret_dropped == 0)
		return 0;
	CLEANUP(io_close) int fd = openat(mounted->top, ".ctl/prune", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return where_mount_failed(mounted, -errno, ".ctl/prune", err);
	int length = snprintf(seq, sizeof(seq), "%" PRIu64, keep_from);
	/* One write is one command. */
	if (write(fd, seq, (size_t)length) != length)
		return where_mount_failed(mounted, errno ? -errno : -EIO, "cannot drop roots", err);
	return 0;
}
