#include "fs/text.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* Immutable while it is open but for its neighbours, so reads take no lock. */
struct text {
	struct buf bytes;
	struct text *next, **link; /* in the table: its lock */
};

struct text_table {
	pthread_mutex_t lock; /* a leaf */
	struct text *first;   /* lock */
};

int text_table_new(struct text_table **ret)
{
	struct text_table *table = calloc(1, sizeof(*table));
	if (!table)
		return -ENOMEM;
	pthread_mutex_init(&table->lock, NULL);
	*ret = table;
	return 0;
}

static void text_free(struct text *text)
{
	buf_done(&text->bytes);
	free(text);
}

void text_table_free(struct text_table *table)
{
	if (!table)
		return;
	while (table->first) {
		struct text *text = table->first;
		table->first = text->next;
		text_free(text);
	}
	pthread_mutex_destroy(&table->lock);
	free(table);
}

static struct text *text_from(uint64_t handle)
{
	return (struct text *)(uintptr_t)handle;
}

int text_open(struct call *call, struct buf *text, struct opened *ret)
{
	struct text_table *table = fs_texts(call->fs);
	struct text *open = malloc(sizeof(*open));
	if (!open)
		return -ENOMEM;
	open->bytes = *text;
	*text = (struct buf){.max = text->max};
	pthread_mutex_lock(&table->lock);
	open->next = table->first;
	open->link = &table->first;
	if (open->next)
		open->next->link = &open->next;
	table->first = open;
	pthread_mutex_unlock(&table->lock);
	ret->handle = (uintptr_t)open;
	ret->direct_io = true;
	ret->flushless = true;
	return 0;
}

struct slice text_of(uint64_t handle)
{
	const struct text *open = text_from(handle);
	return (struct slice){.data = open->bytes.data, .size = open->bytes.size};
}

int text_read(struct call *call, uint64_t handle, int flags, void *data, size_t size,
	      uint64_t offset, struct slice *ret)
{
	(void)call;
	(void)flags;
	(void)data;
	struct slice text = text_of(handle);
	if (offset >= text.size) {
		*ret = (struct slice){0};
		return 0;
	}
	size_t rest = text.size - (size_t)offset;
	*ret = (struct slice){.data = text.data + offset, .size = size < rest ? size : rest};
	return 0;
}

void text_release(struct call *call, uint64_t handle, int flags)
{
	struct text_table *table = fs_texts(call->fs);
	struct text *open = text_from(handle);

	(void)flags;
	pthread_mutex_lock(&table->lock);
	*open->link = open->next;
	if (open->next)
		open->next->link = open->link;
	pthread_mutex_unlock(&table->lock);
	text_free(open);
}
