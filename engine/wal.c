#include "engine/wal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/invariant.h"
#include "engine/part_scan.h"
#include "engine/sealed.h"

static uint64_t block_floor(uint64_t offset)
{
	return offset - offset % DISK_BLOCK_SIZE;
}

static uint64_t block_ceil(uint64_t offset)
{
	return block_floor(offset + DISK_BLOCK_SIZE - 1);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* One slice of zeros for all: never written to. */
static const uint8_t *zeros(void)
{
	static _Alignas(DISK_BLOCK_SIZE) uint8_t slice[WAL_TABLE_WINDOW]; /* .bss, not .rodata */
	return slice;
}

static struct iovec zero_iov(uint64_t size)
{
	/* struct iovec has no const; nobody writes through it. */
	union {
		const uint8_t *in;
		void *out;
	} address = {.in = zeros()};
	return (struct iovec){.iov_base = address.out, .iov_len = (size_t)size};
}

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
		r = wal_zero_write(wal, 0, min_u64(WAL_TABLE_WINDOW, g->table_size), true);
	if (r == 0)
		wal->table_zeroed = min_u64(WAL_TABLE_WINDOW, g->table_size);
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

int wal_open(struct disk *disk, struct pool *pool, const struct part_geometry *geometry,
	     const struct uuid *segment, uint64_t start, uint32_t epoch, const void *head,
	     struct reterr *err, struct wal **ret)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct wal *wal = wal_new(disk, pool, geometry, segment, start);
	if (!wal)
		return -ENOMEM;
	wal->epoch = epoch;

	int r = make_memory(wal, head);
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
				    .iov_len = (size_t)min_u64(to - from, WAL_ZERO_SLICE)};
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

/* A commit in flight and the one after it each take a slot. */
static uint64_t table_needed(const struct wal *wal)
{
	return ((uint64_t)wal->entries + 2) * PART_ENTRY_SIZE;
}

bool wal_has_room(const struct wal *wal, uint64_t size)
{
	return size <= wal->geometry.data_size - wal->accepted &&
	       table_needed(wal) <= wal->geometry.table_size;
}

bool wal_fits(const struct wal *wal, uint64_t size)
{
	return wal_has_room(wal, size) && wal->accepted + size <= wal->reserved &&
	       table_needed(wal) <= wal->table_reserved &&
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
	uint64_t data = block_ceil(wal->accepted + size);

	if (data > wanted.data)
		wanted.data = min_u64(data, g->data_size);
	while (wanted.table < table_needed(wal) && wanted.table < g->table_size)
		wanted.table = min_u64(wanted.table + WAL_TABLE_WINDOW, g->table_size);
	return wanted;
}

int wal_reserve(struct wal *wal, struct wal_reservation *wanted)
{
	const struct part_geometry *g = &wal->geometry;
	int r = 0;

	if (wanted->data > wanted->data_from) {
		uint64_t window = min_u64(wanted->data_from + WAL_RESERVE_WINDOW, g->data_size);
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

/* ---- Commit --------------------------------------------------------------------------------- */

bool wal_ahead_busy(const struct wal *wal)
{
	return wal->ahead_writing || wal->zeroing || wal->table_zeroing;
}

bool wal_ahead_in_the_way(const struct wal *wal)
{
	uint64_t slot_at = (uint64_t)wal->entries * PART_ENTRY_SIZE;

	if (wal->ahead_writing)
		return true;
	if (wal->table_zeroing && block_floor(slot_at) + DISK_BLOCK_SIZE > wal->table_zeroed)
		return true;
	return wal->zeroing && block_ceil(wal->accepted) > wal->zero_from &&
	       block_floor(wal->durable) < wal->zero_to;
}

/* Adds the chunks' memory of [OFFSET, END) to IOV; returns the new count. */
static int add_pieces(const struct wal *wal, uint64_t offset, uint64_t end, struct iovec *iov,
		      int iov_count)
{
	while (offset < end) {
		uint64_t at = offset - wal->chunk_base;
		size_t inside = (size_t)(at % POOL_CHUNK_SIZE);
		size_t piece = (size_t)min_u64(POOL_CHUNK_SIZE - inside, end - offset);
		iov[iov_count++] = (struct iovec){
			.iov_base = wal->chunks[at / POOL_CHUNK_SIZE] + inside, .iov_len = piece};
		offset += piece;
	}
	return iov_count;
}

void wal_commit_prepare(struct wal *wal)
{
	invariant(wal->accepted > wal->durable && wal->chunk_count > 0 && !wal->ahead_writing);
	wal->commit_from = wal->durable;
	wal->commit_to = wal->accepted;

	/* Whole blocks go out of the chunks, the partial one at the end out of a copy. */
	uint64_t first = block_floor(wal->commit_from);
	uint64_t whole_end = block_floor(wal->commit_to);
	bool ahead = wal->ahead_to > wal->ahead_from;
	uint64_t head_end = ahead ? wal->ahead_from : whole_end;
	uint64_t tail = ahead ? wal->ahead_to : whole_end;

	wal->head_count = add_pieces(wal, first, head_end, wal->iov, 0);
	wal->tail_start = add_pieces(wal, head_end, tail, wal->iov, wal->head_count);
	wal->tail_offset = tail;
	wal->iov_count = add_pieces(wal, tail, whole_end, wal->iov, wal->tail_start);
	if (wal->commit_to > whole_end) {
		size_t rest = (size_t)(wal->commit_to - whole_end);
		wal_copy(wal, wal->block, rest, whole_end);
		memset(wal->block + rest, 0, DISK_BLOCK_SIZE - rest);
		wal->iov[wal->iov_count++] =
			(struct iovec){.iov_base = wal->block, .iov_len = DISK_BLOCK_SIZE};
	}
	if (!ahead) /* one write */
		wal->head_count = wal->tail_start = wal->iov_count;
	/* What is written ahead from now on lies behind this commit. */
	wal->ahead_from = wal->ahead_to = 0;
	invariant(wal->iov_count <= (int)ARRAY_SIZE(wal->iov));
}

typedef void piece_fn(void *arg, const void *data, size_t size);

/* The committed bytes as they lie in the iovecs, without what pads them to blocks. */
static void each_piece(const struct wal *wal, piece_fn *fn, void *arg)
{
	uint64_t offset = block_floor(wal->commit_from);

	for (int i = 0; i < wal->iov_count; i++) {
		const uint8_t *data = wal->iov[i].iov_base;
		uint64_t end = offset + wal->iov[i].iov_len;
		uint64_t from = offset > wal->commit_from ? offset : wal->commit_from;
		uint64_t to = min_u64(end, wal->commit_to);
		fn(arg, data + (from - offset), (size_t)(to - from));
		offset = end;
	}
}

static void hash_piece(void *arg, const void *data, size_t size)
{
	hash_stream_update(arg, data, size);
}

static void sum_piece(void *arg, const void *data, size_t size)
{
	part_sums_feed(arg, data, size);
}

static struct hash commit_hash(const struct wal *wal)
{
	size_t size = (size_t)(wal->commit_to - wal->commit_from);
	size_t skip = (size_t)(wal->commit_from % DISK_BLOCK_SIZE);

	if (wal->iov_count == 1)
		return hash_of((const uint8_t *)wal->iov[0].iov_base + skip, size);
	hash_stream_reset(wal->entry_hash);
	each_piece(wal, hash_piece, wal->entry_hash);
	return hash_stream_sum(wal->entry_hash);
}

void wal_commit_build(struct wal *wal, struct disk_job *job)
{
	uint32_t slot = wal->entries;
	struct part_entry entry = {.offset = wal->start + wal->commit_from,
				   .length = (uint32_t)(wal->commit_to - wal->commit_from),
				   .epoch = wal->epoch,
				   .sequence = (uint64_t)slot + 1,
				   .hash = commit_hash(wal)};
	uint32_t in_block = slot % PART_ENTRIES_PER_BLOCK;
	uint64_t table_block_at = (uint64_t)(slot - in_block) * PART_ENTRY_SIZE;

	if (in_block == 0)
		memset(wal->table_block, 0, DISK_BLOCK_SIZE);
	part_entry_store(wal->table_block + (size_t)in_block * PART_ENTRY_SIZE, &entry, wal->tag);
	wal->table_iov = (struct iovec){.iov_base = wal->table_block, .iov_len = DISK_BLOCK_SIZE};

	*job = (struct disk_job){.file = wal->file};
	if (wal->head_count)
		job->writes[job->write_count++] =
			(struct disk_write){.iov = wal->iov,
					    .iov_count = wal->head_count,
					    .offset = block_floor(wal->commit_from)};
	if (wal->tail_start < wal->iov_count)
		job->writes[job->write_count++] =
			(struct disk_write){.iov = wal->iov + wal->tail_start,
					    .iov_count = wal->iov_count - wal->tail_start,
					    .offset = wal->tail_offset};
	for (unsigned copy = 0; copy < PART_TABLE_COPIES; copy++)
		job->writes[job->write_count++] = (struct disk_write){
			.iov = &wal->table_iov,
			.iov_count = 1,
			.offset = part_table_offset(&wal->geometry, copy) + table_block_at};
}

void wal_commit_sum(struct wal *wal)
{
	each_piece(wal, sum_piece, wal->sums);
}

void wal_commit_done(struct wal *wal)
{
	uint64_t size = wal->commit_to - wal->commit_from;
	unsigned unneeded = 0;

	wal->entries++;
	wal->durable = wal->commit_to;
	wal->small_commits = size <= WAL_SMALL_COMMIT;
	if (wal->zeroed < block_ceil(wal->durable))
		wal->zeroed = block_ceil(wal->durable);

	wal->buffered = wal->durable - wal->durable % PART_PAGE_SIZE;
	while (unneeded < wal->chunk_count && wal->chunk_base + POOL_CHUNK_SIZE <= wal->buffered) {
		pool_give(wal->pool, wal->chunks[unneeded++]);
		wal->chunk_base += POOL_CHUNK_SIZE;
	}
	wal->chunk_count -= unneeded;
	memmove(wal->chunks, wal->chunks + unneeded, wal->chunk_count * sizeof(wal->chunks[0]));
}

/* ---- Data ahead of their commit ------------------------------------------------------------- */

/* Where the next slice begins: behind the one before, or behind what a commit has in flight. */
static uint64_t ahead_start(const struct wal *wal, bool committing)
{
	if (wal->ahead_to > wal->ahead_from)
		return wal->ahead_to;
	return block_ceil(committing ? wal->commit_to : wal->durable);
}

bool wal_data_ahead_wanted(const struct wal *wal, bool committing)
{
	return !wal->ahead_writing && !wal->zeroing &&
	       wal->accepted >= ahead_start(wal, committing) + WAL_AHEAD_MIN;
}

void wal_data_ahead_claim(struct wal *wal, bool committing, struct disk_job *job)
{
	uint64_t from = ahead_start(wal, committing);
	uint64_t to = min_u64(block_floor(wal->accepted), from + WAL_AHEAD_SLICE);

	*job = (struct disk_job){.file = wal->file, .write_count = 1, .no_flush = true};
	job->writes[0] =
		(struct disk_write){.iov = wal->ahead_iov,
				    .iov_count = add_pieces(wal, from, to, wal->ahead_iov, 0),
				    .offset = from};
	wal->ahead_size = to - from;
	wal->ahead_writing = true;
}

void wal_data_ahead_done(struct wal *wal, const struct disk_job *job, int result)
{
	wal->ahead_writing = false;
	if (result < 0)
		return; /* the caller poisons the part */
	if (wal->ahead_to == wal->ahead_from)
		wal->ahead_from = job->writes[0].offset;
	wal->ahead_to = job->writes[0].offset + wal->ahead_size;
}

/* ---- Zeros ahead ---------------------------------------------------------------------------- */

static bool table_zeros_wanted(const struct wal *wal)
{
	return wal->table_zeroed < wal->geometry.table_size &&
	       table_needed(wal) + WAL_TABLE_WINDOW / 2 > wal->table_zeroed;
}

bool wal_zero_wanted(const struct wal *wal)
{
	if (wal->zeroing || wal->table_zeroing || !wal->small_commits || wal->zero_ahead == 0)
		return false;
	return table_zeros_wanted(wal) || (wal->zeroed < wal->geometry.data_size &&
					   wal->zeroed < wal->accepted + wal->zero_ahead / 2);
}

bool wal_zero_claim(struct wal *wal, uint64_t *ret_offset, uint64_t *ret_size, bool *ret_table)
{
	const struct part_geometry *g = &wal->geometry;

	if (wal->zeroing || wal->table_zeroing || !wal->small_commits || wal->zero_ahead == 0)
		return false;

	/* Never into a block that holds entries, or that a commit may be writing now. */
	uint64_t table_from = block_ceil(table_needed(wal));
	if (table_from < wal->table_zeroed)
		table_from = wal->table_zeroed;
	if (table_zeros_wanted(wal) && table_from < g->table_size) {
		*ret_offset = wal->table_zeroed = table_from;
		*ret_size = min_u64(WAL_TABLE_WINDOW, g->table_size - table_from);
		*ret_table = true;
		wal->table_zeroing = true;
		return true;
	}
	uint64_t from = block_ceil(wal->accepted);
	if (from < wal->zeroed)
		from = wal->zeroed;
	if (from >= wal->accepted + wal->zero_ahead || from >= g->data_size)
		return false;
	*ret_offset = from;
	*ret_size = min_u64(WAL_ZERO_SLICE, g->data_size - from);
	*ret_table = false;
	wal->zeroing = true;
	wal->zero_from = from;
	wal->zero_to = from + *ret_size;
	return true;
}

int wal_zero_write(struct wal *wal, uint64_t offset, uint64_t size, bool table)
{
	struct iovec iov[WAL_ZERO_SLICE / WAL_TABLE_WINDOW];
	int iov_count = 0;

	for (uint64_t done = 0; done < size;) {
		uint64_t piece = min_u64(size - done, WAL_TABLE_WINDOW);
		iov[iov_count++] = zero_iov(piece);
		done += piece;
	}
	struct disk_job job = {.file = wal->file, .write_count = 1};
	job.writes[0] = (struct disk_write){.iov = iov, .iov_count = iov_count, .offset = offset};
	if (table) {
		job.write_count = PART_TABLE_COPIES;
		for (unsigned copy = 0; copy < PART_TABLE_COPIES; copy++)
			job.writes[copy] = (struct disk_write){
				.iov = iov,
				.iov_count = iov_count,
				.offset = part_table_offset(&wal->geometry, copy) + offset};
	}
	return disk_commit(wal->disk, &job, 1);
}

void wal_zero_done(struct wal *wal, uint64_t offset, uint64_t size, bool table, int result)
{
	if (table)
		wal->table_zeroing = false;
	else
		wal->zeroing = false;
	if (result < 0) {
		/* Only speed is lost: a disk that is full or failing says so to the next commit. */
		wal->zero_ahead = 0;
		return;
	}
	if (table) {
		wal->table_zeroed = offset + size;
		if (wal->table_reserved >= offset && wal->table_reserved < wal->table_zeroed)
			wal->table_reserved = wal->table_zeroed;
		return;
	}
	wal->zeroed = offset + size;
	if (wal->reserved >= offset && wal->reserved < wal->zeroed)
		wal->reserved = wal->zeroed;
	if (wal->zero_ahead < WAL_ZERO_WINDOW)
		wal->zero_ahead *= 2;
}
