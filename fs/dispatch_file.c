/* Requests about open files. */
#include <errno.h>
#include <fcntl.h>

#include "engine/engine.h"
#include "fs/crew.h"
#include "fs/dispatch.h"
#include "fs/flock.h"
#include "fs/reply.h"

void dispatch_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *info)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;

	struct opened opened = {0};
	int r = 0;
	if ((info->flags & O_ACCMODE) != O_RDONLY || (info->flags & O_TRUNC))
		r = dispatch_may_change(&call, view);
	if (r == 0 && view->open)
		r = view->open(&call, info->flags, &opened);
	if (r < 0)
		reply_error(&call, r);
	else if (!reply_open(&call, &opened, info->flags) && view->release)
		view->release(&call, opened.handle, info->flags);
}

/* A read that may go to the cloud holds up nobody there, and holds no memory before its turn. */
static void leave_if_remote(struct call *call)
{
	enum node_kind kind = node_kind(call->id);
	struct engine_segment_info info;

	if (!call->fs->options.cloud || kind < NODE_SEGMENT || kind > NODE_ATOM_FRAME)
		return;
	struct engine_segment *segment = call_segment(call);
	if (!segment)
		return;
	engine_segment_info(call->engine, segment, &info);
	if (info.remote)
		call_block(call);
}

void dispatch_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
		   struct fuse_file_info *info)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;

	if (size > FS_SCRATCH_SIZE)
		size = FS_SCRATCH_SIZE;
	leave_if_remote(&call);
	void *data = crew_scratch(size);
	struct slice bytes = {.data = data, .size = 0};
	int r = 0;
	if (!data)
		r = -ENOMEM;
	else if (offset < 0 || !view->read)
		r = -EINVAL;
	if (r == 0)
		r = view->read(&call, info->fh, info->flags, data, size, (uint64_t)offset, &bytes);
	if (r < 0)
		reply_error(&call, r);
	else
		(void)reply_data(&call, bytes.data, bytes.size);
}

void dispatch_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t size, off_t offset,
		    struct fuse_file_info *info)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;

	int r = dispatch_may_change(&call, view);
	if (r == 0 && offset < 0)
		r = -EINVAL;
	if (r == 0)
		r = view->write ? view->write(&call, info->fh, info->flags, data, size,
					      (uint64_t)offset)
				: dispatch_refusal(&call, view);
	if (r < 0)
		reply_error(&call, r);
	else
		reply_written(&call, size);
}

void dispatch_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *info)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;
	reply_error(&call, view->flush ? view->flush(&call, info->fh) : 0);
}

void dispatch_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *info)
{
	(void)datasync;
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;
	reply_error(&call, view->fsync ? view->fsync(&call, info->fh) : 0);
}

void dispatch_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *info)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;
	if (info->flock_release)
		flock_release(call.fs->flocks, id, info->lock_owner);
	if (view->release)
		view->release(&call, info->fh, info->flags);
	reply_error(&call, 0);
}

void dispatch_flock(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *info, int op)
{
	struct call call;
	const struct view *view;
	if (!dispatch_begin(&call, req, id, &view))
		return;

	struct flock_request request = {.node = id, .owner = info->lock_owner, .op = op};
	/* A caller that we cannot see holds locks, but none that fence_root accepts. */
	if (call.fs->options.fence_root && call_process(&call, &request.process) < 0)
		request.process = 0;
	int r = flock_apply(call.fs->flocks, &request, req);
	if (r == FLOCK_PARKED)
		reply_none(&call);
	else
		reply_error(&call, r);
}
