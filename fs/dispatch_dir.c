/* Requests about directories and names in them. */
#include <errno.h>
#include <string.h>

#include "fs/crew.h"
#include "fs/dispatch.h"
#include "fs/listing.h"
#include "fs/reply.h"

void dispatch_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, parent, &view))
		return;

	struct entry entry = {0};
	int r = view->lookup ? view->lookup(&call, name, &entry) : -ENOTDIR;
	if (r < 0)
		reply_error(&call, r);
	else
		(void)reply_entry(&call, &entry);
}

void dispatch_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *info)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;

	struct opened opened = {0};
	int r = view->opendir ? view->opendir(&call, &opened) : 0;
	if (r < 0)
		reply_error(&call, r);
	else if (!reply_open(&call, &opened, info->flags) && view->releasedir)
		view->releasedir(&call, opened.handle);
}

static void dispatch_list(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, uint64_t handle,
			  bool plus)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;

	struct listing listing = {.req = req, .fs = call.fs, .plus = plus};
	listing.size = size < FS_SCRATCH_SIZE ? size : FS_SCRATCH_SIZE;
	listing.data = crew_scratch(listing.size);
	int r = 0;
	if (!listing.data)
		r = -ENOMEM;
	else if (!view->readdir)
		r = -ENOTDIR;
	else if (offset < 0)
		r = -EINVAL;
	if (r == 0) {
		uint64_t from = listing_begin(&listing, id, (uint64_t)offset);
		r = view->readdir(&call, handle, from, &listing);
	}
	/*
	 * What was listed before an error is worth more than the error, which the next request
	 * meets again.
	 */
	if (r < 0 && listing.used == 0)
		reply_error(&call, r);
	else if (!reply_data(&call, listing.data, listing.used))
		listing_undo(&listing);
}

void dispatch_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
		      struct fuse_file_info *info)
{
	dispatch_list(req, id, size, offset, info->fh, false);
}

void dispatch_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
			  struct fuse_file_info *info)
{
	dispatch_list(req, id, size, offset, info->fh, true);
}

void dispatch_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *info)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;
	if (view->releasedir)
		view->releasedir(&call, info->fh);
	reply_error(&call, 0);
}

void dispatch_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *info)
{
	(void)datasync;
	(void)info;
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;
	reply_error(&call, view->fsyncdir ? view->fsyncdir(&call) : 0);
}

/* Begins a call that changes a directory: 0 for the view to be asked, or what to answer. */
static int change_begin(const struct call *call, const struct view *view, bool has_operation)
{
	int r = dispatch_may_change(call, view);
	if (r == 0 && !view->lookup)
		r = -ENOTDIR;
	if (r == 0 && !has_operation)
		r = dispatch_refusal(call, view);
	return r;
}

void dispatch_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		     struct fuse_file_info *info)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, parent, &view))
		return;

	struct entry entry = {0};
	struct opened opened = {0};
	int r = change_begin(&call, view, view->create != NULL);
	if (r == 0)
		r = view->create(&call, name, mode, info->flags, &entry, &opened);
	if (r < 0) {
		reply_error(&call, r);
		return;
	}
	/* The file's view may be another one, and its node may go with the last reference. */
	struct fs *fs = call.fs;
	struct node *node = node_kind(entry.id) == NODE_ALLOCATED ? node_get(fs->nodes, entry.id)
								  : NULL;
	if (!reply_create(&call, &entry, &opened, info->flags)) {
		const struct view *file = fs_view_of(fs, entry.id, node);
		call.id = entry.id;
		call.node = node;
		if (file && file->release)
			file->release(&call, opened.handle, info->flags);
	}
	if (node)
		node_unref(fs->nodes, node, 1);
}

void dispatch_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	(void)rdev;
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, parent, &view))
		return;

	struct entry entry = {0};
	int r = change_begin(&call, view, view->mknod && S_ISREG(mode));
	if (r == 0)
		r = view->mknod(&call, name, mode, &entry);
	if (r < 0)
		reply_error(&call, r);
	else
		(void)reply_entry(&call, &entry);
}

void dispatch_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, parent, &view))
		return;

	struct entry entry = {0};
	int r = change_begin(&call, view, view->mkdir != NULL);
	if (r == 0)
		r = view->mkdir(&call, name, mode, &entry);
	if (r < 0)
		reply_error(&call, r);
	else
		(void)reply_entry(&call, &entry);
}

void dispatch_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, parent, &view))
		return;

	int r = change_begin(&call, view, view->unlink != NULL);
	reply_error(&call, r < 0 ? r : view->unlink(&call, name));
}

void dispatch_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, parent, &view))
		return;

	int r = change_begin(&call, view, view->rmdir != NULL);
	reply_error(&call, r < 0 ? r : view->rmdir(&call, name));
}

void dispatch_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, parent, &view))
		return;

	struct entry entry = {0};
	int r = change_begin(&call, view, view->symlink != NULL);
	if (r == 0)
		r = view->symlink(&call, name, target, &entry);
	if (r < 0)
		reply_error(&call, r);
	else
		(void)reply_entry(&call, &entry);
}

void dispatch_rename(fuse_req_t req, fuse_ino_t from_parent, const char *from, fuse_ino_t to_parent,
		     const char *to, unsigned flags)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, from_parent, &view))
		return;

	int r = change_begin(&call, view, view->rename != NULL);
	if (r == 0 && from_parent != to_parent)
		r = -EXDEV;
	reply_error(&call, r < 0 ? r : view->rename(&call, from, to, flags));
}

/* No file of ours has two names. */
void dispatch_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char *name)
{
	(void)parent;
	(void)name;
	struct call call;
	const struct view *view;
	if (dispatch_begin(&call, req, id, &view))
		reply_error(&call, dispatch_refusal(&call, view));
}
