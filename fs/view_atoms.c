/*
 * atoms/: a directory for each segment, in it a file for each frame.
 *
 *   atoms/<uuid>/<offset>        the payload, listed
 *   atoms/<uuid>/<offset>.json   as JSON (render.h), not listed: its size is not known without rendering
 *   atoms/<uuid>/<offset>.frame  header and payload, not listed
 *
 * Node ids are computed from segment number and offset, listings go on from the last offset: ten
 * million atoms cost no memory here. An atom never changes, so what lies in sealed parts is given
 * to the kernel for good, and names that are not there too; the rest is asked for each time.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"
#include "fs/atom_memo.h"
#include "fs/atoms_in.h"
#include "fs/decimal.h"
#include "fs/render.h"
#include "fs/segment_file.h"
#include "fs/text.h"
#include "fs/view.h"
#include "fs/xattr.h"

/* Bytes of a segment whose listing the kernel may keep. */
#define LISTING_KEPT_MAX ((uint64_t)16 << 20)

/* One of the three files of an atom. */
struct atom {
	enum node_kind kind;
	struct engine_segment *segment;
	struct engine_frame frame;
	bool sealed; /* the whole frame lies in sealed parts */
	uint64_t created_ns;
};

/* ---- Atoms ---------------------------------------------------------------------------------- */

/* What is known once RET's kind, segment and frame are. */
static void atom_complete(struct call *call, struct atom *ret)
{
	struct engine_segment_info info;
	engine_segment_info(call->engine, ret->segment, &info);
	ret->created_ns = info.created_ns;
	ret->sealed = ret->frame.offset + ENGINE_FRAME_HEADER_SIZE + ret->frame.size <= info.sealed;
}

static struct atom_memo *memo_of(const struct call *call)
{
	return fs_state(call->fs, FS_MODULE_ATOMS);
}

static uint64_t atom_id(const struct atom *atom)
{
	return node_make(atom->kind, engine_segment_number(atom->segment), atom->frame.offset);
}

MUST_CHECK static int atom_find(struct call *call, struct engine_segment *segment,
				enum node_kind kind, uint64_t offset, struct atom *ret)
{
	int r = engine_frame_at(call->engine, segment, offset, &ret->frame);
	if (r < 0)
		return r;
	ret->kind = kind;
	ret->segment = segment;
	atom_complete(call, ret);
	atom_memo_put(memo_of(call), atom_id(ret), ret->frame.size);
	return 0;
}

/* The atom that CALL is about. */
MUST_CHECK static int atom_of(struct call *call, struct atom *ret)
{
	struct engine_segment *segment = call_segment(call);
	if (!segment)
		return -ENOENT;
	call_block(call);
	return atom_find(call, segment, node_kind(call->id), node_offset(call->id), ret);
}

/* The same but for its format, which size and attributes do not need; at once if it was asked for lately. */
MUST_CHECK static int atom_size_of(struct call *call, struct atom *ret)
{
	uint64_t size;

	ret->segment = call_segment(call);
	if (!ret->segment || !atom_memo_get(memo_of(call), call->id, &size))
		return atom_of(call, ret);
	ret->kind = node_kind(call->id);
	ret->frame = (struct engine_frame){.offset = node_offset(call->id), .size = size};
	atom_complete(call, ret);
	return 0;
}

static uint64_t atom_size(const struct atom *atom)
{
	switch ((int)atom->kind) {
	case NODE_ATOM:
		return atom->frame.size;
	case NODE_ATOM_FRAME:
		return ENGINE_FRAME_HEADER_SIZE + atom->frame.size;
	default:
		return 0; /* JSON: as long as it is read */
	}
}

static void atom_entry(struct call *call, const struct atom *atom, struct entry *ret)
{
	ret->id = atom_id(atom);
	ret->entry_timeout = FS_FOREVER; /* names and ids are the same thing */
	ret->attr_timeout = atom->sealed ? FS_FOREVER : FS_NEVER;
	attr_file(call->fs, &ret->attr, ret->id, 0444, atom_size(atom), atom->created_ns);
}

static int atom_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	struct atom atom;
	(void)handle;
	int r = atom_size_of(call, &atom);
	if (r == 0)
		atom_entry(call, &atom, ret);
	return r;
}

/*
 * Refused, but for what tools like rsync do with a name in atoms/in after they closed it: the name
 * is a link by then, and chmod(2) follows it to here. Mode, owner and times are accepted and change
 * nothing.
 */
static int atom_setattr(struct call *call, const uint64_t *handle, const struct setting *setting,
			struct entry *ret)
{
	struct engine_segment *segment = call_segment(call);
	if ((setting->valid & SET_SIZE) || !segment)
		return -EROFS;
	struct engine_pointer pointer = {.segment = *engine_segment_uuid(segment),
					 .offset = node_offset(call->id)};
	if (!atoms_in_has(call->fs, &pointer))
		return -EROFS;
	return atom_getattr(call, handle, ret);
}

static bool opened_to_write(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

/* The handle is the number of bytes, so that a read need not parse the header again. */
static int atom_open(struct call *call, int flags, struct opened *ret)
{
	struct atom atom;
	if (opened_to_write(flags))
		return -EROFS;
	int r = atom_size_of(call, &atom);
	if (r < 0)
		return r;
	ret->handle = atom_size(&atom);
	ret->keep_cache = atom.sealed;
	ret->direct_io = !atom.sealed;
	ret->flushless = true;
	return 0;
}

static int atom_read(struct call *call, uint64_t handle, int flags, void *data, size_t size,
		     uint64_t offset, struct slice *ret)
{
	struct engine_segment *segment = call_segment(call);

	if (!segment)
		return -ENOENT;
	if (offset >= handle)
		return 0;
	if (size > handle - offset)
		size = (size_t)(handle - offset);
	uint64_t from = node_offset(call->id) + offset;
	if (node_kind(call->id) == NODE_ATOM)
		from += ENGINE_FRAME_HEADER_SIZE;
	return segment_file_read(call, segment, flags, data, size, from, ret);
}

MUST_CHECK static int json_render(struct call *call, const struct atom *atom, struct buf *text)
{
	size_t n = 0;

	if (atom->frame.size > RENDER_PAYLOAD_MAX)
		return reterr_set(&call->err, -EFBIG,
				  "the atom at byte %" PRIu64 " has %" PRIu64
				  " bytes; only %zu are shown as JSON",
				  atom->frame.offset, atom->frame.size, RENDER_PAYLOAD_MAX);
	CLEANUP(buf_done) struct buf payload = {.max = RENDER_PAYLOAD_MAX};
	int r = buf_reserve(&payload, (size_t)atom->frame.size);
	if (r == 0)
		r = engine_read(call->engine, atom->segment, payload.data, (size_t)atom->frame.size,
				atom->frame.offset + ENGINE_FRAME_HEADER_SIZE, 0, &n, &call->err);
	if (r == 0 && n < atom->frame.size)
		r = -EIO; /* a whole frame has its bytes */
	if (r < 0)
		return r;

	struct reterr why = {0};
	r = render_atom(atom->frame.format, (struct slice){.data = payload.data, .size = n}, text,
			&why);
	if (r < 0) {
		char uuid[UUID_TEXT_LENGTH + 1];
		reterr_set(&call->err, r, "atoms/%s/%" PRIu64 " cannot be shown as JSON: %s",
			   uuid_format(engine_segment_uuid(atom->segment), uuid),
			   atom->frame.offset, why.text);
	}
	return r;
}

static int json_file_open(struct call *call, int flags, struct opened *ret)
{
	struct atom atom;
	if (opened_to_write(flags))
		return -EROFS;
	int r = atom_of(call, &atom);
	if (r < 0)
		return r;
	CLEANUP(buf_done) struct buf text = {.max = RENDER_TEXT_MAX};
	r = json_render(call, &atom, &text);
	return r < 0 ? r : text_open(call, &text, ret);
}

static int atom_getxattr(struct call *call, const char *name, struct buf *ret)
{
	struct engine_segment *segment = call_segment(call);
	return segment ? xattr_atom(call, segment, node_offset(call->id), name, ret) : -ENOENT;
}

static int atom_listxattr(struct call *call, struct buf *ret)
{
	(void)call;
	return xattr_atom_list(ret);
}

static const struct view view_atom = {
	.name = "atom",
	.getattr = atom_getattr,
	.setattr = atom_setattr,
	.open = atom_open,
	.read = atom_read,
	.getxattr = atom_getxattr,
	.listxattr = atom_listxattr,
};

static const struct view view_atom_frame = {
	.name = "atom as frame",
	.getattr = atom_getattr,
	.open = atom_open,
	.read = atom_read,
	.getxattr = atom_getxattr,
	.listxattr = atom_listxattr,
	.read_only = true,
};

static const struct view view_atom_json = {
	.name = "atom as JSON",
	.getattr = atom_getattr,
	.open = json_file_open,
	.read = text_read,
	.release = text_release,
	.getxattr = atom_getxattr,
	.listxattr = atom_listxattr,
	.read_only = true,
};

/* ---- atoms/<uuid>/ -------------------------------------------------------------------------- */

static void segment_entry(struct call *call, struct engine_segment *segment, struct entry *ret)
{
	struct engine_segment_info info;
	engine_segment_info(call->engine, segment, &info);
	ret->id = node_make(NODE_SEGMENT, engine_segment_number(segment), NODE_FACE_ATOMS);
	/*
	 * Nothing that stat(2) shows of it ever changes. What removes a segment says so to the
	 * kernel, but for those of small files.
	 */
	ret->entry_timeout = info.class == ENGINE_CLASS_META ? FS_NEVER : FS_FOREVER;
	ret->attr_timeout = FS_FOREVER;
	attr_directory(call->fs, &ret->attr, ret->id, 0555, 0);
}

static int segment_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	struct engine_segment *segment = call_segment(call);
	(void)handle;
	if (!segment)
		return -ENOENT;
	segment_entry(call, segment, ret);
	return 0;
}

/* "<offset>", "<offset>.json", "<offset>.frame". */
MUST_CHECK static int parse_atom_name(const char *name, enum node_kind *ret_kind,
				      uint64_t *ret_offset)
{
	uint64_t offset;
	if (decimal_take(&name, &offset) < 0 || offset > NODE_OFFSET_MAX)
		return -ENOENT;
	if (strcmp(name, "") == 0)
		*ret_kind = NODE_ATOM;
	else if (strcmp(name, ".json") == 0)
		*ret_kind = NODE_ATOM_JSON;
	else if (strcmp(name, ".frame") == 0)
		*ret_kind = NODE_ATOM_FRAME;
	else
		return -ENOENT;
	*ret_offset = offset;
	return 0;
}

static int segment_lookup(struct call *call, const char *name, struct entry *ret)
{
	struct engine_segment *segment = call_segment(call);
	struct engine_segment_info info;
	struct atom atom;
	enum node_kind kind;
	uint64_t offset;

	if (!segment)
		return -ENOENT;
	int r = parse_atom_name(name, &kind, &offset);
	if (r < 0)
		return r;
	call_block(call);
	/* Before the search: what is sealed now has no other frames later. */
	engine_segment_info(call->engine, segment, &info);
	r = atom_find(call, segment, kind, offset, &atom);
	if (r == 0) {
		atom_entry(call, &atom, ret);
	} else if (r == -ENOENT && offset < info.sealed && offset < info.frames_end) {
		*ret = (struct entry){.entry_timeout = FS_FOREVER};
		r = 0;
	}
	return r;
}

/*
 * A listing of what never changes may stay with the kernel, unless it is a huge one: for 10 million names, to keep
 * them costs as much as to list them, and to find them again as much as to ask us.
 */
static int segment_opendir(struct call *call, struct opened *ret)
{
	struct engine_segment *segment = call_segment(call);
	struct engine_segment_info info;
	if (!segment)
		return -ENOENT;
	engine_segment_info(call->engine, segment, &info);
	bool final = segment_file_is_final(&info);
	ret->cache_readdir = final && info.length <= LISTING_KEPT_MAX;
	ret->keep_cache = ret->cache_readdir;
	return 0;
}

/*
 * The position behind an atom is its offset + 1: above 0, and where the search for the next one
 * begins.
 */
static bool list_atom(struct call *call, const struct atom *atom, struct listing *listing)
{
	char name[DECIMAL_SIZE];
	struct entry entry;

	if (listing_wants_attr(listing)) {
		atom_entry(call, atom, &entry);
	} else {
		entry.id = atom_id(atom);
		entry.attr.st_mode = S_IFREG;
	}
	return listing_add(listing, decimal_format(atom->frame.offset, name), &entry,
			   atom->frame.offset + 1);
}

static int segment_readdir(struct call *call, uint64_t handle, uint64_t offset,
			   struct listing *listing)
{
	enum { BATCH = 512 };
	struct engine_frame frames[BATCH];
	struct engine_segment *segment = call_segment(call);
	struct engine_segment_info info;

	(void)handle;
	if (!segment)
		return -ENOENT;
	call_block(call);
	engine_segment_info(call->engine, segment, &info);
	for (;;) {
		size_t count;
		int r = engine_frames(call->engine, segment, offset, frames, BATCH, &count);
		if (r < 0 || count == 0)
			return r;
		for (size_t i = 0; i < count; i++) {
			uint64_t end = frames[i].offset + ENGINE_FRAME_HEADER_SIZE + frames[i].size;
			struct atom atom = {
				.kind = NODE_ATOM,
				.segment = segment,
				.frame = frames[i],
				.created_ns = info.created_ns,
				.sealed = end <= info.sealed,
			};
			if (frames[i].offset > NODE_OFFSET_MAX || !list_atom(call, &atom, listing))
				return 0;
			offset = frames[i].offset + 1;
		}
	}
}

static int segment_getxattr(struct call *call, const char *name, struct buf *ret)
{
	struct engine_segment *segment = call_segment(call);
	return segment ? xattr_segment(call, segment, name, ret) : -ENOENT;
}

static int segment_listxattr(struct call *call, struct buf *ret)
{
	(void)call;
	return xattr_segment_list(ret);
}

static const struct view view_atoms_segment = {
	.name = "atoms of a segment",
	.getattr = segment_getattr,
	.lookup = segment_lookup,
	.opendir = segment_opendir,
	.readdir = segment_readdir,
	.getxattr = segment_getxattr,
	.listxattr = segment_listxattr,
	.read_only = true,
};

/* ---- atoms/ --------------------------------------------------------------------------------- */

/* A segment without a byte is on no disk and holds no atoms: it is not shown yet. */
static bool segment_shown(struct call *call, struct engine_segment *segment)
{
	struct engine_segment_info info;
	engine_segment_info(call->engine, segment, &info);
	return info.state != ENGINE_SEGMENT_VOLATILE && info.state != ENGINE_SEGMENT_REMOVED;
}

static int atoms_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	ret->attr_timeout = FS_FOREVER;
	/* How many segments there are is not counted: 1 says that the link count means nothing. */
	attr_directory(call->fs, &ret->attr, call->id, 0555, 0);
	ret->attr.st_nlink = 1;
	return 0;
}

static int atoms_lookup(struct call *call, const char *name, struct entry *ret)
{
	struct uuid uuid;
	if (strcmp(name, "in") == 0)
		return fs_entry_of(call, NODE_ATOMS_IN, ret);
	if (uuid_parse(name, &uuid) < 0)
		return -ENOENT;
	struct engine_segment *segment = engine_segment_find(call->engine, &uuid);
	if (!segment || !segment_shown(call, segment))
		return -ENOENT;
	segment_entry(call, segment, ret);
	return 0;
}

/* The position behind "in" is 1, behind a segment its number + 1. */
static int atoms_readdir(struct call *call, uint64_t handle, uint64_t offset,
			 struct listing *listing)
{
	(void)handle;
	if (offset == 0) {
		struct entry entry = {0};
		int r = fs_entry_of(call, NODE_ATOMS_IN, &entry);
		if (r < 0)
			return r;
		if (!listing_add(listing, "in", &entry, 1))
			return 0;
		offset = 1;
	}
	if (offset > NODE_NUMBER_MAX)
		return 0;

	uint32_t number = (uint32_t)(offset - 1);
	struct engine_segment *segment;
	while ((segment = engine_segment_next(call->engine, number))) {
		number = engine_segment_number(segment);
		if (!segment_shown(call, segment))
			continue;
		char name[UUID_TEXT_LENGTH + 1];
		struct entry entry = {0};
		segment_entry(call, segment, &entry);
		uuid_format(engine_segment_uuid(segment), name);
		if (!listing_add(listing, name, &entry, (uint64_t)number + 1))
			return 0;
	}
	return 0;
}

static const struct view view_atoms = {
	.name = "atoms",
	.getattr = atoms_getattr,
	.lookup = atoms_lookup,
	.readdir = atoms_readdir,
	.read_only = true,
};

static int module_atoms_start(struct fs *fs, struct reterr *err, void **ret_state)
{
	struct atom_memo *memo;

	(void)err;
	int r = atom_memo_new(&memo);
	if (r < 0)
		return r;
	*ret_state = memo;
	fs_set_view(fs, NODE_ATOM, &view_atom);
	fs_set_view(fs, NODE_ATOM_JSON, &view_atom_json);
	fs_set_view(fs, NODE_ATOM_FRAME, &view_atom_frame);
	fs_set_face(fs, NODE_FACE_ATOMS, &view_atoms_segment);
	fs_add_fixed(fs, NODE_ATOMS, &view_atoms);
	return 0;
}

static void module_atoms_stop(struct fs *fs, void *state)
{
	(void)fs;
	atom_memo_free(state);
}

const struct module module_atoms = {.start = module_atoms_start, .stop = module_atoms_stop};
