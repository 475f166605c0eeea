/*
 * What is written to an open part: one commit at a time, and slices ahead of it, of data or of
 * zeros.
 */
#include <errno.h>

#include "base/invariant.h"
#include "engine/wal.h"
#include "engine/wal_blocks.h"

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
	if (wal->table_zeroing && wal_block_floor(slot_at) + DISK_BLOCK_SIZE > wal->table_zeroed)
		return true;
	return wal->zeroing && wal_block_ceil(wal->accepted) > wal->zero_from &&
	       wal_block_floor(wal->durable) < wal->zero_to;
}

/* Adds the chunks' memory of [OFFSET, END) to IOV; returns the new count. */
static int add_pieces(const struct wal *wal, uint64_t offset, uint64_t end, struct iovec *iov,
		      int iov_count)
{
	while (offset < end) {
		uint64_t at = offset - wal->chunk_base;
		size_t inside = (size_t)(at % POOL_CHUNK_SIZE);
		size_t piece = (size_t)wal_min(POOL_CHUNK_SIZE - inside, end - offset);
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
	uint64_t first = wal_block_floor(wal->commit_from);
	uint64_t whole_end = wal_block_floor(wal->commit_to);
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
	uint64_t offset = wal_block_floor(wal->commit_from);

	for (int i = 0; i < wal->iov_count; i++) {
		const uint8_t *data = wal->iov[i].iov_base;
		uint64_t end = offset + wal->iov[i].iov_len;
		uint64_t from = offset > wal->commit_from ? offset : wal->commit_from;
		uint64_t to = wal_min(end, wal->commit_to);
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
					    .offset = wal_block_floor(wal->commit_from)};
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
	if (wal->zeroed < wal_block_ceil(wal->durable))
		wal->zeroed = wal_block_ceil(wal->durable);

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
	return wal_block_ceil(committing ? wal->commit_to : wal->durable);
}

bool wal_data_ahead_wanted(const struct wal *wal, bool committing)
{
	return !wal->ahead_writing && !wal->zeroing &&
	       wal->accepted >= ahead_start(wal, committing) + WAL_AHEAD_MIN;
}

void wal_data_ahead_claim(struct wal *wal, bool committing, struct disk_job *job)
{
	uint64_t from = ahead_start(wal, committing);
	uint64_t to = wal_min(wal_block_floor(wal->accepted), from + WAL_AHEAD_SLICE);

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
	       wal_table_needed(wal) + WAL_TABLE_WINDOW / 2 > wal->table_zeroed;
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
	uint64_t table_from = wal_block_ceil(wal_table_needed(wal));
	if (table_from < wal->table_zeroed)
		table_from = wal->table_zeroed;
	if (table_zeros_wanted(wal) && table_from < g->table_size) {
		*ret_offset = wal->table_zeroed = table_from;
		*ret_size = wal_min(WAL_TABLE_WINDOW, g->table_size - table_from);
		*ret_table = true;
		wal->table_zeroing = true;
		return true;
	}
	uint64_t from = wal_block_ceil(wal->accepted);
	if (from < wal->zeroed)
		from = wal->zeroed;
	if (from >= wal->accepted + wal->zero_ahead || from >= g->data_size)
		return false;
	*ret_offset = from;
	*ret_size = wal_min(WAL_ZERO_SLICE, g->data_size - from);
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
		uint64_t piece = wal_min(size - done, WAL_TABLE_WINDOW);
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
