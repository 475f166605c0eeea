#include "cmd/segments.h"

#include <errno.h>
#include <stdlib.h>

#include "base/buf.h"

/* 2^25 segments is what a store can have. */
#define SEGMENTS_SIZE_MAX (((size_t)1 << 25) * sizeof(struct where_segment))

static int collect(void *arg, const struct where_segment *segment)
{
	return buf_append(arg, segment, sizeof(*segment));
}

int segments_list(struct where *where, struct segments *ret, struct reterr *err)
{
	struct buf items = {.max = SEGMENTS_SIZE_MAX};
	struct reterr cause = {0};

	int r = where->ops->segments(where, collect, &items, &cause);
	if (r < 0) {
		buf_done(&items);
		return cause.code ? reterr_set(err, r, "%s", cause.text)
				  : reterr_set(err, r, "out of memory");
	}
	*ret = (struct segments){
		.items = (struct where_segment *)(void *)items.data,
		.count = items.size / sizeof(struct where_segment),
	};
	for (size_t i = 0; i < ret->count; i++)
		ret->bytes += ret->items[i].durable;
	return 0;
}

void segments_done(struct segments *segments)
{
	free(segments->items);
	*segments = (struct segments){0};
}
