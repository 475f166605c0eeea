/*
 * Blocks as files of a directory: DIR/<key>, the bytes of the block and nothing else, so that `cat`
 * restores.
 *
 * A put writes a file without a name, flushes it, and links it to its name: the link is the commit
 * point, and fails if the name is taken, so that of two puts one wins. Then every directory on the
 * way is flushed, also when the name was taken: whoever is told of a block may rely on it. The hash
 * that the writer gave lies in the extended attribute user.protofs.xxh3, the place of its first frame
 * in user.protofs.first_frame, both set before the link. Where a file without a name cannot be made, one in DIR named .tmp-* stands in; its writer holds a lock
 * on it, so that open can tell what a crash left behind.
 *
 * No path is made from a key that block_key_parse refuses; no symlink is followed. There is no lock
 * in memory: everything is left to the kernel, and several processes may use one directory.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/invariant.h"
#include "cloud/block_key.h"
#include "cloud/block_store_dir.h"
#include "cloud/cloud.h"

#define XATTR_HASH "user.protofs.xxh3"
#define XATTR_FIRST_FRAME "user.protofs.first_frame"
#define TEMPORARY_PREFIX ".tmp-"

enum {
	TEMPORARY_MAX = 64,
	CHUNK_SIZE = 64 << 10,
	WRITE_MAX = 1 << 30,
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

/* The descriptor, which the caller's cleanup is not to close any more. */
static int take_fd(int *fd)
{
	int taken = *fd;
	*fd = -1;
	return taken;
}

/* What a caller can do about it, not what the system calls it. */
static int code_of(int error)
{
	switch (error) {
	case ENOENT:
	case ENOSPC:
	case ENOMEM:
	case EEXIST:
	case E2BIG:
		return -error;
	case EDQUOT:
		return -ENOSPC;
	case EACCES:
	case EPERM:
	case EROFS:
		return -EACCES;
	case EINTR:
	case EMFILE:
	case ENFILE:
	case EAGAIN:
		return -EAGAIN;
	default:
		return -EIO;
	}
}

static int fail(struct reterr *err, int r, const char *what, const char *key)
{
	return reterr_set(err, code_of(-r), "cannot %s %s: %s", what, key, strerror(-r));
}

int block_dir_admit(const struct dir_store *store, const char *key, struct reterr *err)
{
	if (atomic_load(&store->stopped))
		return reterr_set(err, -ECANCELED, "the place for blocks was stopped");
	if (key && block_key_parse(key, NULL) < 0)
		return reterr_set(err, -EINVAL, "\"%.100s\" is no key of a block", key);
	return 0;
}

/* ---- The directories on the way to a block ---- */

struct way {
	int fds[BLOCK_KEY_DEPTH_MAX]; /* [0] is the store's own, borrowed */
	unsigned count;
	const char *name; /* in the last one; points into the key */
};

static void way_done(struct way *way)
{
	for (unsigned i = 1; i < way->count; i++)
		(void)close(way->fds[i]);
}

int block_dir_enter(int parent_fd, const char *name)
{
	int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int way_open(const struct dir_store *store, const char *key, bool create, struct way *ret)
{
	*ret = (struct way){.fds = {store->dir_fd}, .count = 1, .name = key};
	const char *slash;
	while ((slash = strchr(ret->name, '/')) != NULL) {
		char name[BLOCK_KEY_MAX + 1];
		int parent = ret->fds[ret->count - 1];
		invariant(ret->count < BLOCK_KEY_DEPTH_MAX);
		(void)snprintf(name, sizeof(name), "%.*s", (int)(slash - ret->name), ret->name);
		if (create && mkdirat(parent, name, 0777) < 0 && errno != EEXIST)
			return -errno;
		int fd = block_dir_enter(parent, name);
		if (fd < 0)
			return fd;
		ret->fds[ret->count++] = fd;
		ret->name = slash + 1;
	}
	return 0;
}

/* From the innermost on, so that a name is never durable before what it names. */
static int way_sync(const struct way *way)
{
	for (unsigned i = way->count; i-- > 0;) {
		if (fsync(way->fds[i]) < 0)
			return -errno;
	}
	return 0;
}

/* ---- put ---- */

struct temporary {
	int fd;
	char name[TEMPORARY_MAX]; /* in the store's directory; "" if it has none */
};

static int temporary_named(struct dir_store *store, struct temporary *ret)
{
	unsigned long number = atomic_fetch_add(&store->temporaries, 1);
	(void)snprintf(ret->name, sizeof(ret->name), TEMPORARY_PREFIX "%ld-%lu", (long)getpid(),
		       number);
	int fd = openat(store->dir_fd, ret->name,
			O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (fd < 0) {
		int r = errno == EEXIST ? -EAGAIN : -errno;
		ret->name[0] = '\0';
		return r;
	}
	ret->fd = fd;
	/*
	 * If somebody took it for a leftover before this, the rename below finds nothing: -EAGAIN.
	 */
	return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -EAGAIN : 0;
}

static int temporary_new(struct dir_store *store, int parent_fd, struct temporary *ret)
{
	ret->name[0] = '\0';
	ret->fd = -1;
	if (!store->named_only) {
		ret->fd = openat(parent_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
		if (ret->fd >= 0)
			return 0;
		if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT)
			return -errno;
	}
	return temporary_named(store, ret);
}

static void temporary_done(struct dir_store *store, struct temporary *temporary)
{
	if (temporary->name[0])
		(void)unlinkat(store->dir_fd, temporary->name, 0);
	close_fd(&temporary->fd);
}

static int write_all(int fd, const uint8_t *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size < WRITE_MAX ? size : WRITE_MAX);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

static int fill(int fd, const void *data, size_t size, uint64_t first_frame)
{
	char text[HASH_TEXT_LENGTH + 1];
	struct hash hash = hash_of(data, size);
	int r = write_all(fd, data, size);
	if (r < 0)
		return r;
	/* Where it is not supported, head() reads the file instead. */
	(void)fsetxattr(fd, XATTR_HASH, hash_format(&hash, text), HASH_TEXT_LENGTH, 0);
	if (first_frame != BLOCK_NO_FRAME) {
		int length = snprintf(text, sizeof(text), "%" PRIu64, first_frame);
		(void)fsetxattr(fd, XATTR_FIRST_FRAME, text, (size_t)length, 0);
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* The commit point. -EEXIST. */
static int link_to_name(struct dir_store *store, struct temporary *temporary, const struct way *way)
{
	int parent = way->fds[way->count - 1];
	if (!temporary->name[0]) {
		char path[64];
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", temporary->fd);
		return linkat(AT_FDCWD, path, parent, way->name, AT_SYMLINK_FOLLOW) < 0 ? -errno
											: 0;
	}
	if (renameat2(store->dir_fd, temporary->name, parent, way->name, RENAME_NOREPLACE) == 0) {
		temporary->name[0] = '\0';
		return 0;
	}
	if (errno == ENOENT)
		return -EAGAIN;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	return linkat(store->dir_fd, temporary->name, parent, way->name, 0) < 0 ? -errno : 0;
}

static int dir_put(struct block_store *base, const char *key, const void *data, size_t size,
		   uint64_t first_frame, struct reterr *err)
{
	struct dir_store *store = block_dir_of(base);
	int r = block_dir_admit(store, key, err);
	if (r < 0)
		return r;
	if (size > BLOCK_STORE_SIZE_MAX)
		return reterr_set(err, -EFBIG, "%s: %zu bytes are too many for a block", key, size);

	CLEANUP(way_done) struct way way;
	r = way_open(store, key, true, &way);
	if (r < 0)
		return fail(err, r, "make the directory of", key);
	struct temporary temporary;
	r = temporary_new(store, way.fds[way.count - 1], &temporary);
	if (r == 0)
		r = fill(temporary.fd, data, size, first_frame);
	if (r == 0)
		r = link_to_name(store, &temporary, &way);
	int synced = r == 0 || r == -EEXIST ? way_sync(&way) : 0;
	temporary_done(store, &temporary);
	if (synced < 0)
		return fail(err, synced, "flush the directory of", key);
	if (r == -EEXIST)
		return reterr_set(err, r, "there is a block %s already", key);
	return r < 0 ? fail(err, r, "store", key) : 0;
}

static int dir_replace(struct block_store *base, const char *key, const void *data, size_t size,
		       struct reterr *err)
{
	struct dir_store *store = block_dir_of(base);
	int r = block_dir_admit(store, key, err);
	if (r < 0)
		return r;
	if (strcmp(key, "owner") != 0)
		return reterr_set(err, -EINVAL, "%s: only \"owner\" is ever replaced", key);
	if (size > BLOCK_STORE_SIZE_MAX)
		return reterr_set(err, -EFBIG, "%s: %zu bytes are too many for a block", key, size);

	struct temporary temporary = {.fd = -1};
	r = temporary_named(store, &temporary);
	if (r == 0)
		r = fill(temporary.fd, data, size, BLOCK_NO_FRAME);
	if (r == 0) {
		r = renameat(store->dir_fd, temporary.name, store->dir_fd, key) < 0 ? -errno : 0;
		if (r == 0)
			temporary.name[0] = '\0';
	}
	if (r == 0 && fsync(store->dir_fd) < 0)
		r = -errno;
	temporary_done(store, &temporary);
	return r < 0 ? fail(err, r, "replace", key) : 0;
}

/* ---- get, get_range, head, delete ---- */

static int open_block(const struct dir_store *store, const char *key, int *ret_fd,
		      struct stat *ret_st, struct reterr *err)
{
	int r = block_dir_admit(store, key, err);
	if (r < 0)
		return r;
	CLEANUP(way_done) struct way way;
	r = way_open(store, key, false, &way);
	if (r < 0)
		return fail(err, r, "open", key);

	/* Not blocking: a fifo of that name must not hang us. */
	const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	CLEANUP(close_fd) int fd = openat(way.fds[way.count - 1], way.name, flags);
	if (fd < 0 || fstat(fd, ret_st) < 0)
		return fail(err, -errno, "open", key);
	if (!S_ISREG(ret_st->st_mode))
		return reterr_set(err, -EIO, "%s is not a regular file", key);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int read_all(int fd, uint8_t *data, size_t size, uint64_t offset, size_t *ret)
{
	size_t done = 0;
	while (done < size) {
		ssize_t n = pread(fd, data + done, size - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	*ret = done;
	return 0;
}

static int dir_get_range(struct block_store *base, const char *key, void *data, size_t size,
			 uint64_t offset, size_t *ret, struct reterr *err)
{
	CLEANUP(close_fd) int fd = -1;
	struct stat st;
	int r = open_block(block_dir_of(base), key, &fd, &st, err);
	if (r < 0)
		return r;
	if (offset >= (uint64_t)st.st_size) {
		*ret = 0;
		return 0;
	}
	r = read_all(fd, data, size, offset, ret);
	return r < 0 ? fail(err, r, "read", key) : 0;
}

static int hash_file(int fd, struct hash *ret)
{
	uint8_t *chunk = malloc(CHUNK_SIZE);
	struct hash_stream *stream = NULL;
	int r = chunk ? hash_stream_new(&stream) : -ENOMEM;
	size_t got = 0;
	for (uint64_t at = 0; r == 0; at += got) {
		r = read_all(fd, chunk, CHUNK_SIZE, at, &got);
		if (r < 0 || got == 0)
			break;
		hash_stream_update(stream, chunk, got);
	}
	if (r == 0)
		*ret = hash_stream_sum(stream);
	hash_stream_free(stream);
	free(chunk);
	return r;
}

/* All of the head that can be had without reading the bytes; without RECORDED the hash is not. */
static struct block_head head_of(int fd, const struct stat *st)
{
	char text[HASH_TEXT_LENGTH + 1] = "";
	struct block_head head = {
		.size = (uint64_t)st->st_size,
		.first_frame = BLOCK_NO_FRAME,
		.modified_ns =
			(uint64_t)st->st_mtim.tv_sec * 1000000000U + (uint64_t)st->st_mtim.tv_nsec,
	};
	ssize_t n = fgetxattr(fd, XATTR_HASH, text, HASH_TEXT_LENGTH);
	head.recorded = n == HASH_TEXT_LENGTH && hash_parse(text, &head.hash) == 0;

	n = fgetxattr(fd, XATTR_FIRST_FRAME, text, HASH_TEXT_LENGTH);
	text[n > 0 ? n : 0] = '\0';
	char *end;
	uint64_t first = strtoull(text, &end, 10);
	if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && first < head.size)
		head.first_frame = first;
	return head;
}

static int dir_get(struct block_store *base, const char *key, void *data, size_t size_max,
		   struct block_head *ret, struct reterr *err)
{
	CLEANUP(close_fd) int fd = -1;
	struct stat st;
	int r = open_block(block_dir_of(base), key, &fd, &st, err);
	if (r < 0)
		return r;
	struct block_head head = head_of(fd, &st);
	if (head.size > size_max)
		return reterr_set(err, -EFBIG, "%s has %" PRIu64 " bytes, more than %zu", key,
				  head.size, size_max);
	size_t size;
	r = read_all(fd, data, (size_t)head.size, 0, &size);
	if (r < 0)
		return fail(err, r, "read", key);
	if (size < head.size)
		return reterr_set(err, -EBADMSG, "%s: %zu bytes came of %" PRIu64, key, size,
				  head.size);
	if (!head.recorded)
		head.hash = hash_of(data, size);
	*ret = head;
	return 0;
}

static int dir_head(struct block_store *base, const char *key, struct block_head *ret,
		    struct reterr *err)
{
	CLEANUP(close_fd) int fd = -1;
	struct stat st;
	int r = open_block(block_dir_of(base), key, &fd, &st, err);
	if (r < 0)
		return r;
	struct block_head head = head_of(fd, &st);
	r = head.recorded ? 0 : hash_file(fd, &head.hash);
	if (r < 0)
		return fail(err, r, "read", key);
	*ret = head;
	return 0;
}

static int dir_delete(struct block_store *base, const char *key, struct reterr *err)
{
	int r = block_dir_admit(block_dir_of(base), key, err);
	if (r < 0)
		return r;
	CLEANUP(way_done) struct way way;
	r = way_open(block_dir_of(base), key, false, &way);
	if (r == -ENOENT)
		return 0;
	if (r == 0 && unlinkat(way.fds[way.count - 1], way.name, 0) < 0 && errno != ENOENT)
		r = -errno;
	if (r == 0 && fsync(way.fds[way.count - 1]) < 0)
		r = -errno;
	return r < 0 ? fail(err, r, "delete", key) : 0;
}

/* ---- Open ---- */

static void dir_status(struct block_store *base, struct block_store_status *ret)
{
	(void)base;
	*ret = (struct block_store_status){.place = "directory", .conditional = true};
}

static void dir_stop(struct block_store *base)
{
	atomic_store(&block_dir_of(base)->stopped, true);
}

static void dir_free(struct block_store *base)
{
	struct dir_store *store = block_dir_of(base);
	close_fd(&store->dir_fd);
	free(store);
}

static const struct block_store_ops dir_ops = {
	.name = "directory",
	.put = dir_put,
	.replace = dir_replace,
	.get = dir_get,
	.get_range = dir_get_range,
	.head = dir_head,
	.list = block_dir_list,
	.delete = dir_delete,
	.status = dir_status,
	.stop = dir_stop,
	.free = dir_free,
};

/* Unlinks what a crashed writer left; a living one holds the lock. */
static void remove_leftover(int dir_fd, const char *name)
{
	CLEANUP(close_fd)
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		(void)unlinkat(dir_fd, name, 0);
}

/* Only tidies up: nothing depends on it. */
static void remove_leftovers(int dir_fd)
{
	int fd = block_dir_enter(dir_fd, ".");
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		close_fd(&fd);
		return;
	}
	const struct dirent *entry;
	while ((entry = readdir(dir)) != NULL) {
		if (strncmp(entry->d_name, TEMPORARY_PREFIX, strlen(TEMPORARY_PREFIX)) == 0)
			remove_leftover(dir_fd, entry->d_name);
	}
	(void)closedir(dir);
}

int block_store_dir_open(const char *dir, struct reterr *err, struct block_store **ret)
{
	struct dir_store *store = calloc(1, sizeof(*store));
	if (!store)
		return reterr_set(err, -ENOMEM, "no memory");
	store->base.ops = &dir_ops;
	store->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store->dir_fd < 0) {
		int r = -errno;
		free(store);
		return reterr_set(err, r, "cannot open the directory %s: %s", dir, strerror(-r));
	}
	remove_leftovers(store->dir_fd);
	*ret = &store->base;
	return 0;
}

void block_store_dir_use_names(struct block_store *base)
{
	block_dir_of(base)->named_only = true;
}
