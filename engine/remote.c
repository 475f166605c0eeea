/*
 * Bytes that are not on this disk. Whoever brings them has verified them as they were when they
 * left; where a table of sums is here, read.c verifies them once more by it.
 */
#include <errno.h>
#include <inttypes.h>

#include "engine/core.h"

static int refused(const char *segment, uint64_t offset, struct reterr *err)
{
	return reterr_set(err, -ENOENT,
			  "segment %s: the bytes at %" PRIu64
			  " are not on this disk; they are in the store's cloud, which is not "
			  "connected",
			  segment, offset);
}

int remote_read(struct engine *e, const struct uuid *segment, void *data, size_t size,
		uint64_t offset, struct reterr *err)
{
	struct remote_reader *reader = e->options.reader;
	char text[UUID_TEXT_LENGTH + 1];
	uint8_t *to = data;

	(void)uuid_format(segment, text);
	if (!reader)
		return refused(text, offset, err);
	for (size_t done = 0; done < size;) {
		struct reterr why = {0};
		size_t got = 0;
		int r = reader->ops->read(reader, segment, to + done, size - done, offset + done,
					  &got, &why);
		if (r == 0 && got > size - done)
			r = -EBADMSG;
		if (r == 0 && got == 0)
			r = -ENOENT;
		/* What must exist and does not is damage; -ENOENT would say: no such segment. */
		if (r < 0)
			return reterr_set(err, r == -ENOENT ? -EBADMSG : r,
					  "segment %s: the bytes at %" PRIu64
					  ", which are not on this disk: %.300s",
					  text, offset + done,
					  why.code ? why.text : "nothing came");
		done += got;
	}
	return 0;
}

bool segment_is_remote_at(struct engine_segment *segment, uint64_t offset)
{
	(void)!segment_load_parts(segment, NULL); /* damage is for the one who reads */
	segment_lock(segment);
	struct part *part = offset < segment->length ? segment_part_at(segment, offset) : NULL;
	segment_unlock(segment);
	bool remote = part && atomic_load(&part->remote);
	part_unref(part);
	return remote;
}
