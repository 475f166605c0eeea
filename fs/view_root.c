/* One root: its file roots/<seq>, its link in roots/by-time/, and that directory. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"
#include "fs/decimal.h"
#include "fs/root_text.h"
#include "fs/view_roots.h"
#include "fs/xattr.h"

enum { SEQ_TEXT_SIZE = 24 };

/* ---- A root: its file, and its link in by-time/ --------------------------------------------- */

/* Set in the seq of the id of roots/current: no store gets that far. */
#define SEQ_CURRENT ((uint64_t)1 << 59)

uint64_t root_current_id(uint64_t seq)
{
	return node_of_root(seq | SEQ_CURRENT, true);
}

MUST_CHECK static int root_of(struct call *call, struct engine_root *ret)
{
	return engine_root_get(call->engine, node_root_seq(call->id) & ~SEQ_CURRENT, ret);
}

/* Where the link ID leads. */
static size_t link_target(uint64_t id, const struct engine_root *root,
			  char target[static SEQ_TEXT_SIZE])
{
	const char *up = node_root_seq(id) & SEQ_CURRENT ? "" : "../";
	return (size_t)snprintf(target, SEQ_TEXT_SIZE, "%s%" PRIu64, up, root->seq);
}

int root_entry(struct call *call, uint64_t id, const struct engine_root *root, struct entry *ret)
{
	ret->id = id;
	ret->entry_timeout = FS_FOREVER;
	ret->attr_timeout = FS_FOREVER;
	if (node_root_by_time(id)) {
		char target[SEQ_TEXT_SIZE];
		attr_symlink(call->fs, &ret->attr, id, link_target(id, root, target),
			     root->time_ns);
		return 0;
	}
	CLEANUP(buf_done) struct buf text = {.max = ROOT_TEXT_MAX};
	int r = root_text_print(root, &text);
	if (r == 0)
		attr_file(call->fs, &ret->attr, id, 0444, text.size, root->time_ns);
	return r;
}

static int root_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	struct engine_root root;
	(void)handle;
	int r = root_of(call, &root);
	return r < 0 ? r : root_entry(call, call->id, &root, ret);
}

static int root_open(struct call *call, int flags, struct opened *ret)
{
	struct engine_root root;
	if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC))
		return -EROFS;
	ret->keep_cache = true;
	ret->flushless = true;
	return root_of(call, &root);
}

static int root_read(struct call *call, uint64_t handle, int flags, void *data, size_t size,
		     uint64_t offset, struct slice *ret)
{
	CLEANUP(buf_done) struct buf text = {.max = ROOT_TEXT_MAX};
	struct engine_root root;

	(void)handle;
	(void)flags;
	int r = root_of(call, &root);
	if (r == 0)
		r = root_text_print(&root, &text);
	if (r < 0 || offset >= text.size)
		return r;
	if (size > text.size - offset)
		size = text.size - (size_t)offset;
	memcpy(data, text.data + offset, size);
	*ret = (struct slice){.data = data, .size = size};
	return 0;
}

static int root_readlink(struct call *call, struct buf *ret)
{
	struct engine_root root;
	char target[SEQ_TEXT_SIZE];
	int r = node_root_by_time(call->id) ? root_of(call, &root) : -EINVAL;
	if (r < 0)
		return r;
	(void)link_target(call->id, &root, target);
	return buf_append_text(ret, target);
}

static int root_getxattr(struct call *call, const char *name, struct buf *ret)
{
	CLEANUP(buf_done) struct buf text = {.max = ROOT_TEXT_MAX};
	struct engine_root root;
	int r = root_of(call, &root);
	if (r == 0)
		r = root_text_print(&root, &text);
	if (r < 0)
		return r;
	return xattr_root(call, &root, (struct slice){.data = text.data, .size = text.size}, name,
			  ret);
}

static int root_listxattr(struct call *call, struct buf *ret)
{
	(void)call;
	return xattr_root_list(ret);
}

const struct view view_root = {
	.name = "root",
	.getattr = root_getattr,
	.open = root_open,
	.read = root_read,
	.readlink = root_readlink,
	.getxattr = root_getxattr,
	.listxattr = root_listxattr,
	.read_only = true,
};

int root_list(struct call *call, bool by_time, uint64_t after, uint64_t base,
	      struct listing *listing, bool *ret_full)
{
	uint64_t first, last;
	engine_root_range(call->engine, &first, &last);
	*ret_full = false;
	if (last == 0 || after >= last)
		return 0;
	for (uint64_t seq = after < first ? first : after + 1; seq <= last; seq++) {
		char name[2 * SEQ_TEXT_SIZE];
		struct engine_root root = {.seq = seq};
		struct entry entry = {0};
		/* Names by number alone cost no read, unless the kernel asks for the sizes. */
		int r = by_time || listing_wants_attr(listing)
				? engine_root_get(call->engine, seq, &root)
				: 0;
		if (r == -ENOENT)
			continue; /* pruned meanwhile */
		if (r == 0)
			r = root_entry(call, node_of_root(seq, by_time), &root, &entry);
		if (r < 0)
			return r;
		if (by_time)
			(void)snprintf(name, sizeof(name), "%" PRIu64 "-%" PRIu64, root.time_ns,
				       seq);
		else
			(void)snprintf(name, sizeof(name), "%" PRIu64, seq);
		if (!listing_add(listing, name, &entry, seq + base)) {
			*ret_full = true;
			return 0;
		}
	}
	return 0;
}

/* ---- roots/by-time/ ------------------------------------------------------------------------- */

static int by_time_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	ret->attr_timeout = FS_FOREVER;
	attr_directory(call->fs, &ret->attr, call->id, 0555, 0);
	return 0;
}

static int by_time_lookup(struct call *call, const char *name, struct entry *ret)
{
	struct engine_root root;
	uint64_t time_ns, seq;

	if (decimal_take(&name, &time_ns) < 0 || *name != '-' ||
	    decimal_parse(name + 1, &seq) < 0 || seq == 0)
		return -ENOENT;
	int r = engine_root_get(call->engine, seq, &root);
	if (r < 0 || root.time_ns != time_ns)
		return r < 0 ? r : -ENOENT;
	return root_entry(call, node_of_root(seq, true), &root, ret);
}

static int by_time_readdir(struct call *call, uint64_t handle, uint64_t offset,
			   struct listing *listing)
{
	bool full;
	(void)handle;
	return root_list(call, true, offset, 0, listing, &full);
}

const struct view view_roots_by_time = {
	.name = "roots by time",
	.getattr = by_time_getattr,
	.lookup = by_time_lookup,
	.readdir = by_time_readdir,
	.read_only = true,
};
