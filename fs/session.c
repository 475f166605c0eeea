/* Mounting: the options, INIT's choices (measured; docs/DESIGN.md), the loop's ends. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/invariant.h"
#include "fs/core.h"
#include "fs/crew.h"
#include "fs/flock.h"

enum { MOUNT_OPTIONS_MAX = 16 << 10 };

void session_init(void *userdata, struct fuse_conn_info *conn)
{
	const struct fs *fs = userdata;

	/* flock reaches us; the others stay with the kernel. */
	static const unsigned wanted = FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_READDIRPLUS |
				       FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_READ |
				       FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_PARALLEL_DIROPS |
				       FUSE_CAP_HANDLE_KILLPRIV;
	/*
	 * Bytes are verified in memory, so splice gains nothing. Neither way of invalidating data:
	 * what can change beside the kernel is opened direct_io, and with EXPLICIT_INVAL_DATA a
	 * file that grows elsewhere reads as zeros. A cached symlink would keep its first target
	 * for ever: roots/current moves with every root.
	 */
	static const unsigned unwanted = FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
					 FUSE_CAP_SPLICE_MOVE | FUSE_CAP_AUTO_INVAL_DATA |
					 FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE |
					 FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_POSIX_LOCKS;
	conn->want |= conn->capable & wanted;
	conn->want &= ~unwanted;
	/*
	 * Who reads with O_DIRECT waits for asynchronous requests where no signal reaches him; and from
	 * the cloud an answer may take a minute.
	 */
	if (fs->options.cloud)
		conn->want &= ~(unsigned)FUSE_CAP_ASYNC_DIO;
	conn->max_write = FS_SCRATCH_SIZE;
	conn->max_read = 0;
	conn->max_background = 256;
	conn->congestion_threshold = 192;
	conn->time_gran = 1;
}

/* Commas separate options, a backslash takes their meaning. */
static int option_append(struct buf *out, const char *key, const char *value)
{
	int r = buf_printf(out, ",%s", key);
	for (; value && *value && r == 0; value++) {
		if (*value == ',' || *value == '\\')
			r = buf_append_text(out, "\\");
		if (r == 0)
			r = buf_append(out, value, 1);
	}
	return r;
}

static int mount_options(const struct fs *fs, struct buf *out)
{
	const struct fs_options *options = &fs->options;
	int r = buf_append_text(out, "default_permissions,nosuid,nodev,subtype=protofs");
	if (r == 0)
		r = option_append(out, "fsname=", options->store ? options->store : "protofs");
	if (r == 0 && options->read_only)
		r = option_append(out, "ro", NULL);
	if (r == 0 && options->allow_other)
		r = option_append(out, "allow_other", NULL);
	if (r == 0 && options->auto_unmount)
		r = option_append(out, "auto_unmount", NULL);
	if (r == 0 && options->debug)
		r = option_append(out, "debug", NULL);
	if (r == 0 && options->fuse_options && options->fuse_options[0])
		r = buf_printf(out, ",%s", options->fuse_options);
	return r == 0 ? buf_append(out, "", 1) : r;
}

static int session_new(struct fs *fs, struct reterr *err)
{
	CLEANUP(buf_done) struct buf options = {.max = MOUNT_OPTIONS_MAX};
	int r = mount_options(fs, &options);
	if (r < 0)
		return reterr_set(err, r, "the mount options are too long");

	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	if (fuse_opt_add_arg(&args, "protofs") < 0 || fuse_opt_add_arg(&args, "-o") < 0 ||
	    fuse_opt_add_arg(&args, (const char *)options.data) < 0)
		r = -ENOMEM;
	if (r == 0) {
		fs->session = fuse_session_new(&args, &dispatch_ops, sizeof(dispatch_ops), fs);
		if (!fs->session)
			r = reterr_set(err, -EINVAL, "libfuse refuses the mount options \"%s\"",
				       (const char *)options.data);
	}
	fuse_opt_free_args(&args);
	return r;
}

/* What is wrong with a mountpoint before libfuse says so in a less helpful way. */
static int mountpoint_check(const char *mountpoint, struct reterr *err)
{
	struct stat attr;
	if (lstat(mountpoint, &attr) < 0) {
		int r = -errno;
		const char *advice =
			r == -ENOTCONN ? ": a dead mount is there, remove it with `fusermount3 -u`"
				       : "";
		return reterr_set(err, r, "cannot mount at %s: %s%s", mountpoint, strerror(-r),
				  advice);
	}
	if (!S_ISDIR(attr.st_mode) && !S_ISLNK(attr.st_mode))
		return reterr_set(err, -ENOTDIR, "cannot mount at %s: it is not a directory",
				  mountpoint);
	if (access("/dev/fuse", F_OK) < 0)
		return reterr_set(err, -ENODEV,
				  "there is no /dev/fuse: load the kernel's fuse module, or give "
				  "the container the device");
	if (access("/dev/fuse", R_OK | W_OK) < 0)
		return reterr_set(err, -EACCES, "you may not open /dev/fuse: %s", strerror(errno));
	return 0;
}

/*
 * INIT caps the read-ahead at 128 KiB, also what was set before; the bdi does not. The mount's
 * device number is that of its bdi.
 */
void session_ready(void *arg)
{
	const struct fs *fs = arg;
	struct statx attr;
	/*
	 * AT_STATX_DONT_SYNC: the kernel answers by itself, as it must when we ask about our own
	 * mount.
	 */
	if (statx(AT_FDCWD, fs->options.mountpoint, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0,
		  &attr) < 0)
		return;
	char path[64];
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", attr.stx_dev_major,
		 attr.stx_dev_minor);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return; /* not root: slower cold reads, nothing else */
	(void)!dprintf(fd, "%llu", (unsigned long long)(fs->options.read_ahead_size >> 10));
	close(fd);
}

int fs_mount(struct fs *fs, struct reterr *err)
{
	invariant(!fs->session);
	int r = version_check(err);
	if (r == 0)
		r = mountpoint_check(fs->options.mountpoint, err);
	if (r == 0)
		r = session_new(fs, err);
	if (r < 0)
		return r;

	errno = 0;
	if (fuse_session_mount(fs->session, fs->options.mountpoint) < 0) {
		r = errno != 0 ? -errno : -EPERM;
		fuse_session_destroy(fs->session);
		fs->session = NULL;
		return reterr_set(err, r, "cannot mount at %s: %s", fs->options.mountpoint,
				  strerror(-r));
	}
	fs->mounted = true;
	return 0;
}

int fs_run(struct fs *fs, struct reterr *err)
{
	invariant(fs->session);
	int r = crew_run(fs->crew, fs->session);
	if (r < 0)
		return reterr_set(err, r, "the connection to the kernel failed: %s", strerror(-r));
	return 0;
}

void fs_unmount(struct fs *fs)
{
	if (!fs->session)
		return;
	/* Waiters first: their requests belong to the session. */
	flock_table_free(fs->flocks);
	fs->flocks = NULL;
	if (fs->mounted)
		fuse_session_unmount(fs->session);
	fs->mounted = false;
	fuse_session_destroy(fs->session);
	fs->session = NULL;
}
