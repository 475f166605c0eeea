#include "fs/dispatch.h"

#include <errno.h>
#include <sys/statvfs.h>
#include <time.h>

#include "engine/engine.h"
#include "fs/reply.h"

enum { XATTR_VALUE_MAX = 64 << 10, LINK_TARGET_MAX = 4096 };

const struct view *fs_view_of(const struct fs *fs, uint64_t id, const struct node *node)
{
	enum node_kind kind = node_kind(id);
	if (kind == NODE_ALLOCATED)
		return node ? node->view : NULL;
	if (kind == NODE_SEGMENT)
		return node_offset(id) < NODE_FACES ? fs->faces[node_offset(id)] : NULL;
	return fs->kinds[kind];
}

bool dispatch_begin(struct call *call, fuse_req_t req, fuse_ino_t id, const struct view **ret)
{
	struct fs *fs = fuse_req_userdata(req);
	const struct fuse_ctx *caller = fuse_req_ctx(req);

	call->fs = fs;
	call->engine = fs->engine;
	call->id = id;
	call->node = node_kind(id) == NODE_ALLOCATED ? node_get(fs->nodes, id) : NULL;
	call->uid = caller->uid;
	call->gid = caller->gid;
	call->pid = caller->pid;
	call->umask = caller->umask;
	call->err.code = 0;
	call->req = req;
	atomic_init(&call->wait.state, PARK_NONE);
	atomic_init(&call->wait.only_dying, 0);

	*ret = fs_view_of(fs, id, call->node);
	if (*ret)
		return true;
	reply_error(call, -ESTALE);
	return false;
}

int dispatch_refusal(const struct call *call, const struct view *view)
{
	return call->fs->options.read_only || view->read_only ? -EROFS : -EPERM;
}

int dispatch_may_change(const struct call *call, const struct view *view)
{
	return call->fs->options.read_only || view->read_only ? -EROFS : 0;
}

static void dispatch_forget_one(struct fs *fs, uint64_t id, uint64_t count)
{
	if (node_kind(id) != NODE_ALLOCATED || id < NODE_FIXED_MAX)
		return;
	/* It is there: the kernel holds the references that it returns. */
	struct node *node = node_get(fs->nodes, id);
	if (node)
		node_unref(fs->nodes, node, count + 1);
}

static void dispatch_forget(fuse_req_t req, fuse_ino_t id, uint64_t count)
{
	dispatch_forget_one(fuse_req_userdata(req), id, count);
	fuse_reply_none(req);
}

static void dispatch_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		dispatch_forget_one(fuse_req_userdata(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void dispatch_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *info)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;

	struct entry entry = {.id = id};
	int r = view->getattr(&call, info ? &info->fh : NULL, &entry);
	if (r < 0)
		reply_error(&call, r);
	else
		reply_attr(&call, &entry);
}

/* libfuse's flags as ours, and "now" as a time. */
static struct setting setting_of(const struct stat *attr, int flags)
{
	static const struct {
		int theirs;
		unsigned ours;
	} pairs[] = {
		{FUSE_SET_ATTR_MODE, SET_MODE},   {FUSE_SET_ATTR_UID, SET_UID},
		{FUSE_SET_ATTR_GID, SET_GID},     {FUSE_SET_ATTR_SIZE, SET_SIZE},
		{FUSE_SET_ATTR_ATIME, SET_ATIME}, {FUSE_SET_ATTR_MTIME, SET_MTIME},
	};
	struct setting setting = {.attr = *attr};
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		if (flags & pairs[i].theirs)
			setting.valid |= pairs[i].ours;
	}
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (flags & FUSE_SET_ATTR_ATIME_NOW)
		setting.attr.st_atim = now;
	if (flags & FUSE_SET_ATTR_MTIME_NOW)
		setting.attr.st_mtim = now;
	return setting;
}

static void dispatch_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int flags,
			     struct fuse_file_info *info)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;

	struct setting setting = setting_of(attr, flags);
	struct entry entry = {.id = id};
	int r = dispatch_refusal(&call, view);
	if (view->setattr && dispatch_may_change(&call, view) == 0)
		r = view->setattr(&call, info ? &info->fh : NULL, &setting, &entry);
	if (r < 0)
		reply_error(&call, r);
	else
		reply_attr(&call, &entry);
}

static void dispatch_readlink(fuse_req_t req, fuse_ino_t id)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;

	CLEANUP(buf_done) struct buf target = {.max = LINK_TARGET_MAX};
	int r = view->readlink ? view->readlink(&call, &target) : -EINVAL;
	if (r < 0)
		reply_error(&call, r);
	else
		(void)reply_data(&call, target.data, target.size);
}

static void dispatch_statfs(fuse_req_t req, fuse_ino_t id)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;

	struct engine_stats stats;
	engine_stats(call.engine, &stats);
	enum { UNIT = 4096 };
	struct statvfs statfs = {
		.f_bsize = UNIT,
		.f_frsize = UNIT,
		.f_blocks = stats.disk_total / UNIT,
		/* What engine_append would still accept, so that df predicts ENOSPC. */
		.f_bfree = stats.read_only ? 0 : stats.disk_available / UNIT,
		.f_bavail = stats.read_only ? 0 : stats.disk_available / UNIT,
		.f_files = NODE_NUMBER_MAX,
		.f_ffree = NODE_NUMBER_MAX - stats.segments,
		.f_favail = NODE_NUMBER_MAX - stats.segments,
		.f_namemax = 255,
	};
	reply_statfs(&call, &statfs);
}

static void dispatch_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;

	CLEANUP(buf_done) struct buf value = {.max = XATTR_VALUE_MAX};
	int r = view->getxattr ? view->getxattr(&call, name, &value) : -ENODATA;
	if (r < 0)
		reply_error(&call, r);
	else
		reply_xattr(&call, &value, size);
}

static void dispatch_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;

	CLEANUP(buf_done) struct buf names = {.max = XATTR_VALUE_MAX};
	int r = view->listxattr ? view->listxattr(&call, &names) : 0;
	if (r < 0)
		reply_error(&call, r);
	else
		reply_xattr(&call, &names, size);
}

/* Ours are made by the engine, and nobody else's are kept. */
static void dispatch_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value,
			      size_t size, int flags)
{
	(void)name;
	(void)value;
	(void)size;
	(void)flags;
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;
	int r = dispatch_may_change(&call, view);
	reply_error(&call, r < 0 ? r : -ENOTSUP);
}

static void dispatch_removexattr(fuse_req_t req, fuse_ino_t id, const char *name)
{
	dispatch_setxattr(req, id, name, NULL, 0, 0);
}

/*
 * What is left out: the kernel does it by itself or with other requests (ENOSYS once: access,
 * lseek, copy_file_range, poll, ioctl, bmap), or refuses it (fallocate).
 */
const struct fuse_lowlevel_ops dispatch_ops = {
	.init = session_init,
	.lookup = dispatch_lookup,
	.forget = dispatch_forget,
	.forget_multi = dispatch_forget_multi,
	.getattr = dispatch_getattr,
	.setattr = dispatch_setattr,
	.readlink = dispatch_readlink,
	.statfs = dispatch_statfs,
	.getxattr = dispatch_getxattr,
	.listxattr = dispatch_listxattr,
	.setxattr = dispatch_setxattr,
	.removexattr = dispatch_removexattr,
	.opendir = dispatch_opendir,
	.readdir = dispatch_readdir,
	.readdirplus = dispatch_readdirplus,
	.releasedir = dispatch_releasedir,
	.fsyncdir = dispatch_fsyncdir,
	.create = dispatch_create,
	.mknod = dispatch_mknod,
	.mkdir = dispatch_mkdir,
	.unlink = dispatch_unlink,
	.rmdir = dispatch_rmdir,
	.symlink = dispatch_symlink,
	.rename = dispatch_rename,
	.link = dispatch_link,
	.open = dispatch_open,
	.read = dispatch_read,
	.write = dispatch_write,
	.flush = dispatch_flush,
	.fsync = dispatch_fsync,
	.release = dispatch_release,
	.flock = dispatch_flock,
};
