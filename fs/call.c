/* What an operation can ask about its call and its filesystem; see view.h. */
#include <errno.h>
#include <string.h>

#include "base/invariant.h"
#include "engine/engine.h"
#include "fs/core.h"
#include "fs/crew.h"
#include "fs/process.h"

void call_block(struct call *call)
{
	crew_leave();
	park_arm(&call->wait, call->req, 0);
}

void call_leave(struct call *call)
{
	crew_leave();
	/* A caller that we cannot see cannot be told apart from one that would try again. */
	if (call->pid > 0)
		park_arm(&call->wait, call->req, call->pid);
}

bool call_interrupted(const struct call *call)
{
	return park_answered(&call->wait);
}

int call_process(const struct call *call, pid_t *ret)
{
	return process_of_thread(call->pid, ret);
}

struct engine_segment *call_segment(const struct call *call)
{
	return engine_segment_at(call->engine, node_number(call->id));
}

const struct fs_options *fs_options(const struct fs *fs)
{
	return &fs->options;
}

struct engine *fs_engine(const struct fs *fs)
{
	return fs->engine;
}

struct node_table *fs_nodes(const struct fs *fs)
{
	return fs->nodes;
}

struct text_table *fs_texts(const struct fs *fs)
{
	return fs->texts;
}

uint64_t fs_started_ns(const struct fs *fs)
{
	return fs->started_ns;
}

void *fs_state(const struct fs *fs, enum fs_module module)
{
	return fs->states[module];
}

void fs_set_view(struct fs *fs, enum node_kind kind, const struct view *view)
{
	invariant(kind < NODE_KINDS && !fs->kinds[kind] && view->getattr);
	fs->kinds[kind] = view;
}

void fs_set_face(struct fs *fs, enum node_face face, const struct view *view)
{
	invariant(face < NODE_FACES && !fs->faces[face] && view->getattr);
	fs->faces[face] = view;
}

void fs_add_fixed(struct fs *fs, enum node_fixed id, const struct view *view)
{
	invariant(id < NODE_FIXED_MAX && view->getattr);
	node_add_fixed(fs->nodes, id, &fs->fixed[id], view);
}

int fs_entry_of(struct call *call, uint64_t id, struct entry *ret)
{
	struct call inner = {.fs = call->fs,
			     .engine = call->engine,
			     .id = id,
			     .uid = call->uid,
			     .gid = call->gid,
			     .pid = call->pid,
			     .umask = call->umask,
			     .req = call->req};
	if (node_kind(id) == NODE_ALLOCATED)
		inner.node = node_get(call->fs->nodes, id);
	const struct view *view = fs_view_of(call->fs, id, inner.node);
	int r = -ENOENT;
	*ret = (struct entry){.id = id, .entry_timeout = FS_FOREVER};
	if (view)
		r = view->getattr(&inner, NULL, ret);
	if (inner.node)
		node_unref(call->fs->nodes, inner.node, 1);
	return r;
}

void fs_forget_entry(struct fs *fs, uint64_t parent, const char *name)
{
	/* ENOENT: the kernel does not know it. Other failures end with the mount. */
	(void)fuse_lowlevel_notify_inval_entry(fs->session, parent, name, strlen(name));
}

void fs_forget_data(struct fs *fs, uint64_t id)
{
	(void)fuse_lowlevel_notify_inval_inode(fs->session, id, 0, 0);
}
