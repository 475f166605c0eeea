/* wal/: every segment, its bytes exactly, and beside each its sums. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/segment_file.h"
#include "fs/wal_sum.h"

static const char wal_sum_suffix[] = ".sum";

enum { WAL_NAME_SIZE = UUID_TEXT_LENGTH + sizeof(wal_sum_suffix) };

/* ---- The files ------------------------------------------------------------------------------- */

static int wal_file_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	struct engine_segment *segment = call_segment(call);
	struct engine_segment_info info;
	if (!segment)
		return -ESTALE;
	engine_segment_info(call->engine, segment, &info);
	segment_file_attr(call, &info, 0444, ret);
	return 0;
}

static int wal_file_open(struct call *call, int flags, struct opened *ret)
{
	(void)flags;
	struct engine_segment *segment = call_segment(call);
	struct engine_segment_info info;
	if (!segment)
		return -ESTALE;
	engine_segment_info(call->engine, segment, &info);
	segment_file_open(&info, ret);
	return 0;
}

static const struct view view_wal_file = {
	.name = "wal/<uuid>",
	.getattr = wal_file_getattr,
	.open = wal_file_open,
	.read = segment_file_view_read,
	.getxattr = segment_file_getxattr,
	.listxattr = segment_file_listxattr,
	.read_only = true,
};

/* ---- The directory --------------------------------------------------------------------------- */

static void wal_entry(struct call *call, const struct engine_segment_info *info,
		      enum node_face face, struct entry *ret)
{
	*ret = (struct entry){.id = node_make(NODE_SEGMENT, info->number, face)};
	if (face == NODE_FACE_SUM)
		wal_sum_attr(call, info, ret);
	else
		segment_file_attr(call, info, 0444, ret);
}

/* What a name in wal/ means: -ENOENT if it is of no form that is there. */
static int wal_name_parse(const char *name, struct uuid *ret_uuid, enum node_face *ret_face)
{
	char text[UUID_TEXT_LENGTH + 1];
	size_t length = strlen(name);

	*ret_face = NODE_FACE_WAL;
	if (length == UUID_TEXT_LENGTH + strlen(wal_sum_suffix) &&
	    strcmp(name + UUID_TEXT_LENGTH, wal_sum_suffix) == 0)
		*ret_face = NODE_FACE_SUM;
	else if (length != UUID_TEXT_LENGTH)
		return -ENOENT;
	memcpy(text, name, UUID_TEXT_LENGTH);
	text[UUID_TEXT_LENGTH] = '\0';
	return uuid_parse(text, ret_uuid) < 0 ? -ENOENT : 0;
}

static bool wal_has_in(const struct call *call)
{
	return node_get(fs_nodes(call->fs), NODE_WAL_IN) != NULL;
}

static int wal_lookup(struct call *call, const char *name, struct entry *ret)
{
	struct engine_segment_info info;
	enum node_face face;
	struct uuid uuid;

	if (strcmp(name, "in") == 0 && wal_has_in(call))
		return fs_entry_of(call, NODE_WAL_IN, ret);
	if (wal_name_parse(name, &uuid, &face) < 0)
		return -ENOENT;
	struct engine_segment *segment = engine_segment_find(call->engine, &uuid);
	if (!segment)
		return -ENOENT;
	engine_segment_info(call->engine, segment, &info);
	if (info.state == ENGINE_SEGMENT_VOLATILE)
		return -ENOENT; /* it is not there yet: nothing of it is on disk */
	wal_entry(call, &info, face, ret);
	return 0;
}

static int wal_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	attr_directory(call->fs, &ret->attr, call->id, 0755, wal_has_in(call) ? 1 : 0);
	ret->attr_timeout = FS_FOREVER;
	return 0;
}

/* Both files of a segment, the first one only if WITH_FIRST. False: no more room. */
static bool wal_list_segment(struct call *call, const struct engine_segment_info *info,
			     bool with_first, struct listing *listing)
{
	struct entry entry;
	char name[WAL_NAME_SIZE];

	uuid_format(&info->uuid, name);
	wal_entry(call, info, NODE_FACE_WAL, &entry);
	if (with_first && !listing_add(listing, name, &entry, (uint64_t)info->number * 2))
		return false;
	strcat(name, wal_sum_suffix);
	wal_entry(call, info, NODE_FACE_SUM, &entry);
	return listing_add(listing, name, &entry, (uint64_t)info->number * 2 + 1);
}

/*
 * Positions: 1 behind "in"; 2n behind segment n, 2n + 1 behind its sums. Numbers begin at 1 and
 * only grow, so a listing that goes on while segments come misses none that was there.
 */
static int wal_readdir(struct call *call, uint64_t handle, uint64_t offset, struct listing *listing)
{
	(void)handle;
	if (offset == 0 && wal_has_in(call)) {
		struct entry entry;
		int r = fs_entry_of(call, NODE_WAL_IN, &entry);
		if (r < 0)
			return r;
		if (!listing_add(listing, "in", &entry, 1))
			return 0;
	}
	uint32_t after = (uint32_t)(offset / 2);
	bool half = offset >= 2 && offset % 2 == 0;
	if (half)
		after--;

	struct engine_segment *segment;
	while ((segment = engine_segment_next(call->engine, after)) != NULL) {
		struct engine_segment_info info;
		engine_segment_info(call->engine, segment, &info);
		bool first = !(half && info.number == after + 1);
		after = info.number;
		half = false;
		if (info.state != ENGINE_SEGMENT_VOLATILE &&
		    !wal_list_segment(call, &info, first, listing))
			break;
	}
	return 0;
}

static const struct view view_wal = {
	.name = "wal/",
	.getattr = wal_getattr,
	.lookup = wal_lookup,
	.readdir = wal_readdir,
	.read_only = true,
};

/* ---- The module ------------------------------------------------------------------------------ */

static int wal_start(struct fs *fs, struct reterr *err, void **ret_state)
{
	(void)err;
	struct wal_sums *sums;
	int r = wal_sums_new(&sums);
	if (r < 0)
		return r;
	fs_add_fixed(fs, NODE_WAL, &view_wal);
	fs_set_face(fs, NODE_FACE_WAL, &view_wal_file);
	fs_set_face(fs, NODE_FACE_SUM, &view_wal_sum);
	*ret_state = sums;
	return 0;
}

static void wal_stop(struct fs *fs, void *state)
{
	(void)fs;
	wal_sums_free(state);
}

const struct module module_wal = {.start = wal_start, .stop = wal_stop};
