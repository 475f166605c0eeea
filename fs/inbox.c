#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "fs/inbox_impl.h"

static size_t chain_of(const char *text)
{
	return (size_t)(hash64_of(text, strlen(text)) % INBOX_CHAINS);
}

/* With the lock held. */
static struct inbox_name *find(struct inbox *box, const char *text)
{
	struct inbox_name *name = box->chains[chain_of(text)];
	while (name && strcmp(name->text, text) != 0)
		name = name->chain;
	return name;
}

void inbox_name_set_file(struct inbox_name *name, struct inbox_file *file)
{
	if (name->file)
		name->file->name = NULL;
	name->file = file;
	if (file)
		file->name = name;
}

/* Takes NAME off its chain and the list. With the lock held. */
static void unlist(struct inbox *box, struct inbox_name *name)
{
	struct inbox_name **link = &box->chains[chain_of(name->text)];
	while (*link != name)
		link = &(*link)->chain;
	*link = name->chain;

	*(name->before ? &name->before->behind : &box->first) = name->behind;
	*(name->behind ? &name->behind->before : &box->last) = name->before;
	box->count--;
}

/* Puts NAME on its chain, and on the list behind all others. With the lock held. */
static void enlist(struct inbox *box, struct inbox_name *name)
{
	struct inbox_name **chain = &box->chains[chain_of(name->text)];
	name->chain = *chain;
	*chain = name;

	name->position = ++box->next_position;
	name->before = box->last;
	name->behind = NULL;
	*(box->last ? &box->last->behind : &box->first) = name;
	box->last = name;
	box->count++;
}

/*
 * Takes NAME out; its node is returned, with the reference that the name held. With the lock
 * held.
 */
static struct node *take_out(struct inbox *box, struct inbox_name *name)
{
	struct node *node = name->node;
	inbox_name_set_file(name, NULL);
	unlist(box, name);
	free(name);
	return node;
}

int inbox_new(struct fs *fs, const struct inbox_options *options, struct inbox **ret)
{
	struct inbox *box = calloc(1, sizeof(*box));
	if (!box)
		return -ENOMEM;
	box->fs = fs;
	atomic_init(&box->refs, 1);
	box->options = *options;
	box->mode = options->mode;
	box->mtime_ns = fs_started_ns(fs);
	pthread_mutex_init(&box->lock, NULL);
	*ret = box;
	return 0;
}

void inbox_unref(struct inbox *box)
{
	if (atomic_fetch_sub(&box->refs, 1) > 1)
		return;
	pthread_mutex_destroy(&box->lock);
	free(box);
}

void inbox_free(struct inbox *box)
{
	struct inbox_name *name;
	if (!box)
		return;
	pthread_mutex_lock(&box->lock);
	while ((name = box->first)) {
		struct node *node = take_out(box, name);
		pthread_mutex_unlock(&box->lock);
		node_unref(fs_nodes(box->fs), node, 1);
		pthread_mutex_lock(&box->lock);
	}
	pthread_mutex_unlock(&box->lock);
	inbox_unref(box);
}

/* ---- Names ---------------------------------------------------------------------------------- */

struct node *inbox_find(struct inbox *box, const char *text)
{
	pthread_mutex_lock(&box->lock);
	struct inbox_name *name = find(box, text);
	struct node *node = name ? name->node : NULL;
	if (node)
		node_ref(node, 1);
	pthread_mutex_unlock(&box->lock);
	return node;
}

int inbox_file_name(struct inbox_file *file, char text[static INBOX_NAME_SIZE])
{
	pthread_mutex_lock(&file->box->lock);
	bool named = file->name != NULL;
	if (named)
		memcpy(text, file->name->text, INBOX_NAME_SIZE);
	pthread_mutex_unlock(&file->box->lock);
	return named ? 0 : -ENOENT;
}

bool inbox_replace(struct inbox_file *file, struct node *node)
{
	struct inbox *box = file->box;
	struct node *old = NULL;

	pthread_mutex_lock(&box->lock);
	if (file->name) {
		old = file->name->node;
		file->name->node = node;
	}
	pthread_mutex_unlock(&box->lock);
	if (old)
		node_unref(fs_nodes(box->fs), old, 1);
	return old != NULL;
}

void inbox_drop(struct inbox *box, const char *text, const struct node *node)
{
	struct node *dropped = NULL;

	pthread_mutex_lock(&box->lock);
	struct inbox_name *name = find(box, text);
	if (name && name->node == node) {
		dropped = take_out(box, name);
	}
	pthread_mutex_unlock(&box->lock);
	if (dropped)
		node_unref(fs_nodes(box->fs), dropped, 1);
}

bool inbox_any(struct inbox *box, bool (*match)(const struct node *node, const void *arg),
	       const void *arg)
{
	bool any = false;

	pthread_mutex_lock(&box->lock);
	for (struct inbox_name *name = box->first; name && !any; name = name->behind)
		any = match(name->node, arg);
	pthread_mutex_unlock(&box->lock);
	return any;
}

/* ---- The directory -------------------------------------------------------------------------- */

int inbox_getattr(struct call *call, struct inbox *box, struct entry *ret)
{
	uint64_t mtime_ns = atomic_load(&box->mtime_ns);
	ret->attr_timeout = FS_FOREVER;
	attr_directory(call->fs, &ret->attr, call->id, atomic_load(&box->mode), 0);
	ret->attr.st_mtim.tv_sec = (time_t)(mtime_ns / 1000000000);
	ret->attr.st_mtim.tv_nsec = (long)(mtime_ns % 1000000000);
	return 0;
}

int inbox_setattr(struct call *call, struct inbox *box, const struct setting *setting,
		  struct entry *ret)
{
	if (setting->valid & (SET_UID | SET_GID | SET_SIZE))
		return -EPERM;
	if (setting->valid & SET_MODE)
		atomic_store(&box->mode, setting->attr.st_mode & 01777);
	if (setting->valid & SET_MTIME)
		atomic_store(&box->mtime_ns, inbox_ns_of(&setting->attr.st_mtim));
	return inbox_getattr(call, box, ret);
}

/* What a name shows may change at any close, so the kernel asks each time. */
MUST_CHECK static int entry_of(struct call *call, struct node *node, struct entry *ret)
{
	int r = fs_entry_of(call, node->id, ret);
	ret->entry_timeout = FS_NEVER;
	return r;
}

int inbox_lookup(struct call *call, struct inbox *box, const char *text, struct entry *ret)
{
	struct node *node = inbox_find(box, text);
	if (!node)
		return -ENOENT;
	int r = entry_of(call, node, ret);
	node_unref(fs_nodes(call->fs), node, 1);
	return r;
}

struct listed {
	char text[INBOX_NAME_SIZE];
	uint64_t position;
	struct node *node; /* referenced */
};

/* Up to COUNT names behind position AFTER. */
static size_t names_after(struct inbox *box, uint64_t after, struct listed *listed, size_t count)
{
	size_t n = 0;

	pthread_mutex_lock(&box->lock);
	for (struct inbox_name *name = box->first; name && n < count; name = name->behind) {
		if (name->position <= after)
			continue;
		memcpy(listed[n].text, name->text, INBOX_NAME_SIZE);
		listed[n].position = name->position;
		listed[n].node = name->node;
		node_ref(name->node, 1);
		n++;
	}
	pthread_mutex_unlock(&box->lock);
	return n;
}

int inbox_readdir(struct call *call, struct inbox *box, uint64_t offset, struct listing *listing)
{
	enum { BATCH = 64 }; /* so that a long list is not walked once for each name */
	struct listed listed[BATCH];
	bool fits = true;
	size_t n = BATCH;

	while (fits && n == BATCH) {
		n = names_after(box, offset, listed, BATCH);
		for (size_t i = 0; i < n; i++) {
			struct entry entry = {0};
			if (fits && entry_of(call, listed[i].node, &entry) == 0)
				fits = listing_add(listing, listed[i].text, &entry,
						   listed[i].position);
			offset = listed[i].position;
			node_unref(fs_nodes(call->fs), listed[i].node, 1);
		}
	}
	return 0;
}

/* Puts FILE in under TEXT, unless there is one: then RET is that one's node, with a reference. */
MUST_CHECK static int enter(struct inbox *box, const char *text, struct inbox_file *file,
			    struct node **ret)
{
	struct inbox_name *name = calloc(1, sizeof(*name));
	if (!name)
		return -ENOMEM;
	(void)snprintf(name->text, sizeof(name->text), "%s", text);
	name->node = &file->node;

	pthread_mutex_lock(&box->lock);
	struct inbox_name *there = find(box, text);
	int r = there ? -EEXIST : 0;
	if (there) {
		*ret = there->node;
		node_ref(*ret, 1);
	} else if (box->count >= box->options.names_max) {
		r = -ENOSPC;
	} else {
		inbox_name_set_file(name, file);
		enlist(box, name);
		node_ref(&file->node, 1); /* the name's */
		name = NULL;
	}
	pthread_mutex_unlock(&box->lock);
	free(name);
	return r;
}

/* open(2) of a name that another process made since the kernel looked. */
MUST_CHECK static int open_existing(struct call *call, struct node *node, int flags,
				    struct entry *ret, struct opened *ret_opened)
{
	if (flags & O_EXCL || node->view->open != inbox_file_open)
		return -EEXIST;
	struct inbox_file *file = inbox_file_of(node);
	int r = flags & O_TRUNC ? inbox_file_truncate(call, file, 0) : 0;
	if (r < 0)
		return r;
	inbox_file_opened(call, file, flags);
	ret_opened->direct_io = true;
	return entry_of(call, node, ret);
}

int inbox_create(struct call *call, struct inbox *box, const char *text, mode_t mode, int flags,
		 struct entry *ret, struct opened *ret_opened)
{
	struct inbox_file *file;
	struct node *there = NULL;

	if (strlen(text) >= INBOX_NAME_SIZE)
		return -ENAMETOOLONG;
	/* Now, and not only when it is closed: shells look at no error of close(2). */
	int r = engine_check_writable(call->engine, &call->err);
	if (r == 0 && box->options.allow)
		r = box->options.allow(call, text);
	if (r < 0)
		return r;
	r = inbox_file_new(call, box, mode & ~call->umask, &file);
	if (r < 0)
		return r;
	r = enter(box, text, file, &there);
	if (r == 0) {
		inbox_file_opened(call, file, flags);
		ret_opened->direct_io = true;
		r = entry_of(call, &file->node, ret);
	} else if (r == -EEXIST) {
		r = open_existing(call, there, flags, ret, ret_opened);
		node_unref(fs_nodes(call->fs), there, 1);
	} else if (r == -ENOSPC) {
		reterr_set(&call->err, r, "there are %zu names already: remove some",
			   box->options.names_max);
	}
	node_unref(fs_nodes(call->fs), &file->node, 1);
	return r;
}

int inbox_unlink(struct call *call, struct inbox *box, const char *text)
{
	struct node *node = NULL;

	pthread_mutex_lock(&box->lock);
	struct inbox_name *name = find(box, text);
	if (name)
		node = take_out(box, name);
	pthread_mutex_unlock(&box->lock);
	if (!node)
		return -ENOENT;
	node_unref(fs_nodes(call->fs), node, 1);
	return 0;
}

/* With the lock held. */
static void swap(struct inbox_name *a, struct inbox_name *b)
{
	struct node *node = a->node;
	struct inbox_file *file = a->file, *other = b->file;
	a->node = b->node;
	b->node = node;
	inbox_name_set_file(a, NULL);
	inbox_name_set_file(b, NULL);
	inbox_name_set_file(a, other);
	inbox_name_set_file(b, file);
}

/* NAME is from now on called TEXT. With the lock held. */
static void rename_to(struct inbox *box, struct inbox_name *name, const char *text)
{
	unlist(box, name);
	(void)snprintf(name->text, sizeof(name->text), "%s", text);
	enlist(box, name); /* at the end: a listing under way may show it twice, never not at all */
}

int inbox_rename(struct call *call, struct inbox *box, const char *from, const char *to,
		 unsigned flags)
{
	struct node *dropped = NULL;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if (strlen(to) >= INBOX_NAME_SIZE)
		return -ENAMETOOLONG;
	int r = box->options.allow ? box->options.allow(call, to) : 0;
	if (r < 0)
		return r;

	pthread_mutex_lock(&box->lock);
	struct inbox_name *source = find(box, from), *target = find(box, to);
	if (!source || (!target && flags & RENAME_EXCHANGE)) {
		r = -ENOENT;
	} else if (target && flags & RENAME_NOREPLACE) {
		r = -EEXIST;
	} else if (flags & RENAME_EXCHANGE) {
		if (source != target)
			swap(source, target);
	} else if (source != target) {
		if (target)
			dropped = take_out(box, target);
		rename_to(box, source, to);
	}
	pthread_mutex_unlock(&box->lock);
	if (dropped)
		node_unref(fs_nodes(call->fs), dropped, 1);
	return r;
}
