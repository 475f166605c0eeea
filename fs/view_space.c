/* space/: the directory that ProtoDB works in. Which name is what, and its listing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/segment_file.h"
#include "fs/space.h"

/* ---- Names ----------------------------------------------------------------------------------- */

static const char root_name[] = "space_root";
static const char lock_name[] = "space_root.lock";

enum { UUID_HEX_DIGITS = 32 };

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* 32 hex digits, with hyphens wherever: what a client may take for a segment. */
static bool name_looks_like_uuid(const char *name)
{
	size_t digits = 0;
	for (; *name; name++) {
		if (is_hex(*name))
			digits++;
		else if (*name != '-')
			return false;
	}
	return digits == UUID_HEX_DIGITS;
}

enum space_name space_name_of(const char *name, struct uuid *ret_uuid)
{
	if (strcmp(name, root_name) == 0)
		return SPACE_NAME_ROOT;
	if (strcmp(name, lock_name) == 0)
		return SPACE_NAME_LOCK;
	if (uuid_parse(name, ret_uuid) == 0)
		return SPACE_NAME_SEGMENT;
	return name_looks_like_uuid(name) ? SPACE_NAME_REFUSED : SPACE_NAME_FILE;
}

static int name_check(const char *name)
{
	return strlen(name) > SMALL_FILE_NAME_MAX ? -ENAMETOOLONG : 0;
}

/* ---- The directory --------------------------------------------------------------------------- */

static int space_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	struct space *space = space_of(call);
	attr_directory(call->fs, &ret->attr, call->id, 0755, 0);
	pthread_mutex_lock(&space->lock);
	uint64_t changed_ns = space->changed_ns;
	pthread_mutex_unlock(&space->lock);
	if (changed_ns > 0) {
		ret->attr.st_mtim.tv_sec = (time_t)(changed_ns / 1000000000);
		ret->attr.st_mtim.tv_nsec = (long)(changed_ns % 1000000000);
		ret->attr.st_ctim = ret->attr.st_mtim;
	}
	ret->attr_timeout = FS_FOREVER;
	return 0;
}

/* Releases the reference of FILE. */
static void entry_of_file(struct call *call, struct small_file *file, struct entry *ret)
{
	small_file_entry(call, file, ret);
	/*
	 * Ours goes, but the name's keeps it until the reply; and if another thread takes the name
	 * away in between, the kernel gets ESTALE for the node and looks again.
	 */
	node_unref(fs_nodes(call->fs), &file->node, 1);
}

/*
 * Which file a change that cannot be read was about, nobody knows: of a name that is not there it
 * cannot be said that it never was. What happened was reported when the changes were read.
 */
static int small_file_missing(struct space *space, const char *name)
{
	if (small_file_name_is_temporary(name))
		return -ENOENT;
	pthread_mutex_lock(&space->lock);
	bool damaged = space->damaged;
	pthread_mutex_unlock(&space->lock);
	return damaged ? -EIO : -ENOENT;
}

static int space_lookup(struct call *call, const char *name, struct entry *ret)
{
	struct uuid uuid;
	struct small_file *file = NULL;
	int r = 0;

	switch (space_name_of(name, &uuid)) {
	case SPACE_NAME_SEGMENT:
		return space_segment_lookup(call, &uuid, ret);
	case SPACE_NAME_LOCK:
		return fs_entry_of(call, NODE_ROOT_LOCK, ret);
	case SPACE_NAME_ROOT:
		r = space_root_file(call, &file);
		break;
	case SPACE_NAME_FILE:
		file = small_file_get(space_of(call), name);
		if (!file)
			r = small_file_missing(space_of(call), name);
		break;
	case SPACE_NAME_REFUSED:
		break;
	}
	if (r < 0 || !file)
		return r < 0 ? r : -ENOENT;
	entry_of_file(call, file, ret);
	return 0;
}

/* Passes R on; a success has changed the directory. */
static int space_changed(struct call *call, int r)
{
	if (r == 0)
		space_touch(space_of(call));
	return r;
}

static int space_create_any(struct call *call, const char *name, mode_t mode, int flags,
			    struct entry *ret, struct opened *ret_opened)
{
	struct uuid uuid;
	int r = name_check(name);
	if (r < 0)
		return r;
	switch (space_name_of(name, &uuid)) {
	case SPACE_NAME_SEGMENT:
		return space_segment_create(call, &uuid, flags, ret, ret_opened);
	case SPACE_NAME_ROOT:
		return reterr_set(&call->err, -EPERM,
				  "space_root is not written: rename a file over it, or use "
				  "`protofs root set`");
	case SPACE_NAME_REFUSED:
		return -EINVAL;
	case SPACE_NAME_LOCK: /* it is there already */
		return -EEXIST;
	case SPACE_NAME_FILE:
		break;
	}
	return small_file_create(call, name, mode, ret, ret_opened);
}

static int space_create(struct call *call, const char *name, mode_t mode, int flags,
			struct entry *ret, struct opened *ret_opened)
{
	int r = space_create_any(call, name, mode, flags, ret, ret_opened);
	return space_changed(call, r);
}

static int space_mknod(struct call *call, const char *name, mode_t mode, struct entry *ret)
{
	return space_changed(call, space_create_any(call, name, mode, 0, ret, NULL));
}

static int space_unlink_any(struct call *call, const char *name)
{
	struct uuid uuid;
	switch (space_name_of(name, &uuid)) {
	case SPACE_NAME_SEGMENT:
		return space_segment_unlink(call, &uuid);
	case SPACE_NAME_ROOT:
	case SPACE_NAME_LOCK:
		return -EPERM;
	case SPACE_NAME_REFUSED:
		return -ENOENT;
	case SPACE_NAME_FILE:
		break;
	}
	return small_file_unlink(call, name);
}

static int space_unlink(struct call *call, const char *name)
{
	return space_changed(call, space_unlink_any(call, name));
}

/* The rename of a file over space_root. */
static int space_publish(struct call *call, const char *from, unsigned flags)
{
	struct space *space = space_of(call);
	struct small_file *root = NULL;
	int r = 0;

	if (flags & RENAME_NOREPLACE) {
		r = space_root_file(call, &root);
		if (r == 0)
			node_unref(fs_nodes(call->fs), &root->node, 1);
		if (r != -ENOENT)
			return r < 0 ? r : -EEXIST;
	}
	struct small_file *file = small_file_get(space, from);
	if (!file)
		return -ENOENT;
	call_leave(call);
	r = space_root_publish(call, file);
	if (r == 0)
		r = small_file_unlink(call, from);
	node_unref(fs_nodes(call->fs), &file->node, 1);
	return r;
}

static int space_rename_any(struct call *call, const char *from, const char *to, unsigned flags)
{
	struct uuid uuid;
	int r = name_check(to);
	if (r < 0)
		return r;
	if (flags & ~(unsigned)RENAME_NOREPLACE)
		return -EINVAL;
	/* Segments, the root and the lock keep their names. */
	if (space_name_of(from, &uuid) != SPACE_NAME_FILE)
		return -EPERM;
	switch (space_name_of(to, &uuid)) {
	case SPACE_NAME_ROOT:
		return space_publish(call, from, flags);
	case SPACE_NAME_SEGMENT:
	case SPACE_NAME_LOCK:
		return -EPERM;
	case SPACE_NAME_REFUSED:
		return -EINVAL;
	case SPACE_NAME_FILE:
		break;
	}
	return small_file_rename(call, from, to, flags);
}

static int space_rename(struct call *call, const char *from, const char *to, unsigned flags)
{
	return space_changed(call, space_rename_any(call, from, to, flags));
}

static int space_fsyncdir(struct call *call)
{
	struct space *space = space_of(call);

	/* A root is durable when its rename returns, a segment with its first byte. */
	if (!space_log_is_pending(space))
		return 0;
	call_block(call);
	return space_log_commit(space, &call->err);
}

/* ---- The listing ----------------------------------------------------------------------------- */

/*
 * Positions: 1 behind the lock, 2 behind the root; then segments by number, then files by the order
 * of their creation.
 */
enum { POSITION_LOCK = 1, POSITION_ROOT = 2 };
#define POSITION_SEGMENTS ((uint64_t)1 << 32)
#define POSITION_FILES ((uint64_t)1 << 40)

static bool list_root(struct call *call, struct listing *listing)
{
	struct small_file *file;
	struct entry entry;
	if (space_root_file(call, &file) < 0)
		return true;
	entry_of_file(call, file, &entry);
	return listing_add(listing, root_name, &entry, POSITION_ROOT);
}

static bool list_segments(struct call *call, uint32_t after, struct listing *listing)
{
	struct engine_segment *segment;
	while ((segment = engine_segment_next(call->engine, after)) != NULL) {
		char name[UUID_TEXT_LENGTH + 1];
		struct engine_segment_info info;
		struct entry entry;
		engine_segment_info(call->engine, segment, &info);
		after = info.number;
		if (!space_segment_is_listed(&info))
			continue;
		space_segment_entry(call, &info, &entry);
		uuid_format(&info.uuid, name);
		if (!listing_add(listing, name, &entry, POSITION_SEGMENTS + info.number))
			return false;
	}
	return true;
}

/* The first linked file at or behind ORDER, with its name and a reference. */
static struct small_file *file_from(struct space *space, uint64_t order,
				    char name[static SMALL_FILE_NAME_MAX + 1])
{
	pthread_mutex_lock(&space->lock);
	struct small_file *file = space->files;
	while (file && !(file->linked && file->order >= order))
		file = file->next;
	if (file) {
		strcpy(name, file->name);
		node_ref(&file->node, 1);
	}
	pthread_mutex_unlock(&space->lock);
	return file;
}

static void list_files(struct call *call, uint64_t order, struct listing *listing)
{
	struct space *space = space_of(call);
	char name[SMALL_FILE_NAME_MAX + 1];
	struct small_file *file;
	bool added = true;

	while (added && (file = file_from(space, order, name)) != NULL) {
		struct entry entry;
		order = file->order + 1;
		small_file_entry(call, file, &entry);
		added = listing_add(listing, name, &entry, POSITION_FILES + order);
		node_unref(fs_nodes(call->fs), &file->node, 1);
	}
}

static int space_readdir(struct call *call, uint64_t handle, uint64_t offset,
			 struct listing *listing)
{
	(void)handle;
	if (offset < POSITION_LOCK) {
		struct entry entry;
		int r = fs_entry_of(call, NODE_ROOT_LOCK, &entry);
		if (r < 0 || !listing_add(listing, lock_name, &entry, POSITION_LOCK))
			return r;
	}
	if (offset < POSITION_ROOT && !list_root(call, listing))
		return 0;
	if (offset < POSITION_FILES) {
		uint32_t after = offset > POSITION_SEGMENTS ? (uint32_t)(offset - POSITION_SEGMENTS)
							    : 0;
		if (!list_segments(call, after, listing))
			return 0;
	}
	list_files(call, offset > POSITION_FILES ? offset - POSITION_FILES : 0, listing);
	return 0;
}

static const struct view view_space = {
	.name = "space/",
	.getattr = space_getattr,
	.lookup = space_lookup,
	.readdir = space_readdir,
	.fsyncdir = space_fsyncdir,
	.create = space_create,
	.mknod = space_mknod,
	.unlink = space_unlink,
	.rename = space_rename,
};

/* ---- The module ------------------------------------------------------------------------------ */

static int space_start(struct fs *fs, struct reterr *err, void **ret_state)
{
	struct space *space = calloc(1, sizeof(*space));
	if (!space)
		return -ENOMEM;
	space->fs = fs;
	space->engine = fs_engine(fs);
	space->next_seq = 1;
	pthread_mutex_init(&space->change, NULL);
	pthread_mutex_init(&space->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&space->flusher_wake, &attr);
	pthread_condattr_destroy(&attr);
	/* From here on space_stop() cleans up. */
	*ret_state = space;

	int r = space_replay(space, err);
	if (r == 0)
		r = space_flusher_start(space);
	fs_add_fixed(fs, NODE_SPACE, &view_space);
	fs_add_fixed(fs, NODE_ROOT_LOCK, &view_space_lock);
	fs_set_face(fs, NODE_FACE_SPACE, &view_space_segment);
	return r;
}

static void space_stop(struct fs *fs, void *state)
{
	(void)fs;
	struct space *space = state;

	space_flusher_stop(space);
	/* The nodes outlive us, until the table goes. */
	for (struct small_file *file = space->files; file; file = file->next)
		file->space = NULL;
	pthread_cond_destroy(&space->flusher_wake);
	pthread_mutex_destroy(&space->lock);
	pthread_mutex_destroy(&space->change);
	free(space);
}

const struct module module_space = {.start = space_start, .stop = space_stop};
