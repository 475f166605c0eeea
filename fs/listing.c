#include "fs/listing.h"

/* Positions 1 and 2 are behind "." and "..": those of views follow. */
enum { LISTING_DOTS = 2 };

static bool listing_put(struct listing *listing, const char *name, const struct entry *entry,
			uint64_t next)
{
	char *to = listing->data + listing->used;
	size_t room = listing->size - listing->used;
	size_t needed;

	if (listing->plus) {
		struct fuse_entry_param param = {
			.ino = entry->id,
			.attr = entry->attr,
			.attr_timeout = entry->attr_timeout,
			.entry_timeout = entry->entry_timeout,
		};
		needed = fuse_add_direntry_plus(listing->req, to, room, name, &param, (off_t)next);
	} else {
		needed = fuse_add_direntry(listing->req, to, room, name, &entry->attr, (off_t)next);
	}
	if (needed > room)
		return false;
	listing->used += needed;
	return true;
}

uint64_t listing_begin(struct listing *listing, uint64_t id, uint64_t offset)
{
	static const char *const dots[LISTING_DOTS] = {".", ".."};

	for (; offset < LISTING_DOTS; offset++) {
		/* Without a node id: the kernel knows these two. */
		struct entry entry = {
			.attr = {.st_ino = offset == 0 ? id : NODE_TOP, .st_mode = S_IFDIR}};
		if (!listing_put(listing, dots[offset], &entry, offset + 1))
			break;
	}
	return offset - LISTING_DOTS;
}

bool listing_add(struct listing *listing, const char *name, const struct entry *entry,
		 uint64_t next)
{
	struct node *node = NULL;
	if (listing->plus && node_kind(entry->id) == NODE_ALLOCATED &&
	    entry->id >= NODE_FIXED_MAX) {
		if (listing->node_count == LISTING_NODES_MAX)
			return false;
		node = node_get(listing->fs->nodes, entry->id);
	}
	struct entry plain = *entry;
	plain.attr.st_ino = entry->id;
	if (!listing_put(listing, name, &plain, next + LISTING_DOTS)) {
		if (node)
			node_unref(listing->fs->nodes, node, 1);
		return false;
	}
	if (node)
		listing->nodes[listing->node_count++] = node;
	return true;
}

bool listing_wants_attr(const struct listing *listing)
{
	return listing->plus;
}

void listing_undo(struct listing *listing)
{
	for (size_t i = 0; i < listing->node_count; i++)
		node_unref(listing->fs->nodes, listing->nodes[i], 1);
	listing->node_count = 0;
}
