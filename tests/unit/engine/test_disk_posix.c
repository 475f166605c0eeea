/*
 * What only a directory of the operating system has: descriptors, modes, the lock, and a kernel that interrupts, cuts
 * short, refuses and fails.
 *
 * The system calls below stand before libc's. They see what the threads and buffered paths do, and the caller's share of
 * the io_uring path; what a ring returns goes through the same posix_write_account(), which is tested by table.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/disk.h"
#include "engine/disk_posix.h"

enum { BLOCK = DISK_BLOCK_SIZE };

/* ---- The kernel, as it may be ---- */

enum kernel_call { CALL_PWRITEV, CALL_FDATASYNC, CALL_FALLOCATE, CALL_OPENAT, KERNEL_CALLS };

/* The next COUNT calls of a kind: ERROR is their errno, or, if it is 0, they write SIZE_MAX bytes at most. */
static struct {
	atomic_int count;
	int error;
	size_t size_max;
	bool direct_only; /* of openat: only with O_DIRECT */
} faults[KERNEL_CALLS];

static atomic_int calls[KERNEL_CALLS];

static void fault(enum kernel_call call, int count, int error, size_t size_max)
{
	faults[call].error = error;
	faults[call].size_max = size_max;
	atomic_store(&calls[call], 0);
	atomic_store(&faults[call].count, count);
}

static bool due(enum kernel_call call)
{
	atomic_fetch_add(&calls[call], 1);
	int left = atomic_load(&faults[call].count);
	while (left > 0) {
		if (atomic_compare_exchange_weak(&faults[call].count, &left, left - 1))
			return true;
	}
	return false;
}

static ssize_t write_vector(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	if (!due(CALL_PWRITEV))
		return syscall(SYS_pwritev2, fd, iov, count, offset, 0L, flags);
	if (faults[CALL_PWRITEV].error) {
		errno = faults[CALL_PWRITEV].error;
		return -1;
	}
	struct iovec first = iov[0];
	if (first.iov_len > faults[CALL_PWRITEV].size_max)
		first.iov_len = faults[CALL_PWRITEV].size_max;
	return first.iov_len ? syscall(SYS_pwritev2, fd, &first, 1, offset, 0L, flags) : 0;
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
	return write_vector(fd, iov, count, offset, 0);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	return write_vector(fd, iov, count, offset, flags);
}

int fdatasync(int fd)
{
	if (!due(CALL_FDATASYNC))
		return (int)syscall(SYS_fdatasync, fd);
	errno = faults[CALL_FDATASYNC].error;
	return -1;
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
	if (!due(CALL_FALLOCATE))
		return (int)syscall(SYS_fallocate, fd, mode, offset, size);
	errno = faults[CALL_FALLOCATE].error;
	return -1;
}

int openat(int dir_fd, const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	unsigned mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, unsigned) : 0;
	va_end(args);
	if ((flags & O_DIRECT) && due(CALL_OPENAT)) {
		errno = faults[CALL_OPENAT].error;
		return -1;
	}
	return (int)syscall(SYS_openat, dir_fd, path, flags, mode);
}

/* ---- A directory for each test ---- */

static char dir[64];
static struct disk *disk;

static void open_disk(enum disk_path path)
{
	struct reterr err = {0};
	int r = disk_posix_open(dir, path, &err, &disk);
	ck_assert_msg(r == 0, "%d %s", r, err.text);
}

static void setup(void)
{
	(void)snprintf(dir, sizeof(dir), "disk-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	open_disk(DISK_PATH_THREADS);
}

static void teardown(void)
{
	char command[128];
	disk_free(disk);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

static void reopen_disk(enum disk_path path)
{
	disk_free(disk);
	open_disk(path);
}

static struct disk_file *create(const char *path, unsigned flags)
{
	struct disk_file *file = NULL;
	ck_assert_int_eq(disk_open(disk, path, DISK_WRITE | DISK_CREATE | flags, &file), 0);
	return file;
}

static char *aligned(size_t size, int fill)
{
	char *data = aligned_alloc(BLOCK, size);
	ck_assert_ptr_nonnull(data);
	memset(data, fill, size);
	return data;
}

/* Bytes that differ from block to block and from byte to byte. */
static char *pattern(size_t size)
{
	char *data = aligned(size, 0);
	for (size_t i = 0; i < size; i++)
		data[i] = (char)(i * 7 + i / 251);
	return data;
}

static void check_file(struct disk_file *file, const char *data, size_t size, uint64_t offset)
{
	char *found = aligned(size, 0);
	ck_assert_int_eq(disk_read_full(file, found, size, offset), 0);
	ck_assert_int_eq(memcmp(found, data, size), 0);
	free(found);
}

static int commit(struct disk_file *file, char *data, size_t size, uint64_t offset)
{
	/* In two uneven pieces, so that a write is cut within the first, at its end and beyond. */
	size_t first = size / 4 * 3 / BLOCK * BLOCK;
	struct iovec iov[] = {{data, first}, {data + first, size - first}};
	struct disk_job job = {.file = file, .writes = {{iov, 2, offset}}, .write_count = 1};
	return disk_commit(disk, &job, 1);
}

/* ---- Descriptors and modes ---- */

START_TEST(test_descriptors)
{
	struct stat st;
	char path[128];
	struct disk_file *file = create("part", DISK_DIRECT);
	bool refused = strstr(disk->ops->name, "refused") != NULL;
	ck_assert(posix_file_is_direct((struct posix_file *)file) == !refused);
	ck_assert_int_eq(disk_mkdir(disk, "d"), 0);
	(void)snprintf(path, sizeof(path), "%s/part", dir);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	(void)snprintf(path, sizeof(path), "%s/d", dir);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	disk_close(file);

	struct disk_file *link = NULL;
	(void)snprintf(path, sizeof(path), "%s/link", dir);
	ck_assert_int_eq(symlink("part", path), 0);
	ck_assert_int_eq(disk_open(disk, "link", DISK_READ, &link), -ELOOP);
	ck_assert_int_eq(disk_open(disk, "link", DISK_WRITE, &link), -ELOOP);

	reopen_disk(DISK_PATH_BUFFERED);
	file = create("other", DISK_DIRECT);
	ck_assert(!posix_file_is_direct((struct posix_file *)file));
	disk_close(file);
}
END_TEST

START_TEST(test_identity)
{
	struct disk_identity id;
	struct disk_space space;
	struct stat st;
	ck_assert_int_eq(stat(dir, &st), 0);
	ck_assert_int_eq(disk->ops->identity(disk, &id), 0);
	ck_assert_uint_eq(id.inode, st.st_ino);
	ck_assert_int_eq(disk->ops->space(disk, &space), 0);
	ck_assert_uint_gt(space.total, 0);
	ck_assert_uint_le(space.available, space.total);
}
END_TEST

START_TEST(test_no_directory)
{
	struct reterr err = {0};
	struct disk *none = NULL;
	ck_assert_int_eq(disk_posix_open("no-such-directory", DISK_PATH_AUTO, &err, &none),
			 -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "no-such-directory"));
	ck_assert_int_eq(disk_posix_open("/dev/null", DISK_PATH_AUTO, &err, &none), -ENOTDIR);
	ck_assert_ptr_null(none);
}
END_TEST

/* ---- The lock ---- */

/* Another process tries to take it. Returns -errno; TEXT is what it was told. */
static int lock_elsewhere(bool exclusive, char text[RETERR_TEXT_SIZE])
{
	int pipe_fds[2];
	ck_assert_int_eq(pipe(pipe_fds), 0);
	pid_t pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct reterr err = {0};
		struct disk *other = NULL;
		int r = disk_posix_open(dir, DISK_PATH_THREADS, &err, &other);
		if (r == 0)
			r = other->ops->lock(other, exclusive, &err);
		bool told = write(pipe_fds[1], err.text, sizeof(err.text)) > 0;
		disk_free(other);
		_exit(told ? -r : 255);
	}
	ck_assert_int_eq(read(pipe_fds[0], text, RETERR_TEXT_SIZE), RETERR_TEXT_SIZE);
	(void)close(pipe_fds[0]);
	(void)close(pipe_fds[1]);
	int status;
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

START_TEST(test_lock)
{
	char text[RETERR_TEXT_SIZE];
	char expected[64];
	struct reterr err;

	ck_assert_int_eq(lock_elsewhere(true, text), 0);
	ck_assert_int_eq(disk->ops->lock(disk, false, &err), 0);
	ck_assert_int_eq(lock_elsewhere(false, text), 0);
	ck_assert_int_eq(lock_elsewhere(true, text), -EBUSY);
	/* The same disk may go on to the exclusive lock. */
	ck_assert_int_eq(disk->ops->lock(disk, true, &err), 0);
	ck_assert_int_eq(lock_elsewhere(false, text), -EBUSY);
	(void)snprintf(expected, sizeof(expected), "store is in use by process %ld (",
		       (long)getpid());
	ck_assert_msg(strncmp(text, expected, strlen(expected)) == 0, "%s", text);

	/* A second disk of this process is somebody else too; its end does not free ours. */
	struct disk *first = disk;
	open_disk(DISK_PATH_THREADS);
	ck_assert_int_eq(disk->ops->lock(disk, true, &err), -EBUSY);
	disk_free(disk);
	ck_assert_int_eq(lock_elsewhere(true, text), -EBUSY);
	disk_free(first);
	open_disk(DISK_PATH_THREADS);
	ck_assert_int_eq(lock_elsewhere(true, text), 0);
}
END_TEST

/* ---- Writes that the kernel cuts short, interrupts or fails ---- */

struct short_case {
	unsigned flags;
	size_t size_max;
	int error;
};

static const struct short_case short_cases[] = {
	{0, 1, 0},
	{0, 777, 0},
	{DISK_DIRECT, DISK_SECTOR_SIZE, 0}, /* less than a block: repeated from its start */
	{DISK_DIRECT, BLOCK, 0},
	{DISK_DIRECT, BLOCK + DISK_SECTOR_SIZE, 0},
	{DISK_DIRECT, (size_t)5 * BLOCK, 0},
	{0, 0, EINTR},
	{0, 0, EAGAIN},
	{DISK_DIRECT, 0, EINTR},
	{DISK_DIRECT, 0, EAGAIN},
	{DISK_DIRECT, 0, EOPNOTSUPP}, /* of RWF_DSYNC: once */
};

START_TEST(test_short_writes)
{
	const struct short_case *c = &short_cases[_i];
	enum { SIZE = 16 * BLOCK };
	char *data = pattern(SIZE);
	struct disk_file *file = create("f", c->flags);
	int count = c->error == EOPNOTSUPP ? 1 : 20;

	/* The first flush makes the next direct write one that brings its own. */
	ck_assert_int_eq(disk_flush(file), 0);
	if (!posix_file_is_direct((struct posix_file *)file) && c->error == EOPNOTSUPP)
		count = 0;
	fault(CALL_PWRITEV, count, c->error, c->size_max);
	ck_assert_int_eq(commit(file, data, SIZE, BLOCK), 0);
	ck_assert_int_eq(atomic_load(&faults[CALL_PWRITEV].count) == 0 || c->size_max > 777, 1);
	fault(CALL_PWRITEV, 0, 0, 0);
	check_file(file, data, SIZE, BLOCK);
	disk_close(file);
	free(data);
}
END_TEST

struct fail_case {
	int error; /* 0: no progress */
	int result;
};

static const struct fail_case fail_cases[] = {
	{EIO, -EIO}, {ENOSPC, -ENOSPC}, {0, -EIO}, {EINTR, -EINTR}, {EAGAIN, -EAGAIN},
};

/* A failure is final: one call, and no flush after it. Without end, interruptions are one too. */
START_TEST(test_failed_writes)
{
	const struct fail_case *c = &fail_cases[_i];
	char *data = pattern((size_t)4 * BLOCK);
	struct disk_file *file = create("f", DISK_DIRECT);
	fault(CALL_FDATASYNC, 0, 0, 0);
	fault(CALL_PWRITEV, INT32_MAX, c->error, 0);
	ck_assert_int_eq(commit(file, data, (size_t)4 * BLOCK, 0), c->result);
	int tries = atomic_load(&calls[CALL_PWRITEV]);
	if (c->error == EINTR || c->error == EAGAIN)
		ck_assert(tries > 1 && tries < 10000);
	else
		ck_assert_int_eq(tries, 1);
	ck_assert_int_eq(atomic_load(&calls[CALL_FDATASYNC]), 0);
	fault(CALL_PWRITEV, 0, 0, 0);
	ck_assert_int_eq(commit(file, data, (size_t)4 * BLOCK, 0), 0);
	disk_close(file);
	free(data);
}
END_TEST

START_TEST(test_failed_flush)
{
	char *data = pattern((size_t)4 * BLOCK);
	struct disk_file *file = create("f", 0);
	fault(CALL_FDATASYNC, 1, EIO, 0);
	ck_assert_int_eq(commit(file, data, (size_t)4 * BLOCK, 0), -EIO);
	ck_assert_int_eq(atomic_load(&calls[CALL_FDATASYNC]), 1);
	fault(CALL_FDATASYNC, 3, EINTR, 0);
	ck_assert_int_eq(disk_flush(file), 0);
	ck_assert_int_eq(atomic_load(&calls[CALL_FDATASYNC]), 4);
	fault(CALL_FDATASYNC, 1, EIO, 0);
	ck_assert_int_eq(disk_flush(file), -EIO);
	disk_close(file);
	free(data);
}
END_TEST

/* A write may stand for a flush only if nothing else of its file waits for one. */
START_TEST(test_lone_write)
{
	char *data = pattern((size_t)4 * BLOCK);
	struct disk_file *file = create("f", DISK_DIRECT);
	if (!posix_file_is_direct((struct posix_file *)file)) {
		disk_close(file);
		free(data);
		return;
	}
	ck_assert_int_eq(disk_flush(file), 0);
	fault(CALL_FDATASYNC, 0, 0, 0);
	ck_assert_int_eq(commit(file, data, (size_t)4 * BLOCK, 0), 0);
	ck_assert_int_eq(atomic_load(&calls[CALL_FDATASYNC]), 0);

	struct iovec iov = {data, BLOCK};
	struct disk_job job = {.file = file,
			       .writes = {{&iov, 1, (uint64_t)8 * BLOCK}},
			       .write_count = 1,
			       .no_flush = true};
	ck_assert_int_eq(disk_commit(disk, &job, 1), 0);
	ck_assert_int_eq(atomic_load(&calls[CALL_FDATASYNC]), 0);
	ck_assert_int_eq(commit(file, data, (size_t)4 * BLOCK, 0), 0);
	ck_assert_int_eq(atomic_load(&calls[CALL_FDATASYNC]), 1);
	ck_assert_int_eq(disk_truncate(file, (uint64_t)4 * BLOCK), 0);
	ck_assert_int_eq(commit(file, data, (size_t)4 * BLOCK, 0), 0);
	ck_assert_int_eq(atomic_load(&calls[CALL_FDATASYNC]), 2);
	ck_assert_int_eq(disk_reserve(file, 0, (uint64_t)64 * BLOCK), 0);
	ck_assert_int_eq(commit(file, data, (size_t)4 * BLOCK, 0), 0);
	ck_assert_int_eq(atomic_load(&calls[CALL_FDATASYNC]), 3);
	ck_assert_int_eq(commit(file, data, (size_t)4 * BLOCK, 0), 0);
	ck_assert_int_eq(atomic_load(&calls[CALL_FDATASYNC]), 3);
	disk_close(file);
	free(data);
}
END_TEST

/* ---- A file system that refuses ---- */

static const enum disk_path paths[] = {DISK_PATH_THREADS, DISK_PATH_AUTO, DISK_PATH_BUFFERED};

/* O_DIRECT is refused at open: seen at once, said in the name. */
START_TEST(test_no_direct_at_open)
{
	fault(CALL_OPENAT, INT32_MAX, EINVAL, 0);
	reopen_disk(paths[_i]);
	if (paths[_i] == DISK_PATH_BUFFERED)
		ck_assert_str_eq(disk->ops->name, "buffered");
	else
		ck_assert_ptr_nonnull(strstr(disk->ops->name, "O_DIRECT refused"));
	char *data = pattern((size_t)4 * BLOCK);
	struct disk_file *file = create("f", DISK_DIRECT);
	ck_assert_int_eq(commit(file, data, (size_t)4 * BLOCK, BLOCK), 0);
	check_file(file, data, (size_t)4 * BLOCK, BLOCK);
	disk_close(file);
	free(data);
	fault(CALL_OPENAT, 0, 0, 0);
}
END_TEST

/* It is taken at open, and refused at the first write. */
START_TEST(test_no_direct_at_write)
{
	char *data = pattern((size_t)4 * BLOCK);
	struct disk_file *file = create("f", DISK_DIRECT);
	fault(CALL_PWRITEV, 1, EINVAL, 0);
	if (posix_file_is_direct((struct posix_file *)file)) {
		ck_assert_int_eq(commit(file, data, (size_t)4 * BLOCK, BLOCK), 0);
		ck_assert(!posix_file_is_direct((struct posix_file *)file));
	}
	fault(CALL_PWRITEV, 0, 0, 0);
	ck_assert_int_eq(commit(file, data, (size_t)4 * BLOCK, BLOCK), 0);
	check_file(file, data, (size_t)4 * BLOCK, BLOCK);
	/* A buffered file that refuses so has failed. */
	fault(CALL_PWRITEV, 1, EINVAL, 0);
	ck_assert_int_eq(commit(file, data, (size_t)4 * BLOCK, BLOCK), -EINVAL);
	disk_close(file);
	free(data);
}
END_TEST

/* Without fallocate zeros are written, but never over what is there. */
START_TEST(test_no_fallocate)
{
	char *data = pattern((size_t)4 * BLOCK);
	char *zeros = aligned((size_t)60 * BLOCK, 0);
	struct disk_file *file = create("f", 0);
	ck_assert_int_eq(commit(file, data, (size_t)4 * BLOCK, 0), 0);
	fault(CALL_FALLOCATE, 2, EOPNOTSUPP, 0);
	ck_assert_int_eq(disk_reserve(file, 0, (uint64_t)64 * BLOCK), 0);
	ck_assert_int_eq(disk_reserve(file, 0, (uint64_t)2 * BLOCK), 0);
	uint64_t size = 0;
	ck_assert_int_eq(disk_size(file, &size), 0);
	ck_assert_uint_eq(size, (uint64_t)64 * BLOCK);
	check_file(file, data, (size_t)4 * BLOCK, 0);
	check_file(file, zeros, (size_t)60 * BLOCK, (uint64_t)4 * BLOCK);
	struct stat st;
	char path[128];
	(void)snprintf(path, sizeof(path), "%s/f", dir);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_ge((uint64_t)st.st_blocks * 512, (uint64_t)64 * BLOCK);

	fault(CALL_FALLOCATE, 1, ENOSPC, 0);
	ck_assert_int_eq(disk_reserve(file, 0, (uint64_t)128 * BLOCK), -ENOSPC);
	fault(CALL_FALLOCATE, 2, EINTR, 0);
	ck_assert_int_eq(disk_reserve(file, 0, (uint64_t)128 * BLOCK), 0);
	disk_close(file);
	free(zeros);
	free(data);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("disk_posix");
	TCase *tests = tcase_create("all");
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_descriptors);
	tcase_add_test(tests, test_identity);
	tcase_add_test(tests, test_no_directory);
	tcase_add_test(tests, test_lock);
	tcase_add_loop_test(tests, test_short_writes, 0, ARRAY_SIZE(short_cases));
	tcase_add_loop_test(tests, test_failed_writes, 0, ARRAY_SIZE(fail_cases));
	tcase_add_test(tests, test_failed_flush);
	tcase_add_test(tests, test_lone_write);
	tcase_add_loop_test(tests, test_no_direct_at_open, 0, ARRAY_SIZE(paths));
	tcase_add_test(tests, test_no_direct_at_write);
	tcase_add_test(tests, test_no_fallocate);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
