/*
 * A filesystem with one file, "image", whose reads, writes and flushes fail when a test says so.
 *
 *     failfs BACKING CONTROL MOUNTPOINT
 *
 * A loop device over "image" is a disk that dies on demand: what stands above it sees real EIOs from the block layer, on
 * every way to the disk, io_uring among them. The bytes are those of the file BACKING.
 *
 * CONTROL is a file of 12 little-endian 32-bit words that the test maps too, a triple of {reads, writes, flushes} each:
 *   0  error   errno to fail with; 0: succeed
 *   3  skip    how many still succeed before the first failure
 *   6  count   how many were asked for so far; failfs adds, the test reads and resets
 *   9  times   how many fail, then error becomes 0; 0: all from then on
 */
#define FUSE_USE_VERSION 35

#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum operation { OPERATION_READ, OPERATION_WRITE, OPERATION_FLUSH, OPERATIONS };

struct control {
	_Atomic int32_t error[OPERATIONS];
	_Atomic int32_t skip[OPERATIONS];
	_Atomic int32_t count[OPERATIONS];
	_Atomic int32_t times[OPERATIONS];
};

static const char image_path[] = "/image";

static int backing;
static struct control *control;

/* 0, or the error that the test wants. The filesystem runs in one thread: the words change under the test's hand only. */
static int verdict(enum operation operation)
{
	atomic_fetch_add(&control->count[operation], 1);
	int error = atomic_load(&control->error[operation]);
	if (error == 0)
		return 0;
	if (atomic_load(&control->skip[operation]) > 0) {
		atomic_fetch_sub(&control->skip[operation], 1);
		return 0;
	}
	if (atomic_load(&control->times[operation]) > 0 &&
	    atomic_fetch_sub(&control->times[operation], 1) == 1)
		atomic_store(&control->error[operation], 0);
	return -error;
}

static int fail_getattr(const char *path, struct stat *ret, struct fuse_file_info *info)
{
	(void)info;
	memset(ret, 0, sizeof(*ret));
	if (strcmp(path, "/") == 0) {
		ret->st_mode = S_IFDIR | 0755;
		ret->st_nlink = 2;
		return 0;
	}
	if (strcmp(path, image_path) != 0)
		return -ENOENT;
	if (fstat(backing, ret) < 0)
		return -errno;
	ret->st_mode = S_IFREG | 0600;
	return 0;
}

static int fail_readdir(const char *path, void *list, fuse_fill_dir_t fill, off_t offset,
			struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
	(void)path;
	(void)offset;
	(void)info;
	(void)flags;
	(void)fill(list, ".", NULL, 0, 0);
	(void)fill(list, "..", NULL, 0, 0);
	(void)fill(list, image_path + 1, NULL, 0, 0);
	return 0;
}

static int fail_open(const char *path, struct fuse_file_info *info)
{
	if (strcmp(path, image_path) != 0)
		return -ENOENT;
	info->direct_io = 1; /* every read and write comes here */
	return 0;
}

static int fail_read(const char *path, char *data, size_t size, off_t offset,
		     struct fuse_file_info *info)
{
	(void)path;
	(void)info;
	int r = verdict(OPERATION_READ);
	if (r < 0)
		return r;
	ssize_t n = pread(backing, data, size, offset);
	return n < 0 ? -errno : (int)n;
}

static int fail_write(const char *path, const char *data, size_t size, off_t offset,
		      struct fuse_file_info *info)
{
	(void)path;
	(void)info;
	int r = verdict(OPERATION_WRITE);
	if (r < 0)
		return r;
	ssize_t n = pwrite(backing, data, size, offset);
	return n < 0 ? -errno : (int)n;
}

static int fail_fsync(const char *path, int data_only, struct fuse_file_info *info)
{
	(void)path;
	(void)data_only;
	(void)info;
	return verdict(OPERATION_FLUSH);
}

int main(int argc, char **argv)
{
	static const struct fuse_operations operations = {
		.getattr = fail_getattr,
		.readdir = fail_readdir,
		.open = fail_open,
		.read = fail_read,
		.write = fail_write,
		.fsync = fail_fsync,
	};

	if (argc != 4) {
		(void)fprintf(stderr, "usage: failfs BACKING CONTROL MOUNTPOINT\n");
		return 2;
	}
	backing = open(argv[1], O_RDWR | O_CLOEXEC);
	int fd = open(argv[2], O_RDWR | O_CLOEXEC);
	if (backing < 0 || fd < 0) {
		(void)fprintf(stderr, "failfs: cannot open '%s' or '%s': %s\n", argv[1], argv[2],
			      strerror(errno));
		return 1;
	}
	control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (control == MAP_FAILED) {
		(void)fprintf(stderr, "failfs: cannot map '%s': %s\n", argv[2], strerror(errno));
		return 1;
	}
	char *fuse_argv[] = {argv[0], argv[3], (char[]){"-f"}, (char[]){"-s"}, NULL};
	return fuse_main(4, fuse_argv, &operations, NULL);
}
