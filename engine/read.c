/*
 * Bytes out, always verified: what is not yet durable comes from the WAL's memory, everything else
 * in pages that are checked against their sums. Small reads go through the page cache, runs of
 * whole pages straight to the caller.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/core.h"

/*
 * Runs from here on are not cached: a scan would flush what is hot. Each piece of what is elsewhere
 * costs a call of the reader, which has a cache of its own.
 */
enum { READ_AROUND_SIZE = 256 << 10, READ_AROUND_REMOTE_SIZE = 2 * PART_PAGE_SIZE };

/* The durable bytes of one part, while they are being read. */
struct source {
	struct engine_segment *segment;
	struct part *part;     /* referenced */
	struct sealed *sealed; /* NULL: the part's WAL, or a bare part */
	bool remote;           /* the bytes come from the reader */
	uint64_t readable;     /* bytes of the part, from its start, that can be had here */
	unsigned flags;
};

static int page_sum(const struct source *source, uint64_t page, struct hash *ret)
{
	if (source->sealed)
		return sealed_page_sum(source->sealed, page, ret);
	*ret = source->part->wal->sums->pages[page];
	return 0;
}

static size_t page_size(const struct source *source, uint64_t page)
{
	uint64_t left = source->readable - page * PART_PAGE_SIZE;
	return left < PART_PAGE_SIZE ? (size_t)left : PART_PAGE_SIZE;
}

static int damaged(const struct source *source, uint64_t page, const char *what, struct reterr *err)
{
	char text[UUID_TEXT_LENGTH + 1];
	uint64_t from = source->part->start + page * PART_PAGE_SIZE;

	return reterr_set(err, -EBADMSG, "segment %s: bytes %" PRIu64 " to %" PRIu64 " %s",
			  uuid_format(&source->segment->uuid, text), from,
			  from + page_size(source, page), what);
}

/* SIZE bytes from the part's file. */
static int read_local(const struct source *source, uint8_t *data, size_t size, uint64_t first,
		      struct reterr *err)
{
	struct disk_file *file = source->sealed ? source->sealed->data : source->part->wal->file;

	int r = disk_read_full(file, data, size, first * PART_PAGE_SIZE);
	if (r == -ENODATA)
		return damaged(source, first, "are missing: the part is too short", err);
	if (r < 0) {
		char text[UUID_TEXT_LENGTH + 1];
		return reterr_set(err, r, "segment %s: reading %zu bytes at %" PRIu64 " failed: %s",
				  uuid_format(&source->segment->uuid, text), size,
				  source->part->start + first * PART_PAGE_SIZE, strerror(-r));
	}
	return 0;
}

/* The same of a part that is elsewhere, but for its end, which its note may hold. */
static int read_remote(const struct source *source, uint8_t *data, size_t size, uint64_t first,
		       struct reterr *err)
{
	const struct sealed *sealed = source->sealed;
	uint64_t at = first * PART_PAGE_SIZE;
	uint64_t local_from = sealed ? sealed->local_from : source->readable;
	size_t away = at >= local_from         ? 0
		      : size < local_from - at ? size
					       : (size_t)(local_from - at);
	int r = 0;

	if (away)
		r = remote_read(source->segment->engine, &source->segment->uuid, data, away,
				source->part->start + at, err);
	if (r < 0 || away == size)
		return r;
	r = disk_read_full(sealed->note, data + away, size - away, at + away - local_from);
	return r < 0 ? damaged(source, first, "cannot be read from the part's note", err) : 0;
}

/* Reads whole pages into DATA and verifies them; a bare part's were verified by the reader. */
static int read_pages(const struct source *source, uint64_t first, uint64_t count, uint8_t *data,
		      struct reterr *err)
{
	size_t size = (size_t)((count - 1) * PART_PAGE_SIZE) + page_size(source, first + count - 1);

	int r = source->remote ? read_remote(source, data, size, first, err)
			       : read_local(source, data, size, first, err);
	if (r < 0 || source->part->bare)
		return r;
	for (uint64_t i = 0; i < count; i++) {
		struct hash wanted;
		struct hash got = hash_of(data + i * PART_PAGE_SIZE, page_size(source, first + i));
		r = page_sum(source, first + i, &wanted);
		if (r < 0)
			return reterr_set(err, r, "a page's sum cannot be read: %s", strerror(-r));
		if (!hash_equal(&got, &wanted))
			return damaged(source, first + i, "do not match their checksum", err);
	}
	return 0;
}

static int load_page(const struct source *source, uint64_t page, const struct page_key *key,
		     const struct page **ret, struct reterr *err)
{
	size_t size = page_size(source, page);
	uint8_t *data = malloc(size);
	if (!data)
		return -ENOMEM;
	int r = read_pages(source, page, 1, data, err);
	if (r < 0) {
		free(data);
		return r;
	}
	return page_cache_add(source->segment->engine->cache, key, data, size, ret);
}

/* Part of one page, through the cache. */
static int read_in_page(const struct source *source, uint64_t offset, uint8_t *data, size_t size,
			struct reterr *err)
{
	struct page_cache *cache = source->segment->engine->cache;
	uint64_t page = offset / PART_PAGE_SIZE;
	struct page_key key = {.segment = source->segment->number,
			       .index = (uint32_t)page,
			       .start = source->part->start};

	if (source->flags & ENGINE_READ_DISK) {
		uint8_t *whole = malloc(PART_PAGE_SIZE);
		int r = whole ? read_pages(source, page, 1, whole, err) : -ENOMEM;
		if (r == 0)
			memcpy(data, whole + offset % PART_PAGE_SIZE, size);
		free(whole);
		return r;
	}
	const struct page *cached = page_cache_find(cache, &key);
	if (!cached) {
		int r = load_page(source, page, &key, &cached, err);
		if (r < 0)
			return r;
	}
	memcpy(data, cached->data + offset % PART_PAGE_SIZE, size);
	page_unpin(cache, cached);
	return 0;
}

/* Bytes [offset, offset + size) of the part, which must be readable. */
static int read_source(const struct source *source, uint64_t offset, uint8_t *data, size_t size,
		       struct reterr *err)
{
	size_t around = source->remote ? READ_AROUND_REMOTE_SIZE : READ_AROUND_SIZE;

	while (size) {
		uint64_t page = offset / PART_PAGE_SIZE;
		size_t inside = (size_t)(offset % PART_PAGE_SIZE);
		size_t piece = page_size(source, page) - inside;
		int r;

		if (piece > size)
			piece = size;
		if (inside == 0 && size >= around) {
			piece = size - size % PART_PAGE_SIZE;
			r = read_pages(source, page, piece / PART_PAGE_SIZE, data, err);
		} else {
			r = read_in_page(source, offset, data, piece, err);
		}
		if (r < 0)
			return r;
		offset += piece;
		data += piece;
		size -= piece;
	}
	return 0;
}

/*
 * What can be read at OFFSET in one go. Either it is in memory: then it is copied, and RET_COPIED
 * says how much; or SOURCE is filled, its part referenced. L.
 */
static int locate(struct engine_segment *segment, uint64_t offset, uint8_t *data, size_t size,
		  struct source *source, size_t *ret_copied)
{
	*ret_copied = 0;
	struct part *part = segment_part_at(segment, offset);
	if (!part)
		return -EBADMSG;
	uint64_t end = part->wal && part->wal == segment->wal ? segment->length : part->end;
	uint64_t at = offset - part->start;

	*source = (struct source){.segment = segment, .part = part, .readable = end - part->start};
	if (!part->wal)
		return 0;
	if (at < part->wal->buffered) {
		/* Whole pages only: the last one is still in memory. */
		source->readable = part->wal->buffered;
		return 0;
	}
	size_t piece = end - offset < size ? (size_t)(end - offset) : size;
	wal_copy(part->wal, data, piece, at);
	part_unref(part);
	*ret_copied = piece;
	return 0;
}

/* The bytes of a part that is known and referenced. No lock held. */
static int read_located(struct engine *e, struct source *source, uint64_t offset, uint8_t *data,
			size_t size, struct reterr *err)
{
	struct part *part = source->part;
	int r = 0;

	if (!part->wal && !part->bare)
		r = part_acquire_sealed(e, &source->segment->uuid, part, err, &source->sealed);
	if (r < 0)
		return r;
	source->remote = part->bare || (source->sealed && !source->sealed->data);
	r = read_source(source, offset - part->start, data, size, err);
	if (source->sealed)
		part_release_sealed(e, part, source->sealed);
	if (!part->wal)
		atomic_store_explicit(&part->used_ns, e->clock->wall_ns(e->clock),
				      memory_order_relaxed);
	return r;
}

static int read_once(struct engine *e, struct engine_segment *segment, uint64_t offset,
		     uint8_t *data, size_t size, unsigned flags, size_t *ret, struct reterr *err)
{
	struct source source;
	size_t piece;

	segment_lock(segment);
	if (segment->state == ENGINE_SEGMENT_REMOVED) {
		segment_unlock(segment);
		return reterr_set(err, -ENOENT, "the segment was removed");
	}
	uint64_t length = segment->length;
	int r = 0;
	*ret = 0;
	if (offset >= length) {
		segment_unlock(segment);
		return 0;
	}
	if (size > length - offset)
		size = (size_t)(length - offset);
	r = locate(segment, offset, data, size, &source, &piece);
	segment_unlock(segment);
	if (r < 0) {
		char text[UUID_TEXT_LENGTH + 1];
		return reterr_set(err, r,
				  "segment %s: the part that holds byte %" PRIu64 " is missing",
				  uuid_format(&segment->uuid, text), offset);
	}
	*ret = piece;
	if (piece)
		return 0;

	source.flags = flags;
	piece = size;
	if (piece > source.part->start + source.readable - offset)
		piece = (size_t)(source.part->start + source.readable - offset);
	r = read_located(e, &source, offset, data, piece, err);
	part_unref(source.part);
	*ret = piece;
	return r;
}

int engine_read(struct engine *e, struct engine_segment *segment, void *data, size_t size,
		uint64_t offset, unsigned flags, size_t *ret, struct reterr *err)
{
	uint8_t *to = data;

	*ret = 0;
	int r = segment_load_parts(segment, err);
	while (r == 0 && *ret < size) {
		size_t piece = 0;
		r = read_once(e, segment, offset + *ret, to + *ret, size - *ret, flags, &piece,
			      err);
		if (r < 0 || piece == 0)
			break;
		*ret += piece;
	}
	return r;
}

/* ---- Sums ----------------------------------------------------------------------------------- */

/* Where no sum was recorded, as of the last bytes, which no whole MiB covers: over verified bytes. */
static int computed_sum(struct engine *e, struct engine_segment *segment, uint64_t offset,
			size_t size, struct hash *ret)
{
	uint8_t *data = malloc(size);
	size_t got;

	if (!data)
		return -ENOMEM;
	int r = engine_read(e, segment, data, size, offset, 0, &got, NULL);
	if (r == 0 && got != size)
		r = -EIO;
	if (r == 0)
		*ret = hash_of(data, size);
	free(data);
	return r;
}

/* The recorded sum of a whole MiB; of a segment that is elsewhere, which has none, that of its bytes. */
static int whole_sum(struct engine *e, struct engine_segment *segment, uint64_t mib,
		     struct hash *ret)
{
	struct sealed *sealed;

	if (segment->inherited)
		return computed_sum(e, segment, mib * ENGINE_SUM_SIZE, ENGINE_SUM_SIZE, ret);

	segment_lock(segment);
	struct part *part = segment_part_at(segment, (mib + 1) * ENGINE_SUM_SIZE - 1);
	segment_unlock(segment);
	if (!part)
		return -EBADMSG;
	int r = 0;
	if (part->wal) {
		*ret = part->wal->sums->mibs[mib - part->wal->sums->mib_first];
	} else {
		r = part_acquire_sealed(e, &segment->uuid, part, NULL, &sealed);
		if (r == 0) {
			r = sealed_mib_sum(sealed, mib, ret);
			part_release_sealed(e, part, sealed);
		}
	}
	part_unref(part);
	return r;
}

int engine_sums(struct engine *e, struct engine_segment *segment, uint64_t from, uint64_t length,
		struct engine_sum *sums, size_t count, size_t *ret)
{
	size_t n = 0;

	*ret = 0;
	int r = segment_load_parts(segment, NULL);
	segment_lock(segment);
	if (length > segment->durable)
		length = segment->durable;
	segment_unlock(segment);

	for (uint64_t offset = from - from % ENGINE_SUM_SIZE;
	     r == 0 && offset < length && n < count; offset += ENGINE_SUM_SIZE) {
		struct engine_sum *sum = &sums[n];
		sum->offset = offset;
		sum->length = length - offset < ENGINE_SUM_SIZE ? length - offset : ENGINE_SUM_SIZE;
		if (sum->length == ENGINE_SUM_SIZE)
			r = whole_sum(e, segment, offset / ENGINE_SUM_SIZE, &sum->hash);
		else
			r = computed_sum(e, segment, offset, (size_t)sum->length, &sum->hash);
		if (r == 0)
			n++;
	}
	*ret = n;
	return r;
}
