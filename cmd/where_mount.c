/* WHERE is a mountpoint: the files of the mount, by the paths that everybody may use. */
#include "cmd/where_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/buf.h"
#include "cmd/io.h"
#include "cmd/store.h"
#include "cmd/text.h"

enum { ERRORS_SIZE_MAX = 1 << 20 };

static void free_mounted(struct mounted *mounted)
{
	if (!mounted)
		return;
	io_close(&mounted->segment_fd);
	io_close(&mounted->top);
	free(mounted->mountpoint);
	free(mounted->chunk);
	free(mounted);
}

static int mounted_close(struct where *where, struct reterr *err)
{
	(void)err;
	free_mounted(where_mount_of(where));
	return 0;
}

/* A name that nobody else has: the process, and a number that it never repeats. */
char *where_mount_name(struct mounted *mounted, char name[static WHERE_MOUNT_NAME_SIZE])
{
	(void)snprintf(name, WHERE_MOUNT_NAME_SIZE, "protofs-%d-%" PRIu64 "-%" PRIx64,
		       (int)getpid(), ++mounted->names, (uint64_t)(uintptr_t)mounted);
	return name;
}

void where_mount_directory_close(DIR **directory)
{
	if (*directory)
		(void)closedir(*directory);
}

DIR *where_mount_directory(struct mounted *mounted, const char *path)
{
	int fd = openat(mounted->top, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	if (!directory && fd >= 0)
		(void)close(fd);
	return directory;
}

/* An extended where_mount_attribute as text; empty where there is none. */
void where_mount_attribute(const char *path, const char *name, char *text, size_t size)
{
	ssize_t n = lgetxattr(path, name, text, size - 1);
	text[n > 0 ? n : 0] = '\0';
}

/* ---- Errors --------------------------------------------------------------------------------- */

/* The last event of .ctl/errors, its lines joined: why the mount answered what it did. */
static void last_event(struct mounted *mounted, char *text, size_t size)
{
	CLEANUP(buf_done) struct buf errors = {.max = ERRORS_SIZE_MAX};

	text[0] = '\0';
	if (io_read_file(mounted->top, ".ctl/errors", &errors) < 0)
		return;
	while (errors.size > 0 && errors.data[errors.size - 1] == '\n')
		errors.size--;
	size_t start = errors.size;
	while (start > 0 && !(start > 1 && errors.data[start - 1] == '\n' &&
			      errors.data[start] != ' ' && errors.data[start] != '\t'))
		start--;
	size_t length = errors.size - start < size - 1 ? errors.size - start : size - 1;
	memcpy(text, errors.data + start, length);
	text[length] = '\0';
	for (char *c = text; *c; c++)
		if (*c == '\n' || *c == '\t')
			*c = ' ';
}

/* WHAT where_mount_failed with R. Only the codes that hide a reason are looked up. */
int where_mount_failed(struct mounted *mounted, int r, const char *what, struct reterr *err)
{
	char why[RETERR_TEXT_SIZE / 2];

	why[0] = '\0';
	if (r == -EIO || r == -EBADMSG || r == -ENOSPC || r == -EROFS)
		last_event(mounted, why, sizeof(why));
	return reterr_set(err, r, "%s: %s%s%s%s", what, strerror(-r), why[0] ? " (" : "", why,
			  why[0] ? ")" : "");
}

int where_mount_no_segment(const struct uuid *uuid, struct reterr *err)
{
	char text[UUID_TEXT_LENGTH + 1];
	return reterr_set(err, -ENOENT, "there is no segment %s", uuid_format(uuid, text));
}

/* Why there is no atom at POINTER. */
int where_mount_no_atom(struct mounted *mounted, const struct engine_pointer *pointer,
			struct reterr *err)
{
	char path[64], uuid[UUID_TEXT_LENGTH + 1];
	struct stat st;

	(void)snprintf(path, sizeof(path), "wal/%s", uuid_format(&pointer->segment, uuid));
	if (fstatat(mounted->top, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return where_mount_no_segment(&pointer->segment, err);
	return reterr_set(err, -ENOENT,
			  pointer->offset >= (uint64_t)st.st_size
				  ? "it points past the end: the segment has %jd bytes"
				  : "no atom begins there (the segment has %jd bytes; `protofs ls "
				    "... atoms` lists them)",
			  (intmax_t)st.st_size);
}

/* ---- Segments ------------------------------------------------------------------------------- */

/* user.protofs.durable: "local=4096 quorum=0 cloud=0". */
static uint64_t durable_bytes(const char *text, uint64_t otherwise)
{
	const char *digits = strpbrk(text, "0123456789");
	uint64_t value = 0;

	if (!digits)
		return otherwise;
	for (; *digits >= '0' && *digits <= '9' && value < UINT64_MAX / 16; digits++)
		value = value * 10 + (uint64_t)(*digits - '0');
	return value;
}

static int mounted_segments(struct where *where, where_segment_fn *fn, void *arg,
			    struct reterr *err)
{
	struct mounted *mounted = where_mount_of(where);
	const struct dirent *entry;

	CLEANUP(where_mount_directory_close) DIR *directory = where_mount_directory(mounted, "wal");
	if (!directory)
		return where_mount_failed(mounted, -errno, "wal", err);
	for (errno = 0; (entry = readdir(directory)); errno = 0) {
		struct where_segment found = {0};
		char path[PATH_MAX], durable[64];
		struct stat st;
		if (uuid_parse(entry->d_name, &found.uuid) < 0)
			continue;
		int length = snprintf(path, sizeof(path), "%s/wal/%s", mounted->mountpoint,
				      entry->d_name);
		if (length < 0 || (size_t)length >= sizeof(path))
			return reterr_set(err, -ENAMETOOLONG, "the mountpoint's path is too long");
		if (lstat(path, &st) < 0) {
			if (errno == ENOENT)
				continue; /* removed since it was listed */
			return where_mount_failed(mounted, -errno, path, err);
		}
		where_mount_attribute(path, "user.protofs.state", found.state, sizeof(found.state));
		where_mount_attribute(path, "user.protofs.durable", durable, sizeof(durable));
		found.length = (uint64_t)st.st_size;
		found.durable = durable_bytes(durable, found.length);
		found.modified_ns =
			(uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec;
		int r = fn(arg, &found);
		if (r < 0)
			return r;
	}
	return errno ? where_mount_failed(mounted, -errno, "wal", err) : 0;
}

static int open_segment(struct mounted *mounted, const struct uuid *segment, bool direct,
			struct reterr *err)
{
	char path[64], uuid[UUID_TEXT_LENGTH + 1];

	if (mounted->segment_fd >= 0 && uuid_equal(&mounted->segment, segment) &&
	    mounted->segment_direct == direct)
		return 0;
	io_close(&mounted->segment_fd);
	(void)snprintf(path, sizeof(path), "wal/%s", uuid_format(segment, uuid));
	int fd = openat(mounted->top, path, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
	if (fd < 0 && errno == ENOENT)
		return where_mount_no_segment(segment, err);
	if (fd < 0)
		return where_mount_failed(mounted, -errno, path, err);
	mounted->segment_fd = fd;
	mounted->segment = *segment;
	mounted->segment_direct = direct;
	return 0;
}

static int mounted_read(struct where *where, const struct uuid *segment, void *data, size_t size,
			uint64_t offset, bool from_disk, size_t *ret, struct reterr *err)
{
	struct mounted *mounted = where_mount_of(where);
	char what[96], uuid[UUID_TEXT_LENGTH + 1];

	int r = open_segment(mounted, segment, from_disk, err);
	if (r < 0)
		return r;
	r = io_read_at(mounted->segment_fd, data, size, offset, ret);
	if (r == 0)
		return 0;
	(void)snprintf(what, sizeof(what), "segment %s, byte %" PRIu64, uuid_format(segment, uuid),
		       offset);
	return where_mount_failed(mounted, r, what, err);
}

static int mounted_sums(struct where *where, const struct uuid *segment, struct sum_file *ret,
			struct reterr *err)
{
	CLEANUP(buf_done) struct buf text = {.max = SUM_FILE_SIZE_MAX};
	struct mounted *mounted = where_mount_of(where);
	char path[64], uuid[UUID_TEXT_LENGTH + 1];
	struct reterr cause = {0};

	(void)snprintf(path, sizeof(path), "wal/%s.sum", uuid_format(segment, uuid));
	int r = io_read_file(mounted->top, path, &text);
	if (r == -ENOENT)
		return where_mount_no_segment(segment, err);
	if (r < 0)
		return where_mount_failed(mounted, r, path, err);
	r = sum_file_parse((struct slice){.data = text.data, .size = text.size}, ret, &cause);
	return r < 0 ? reterr_set(err, r, "%s: %.400s", path, store_why(&cause, r)) : 0;
}

/* ---- The rest ------------------------------------------------------------------------------- */

static int mounted_sync(struct where *where, struct reterr *err)
{
	(void)where; /* every put was an fsync */
	(void)err;
	return 0;
}

static int mounted_status(struct where *where, bool json, struct buf *ret, struct reterr *err)
{
	struct mounted *mounted = where_mount_of(where);
	const char *path = json ? ".ctl/stats.json" : ".ctl/status";
	int r = io_read_file(mounted->top, path, ret);
	return r < 0 ? where_mount_failed(mounted, r, path, err) : 0;
}

static const struct where_ops mounted_ops = {
	.close = mounted_close,
	.put = where_mount_put,
	.sync = mounted_sync,
	.cat = where_mount_cat,
	.segments = mounted_segments,
	.atoms = where_mount_atoms,
	.read = mounted_read,
	.sums = mounted_sums,
	.roots = where_mount_roots,
	.root = where_mount_root,
	.publish = where_mount_publish,
	.prune = where_mount_prune,
	.status = mounted_status,
};

int where_mount_open(const char *mountpoint, struct reterr *err, struct where **ret)
{
	struct mounted *mounted = calloc(1, sizeof(*mounted));
	int r = mounted ? 0 : -ENOMEM;

	if (r == 0) {
		mounted->where.ops = &mounted_ops;
		mounted->segment_fd = -1;
		mounted->mountpoint = strdup(mountpoint);
		mounted->chunk = io_alloc(WHERE_MOUNT_CHUNK_SIZE);
		mounted->top = open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
		r = mounted->top < 0 ? -errno : 0;
		if (r == 0 && (!mounted->mountpoint || !mounted->chunk))
			r = -ENOMEM;
	}
	if (r < 0) {
		free_mounted(mounted);
		return reterr_set(err, r, "%s", strerror(-r));
	}
	*ret = (struct where *)mounted;
	return 0;
}
