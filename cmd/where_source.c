#include "cmd/where_source.h"

#include <errno.h>

static struct where_source *where_source_of(struct segment_source *source)
{
	return (struct where_source *)source;
}

static bool source_find(struct segment_source *base, const struct uuid *uuid,
			struct source_segment *ret)
{
	const struct segments *segments = &where_source_of(base)->segments;

	for (size_t i = 0; i < segments->count; i++) {
		if (!uuid_equal(&segments->items[i].uuid, uuid))
			continue;
		*ret = (struct source_segment){
			.uuid = *uuid,
			.number = (uint32_t)i + 1,
			.durable = segments->items[i].durable,
		};
		return true;
	}
	return false;
}

static int source_read(struct segment_source *base, const struct uuid *uuid, void *data,
		       size_t size, uint64_t offset, size_t *ret, struct reterr *err)
{
	struct where *where = where_source_of(base)->where;
	return where->ops->read(where, uuid, data, size, offset, false, ret, err);
}

static int source_first_frame(struct segment_source *base, const struct uuid *uuid, uint64_t from,
			      uint64_t to, uint64_t *ret)
{
	(void)base;
	(void)uuid;
	(void)from;
	(void)to;
	(void)ret;
	return -ENOENT;
}

/* The others are for those who upload. */
static const struct segment_source_ops source_ops = {
	.find = source_find,
	.read = source_read,
	.first_frame = source_first_frame,
};

int where_source_init(struct where_source *ret, struct where *where, struct reterr *err)
{
	*ret = (struct where_source){.source.ops = &source_ops, .where = where};
	return segments_list(where, &ret->segments, err);
}

void where_source_done(struct where_source *source)
{
	segments_done(&source->segments);
}
