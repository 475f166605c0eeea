/* Files of an inbox: their content and attributes while they are written. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "fs/inbox_impl.h"

static bool writes(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

static uint64_t now_ns(void)
{
	return clock_system()->wall_ns(clock_system());
}

uint64_t inbox_ns_of(const struct timespec *time)
{
	if (time->tv_sec < 0)
		return 0;
	return (uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_nsec;
}

/* After the last reference. */
static void file_free(struct node *node)
{
	struct inbox_file *file = inbox_file_of(node);
	pthread_mutex_lock(&file->box->lock);
	if (file->name)
		inbox_name_set_file(file->name, NULL);
	pthread_mutex_unlock(&file->box->lock);
	blob_done(&file->content);
	pthread_mutex_destroy(&file->turn);
	inbox_unref(file->box);
	free(file);
}

int inbox_file_new(struct call *call, struct inbox *box, mode_t mode, struct inbox_file **ret)
{
	struct inbox_file *file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->box = box;
	file->content = (struct blob){.engine = call->engine, .size_max = box->options.size_max};
	file->mode = mode & 0777;
	file->uid = call->uid;
	file->gid = call->gid;
	file->mtime_ns = now_ns();
	pthread_mutex_init(&file->turn, NULL);
	int r = node_add(fs_nodes(call->fs), &file->node, box->options.file, file_free);
	if (r < 0) {
		pthread_mutex_destroy(&file->turn);
		free(file);
		return r;
	}
	atomic_fetch_add(&box->refs, 1);
	*ret = file;
	return 0;
}

void inbox_file_opened(struct call *call, struct inbox_file *file, int flags)
{
	pid_t process = 0;
	if (writes(flags) && call_process(call, &process) < 0)
		process = 0;
	pthread_mutex_lock(&file->box->lock);
	file->opens++;
	if (writes(flags)) {
		file->writers++;
		file->opener = process;
	}
	pthread_mutex_unlock(&file->box->lock);
}

unsigned inbox_file_release(struct inbox_file *file, int flags)
{
	pthread_mutex_lock(&file->box->lock);
	invariant(file->opens > 0);
	unsigned left = --file->opens;
	if (writes(flags))
		file->writers--;
	pthread_mutex_unlock(&file->box->lock);
	return left;
}

void inbox_file_attr(struct inbox_file *file, struct stat *ret)
{
	pthread_mutex_lock(&file->box->lock);
	attr_file(file->box->fs, ret, file->node.id, file->mode, atomic_load(&file->size),
		  file->mtime_ns);
	ret->st_uid = file->uid;
	ret->st_gid = file->gid;
	pthread_mutex_unlock(&file->box->lock);
	ret->st_blksize = 1 << 20; /* Python and cp write in pieces of it */
}

bool inbox_file_shown(struct inbox_file *file)
{
	pthread_mutex_lock(&file->box->lock);
	bool shown = file->name && file->name->node == &file->node;
	pthread_mutex_unlock(&file->box->lock);
	return shown;
}

unsigned inbox_file_opens(struct inbox_file *file)
{
	pthread_mutex_lock(&file->box->lock);
	unsigned opens = file->opens;
	pthread_mutex_unlock(&file->box->lock);
	return opens;
}

unsigned inbox_file_writers(struct inbox_file *file)
{
	pthread_mutex_lock(&file->box->lock);
	unsigned writers = file->writers;
	pthread_mutex_unlock(&file->box->lock);
	return writers;
}

pid_t inbox_file_opener(struct inbox_file *file)
{
	pthread_mutex_lock(&file->box->lock);
	pid_t opener = file->opener;
	pthread_mutex_unlock(&file->box->lock);
	return opener;
}

int inbox_file_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	inbox_file_attr(inbox_file_of(call->node), &ret->attr);
	ret->attr_timeout = FS_NEVER;
	return 0;
}

int inbox_file_truncate(struct call *call, struct inbox_file *file, uint64_t size)
{
	call_block(call);
	pthread_mutex_lock(&file->turn);
	int r = blob_truncate(&file->content, size);
	if (r == 0) {
		file->changes++;
		if (size == 0)
			file->failed = false;
		atomic_store(&file->size, size);
	}
	pthread_mutex_unlock(&file->turn);
	return r;
}

int inbox_file_setattr(struct call *call, const uint64_t *handle, const struct setting *setting,
		       struct entry *ret)
{
	struct inbox_file *file = inbox_file_of(call->node);

	if (setting->valid & SET_SIZE) {
		if (setting->attr.st_size < 0)
			return -EINVAL;
		int r = inbox_file_truncate(call, file, (uint64_t)setting->attr.st_size);
		if (r < 0)
			return r;
	}
	/* default_permissions: the kernel has judged whether the caller may. */
	pthread_mutex_lock(&file->box->lock);
	if (setting->valid & SET_MODE)
		file->mode = setting->attr.st_mode & 0777;
	if (setting->valid & SET_UID)
		file->uid = setting->attr.st_uid;
	if (setting->valid & SET_GID)
		file->gid = setting->attr.st_gid;
	if (setting->valid & SET_MTIME)
		file->mtime_ns = inbox_ns_of(&setting->attr.st_mtim);
	else if (setting->valid & SET_SIZE)
		file->mtime_ns = now_ns();
	pthread_mutex_unlock(&file->box->lock);
	return inbox_file_getattr(call, handle, ret);
}

int inbox_file_open(struct call *call, int flags, struct opened *ret)
{
	struct inbox_file *file = inbox_file_of(call->node);
	int r = writes(flags) ? engine_check_writable(call->engine, &call->err) : 0;
	if (r == 0 && (flags & O_TRUNC))
		r = inbox_file_truncate(call, file, 0);
	if (r < 0)
		return r;
	inbox_file_opened(call, file, flags);
	ret->direct_io = true;
	ret->flushless = !writes(flags);
	return 0;
}

int inbox_file_read(struct call *call, uint64_t handle, int flags, void *data, size_t size,
		    uint64_t offset, struct slice *ret)
{
	struct inbox_file *file = inbox_file_of(call->node);
	size_t n = 0;

	(void)handle;
	(void)flags;
	call_block(call);
	pthread_mutex_lock(&file->turn);
	int r = blob_read(&file->content, data, size, offset, &n);
	pthread_mutex_unlock(&file->turn);
	*ret = (struct slice){.data = data, .size = n};
	return r;
}

int inbox_file_write(struct call *call, uint64_t handle, int flags, const void *data, size_t size,
		     uint64_t offset)
{
	struct inbox_file *file = inbox_file_of(call->node);

	(void)handle;
	(void)flags;
	call_block(call);
	pthread_mutex_lock(&file->turn);
	int r = blob_write(&file->content, data, size, offset);
	file->changes++;
	if (r < 0)
		file->failed = true;
	atomic_store(&file->size, file->content.size);
	pthread_mutex_unlock(&file->turn);

	pthread_mutex_lock(&file->box->lock);
	file->mtime_ns = now_ns();
	pthread_mutex_unlock(&file->box->lock);
	if (r == -EFBIG)
		reterr_set(&call->err, r, "a file of more than %llu bytes",
			   (unsigned long long)file->content.size_max);
	else if (r < 0)
		reterr_set(&call->err, r, "%zu bytes for %s cannot be staged: %s", size,
			   file->node.view->name, strerror(-r));
	return r;
}
