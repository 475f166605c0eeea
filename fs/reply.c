#include "fs/reply.h"

#include <errno.h>
#include <string.h>

/* What is worth a line in .ctl/errors even if no operation said why. */
static bool error_is_grave(int error)
{
	return error == EIO || error == EBADMSG || error == ENOSPC || error == ENOMEM;
}

static void error_record(const struct call *call, int error)
{
	if (call->err.code != 0) {
		fs_report(call->fs, &call->err);
	} else if (error_is_grave(error)) {
		struct reterr event;
		reterr_set(&event, -error, "a request for node %#llx failed: %s",
			   (unsigned long long)call->id, strerror(error));
		fs_report(call->fs, &event);
	}
}

/* The errno that applications see: damage is an I/O error, whose nature is in .ctl/errors. */
static int error_shown(int error)
{
	return error == EBADMSG ? EIO : error;
}

static void call_done(struct call *call)
{
	if (call->node)
		node_unref(call->fs->nodes, call->node, 1);
	call->node = NULL;
}

/* True: the request is ours to answer. */
static bool call_finish(struct call *call)
{
	bool ours = park_claim(&call->wait);
	if (!ours)
		call_done(call);
	return ours;
}

/* Whether the reply of result R arrived. ENOENT: the kernel has given up the request. */
static bool reply_arrived(struct call *call, int r)
{
	if (r < 0 && r != -ENOENT) {
		struct reterr event;
		reterr_set(&event, r, "a reply for node %#llx did not reach the kernel: %s",
			   (unsigned long long)call->id, strerror(-r));
		fs_report(call->fs, &event);
	}
	call_done(call);
	return r == 0;
}

void reply_error(struct call *call, int result)
{
	if (result < 0)
		error_record(call, -result);
	if (call_finish(call))
		(void)reply_arrived(call, fuse_reply_err(call->req, error_shown(-result)));
}

void reply_none(struct call *call)
{
	call_done(call);
}

static struct fuse_entry_param entry_param(const struct entry *entry)
{
	return (struct fuse_entry_param){
		.ino = entry->id,
		.attr = entry->attr,
		.attr_timeout = entry->attr_timeout,
		.entry_timeout = entry->entry_timeout,
	};
}

/*
 * The kernel's reference to an allocated node: before the reply, as its FORGET may come right
 * after.
 */
static struct node *entry_ref(struct call *call, const struct entry *entry)
{
	if (entry->id == 0 || node_kind(entry->id) != NODE_ALLOCATED)
		return NULL;
	return node_get(call->fs->nodes, entry->id);
}

static bool entry_arrived(struct call *call, struct node *node, int r)
{
	struct fs *fs = call->fs;
	bool arrived = reply_arrived(call, r);
	if (!arrived && node)
		node_unref(fs->nodes, node, 1);
	return arrived;
}

bool reply_entry(struct call *call, const struct entry *entry)
{
	if (!call_finish(call))
		return false;
	struct fuse_entry_param param = entry_param(entry);
	struct node *node = entry_ref(call, entry);
	return entry_arrived(call, node, fuse_reply_entry(call->req, &param));
}

void reply_attr(struct call *call, const struct entry *entry)
{
	if (call_finish(call))
		(void)reply_arrived(call,
				    fuse_reply_attr(call->req, &entry->attr, entry->attr_timeout));
}

static struct fuse_file_info file_info(const struct opened *opened, int flags)
{
	return (struct fuse_file_info){
		.flags = flags,
		.fh = opened->handle,
		.direct_io = opened->direct_io,
		.keep_cache = opened->keep_cache,
		.cache_readdir = opened->cache_readdir,
		.noflush = opened->flushless,
	};
}

bool reply_open(struct call *call, const struct opened *opened, int flags)
{
	if (!call_finish(call))
		return false;
	struct fuse_file_info info = file_info(opened, flags);
	return reply_arrived(call, fuse_reply_open(call->req, &info));
}

bool reply_create(struct call *call, const struct entry *entry, const struct opened *opened,
		  int flags)
{
	if (!call_finish(call))
		return false;
	struct fuse_entry_param param = entry_param(entry);
	struct fuse_file_info info = file_info(opened, flags);
	struct node *node = entry_ref(call, entry);
	return entry_arrived(call, node, fuse_reply_create(call->req, &param, &info));
}

bool reply_data(struct call *call, const void *data, size_t size)
{
	return call_finish(call) && reply_arrived(call, fuse_reply_buf(call->req, data, size));
}

void reply_written(struct call *call, size_t size)
{
	if (call_finish(call))
		(void)reply_arrived(call, fuse_reply_write(call->req, size));
}

void reply_statfs(struct call *call, const struct statvfs *statfs)
{
	if (call_finish(call))
		(void)reply_arrived(call, fuse_reply_statfs(call->req, statfs));
}

void reply_xattr(struct call *call, const struct buf *value, size_t size)
{
	if (size > 0 && value->size > size) {
		reply_error(call, -ERANGE);
		return;
	}
	if (!call_finish(call))
		return;
	int r = size == 0 ? fuse_reply_xattr(call->req, value->size)
			  : fuse_reply_buf(call->req, (const char *)value->data, value->size);
	(void)reply_arrived(call, r);
}
