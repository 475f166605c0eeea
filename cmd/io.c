#include "cmd/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/buf.h"

enum { READ_CHUNK_SIZE = 16384, DIRECT_ALIGNMENT = 4096, TREE_FDS = 16 };

void io_close(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

int io_write(int fd, const void *data, size_t size)
{
	const char *from = data;
	while (size > 0) {
		ssize_t n = write(fd, from, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		from += n;
		size -= (size_t)n;
	}
	return 0;
}

int io_read_at(int fd, void *data, size_t size, uint64_t offset, size_t *ret)
{
	char *to = data;
	size_t done = 0;
	while (done < size) {
		ssize_t n = pread(fd, to + done, size - done, (off_t)(offset + done));
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

int io_read_file(int at, const char *name, struct buf *buf)
{
	CLEANUP(io_close) int fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	for (;;) {
		size_t room = buf->max - buf->size < READ_CHUNK_SIZE ? buf->max - buf->size
								     : READ_CHUNK_SIZE;
		char extra; /* tells a full buffer from a file that is larger */
		int r = buf_reserve(buf, room);
		if (r < 0)
			return r;
		ssize_t n = room ? read(fd, buf->data + buf->size, room) : read(fd, &extra, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		if (!room)
			return -EFBIG;
		buf->size += (size_t)n;
	}
}

int io_replace_file(int at, const char *name, const void *data, size_t size, mode_t mode)
{
	char temporary[NAME_MAX + 1];
	int length = snprintf(temporary, sizeof(temporary), "%s.tmp", name);
	if (length < 0 || (size_t)length >= sizeof(temporary))
		return -ENAMETOOLONG;
	CLEANUP(io_close)
	int fd = openat(at, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return -errno;
	int r = io_write(fd, data, size);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(at, temporary, at, name) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlinkat(at, temporary, 0);
		return r;
	}
	return io_sync_dir(at);
}

int io_sync_dir(int at)
{
	/* AT may be a descriptor that only names (O_PATH): fsync wants one that reads. */
	CLEANUP(io_close) int fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* Some filesystems have nothing to flush there, and say so. */
	return fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
}

int io_sync_parent(const char *path)
{
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	size_t length = strlen(copy);
	while (length > 1 && copy[length - 1] == '/')
		copy[--length] = '\0';
	char *slash = strrchr(copy, '/');
	if (slash)
		slash[slash == copy ? 1 : 0] = '\0';
	CLEANUP(io_close) int fd = open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : io_sync_dir(fd);
	free(copy);
	return r;
}

int io_dir_is_empty(const char *path)
{
	DIR *directory = opendir(path);
	const struct dirent *entry;
	int empty = 1;

	if (!directory)
		return -errno;
	while (empty && (entry = readdir(directory)))
		empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
	(void)closedir(directory);
	return empty;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	(void)remove(path);
	return 0;
}

void io_remove_tree(const char *path)
{
	(void)nftw(path, remove_entry, TREE_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

void *io_alloc(size_t size)
{
	size_t rounded = (size + DIRECT_ALIGNMENT - 1) / DIRECT_ALIGNMENT * DIRECT_ALIGNMENT;
	return aligned_alloc(DIRECT_ALIGNMENT, rounded);
}
