/*
 * The file `catalogue`: a header block, then records of 128 bytes, appended. Little-endian.
 *
 *   header, 4096 bytes
 *        0    8  magic "protocat"
 *        8    4  version, 1
 *       12    4  size of a record, 128
 *       16   16  store UUID
 *       32    4  base count: the records that were in the file when it was made
 *       36 4044  zeros
 *     4080   16  XXH3-128 of bytes 0 to 4079
 *
 *   record in slot i, at 4096 + 128 i
 *        0   16  segment UUID, never zero; all zero in a mark
 *       16    4  number, 1 to 2^25-1; 0 in a mark
 *       20    4  node that created it
 *       24    4  epoch of its owner
 *       28    1  class
 *       29    1  state: 1 open, 2 sealed, 3 removed, 4 forgotten, 5 mark
 *       30    1  flags; 1: inherited, 2: parts may be elsewhere
 *       31    1  zero
 *       32    8  length of the stream; open: the start of the open part
 *       40    8  start of the open part; sealed: of the last part
 *       48    8  creation, ns since 1970 UTC
 *       56    8  last append, ns
 *       64    8  seq of the newest root when its first byte came, 0 none
 *       72    8  offset of the frame header that follows the last whole frame below length
 *       80    4  i
 *       84    4  group: the slot at which the write began that brought this record
 *       88   24  zero: room for ensemble (8) and pack (16)
 *      112   16  XXH3-128 of the store UUID and bytes 0 to 111
 *
 * A record is valid if and only if its checksum matches, it lies in slot i, group <= i, and number,
 * UUID and state are possible. Slots that were never written are zeros: space is reserved ahead.
 * Bytes that this version writes as zeros are not judged.
 *
 * The last valid record of a segment counts. A forgotten one takes the segment out.
 *
 * Reader: read slots from 0. The first one that is not valid is the end, unless there is a witness
 * that it was acknowledged once: a valid record in a later slot whose group lies behind it
 * (invariant 1), or a base count that includes it (invariant 2). With a witness it is damage.
 * Without one everything from it on is torn: cut off before the next append, lest a record of a
 * torn write comes back to life behind a later one.
 *
 * Invariants:
 *  1. A write of one or more records is flushed before the next write begins. So the records below
 *     a record's group were durable before that record was written, while those of its own group
 *     may be lost one by one.
 *  2. A compacted catalogue is written whole under a temporary name, flushed and renamed: its base
 *     count of records was durable before anybody saw the file.
 *  3. After a failed write or flush nothing more is written to that file.
 *  4. Before the first append of a process the last group is written once more and flushed, and
 *     the directory is flushed: if the process before this one died of a failed flush, what we read
 *     of it may be in memory only (Linux drops the error with the process), and a record behind it
 *     would be its witness. A mark at the end is overwritten instead: what lies before it is known
 *     to have been flushed.
 *  5. A number belongs to one UUID while a record of it is live, and a UUID to one number.
 */
#include "engine/catalogue_format.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/hash.h"
#include "base/le.h"

enum {
	MAGIC_SIZE = 8,
	HEADER_SUM_OFFSET = CATALOGUE_HEADER_SIZE - HASH_SIZE,
	RECORD_SUM_OFFSET = CATALOGUE_RECORD_SIZE - HASH_SIZE,
	CHUNK_SIZE = 512 * CATALOGUE_RECORD_SIZE,
};

static const char magic[MAGIC_SIZE] = {'p', 'r', 'o', 't', 'o', 'c', 'a', 't'};

/* ---- Codec ---- */

void catalogue_encode_header(const struct catalogue_header *header,
			     uint8_t bytes[static CATALOGUE_HEADER_SIZE])
{
	memset(bytes, 0, CATALOGUE_HEADER_SIZE);
	memcpy(bytes, magic, MAGIC_SIZE);
	store_le32(bytes + 8, CATALOGUE_VERSION);
	store_le32(bytes + 12, CATALOGUE_RECORD_SIZE);
	memcpy(bytes + 16, header->store.bytes, sizeof(header->store.bytes));
	store_le32(bytes + 32, header->base_count);

	struct hash sum = hash_of(bytes, HEADER_SUM_OFFSET);
	memcpy(bytes + HEADER_SUM_OFFSET, sum.bytes, HASH_SIZE);
}

int catalogue_decode_header(struct slice in, struct catalogue_header *ret)
{
	struct slice header;
	int r = slice_take(&in, CATALOGUE_HEADER_SIZE, &header);
	if (r < 0)
		return r;
	struct hash sum = hash_of(header.data, HEADER_SUM_OFFSET);
	if (memcmp(header.data, magic, MAGIC_SIZE) != 0 ||
	    memcmp(header.data + HEADER_SUM_OFFSET, sum.bytes, HASH_SIZE) != 0)
		return -EBADMSG;
	if (load_le32(header.data + 8) != CATALOGUE_VERSION ||
	    load_le32(header.data + 12) != CATALOGUE_RECORD_SIZE)
		return -ENOTSUP;

	memcpy(ret->store.bytes, header.data + 16, sizeof(ret->store.bytes));
	ret->base_count = load_le32(header.data + 32);
	return 0;
}

/* Bound to its store, so that no record of another one is ever believed. */
static struct hash record_sum(const uint8_t *bytes, const struct uuid *store)
{
	uint8_t input[sizeof(store->bytes) + RECORD_SUM_OFFSET];
	memcpy(input, store->bytes, sizeof(store->bytes));
	memcpy(input + sizeof(store->bytes), bytes, RECORD_SUM_OFFSET);
	return hash_of(input, sizeof(input));
}

void catalogue_encode(const struct catalogue_entry *entry, const struct uuid *store,
		      uint8_t bytes[static CATALOGUE_RECORD_SIZE])
{
	const struct catalogue_record *record = &entry->record;

	memset(bytes, 0, CATALOGUE_RECORD_SIZE);
	memcpy(bytes, record->uuid.bytes, sizeof(record->uuid.bytes));
	store_le32(bytes + 16, record->number);
	store_le32(bytes + 20, record->node);
	store_le32(bytes + 24, record->epoch);
	bytes[28] = record->class;
	bytes[29] = record->state;
	bytes[30] = record->flags;
	store_le64(bytes + 32, record->length);
	store_le64(bytes + 40, record->part_start);
	store_le64(bytes + 48, record->created_ns);
	store_le64(bytes + 56, record->modified_ns);
	store_le64(bytes + 64, record->born_root);
	store_le64(bytes + 72, record->frames_next);
	store_le32(bytes + 80, entry->slot);
	store_le32(bytes + 84, entry->group);

	struct hash sum = record_sum(bytes, store);
	memcpy(bytes + RECORD_SUM_OFFSET, sum.bytes, HASH_SIZE);
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
	/* Equal to itself shifted by one, and the first is zero. */
	return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static bool is_mark(const struct catalogue_record *record)
{
	return record->state == CATALOGUE_MARK && record->number == 0 &&
	       uuid_is_zero(&record->uuid);
}

int catalogue_decode(struct slice in, const struct uuid *store, struct catalogue_entry *ret)
{
	struct slice bytes;
	int r = slice_take(&in, CATALOGUE_RECORD_SIZE, &bytes);
	if (r < 0)
		return r;
	if (is_zero(bytes.data, bytes.size))
		return -ENOENT;
	struct hash sum = record_sum(bytes.data, store);
	if (memcmp(sum.bytes, bytes.data + RECORD_SUM_OFFSET, HASH_SIZE) != 0)
		return -EBADMSG;

	const uint8_t *p = bytes.data;
	struct catalogue_entry entry = {
		.record =
			{
				.number = load_le32(p + 16),
				.node = load_le32(p + 20),
				.epoch = load_le32(p + 24),
				.class = p[28],
				.state = p[29],
				.flags = p[30],
				.length = load_le64(p + 32),
				.part_start = load_le64(p + 40),
				.created_ns = load_le64(p + 48),
				.modified_ns = load_le64(p + 56),
				.born_root = load_le64(p + 64),
				.frames_next = load_le64(p + 72),
			},
		.slot = load_le32(p + 80),
		.group = load_le32(p + 84),
	};
	memcpy(entry.record.uuid.bytes, p, sizeof(entry.record.uuid.bytes));
	if (entry.group > entry.slot)
		return -EBADMSG;
	if (!is_mark(&entry.record) && catalogue_check(&entry.record, NULL) < 0)
		return -EBADMSG;
	*ret = entry;
	return 0;
}

int catalogue_check(const struct catalogue_record *record, struct reterr *err)
{
	if (uuid_is_zero(&record->uuid))
		return reterr_set(err, -EINVAL, "a segment's UUID is not zero");
	if (record->number == 0 || record->number > CATALOGUE_NUMBER_MAX)
		return reterr_set(err, -EINVAL, "%" PRIu32 " is no segment's number",
				  record->number);
	if (record->state < CATALOGUE_OPEN || record->state > CATALOGUE_FORGOTTEN)
		return reterr_set(err, -EINVAL, "%u is no segment's state", record->state);
	return 0;
}

/* ---- Reader ---- */

struct scanner {
	struct disk_file *file;
	const struct uuid *store;
	catalogue_visit_fn *visit;
	void *arg;
	uint32_t base_count;
	bool header_damaged;
	bool end_found;
	uint64_t witnessed; /* slots below it were acknowledged once */
	struct catalogue_scan scan;
};

/* One slot on the way up. Before the end it is visited, behind it only judged as a witness. */
static int first_look(struct scanner *s, uint64_t slot, struct slice bytes)
{
	struct catalogue_entry entry;
	int r = catalogue_decode(bytes, s->store, &entry);
	bool valid = r == 0 && entry.slot == slot;

	if (valid && entry.group > s->witnessed)
		s->witnessed = entry.group;
	if (!valid && !s->end_found) {
		s->end_found = true;
		s->scan.end = slot;
	}
	if (!valid && r != -ENOENT)
		s->scan.torn = true;
	if (!valid)
		return 0;
	if (s->end_found) {
		s->scan.torn = true;
		return 0;
	}
	if (entry.group > s->scan.settled)
		s->scan.settled = entry.group;
	s->scan.last_is_mark = is_mark(&entry.record);
	return s->scan.last_is_mark ? 0 : s->visit(s->arg, &entry.record);
}

/* Only in a damaged file: what lies behind the damage. */
static int second_look(struct scanner *s, uint64_t slot, struct slice bytes)
{
	struct catalogue_entry entry;
	if (slot < s->scan.end || catalogue_decode(bytes, s->store, &entry) < 0 ||
	    entry.slot != slot || is_mark(&entry.record))
		return 0;
	return s->visit(s->arg, &entry.record);
}

static int for_each_slot(struct scanner *s, uint64_t from,
			 int (*look)(struct scanner *s, uint64_t slot, struct slice bytes))
{
	CLEANUP(buf_done) struct buf chunk = {.max = CHUNK_SIZE};
	int r = buf_append_zeros(&chunk, CHUNK_SIZE);
	if (r < 0)
		return r;

	for (uint64_t slot = from; slot < s->scan.slots;) {
		size_t size;
		r = disk_read(s->file, chunk.data, CHUNK_SIZE, catalogue_slot_offset(slot), &size);
		if (r < 0)
			return r;
		struct slice rest = {.data = chunk.data, .size = size};
		struct slice bytes;
		uint64_t before = slot;
		for (; slot < s->scan.slots; slot++) {
			if (slice_take(&rest, CATALOGUE_RECORD_SIZE, &bytes) < 0)
				break;
			r = look(s, slot, bytes);
			if (r < 0)
				return r;
		}
		if (slot == before)
			return -EIO; /* the file shrank under us */
	}
	return 0;
}

static int scan_header(struct scanner *s, struct reterr *err)
{
	CLEANUP(buf_done) struct buf block = {.max = CATALOGUE_HEADER_SIZE};
	int r = buf_append_zeros(&block, CATALOGUE_HEADER_SIZE);
	if (r < 0)
		return r;
	size_t size;
	r = disk_read(s->file, block.data, CATALOGUE_HEADER_SIZE, 0, &size);
	if (r < 0)
		return r;

	struct catalogue_header header = {.base_count = 0};
	r = catalogue_decode_header((struct slice){.data = block.data, .size = size}, &header);
	if (r == -ENOTSUP)
		return reterr_set(err, r, "%s has a version that this program does not know",
				  CATALOGUE_PATH);
	s->base_count = header.base_count;
	s->header_damaged = r < 0 || !uuid_equal(&header.store, s->store);
	return 0;
}

int catalogue_scan(struct disk_file *file, const struct uuid *store, catalogue_visit_fn *visit,
		   void *arg, struct reterr *err, struct catalogue_scan *ret)
{
	struct scanner s = {.file = file, .store = store, .visit = visit, .arg = arg};
	uint64_t size;
	int r = disk_size(file, &size);
	if (r < 0)
		return r;
	r = scan_header(&s, err);
	if (r < 0)
		return r;

	if (size > CATALOGUE_HEADER_SIZE)
		s.scan.slots = (size - CATALOGUE_HEADER_SIZE) / CATALOGUE_RECORD_SIZE;
	if (s.scan.slots > CATALOGUE_SLOT_MAX)
		s.scan.slots = CATALOGUE_SLOT_MAX;
	/* A last slot that is cut short is as good as none, but must not be appended to. */
	s.scan.torn = size > catalogue_slot_offset(s.scan.slots);
	s.witnessed = s.base_count;
	s.scan.settled = s.base_count;

	r = for_each_slot(&s, 0, first_look);
	if (r < 0)
		return r;
	if (!s.end_found)
		s.scan.end = s.scan.slots;

	bool lost = s.scan.end < s.witnessed;
	s.scan.damaged = s.header_damaged || lost;
	if (lost) {
		(void)reterr_set(err, -EBADMSG,
				 "%s: the record at byte %" PRIu64
				 " does not verify, though later ones do",
				 CATALOGUE_PATH, catalogue_slot_offset(s.scan.end));
		r = for_each_slot(&s, s.scan.end, second_look);
		if (r < 0)
			return r;
	} else if (s.header_damaged) {
		(void)reterr_set(err, -EBADMSG,
				 "%s: the header at byte 0 does not verify, or is another store's",
				 CATALOGUE_PATH);
	}
	*ret = s.scan;
	return 0;
}
