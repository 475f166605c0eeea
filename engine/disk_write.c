/*
 * One write and one flush of a file.
 *
 * A write is a series of attempts, each one call to the kernel; whoever makes the call (this thread, or a ring)
 * reports its result to posix_write_account(), which judges it. A write that was cut short, or not begun (EINTR,
 * EAGAIN), goes on from where it stopped; without progress it fails. What failed is never made again.
 */
#include <errno.h>
#include <limits.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/disk_path.h"
#include "engine/disk_posix.h"

enum {
	WINDOW_MAX = 32,          /* iovecs of a write that is continued */
	INTERRUPTIONS_MAX = 1000, /* in a row, without a byte written */
};

bool posix_file_is_direct(const struct posix_file *file)
{
	return file->direct_fd >= 0 && !atomic_load(&file->direct_refused);
}

void posix_write_begin(struct posix_write *w, struct posix_file *file,
		       const struct disk_write *write, bool durable)
{
	*w = (struct posix_write){
		.file = file,
		.write = write,
		.size = disk_write_size(write),
		.direct = posix_file_is_direct(file),
		.durable = durable,
	};
}

int posix_write_fd(const struct posix_write *w)
{
	return w->direct ? w->file->direct_fd : w->file->fd;
}

int posix_write_flags(const struct posix_write *w)
{
	return w->durable ? RWF_DSYNC : 0;
}

int posix_write_iov_count(const struct posix_write *w)
{
	return w->write->iov_count < IOV_MAX ? w->write->iov_count : IOV_MAX;
}

/* An attempt without progress, for which there may yet be a reason: the next one tells. */
static int stalled(struct posix_write *w, int code)
{
	return ++w->stalls > INTERRUPTIONS_MAX ? code : POSIX_WRITE_GO_ON;
}

static int account_error(struct posix_write *w, int code)
{
	if (code == -EINTR || code == -EAGAIN)
		return stalled(w, code);
	if (code == -EINVAL && w->direct) {
		atomic_store(&w->file->direct_refused, true);
		w->direct = false;
		w->durable = false;
		return POSIX_WRITE_GO_ON;
	}
	if (code == -EOPNOTSUPP && w->durable) {
		w->durable = false;
		return POSIX_WRITE_GO_ON;
	}
	return code;
}

int posix_write_account(struct posix_write *w, ssize_t result)
{
	if (result < 0)
		return account_error(w, (int)result);
	if (result == 0)
		return -EIO;

	size_t done = w->done + (size_t)result;
	if (done >= w->size && w->durable)
		return POSIX_WRITE_DURABLE;
	/* The bytes of these attempts are flushed together, later. */
	w->durable = false;
	/* Set after the write, not before it: a flush that runs meanwhile may not cover it. */
	atomic_store(&w->file->unflushed, true);
	if (done >= w->size)
		return POSIX_WRITE_DONE;
	/* A direct write goes on at a boundary: it repeats the first bytes of the block that was cut. */
	if (w->direct)
		done -= done % DISK_BLOCK_SIZE;
	if (done <= w->done)
		return stalled(w, -EIO);
	w->done = done;
	w->stalls = 0;
	return POSIX_WRITE_GO_ON;
}

/* The iovecs of WRITE from byte SKIP on, as many as fit. */
static int iov_window(const struct disk_write *write, size_t skip, struct iovec out[WINDOW_MAX])
{
	int count = 0;
	for (int i = 0; i < write->iov_count && count < WINDOW_MAX; i++) {
		const struct iovec *iov = &write->iov[i];
		if (skip >= iov->iov_len) {
			skip -= iov->iov_len;
			continue;
		}
		out[count++] = (struct iovec){.iov_base = (char *)iov->iov_base + skip,
					      .iov_len = iov->iov_len - skip};
		skip = 0;
	}
	return count;
}

/* The first attempt passes the caller's own iovecs. */
static ssize_t write_attempt(const struct posix_write *w)
{
	const struct disk_write *write = w->write;
	struct iovec window[WINDOW_MAX];
	const struct iovec *iov = write->iov;
	int count = posix_write_iov_count(w);

	if (w->done) {
		iov = window;
		count = iov_window(write, w->done, window);
	}
	off_t offset = (off_t)(write->offset + w->done);
	ssize_t n = w->durable ? pwritev2(posix_write_fd(w), iov, count, offset, RWF_DSYNC)
			       : pwritev(posix_write_fd(w), iov, count, offset);
	return n < 0 ? -errno : n;
}

int posix_write_run(struct posix_write *w)
{
	int r;
	do {
		r = posix_write_account(w, write_attempt(w));
	} while (r == POSIX_WRITE_GO_ON);
	return r;
}

/* Cleared before the flush: what is written from here on may come too late for it. */
void posix_flush_begin(struct posix_file *file)
{
	atomic_store(&file->unflushed, false);
}

int posix_flush_account(struct posix_file *file, int result)
{
	if (result == -EINTR)
		return POSIX_WRITE_GO_ON;
	if (result < 0) {
		atomic_store(&file->unflushed, true);
		return result;
	}
	return POSIX_WRITE_DURABLE;
}

int posix_file_flush(struct posix_file *file)
{
	for (unsigned interruptions = 0; interruptions < INTERRUPTIONS_MAX; interruptions++) {
		posix_flush_begin(file);
		int r = posix_flush_account(file, fdatasync(file->fd) < 0 ? -errno : 0);
		if (r != POSIX_WRITE_GO_ON)
			return r < 0 ? r : 0;
	}
	atomic_store(&file->unflushed, true);
	return -EINTR;
}
