#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/le.h"
#include "raw.h"

enum { ROOT_READ_SIZE = 8192, PAGE_SIZE_READ = 1 << 20 };

void client_frame(uint8_t *frame, uint64_t size)
{
	store_le64(frame, size);
	frame[8] = 0; /* raw */
	raw_fill(frame + CLIENT_FRAME_HEADER_SIZE, size, 7);
}

static int open_name(const struct client *client, const char *name, int flags, mode_t mode)
{
	char path[2 * CLIENT_PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/%s", client->dir, name);
	int fd = open(path, flags | O_CLOEXEC, mode);
	return fd < 0 ? -errno : fd;
}

int client_append(struct client *client)
{
	int fd = open_name(client, client->segment, O_RDWR | O_CREAT | O_APPEND, 0644);
	if (fd < 0)
		return fd;

	int r = lseek(fd, (off_t)client->length, SEEK_SET) < 0
			? -errno
			: raw_write_all(fd, client->frame, sizeof(client->frame));
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r < 0)
		return r;
	client->last = client->length;
	client->length += sizeof(client->frame);
	return 0;
}

static int read_twice(int fd, void *data, size_t size, size_t *ret)
{
	ssize_t n = read(fd, data, size);
	if (n < 0)
		return -errno;
	ssize_t more = read(fd, (uint8_t *)data + n, size - (size_t)n);
	if (more < 0)
		return -errno;
	*ret = (size_t)(n + more);
	return 0;
}

static int read_root(const struct client *client, unsigned long long *ret_offset)
{
	char text[ROOT_READ_SIZE + 1], segment[64];
	size_t size;

	int fd = open_name(client, "space_root", O_RDONLY, 0);
	if (fd < 0)
		return fd;
	int r = read_twice(fd, text, ROOT_READ_SIZE, &size);
	(void)close(fd);
	if (r < 0)
		return r;
	text[size] = '\0';
	if (sscanf(text, "{\"transaction_id\": \"%36s\", \"offset\": %llu}", segment, ret_offset) !=
	    2)
		return -EINVAL;
	segment[strcspn(segment, "\"")] = '\0';
	return strcmp(segment, client->segment) == 0 ? 0 : -ESTALE;
}

static int read_page(const struct client *client, unsigned long long offset)
{
	static uint8_t page[PAGE_SIZE_READ];
	size_t size = 0;

	int fd = open_name(client, client->segment, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	off_t at = (off_t)(offset - offset % PAGE_SIZE_READ);
	int r = lseek(fd, at, SEEK_SET) < 0 ? -errno : read_twice(fd, page, sizeof(page), &size);
	(void)close(fd);
	if (r < 0)
		return r;
	return size > offset % PAGE_SIZE_READ ? 0 : -ENODATA;
}

static int read_current(const struct client *client)
{
	unsigned times = client->reads_pages ? 2 : 4;
	unsigned long long offset;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < times; i++) {
		r = read_root(client, &offset);
		if (r == 0 && client->reads_pages)
			r = read_page(client, offset);
	}
	return r;
}

static int write_temporary(const struct client *client, const char *name)
{
	char text[128];

	int fd = open_name(client, name, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	if (fd < 0)
		return fd;
	int length = snprintf(text, sizeof(text), "{\"transaction_id\": \"%s\", \"offset\": %llu}",
			      client->segment, (unsigned long long)client->last);
	int r = raw_write_all(fd, text, (size_t)length);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

static int sync_directory(const struct client *client)
{
	int fd = open_name(client, ".", O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	int r = fsync(fd) < 0 ? -errno : 0;
	(void)close(fd);
	return r;
}

static int replace_root(struct client *client)
{
	char name[128], from[2 * CLIENT_PATH_MAX], to[2 * CLIENT_PATH_MAX];

	(void)snprintf(name, sizeof(name), "space_root.%s.%032llx.tmp", client->segment,
		       (unsigned long long)client->commits);
	(void)snprintf(from, sizeof(from), "%s/%s", client->dir, name);
	(void)snprintf(to, sizeof(to), "%s/space_root", client->dir);
	int r = write_temporary(client, name);
	if (r < 0)
		return r;
	if (rename(from, to) < 0)
		return -errno;
	client->commits++;
	return sync_directory(client);
}

int client_publish(struct client *client)
{
	int lock = open_name(client, "space_root.lock", O_RDWR | O_CREAT, 0777);
	if (lock < 0)
		return lock;

	int r = flock(lock, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
	if (r == 0 && client->commits > 0)
		r = read_current(client);
	if (r == 0)
		r = replace_root(client);
	if (flock(lock, LOCK_UN) < 0 && r == 0)
		r = -errno;
	(void)close(lock);
	return r;
}

int client_open(struct client *client, const char *dir)
{
	struct uuid uuid;

	*client = (struct client){.commits = 0};
	if (snprintf(client->dir, sizeof(client->dir), "%s", dir) >= (int)sizeof(client->dir))
		return -ENAMETOOLONG;
	client_frame(client->frame, CLIENT_ATOM_SIZE);
	int r = uuid_random(&uuid);
	if (r < 0)
		return r;
	(void)uuid_format(&uuid, client->segment);
	r = client_append(client);
	return r < 0 ? r : client_publish(client);
}
