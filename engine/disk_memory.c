/*
 * A `mem:` store: a tree in memory, gone with the process.
 *
 * A file is an array of pages of 64 KiB. A page is absent (a hole), reserved (counted, reads as zeros,
 * takes no memory) or has bytes. Zeros written to a page without bytes only reserve it, so that space
 * zero-written ahead costs nothing but its count.
 *
 * Locks: the disk's mutex guards the tree, the reference counts and the bytes used; each file's rwlock guards
 * its pages and size. The mutex is taken inside a file's lock, never the other way round.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "engine/disk.h"
#include "engine/disk_path.h"

enum { PAGE_SIZE = 64 << 10, NODE_COST = 512 };

/* A file's largest offset; keeps every sum below in range. */
#define FILE_SIZE_MAX ((uint64_t)1 << 46)

struct node {
	char *name;
	bool is_dir;
	unsigned refs; /* one for its name, one for each open file; the disk's mutex */

	struct node **children; /* of a directory, sorted by name; the disk's mutex */
	size_t child_count;
	size_t child_capacity;

	pthread_rwlock_t lock; /* guards the rest */
	uint8_t **pages;
	size_t page_count;
	uint64_t size;
};

struct memory_disk {
	struct disk base;
	pthread_mutex_t mutex; /* guards the rest and every node's tree fields */
	struct node *root;
	uint64_t used;
	uint64_t size_max;
};

struct memory_file {
	struct disk_file base;
	struct node *node;
	bool writable;
	bool direct; /* held to the alignment that a real disk would ask for */
};

/* Stands for "reserved": never written, never freed. */
static uint8_t reserved_page[1];

static struct memory_disk *disk_of(struct disk *disk)
{
	return (struct memory_disk *)disk;
}

static struct memory_file *file_of(struct disk_file *file)
{
	return (struct memory_file *)file;
}

/* ---- Space ---- */

static int space_take(struct memory_disk *disk, uint64_t size)
{
	pthread_mutex_lock(&disk->mutex);
	int r = size > disk->size_max - disk->used ? -ENOSPC : 0;
	if (r == 0)
		disk->used += size;
	pthread_mutex_unlock(&disk->mutex);
	return r;
}

static void space_give(struct memory_disk *disk, uint64_t size)
{
	pthread_mutex_lock(&disk->mutex);
	invariant(disk->used >= size);
	disk->used -= size;
	pthread_mutex_unlock(&disk->mutex);
}

/* ---- Nodes ---- */

static struct node *node_new(const char *name, size_t length, bool is_dir)
{
	struct node *node = calloc(1, sizeof(*node));
	char *copy = strndup(name, length);
	if (!node || !copy || pthread_rwlock_init(&node->lock, NULL) != 0) {
		free(copy);
		free(node);
		return NULL;
	}
	node->name = copy;
	node->is_dir = is_dir;
	node->refs = 1;
	return node;
}

/* Frees the pages from FIRST on. Returns how many bytes they counted. */
static uint64_t pages_drop(struct node *node, size_t first)
{
	uint64_t freed = 0;
	for (size_t i = first; i < node->page_count; i++) {
		if (!node->pages[i])
			continue;
		if (node->pages[i] != reserved_page)
			free(node->pages[i]);
		node->pages[i] = NULL;
		freed += PAGE_SIZE;
	}
	return freed;
}

/* Nobody else refers to NODE. */
static void node_free(struct node *node)
{
	(void)pages_drop(node, 0);
	(void)pthread_rwlock_destroy(&node->lock);
	free(node->pages);
	free((void *)node->children);
	free(node->name);
	free(node);
}

/* The mutex is held. */
static void node_unref(struct memory_disk *disk, struct node *node)
{
	invariant(node->refs > 0);
	if (--node->refs > 0)
		return;
	disk->used -= pages_drop(node, 0) + NODE_COST;
	node_free(node);
}

/* ---- The tree; the mutex is held ---- */

/* The index of NAME among DIR's children, or, if it is not there, where it would go. */
static size_t child_index(const struct node *dir, const char *name, bool *ret_found)
{
	size_t low = 0;
	size_t high = dir->child_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(dir->children[middle]->name, name);
		if (order == 0) {
			*ret_found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_found = false;
	return low;
}

static int child_reserve(struct node *dir)
{
	if (dir->child_count < dir->child_capacity)
		return 0;
	size_t capacity = dir->child_capacity ? dir->child_capacity * 2 : 8;
	struct node **children = realloc((void *)dir->children, capacity * sizeof(struct node *));
	if (!children)
		return -ENOMEM;
	dir->children = children;
	dir->child_capacity = capacity;
	return 0;
}

/* There is room: child_reserve() was called. */
static void child_insert(struct node *dir, size_t index, struct node *child)
{
	memmove((void *)(dir->children + index + 1), (void *)(dir->children + index),
		(dir->child_count - index) * sizeof(struct node *));
	dir->children[index] = child;
	dir->child_count++;
}

static void child_remove(struct node *dir, size_t index)
{
	dir->child_count--;
	memmove((void *)(dir->children + index), (void *)(dir->children + index + 1),
		(dir->child_count - index) * sizeof(struct node *));
}

/* A name in the tree: its directory, and where in it the name is or would be. */
struct place {
	struct node *dir;
	const char *name; /* the path's last component; "" for the store's own directory */
	size_t index;
	struct node *node; /* NULL if there is none */
};

static int place_find(struct memory_disk *disk, const char *path, struct place *ret)
{
	int r = disk_path_check(path);
	if (r < 0)
		return r;
	struct place place = {.dir = disk->root, .name = path, .node = disk->root};
	while (*place.name) {
		char name[DISK_PATH_MAX + 1];
		size_t length = strcspn(place.name, "/");
		memcpy(name, place.name, length);
		name[length] = '\0';

		bool found;
		place.index = child_index(place.dir, name, &found);
		place.node = found ? place.dir->children[place.index] : NULL;
		if (!place.name[length])
			break;
		if (!found)
			return -ENOENT;
		if (!place.node->is_dir)
			return -ENOTDIR;
		place.dir = place.node;
		place.name += length + 1;
	}
	*ret = place;
	return 0;
}

/* Makes the file or directory that PLACE found missing. */
static int place_create(struct memory_disk *disk, struct place *place, bool is_dir)
{
	if (NODE_COST > disk->size_max - disk->used)
		return -ENOSPC;
	int r = child_reserve(place->dir);
	if (r < 0)
		return r;
	struct node *node = node_new(place->name, strlen(place->name), is_dir);
	if (!node)
		return -ENOMEM;
	child_insert(place->dir, place->index, node);
	disk->used += NODE_COST;
	place->node = node;
	return 0;
}

static int remove_name(struct disk *base, const char *path, bool is_dir)
{
	struct memory_disk *disk = disk_of(base);
	struct place place;

	pthread_mutex_lock(&disk->mutex);
	int r = place_find(disk, path, &place);
	if (r == 0 && !place.node)
		r = -ENOENT;
	else if (r == 0 && place.node == disk->root)
		r = -EBUSY;
	else if (r == 0 && place.node->is_dir != is_dir)
		r = is_dir ? -ENOTDIR : -EISDIR;
	else if (r == 0 && place.node->child_count)
		r = -ENOTEMPTY;
	if (r == 0) {
		child_remove(place.dir, place.index);
		node_unref(disk, place.node);
	}
	pthread_mutex_unlock(&disk->mutex);
	return r;
}

static int memory_unlink(struct disk *disk, const char *path)
{
	return remove_name(disk, path, false);
}

static int memory_rmdir(struct disk *disk, const char *path)
{
	return remove_name(disk, path, true);
}

static int memory_mkdir(struct disk *base, const char *path)
{
	struct memory_disk *disk = disk_of(base);
	struct place place;

	pthread_mutex_lock(&disk->mutex);
	int r = place_find(disk, path, &place);
	if (r == 0)
		r = place.node ? -EEXIST : place_create(disk, &place, true);
	pthread_mutex_unlock(&disk->mutex);
	return r;
}

/* Files only: the engine renames nothing else. */
static int rename_locked(struct memory_disk *disk, const char *from, const char *to)
{
	struct place source;
	struct place target;
	int r = place_find(disk, from, &source);
	if (r == 0)
		r = place_find(disk, to, &target);
	if (r < 0)
		return r;
	if (!source.node)
		return -ENOENT;
	if (source.node->is_dir || (target.node && target.node->is_dir))
		return -EISDIR;
	if (source.node == target.node)
		return 0;

	char *name = strdup(target.name);
	r = name ? child_reserve(target.dir) : -ENOMEM;
	if (r < 0) {
		free(name);
		return r;
	}
	if (target.node) {
		child_remove(target.dir, target.index);
		node_unref(disk, target.node);
	}
	/* The removal may have moved the source, and the source's removal moves the target. */
	bool found;
	child_remove(source.dir, child_index(source.dir, source.node->name, &found));
	invariant(found);
	free(source.node->name);
	source.node->name = name;
	child_insert(target.dir, child_index(target.dir, name, &found), source.node);
	return 0;
}

static int memory_rename(struct disk *base, const char *from, const char *to)
{
	struct memory_disk *disk = disk_of(base);
	pthread_mutex_lock(&disk->mutex);
	int r = rename_locked(disk, from, to);
	pthread_mutex_unlock(&disk->mutex);
	return r;
}

static int memory_sync_dir(struct disk *base, const char *path)
{
	struct memory_disk *disk = disk_of(base);
	struct place place;

	pthread_mutex_lock(&disk->mutex);
	int r = place_find(disk, path, &place);
	if (r == 0 && !place.node)
		r = -ENOENT;
	else if (r == 0 && !place.node->is_dir)
		r = -ENOTDIR;
	pthread_mutex_unlock(&disk->mutex);
	return r;
}

/* Copies the name that follows AFTER in DIR ("" for the first). */
static int list_next(struct memory_disk *disk, const char *dir, const char *after,
		     char ret_name[static DISK_PATH_MAX + 1], bool *ret_is_dir)
{
	struct place place;
	int r = place_find(disk, dir, &place);
	if (r < 0)
		return r;
	if (!place.node)
		return -ENOENT;
	if (!place.node->is_dir)
		return -ENOTDIR;
	bool found;
	size_t index = child_index(place.node, after, &found);
	if (found)
		index++;
	if (index == place.node->child_count)
		return 0;
	struct node *child = place.node->children[index];
	memcpy(ret_name, child->name, strlen(child->name) + 1);
	*ret_is_dir = child->is_dir;
	return 1;
}

/* By name, not by index: FN is called without the mutex and may create and remove. */
static int memory_list(struct disk *base, const char *path, disk_list_fn *fn, void *arg)
{
	struct memory_disk *disk = disk_of(base);
	char name[DISK_PATH_MAX + 1] = "";

	for (;;) {
		bool is_dir = false;
		pthread_mutex_lock(&disk->mutex);
		int r = list_next(disk, path, name, name, &is_dir);
		pthread_mutex_unlock(&disk->mutex);
		if (r <= 0)
			return r;
		r = fn(arg, name, is_dir);
		if (r < 0)
			return r;
	}
}

/* ---- Files ---- */

static int open_locked(struct memory_disk *disk, const char *path, unsigned flags,
		       struct node **ret)
{
	struct place place;
	int r = place_find(disk, path, &place);
	if (r < 0)
		return r;
	if (place.node && place.node->is_dir)
		return -EISDIR;
	if (place.node && (flags & DISK_CREATE) && !(flags & DISK_REPLACE))
		return -EEXIST;
	if (!place.node) {
		r = flags & DISK_CREATE ? place_create(disk, &place, false) : -ENOENT;
		if (r < 0)
			return r;
	}
	place.node->refs++;
	*ret = place.node;
	return 0;
}

static int memory_truncate(struct disk_file *file, uint64_t size);

static int memory_open(struct disk *base, const char *path, unsigned flags, struct disk_file **ret)
{
	struct memory_disk *disk = disk_of(base);
	struct memory_file *file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	pthread_mutex_lock(&disk->mutex);
	int r = open_locked(disk, path, flags, &file->node);
	pthread_mutex_unlock(&disk->mutex);
	if (r < 0) {
		free(file);
		return r;
	}
	file->base.disk = base;
	file->writable = flags & DISK_WRITE;
	file->direct = flags & DISK_DIRECT;
	if (file->writable && (flags & DISK_CREATE) && (flags & DISK_REPLACE))
		(void)memory_truncate(&file->base, 0);
	*ret = &file->base;
	return 0;
}

static void memory_close(struct disk_file *base)
{
	struct memory_disk *disk = disk_of(base->disk);
	struct memory_file *file = file_of(base);

	pthread_mutex_lock(&disk->mutex);
	node_unref(disk, file->node);
	pthread_mutex_unlock(&disk->mutex);
	free(file);
}

/* The rest of the files' code holds the node's lock where a function says so. */

static int memory_read(struct disk_file *base, void *data, size_t size, uint64_t offset,
		       size_t *ret)
{
	struct node *node = file_of(base)->node;
	uint8_t *out = data;
	size_t done = 0;

	pthread_rwlock_rdlock(&node->lock);
	uint64_t left = offset < node->size ? node->size - offset : 0;
	if (size > left)
		size = (size_t)left;
	while (done < size) {
		uint64_t at = offset + done;
		size_t index = (size_t)(at / PAGE_SIZE);
		size_t within = (size_t)(at % PAGE_SIZE);
		size_t piece = PAGE_SIZE - within;
		if (piece > size - done)
			piece = size - done;
		const uint8_t *page = index < node->page_count ? node->pages[index] : NULL;
		if (page && page != reserved_page)
			memcpy(out + done, page + within, piece);
		else
			memset(out + done, 0, piece);
		done += piece;
	}
	pthread_rwlock_unlock(&node->lock);
	*ret = done;
	return 0;
}

static bool is_zero(const uint8_t *data, size_t size)
{
	return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

/* Makes room in the page array for the page INDEX. The lock is held for writing. */
static int pages_extend(struct node *node, size_t index)
{
	if (index < node->page_count)
		return 0;
	size_t count = node->page_count * 2;
	if (count <= index)
		count = index + 1;
	uint8_t **pages = realloc((void *)node->pages, count * sizeof(uint8_t *));
	if (!pages)
		return -ENOMEM;
	memset((void *)(pages + node->page_count), 0,
	       (count - node->page_count) * sizeof(uint8_t *));
	node->pages = pages;
	node->page_count = count;
	return 0;
}

/* Counts the page INDEX, if it is a hole. The lock is held for writing. */
static int page_reserve(struct memory_disk *disk, struct node *node, size_t index)
{
	int r = pages_extend(node, index);
	if (r < 0 || node->pages[index])
		return r;
	r = space_take(disk, PAGE_SIZE);
	if (r == 0)
		node->pages[index] = reserved_page;
	return r;
}

/* One piece within the page INDEX. The lock is held for writing. */
static int page_write(struct memory_disk *disk, struct node *node, size_t index, size_t within,
		      const uint8_t *data, size_t size)
{
	int r = page_reserve(disk, node, index);
	if (r < 0)
		return r;
	if (node->pages[index] == reserved_page) {
		if (is_zero(data, size))
			return 0;
		uint8_t *page = calloc(1, PAGE_SIZE);
		if (!page)
			return -ENOMEM;
		node->pages[index] = page;
	}
	memcpy(node->pages[index] + within, data, size);
	return 0;
}

/* The lock is held for writing. */
static int write_bytes(struct memory_disk *disk, struct node *node, const uint8_t *data,
		       size_t size, uint64_t offset)
{
	if (offset > FILE_SIZE_MAX || size > FILE_SIZE_MAX - offset)
		return -EFBIG;
	while (size) {
		size_t within = (size_t)(offset % PAGE_SIZE);
		size_t piece = PAGE_SIZE - within;
		if (piece > size)
			piece = size;
		int r = page_write(disk, node, (size_t)(offset / PAGE_SIZE), within, data, piece);
		if (r < 0)
			return r;
		data += piece;
		size -= piece;
		offset += piece;
		if (offset > node->size)
			node->size = offset;
	}
	return 0;
}

static int write_one(struct memory_disk *disk, struct memory_file *file,
		     const struct disk_write *write)
{
	if (file->direct && !disk_write_is_aligned(write))
		return -EINVAL;
	uint64_t offset = write->offset;
	int r = 0;
	pthread_rwlock_wrlock(&file->node->lock);
	for (int i = 0; i < write->iov_count && r == 0; i++) {
		const struct iovec *iov = &write->iov[i];
		r = write_bytes(disk, file->node, iov->iov_base, iov->iov_len, offset);
		offset += iov->iov_len;
	}
	pthread_rwlock_unlock(&file->node->lock);
	return r;
}

static int memory_commit(struct disk *base, struct disk_job *jobs, size_t count)
{
	int first = 0;
	for (size_t i = 0; i < count; i++) {
		struct memory_file *file = file_of(jobs[i].file);
		jobs[i].result = file->writable ? 0 : -EBADF;
		for (unsigned w = 0; w < jobs[i].write_count && jobs[i].result == 0; w++)
			jobs[i].result = write_one(disk_of(base), file, &jobs[i].writes[w]);
		if (first == 0)
			first = jobs[i].result;
	}
	return first;
}

static int memory_flush(struct disk_file *file)
{
	(void)file;
	return 0;
}

static int memory_size(struct disk_file *base, uint64_t *ret)
{
	struct node *node = file_of(base)->node;
	pthread_rwlock_rdlock(&node->lock);
	*ret = node->size;
	pthread_rwlock_unlock(&node->lock);
	return 0;
}

static int memory_truncate(struct disk_file *base, uint64_t size)
{
	struct memory_file *file = file_of(base);
	struct node *node = file->node;
	if (!file->writable)
		return -EINVAL;
	if (size > FILE_SIZE_MAX)
		return -EFBIG;

	pthread_rwlock_wrlock(&node->lock);
	uint64_t pages = (size + PAGE_SIZE - 1) / PAGE_SIZE;
	uint64_t freed = pages < node->page_count ? pages_drop(node, (size_t)pages) : 0;
	/* What lies behind the end in the last page must read as zeros when the file grows again. */
	size_t index = (size_t)(size / PAGE_SIZE);
	size_t within = (size_t)(size % PAGE_SIZE);
	if (within && index < node->page_count && node->pages[index] &&
	    node->pages[index] != reserved_page)
		memset(node->pages[index] + within, 0, PAGE_SIZE - within);
	node->size = size;
	space_give(disk_of(base->disk), freed);
	pthread_rwlock_unlock(&node->lock);
	return 0;
}

static int memory_reserve(struct disk_file *base, uint64_t offset, uint64_t size)
{
	struct memory_file *file = file_of(base);
	struct node *node = file->node;
	if (!file->writable)
		return -EBADF;
	if (offset > FILE_SIZE_MAX || size > FILE_SIZE_MAX - offset)
		return -EFBIG;

	int r = 0;
	uint64_t end = offset + size;
	pthread_rwlock_wrlock(&node->lock);
	for (uint64_t at = offset / PAGE_SIZE; at * PAGE_SIZE < end && r == 0; at++)
		r = page_reserve(disk_of(base->disk), node, (size_t)at);
	if (r == 0 && end > node->size)
		node->size = end;
	pthread_rwlock_unlock(&node->lock);
	return r;
}

/* ---- The rest ---- */

static int memory_space(struct disk *base, struct disk_space *ret)
{
	struct memory_disk *disk = disk_of(base);
	pthread_mutex_lock(&disk->mutex);
	*ret = (struct disk_space){.total = disk->size_max,
				   .available = disk->size_max - disk->used};
	pthread_mutex_unlock(&disk->mutex);
	return 0;
}

static int memory_identity(struct disk *disk, struct disk_identity *ret)
{
	(void)disk;
	*ret = (struct disk_identity){0};
	return 0;
}

/* No other process can reach it. */
static int memory_lock(struct disk *disk, bool exclusive, struct reterr *err)
{
	(void)disk;
	(void)exclusive;
	(void)err;
	return 0;
}

static void tree_free(struct node *node)
{
	for (size_t i = 0; i < node->child_count; i++)
		tree_free(node->children[i]);
	node_free(node);
}

static void memory_free(struct disk *base)
{
	struct memory_disk *disk = disk_of(base);
	tree_free(disk->root);
	(void)pthread_mutex_destroy(&disk->mutex);
	free(disk);
}

static const struct disk_ops memory_ops = {
	.name = "memory",
	.open = memory_open,
	.close = memory_close,
	.read = memory_read,
	.commit = memory_commit,
	.flush = memory_flush,
	.size = memory_size,
	.truncate = memory_truncate,
	.reserve = memory_reserve,
	.mkdir = memory_mkdir,
	.rmdir = memory_rmdir,
	.unlink = memory_unlink,
	.rename = memory_rename,
	.sync_dir = memory_sync_dir,
	.list = memory_list,
	.space = memory_space,
	.identity = memory_identity,
	.lock = memory_lock,
	.free = memory_free,
};

int disk_memory_new(uint64_t size_max, struct disk **ret)
{
	struct memory_disk *disk = calloc(1, sizeof(*disk));
	struct node *root = node_new("", 0, true);
	if (!disk || !root || pthread_mutex_init(&disk->mutex, NULL) != 0) {
		if (root)
			node_free(root);
		free(disk);
		return -ENOMEM;
	}
	disk->base.ops = &memory_ops;
	disk->root = root;
	disk->size_max = size_max;
	*ret = &disk->base;
	return 0;
}
