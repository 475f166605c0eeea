/*
 * The journal, as a hostile disk would have it. The first byte of the input says how much is put
 * right beforehand, so that what lies behind the sums is reached: 1 the header, 2 the sums of
 * records that lie one behind the other. Whatever is opened can be appended to, and tells the same
 * afterwards, and one more.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "base/le.h"
#include "engine/journal.h"
#include "engine/journal_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FIX_HEADER = 1, FIX_RECORDS = 2, SIZE_LIMIT = 64 << 10 };

static const struct uuid store = {{1, 2, 3}};
static const uint64_t seed = 42;

struct seen {
	uint64_t count, bytes;
	struct hash hash;
};

static int see(void *arg, const void *record, size_t size)
{
	struct seen *seen = arg;
	struct hash both[2] = {seen->hash, hash_of(record, size)};
	invariant(size <= ENGINE_JOURNAL_RECORD_MAX);
	seen->hash = hash_of(both, sizeof(both));
	seen->count++;
	seen->bytes += size;
	return 0;
}

static void fix_records(uint8_t *bytes, size_t size)
{
	size_t at = JOURNAL_HEADER_SIZE;
	for (uint64_t sequence = 0; at + JOURNAL_RECORD_HEADER_SIZE <= size; sequence++) {
		uint8_t *p = bytes + at;
		uint64_t length = load_le32(p) % 512;
		if (length > size - at - JOURNAL_RECORD_HEADER_SIZE)
			return;
		struct journal_record record = {
			.kind = p[4] % 8 == 7 ? JOURNAL_MARK : JOURNAL_RECORD,
			.sequence = p[5] % 16 == 15 ? sequence + 1 : sequence,
		};
		record.size = record.kind == JOURNAL_MARK ? 0 : (uint32_t)length;
		record.hash = hash_of(p + JOURNAL_RECORD_HEADER_SIZE, record.size);
		if (p[6] % 16 != 15)
			journal_encode_record(&record, seed, p);
		at += (size_t)journal_record_span(record.size);
	}
}

static void write_file(struct disk *disk, const uint8_t *data, size_t size, unsigned how)
{
	size_t header = how & FIX_HEADER ? JOURNAL_HEADER_SIZE : 0;
	uint8_t *bytes = malloc(header + size + 1);
	struct disk_file *file;
	invariant(bytes);
	if (header)
		journal_encode_header(&(struct journal_header){.store = store,
							       .seed = seed,
							       .base_size = JOURNAL_HEADER_SIZE},
				      bytes);
	if (size)
		memcpy(bytes + header, data, size);
	size += header;
	if (how & FIX_RECORDS)
		fix_records(bytes, size);
	invariant(disk_open(disk, JOURNAL_PATH, DISK_WRITE | DISK_CREATE, &file) == 0);
	if (size)
		invariant(disk_write_flush(file, bytes, size, 0) == 0);
	disk_close(file);
	free(bytes);
}

static int look(struct disk *disk, bool append, struct seen *ret)
{
	struct journal *journal;
	struct reterr err = {0};
	*ret = (struct seen){0};
	invariant(journal_new(disk, &store, false, &journal) == 0);
	int r = journal_load(journal, see, ret, &err);
	invariant(r == 0 || r == -EBADMSG || r == -ENOTSUP);
	invariant(r == 0 || (err.code == r && err.text[0]));
	if (append)
		invariant(journal_append(journal, "one", 3, NULL) == r);
	journal_free(journal);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct disk *disk;
	struct seen before, again, after;
	if (size == 0 || size > SIZE_LIMIT)
		return 0;
	invariant(disk_memory_new(16 << 20, &disk) == 0);
	write_file(disk, data + 1, size - 1, data[0]);

	int r = look(disk, false, &before);
	invariant(look(disk, true, &again) == r);
	invariant(hash_equal(&before.hash, &again.hash) && before.bytes <= size);
	invariant(look(disk, false, &after) == r);
	if (r == 0)
		invariant(after.count == before.count + 1 && after.bytes == before.bytes + 3);
	if (r == -EBADMSG) {
		invariant(journal_repair(disk, &store, NULL) == 0);
		invariant(look(disk, false, &after) == 0);
		invariant(after.count <= before.count);
	}
	disk_free(disk);
	return 0;
}
