/* WHERE is a mountpoint: the files of the mount, by the paths that everybody may use. */
#include <dirent.h>
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
#include "cmd/log.h"
#include "cmd/progress.h"
#include "cmd/root_text.h"
#include "cmd/source.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/where.h"
#include "fs/render.h"

enum {
	CHUNK_SIZE = 1 << 20,
	STATUS_SIZE_MAX = 1 << 20,
	ERRORS_SIZE_MAX = 1 << 20,
	PUBLISH_TRIES_MAX = 100,
};

struct mounted {
	struct where where;
	char *mountpoint;
	int top;        /* the mountpoint, O_PATH */
	uint8_t *chunk; /* CHUNK_SIZE bytes, aligned */
	uint64_t names; /* made so far, each another one */

	/* The segment that was read last, or -1. */
	int segment_fd;
	struct uuid segment;
	bool segment_direct;
};

static struct mounted *mounted_of(struct where *where)
{
	return (struct mounted *)where;
}

static int mounted_close(struct where *where, struct reterr *err)
{
	struct mounted *mounted = mounted_of(where);
	(void)err;
	io_close(&mounted->segment_fd);
	io_close(&mounted->top);
	free(mounted->mountpoint);
	free(mounted->chunk);
	free(mounted);
	return 0;
}

/* A name that nobody else has: the process, and a number that it never repeats. */
static char *unique_name(struct mounted *mounted, char name[static 64])
{
	(void)snprintf(name, 64, "protofs-%d-%" PRIu64 "-%" PRIx64, (int)getpid(), ++mounted->names,
		       (uint64_t)(uintptr_t)mounted);
	return name;
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

/* WHAT failed with R. Only the codes that hide a reason are looked up. */
static int failed(struct mounted *mounted, int r, const char *what, struct reterr *err)
{
	char why[RETERR_TEXT_SIZE / 2];

	why[0] = '\0';
	if (r == -EIO || r == -EBADMSG || r == -ENOSPC || r == -EROFS)
		last_event(mounted, why, sizeof(why));
	return reterr_set(err, r, "%s: %s%s%s%s", what, strerror(-r), why[0] ? " (" : "", why,
			  why[0] ? ")" : "");
}

static int no_such_segment(const struct uuid *uuid, struct reterr *err)
{
	char text[UUID_TEXT_LENGTH + 1];
	return reterr_set(err, -ENOENT, "there is no segment %s", uuid_format(uuid, text));
}

/* An extended attribute as text; empty where there is none. */
static void attribute(const char *path, const char *name, char *text, size_t size)
{
	ssize_t n = lgetxattr(path, name, text, size - 1);
	text[n > 0 ? n : 0] = '\0';
}

/* ---- Put ------------------------------------------------------------------------------------ */

static int copy_source(struct mounted *mounted, struct source *source, int fd, struct reterr *err)
{
	size_t n = 1;
	while (n > 0) {
		int r = source_next(source, mounted->chunk, CHUNK_SIZE, &n, err);
		if (r < 0)
			return r;
		r = io_write(fd, mounted->chunk, n);
		if (r < 0)
			return failed(mounted, r, "cannot write to atoms/in", err);
		progress_add(n);
	}
	if (source->at == 0)
		return reterr_set(err, -EINVAL, "it is empty, and an atom has at least one byte");
	return 0;
}

/* The name in atoms/in has become a link to ../<uuid>/<offset>. */
static int read_address(struct mounted *mounted, const char *path, struct engine_pointer *ret,
			struct reterr *err)
{
	char target[TEXT_POINTER_LENGTH + 16];
	ssize_t n = readlinkat(mounted->top, path, target, sizeof(target) - 1);
	if (n < 0)
		return failed(mounted, -errno, "cannot read the address of the new atom", err);
	target[n] = '\0';
	int r = text_parse_pointer(target, ret);
	if (r < 0)
		return reterr_set(err, -EIO, "the new atom's address '%s' is no pointer", target);
	return 0;
}

/* The mount tells the format by the name, and only where it can check it: else the atom is a raw one. */
static int check_format(struct mounted *mounted, const struct source *source,
			const struct engine_pointer *pointer, struct reterr *err)
{
	char path[PATH_MAX], text[TEXT_POINTER_LENGTH], format[32];

	if (source->format == ENGINE_FORMAT_RAW)
		return 0;
	(void)text_pointer(pointer, text);
	int length = snprintf(path, sizeof(path), "%s/atoms/%s", mounted->mountpoint, text);
	if (length < 0 || (size_t)length >= sizeof(path))
		return reterr_set(err, -ENAMETOOLONG, "the mountpoint's path is too long");
	attribute(path, "user.protofs.format", format, sizeof(format));
	if (strcmp(format, render_format_name(source->format)) == 0)
		return 0;
	return reterr_set(err, -EINVAL,
			  "it is no %s, or nested deeper than 128: it became the %s atom %s",
			  render_format_name(source->format), format, text);
}

static const char *name_suffix(uint8_t format)
{
	return format == ENGINE_FORMAT_JSON      ? ".json"
	       : format == ENGINE_FORMAT_MSGPACK ? ".msgpack"
						 : "";
}

static int mounted_put(struct where *where, struct source *source, struct engine_pointer *ret,
		       struct reterr *err)
{
	struct mounted *mounted = mounted_of(where);
	char name[64], path[96];

	if (source->format != ENGINE_FORMAT_RAW && source->size > RENDER_PAYLOAD_MAX)
		return reterr_set(
			err, -EFBIG,
			"a mount takes JSON and MessagePack of up to %zu MiB; as raw, or into "
			"the store while it is not mounted, it can be larger",
			RENDER_PAYLOAD_MAX >> 20);
	(void)snprintf(path, sizeof(path), "atoms/in/%s%s", unique_name(mounted, name),
		       name_suffix(source->format));
	CLEANUP(io_close)
	int fd = openat(mounted->top, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return failed(mounted, -errno, "cannot create a file in atoms/in", err);
	int r = copy_source(mounted, source, fd, err);
	if (r == 0 && fsync(fd) < 0)
		r = failed(mounted, -errno, "it is not durable", err);
	if (r == 0)
		r = read_address(mounted, path, ret, err);
	if (r == 0)
		r = check_format(mounted, source, ret, err);
	/* What is incomplete must not become an atom when it is closed. */
	if (r < 0 && ftruncate(fd, 0) < 0)
		log_warning("cannot take back what was written to atoms/in: %s", strerror(errno));
	(void)unlinkat(mounted->top, path, 0);
	return r;
}

static int mounted_sync(struct where *where, struct reterr *err)
{
	(void)where; /* every put was an fsync */
	(void)err;
	return 0;
}

/* ---- Atoms ---------------------------------------------------------------------------------- */

/* Why there is no atom at POINTER. */
static int no_atom(struct mounted *mounted, const struct engine_pointer *pointer,
		   struct reterr *err)
{
	char path[64], uuid[UUID_TEXT_LENGTH + 1];
	struct stat st;

	(void)snprintf(path, sizeof(path), "wal/%s", uuid_format(&pointer->segment, uuid));
	if (fstatat(mounted->top, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return no_such_segment(&pointer->segment, err);
	return reterr_set(err, -ENOENT,
			  pointer->offset >= (uint64_t)st.st_size
				  ? "it points past the end: the segment has %jd bytes"
				  : "no atom begins there (the segment has %jd bytes; `protofs ls "
				    "... atoms` lists them)",
			  (intmax_t)st.st_size);
}

static int mounted_cat(struct where *where, const struct engine_pointer *pointer,
		       enum where_form form, int out, struct reterr *err)
{
	static const char *const suffixes[] = {
		[WHERE_PAYLOAD] = "",
		[WHERE_JSON] = ".json",
		[WHERE_FRAME] = ".frame",
	};
	struct mounted *mounted = mounted_of(where);
	char path[TEXT_POINTER_LENGTH + 16], text[TEXT_POINTER_LENGTH];
	uint64_t offset = 0;

	(void)snprintf(path, sizeof(path), "atoms/%s%s", text_pointer(pointer, text),
		       suffixes[form]);
	CLEANUP(io_close) int fd = openat(mounted->top, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return no_atom(mounted, pointer, err);
	if (fd < 0 && errno == EFBIG)
		return reterr_set(err, -EFBIG, "it is too large, or too deep, for --json");
	if (fd < 0)
		return failed(mounted, -errno, path, err);
	for (size_t n = CHUNK_SIZE; n == CHUNK_SIZE; offset += n) {
		int r = io_read_at(fd, mounted->chunk, CHUNK_SIZE, offset, &n);
		if (r < 0)
			return failed(mounted, r, path, err);
		r = io_write(out, mounted->chunk, n);
		if (r < 0)
			return reterr_set(err, r, "cannot write it out: %s", strerror(-r));
	}
	return 0;
}

static void close_directory(DIR **directory)
{
	if (*directory)
		(void)closedir(*directory);
}

static DIR *open_directory(struct mounted *mounted, const char *path)
{
	int fd = openat(mounted->top, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	if (!directory && fd >= 0)
		(void)close(fd);
	return directory;
}

static int mounted_atoms(struct where *where, const struct uuid *segment, where_atom_fn *fn,
			 void *arg, struct reterr *err)
{
	struct mounted *mounted = mounted_of(where);
	char path[64], uuid[UUID_TEXT_LENGTH + 1];
	const struct dirent *entry;

	(void)snprintf(path, sizeof(path), "atoms/%s", uuid_format(segment, uuid));
	CLEANUP(close_directory) DIR *directory = open_directory(mounted, path);
	if (!directory && errno == ENOENT)
		return no_such_segment(segment, err);
	if (!directory)
		return failed(mounted, -errno, path, err);
	for (errno = 0; (entry = readdir(directory)); errno = 0) {
		uint64_t offset;
		struct stat st;
		if (text_parse_u64(entry->d_name, &offset) < 0)
			continue;
		if (fstatat(dirfd(directory), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return failed(mounted, -errno, entry->d_name, err);
		int r = fn(arg, offset, (uint64_t)st.st_size);
		if (r < 0)
			return r;
	}
	return errno ? failed(mounted, -errno, path, err) : 0;
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
	struct mounted *mounted = mounted_of(where);
	const struct dirent *entry;

	CLEANUP(close_directory) DIR *directory = open_directory(mounted, "wal");
	if (!directory)
		return failed(mounted, -errno, "wal", err);
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
			return failed(mounted, -errno, path, err);
		}
		attribute(path, "user.protofs.state", found.state, sizeof(found.state));
		attribute(path, "user.protofs.durable", durable, sizeof(durable));
		found.length = (uint64_t)st.st_size;
		found.durable = durable_bytes(durable, found.length);
		found.modified_ns =
			(uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec;
		int r = fn(arg, &found);
		if (r < 0)
			return r;
	}
	return errno ? failed(mounted, -errno, "wal", err) : 0;
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
		return no_such_segment(segment, err);
	if (fd < 0)
		return failed(mounted, -errno, path, err);
	mounted->segment_fd = fd;
	mounted->segment = *segment;
	mounted->segment_direct = direct;
	return 0;
}

static int mounted_read(struct where *where, const struct uuid *segment, void *data, size_t size,
			uint64_t offset, bool from_disk, size_t *ret, struct reterr *err)
{
	struct mounted *mounted = mounted_of(where);
	char what[96], uuid[UUID_TEXT_LENGTH + 1];

	int r = open_segment(mounted, segment, from_disk, err);
	if (r < 0)
		return r;
	r = io_read_at(mounted->segment_fd, data, size, offset, ret);
	if (r == 0)
		return 0;
	(void)snprintf(what, sizeof(what), "segment %s, byte %" PRIu64, uuid_format(segment, uuid),
		       offset);
	return failed(mounted, r, what, err);
}

static int mounted_sums(struct where *where, const struct uuid *segment, struct sum_file *ret,
			struct reterr *err)
{
	CLEANUP(buf_done) struct buf text = {.max = SUM_FILE_SIZE_MAX};
	struct mounted *mounted = mounted_of(where);
	char path[64], uuid[UUID_TEXT_LENGTH + 1];
	struct reterr cause = {0};

	(void)snprintf(path, sizeof(path), "wal/%s.sum", uuid_format(segment, uuid));
	int r = io_read_file(mounted->top, path, &text);
	if (r == -ENOENT)
		return no_such_segment(segment, err);
	if (r < 0)
		return failed(mounted, r, path, err);
	r = sum_file_parse((struct slice){.data = text.data, .size = text.size}, ret, &cause);
	return r < 0 ? reterr_set(err, r, "%s: %.400s", path, store_why(&cause, r)) : 0;
}

/* ---- Roots ---------------------------------------------------------------------------------- */

static int mounted_roots(struct where *where, uint64_t *ret_first, uint64_t *ret_last,
			 struct reterr *err)
{
	struct mounted *mounted = mounted_of(where);
	const struct dirent *entry;
	uint64_t first = 0, last = 0;

	CLEANUP(close_directory) DIR *directory = open_directory(mounted, "roots");
	if (!directory)
		return failed(mounted, -errno, "roots", err);
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
		return failed(mounted, -errno, "roots", err);
	*ret_first = first;
	*ret_last = last;
	return 0;
}

static int read_root(struct mounted *mounted, const char *path, struct engine_root *ret,
		     struct reterr *err)
{
	CLEANUP(buf_done) struct buf text = {.max = ROOT_TEXT_SIZE_MAX};
	int r = io_read_file(mounted->top, path, &text);
	if (r == -ENOENT)
		return reterr_set(err, r,
				  "%s is not kept; `protofs root ... log` lists those that "
				  "are",
				  path);
	if (r < 0)
		return failed(mounted, r, path, err);
	r = root_text_parse((struct slice){.data = text.data, .size = text.size}, ret);
	return r < 0 ? reterr_set(err, r, "%s holds no root", path) : 0;
}

static int mounted_root(struct where *where, uint64_t seq, struct engine_root *ret,
			struct reterr *err)
{
	char path[64];
	(void)snprintf(path, sizeof(path), "roots/%" PRIu64, seq);
	return read_root(mounted_of(where), path, ret, err);
}

/* 0, -EBUSY the root moved since the link was made, -ESTALE it never was EXPECTED. */
static int try_publish(struct mounted *mounted, uint64_t expected,
		       const struct engine_pointer *pointer, struct engine_root *ret,
		       struct reterr *err)
{
	char name[64], path[96], target[TEXT_POINTER_LENGTH + 16], text[TEXT_POINTER_LENGTH];
	struct engine_root newest = {0};

	(void)snprintf(path, sizeof(path), "roots/%s", unique_name(mounted, name));
	(void)snprintf(target, sizeof(target), "../atoms/%s", text_pointer(pointer, text));
	if (symlinkat(target, mounted->top, path) < 0)
		return failed(mounted, -errno, "cannot make a link in roots/", err);

	/* The link remembers the root of its birth: one read after it that is as expected proves both were. */
	int r = 0;
	if (expected != ENGINE_ROOT_EXPECT_ANY) {
		r = read_root(mounted, "roots/current", &newest, err);
		if (r == -ENOENT)
			r = 0;
		if (r == 0 && newest.seq != expected)
			r = reterr_set(err, -ESTALE, "the newest root is %" PRIu64 ", not %" PRIu64,
				       newest.seq, expected);
	}
	if (r == 0 && renameat(mounted->top, path, mounted->top, "roots/current") < 0)
		r = failed(mounted, -errno, "cannot publish", err);
	if (r < 0) {
		(void)unlinkat(mounted->top, path, 0);
		return r;
	}
	return read_root(mounted, "roots/current", ret, err);
}

static int mounted_publish(struct where *where, uint64_t expected,
			   const struct engine_pointer *pointer, struct engine_root *ret,
			   struct reterr *err)
{
	struct mounted *mounted = mounted_of(where);
	char path[TEXT_POINTER_LENGTH + 16], text[TEXT_POINTER_LENGTH];
	struct stat st;
	int r = -EBUSY;

	(void)snprintf(path, sizeof(path), "atoms/%s", text_pointer(pointer, text));
	if (fstatat(mounted->top, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return failed(mounted, -errno, path, err);
		(void)no_atom(mounted, pointer, err);
		return -ENODATA;
	}
	for (int i = 0; r == -EBUSY && i < PUBLISH_TRIES_MAX; i++) {
		r = try_publish(mounted, expected, pointer, ret, err);
		if (r == -EBUSY && expected != ENGINE_ROOT_EXPECT_ANY)
			return reterr_set(err, -ESTALE, "the newest root is no longer %" PRIu64,
					  expected);
	}
	return r;
}

static int mounted_prune(struct where *where, uint64_t keep_from, bool dry_run,
			 uint64_t *ret_dropped, struct reterr *err)
{
	uint64_t first, last;

	if (!dry_run)
		return reterr_set(err, -EBUSY, "a mounted store is not pruned: unmount it first");
	int r = mounted_roots(where, &first, &last, err);
	if (r < 0)
		return r;
	if (keep_from > last)
		keep_from = last;
	*ret_dropped = keep_from > first ? keep_from - first : 0;
	return 0;
}

/* ---- The rest ------------------------------------------------------------------------------- */

static int mounted_status(struct where *where, bool json, struct buf *ret, struct reterr *err)
{
	struct mounted *mounted = mounted_of(where);
	const char *path = json ? ".ctl/stats.json" : ".ctl/status";
	int r = io_read_file(mounted->top, path, ret);
	return r < 0 ? failed(mounted, r, path, err) : 0;
}

static const struct where_ops mounted_ops = {
	.close = mounted_close,
	.put = mounted_put,
	.sync = mounted_sync,
	.cat = mounted_cat,
	.segments = mounted_segments,
	.atoms = mounted_atoms,
	.read = mounted_read,
	.sums = mounted_sums,
	.roots = mounted_roots,
	.root = mounted_root,
	.publish = mounted_publish,
	.prune = mounted_prune,
	.status = mounted_status,
};

int where_mount_open(const char *mountpoint, struct reterr *err, struct where **ret)
{
	struct mounted *mounted = calloc(1, sizeof(*mounted));
	if (!mounted)
		return reterr_set(err, -ENOMEM, "out of memory");
	mounted->where.ops = &mounted_ops;
	mounted->segment_fd = -1;
	mounted->mountpoint = strdup(mountpoint);
	mounted->chunk = io_alloc(CHUNK_SIZE);
	mounted->top = open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = mounted->top < 0 ? -errno : !mounted->mountpoint || !mounted->chunk ? -ENOMEM : 0;
	if (r < 0) {
		(void)reterr_set(err, r, "%s", strerror(-r));
		(void)mounted_close(&mounted->where, NULL);
		return r;
	}
	*ret = &mounted->where;
	return 0;
}
