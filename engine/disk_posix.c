#include "engine/disk_posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/disk_path.h"

/* The largest single read(2) of Linux is just below 2 GiB. */
#define READ_SIZE_MAX ((size_t)1 << 30)

enum { READ_LONG = 64 << 10 }; /* shorter ones gain from the kernel's read-ahead */

/* ---- Files ---- */

static int open_flags(unsigned flags)
{
	int out = O_CLOEXEC | O_NOFOLLOW | (flags & DISK_WRITE ? O_RDWR : O_RDONLY);
	if (flags & DISK_CREATE)
		out |= O_CREAT | (flags & DISK_REPLACE ? O_TRUNC : O_EXCL);
	return out;
}

/* A directory can be opened for reading; what is no file at all must not be. */
static int check_is_file(int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	return S_ISREG(st.st_mode) ? 0 : -EINVAL;
}

static int posix_open(struct disk *base, const char *path, unsigned flags, struct disk_file **ret)
{
	struct posix_disk *disk = posix_disk_of(base);
	int r = disk_path_check(path);
	if (r < 0)
		return r;
	struct posix_file *file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;

	file->base.disk = base;
	file->direct = flags & DISK_DIRECT;
	file->direct_fd = -1;
	file->once_fd = -1;
	/* Whoever had it open before may have left something. */
	atomic_init(&file->unflushed, true);
	file->fd = openat(disk->dir_fd, path, open_flags(flags), 0600);
	r = file->fd < 0 ? -errno : check_is_file(file->fd);
	if (r == 0 && (flags & DISK_WRITE) && file->direct && !disk->no_direct) {
		const int direct = O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW;
		file->direct_fd = openat(disk->dir_fd, path, direct);
		if (file->direct_fd < 0 && errno != EINVAL && errno != EOPNOTSUPP)
			r = -errno;
	}
	if (r < 0) {
		if (file->fd >= 0)
			(void)close(file->fd);
		free(file);
		return r;
	}
	/* Advice: a long read is then one request, however small the device's read-ahead is. */
	if (flags & DISK_READ_EXACT)
		(void)posix_fadvise(file->fd, 0, 0, POSIX_FADV_RANDOM);
	/* Where this fails, reads go the ordinary way. */
	if ((flags & DISK_READ_ONCE) && !disk->no_direct)
		file->once_fd =
			openat(disk->dir_fd, path, O_RDONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW);
	*ret = &file->base;
	return 0;
}

static void posix_close(struct disk_file *base)
{
	struct posix_file *file = posix_file_of(base);
	if (file->direct_fd >= 0)
		(void)close(file->direct_fd);
	if (file->once_fd >= 0)
		(void)close(file->once_fd);
	(void)close(file->fd);
	free(file);
}

static bool is_long_and_aligned(const void *data, size_t size, uint64_t offset)
{
	return size >= READ_LONG &&
	       ((uintptr_t)data | size | (uintptr_t)offset) % DISK_BLOCK_SIZE == 0;
}

/* 0, -errno, or -EINVAL: the descriptor does not take it. */
static int read_all(int fd, void *data, size_t size, uint64_t offset, size_t *ret)
{
	size_t done = 0;

	while (done < size) {
		size_t piece = size - done < READ_SIZE_MAX ? size - done : READ_SIZE_MAX;
		ssize_t n = pread(fd, (char *)data + done, piece, (off_t)(offset + done));
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

static int posix_read(struct disk_file *base, void *data, size_t size, uint64_t offset, size_t *ret)
{
	const struct posix_file *file = posix_file_of(base);

	if (file->once_fd >= 0 && is_long_and_aligned(data, size, offset)) {
		int r = read_all(file->once_fd, data, size, offset, ret);
		/* It also refuses to go on behind a short read, at the end of the file. */
		if (r != -EINVAL)
			return r;
	}
	return read_all(file->fd, data, size, offset, ret);
}

static int posix_size(struct disk_file *base, uint64_t *ret)
{
	struct stat st;
	if (fstat(posix_file_of(base)->fd, &st) < 0)
		return -errno;
	*ret = (uint64_t)st.st_size;
	return 0;
}

static int posix_truncate(struct disk_file *base, uint64_t size)
{
	struct posix_file *file = posix_file_of(base);
	while (ftruncate(file->fd, (off_t)size) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	atomic_store(&file->unflushed, true);
	return 0;
}

/* Extends FD to END with written zeros. Starts at the end of the file, so that no byte is overwritten. */
static int write_zeros_up_to(int fd, uint64_t end)
{
	static const char zeros[64 << 10];
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	for (uint64_t at = (uint64_t)st.st_size; at < end;) {
		size_t piece = end - at < sizeof(zeros) ? (size_t)(end - at) : sizeof(zeros);
		ssize_t n = pwrite(fd, zeros, piece, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += (uint64_t)n;
	}
	return 0;
}

/*
 * Where the filesystem cannot allocate, zeros are written behind the end of the file. Holes before it stay holes: to fill
 * one would race with writes to it. Our files have none below what was reserved earlier.
 */
static int reserve(int fd, uint64_t offset, uint64_t size)
{
	while (fallocate(fd, 0, (off_t)offset, (off_t)size) < 0) {
		if (errno == EOPNOTSUPP || errno == ENOSYS)
			return write_zeros_up_to(fd, offset + size);
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int posix_reserve(struct disk_file *base, uint64_t offset, uint64_t size)
{
	struct posix_file *file = posix_file_of(base);
	if (size == 0)
		return 0;
	if (offset > INT64_MAX || size > INT64_MAX - offset)
		return -EFBIG;
	int r = reserve(file->fd, offset, size);
	atomic_store(&file->unflushed, true);
	return r;
}

/* ---- Names ---- */

static int posix_mkdir(struct disk *base, const char *path)
{
	int r = disk_path_check(path);
	if (r < 0)
		return r;
	return mkdirat(posix_disk_of(base)->dir_fd, path, 0700) < 0 ? -errno : 0;
}

static int remove_name(struct disk *base, const char *path, int flags)
{
	int r = disk_path_check(path);
	if (r < 0)
		return r;
	return unlinkat(posix_disk_of(base)->dir_fd, path, flags) < 0 ? -errno : 0;
}

static int posix_rmdir(struct disk *base, const char *path)
{
	return remove_name(base, path, AT_REMOVEDIR);
}

static int posix_unlink(struct disk *base, const char *path)
{
	return remove_name(base, path, 0);
}

static int posix_rename(struct disk *base, const char *from, const char *to)
{
	int dir_fd = posix_disk_of(base)->dir_fd;
	int r = disk_path_check(from);
	if (r == 0)
		r = disk_path_check(to);
	if (r < 0)
		return r;
	return renameat(dir_fd, from, dir_fd, to) < 0 ? -errno : 0;
}

static int open_dir(struct posix_disk *disk, const char *path)
{
	int r = disk_path_check(path);
	if (r < 0)
		return r;
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;
	int fd = openat(disk->dir_fd, *path ? path : ".", flags);
	return fd < 0 ? -errno : fd;
}

static int posix_sync_dir(struct disk *base, const char *path)
{
	int fd = open_dir(posix_disk_of(base), path);
	if (fd < 0)
		return fd;
	int r = fsync(fd) < 0 ? -errno : 0;
	(void)close(fd);
	return r;
}

static int entry_is_dir(DIR *dir, const struct dirent *entry, bool *ret)
{
	if (entry->d_type != DT_UNKNOWN) {
		*ret = entry->d_type == DT_DIR;
		return 0;
	}
	struct stat st;
	if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	*ret = S_ISDIR(st.st_mode);
	return 0;
}

static int list_entries(DIR *dir, disk_list_fn *fn, void *arg)
{
	for (;;) {
		errno = 0;
		const struct dirent *entry = readdir(dir);
		if (!entry)
			return -errno;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		bool is_dir = false;
		int r = entry_is_dir(dir, entry, &is_dir);
		if (r == -ENOENT)
			continue; /* removed meanwhile */
		if (r == 0)
			r = fn(arg, entry->d_name, is_dir);
		if (r < 0)
			return r;
	}
}

static int posix_list(struct disk *base, const char *path, disk_list_fn *fn, void *arg)
{
	int fd = open_dir(posix_disk_of(base), path);
	if (fd < 0)
		return fd;
	DIR *dir = fdopendir(fd);
	if (!dir) {
		int r = -errno;
		(void)close(fd);
		return r;
	}
	int r = list_entries(dir, fn, arg);
	(void)closedir(dir);
	return r;
}

/* ---- The disk ---- */

static int posix_space(struct disk *base, struct disk_space *ret)
{
	struct statvfs vfs;
	if (fstatvfs(posix_disk_of(base)->dir_fd, &vfs) < 0)
		return -errno;
	*ret = (struct disk_space){.total = (uint64_t)vfs.f_blocks * vfs.f_frsize,
				   .available = (uint64_t)vfs.f_bavail * vfs.f_frsize};
	return 0;
}

static void posix_free(struct disk *base)
{
	struct posix_disk *disk = posix_disk_of(base);
	disk_rings_free(disk->rings);
	disk_helpers_free(disk->helpers);
	if (disk->lock_fd >= 0)
		(void)close(disk->lock_fd);
	if (disk->dir_fd >= 0)
		(void)close(disk->dir_fd);
	free(disk);
}

static const struct disk_ops posix_ops = {
	.open = posix_open,
	.close = posix_close,
	.read = posix_read,
	.commit = posix_commit,
	.flush = posix_flush,
	.size = posix_size,
	.truncate = posix_truncate,
	.reserve = posix_reserve,
	.mkdir = posix_mkdir,
	.rmdir = posix_rmdir,
	.unlink = posix_unlink,
	.rename = posix_rename,
	.sync_dir = posix_sync_dir,
	.list = posix_list,
	.space = posix_space,
	.identity = posix_identity,
	.lock = posix_lock,
	.free = posix_free,
};

/*
 * Whether the filesystem takes direct writes of our blocks. Asked once, of a file without a name; where that
 * cannot be made (a read-only or full disk) each file finds out by itself.
 */
static bool direct_is_refused(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_TMPFILE | O_WRONLY | O_DIRECT | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno == EINVAL;
	void *block = NULL;
	bool refused = false;
	if (posix_memalign(&block, DISK_BLOCK_SIZE, DISK_BLOCK_SIZE) == 0) {
		memset(block, 0, DISK_BLOCK_SIZE);
		refused = pwrite(fd, block, DISK_BLOCK_SIZE, 0) < 0 && errno == EINVAL;
	}
	free(block);
	(void)close(fd);
	return refused;
}

static const char *name_of(const struct posix_disk *disk, enum disk_path path)
{
	if (path == DISK_PATH_BUFFERED)
		return "buffered";
	if (disk->no_direct)
		return disk->rings ? "io_uring, buffered (O_DIRECT refused)"
				   : "threads, buffered (O_DIRECT refused)";
	return disk->rings ? "io_uring" : "threads";
}

static int posix_setup(struct posix_disk *disk, const char *dir, enum disk_path path,
		       struct reterr *err)
{
	disk->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (disk->dir_fd < 0)
		return reterr_set(err, -errno, "cannot open the directory %s: %s", dir,
				  strerror(errno));
	int r = disk_helpers_new(&disk->helpers);
	if (r == 0 && path != DISK_PATH_THREADS) {
		r = disk_rings_new(&disk->rings);
		if (r < 0 && path != DISK_PATH_IO_URING)
			r = 0;
	}
	if (r < 0)
		return reterr_set(err, r, "cannot set up commits to %s: %s", dir, strerror(-r));
	disk->no_direct = path == DISK_PATH_BUFFERED || direct_is_refused(disk->dir_fd);
	disk->ops = posix_ops;
	disk->ops.name = name_of(disk, path);
	disk->base.ops = &disk->ops;
	return 0;
}

int disk_posix_open(const char *dir, enum disk_path path, struct reterr *err, struct disk **ret)
{
	struct posix_disk *disk = calloc(1, sizeof(*disk));
	if (!disk)
		return reterr_set(err, -ENOMEM, "out of memory");
	disk->dir_fd = -1;
	disk->lock_fd = -1;
	int r = posix_setup(disk, dir, path, err);
	if (r < 0) {
		posix_free(&disk->base);
		return r;
	}
	*ret = &disk->base;
	return 0;
}
