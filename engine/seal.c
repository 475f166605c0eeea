/*
 * Sealing: an ended part becomes byte-exact and never changes again.
 *
 * The order, and what a crash leaves behind each step:
 *   1. the index, flushed, its name too   no table: the part is still an open one; sealing starts again
 *   2. the table as .tmp, flushed         the same
 *   3. rename to .table, sync of the directory: the commit point
 *   4. cut of the part to its length, flushed    a valid table and a longer part: step 4 is done again
 *
 * All that goes into the table was verified against the part's own entries as they lie on the disk.
 */
#include "engine/sealed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/invariant.h"
#include "base/slice.h"
#include "engine/part_scan.h"

enum { INDEX_WRITE_SIZE = 64 << 10, LEB128_MAX = 6 };

struct sealing {
	const struct seal_request *request;
	struct part_sums *sums;
	struct frame_scan scan;
	struct disk_file *index;
	struct hash_stream *index_hash;
	uint64_t index_size; /* bytes written to the index file */
	struct buf pending;  /* bytes of it still in memory */
	uint8_t *directory;  /* INDEX_ENTRY_SIZE bytes a page */
	uint64_t frame_count;
	uint64_t frames_first;
	int error; /* of a callback that cannot return one */
};

static int index_flush_pending(struct sealing *s)
{
	if (s->pending.size == 0)
		return 0;
	struct iovec iov = {.iov_base = s->pending.data, .iov_len = s->pending.size};
	struct disk_job job = {.file = s->index,
			       .writes = {{.iov = &iov, .iov_count = 1, .offset = s->index_size}},
			       .write_count = 1,
			       .no_flush = true};
	int r = disk_commit(s->request->disk, &job, 1);
	if (r < 0)
		return r;
	hash_stream_update(s->index_hash, s->pending.data, s->pending.size);
	s->index_size += s->pending.size;
	buf_clear(&s->pending);
	return 0;
}

static int index_append(struct sealing *s, const void *data, size_t size)
{
	if (s->pending.size + size > INDEX_WRITE_SIZE) {
		int r = index_flush_pending(s);
		if (r < 0)
			return r;
	}
	return buf_append(&s->pending, data, size);
}

static void on_frame(void *arg, uint64_t offset, uint64_t size)
{
	struct sealing *s = arg;
	uint64_t biased = offset + INDEX_BIAS - s->request->start;
	uint64_t page = offset > s->request->start ? (offset - s->request->start) / PART_PAGE_SIZE
						   : 0;
	uint8_t *entry = s->directory + page * INDEX_ENTRY_SIZE;

	if (s->frame_count++ == 0)
		s->frames_first = offset;
	if (load_le32(entry + 4) == INDEX_NO_FRAME) {
		store_le32(entry, (uint32_t)(s->index_size + s->pending.size - INDEX_HEADER_SIZE));
		store_le32(entry + 4, (uint32_t)biased);
	}

	uint8_t leb128[LEB128_MAX];
	size_t n = 0;
	for (; size >= 0x80; size >>= 7)
		leb128[n++] = (uint8_t)(size | 0x80);
	leb128[n++] = (uint8_t)size;
	int r = index_append(s, leb128, n);
	if (r < 0 && s->error == 0)
		s->error = r;
}

static int on_bytes(void *arg, const void *data, size_t size)
{
	struct sealing *s = arg;

	part_sums_feed(s->sums, data, size);
	frame_scan_feed(&s->scan, data, size, on_frame, s);
	if (s->request->pause)
		s->request->pause(s->request->pause_arg);
	return s->error;
}

static int sealing_init(struct sealing *s, struct reterr *err)
{
	const struct seal_request *request = s->request;
	char path[DISK_PATH_MAX];
	uint64_t pages_max = request->geometry.data_size / PART_PAGE_SIZE;

	s->pending.max = INDEX_WRITE_SIZE;
	s->directory = malloc(pages_max * INDEX_ENTRY_SIZE);
	if (!s->directory || hash_stream_new(&s->index_hash) < 0)
		return -ENOMEM;
	memset(s->directory, 0xff, pages_max * INDEX_ENTRY_SIZE);
	int r = part_sums_new(request->start, request->geometry.data_size, request->head, &s->sums);
	if (r < 0)
		return r;
	frame_scan_init(&s->scan, request->start, request->header_start, request->header);
	s->scan.bad = request->frames_bad;
	s->frames_first = request->header_start;

	part_dir(PART_INDEX, &request->segment, path);
	r = disk_mkdir(request->disk, path);
	/* Also if it was there: an earlier attempt may have failed to sync it. */
	if (r == 0 || r == -EEXIST)
		r = disk_sync_dir(request->disk, "sealed");
	if (r < 0)
		return reterr_set(err, r, "%s: cannot be made: %s", path, strerror(-r));
	part_path(PART_INDEX, &request->segment, request->start, path);
	r = disk_open(request->disk, path, DISK_WRITE | DISK_CREATE | DISK_REPLACE, &s->index);
	if (r < 0)
		return reterr_set(err, r, "%s: cannot be made: %s", path, strerror(-r));

	uint8_t header[INDEX_HEADER_SIZE] = SEALED_INDEX_MAGIC;
	memcpy(header + 8, request->segment.bytes, sizeof(request->segment.bytes));
	store_le64(header + 24, request->start);
	return buf_append(&s->pending, header, sizeof(header));
}

static void sealing_done(struct sealing *s)
{
	part_sums_free(s->sums);
	hash_stream_free(s->index_hash);
	disk_close(s->index);
	buf_done(&s->pending);
	free(s->directory);
}

static int scan_data(struct sealing *s, struct disk_file *data, uint32_t *ret_epoch,
		     struct reterr *err)
{
	const struct seal_request *request = s->request;
	char text[UUID_TEXT_LENGTH + 1];
	struct part_scan scan = {.file = data,
				 .geometry = request->geometry,
				 .segment = request->segment,
				 .start = request->start,
				 .limit = request->limit,
				 .bytes = on_bytes,
				 .arg = s};

	int r = part_scan(&scan);
	if (r < 0)
		return reterr_set(err, r, "segment %s: reading the part at %" PRIu64 " failed: %s",
				  uuid_format(&request->segment, text), request->start,
				  strerror(-r));
	if (scan.damaged || scan.length < request->length_min)
		return reterr_set(err, -EBADMSG,
				  "segment %s: damage at byte %" PRIu64
				  ": acknowledged data do not match their checksum",
				  uuid_format(&request->segment, text),
				  request->start + scan.length);
	*ret_epoch = scan.epoch;
	return 0;
}

static int write_index(struct sealing *s, struct sealed_header *h)
{
	size_t pages = h->page_count;
	int r = 0;

	for (size_t i = 0; i < pages && r == 0; i++)
		r = index_append(s, s->directory + i * INDEX_ENTRY_SIZE, INDEX_ENTRY_SIZE);
	if (r == 0)
		r = index_flush_pending(s);
	if (r == 0)
		r = disk_flush(s->index);
	h->index_size = s->index_size;
	h->index_hash = hash_stream_sum(s->index_hash);
	return r;
}

static int encode_table(const struct sealing *s, const struct sealed_header *h, struct buf *table)
{
	uint8_t bytes[SEALED_HEADER_SIZE] = SEALED_TABLE_MAGIC;

	store_le32(bytes + 8, SEALED_VERSION);
	store_le32(bytes + 12, PART_PAGE_SIZE);
	memcpy(bytes + 16, h->segment.bytes, sizeof(h->segment.bytes));
	store_le64(bytes + 32, h->start);
	store_le64(bytes + 40, h->length);
	store_le32(bytes + 48, h->page_count);
	store_le32(bytes + 52, h->mib_count);
	store_le64(bytes + 56, h->mib_first);
	store_le64(bytes + 64, h->index_size);
	memcpy(bytes + 72, h->index_hash.bytes, HASH_SIZE);
	store_le64(bytes + 88, h->frames_first);
	store_le64(bytes + 96, h->frames_next);
	store_le64(bytes + 104, h->frame_count);
	store_le32(bytes + 112, h->epoch);
	store_le32(bytes + 116, h->frames_bad ? SEALED_FRAMES_BAD : 0);

	int r = buf_append(table, bytes, sizeof(bytes));
	for (size_t i = 0; i < h->page_count && r == 0; i++)
		r = buf_append(table, s->sums->pages[i].bytes, HASH_SIZE);
	for (size_t i = 0; i < h->mib_count && r == 0; i++)
		r = buf_append(table, s->sums->mibs[i].bytes, HASH_SIZE);
	if (r < 0)
		return r;
	struct hash sum = hash_of(table->data, table->size);
	return buf_append(table, sum.bytes, HASH_SIZE);
}

static int write_table(const struct sealing *s, const struct sealed_header *h)
{
	CLEANUP(buf_done) struct buf table = {.max = SEALED_TABLE_SIZE_MAX};
	char dir[DISK_PATH_MAX], path[DISK_PATH_MAX];

	int r = encode_table(s, h, &table);
	if (r < 0)
		return r;
	part_dir(PART_TABLE, &h->segment, dir);
	part_path(PART_TABLE, &h->segment, h->start, path);
	/*
	 * The index has its name before the table has its own: a table that is there is one with an
	 * index.
	 */
	r = disk_sync_dir(s->request->disk, dir);
	if (r < 0)
		return r;
	return disk_replace_file(s->request->disk, dir, path, table.data, table.size);
}

static int cut_data(struct disk_file *data, const struct uuid *segment, uint64_t start,
		    uint64_t length, struct reterr *err)
{
	uint64_t size;
	char text[UUID_TEXT_LENGTH + 1];
	int r = disk_size(data, &size);

	if (r == 0 && size > length)
		r = disk_truncate(data, length);
	/* In any case: whoever cut it before may not have lived to flush it. */
	if (r == 0)
		r = disk_flush(data);
	if (r < 0)
		return reterr_set(err, r,
				  "segment %s: the sealed part at %" PRIu64
				  " cannot be cut to its length: %s",
				  uuid_format(segment, text), start, strerror(-r));
	return 0;
}

int seal_cut(struct disk *disk, const struct uuid *segment, uint64_t start, uint64_t length,
	     struct reterr *err)
{
	struct disk_file *data;
	char path[DISK_PATH_MAX];

	part_path(PART_DATA, segment, start, path);
	int r = disk_open(disk, path, DISK_WRITE, &data);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return reterr_set(err, r, "%s: %s", path, strerror(-r));
	r = cut_data(data, segment, start, length, err);
	disk_close(data);
	return r;
}

static int seal_fresh(const struct seal_request *request, struct disk_file *data,
		      struct sealed_header *ret, struct reterr *err)
{
	CLEANUP(sealing_done) struct sealing s = {.request = request};
	char text[UUID_TEXT_LENGTH + 1];
	uint32_t epoch = 0;

	int r = sealing_init(&s, err);
	if (r == 0)
		r = scan_data(&s, data, &epoch, err);
	if (r < 0)
		return r;

	struct part_sums *sums = s.sums;
	struct sealed_header h = {
		.segment = request->segment,
		.start = request->start,
		.length = sums->length,
		.page_count = (uint32_t)((sums->length + PART_PAGE_SIZE - 1) / PART_PAGE_SIZE),
		.mib_count = (uint32_t)part_sums_mib_count(sums, sums->length),
		.mib_first = sums->mib_first,
		.frames_first = s.frames_first,
		.frames_next = s.scan.next,
		.frame_count = s.frame_count,
		.epoch = epoch,
		.frames_bad = s.scan.bad,
	};
	if (sums->length % PART_PAGE_SIZE)
		sums->pages[sums->length / PART_PAGE_SIZE] = part_sums_tail(sums);
	r = write_index(&s, &h);
	if (r == 0)
		r = write_table(&s, &h);
	if (r < 0)
		return reterr_set(err, r, "segment %s: sealing the part at %" PRIu64 " failed: %s",
				  uuid_format(&request->segment, text), request->start,
				  strerror(-r));
	*ret = h;
	return 0;
}

int seal_part(const struct seal_request *request, struct sealed_header *ret, struct reterr *err)
{
	struct disk_file *data = NULL;
	struct sealed *sealed = NULL;
	char path[DISK_PATH_MAX];

	part_path(PART_DATA, &request->segment, request->start, path);
	int r = disk_open(request->disk, path, DISK_WRITE | (request->cached ? 0 : DISK_READ_ONCE),
			  &data);
	if (r < 0)
		return reterr_set(err, r, "%s: %s", path, strerror(-r));

	r = sealed_open(request->disk, &request->segment, request->start, false, NULL, &sealed);
	if (r == 0) {
		*ret = sealed->header;
		sealed_close(sealed);
		if (ret->length < request->length_min)
			r = reterr_set(err, -EBADMSG,
				       "%s: its table speaks of %" PRIu64 " bytes, but %" PRIu64
				       " were acknowledged",
				       path, ret->length, request->length_min);
		/*
		 * Its rename may have been seen by nobody but us: the cut must not come before it.
		 */
		part_dir(PART_TABLE, &request->segment, path);
		if (r == 0) {
			r = disk_sync_dir(request->disk, path);
			if (r < 0)
				(void)reterr_set(err, r, "%s: %s", path, strerror(-r));
		}
	} else if (r == -ENOENT) {
		r = seal_fresh(request, data, ret, err);
	} else {
		(void)reterr_set(err, r, "segment part %s has a damaged table", path);
	}
	if (r == 0)
		r = cut_data(data, &request->segment, request->start, ret->length, err);
	disk_close(data);
	return r;
}
