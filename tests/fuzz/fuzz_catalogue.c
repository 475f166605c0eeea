/*
 * Catalogues: any bytes as the file. The first byte of the input says how much is put right
 * beforehand, so that what lies behind the checksums is reached: 1 the header, 2 the records' sums,
 * 4 their slots. Whatever is opened goes on working, and says the same after it was opened again.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/invariant.h"
#include "base/le.h"
#include "engine/catalogue_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FIX_HEADER = 1, FIX_SUMS = 2, FIX_SLOTS = 4, RECORDS_MAX = 512 };

static const struct uuid store = {{1, 2, 3}};

struct seen {
	uint64_t count;
	uint32_t number;  /* the last one told */
	struct hash hash; /* over what was told */
};

static int see(void *arg, const struct catalogue_record *record)
{
	struct seen *seen = arg;
	uint8_t bytes[CATALOGUE_RECORD_SIZE + HASH_SIZE];
	struct catalogue_entry entry = {.record = *record};
	invariant(record->number > seen->number);
	invariant(catalogue_check(record, NULL) == 0);
	catalogue_encode(&entry, &store, bytes);
	memcpy(bytes + CATALOGUE_RECORD_SIZE, seen->hash.bytes, HASH_SIZE);
	seen->hash = hash_of(bytes, sizeof(bytes));
	seen->number = record->number;
	seen->count++;
	return 0;
}

static void fix_record(uint8_t *bytes, uint32_t slot, unsigned how)
{
	uint8_t input[sizeof(store.bytes) + CATALOGUE_RECORD_SIZE - HASH_SIZE];
	if (how & FIX_SLOTS)
		store_le32(bytes + 80, slot);
	if (!(how & FIX_SUMS) || bytes[CATALOGUE_RECORD_SIZE - 1] % 4 == 3)
		return;
	memcpy(input, store.bytes, sizeof(store.bytes));
	memcpy(input + sizeof(store.bytes), bytes, CATALOGUE_RECORD_SIZE - HASH_SIZE);
	struct hash sum = hash_of(input, sizeof(input));
	memcpy(bytes + CATALOGUE_RECORD_SIZE - HASH_SIZE, sum.bytes, HASH_SIZE);
}

static void write_file(struct disk *disk, const uint8_t *data, size_t size, unsigned how)
{
	size_t header = how & FIX_HEADER ? CATALOGUE_HEADER_SIZE : 0;
	uint8_t *bytes = malloc(header + size + 1);
	struct disk_file *file;
	invariant(bytes);
	if (header)
		catalogue_encode_header(&(struct catalogue_header){.store = store}, bytes);
	if (size)
		memcpy(bytes + header, data, size);
	size += header;
	for (uint32_t slot = 0; catalogue_slot_offset(slot + 1) <= size; slot++)
		fix_record(bytes + catalogue_slot_offset(slot), slot, how);
	invariant(disk_open(disk, CATALOGUE_PATH, DISK_WRITE | DISK_CREATE, &file) == 0);
	if (size)
		invariant(disk_write_flush(file, bytes, size, 0) == 0);
	disk_close(file);
	free(bytes);
}

static int look(struct disk *disk, bool read_only, struct seen *ret, struct catalogue **ret_c)
{
	struct reterr err = {0};
	*ret = (struct seen){0};
	int r = catalogue_open(disk, &store, read_only, see, ret, &err, ret_c);
	invariant(r == 0 || r == -EBADMSG || r == -ENOTSUP);
	invariant((*ret_c != NULL) == (r == 0 || r == -EBADMSG));
	invariant(r == 0 || (err.code == r && err.text[0]));
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct disk *disk;
	struct catalogue *c;
	struct seen before, after;
	if (size == 0 || size > CATALOGUE_HEADER_SIZE + RECORDS_MAX * CATALOGUE_RECORD_SIZE)
		return 0;
	invariant(disk_memory_new(16 << 20, &disk) == 0);
	write_file(disk, data + 1, size - 1, data[0]);

	int r = look(disk, true, &before, &c);
	catalogue_close(c);
	invariant(look(disk, false, &after, &c) == r);
	invariant(hash_equal(&before.hash, &after.hash));
	if (r == 0) {
		struct catalogue_record record = {
			.uuid = {{0xff, 0xfe}},
			.number = CATALOGUE_NUMBER_MAX,
			.state = CATALOGUE_OPEN,
		};
		bool added = catalogue_put(c, &record, NULL) == 0;
		catalogue_close(c);
		/* A UUID that was there under another number makes this damage. */
		r = look(disk, true, &after, &c);
		invariant(r == -EBADMSG || after.count >= before.count);
		invariant(r == -EBADMSG || !added || after.number == CATALOGUE_NUMBER_MAX);
	}
	catalogue_close(c);
	disk_free(disk);
	return 0;
}
