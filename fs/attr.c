/* What stat(2) shows: the common part of every view's attributes. */
#include "fs/core.h"

enum { ATTR_BLOCK_SIZE = 4096, ATTR_STAT_UNIT = 512 };

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / 1000000000),
				 .tv_nsec = (long)(ns % 1000000000)};
}

static void attr_begin(const struct fs *fs, struct stat *attr, uint64_t id, mode_t mode,
		       uint64_t size, uint64_t mtime_ns)
{
	struct timespec time = timespec_of(mtime_ns);
	*attr = (struct stat){
		.st_ino = id,
		.st_mode = mode,
		.st_nlink = 1,
		.st_uid = fs->uid,
		.st_gid = fs->gid,
		.st_size = (off_t)size,
		.st_blksize = ATTR_BLOCK_SIZE,
		.st_blocks = (blkcnt_t)((size + ATTR_STAT_UNIT - 1) / ATTR_STAT_UNIT),
		.st_atim = time,
		.st_mtim = time,
		.st_ctim = time,
	};
}

void attr_file(const struct fs *fs, struct stat *attr, uint64_t id, mode_t mode, uint64_t size,
	       uint64_t mtime_ns)
{
	attr_begin(fs, attr, id, S_IFREG | (mode & 0777), size, mtime_ns);
}

void attr_directory(const struct fs *fs, struct stat *attr, uint64_t id, mode_t mode,
		    unsigned subdirectories)
{
	attr_begin(fs, attr, id, S_IFDIR | (mode & 01777), 0, fs->started_ns);
	attr->st_nlink = 2 + subdirectories;
}

void attr_symlink(const struct fs *fs, struct stat *attr, uint64_t id, size_t target_length,
		  uint64_t mtime_ns)
{
	attr_begin(fs, attr, id, S_IFLNK | 0777, target_length, mtime_ns);
}
