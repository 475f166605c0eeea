/*
 * space/space_root. Every root that was shown is a file of its own that never changes: a reader
 * keeps what it opened, and the kernel may keep its bytes. Which one the name leads to is decided
 * at each lookup.
 */
#include <errno.h>
#include <string.h>

#include "fs/core.h"
#include "fs/flock.h"
#include "fs/root_json.h"
#include "fs/space.h"
#include "fs/xattr.h"

/* The root that space_root shows: one that is held until its bytes come is newer than all others. */
static int root_newest(struct space *space, struct engine_root *ret)
{
	int r = engine_root_dangling(space->engine, ret);
	return r == -ENOENT ? engine_root_current(space->engine, ret) : r;
}

/* The newest root as a file's bytes: the publisher's own, or ours if it gave none. */
static int root_text(struct space *space, struct buf *ret, uint64_t *ret_time_ns)
{
	struct engine_root root;
	int r = root_newest(space, &root);
	if (r < 0)
		return r;
	*ret_time_ns = root.time_ns;
	return root.payload_size > 0 ? buf_append(ret, root.payload, root.payload_size)
				     : root_json_print(&root.pointer, ret);
}

/* With the lock held: gives up the root that is shown for FILE, whose reference it takes. */
static struct small_file *root_replace(struct space *space, struct small_file *file)
{
	struct small_file *old = space->root;
	file->frozen = true;
	file->dirty = false;
	space->root = file;
	return old;
}

/* The shown root with a new reference, if it holds exactly TEXT. */
static struct small_file *root_get(struct space *space, const struct buf *text)
{
	pthread_mutex_lock(&space->lock);
	struct small_file *file = space->root;
	if (file &&
	    (file->size != text->size || memcmp(file->bytes.data, text->data, text->size) != 0))
		file = NULL;
	if (file)
		node_ref(&file->node, 1);
	pthread_mutex_unlock(&space->lock);
	return file;
}

static int root_file_new(struct space *space, const struct buf *text, uint64_t time_ns,
			 struct small_file **ret)
{
	struct small_file *file;
	int r = small_file_new(space, 0644, &file);
	if (r < 0)
		return r;
	pthread_mutex_lock(&space->lock);
	r = buf_append(&file->bytes, text->data, text->size);
	struct small_file *old = NULL;
	if (r == 0) {
		file->size = text->size;
		file->mtime_ns = (int64_t)time_ns;
		space->loaded_size += text->size;
		node_ref(&file->node, 1);
		old = root_replace(space, file);
	}
	pthread_mutex_unlock(&space->lock);
	if (old)
		node_unref(fs_nodes(space->fs), &old->node, 1);
	if (r < 0)
		node_unref(fs_nodes(space->fs), &file->node, 1);
	else
		*ret = file;
	return r;
}

int space_root_file(struct call *call, struct small_file **ret)
{
	struct space *space = space_of(call);
	CLEANUP(buf_done) struct buf text = {.max = ROOT_JSON_SIZE_MAX};
	uint64_t time_ns = 0;

	int r = root_text(space, &text, &time_ns);
	if (r < 0)
		return r;
	*ret = root_get(space, &text);
	return *ret ? 0 : root_file_new(space, &text, time_ns, ret);
}

static int root_fence(struct call *call)
{
	pid_t process;
	if (!fs_options(call->fs)->fence_root)
		return 0;
	if (call_process(call, &process) == 0 &&
	    flock_is_held(call->fs->flocks, NODE_ROOT_LOCK, process))
		return 0;
	return reterr_set(&call->err, -EPERM,
			  "process %d publishes a root without holding space_root.lock, which "
			  "fence_root asks for",
			  (int)call->pid);
}

int space_root_publish(struct call *call, struct small_file *file)
{
	struct space *space = file->space;
	uint8_t text[ROOT_JSON_SIZE_MAX + 1];
	CLEANUP(buf_done) struct buf bytes = {.max = SMALL_FILE_SIZE_MAX};
	size_t size = 0;
	struct engine_pointer pointer;

	int r = root_fence(call);
	if (r == 0)
		r = small_file_read(file, text, sizeof(text), 0, &size, &call->err);
	if (r == 0)
		r = root_json_parse((struct slice){.data = text, .size = size}, &pointer,
				    &call->err);
	if (r == 0)
		r = buf_append(&bytes, text, size);
	/*
	 * The base is whatever is current now: POSIX gives a rename no other, and the lock orders
	 * clients. 1 is a dangling root, which is shown as well.
	 */
	if (r == 0)
		r = engine_root_publish(call->engine, ENGINE_ROOT_EXPECT_ANY, &pointer, text, size,
					NULL, &call->err);
	if (r < 0)
		return r;

	pthread_mutex_lock(&space->lock);
	node_ref(&file->node, 1);
	/* A file that was kept is in a segment, perhaps, which may go: a root's text stays here. */
	if (!file->loaded) {
		file->bytes = bytes;
		file->loaded = true;
		file->size = size;
		space->loaded_size += size;
		bytes = (struct buf){0};
	}
	struct small_file *old = root_replace(space, file);
	pthread_mutex_unlock(&space->lock);
	if (old)
		node_unref(fs_nodes(space->fs), &old->node, 1);
	return 0;
}

static bool root_is_shown(struct small_file *file)
{
	pthread_mutex_lock(&file->space->lock);
	bool shown = file->space->root == file;
	pthread_mutex_unlock(&file->space->lock);
	return shown;
}

int space_root_getxattr(struct call *call, struct small_file *file, const char *name,
			struct buf *ret)
{
	uint8_t text[ROOT_JSON_SIZE_MAX];
	struct engine_root root;
	size_t size = 0;

	if (!root_is_shown(file))
		return -ENODATA;
	int r = root_newest(file->space, &root);
	if (r == 0)
		r = small_file_read(file, text, sizeof(text), 0, &size, &call->err);
	if (r < 0)
		return r;
	return xattr_root(call, &root, (struct slice){.data = text, .size = size}, name, ret);
}

int space_root_listxattr(struct small_file *file, struct buf *ret)
{
	return root_is_shown(file) ? xattr_root_list(ret) : 0;
}
