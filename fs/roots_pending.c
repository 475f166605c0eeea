#include "fs/roots_pending.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/decimal.h"

enum { TARGET_SIZE = 64 /* "../atoms/", a UUID, "/", 11 digits */ };

struct pending {
	struct node node;             /* first; one reference is the list's */
	char name[PENDING_NAME_SIZE]; /* lock */
	char target[TARGET_SIZE];
	struct wish wish;
	uint64_t base;
	uint64_t position;
	uint64_t made_ns;
};

struct pendings {
	struct fs *fs;
	pthread_mutex_t lock;              /* a leaf, but for the node table's */
	struct pending *list[PENDING_MAX]; /* sorted by position; lock */
	size_t count;                      /* lock */
	uint64_t made;                     /* ever; lock */
};

int wish_parse(const char *target, struct wish *ret)
{
	static const char atoms[] = "../atoms/";
	struct wish wish = {0};

	if (decimal_parse(target, &wish.seq) == 0) {
		*ret = wish;
		return wish.seq > 0 && wish.seq <= NODE_ROOT_SEQ_MAX ? 0 : -EINVAL;
	}
	if (strncmp(target, atoms, sizeof(atoms) - 1) != 0)
		return -EINVAL;
	target += sizeof(atoms) - 1;

	char uuid[UUID_TEXT_LENGTH + 1] = {0};
	if (strnlen(target, UUID_TEXT_LENGTH + 1) <= UUID_TEXT_LENGTH ||
	    target[UUID_TEXT_LENGTH] != '/')
		return -EINVAL;
	memcpy(uuid, target, UUID_TEXT_LENGTH);
	if (uuid_parse(uuid, &wish.pointer.segment) < 0 ||
	    decimal_parse(target + UUID_TEXT_LENGTH + 1, &wish.pointer.offset) < 0 ||
	    wish.pointer.offset > NODE_OFFSET_MAX)
		return -EINVAL;
	*ret = wish;
	return 0;
}

int pendings_new(struct fs *fs, struct pendings **ret)
{
	struct pendings *pendings = calloc(1, sizeof(*pendings));
	if (!pendings)
		return -ENOMEM;
	pendings->fs = fs;
	pthread_mutex_init(&pendings->lock, NULL);
	*ret = pendings;
	return 0;
}

/* ---- One link ------------------------------------------------------------------------------- */

static struct pending *pending_of(struct node *node)
{
	return (struct pending *)node;
}

static void pending_free(struct node *node)
{
	free(pending_of(node));
}

static int pending_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	const struct pending *pending = pending_of(call->node);
	(void)handle;
	ret->attr_timeout = FS_NEVER;
	attr_symlink(call->fs, &ret->attr, call->id, strlen(pending->target), pending->made_ns);
	return 0;
}

static int pending_readlink(struct call *call, struct buf *ret)
{
	return buf_append_text(ret, pending_of(call->node)->target);
}

static const struct view view_pending = {
	.name = "a root to be published",
	.getattr = pending_getattr,
	.readlink = pending_readlink,
};

const struct wish *pending_wish(const struct pending *pending)
{
	return &pending->wish;
}

uint64_t pending_base(const struct pending *pending)
{
	return pending->base;
}

int pending_entry(struct call *call, const struct pending *pending, struct entry *ret)
{
	int r = fs_entry_of(call, pending->node.id, ret);
	ret->entry_timeout = FS_NEVER; /* the name goes or becomes `current` */
	return r;
}

/* ---- The list ------------------------------------------------------------------------------- */

/* With the lock held. */
static struct pending *find(struct pendings *pendings, const char *name)
{
	for (size_t i = 0; i < pendings->count; i++) {
		if (strcmp(pendings->list[i]->name, name) == 0)
			return pendings->list[i];
	}
	return NULL;
}

/* With the lock held. */
static void take_out(struct pendings *pendings, struct pending *pending)
{
	size_t i = 0;
	while (pendings->list[i] != pending)
		i++;
	for (pendings->count--; i < pendings->count; i++)
		pendings->list[i] = pendings->list[i + 1];
}

struct pending *pending_get(struct pendings *pendings, const char *name)
{
	pthread_mutex_lock(&pendings->lock);
	struct pending *pending = find(pendings, name);
	if (pending)
		node_ref(&pending->node, 1);
	pthread_mutex_unlock(&pendings->lock);
	return pending;
}

void pending_put(struct pendings *pendings, struct pending *pending)
{
	node_unref(fs_nodes(pendings->fs), &pending->node, 1);
}

void pending_drop(struct pendings *pendings, struct pending *pending)
{
	pthread_mutex_lock(&pendings->lock);
	bool listed = find(pendings, pending->name) == pending;
	if (listed)
		take_out(pendings, pending);
	pthread_mutex_unlock(&pendings->lock);
	if (listed)
		pending_put(pendings, pending);
}

int pending_make(struct call *call, struct pendings *pendings, const char *name,
		 const struct wish *wish, const char *target, uint64_t base, struct entry *ret)
{
	struct pending *pending = calloc(1, sizeof(*pending));
	if (!pending)
		return -ENOMEM;
	(void)snprintf(pending->name, sizeof(pending->name), "%s", name);
	(void)snprintf(pending->target, sizeof(pending->target), "%s", target);
	pending->wish = *wish;
	pending->base = base;
	pending->made_ns = clock_system()->wall_ns(clock_system());
	int r = node_add(fs_nodes(call->fs), &pending->node, &view_pending, pending_free);
	if (r < 0) {
		free(pending);
		return r;
	}

	pthread_mutex_lock(&pendings->lock);
	if (find(pendings, name)) {
		r = -EEXIST;
	} else if (pendings->count == PENDING_MAX) {
		r = -ENOSPC;
	} else {
		pending->position = PENDING_POSITION + ++pendings->made;
		pendings->list[pendings->count++] = pending;
		node_ref(&pending->node, 1); /* the list's */
	}
	pthread_mutex_unlock(&pendings->lock);
	if (r == 0)
		r = pending_entry(call, pending, ret);
	pending_put(pendings, pending);
	return r;
}

int pending_rename(struct pendings *pendings, struct pending *pending, const char *to, bool stay)
{
	pthread_mutex_lock(&pendings->lock);
	struct pending *there = find(pendings, to);
	if (there == pending)
		there = NULL;
	int r = there && stay ? -EEXIST : 0;
	if (r == 0) {
		if (there)
			take_out(pendings, there);
		(void)snprintf(pending->name, sizeof(pending->name), "%s", to);
	}
	pthread_mutex_unlock(&pendings->lock);
	if (r == 0 && there)
		pending_put(pendings, there);
	return r;
}

void pending_list(struct call *call, struct pendings *pendings, uint64_t offset,
		  struct listing *listing)
{
	struct pending *all[PENDING_MAX];
	char names[PENDING_MAX][PENDING_NAME_SIZE];
	size_t count = 0;
	bool fits = true;

	pthread_mutex_lock(&pendings->lock);
	for (size_t i = 0; i < pendings->count; i++) {
		struct pending *pending = pendings->list[i];
		if (pending->position <= offset)
			continue;
		memcpy(names[count], pending->name, PENDING_NAME_SIZE);
		all[count++] = pending;
		node_ref(&pending->node, 1);
	}
	pthread_mutex_unlock(&pendings->lock);

	for (size_t i = 0; i < count; i++) {
		struct entry entry = {0};
		if (fits && pending_entry(call, all[i], &entry) == 0)
			fits = listing_add(listing, names[i], &entry, all[i]->position);
		pending_put(pendings, all[i]);
	}
}

void pendings_free(struct pendings *pendings)
{
	if (!pendings)
		return;
	for (size_t i = 0; i < pendings->count; i++)
		pending_put(pendings, pendings->list[i]);
	pthread_mutex_destroy(&pendings->lock);
	free(pendings);
}
