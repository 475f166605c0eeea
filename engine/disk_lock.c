/* The lock on a store, and what tells a store from a copy of its directory. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/disk_posix.h"

enum { COMMAND_SIZE = 128 };

/* Up to SIZE - 1 bytes of a small file, NUL-terminated. Returns their number, 0 if it cannot be read. */
static size_t read_text(int dir_fd, const char *path, char *text, size_t size)
{
	text[0] = '\0';
	int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return 0;
	ssize_t n = pread(fd, text, size - 1, 0);
	(void)close(fd);
	size_t length = n > 0 ? (size_t)n : 0;
	text[length] = '\0';
	return length;
}

/* The arguments of process PID on one printable line, else its name; "" if neither can be read. */
static void command_of(long pid, char text[COMMAND_SIZE])
{
	char path[64];
	(void)snprintf(path, sizeof(path), "/proc/%ld/cmdline", pid);
	size_t length = read_text(AT_FDCWD, path, text, COMMAND_SIZE);
	if (length == 0) {
		(void)snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
		length = read_text(AT_FDCWD, path, text, COMMAND_SIZE);
	}
	while (length && (text[length - 1] == '\0' || text[length - 1] == '\n'))
		text[--length] = '\0';
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '\0')
			text[i] = ' ';
		else if (!isprint((unsigned char)text[i]))
			text[i] = '?';
	}
}

static int busy(const struct posix_disk *disk, struct reterr *err)
{
	char text[32];
	char command[COMMAND_SIZE] = "";

	(void)read_text(disk->dir_fd, "lock", text, sizeof(text));
	long pid = strtol(text, NULL, 10);
	if (pid > 0)
		command_of(pid, command);
	if (!*command)
		return reterr_set(err, -EBUSY, "store is in use by another process");
	return reterr_set(err, -EBUSY, "store is in use by process %ld (%s)", pid, command);
}

/* Readers may not be allowed to write the file; the lock does not need it. */
static int open_lock_file(const struct posix_disk *disk, bool exclusive)
{
	const int flags = O_CLOEXEC | O_NOFOLLOW;
	int fd = openat(disk->dir_fd, "lock", O_RDWR | O_CREAT | flags, 0600);
	if (fd < 0 && !exclusive && (errno == EROFS || errno == EACCES))
		fd = openat(disk->dir_fd, "lock", O_RDONLY | flags);
	return fd < 0 ? -errno : fd;
}

/* Only tells others who it is: the lock holds without it. */
static void write_pid(int fd)
{
	char text[32];
	int length = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)length, 0) == length)
		return;
}

int posix_lock(struct disk *base, bool exclusive, struct reterr *err)
{
	struct posix_disk *disk = posix_disk_of(base);
	int fd = disk->lock_fd >= 0 ? disk->lock_fd : open_lock_file(disk, exclusive);
	if (fd < 0)
		return reterr_set(err, fd, "cannot open the store's lock file: %s", strerror(-fd));

	int r;
	do {
		r = flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB);
	} while (r < 0 && errno == EINTR);
	if (r < 0) {
		r = -errno;
		if (fd != disk->lock_fd)
			(void)close(fd);
		if (r == -EWOULDBLOCK)
			return busy(disk, err);
		return reterr_set(err, r, "cannot lock the store: %s", strerror(-r));
	}
	write_pid(fd);
	disk->lock_fd = fd;
	return 0;
}

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Machines without the file (a container) are told apart by the inode number alone. */
static void machine_id(uint8_t out[static 16])
{
	char text[64];
	uint8_t id[16];

	if (read_text(AT_FDCWD, "/etc/machine-id", text, sizeof(text)) < 2 * sizeof(id))
		return;
	for (size_t i = 0; i < sizeof(id); i++) {
		int high = nibble(text[2 * i]);
		int low = nibble(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return;
		id[i] = (uint8_t)(high << 4 | low);
	}
	memcpy(out, id, sizeof(id));
}

int posix_identity(struct disk *base, struct disk_identity *ret)
{
	struct stat st;
	if (fstat(posix_disk_of(base)->dir_fd, &st) < 0)
		return -errno;
	*ret = (struct disk_identity){.inode = st.st_ino};
	machine_id(ret->machine);
	return 0;
}
