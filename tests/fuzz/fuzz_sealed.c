/*
 * The table and the index of a sealed part, as a hostile disk would have them: the sums are made to match, so that
 * everything behind them is reached. Input: u16 size of the table, the table, the index.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/invariant.h"
#include "engine/disk.h"
#include "engine/sealed.h"

enum { FRAMES = 32, ROUNDS_MAX = 10000 };

static void write_file(struct disk *disk, const char *path, const void *data, size_t size)
{
	struct disk_file *file;
	int r = disk_open(disk, path, DISK_WRITE | DISK_CREATE, &file);
	invariant(r == 0);
	r = size ? disk_write_flush(file, data, size, 0) : 0;
	invariant(r == 0);
	disk_close(file);
}

static void walk(const struct sealed *sealed)
{
	struct engine_frame frames[FRAMES];
	struct hash hash;
	uint64_t from = 0;
	size_t count = 1;

	for (unsigned round = 0; round < ROUNDS_MAX && count; round++) {
		if (sealed_frames(sealed, from, frames, FRAMES, &count) < 0)
			break;
		for (size_t i = 0; i < count; i++) {
			invariant(frames[i].offset >= from);
			from = frames[i].offset + 1;
		}
	}
	(void)!sealed_last_frame(sealed, &from);
	(void)!sealed_page_sum(sealed, sealed->header.page_count, &hash);
	(void)!sealed_mib_sum(sealed, sealed->header.mib_first, &hash);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t table[1 << 16];
	const struct uuid segment = {{1}};
	char path[DISK_PATH_MAX];
	struct sealed *sealed;
	struct disk *disk;

	if (size < 2)
		return 0;
	size_t table_size = (size_t)(data[0] | data[1] << 8);
	data += 2;
	size -= 2;
	if (table_size > size || table_size < SEALED_HEADER_SIZE + HASH_SIZE)
		return 0;
	memcpy(table, data, table_size);
	data += table_size;
	size -= table_size;

	struct hash sum = hash_of(data, size);
	memcpy(table, SEALED_TABLE_MAGIC, SEALED_MAGIC_SIZE);
	store_le32(table + 8, SEALED_VERSION);
	store_le32(table + 12, PART_PAGE_SIZE);
	memcpy(table + 16, segment.bytes, sizeof(segment.bytes));
	store_le64(table + 32, 0);
	store_le64(table + 64, size);
	memcpy(table + 72, sum.bytes, HASH_SIZE);
	sum = hash_of(table, table_size - HASH_SIZE);
	memcpy(table + table_size - HASH_SIZE, sum.bytes, HASH_SIZE);

	int r = disk_memory_new(1 << 24, &disk);
	invariant(r == 0);
	r = disk_mkdir(disk, "sealed");
	part_dir(PART_TABLE, &segment, path);
	r = r == 0 ? disk_mkdir(disk, path) : r;
	invariant(r == 0);
	part_path(PART_TABLE, &segment, 0, path);
	write_file(disk, path, table, table_size);
	part_path(PART_INDEX, &segment, 0, path);
	write_file(disk, path, data, size);
	if (sealed_open(disk, &segment, 0, false, NULL, &sealed) == 0) {
		walk(sealed);
		sealed_close(sealed);
	}
	disk_free(disk);
	return 0;
}
