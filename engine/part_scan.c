/*
 * The reader's algorithm for an open part:
 *
 * 1. Slots are read in order. A slot is valid if either copy of its entry is (part_format.h), it begins where the slot
 *    before ended, below the limit, and its data match.
 * 2. The first slot that is not ends the part's bytes.
 * 3. If any later slot of either copy holds an entry of this part, the invalid one had been acknowledged (an entry is
 *    submitted only after the flush of the one before it): that is damage. Otherwise it is the torn tail of a
 *    commit that nobody was told of.
 */
#include "engine/part_scan.h"

#include <errno.h>
#include <stdlib.h>

#include "base/slice.h"

enum {
	SLOTS_PER_READ = 1024,
	PIECE_SIZE = 1 << 20, /* read and delivered at once */
	DATA_MAX = 16 << 20,  /* an entry up to here is read once */
};

struct tables {
	uint8_t *copy[PART_TABLE_COPIES]; /* SLOTS_PER_READ entries each */
	/*
	 * Aligned; DATA_MAX bytes and the blocks at both ends, of which as many take memory as the largest entry needs.
	 */
	uint8_t *data;
	uint32_t first; /* slot of the first entry in COPY */
	uint64_t tag;
};

static void tables_done(struct tables *tables)
{
	free(tables->copy[0]);
	free(tables->copy[1]);
	free(tables->data);
}

/* A file that ends early reads as zeros there: never written. */
static int read_padded(struct disk_file *file, uint8_t *data, size_t size, uint64_t offset)
{
	size_t got;
	int r = disk_read(file, data, size, offset, &got);
	if (r < 0)
		return r;
	memset(data + got, 0, size - got);
	return 0;
}

static int tables_load(const struct part_scan *scan, struct tables *tables, uint32_t first)
{
	uint64_t at = (uint64_t)first * PART_ENTRY_SIZE;
	size_t size = (size_t)SLOTS_PER_READ * PART_ENTRY_SIZE;

	if (size > scan->geometry.table_size - at)
		size = (size_t)(scan->geometry.table_size - at);
	for (unsigned copy = 0; copy < PART_TABLE_COPIES; copy++) {
		int r = read_padded(scan->file, tables->copy[copy], size,
				    part_table_offset(&scan->geometry, copy) + at);
		if (r < 0)
			return r;
	}
	tables->first = first;
	return 0;
}

static int load_slot(const struct tables *tables, unsigned copy, uint32_t slot,
		     struct part_entry *ret)
{
	const uint8_t *bytes =
		tables->copy[copy] + (size_t)(slot - tables->first) * PART_ENTRY_SIZE;
	return part_entry_load(bytes, tables->tag, (uint64_t)slot + 1, ret);
}

/* Where the bytes of ENTRY lie in tables->data: it begins with the block that holds the first of them. */
static size_t skew_of(const struct part_scan *scan, const struct part_entry *entry)
{
	return (size_t)((entry->offset - scan->start) % DISK_BLOCK_SIZE);
}

/*
 * Reads ENTRY's whole blocks from POSITION on, at most PIECE_SIZE bytes of them, to DATA. RET is what there is of its
 * own bytes.
 */
static int read_piece(struct part_scan *scan, const struct part_entry *entry, uint64_t position,
		      uint8_t *data, struct slice *ret)
{
	size_t skew = skew_of(scan, entry);
	uint64_t at = entry->offset - scan->start - skew + position;
	uint64_t left = skew + entry->length - position;
	size_t bytes = left < PIECE_SIZE ? (size_t)left : PIECE_SIZE;
	size_t blocks = (bytes + DISK_BLOCK_SIZE - 1) / DISK_BLOCK_SIZE * DISK_BLOCK_SIZE;

	size_t skip = position == 0 ? skew : 0;
	*ret = (struct slice){.data = data + skip, .size = bytes - skip};
	return read_padded(scan->file, data, blocks, at);
}

/* All of an entry stays in memory, unless it is larger than any that we write. */
static uint8_t *piece_memory(const struct tables *tables, const struct part_entry *entry,
			     uint64_t position)
{
	return tables->data + (entry->length <= DATA_MAX ? position : 0);
}

/* Whether the data of ENTRY match. 0, -EBADMSG, or the disk's error. */
static int check_data(struct part_scan *scan, struct tables *tables, const struct part_entry *entry,
		      struct hash_stream *stream)
{
	uint64_t end = skew_of(scan, entry) + entry->length;

	hash_stream_reset(stream);
	for (uint64_t position = 0; position < end; position += PIECE_SIZE) {
		struct slice piece;
		int r = read_piece(scan, entry, position, piece_memory(tables, entry, position),
				   &piece);
		if (r < 0)
			return r;
		hash_stream_update(stream, piece.data, piece.size);
	}
	struct hash sum = hash_stream_sum(stream);
	return hash_equal(&sum, &entry->hash) ? 0 : -EBADMSG;
}

/* An entry that was checked and is still in memory. */
static int deliver_kept(struct part_scan *scan, const struct part_entry *entry, const uint8_t *data)
{
	int r = 0;

	for (uint64_t done = 0; r == 0 && done < entry->length; done += PIECE_SIZE) {
		uint64_t left = entry->length - done;
		r = scan->bytes(scan->arg, data + done,
				left < PIECE_SIZE ? (size_t)left : PIECE_SIZE);
	}
	return r;
}

/* Only called for data that have just been checked. */
static int deliver(struct part_scan *scan, struct tables *tables, const struct part_entry *entry)
{
	size_t skew = skew_of(scan, entry);
	int r = 0;

	if (!scan->bytes)
		return 0;
	if (entry->length <= DATA_MAX)
		return deliver_kept(scan, entry, tables->data + skew);
	for (uint64_t at = 0; r == 0 && at < skew + entry->length; at += PIECE_SIZE) {
		struct slice piece;
		r = read_piece(scan, entry, at, tables->data, &piece);
		if (r == 0)
			r = scan->bytes(scan->arg, piece.data, piece.size);
	}
	return r;
}

static bool fits(const struct part_scan *scan, const struct part_entry *entry)
{
	return entry->offset == scan->start + scan->length && entry->offset < scan->limit &&
	       entry->length <= scan->geometry.data_size - scan->length &&
	       entry->epoch >= scan->epoch;
}

/* Whether COPY of SLOT is valid, all but its data. */
static bool candidate(const struct part_scan *scan, const struct tables *tables, unsigned copy,
		      uint32_t slot, struct part_entry *ret)
{
	return load_slot(tables, copy, slot, ret) == 0 && fits(scan, ret);
}

/* 1: a valid slot, delivered; 0: not valid; negative: the disk's error. */
static int take_slot(struct part_scan *scan, struct tables *tables, uint32_t slot,
		     struct hash_stream *stream)
{
	struct part_entry entry[PART_TABLE_COPIES];
	bool usable[PART_TABLE_COPIES];

	for (unsigned copy = 0; copy < PART_TABLE_COPIES; copy++)
		usable[copy] = candidate(scan, tables, copy, slot, &entry[copy]);

	for (unsigned copy = 0; copy < PART_TABLE_COPIES; copy++) {
		if (!usable[copy])
			continue;
		int r = check_data(scan, tables, &entry[copy], stream);
		if (r == -EBADMSG)
			continue;
		if (r == 0)
			r = deliver(scan, tables, &entry[copy]);
		if (r < 0)
			return r;
		scan->last_from = scan->length;
		scan->length += entry[copy].length;
		scan->epoch = entry[copy].epoch;
		scan->entries++;
		scan->copy_damaged = !usable[0] || !usable[1] ||
				     !hash_equal(&entry[0].hash, &entry[1].hash);
		return 1;
	}
	return 0;
}

/* Whether anything was ever written to SLOT. */
static bool touched(const struct tables *tables, uint32_t slot)
{
	struct part_entry entry;
	return load_slot(tables, 0, slot, &entry) != -ENODATA ||
	       load_slot(tables, 1, slot, &entry) != -ENODATA;
}

/* Rule 3: does any slot from SLOT on hold an entry of this part? */
static int find_later(struct part_scan *scan, struct tables *tables, uint32_t slot)
{
	for (; slot < scan->geometry.entries_max; slot++) {
		if (slot - tables->first >= SLOTS_PER_READ) {
			int r = tables_load(scan, tables, slot);
			if (r < 0)
				return r;
		}
		for (unsigned copy = 0; copy < PART_TABLE_COPIES; copy++) {
			struct part_entry entry;
			if (load_slot(tables, copy, slot, &entry) < 0 ||
			    entry.offset >= scan->limit || entry.offset < scan->start)
				continue;
			uint64_t end = entry.offset - scan->start + entry.length;
			scan->damaged = true;
			if (end > scan->later_end && end <= scan->geometry.data_size)
				scan->later_end = end;
		}
	}
	return 0;
}

static int scan_slots(struct part_scan *scan, struct tables *tables, struct hash_stream *stream)
{
	bool acknowledged_copy_damaged = false;

	for (uint32_t slot = 0; slot < scan->geometry.entries_max; slot++) {
		if (slot % SLOTS_PER_READ == 0) {
			int r = tables_load(scan, tables, slot);
			if (r < 0)
				return r;
		}
		bool before = scan->copy_damaged;
		int r = take_slot(scan, tables, slot, stream);
		if (r < 0)
			return r;
		if (r == 0) {
			scan->torn = touched(tables, slot);
			scan->copy_damaged = acknowledged_copy_damaged;
			return find_later(scan, tables, slot + 1);
		}
		/* One torn copy of the last entry is a crash, of an earlier one damage. */
		acknowledged_copy_damaged |= before;
	}
	scan->copy_damaged = acknowledged_copy_damaged;
	return 0;
}

int part_scan(struct part_scan *scan)
{
	CLEANUP(tables_done) struct tables tables = {.tag = part_tag(&scan->segment, scan->start)};
	size_t table_bytes = (size_t)SLOTS_PER_READ * PART_ENTRY_SIZE;
	struct hash_stream *stream = NULL;

	scan->length = 0;
	scan->entries = 0;
	scan->epoch = 0;
	scan->later_end = 0;
	scan->last_from = 0;
	scan->torn = scan->damaged = scan->copy_damaged = false;

	tables.copy[0] = malloc(table_bytes);
	tables.copy[1] = malloc(table_bytes);
	tables.data = aligned_alloc(DISK_BLOCK_SIZE, DATA_MAX + 2 * DISK_BLOCK_SIZE);
	if (!tables.copy[0] || !tables.copy[1] || !tables.data || hash_stream_new(&stream) < 0)
		return -ENOMEM;

	int r = scan_slots(scan, &tables, stream);
	hash_stream_free(stream);
	return r;
}
