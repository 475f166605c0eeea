/*
 * The file `journal`: a log of small records, kept for whoever carries the segments away. Numbers
 * are little-endian.
 *
 *   header, 64 bytes
 *        0    8  magic "protojnl"
 *        8    4  version, 1
 *       12    4  zero
 *       16   16  UUID of the store
 *       32    8  seed: random, of no two files the same
 *       40    8  size of the file when it got its name
 *       48   16  XXH3-128 of bytes 0 to 47
 *
 *   records, from 64 on, each at a multiple of 8
 *        0    4  size of the payload, at most 8 MiB
 *        4    4  kind: 1 record, 2 mark of a clean stop (without payload)
 *        8    8  sequence: 0 in the first record of the file, then one more each
 *       16   16  XXH3-128 of the payload
 *       32    8  XXH3-64 of the seed and bytes 0 to 31
 *       40       payload, then zeros up to a multiple of 8
 *
 * A record is valid if and only if its header's sum matches, its sequence is that of its place, its
 * kind is known and its payload matches. Behind the last one lie zeros, or nothing.
 *
 * Reader: records are taken in order; the first one that is not valid is the end, unless there is a
 * witness that it was acknowledged once: it begins below the size that the file was born with
 * (invariant 2), or somewhere behind it lies the header of a later record (invariant 1). With a
 * witness it is damage, without one the torn end of a write that nobody was told of.
 *
 * The seed makes a header unmistakable: neither a payload, nor what the disk held before, nor an
 * older journal can look like one.
 *
 * Invariants:
 *  1. A record is flushed before the next one is written.
 *  2. A new file is written whole under a temporary name, flushed and renamed.
 *  3. After a failed write or flush nothing more is written to that file.
 *  4. Before the first append of a process the last record is written once more and flushed, and
 *     the directory is flushed: what we read of a process that died of a failed flush may be in memory
 *     only.
 */
#include "engine/journal_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"

enum {
	MAGIC_SIZE = 8,
	HEADER_SUM_OFFSET = JOURNAL_HEADER_SIZE - HASH_SIZE,
	RECORD_SUM_OFFSET = JOURNAL_RECORD_HEADER_SIZE - 8,
	CHUNK_SIZE = 64 << 10,
};

static const char magic[MAGIC_SIZE] = {'p', 'r', 'o', 't', 'o', 'j', 'n', 'l'};

/* ---- Codec ---- */

void journal_encode_header(const struct journal_header *header,
			   uint8_t bytes[static JOURNAL_HEADER_SIZE])
{
	memset(bytes, 0, JOURNAL_HEADER_SIZE);
	memcpy(bytes, magic, MAGIC_SIZE);
	store_le32(bytes + 8, JOURNAL_VERSION);
	memcpy(bytes + 16, header->store.bytes, sizeof(header->store.bytes));
	store_le64(bytes + 32, header->seed);
	store_le64(bytes + 40, header->base_size);
	struct hash sum = hash_of(bytes, HEADER_SUM_OFFSET);
	memcpy(bytes + HEADER_SUM_OFFSET, sum.bytes, HASH_SIZE);
}

int journal_decode_header(struct slice in, struct journal_header *ret)
{
	struct slice header;
	int r = slice_take(&in, JOURNAL_HEADER_SIZE, &header);
	if (r < 0)
		return r;
	struct hash sum = hash_of(header.data, HEADER_SUM_OFFSET);
	if (memcmp(header.data, magic, MAGIC_SIZE) != 0 ||
	    memcmp(header.data + HEADER_SUM_OFFSET, sum.bytes, HASH_SIZE) != 0)
		return -EBADMSG;
	if (load_le32(header.data + 8) != JOURNAL_VERSION)
		return -ENOTSUP;
	memcpy(ret->store.bytes, header.data + 16, sizeof(ret->store.bytes));
	ret->seed = load_le64(header.data + 32);
	ret->base_size = load_le64(header.data + 40);
	return 0;
}

static uint64_t record_sum(const uint8_t *bytes, uint64_t seed)
{
	uint8_t input[8 + RECORD_SUM_OFFSET];
	store_le64(input, seed);
	memcpy(input + 8, bytes, RECORD_SUM_OFFSET);
	return hash64_of(input, sizeof(input));
}

void journal_encode_record(const struct journal_record *record, uint64_t seed,
			   uint8_t bytes[static JOURNAL_RECORD_HEADER_SIZE])
{
	store_le32(bytes, record->size);
	store_le32(bytes + 4, (uint32_t)record->kind);
	store_le64(bytes + 8, record->sequence);
	memcpy(bytes + 16, record->hash.bytes, HASH_SIZE);
	store_le64(bytes + RECORD_SUM_OFFSET, record_sum(bytes, seed));
}

int journal_decode_record(struct slice in, uint64_t seed, struct journal_record *ret)
{
	struct slice header;
	int r = slice_take(&in, JOURNAL_RECORD_HEADER_SIZE, &header);
	if (r < 0)
		return r;
	uint32_t size = load_le32(header.data);
	uint32_t kind = load_le32(header.data + 4);
	/* Cheap first: the search for witnesses asks at every place. */
	if (size > ENGINE_JOURNAL_RECORD_MAX || (kind != JOURNAL_RECORD && kind != JOURNAL_MARK) ||
	    (kind == JOURNAL_MARK && size != 0))
		return -EBADMSG;
	if (load_le64(header.data + RECORD_SUM_OFFSET) != record_sum(header.data, seed))
		return -EBADMSG;
	*ret = (struct journal_record){.kind = (enum journal_kind)kind,
				       .size = size,
				       .sequence = load_le64(header.data + 8)};
	memcpy(ret->hash.bytes, header.data + 16, HASH_SIZE);
	return 0;
}

/* ---- Reader ---- */

struct reader {
	struct disk_file *file;
	engine_journal_fn *fn;
	void *arg;
	uint8_t *payload; /* of the largest record so far */
	size_t capacity;
	struct journal_scan scan;
};

static void reader_done(struct reader *reader)
{
	free(reader->payload);
}

static int read_header(struct reader *reader, const struct uuid *store, bool *ret_good,
		       struct reterr *err)
{
	uint8_t bytes[JOURNAL_HEADER_SIZE];
	size_t got;
	int r = disk_read(reader->file, bytes, sizeof(bytes), 0, &got);
	if (r < 0)
		return r;
	r = journal_decode_header((struct slice){.data = bytes, .size = got}, &reader->scan.header);
	if (r == -ENOTSUP)
		return reterr_set(err, r, "%s has a version that this program does not know",
				  JOURNAL_PATH);
	*ret_good = r == 0 && uuid_equal(&reader->scan.header.store, store);
	return 0;
}

static int make_payload(struct reader *reader, size_t size)
{
	if (size <= reader->capacity)
		return 0;
	uint8_t *payload = realloc(reader->payload, size);
	if (!payload)
		return -ENOMEM;
	reader->payload = payload;
	reader->capacity = size;
	return 0;
}

/* 1: the record at END is valid, and its payload in memory; 0: it is not; or the disk's error. */
static int read_record(struct reader *reader, struct journal_record *ret)
{
	const struct journal_scan *scan = &reader->scan;
	uint8_t bytes[JOURNAL_RECORD_HEADER_SIZE];
	size_t got;

	int r = disk_read(reader->file, bytes, sizeof(bytes), scan->end, &got);
	if (r < 0)
		return r;
	r = journal_decode_record((struct slice){.data = bytes, .size = got}, scan->header.seed,
				  ret);
	if (r < 0 || ret->sequence != scan->sequence ||
	    ret->size > scan->size - scan->end - JOURNAL_RECORD_HEADER_SIZE)
		return 0;
	r = make_payload(reader, ret->size);
	if (r == 0 && ret->size)
		r = disk_read_full(reader->file, reader->payload, ret->size,
				   scan->end + JOURNAL_RECORD_HEADER_SIZE);
	if (r < 0)
		return r == -ENODATA ? 0 : r;
	struct hash hash = hash_of(reader->payload, ret->size);
	return hash_equal(&hash, &ret->hash);
}

static int read_records(struct reader *reader)
{
	struct journal_scan *scan = &reader->scan;

	for (;;) {
		struct journal_record record;
		int r = read_record(reader, &record);
		if (r <= 0)
			return r;
		if (record.kind == JOURNAL_RECORD && reader->fn) {
			r = reader->fn(reader->arg, reader->payload, record.size);
			if (r < 0)
				return r;
		}
		scan->last_at = scan->end;
		scan->last_is_mark = record.kind == JOURNAL_MARK;
		scan->records += record.kind == JOURNAL_RECORD;
		scan->sequence++;
		scan->end += journal_record_span(record.size);
	}
}

/* Whether BYTES, which lie behind the end, hold the header of a later record, or anything. */
static void judge_behind(struct journal_scan *scan, struct slice bytes)
{
	for (; bytes.size >= JOURNAL_ALIGN;
	     bytes.data += JOURNAL_ALIGN, bytes.size -= JOURNAL_ALIGN) {
		struct journal_record record;
		if (load_le64(bytes.data) == 0)
			continue; /* no header begins with zeros: a kind is not 0 */
		scan->torn = true;
		if (journal_decode_record(bytes, scan->header.seed, &record) == 0 &&
		    record.sequence > scan->sequence)
			scan->damaged = true;
	}
}

static int look_behind(struct reader *reader)
{
	struct journal_scan *scan = &reader->scan;
	uint8_t *chunk = malloc(CHUNK_SIZE);
	int r = chunk ? 0 : -ENOMEM;

	/* Pieces overlap, so that every header lies whole in one of them. */
	for (uint64_t at = scan->end; r == 0 && at < scan->size && !scan->damaged;
	     at += CHUNK_SIZE - JOURNAL_RECORD_HEADER_SIZE) {
		size_t got;
		r = disk_read(reader->file, chunk, CHUNK_SIZE, at, &got);
		if (r == 0)
			judge_behind(scan, (struct slice){.data = chunk, .size = got});
	}
	free(chunk);
	return r;
}

int journal_scan(struct disk_file *file, const struct uuid *store, engine_journal_fn *fn, void *arg,
		 struct reterr *err, struct journal_scan *ret)
{
	CLEANUP(reader_done) struct reader reader = {.file = file, .fn = fn, .arg = arg};
	struct journal_scan *scan = &reader.scan;
	bool good = false;

	int r = disk_size(file, &scan->size);
	if (r == 0)
		r = read_header(&reader, store, &good, err);
	if (r < 0)
		return r;
	scan->end = JOURNAL_HEADER_SIZE;
	if (good) {
		r = read_records(&reader);
		if (r == 0)
			r = look_behind(&reader);
		if (r < 0)
			return r;
	}
	scan->damaged |= !good || scan->end < scan->header.base_size;
	if (scan->damaged)
		(void)reterr_set(err, -EBADMSG, "%s: damage at byte %" PRIu64 ": %s", JOURNAL_PATH,
				 good ? scan->end : 0,
				 good ? "a record that was acknowledged does not verify"
				      : "the header does not verify, or is another store's");
	*ret = *scan;
	return 0;
}
