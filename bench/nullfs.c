/*
 * nullfs: a FUSE filesystem that does nothing, to measure what any FUSE filesystem can reach.
 *
 *   nullfs [--files N] [--size BYTES] [--direct] [--timeout S] [--threads N] MOUNTPOINT
 *
 * N files, named 0, 1, 2 ... in the directory atoms/00000000-0000-0000-0000-000000000000, as deep as the atoms of
 * protofs: each name of a path costs the kernel a check of its own. Reads return zeros from one static buffer, writes are
 * taken from the kernel and dropped, fsync answers at once. It asks the kernel for what protofs asks
 * for: requests of 1 MiB, 256 in the background, no splice, no automatic invalidation, default_permissions.
 * --direct opens files with direct_io, as protofs does with open segments; otherwise files keep
 * their pages and, with --timeout, their attributes, as sealed segments and their atoms do.
 *
 * It stays in the foreground and ends when it is unmounted. It has no state: a file's node id is its number + 4.
 */
#define FUSE_USE_VERSION 312

#include <errno.h>
#include <fuse_lowlevel.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/attr.h"

enum {
	REQUEST_SIZE_MAX = 1 << 20,
	BACKGROUND_MAX = 256,
	CONGESTION = 192,
	DAY_S = 86400,
	DIR_REPLY_MAX = 128 << 10,
	DIR_DEPTH = 2, /* below the root */
	LAST_DIR = FUSE_ROOT_ID + DIR_DEPTH,
	FIRST_FILE = LAST_DIR + 1,
};

static const char *const dir_names[DIR_DEPTH] = {"atoms", "00000000-0000-0000-0000-000000000000"};

struct nullfs {
	uint64_t files;
	uint64_t size; /* of each, bytes */
	double timeout;
	unsigned threads;
	bool direct;
};

static char zeros[REQUEST_SIZE_MAX];

static const struct nullfs *nullfs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static bool exists(const struct nullfs *fs, fuse_ino_t ino)
{
	return ino >= FUSE_ROOT_ID && ino <= LAST_DIR + fs->files;
}

static void fill_stat(const struct nullfs *fs, fuse_ino_t ino, struct stat *ret)
{
	bool dir = ino <= LAST_DIR;

	*ret = (struct stat){
		.st_ino = ino,
		.st_mode = dir ? S_IFDIR | 0755 : S_IFREG | 0644,
		.st_nlink = dir ? 2 : 1,
		.st_size = dir ? 0 : (off_t)fs->size,
		.st_blocks = dir ? 0 : (blkcnt_t)(fs->size / 512),
		.st_blksize = REQUEST_SIZE_MAX,
	};
}

static void null_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->max_write = REQUEST_SIZE_MAX;
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = CONGESTION;
	conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ |
				  FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
}

static bool find(const struct nullfs *fs, fuse_ino_t parent, const char *name, fuse_ino_t *ret)
{
	char *end;

	if (parent < LAST_DIR) {
		*ret = parent + 1;
		return strcmp(name, dir_names[parent - FUSE_ROOT_ID]) == 0;
	}
	errno = 0;
	unsigned long number = strtoul(name, &end, 10);
	*ret = number + FIRST_FILE;
	return parent == LAST_DIR && errno == 0 && *end == '\0' && number < fs->files;
}

static void null_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	const struct nullfs *fs = nullfs_of(req);
	struct fuse_entry_param entry = {.attr_timeout = fs->timeout, .entry_timeout = fs->timeout};

	if (!find(fs, parent, name, &entry.ino)) {
		(void)fuse_reply_err(req, ENOENT);
		return;
	}
	/* A directory stays what it is, whatever the files are to show. */
	if (entry.ino <= LAST_DIR)
		entry.attr_timeout = entry.entry_timeout = DAY_S;
	fill_stat(fs, entry.ino, &entry.attr);
	(void)fuse_reply_entry(req, &entry);
}

static void null_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct nullfs *fs = nullfs_of(req);
	struct stat st;

	(void)fi;
	if (!exists(fs, ino)) {
		(void)fuse_reply_err(req, ENOENT);
		return;
	}
	fill_stat(fs, ino, &st);
	(void)fuse_reply_attr(req, &st, fs->timeout);
}

static void null_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct nullfs *fs = nullfs_of(req);
	bool writes = (fi->flags & O_ACCMODE) != O_RDONLY;

	(void)ino;
	fi->direct_io = fs->direct;
	fi->keep_cache = !fs->direct;
	fi->noflush = !writes;
	(void)fuse_reply_open(req, fi);
}

static void null_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		      struct fuse_file_info *fi)
{
	uint64_t length = nullfs_of(req)->size;
	uint64_t left = (uint64_t)offset < length ? length - (uint64_t)offset : 0;

	(void)ino;
	(void)fi;
	if (size > left)
		size = (size_t)left;
	if (size > sizeof(zeros))
		size = sizeof(zeros);
	(void)fuse_reply_buf(req, zeros, size);
}

static void null_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
		       struct fuse_file_info *fi)
{
	(void)ino;
	(void)data;
	(void)offset;
	(void)fi;
	(void)fuse_reply_write(req, size);
}

static void null_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	(void)fuse_reply_err(req, 0);
}

static void null_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	null_flush(req, ino, fi);
}

static void null_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	/* Without cache_readdir: the first listing of 10 million names takes twice as long with it. */
	(void)ino;
	(void)fuse_reply_open(req, fi);
}

/* OFFSET counts entries, "." and ".." first: it is the number of the next one. */
static fuse_ino_t entry_ino(fuse_ino_t dir, uint64_t offset)
{
	return dir < LAST_DIR ? dir + 1 : offset - 2 + FIRST_FILE;
}

static uint64_t entry_count(const struct nullfs *fs, fuse_ino_t dir)
{
	return 2 + (dir < LAST_DIR ? 1 : fs->files);
}

static size_t add_entry(fuse_req_t req, fuse_ino_t dir, char *data, size_t room, uint64_t offset,
			bool plus)
{
	const struct nullfs *fs = nullfs_of(req);
	struct fuse_entry_param entry = {.attr_timeout = fs->timeout, .entry_timeout = fs->timeout};
	bool dot = offset < 2;
	fuse_ino_t ino = dot ? dir : entry_ino(dir, offset);
	char name[48];

	if (dot)
		(void)snprintf(name, sizeof(name), "%s", offset ? ".." : ".");
	else if (dir < LAST_DIR)
		(void)snprintf(name, sizeof(name), "%s", dir_names[dir - FUSE_ROOT_ID]);
	else
		(void)snprintf(name, sizeof(name), "%" PRIu64, offset - 2);
	fill_stat(fs, ino, &entry.attr);
	if (!plus)
		return fuse_add_direntry(req, data, room, name, &entry.attr, (off_t)offset + 1);
	entry.ino = dot ? 0 : ino; /* 0: the kernel takes no reference */
	return fuse_add_direntry_plus(req, data, room, name, &entry, (off_t)offset + 1);
}

static void list(fuse_req_t req, fuse_ino_t dir, size_t size, off_t from, bool plus)
{
	const struct nullfs *fs = nullfs_of(req);
	size_t room = size < DIR_REPLY_MAX ? size : DIR_REPLY_MAX, used = 0;
	char *data = malloc(room);

	if (!data) {
		(void)fuse_reply_err(req, ENOMEM);
		return;
	}
	for (uint64_t offset = (uint64_t)from; offset < entry_count(fs, dir); offset++) {
		size_t more = add_entry(req, dir, data + used, room - used, offset, plus);
		if (more > room - used)
			break;
		used += more;
	}
	(void)fuse_reply_buf(req, data, used);
	free(data);
}

static void null_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
			 struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, offset, false);
}

static void null_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
			     struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, offset, true);
}

static const struct fuse_lowlevel_ops operations = {
	.init = null_init,
	.lookup = null_lookup,
	.getattr = null_getattr,
	.open = null_open,
	.read = null_read,
	.write = null_write,
	.flush = null_flush,
	.fsync = null_fsync,
	.opendir = null_opendir,
	.readdir = null_readdir,
	.readdirplus = null_readdirplus,
};

static int parse(int argc, char **argv, struct nullfs *fs)
{
	static const struct option options[] = {
		{"files", required_argument, NULL, 'n'},
		{"size", required_argument, NULL, 's'},
		{"direct", no_argument, NULL, 'd'},
		{"timeout", required_argument, NULL, 't'},
		{"threads", required_argument, NULL, 'j'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'n':
			fs->files = strtoull(optarg, NULL, 10);
			break;
		case 's':
			fs->size = strtoull(optarg, NULL, 10);
			break;
		case 'd':
			fs->direct = true;
			break;
		case 't':
			fs->timeout = strtod(optarg, NULL);
			break;
		case 'j':
			fs->threads = (unsigned)strtoul(optarg, NULL, 10);
			break;
		default:
			return -EINVAL;
		}
	}
	return optind == argc - 1 ? 0 : -EINVAL;
}

static int serve(struct fuse_session *session, const char *mountpoint, unsigned threads)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r = -1;

	if (!config)
		return -1;
	fuse_loop_cfg_set_max_threads(config, threads);
	if (fuse_set_signal_handlers(session) == 0) {
		if (fuse_session_mount(session, mountpoint) == 0) {
			r = fuse_session_loop_mt(session, config);
			fuse_session_unmount(session);
		}
		fuse_remove_signal_handlers(session);
	}
	fuse_loop_cfg_destroy(config);
	return r;
}

int main(int argc, char **argv)
{
	struct nullfs fs = {.files = 1, .size = 4096, .threads = 2};
	char *fuse_argv[] = {
		argv[0], "-osubtype=nullfs,fsname=nullfs,default_permissions,nosuid,nodev", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(2, fuse_argv);

	if (parse(argc, argv, &fs) < 0) {
		(void)fprintf(stderr, "usage: nullfs [--files N] [--size BYTES] [--direct] "
				      "[--timeout S] [--threads N] MOUNTPOINT\n");
		return 2;
	}
	struct fuse_session *session =
		fuse_session_new(&args, &operations, sizeof(operations), &fs);
	if (!session)
		return 1;
	int r = serve(session, argv[optind], fs.threads);
	fuse_session_destroy(session);
	fuse_opt_free_args(&args);
	return r < 0 ? 1 : 0;
}
