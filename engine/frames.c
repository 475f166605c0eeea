/*
 * The atoms of a segment: found through the indexes of sealed parts and the first frame of each
 * page of others.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/core.h"

enum { WALK_WINDOW = 4096 };

/* Reads frame headers one after the other, through a window of the stream. */
struct walk {
	struct engine *e;
	struct engine_segment *segment;
	uint64_t window_at;
	size_t window_size;
	uint8_t window[WALK_WINDOW];
	bool bad; /* the last header was none: not to be mistaken for bytes that are damaged */
};

/* -ENODATA the stream ends before the header does; -EBADMSG it is none. */
static int walk_header(struct walk *walk, uint64_t offset, uint64_t *ret_size, uint8_t *ret_format)
{
	if (offset < walk->window_at ||
	    offset + ENGINE_FRAME_HEADER_SIZE > walk->window_at + walk->window_size) {
		int r = engine_read(walk->e, walk->segment, walk->window, WALK_WINDOW, offset, 0,
				    &walk->window_size, NULL);
		walk->window_at = offset;
		if (r < 0) {
			walk->window_size = 0;
			return r;
		}
	}
	size_t skip = (size_t)(offset - walk->window_at);
	struct slice in = {.data = walk->window + skip, .size = walk->window_size - skip};
	int r = frame_header_take(&in, ret_size, ret_format);
	walk->bad = r == -EBADMSG;
	return r;
}

/* L: the first frame of the first page, from the one of FROM on, in which one begins. */
static bool wal_first_frame(const struct wal *wal, uint64_t from, uint64_t *ret)
{
	uint64_t page = from > wal->start ? (from - wal->start) / PART_PAGE_SIZE : 0;
	uint64_t pages = (wal->accepted + PART_PAGE_SIZE - 1) / PART_PAGE_SIZE;

	for (; page < pages; page++) {
		if (wal->first[page] == INDEX_NO_FRAME)
			continue;
		*ret = wal->start + wal->first[page] - INDEX_BIAS;
		return true;
	}
	return false;
}

/* Frames of a part that is not sealed, whose headers end before END. */
static int wal_frames(struct walk *walk, struct part *part, uint64_t end, uint64_t from,
		      struct engine_frame *frames, size_t count, size_t *ret)
{
	uint64_t offset;

	*ret = 0;
	segment_lock(walk->segment);
	bool any = wal_first_frame(part->wal, from, &offset);
	segment_unlock(walk->segment);
	while (any && *ret < count && offset + ENGINE_FRAME_HEADER_SIZE <= end) {
		struct engine_frame frame = {.offset = offset};
		int r = walk_header(walk, offset, &frame.size, &frame.format);
		if (r == -ENODATA || r == -EBADMSG)
			return 0; /* the stream ends, or its frames do */
		if (r < 0)
			return r;
		if (offset >= from)
			frames[(*ret)++] = frame;
		offset += ENGINE_FRAME_HEADER_SIZE + frame.size;
	}
	return 0;
}

static int part_frames(struct walk *walk, struct part *part, uint64_t end, uint64_t from,
		       struct engine_frame *frames, size_t count, size_t *ret)
{
	struct sealed *sealed;

	if (part->wal)
		return wal_frames(walk, part, end, from, frames, count, ret);
	int r = part_acquire_sealed(walk->e, &walk->segment->uuid, part, NULL, &sealed);
	if (r < 0)
		return r;
	r = sealed_frames(sealed, from, frames, count, ret);
	part_release_sealed(walk->e, part, sealed);
	return r;
}

/* The part with number AT, counted from the one that holds FROM; NULL at the end. Referenced. */
static struct part *part_from(struct engine_segment *segment, uint64_t from, size_t at,
			      uint64_t *ret_end)
{
	struct part *found = NULL;

	segment_lock(segment);
	size_t i = 0;
	while (i + 1 < segment->part_count && segment->parts[i + 1]->start <= from)
		i++;
	if (segment->state != ENGINE_SEGMENT_REMOVED && i + at < segment->part_count) {
		found = segment->parts[i + at];
		part_ref(found);
		*ret_end = found->wal && found->wal == segment->wal ? segment->length : found->end;
	}
	segment_unlock(segment);
	return found;
}

/* ---- Segments that are elsewhere ------------------------------------------------------------ */

/*
 * Where to begin to follow headers to the first frame at or after FROM: behind the last one that
 * was told, if that is next, so that an enumeration asks nobody; else where the reader says.
 */
static int remote_frame_before(struct walk *walk, uint64_t from, uint64_t *ret)
{
	struct engine_segment *segment = walk->segment;
	struct remote_reader *reader = walk->e->options.reader;
	uint64_t hint = 0;

	segment_lock(segment);
	uint64_t known = segment->frame_known <= from ? segment->frame_known : 0;
	segment_unlock(segment);
	*ret = known;
	if (from - known <= 1 || !reader)
		return 0;
	int r = reader->ops->frame_before(reader, &segment->uuid, from, &hint, NULL);
	if (r < 0)
		return r == -ENOENT ? -EBADMSG : r;
	if (hint > from)
		return -EBADMSG;
	*ret = hint > known ? hint : known;
	return 0;
}

/* Nothing of the frames is here: their headers are followed, and no list of them is kept. */
static int remote_frames(struct walk *walk, uint64_t from, struct engine_frame *frames,
			 size_t count, size_t *ret)
{
	struct engine_segment *segment = walk->segment;
	uint64_t length = segment->length; /* never changes */
	uint64_t offset;

	if (from >= length || count == 0)
		return 0;
	int r = remote_frame_before(walk, from, &offset);
	while (r == 0 && *ret < count && offset + ENGINE_FRAME_HEADER_SIZE <= length) {
		struct engine_frame frame = {.offset = offset};
		r = walk_header(walk, offset, &frame.size, &frame.format);
		if (r == -ENODATA || walk->bad)
			return 0; /* the stream ends, or its frames do */
		if (r < 0)
			return r;
		if (offset >= from)
			frames[(*ret)++] = frame;
		offset += ENGINE_FRAME_HEADER_SIZE + frame.size;
	}
	if (*ret) {
		segment_lock(segment);
		segment->frame_known = frames[*ret - 1].offset;
		segment_unlock(segment);
	}
	return r;
}

int engine_frames(struct engine *e, struct engine_segment *segment, uint64_t from,
		  struct engine_frame *frames, size_t count, size_t *ret)
{
	struct walk walk = {.e = e, .segment = segment};
	size_t n = 0;

	*ret = 0;
	int r = segment_load_parts(segment, NULL);
	if (r == 0 && segment->inherited)
		r = remote_frames(&walk, from, frames, count, &n);
	for (size_t at = 0; r == 0 && n < count && !segment->inherited; at++) {
		uint64_t end;
		size_t got = 0;
		struct part *part = part_from(segment, from, at, &end);
		if (!part)
			break;
		r = part_frames(&walk, part, end, from, frames + n, count - n, &got);
		part_unref(part);
		n += got;
	}
	if (r < 0)
		return r;

	/* The last one may not be whole yet. */
	segment_lock(segment);
	uint64_t length = segment->length;
	segment_unlock(segment);
	while (n && (frames[n - 1].offset + ENGINE_FRAME_HEADER_SIZE > length ||
		     frames[n - 1].size > length - frames[n - 1].offset - ENGINE_FRAME_HEADER_SIZE))
		n--;
	*ret = n;
	return 0;
}

int engine_frame_at(struct engine *e, struct engine_segment *segment, uint64_t offset,
		    struct engine_frame *ret)
{
	struct walk walk = {.e = e, .segment = segment};
	struct engine_frame frame;
	uint64_t size;
	size_t n;

	int r = engine_frames(e, segment, offset, &frame, 1, &n);
	if (r < 0)
		return r;
	if (n == 0 || frame.offset != offset)
		return -ENOENT;
	r = walk_header(&walk, offset, &size, &frame.format);
	if (r == 0 && size != frame.size)
		r = -EBADMSG;
	if (r < 0)
		return r == -ENODATA ? -ENOENT : r;
	*ret = frame;
	return 0;
}

/* L: a frame of WAL from which one can walk to the first header that ends behind END. */
static bool wal_frame_before(const struct wal *wal, uint64_t end, uint64_t *ret)
{
	for (uint64_t page = (end - wal->start) / PART_PAGE_SIZE + 1; page-- > 0;) {
		if (page >= wal->geometry.data_size / PART_PAGE_SIZE ||
		    wal->first[page] == INDEX_NO_FRAME)
			continue;
		*ret = wal->start + wal->first[page] - INDEX_BIAS;
		if (*ret <= end)
			return true;
	}
	return wal_first_frame(wal, end, ret);
}

void segment_note_frames(struct engine_segment *segment, const struct wal *old)
{
	struct walk walk = {.e = segment->engine, .segment = segment};
	uint64_t at, size;
	uint8_t format;

	segment_lock(segment);
	struct wal *wal = segment->wal;
	uint64_t length = segment->length;
	bool any = wal_frame_before(old, wal->start, &at);
	segment_unlock(segment);
	while (any && at + ENGINE_FRAME_HEADER_SIZE <= length) {
		if (walk_header(&walk, at, &size, &format) < 0)
			return; /* the frames end; or they cannot be read until sealing does it */
		if (at + ENGINE_FRAME_HEADER_SIZE > wal->start) {
			segment_lock(segment);
			wal_note_frame(wal, at);
			segment_unlock(segment);
		}
		at += ENGINE_FRAME_HEADER_SIZE + size;
	}
}

int segment_frames_behind(struct engine_segment *segment, const struct sealed *sealed,
			  uint64_t last, struct frame_scan *ret, struct reterr *err)
{
	const struct sealed_header *header = &sealed->header;
	uint8_t carry[ENGINE_FRAME_HEADER_SIZE] = {0};
	uint64_t end = header->start + header->length;
	size_t got = 0;

	if (last > end)
		return reterr_set(err, -EBADMSG,
				  "whole frames are said to end at byte %" PRIu64
				  ", behind the end of the part at %" PRIu64,
				  last, header->start);
	if (header->frames_bad) {
		/* Where a part begins its frames may have ended in one before. */
		frame_scan_init(ret, end, end, NULL);
		ret->current = ret->next =
			header->frames_next == header->start ? last : header->frames_next;
		ret->bad = true;
		return 0;
	}
	if (header->frames_next < end) {
		size_t size = (size_t)(end - header->frames_next);
		int r = engine_read(segment->engine, segment, carry, size, header->frames_next, 0,
				    &got, err);
		if (r < 0 || got != size)
			return r < 0 ? r : -EIO;
	}
	int r = sealed_last_frame(sealed, &last);
	if (r < 0 && r != -ENOENT)
		return r;
	frame_scan_init(ret, end, header->frames_next, carry);
	if (header->frames_next > end) /* it is not whole yet */
		ret->current = last;
	return 0;
}

/* From the table of the last part: most of its bytes may be elsewhere. */
int segment_load_frames(struct engine_segment *segment, struct reterr *err)
{
	struct engine *e = segment->engine;
	struct frame_scan scan;
	struct sealed *sealed;

	int r = segment_load_parts(segment, err);
	if (r < 0)
		return r;
	segment_lock(segment);
	bool known = segment->frames_known;
	uint64_t last = segment->frames_end;
	struct part *part = segment->part_count ? segment->parts[segment->part_count - 1] : NULL;
	if (part)
		part_ref(part);
	segment_unlock(segment);

	frame_scan_init(&scan, 0, 0, NULL);
	if (!known && part) {
		invariant(!part->wal && !part->bare);
		r = part_acquire_sealed(e, &segment->uuid, part, err, &sealed);
		if (r == 0) {
			r = segment_frames_behind(segment, sealed, last, &scan, err);
			part_release_sealed(e, part, sealed);
		}
		if (r == 0 && frame_scan_end(&scan) != last)
			r = reterr_set(err, -EBADMSG,
				       "the catalogue says that whole frames end at byte %" PRIu64
				       ", the last part's table %" PRIu64,
				       last, frame_scan_end(&scan));
	}
	part_unref(part);
	segment_lock(segment);
	if (r == 0 && !segment->frames_known) {
		segment->frames = scan;
		segment->frames_known = true;
	}
	segment_unlock(segment);
	return r;
}
