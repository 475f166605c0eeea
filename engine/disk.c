#include "engine/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void disk_free(struct disk *disk)
{
	if (disk)
		disk->ops->free(disk);
}

int disk_open(struct disk *disk, const char *path, unsigned flags, struct disk_file **ret)
{
	return disk->ops->open(disk, path, flags, ret);
}

void disk_close(struct disk_file *file)
{
	if (file)
		file->disk->ops->close(file);
}

int disk_read(struct disk_file *file, void *data, size_t size, uint64_t offset, size_t *ret)
{
	return file->disk->ops->read(file, data, size, offset, ret);
}

int disk_read_full(struct disk_file *file, void *data, size_t size, uint64_t offset)
{
	size_t got;
	int r = disk_read(file, data, size, offset, &got);
	if (r < 0)
		return r;
	return got == size ? 0 : -ENODATA;
}

int disk_commit(struct disk *disk, struct disk_job *jobs, size_t count)
{
	return count ? disk->ops->commit(disk, jobs, count) : 0;
}

int disk_write_flush(struct disk_file *file, const void *data, size_t size, uint64_t offset)
{
	/* The cast only drops const, which struct iovec cannot carry: writes do not change it. */
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
	struct disk_job job = {
		.file = file,
		.writes = {{.iov = &iov, .iov_count = 1, .offset = offset}},
		.write_count = 1,
	};
	return disk_commit(file->disk, &job, 1);
}

int disk_flush(struct disk_file *file)
{
	return file->disk->ops->flush(file);
}

int disk_size(struct disk_file *file, uint64_t *ret)
{
	return file->disk->ops->size(file, ret);
}

int disk_truncate(struct disk_file *file, uint64_t size)
{
	return file->disk->ops->truncate(file, size);
}

int disk_reserve(struct disk_file *file, uint64_t offset, uint64_t size)
{
	return file->disk->ops->reserve(file, offset, size);
}

int disk_mkdir(struct disk *disk, const char *path)
{
	return disk->ops->mkdir(disk, path);
}

int disk_unlink(struct disk *disk, const char *path)
{
	return disk->ops->unlink(disk, path);
}

int disk_rename(struct disk *disk, const char *from, const char *to)
{
	return disk->ops->rename(disk, from, to);
}

int disk_sync_dir(struct disk *disk, const char *path)
{
	return disk->ops->sync_dir(disk, path);
}

int disk_list(struct disk *disk, const char *path, disk_list_fn *fn, void *arg)
{
	return disk->ops->list(disk, path, fn, arg);
}

/* Writes and flushes a file of exactly these bytes; one of that name is emptied first. */
static int write_whole_file(struct disk *disk, const char *path, const void *data, size_t size)
{
	struct disk_file *file;
	int r = disk_open(disk, path, DISK_WRITE | DISK_CREATE | DISK_REPLACE, &file);
	if (r < 0)
		return r;
	r = size ? disk_write_flush(file, data, size, 0) : disk_flush(file);
	disk_close(file);
	return r;
}

int disk_replace_file(struct disk *disk, const char *dir, const char *path, const void *data,
		      size_t size)
{
	char temporary[DISK_PATH_MAX + 1];
	int length = snprintf(temporary, sizeof(temporary), "%s.tmp", path);
	if (length < 0 || (size_t)length >= sizeof(temporary))
		return -ENAMETOOLONG;

	int r = write_whole_file(disk, temporary, data, size);
	if (r == 0)
		r = disk_rename(disk, temporary, path);
	if (r < 0) {
		/* Only tidies up: the next replacement would empty it too. */
		int ignored = disk_unlink(disk, temporary);
		(void)ignored;
		return r;
	}
	return disk_sync_dir(disk, dir);
}

int disk_read_file(struct disk *disk, const char *path, size_t size_max, void **ret_data,
		   size_t *ret_size)
{
	struct disk_file *file;
	int r = disk_open(disk, path, DISK_READ, &file);
	if (r < 0)
		return r;

	void *data = NULL;
	uint64_t size = 0;
	r = disk_size(file, &size);
	if (r == 0 && size > size_max)
		r = -EFBIG;
	if (r == 0) {
		data = malloc(size ? (size_t)size : 1);
		r = data ? disk_read_full(file, data, (size_t)size, 0) : -ENOMEM;
	}
	disk_close(file);
	if (r < 0) {
		free(data);
		return r;
	}
	*ret_data = data;
	*ret_size = (size_t)size;
	return 0;
}
