#include "raw.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIMIT_FILE_SIZE = 64 << 20, FILL_CHUNK = 1 << 20, WALK_FDS = 16 };

void raw_fill(void *data, size_t size, uint64_t seed)
{
	uint8_t *bytes = data;
	uint64_t x = seed * 2 + 1;

	for (size_t i = 0; i < size; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		bytes[i] = (uint8_t)(x >> 56);
	}
}

int raw_write_all(int fd, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	while (size > 0) {
		ssize_t n = write(fd, bytes, size);
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		bytes += n;
		size -= (size_t)n;
	}
	return 0;
}

static int open_in(const char *dir, const char *name, int flags)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	int fd = open(path, flags | O_CLOEXEC, 0644);
	return fd < 0 ? -errno : fd;
}

/* Allocated, written and on the disk, so that an overwrite changes no metadata. */
static int write_zeros(const char *dir, const char *name)
{
	int fd = open_in(dir, name, O_WRONLY | O_CREAT | O_TRUNC), r = 0;
	if (fd < 0)
		return fd;

	void *zeros = calloc(1, FILL_CHUNK);
	if (!zeros)
		r = -ENOMEM;
	for (size_t done = 0; r == 0 && done < LIMIT_FILE_SIZE; done += FILL_CHUNK)
		r = raw_write_all(fd, zeros, FILL_CHUNK);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	free(zeros);
	(void)close(fd);
	return r;
}

int raw_limit_open(struct raw_limit *raw, const char *dir, unsigned threads)
{
	*raw = (struct raw_limit){.fd = -1, .region = LIMIT_FILE_SIZE / threads};
	raw->region -= raw->region % RAW_WRITE_SIZE;
	int r = write_zeros(dir, "limit");
	if (r < 0)
		return r;
	raw->fd = open_in(dir, "limit", O_WRONLY | O_DIRECT | O_DSYNC);
	if (raw->fd < 0)
		return raw->fd;
	raw->data = aligned_alloc(RAW_WRITE_SIZE, RAW_WRITE_SIZE);
	if (!raw->data)
		return -ENOMEM;
	raw_fill(raw->data, RAW_WRITE_SIZE, 1);
	return 0;
}

int raw_limit_write(void *arg, unsigned thread)
{
	struct raw_limit *raw = arg;
	uint64_t at = raw->at[thread], base = thread * raw->region;

	raw->at[thread] = (at + RAW_WRITE_SIZE) % raw->region;
	ssize_t n = pwrite(raw->fd, raw->data, RAW_WRITE_SIZE, (off_t)(base + at));
	if (n < 0)
		return -errno;
	return n == RAW_WRITE_SIZE ? 0 : -EIO;
}

void raw_limit_close(struct raw_limit *raw)
{
	if (raw->fd >= 0)
		(void)close(raw->fd);
	free(raw->data);
	*raw = (struct raw_limit){.fd = -1};
}

int raw_append_open(struct raw_append *raw, const char *dir, const char *name, unsigned files)
{
	*raw = (struct raw_append){.count = 0};
	raw_fill(raw->data, sizeof(raw->data), 2);
	for (unsigned i = 0; i < files; i++) {
		char numbered[64];

		(void)snprintf(numbered, sizeof(numbered), "%s.%u", name, i);
		int fd = open_in(dir, numbered, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
		if (fd < 0)
			return fd;
		raw->fds[raw->count++] = fd;
	}
	return 0;
}

int raw_append_write(void *arg, unsigned thread)
{
	struct raw_append *raw = arg;
	int fd = raw->fds[thread % raw->count];

	int r = raw_write_all(fd, raw->data, sizeof(raw->data));
	if (r < 0)
		return r;
	return (raw->full_sync ? fsync(fd) : fdatasync(fd)) < 0 ? -errno : 0;
}

void raw_append_close(struct raw_append *raw)
{
	for (unsigned i = 0; i < raw->count; i++)
		(void)close(raw->fds[i]);
	raw->count = 0;
}

int raw_evict(int fd)
{
	/* Only clean pages leave. */
	if (fdatasync(fd) < 0)
		return -errno;
	return -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

static int evict_path(const char *path, const struct stat *st, int type, struct FTW *walk)
{
	(void)st;
	(void)walk;
	if (type != FTW_F)
		return 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	int r = raw_evict(fd);
	(void)close(fd);
	return r;
}

int raw_evict_tree(const char *dir)
{
	errno = 0;
	int r = nftw(dir, evict_path, WALK_FDS, FTW_PHYS);
	return r == -1 && errno ? -errno : r;
}
