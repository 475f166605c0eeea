/*
 * atoms/in/: what is written to a name here becomes an atom, and the name a link to it.
 *
 * Bytes are staged. Each FLUSH (close(2) of any descriptor) or fsync whose content changed since
 * the last one appends the whole content as an atom, and returns the errors of that; fsync returns
 * when it is durable. Then the name shows a symbolic link to ../<uuid>/<offset>, which is another
 * node: for the kernel the file was replaced. A descriptor that is still open goes on writing to
 * the staged content, and the next FLUSH makes another atom and moves the link. Empty content, as
 * in a shell's FLUSH before the first write, and a file without a name make none.
 *
 * rsync writes to `.<name>.<6 letters or digits>`, closes, sets mode and times of that name, and
 * renames it. Under such a name the file goes on being shown, while its atom is there already; the
 * link appears with the renaming.
 *
 * The format follows the (final) name: *.json is JSON and *.msgpack is MessagePack if the content is
 * one, whole and valid; everything else is raw. A content never makes a write fail.
 */
#include "fs/atoms_in.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/format_check.h"
#include "fs/inbox.h"
#include "fs/view.h"

enum { NAMES_MAX = 32768 };

static struct inbox *inbox_of(const struct fs *fs)
{
	return fs_state(fs, FS_MODULE_ATOMS_IN);
}

/* ---- Links ---------------------------------------------------------------------------------- */

/*
 * What a name shows once its content is an atom. Owner and times: whatever was set last. The mode
 * is that of the file, which the kernel does not look at: tools that compare it with the one that
 * they want need not chmod(2) the name.
 */
struct link {
	struct node node;
	struct engine_pointer pointer; /* fixed before the name shows the link, as is MODE */
	mode_t mode;
	atomic_uint uid, gid;
	atomic_uint_least64_t mtime_ns;
};

static struct link *link_of(struct node *node)
{
	return (struct link *)node;
}

static void link_free(struct node *node)
{
	free(link_of(node));
}

enum { TARGET_SIZE = 3 + UUID_TEXT_LENGTH + 1 + 20 + 1 };

static int link_target(const struct link *link, char target[static TARGET_SIZE])
{
	char uuid[UUID_TEXT_LENGTH + 1];
	return snprintf(target, TARGET_SIZE, "../%s/%" PRIu64,
			uuid_format(&link->pointer.segment, uuid), link->pointer.offset);
}

static int link_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	struct link *link = link_of(call->node);
	char target[TARGET_SIZE];
	(void)handle;
	attr_symlink(call->fs, &ret->attr, call->id, (size_t)link_target(link, target),
		     atomic_load(&link->mtime_ns));
	ret->attr.st_mode = S_IFLNK | link->mode;
	ret->attr.st_uid = atomic_load(&link->uid);
	ret->attr.st_gid = atomic_load(&link->gid);
	ret->attr_timeout = FS_NEVER;
	return 0;
}

/* rsync and cp -P set owner and times of links. */
static int link_setattr(struct call *call, const uint64_t *handle, const struct setting *setting,
			struct entry *ret)
{
	struct link *link = link_of(call->node);
	const struct timespec *time = &setting->attr.st_mtim;
	if (setting->valid & SET_SIZE)
		return -EINVAL;
	if (setting->valid & SET_UID)
		atomic_store(&link->uid, setting->attr.st_uid);
	if (setting->valid & SET_GID)
		atomic_store(&link->gid, setting->attr.st_gid);
	if (setting->valid & SET_MTIME && time->tv_sec >= 0)
		atomic_store(&link->mtime_ns,
			     (uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_nsec);
	return link_getattr(call, handle, ret);
}

static int link_readlink(struct call *call, struct buf *ret)
{
	char target[TARGET_SIZE];
	(void)link_target(link_of(call->node), target);
	return buf_append_text(ret, target);
}

static const struct view view_link = {
	.name = "link to a new atom",
	.getattr = link_getattr,
	.setattr = link_setattr,
	.readlink = link_readlink,
};

/* ---- From content to atom ------------------------------------------------------------------- */

/*
 * If NAME is a temporary one of rsync's, RET is what it will be renamed to; else NAME itself.
 */
static bool is_temporary(const char *name, char ret[static INBOX_NAME_SIZE])
{
	enum { SUFFIX = 7 }; /* a dot and six */
	size_t length = strlen(name);

	(void)snprintf(ret, INBOX_NAME_SIZE, "%s", name);
	if (name[0] != '.' || length < 2 + SUFFIX || name[length - SUFFIX] != '.')
		return false;
	for (size_t i = length - SUFFIX + 1; i < length; i++) {
		if (!isalnum((unsigned char)name[i]))
			return false;
	}
	(void)snprintf(ret, INBOX_NAME_SIZE, "%.*s", (int)(length - SUFFIX - 1), name + 1);
	return true;
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), end_length = strlen(end);
	return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* The source of engine_append_from() and format_check(): the staged bytes. */
static int content_source(void *arg, void *data, size_t size, uint64_t offset)
{
	struct blob *content = arg;
	for (size_t done = 0, n; done < size; done += n) {
		int r = blob_read(content, (uint8_t *)data + done, size - done, offset + done, &n);
		if (r < 0)
			return r;
		if (n == 0)
			return -EIO; /* shorter than it was */
	}
	return 0;
}

/* Whether CONTENT is a whole value of FORMAT. With the turn held. */
static bool content_is(struct blob *content, uint8_t format)
{
	return format_check(format, content->size, content_source, content) == 0;
}

static uint8_t format_for(const char *name, struct blob *content)
{
	if (ends_with(name, ".json") && content_is(content, ENGINE_FORMAT_JSON))
		return ENGINE_FORMAT_JSON;
	if (ends_with(name, ".msgpack") && content_is(content, ENGINE_FORMAT_MSGPACK))
		return ENGINE_FORMAT_MSGPACK;
	return ENGINE_FORMAT_RAW;
}

/* The node that the name will show: made first, so that nothing can fail once there is an atom. */
MUST_CHECK static int link_new(struct fs *fs, struct inbox_file *file, struct link **ret)
{
	struct stat attr;
	struct link *link = calloc(1, sizeof(*link));
	if (!link)
		return -ENOMEM;
	inbox_file_attr(file, &attr);
	link->mode = attr.st_mode & 0777;
	link->uid = attr.st_uid;
	link->gid = attr.st_gid;
	link->mtime_ns =
		(uint64_t)attr.st_mtim.tv_sec * 1000000000 + (uint64_t)attr.st_mtim.tv_nsec;
	int r = node_add(fs_nodes(fs), &link->node, &view_link, link_free);
	if (r < 0) {
		free(link);
		return r;
	}
	*ret = link;
	return 0;
}

/* Lets the name of FILE show its atom by LINK, whose reference is taken. With the turn held. */
static void show_link(struct call *call, struct inbox_file *file, struct link *link)
{
	link->pointer = file->pointer;
	if (!inbox_replace(file, &link->node))
		node_unref(fs_nodes(call->fs), &link->node, 1); /* unlinked meanwhile */
}

/* Appends the content as it is now, and lets the name show the atom. With the turn held. */
MUST_CHECK static int make_atom(struct call *call, struct inbox_file *file, const char *name)
{
	char final[INBOX_NAME_SIZE];
	struct link *link = NULL;
	bool temporary = is_temporary(name, final);
	uint64_t size = file->content.size;

	int r = temporary ? 0 : link_new(call->fs, file, &link);
	if (r < 0)
		return r;
	r = engine_append_from(call->engine, ENGINE_CLASS_LOG, format_for(final, &file->content),
			       size, content_source, &file->content, &file->pointer);
	if (r < 0) {
		if (link)
			node_unref(fs_nodes(call->fs), &link->node, 1);
		return reterr_set(&call->err, r,
				  "atoms/in/%s: its %" PRIu64 " bytes cannot be appended: %s", name,
				  size, strerror(-r));
	}
	file->frame_size = ENGINE_FRAME_HEADER_SIZE + size;
	file->has_pointer = true;
	file->settled = file->changes;
	if (link)
		show_link(call, file, link);
	return 0;
}

/* With the turn held. */
MUST_CHECK static int settle(struct call *call, struct inbox_file *file)
{
	char name[INBOX_NAME_SIZE];
	if (file->settled == file->changes)
		return 0;
	/* Nobody could ever find the atom of an unlinked file. */
	if (file->content.size == 0 || inbox_file_name(file, name) < 0) {
		file->has_pointer = false;
		file->settled = file->changes;
		return 0;
	}
	return make_atom(call, file, name);
}

static int file_flush(struct call *call, uint64_t handle)
{
	struct inbox_file *file = inbox_file_of(call->node);
	(void)handle;
	call_block(call);
	pthread_mutex_lock(&file->turn);
	int r = settle(call, file);
	pthread_mutex_unlock(&file->turn);
	return r;
}

static int file_fsync(struct call *call, uint64_t handle)
{
	struct inbox_file *file = inbox_file_of(call->node);
	(void)handle;
	call_block(call);
	pthread_mutex_lock(&file->turn);
	int r = settle(call, file);
	bool has_pointer = file->has_pointer;
	struct engine_pointer pointer = file->pointer;
	uint64_t end = pointer.offset + file->frame_size;
	pthread_mutex_unlock(&file->turn);
	if (r < 0 || !has_pointer)
		return r;

	struct engine_position position = {
		.segment = engine_segment_find(call->engine, &pointer.segment),
		.length = end,
	};
	if (!position.segment)
		return -EIO;
	return engine_commit(call->engine, &position, 1, &call->err);
}

/*
 * The staged bytes go as soon as nobody can read or write them any more; the kernel may remember
 * the node much longer.
 */
static void file_release(struct call *call, uint64_t handle, int flags)
{
	struct inbox_file *file = inbox_file_of(call->node);
	(void)handle;
	if (inbox_file_release(file, flags) > 0 || inbox_file_shown(file))
		return;
	call_block(call);
	pthread_mutex_lock(&file->turn);
	blob_done(&file->content);
	pthread_mutex_unlock(&file->turn);
}

static const struct view view_file = {
	.name = "new atom",
	.getattr = inbox_file_getattr,
	.setattr = inbox_file_setattr,
	.open = inbox_file_open,
	.read = inbox_file_read,
	.write = inbox_file_write,
	.flush = file_flush,
	.fsync = file_fsync,
	.release = file_release,
};

/* ---- The directory -------------------------------------------------------------------------- */

static bool has_pointer(const struct node *node, const void *arg)
{
	const struct engine_pointer *pointer = arg;
	if (node->view != &view_link)
		return false;
	const struct link *link = (const struct link *)node;
	return link->pointer.offset == pointer->offset &&
	       uuid_equal(&link->pointer.segment, &pointer->segment);
}

bool atoms_in_has(struct fs *fs, const struct engine_pointer *pointer)
{
	return inbox_any(inbox_of(fs), has_pointer, pointer);
}

static int in_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	return inbox_getattr(call, inbox_of(call->fs), ret);
}

static int in_setattr(struct call *call, const uint64_t *handle, const struct setting *setting,
		      struct entry *ret)
{
	(void)handle;
	return inbox_setattr(call, inbox_of(call->fs), setting, ret);
}

static int in_lookup(struct call *call, const char *name, struct entry *ret)
{
	return inbox_lookup(call, inbox_of(call->fs), name, ret);
}

static int in_readdir(struct call *call, uint64_t handle, uint64_t offset, struct listing *listing)
{
	(void)handle;
	return inbox_readdir(call, inbox_of(call->fs), offset, listing);
}

static int in_create(struct call *call, const char *name, mode_t mode, int flags, struct entry *ret,
		     struct opened *ret_opened)
{
	return inbox_create(call, inbox_of(call->fs), name, mode, flags, ret, ret_opened);
}

static int in_unlink(struct call *call, const char *name)
{
	return inbox_unlink(call, inbox_of(call->fs), name);
}

/* The link that a temporary name did not become. */
MUST_CHECK static int renamed(struct call *call, struct inbox_file *file)
{
	char name[INBOX_NAME_SIZE], final[INBOX_NAME_SIZE];
	struct link *link;
	int r = 0;

	call_block(call);
	pthread_mutex_lock(&file->turn);
	if (file->has_pointer && file->settled == file->changes && inbox_file_shown(file) &&
	    inbox_file_name(file, name) == 0 && !is_temporary(name, final)) {
		r = link_new(call->fs, file, &link);
		if (r == 0)
			show_link(call, file, link);
		if (r == 0 && inbox_file_opens(file) == 0)
			blob_done(&file->content);
	}
	pthread_mutex_unlock(&file->turn);
	return r;
}

static int in_rename(struct call *call, const char *from, const char *to, unsigned flags)
{
	struct inbox *box = inbox_of(call->fs);
	int r = inbox_rename(call, box, from, to, flags);
	struct node *node = r == 0 ? inbox_find(box, to) : NULL;
	if (!node)
		return r;
	if (node->view == &view_file)
		r = renamed(call, inbox_file_of(node));
	node_unref(fs_nodes(call->fs), node, 1);
	return r;
}

static const struct view view_in = {
	.name = "atoms/in",
	.getattr = in_getattr,
	.setattr = in_setattr,
	.lookup = in_lookup,
	.readdir = in_readdir,
	.create = in_create,
	.unlink = in_unlink,
	.rename = in_rename,
};

static int module_atoms_in_start(struct fs *fs, struct reterr *err, void **ret_state)
{
	const struct inbox_options options = {
		.file = &view_file,
		.names_max = NAMES_MAX,
		.size_max = fs_options(fs)->blob_size_max,
		.mode = 01733,
	};
	struct inbox *box;
	int r = inbox_new(fs, &options, &box);
	if (r < 0)
		return reterr_set(err, r, "cannot make atoms/in");
	fs_add_fixed(fs, NODE_ATOMS_IN, &view_in);
	*ret_state = box;
	return 0;
}

static void module_atoms_in_stop(struct fs *fs, void *state)
{
	(void)fs;
	inbox_free(state);
}

const struct module module_atoms_in = {.start = module_atoms_in_start,
				       .stop = module_atoms_in_stop};
