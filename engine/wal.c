/* The open part in memory: its file, the room that it has, the bytes that wait in it. */
#include "engine/wal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/invariant.h"
#include "engine/part_scan.h"
#include "engine/sealed.h"
#include "engine/wal_blocks.h"

/* ---- Open and free -------------------------------------------------------------------------- */

static int make_memory(struct wal *wal, const void *head)
{
	size_t pages = (size_t)(wal->geometry.data_size / PART_PAGE_SIZE);
	void *blocks = NULL;

	if (posix_memalign(&blocks, DISK_BLOCK_SIZE, (size_t)2 * DISK_BLOCK_SIZE) != 0)
		return -ENOMEM;
	wal->block = blocks;
	wal->table_block = wal->block + DISK_BLOCK_SIZE;
	memset(wal->block, 0, (size_t)2 * DISK_BLOCK_SIZE);
	wal->first = malloc(pages * sizeof(*wal->first));
	if (!wal->first)
		return -ENOMEM;
	memset(wal->first, 0xff, pages * sizeof(*wal->first));
	int r = hash_stream_new(&wal->entry_hash);
	return r < 0 ? r : part_sums_new(wal->start, wal->geometry.data_size, head, &wal->sums);
}

static int make_directory(struct wal *wal)
{
	char path[DISK_PATH_MAX];
	part_dir(PART_DATA, &wal->segment, path);
	int r = disk_mkdir(wal->disk, path);
	/* Also if it was there: an earlier attempt may have failed to sync it. */
	return r < 0 && r != -EEXIST ? r : disk_sync_dir(wal->disk, "segments");
}

static int make_file(struct wal *wal)
{
	const struct part_geometry *g = &wal->geometry;
	char dir[DISK_PATH_MAX], path[DISK_PATH_MAX];

	part_dir(PART_DATA, &wal->segment, dir);
	part_path(PART_DATA, &wal->segment, wal->start, path);
	int r = make_directory(wal);
	/*
	 * What is there is a part that never held a durable byte: of a crash, or poisoned just now.
	 * That one may still be written to, so that it must not be the same file.
	 */
	if (r == 0)
		r = disk_unlink(wal->disk, path);
	if (r == 0 || r == -ENOENT)
		r = disk_open(wal->disk, path, DISK_WRITE | DISK_CREATE | DISK_DIRECT, &wal->file);
	/* The final size at once, so that no commit has to record a new one. */
	if (r == 0)
		r = disk_truncate(wal->file, part_table_offset(g, PART_TABLE_COPIES));
	if (r == 0) {
		struct wal_reservation first = wal_reservation_for(wal, DISK_BLOCK_SIZE);
		r = wal_reserve(wal, &first);
		if (r == 0)
			wal_reserved(wal, &first);
	}
	if (r == 0)
		r = wal_zero_write(wal, 0, wal_min(WAL_TABLE_WINDOW, g->table_size), true);
	if (r == 0)
		wal->table_zeroed = wal_min(WAL_TABLE_WINDOW, g->table_size);
	return r == 0 ? disk_sync_dir(wal->disk, dir) : r;
}

static struct wal *wal_new(struct disk *disk, struct pool *pool,
			   const struct part_geometry *geometry, const struct uuid *segment,
			   uint64_t start)
{
	struct wal *wal = calloc(1, sizeof(*wal));
	if (wal)
		*wal = (struct wal){.disk = disk,
				    .pool = pool,
				    .geometry = *geometry,
				    .segment = *segment,
				    .start = start,
				    .tag = part_tag(segment, start),
				    .zero_ahead = WAL_ZERO_SLICE};
	return wal;
}

int wal_open(struct disk *disk, struct pool *pool, const struct wal_origin *origin,
	     struct reterr *err, struct wal **ret)
{
	const struct uuid *segment = origin->segment;
	const uint64_t start = origin->start;
	char text[UUID_TEXT_LENGTH + 1];
	struct wal *wal = wal_new(disk, pool, origin->geometry, segment, start);
	if (!wal)
		return -ENOMEM;
	wal->epoch = origin->epoch;

	int r = make_memory(wal, origin->head);
	if (r == 0)
		r = make_file(wal);
	if (r < 0) {
		wal_free(wal);
		/* Empty as it is, it would be in the way of `cat`. */
		char path[DISK_PATH_MAX];
		part_path(PART_DATA, segment, start, path);
		(void)!disk_unlink(disk, path);
		return reterr_set(err, r,
				  "segment %s: a new part at byte %" PRIu64 " cannot be made: %s",
				  uuid_format(segment, text), start, strerror(-r));
	}
	*ret = wal;
	return 0;
}

struct recovering {
	struct wal *wal;
	struct frame_scan *frames;
};

static void recovered_frame(void *arg, uint64_t offset, uint64_t size)
{
	(void)size;
	wal_note_frame(arg, offset);
}

static int recovered_bytes(void *arg, const void *data, size_t size)
{
	struct recovering *r = arg;

	part_sums_feed(r->wal->sums, data, size);
	frame_scan_feed(r->frames, data, size, recovered_frame, r->wal);
	return 0;
}

static int recover_tail(struct wal *wal, uint64_t length)
{
	wal->accepted = wal->durable = wal->reserved = length;
	wal->buffered = length - length % PART_PAGE_SIZE;
	size_t size = (size_t)(length - wal->buffered);
	wal->tail = malloc(size + 1);
	if (!wal->tail)
		return -ENOMEM;
	return disk_read_full(wal->file, wal->tail, size, wal->buffered);
}

int wal_recover(struct disk *disk, struct pool *pool, struct part_scan *scan, const void *head,
		struct frame_scan *frames, struct wal **ret)
{
	char path[DISK_PATH_MAX];
	struct wal *wal = wal_new(disk, pool, &scan->geometry, &scan->segment, scan->start);
	if (!wal)
		return -ENOMEM;

	struct recovering recovering = {.wal = wal, .frames = frames};
	part_path(PART_DATA, &scan->segment, scan->start, path);
	int r = make_memory(wal, head);
	if (r == 0)
		r = disk_open(disk, path, DISK_READ, &wal->file); /* sealing reads it again */
	scan->file = wal->file;
	scan->bytes = recovered_bytes;
	scan->arg = &recovering;
	if (r == 0)
		r = part_scan(scan);
	if (r == 0)
		r = recover_tail(wal, scan->length);
	if (r < 0) {
		wal_free(wal);
		return r;
	}
	wal->entries = scan->entries;
	wal->commit_from = scan->last_from;
	wal->recovered = true;
	*ret = wal;
	return 0;
}

/* Bytes [from, to) of FILE, over themselves. */
static int rewrite(struct disk *disk, struct disk_file *file, uint64_t from, uint64_t to,
		   uint8_t *piece)
{
	int r = 0;

	while (r == 0 && from < to) {
		struct iovec iov = {.iov_base = piece,
				    .iov_len = (size_t)wal_min(to - from, WAL_ZERO_SLICE)};
		struct disk_job job = {.file = file, .write_count = 1, .no_flush = true};
		job.writes[0] = (struct disk_write){.iov = &iov, .iov_count = 1, .offset = from};
		r = disk_read_full(file, piece, iov.iov_len, from);
		if (r == 0)
			r = disk_commit(disk, &job, 1);
		from += iov.iov_len;
	}
	return r;
}

int wal_rewrite_last(struct wal *wal)
{
	struct disk_file *file = NULL;
	char path[DISK_PATH_MAX];
	uint32_t slot = wal->entries - 1;
	uint64_t block = (uint64_t)(slot - slot % PART_ENTRIES_PER_BLOCK) * PART_ENTRY_SIZE;
	uint8_t *piece = malloc(WAL_ZERO_SLICE);

	part_path(PART_DATA, &wal->segment, wal->start, path);
	int r = piece ? disk_open(wal->disk, path, DISK_WRITE, &file) : -ENOMEM;
	if (r == 0)
		r = rewrite(wal->disk, file, wal->commit_from, wal->durable, piece);
	for (unsigned copy = 0; copy < PART_TABLE_COPIES && r == 0; copy++) {
		uint64_t at = part_table_offset(&wal->geometry, copy) + block;
		r = rewrite(wal->disk, file, at, at + DISK_BLOCK_SIZE, piece);
	}
	if (r == 0)
		r = disk_flush(file);
	disk_close(file);
	free(piece);
	return r;
}

void wal_free(struct wal *wal)
{
	if (!wal)
		return;
	for (unsigned i = 0; i < wal->chunk_count; i++)
		pool_give(wal->pool, wal->chunks[i]);
	disk_close(wal->file);
	part_sums_free(wal->sums);
	hash_stream_free(wal->entry_hash);
	free(wal->first);
	free(wal->block);
	free(wal->tail);
	free(wal);
}

/* ---- Room ----------------------------------------------------------------------------------- */

static uint64_t buffer_end(const struct wal *wal)
{
	if (wal->chunk_count == 0)
		return wal->accepted;
	return wal->chunk_base + (uint64_t)wal->chunk_count * POOL_CHUNK_SIZE;
}

bool wal_has_room(const struct wal *wal, uint64_t size)
{
	return size <= wal->geometry.data_size - wal->accepted &&
	       wal_table_needed(wal) <= wal->geometry.table_size;
}

bool wal_fits(const struct wal *wal, uint64_t size)
{
	return wal_has_room(wal, size) && wal->accepted + size <= wal->reserved &&
	       wal_table_needed(wal) <= wal->table_reserved &&
	       wal->accepted + size <= buffer_end(wal) &&
	       wal->accepted + size - wal->durable <= WAL_PENDING_MAX;
}

int wal_buffer(struct wal *wal, uint64_t size)
{
	while (wal->accepted + size > buffer_end(wal)) {
		uint8_t *chunk;
		invariant(wal->chunk_count < WAL_CHUNKS_MAX);
		int r = pool_take(wal->pool, &chunk);
		if (r < 0)
			return r;
		if (wal->chunk_count == 0) {
			wal->chunk_base = wal->buffered;
			if (wal->accepted > wal->buffered)
				memcpy(chunk, wal->tail, (size_t)(wal->accepted - wal->buffered));
			free(wal->tail);
			wal->tail = NULL;
		}
		wal->chunks[wal->chunk_count++] = chunk;
	}
	return 0;
}

struct wal_reservation wal_reservation_for(const struct wal *wal, uint64_t size)
{
	const struct part_geometry *g = &wal->geometry;
	struct wal_reservation wanted = {.data_from = wal->reserved,
					 .table_from = wal->table_reserved,
					 .data = wal->reserved,
					 .table = wal->table_reserved};
	uint64_t data = wal_block_ceil(wal->accepted + size);

	if (data > wanted.data)
		wanted.data = wal_min(data, g->data_size);
	while (wanted.table < wal_table_needed(wal) && wanted.table < g->table_size)
		wanted.table = wal_min(wanted.table + WAL_TABLE_WINDOW, g->table_size);
	return wanted;
}

int wal_reserve(struct wal *wal, struct wal_reservation *wanted)
{
	const struct part_geometry *g = &wal->geometry;
	int r = 0;

	if (wanted->data > wanted->data_from) {
		uint64_t window = wal_min(wanted->data_from + WAL_RESERVE_WINDOW, g->data_size);
		if (window < wanted->data)
			window = wanted->data;
		r = disk_reserve(wal->file, wanted->data_from, window - wanted->data_from);
		if (r == -ENOSPC && window > wanted->data)
			r = disk_reserve(wal->file, wanted->data_from,
					 wanted->data - wanted->data_from);
		else
			wanted->data = window;
	}
	for (unsigned copy = 0; copy < PART_TABLE_COPIES && r == 0; copy++)
		if (wanted->table > wanted->table_from)
			r = disk_reserve(wal->file, part_table_offset(g, copy) + wanted->table_from,
					 wanted->table - wanted->table_from);
	return r;
}

void wal_reserved(struct wal *wal, const struct wal_reservation *got)
{
	if (got->data > wal->reserved)
		wal->reserved = got->data;
	if (got->table > wal->table_reserved)
		wal->table_reserved = got->table;
}

/* ---- Bytes in ------------------------------------------------------------------------------- */

void wal_accept(struct wal *wal, const void *data, size_t size)
{
	const uint8_t *from = data;

	while (size) {
		uint64_t at = wal->accepted - wal->chunk_base;
		size_t inside = (size_t)(at % POOL_CHUNK_SIZE);
		size_t piece = POOL_CHUNK_SIZE - inside;
		if (piece > size)
			piece = size;
		memcpy(wal->chunks[at / POOL_CHUNK_SIZE] + inside, from, piece);
		wal->accepted += piece;
		from += piece;
		size -= piece;
	}
}

void wal_note_frame(struct wal *wal, uint64_t offset)
{
	uint64_t page = offset > wal->start ? (offset - wal->start) / PART_PAGE_SIZE : 0;

	if (wal->first[page] == INDEX_NO_FRAME)
		wal->first[page] = (uint32_t)(offset + INDEX_BIAS - wal->start);
}

void wal_copy(const struct wal *wal, void *data, size_t size, uint64_t offset)
{
	uint8_t *to = data;

	invariant(offset >= wal->buffered && offset + size <= wal->accepted);
	if (wal->chunk_count == 0) {
		if (size)
			memcpy(to, wal->tail + (offset - wal->buffered), size);
		return;
	}
	while (size) {
		uint64_t at = offset - wal->chunk_base;
		size_t inside = (size_t)(at % POOL_CHUNK_SIZE);
		size_t piece = POOL_CHUNK_SIZE - inside;
		if (piece > size)
			piece = size;
		memcpy(to, wal->chunks[at / POOL_CHUNK_SIZE] + inside, piece);
		to += piece;
		offset += piece;
		size -= piece;
	}
}

void wal_shrink(struct wal *wal)
{
	size_t size = (size_t)(wal->accepted - wal->buffered);

	if (wal->chunk_count == 0 || wal->durable != wal->accepted)
		return;
	uint8_t *tail = malloc(size + 1);
	if (!tail)
		return; /* the chunks stay: no harm */
	wal_copy(wal, tail, size, wal->buffered);
	for (unsigned i = 0; i < wal->chunk_count; i++)
		pool_give(wal->pool, wal->chunks[i]);
	wal->chunk_count = 0;
	wal->tail = tail;
}

void wal_forget_pending(struct wal *wal)
{
	wal->accepted = wal->durable;
	wal_shrink(wal);
}
