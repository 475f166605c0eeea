#include "engine/sealed.h"

#include <errno.h>
#include <stdlib.h>

#include "base/slice.h"

/* Everything that others compute with; a checksum keeps nobody from writing a table of his own. */
static bool sizes_agree(const struct sealed_header *h, size_t size)
{
	if (h->length > PART_BLOCKS * ENGINE_BLOCK_SIZE_MAX || h->start > INT64_MAX ||
	    h->frames_next > INT64_MAX)
		return false;
	uint64_t end = h->start + h->length;
	uint64_t mib_first = h->start / ENGINE_SUM_SIZE;
	if (h->mib_first != mib_first || h->mib_count != end / ENGINE_SUM_SIZE - mib_first)
		return false;
	/* The header that follows is not whole here, or is no frame's. */
	if (!h->frames_bad && h->frames_next + ENGINE_FRAME_HEADER_SIZE <= end)
		return false;
	uint64_t pages = (h->length + PART_PAGE_SIZE - 1) / PART_PAGE_SIZE;
	uint64_t sums = (uint64_t)h->page_count + h->mib_count;

	return h->page_count == pages &&
	       size == SEALED_HEADER_SIZE + sums * HASH_SIZE + HASH_SIZE &&
	       h->index_size >= INDEX_HEADER_SIZE + pages * INDEX_ENTRY_SIZE;
}

int sealed_header_load(const void *table, size_t size, struct sealed_header *ret)
{
	const uint8_t *bytes = table;

	if (size < SEALED_HEADER_SIZE + HASH_SIZE)
		return -ENODATA;
	struct hash sum = hash_of(bytes, size - HASH_SIZE);
	if (memcmp(bytes, SEALED_TABLE_MAGIC, SEALED_MAGIC_SIZE) != 0 ||
	    memcmp(sum.bytes, bytes + size - HASH_SIZE, HASH_SIZE) != 0)
		return -EBADMSG;
	if (load_le32(bytes + 8) != SEALED_VERSION)
		return -ENOTSUP;

	struct sealed_header h = {
		.start = load_le64(bytes + 32),
		.length = load_le64(bytes + 40),
		.page_count = load_le32(bytes + 48),
		.mib_count = load_le32(bytes + 52),
		.mib_first = load_le64(bytes + 56),
		.index_size = load_le64(bytes + 64),
		.frames_first = load_le64(bytes + 88),
		.frames_next = load_le64(bytes + 96),
		.frame_count = load_le64(bytes + 104),
		.epoch = load_le32(bytes + 112),
		.frames_bad = load_le32(bytes + 116) & SEALED_FRAMES_BAD,
	};
	memcpy(h.segment.bytes, bytes + 16, sizeof(h.segment.bytes));
	memcpy(h.index_hash.bytes, bytes + 72, HASH_SIZE);
	if (load_le32(bytes + 12) != PART_PAGE_SIZE || !sizes_agree(&h, size))
		return -EBADMSG;
	*ret = h;
	return 0;
}

static int open_table(struct sealed *sealed, struct disk *disk, const struct uuid *segment,
		      uint64_t start, struct reterr *err)
{
	char path[DISK_PATH_MAX];
	void *table = NULL;
	size_t size = 0;

	part_path(PART_TABLE, segment, start, path);
	int r = disk_read_file(disk, path, SEALED_TABLE_SIZE_MAX, &table, &size);
	if (r == -ENOENT)
		return r;
	if (r < 0)
		return reterr_set(err, r, "%s: cannot be read: %s", path, strerror(-r));
	r = sealed_header_load(table, size, &sealed->header);
	free(table);
	if (r == 0 &&
	    (!uuid_equal(&sealed->header.segment, segment) || sealed->header.start != start))
		r = -EBADMSG;
	if (r < 0)
		return reterr_set(err, r == -ENODATA ? -EBADMSG : r,
				  "%s: the table of a sealed part is damaged", path);
	r = disk_open(disk, path, DISK_READ, &sealed->table);
	return r < 0 ? reterr_set(err, r, "%s: cannot be opened: %s", path, strerror(-r)) : 0;
}

static int open_index(struct sealed *sealed, struct disk *disk, struct reterr *err)
{
	const struct sealed_header *h = &sealed->header;
	enum { PIECE = 64 << 10 };
	char path[DISK_PATH_MAX];
	struct hash_stream *stream = NULL;
	uint8_t *piece = malloc(PIECE);

	part_path(PART_INDEX, &h->segment, h->start, path);
	int r = piece ? hash_stream_new(&stream) : -ENOMEM;
	if (r == 0)
		r = disk_open(disk, path, DISK_READ, &sealed->index);
	uint64_t done = 0;
	while (r == 0) {
		size_t got;
		r = disk_read(sealed->index, piece, PIECE, done, &got);
		if (r < 0 || got == 0)
			break;
		hash_stream_update(stream, piece, got);
		done += got;
		if (done > h->index_size)
			break;
	}
	if (r == 0) {
		struct hash sum = hash_stream_sum(stream);
		if (done != h->index_size || !hash_equal(&sum, &h->index_hash))
			r = -EBADMSG;
	}
	hash_stream_free(stream);
	free(piece);
	if (r == -EBADMSG || r == -ENOENT)
		return reterr_set(err, -EBADMSG,
				  "%s: the atom index is %s; `protofs fsck --repair` makes it anew",
				  path, r == -ENOENT ? "missing" : "damaged");
	return r < 0 ? reterr_set(err, r, "%s: %s", path, strerror(-r)) : 0;
}

/* The note in the place of the part, which is missing. -EBADMSG nobody gave it up, or it is damaged. */
static int open_note(struct sealed *sealed, struct disk *disk, const char *part, struct reterr *err)
{
	const struct sealed_header *h = &sealed->header;
	char path[DISK_PATH_MAX];
	uint64_t size = 0;

	part_path(PART_NOTE, &h->segment, h->start, path);
	int r = disk_open(disk, path, DISK_READ, &sealed->note);
	if (r == -ENOENT)
		return reterr_set(err, -EBADMSG, "%s: the sealed part is missing", part);
	if (r == 0)
		r = disk_size(sealed->note, &size);
	if (r < 0)
		return reterr_set(err, r, "%s: %s", path, strerror(-r));
	if (size > h->length || (size && (h->length - size) % PART_PAGE_SIZE))
		return reterr_set(err, -EBADMSG, "%s: is damaged: it cannot have %llu bytes", path,
				  (unsigned long long)size);
	sealed->local_from = h->length - size;
	return 0;
}

static int open_data(struct sealed *sealed, struct disk *disk, struct reterr *err)
{
	const struct sealed_header *h = &sealed->header;
	char path[DISK_PATH_MAX];
	uint64_t size;

	part_path(PART_DATA, &h->segment, h->start, path);
	/* Long reads past the page cache: who reads them through a mount has them in the kernel's own. */
	int r = disk_open(disk, path, DISK_READ | DISK_READ_EXACT | DISK_READ_ONCE, &sealed->data);
	if (r == -ENOENT)
		return open_note(sealed, disk, path, err);
	if (r == 0)
		r = disk_size(sealed->data, &size);
	if (r < 0)
		return reterr_set(err, r, "%s: %s", path, strerror(-r));
	/* Longer: the crash came before the cut. The bytes beyond are never read. */
	if (size < h->length)
		return reterr_set(err, -EBADMSG, "%s: holds %llu of the sealed part's %llu bytes",
				  path, (unsigned long long)size, (unsigned long long)h->length);
	return 0;
}

int sealed_open(struct disk *disk, const struct uuid *segment, uint64_t start, bool with_data,
		struct reterr *err, struct sealed **ret)
{
	struct sealed *sealed = calloc(1, sizeof(*sealed));
	if (!sealed)
		return -ENOMEM;

	int r = open_table(sealed, disk, segment, start, err);
	if (r == 0)
		r = open_index(sealed, disk, err);
	if (r == 0 && with_data)
		r = open_data(sealed, disk, err);
	if (r < 0) {
		sealed_close(sealed);
		return r;
	}
	*ret = sealed;
	return 0;
}

void sealed_close(struct sealed *sealed)
{
	if (!sealed)
		return;
	disk_close(sealed->data);
	disk_close(sealed->note);
	disk_close(sealed->table);
	disk_close(sealed->index);
	free(sealed);
}

int sealed_page_sum(const struct sealed *sealed, uint64_t page, struct hash *ret)
{
	if (page >= sealed->header.page_count)
		return -EBADMSG;
	return disk_read_full(sealed->table, ret->bytes, HASH_SIZE,
			      SEALED_HEADER_SIZE + page * HASH_SIZE);
}

int sealed_mib_sum(const struct sealed *sealed, uint64_t mib, struct hash *ret)
{
	const struct sealed_header *h = &sealed->header;

	if (mib < h->mib_first || mib - h->mib_first >= h->mib_count)
		return -EBADMSG;
	uint64_t sum = h->page_count + (mib - h->mib_first);
	return disk_read_full(sealed->table, ret->bytes, HASH_SIZE,
			      SEALED_HEADER_SIZE + sum * HASH_SIZE);
}

/* ---- The index ------------------------------------------------------------------------------ */

static uint64_t directory_offset(const struct sealed *sealed)
{
	const struct sealed_header *h = &sealed->header;
	return h->index_size - (uint64_t)h->page_count * INDEX_ENTRY_SIZE;
}

/* The last page at or before PAGE in which a frame begins: where to start decoding. */
static int find_start(const struct sealed *sealed, uint64_t page, uint64_t *ret_position,
		      uint64_t *ret_offset)
{
	enum { ENTRIES = 512 };
	uint8_t entries[ENTRIES * INDEX_ENTRY_SIZE];

	/* Pages behind a large frame have none: go back in strides of one read. */
	for (uint64_t end = page + 1; end > 0;) {
		uint64_t first = end > ENTRIES ? end - ENTRIES : 0;
		size_t size = (size_t)(end - first) * INDEX_ENTRY_SIZE;
		int r = disk_read_full(sealed->index, entries, size,
				       directory_offset(sealed) + first * INDEX_ENTRY_SIZE);
		if (r < 0)
			return r;
		for (uint64_t i = end; i > first; i--) {
			const uint8_t *entry = entries + (size_t)(i - 1 - first) * INDEX_ENTRY_SIZE;
			uint32_t biased = load_le32(entry + 4);
			if (biased == INDEX_NO_FRAME)
				continue;
			*ret_position = load_le32(entry);
			*ret_offset = sealed->header.start + biased - INDEX_BIAS;
			return 0;
		}
		end = first;
	}
	*ret_position = 0;
	*ret_offset = sealed->header.frames_first;
	return 0;
}

/* Takes one LEB128 number. -ENODATA it goes on behind IN; -EBADMSG it is none of ours. */
static int take_leb128(struct slice *in, uint64_t *ret)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < 6; i++) {
		if (i >= in->size)
			return -ENODATA;
		uint8_t byte = in->data[i];
		value |= (uint64_t)(byte & 0x7f) << (7 * i);
		if (!(byte & 0x80)) {
			in->data += i + 1;
			in->size -= i + 1;
			*ret = value;
			return 0;
		}
	}
	return -EBADMSG;
}

int sealed_frames(const struct sealed *sealed, uint64_t from, struct engine_frame *frames,
		  size_t count, size_t *ret)
{
	const struct sealed_header *h = &sealed->header;
	uint8_t window[4096];
	uint64_t position, offset;
	size_t found = 0;

	*ret = 0;
	if (h->frame_count == 0 || from >= h->frames_next)
		return 0;
	uint64_t page = from > h->start ? (from - h->start) / PART_PAGE_SIZE : 0;
	int r = find_start(sealed, page < h->page_count ? page : h->page_count - 1u, &position,
			   &offset);
	if (r < 0)
		return r;

	uint64_t at = INDEX_HEADER_SIZE + position;
	uint64_t end = directory_offset(sealed);
	while (found < count && offset < h->frames_next && at < end) {
		size_t size = end - at < sizeof(window) ? (size_t)(end - at) : sizeof(window);
		r = disk_read_full(sealed->index, window, size, at);
		if (r < 0)
			return r;
		struct slice in = {.data = window, .size = size};
		uint64_t payload_size;
		while (found < count && (r = take_leb128(&in, &payload_size)) == 0) {
			if (offset >= from)
				frames[found++] = (struct engine_frame){.offset = offset,
									.size = payload_size};
			offset += ENGINE_FRAME_HEADER_SIZE + payload_size;
		}
		if (r == -EBADMSG || (r == -ENODATA && in.size == size))
			return -EBADMSG;
		at += size - in.size;
	}
	*ret = found;
	return 0;
}

int sealed_last_frame(const struct sealed *sealed, uint64_t *ret_offset)
{
	const struct sealed_header *h = &sealed->header;
	struct engine_frame frames[64];
	uint64_t position, from;
	size_t count;

	if (h->frame_count == 0)
		return -ENOENT;
	int r = find_start(sealed, h->page_count - 1u, &position, &from);
	while (r == 0) {
		r = sealed_frames(sealed, from, frames, ARRAY_SIZE(frames), &count);
		if (r < 0 || count == 0)
			break;
		*ret_offset = frames[count - 1].offset;
		from = *ret_offset + 1;
	}
	return r;
}
