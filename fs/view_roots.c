/*
 * roots/: the kept roots, and the way to publish one by name.
 *
 *   roots/<seq>                    JSON of the root, never changes
 *   roots/by-time/<UTC ns>-<seq>   link to it, so that names sort by time
 *   roots/current                  link to the newest one
 *
 * To publish: make a link of any other name whose target is `<seq>` (go back to that root: it is
 * published again, as the newest) or `../atoms/<uuid>/<offset>`, and rename it over `current`: the
 * compare-and-swap, whose expected value is the root that was the newest when the link was made.
 * `ln -sfn 17 roots/current` does just that. Links that wait for their rename are in memory only.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"
#include "fs/decimal.h"
#include "fs/roots_pending.h"
#include "fs/view_roots.h"

static const char current_name[] = "current";
static const char by_time_name[] = "by-time";

/* The name `current`: it may lead elsewhere at any time. -ENOENT there is no root. */
MUST_CHECK static int current_entry(struct call *call, struct entry *ret)
{
	struct engine_root root;
	int r = engine_root_current(call->engine, &root);
	if (r == 0)
		r = root_entry(call, root_current_id(root.seq), &root, ret);
	ret->entry_timeout = FS_NEVER;
	return r;
}

/* ---- Publishing ----------------------------------------------------------------------------- */

/* The pointer that is to be published, and what its publisher said about it. */
MUST_CHECK static int wish_resolve(struct call *call, const struct wish *wish,
				   struct engine_root *ret)
{
	struct engine_frame frame;

	if (wish->seq > 0) {
		int r = engine_root_get(call->engine, wish->seq, ret);
		if (r == -ENOENT)
			reterr_set(&call->err, r, "roots/%" PRIu64 " is not kept", wish->seq);
		return r;
	}
	struct engine_segment *segment = engine_segment_find(call->engine, &wish->pointer.segment);
	int r = segment ? engine_frame_at(call->engine, segment, wish->pointer.offset, &frame)
			: -ENOENT;
	if (r == -ENOENT) {
		char uuid[UUID_TEXT_LENGTH + 1];
		reterr_set(&call->err, r, "atoms/%s/%" PRIu64 " is no atom: it cannot be the root",
			   uuid_format(&wish->pointer.segment, uuid), wish->pointer.offset);
	}
	*ret = (struct engine_root){.pointer = wish->pointer};
	return r;
}

/* The rename over `current`. Never -ESTALE: the kernel would do such a rename again. */
MUST_CHECK static int publish(struct call *call, const struct wish *wish, uint64_t base)
{
	struct engine_root wanted, newest = {0};

	call_block(call);
	int r = wish_resolve(call, wish, &wanted);
	if (r < 0)
		return r;
	r = engine_root_publish(call->engine, base, &wanted.pointer, wanted.payload,
				wanted.payload_size, &newest, &call->err);
	if (r == -ESTALE)
		return reterr_set(&call->err, -EBUSY,
				  "the link to become roots/current was made when root %" PRIu64
				  " was the newest; now it is %" PRIu64 ": make it again",
				  base, newest.seq);
	return r < 0 ? r : 0;
}

/* ---- roots/ --------------------------------------------------------------------------------- */

static struct pendings *pendings_of(const struct fs *fs)
{
	return fs_state(fs, FS_MODULE_ROOTS);
}

static int roots_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	ret->attr_timeout = FS_FOREVER;
	attr_directory(call->fs, &ret->attr, call->id, 0755, 1);
	return 0;
}

static int roots_lookup(struct call *call, const char *name, struct entry *ret)
{
	uint64_t seq;

	if (strcmp(name, current_name) == 0)
		return current_entry(call, ret);
	if (strcmp(name, by_time_name) == 0)
		return fs_entry_of(call, NODE_ROOTS_BY_TIME, ret);
	if (decimal_parse(name, &seq) == 0 && seq > 0 && seq <= NODE_ROOT_SEQ_MAX) {
		struct engine_root root;
		int r = engine_root_get(call->engine, seq, &root);
		return r < 0 ? r : root_entry(call, node_of_root(seq, false), &root, ret);
	}
	struct pending *pending = pending_get(pendings_of(call->fs), name);
	if (!pending)
		return -ENOENT;
	int r = pending_entry(call, pending, ret);
	pending_put(pendings_of(call->fs), pending);
	return r;
}

/*
 * Positions: 1 by-time, 2 current, a root's seq + 2, a pending link's own, which are above all of
 * these.
 */
enum { POSITION_BY_TIME = 1, POSITION_CURRENT = 2 };

/* What comes before the roots. False: there is no more room. */
static bool list_fixed(struct call *call, uint64_t offset, struct listing *listing)
{
	struct entry entry = {0};
	if (offset < POSITION_BY_TIME && fs_entry_of(call, NODE_ROOTS_BY_TIME, &entry) == 0 &&
	    !listing_add(listing, by_time_name, &entry, POSITION_BY_TIME))
		return false;
	if (offset < POSITION_CURRENT && current_entry(call, &entry) == 0)
		return listing_add(listing, current_name, &entry, POSITION_CURRENT);
	return true;
}

static int roots_readdir(struct call *call, uint64_t handle, uint64_t offset,
			 struct listing *listing)
{
	bool full = false;
	(void)handle;
	if (!list_fixed(call, offset, listing))
		return 0;
	if (offset < PENDING_POSITION) {
		uint64_t after = offset > POSITION_CURRENT ? offset - POSITION_CURRENT : 0;
		int r = root_list(call, false, after, POSITION_CURRENT, listing, &full);
		if (r < 0)
			return r;
	}
	if (!full)
		pending_list(call, pendings_of(call->fs), offset, listing);
	return 0;
}

/* Names that a pending link may not have: 0 or -errno. */
MUST_CHECK static int name_allowed(struct call *call, const char *name)
{
	struct engine_root root;
	uint64_t seq;

	if (strlen(name) >= PENDING_NAME_SIZE)
		return -ENAMETOOLONG;
	if (strcmp(name, by_time_name) == 0)
		return -EEXIST;
	if (decimal_parse(name, &seq) == 0)
		return seq > 0 && engine_root_get(call->engine, seq, &root) == 0 ? -EEXIST : -EPERM;
	return 0;
}

static int roots_symlink(struct call *call, const char *name, const char *target, struct entry *ret)
{
	struct engine_root newest = {0};
	struct wish wish;

	int r = name_allowed(call, name);
	if (r < 0)
		return r;
	if (wish_parse(target, &wish) < 0)
		return reterr_set(&call->err, -EINVAL,
				  "a link in roots/ leads to <seq> or to ../atoms/<uuid>/<offset>, "
				  "not to '%.80s'",
				  target);
	r = engine_root_current(call->engine, &newest);
	if (r < 0 && r != -ENOENT)
		return r;
	if (strcmp(name, current_name) == 0) {
		if (r == 0)
			return -EEXIST;
		/* The first root of a store needs no rename: there is nothing to compare with. */
		r = publish(call, &wish, 0);
		return r < 0 ? r : roots_lookup(call, name, ret);
	}
	r = pending_make(call, pendings_of(call->fs), name, &wish, target, newest.seq, ret);
	if (r == -ENOSPC)
		reterr_set(&call->err, r, "%d links in roots/ wait for their rename: remove some",
			   PENDING_MAX);
	return r;
}

/* What changing NAME, which is no pending link, is answered. */
MUST_CHECK static int refusal(struct call *call, const char *name)
{
	struct entry entry = {0};
	int r = roots_lookup(call, name, &entry);
	return r < 0 ? r : -EROFS; /* roots go by `protofs prune` only */
}

static int roots_unlink(struct call *call, const char *name)
{
	struct pendings *pendings = pendings_of(call->fs);
	struct pending *pending = pending_get(pendings, name);
	if (!pending)
		return refusal(call, name);
	pending_drop(pendings, pending);
	pending_put(pendings, pending);
	return 0;
}

MUST_CHECK static int rename_pending(struct call *call, struct pending *pending, const char *to,
				     unsigned flags)
{
	struct engine_root root;
	bool stay = flags & RENAME_NOREPLACE;

	if (flags & ~(unsigned)RENAME_NOREPLACE)
		return -EINVAL;
	if (strcmp(to, current_name) != 0) {
		int r = name_allowed(call, to);
		return r < 0 ? r : pending_rename(pendings_of(call->fs), pending, to, stay);
	}
	if (stay && engine_root_current(call->engine, &root) == 0)
		return -EEXIST;
	int r = publish(call, pending_wish(pending), pending_base(pending));
	if (r == 0)
		pending_drop(pendings_of(call->fs), pending);
	return r;
}

static int roots_rename(struct call *call, const char *from, const char *to, unsigned flags)
{
	struct pending *pending = pending_get(pendings_of(call->fs), from);
	if (!pending)
		return refusal(call, from);
	int r = rename_pending(call, pending, to, flags);
	pending_put(pendings_of(call->fs), pending);
	return r;
}

static const struct view view_roots = {
	.name = "roots",
	.getattr = roots_getattr,
	.lookup = roots_lookup,
	.readdir = roots_readdir,
	.symlink = roots_symlink,
	.unlink = roots_unlink,
	.rename = roots_rename,
};

static int module_roots_start(struct fs *fs, struct reterr *err, void **ret_state)
{
	struct pendings *pendings;
	int r = pendings_new(fs, &pendings);
	if (r < 0)
		return reterr_set(err, r, "no memory for roots/");
	fs_set_view(fs, NODE_ROOT, &view_root);
	fs_add_fixed(fs, NODE_ROOTS, &view_roots);
	fs_add_fixed(fs, NODE_ROOTS_BY_TIME, &view_roots_by_time);
	*ret_state = pendings;
	return 0;
}

static void module_roots_stop(struct fs *fs, void *state)
{
	(void)fs;
	pendings_free(state);
}

const struct module module_roots = {.start = module_roots_start, .stop = module_roots_stop};
