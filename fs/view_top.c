/* The mount's top directory: one directory for each module that has one. */
#include <errno.h>
#include <string.h>

#include "fs/core.h"

static const struct top_name {
	const char *name;
	enum node_fixed id;
} top_names[] = {
	{"space", NODE_SPACE}, {"wal", NODE_WAL},  {"atoms", NODE_ATOMS},
	{"roots", NODE_ROOTS}, {".ctl", NODE_CTL},
};

static bool top_has(const struct fs *fs, const struct top_name *entry)
{
	return node_get(fs->nodes, entry->id) != NULL;
}

static int top_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	unsigned subdirectories = 0;
	for (size_t i = 0; i < ARRAY_SIZE(top_names); i++)
		subdirectories += top_has(call->fs, &top_names[i]) ? 1 : 0;
	attr_directory(call->fs, &ret->attr, call->id, 0755, subdirectories);
	ret->attr_timeout = FS_FOREVER;
	return 0;
}

static int top_lookup(struct call *call, const char *name, struct entry *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(top_names); i++) {
		const struct top_name *entry = &top_names[i];
		if (strcmp(entry->name, name) == 0 && top_has(call->fs, entry))
			return fs_entry_of(call, entry->id, ret);
	}
	/* No name will ever be added. */
	*ret = (struct entry){.id = 0, .entry_timeout = FS_FOREVER};
	return 0;
}

static int top_readdir(struct call *call, uint64_t handle, uint64_t offset, struct listing *listing)
{
	(void)handle;
	for (uint64_t i = offset; i < ARRAY_SIZE(top_names); i++) {
		struct entry entry;
		if (!top_has(call->fs, &top_names[i]))
			continue;
		int r = fs_entry_of(call, top_names[i].id, &entry);
		if (r < 0)
			return r;
		if (!listing_add(listing, top_names[i].name, &entry, i + 1))
			break;
	}
	return 0;
}

static int top_opendir(struct call *call, struct opened *ret)
{
	(void)call;
	ret->keep_cache = true;
	ret->cache_readdir = true;
	return 0;
}

static const struct view view_top = {
	.name = "the top directory",
	.getattr = top_getattr,
	.lookup = top_lookup,
	.opendir = top_opendir,
	.readdir = top_readdir,
	.read_only = true,
};

static int top_start(struct fs *fs, struct reterr *err, void **ret_state)
{
	(void)err;
	(void)ret_state;
	fs_add_fixed(fs, NODE_TOP, &view_top);
	return 0;
}

const struct module module_top = {.start = top_start};
