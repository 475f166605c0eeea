#include "fs/text.h"

#include <errno.h>
#include <stdlib.h>

/* Immutable while it is open, so reads take no lock. */
struct text {
	struct buf bytes;
};

static struct text *text_from(uint64_t handle)
{
	return (struct text *)(uintptr_t)handle;
}

int text_open(struct buf *text, struct opened *ret)
{
	struct text *open = malloc(sizeof(*open));
	if (!open)
		return -ENOMEM;
	open->bytes = *text;
	*text = (struct buf){.max = text->max};
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
	(void)call;
	(void)flags;
	struct text *open = text_from(handle);
	buf_done(&open->bytes);
	free(open);
}
