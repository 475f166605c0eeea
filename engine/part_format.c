#include "engine/part_format.h"

#include <errno.h>
#include <stdio.h>

#include "base/invariant.h"
#include "base/slice.h"

struct part_geometry part_geometry_of(uint64_t block_size)
{
	uint64_t data_size = PART_BLOCKS * block_size;
	uint64_t entries = data_size / DISK_BLOCK_SIZE;

	invariant(entries <= UINT32_MAX && entries % PART_ENTRIES_PER_BLOCK == 0);
	return (struct part_geometry){.data_size = data_size,
				      .table_size = entries * PART_ENTRY_SIZE,
				      .entries_max = (uint32_t)entries};
}

uint64_t part_tag(const struct uuid *segment, uint64_t start)
{
	uint8_t bytes[sizeof(segment->bytes) + sizeof(start)];

	memcpy(bytes, segment->bytes, sizeof(segment->bytes));
	store_le64(bytes + sizeof(segment->bytes), start);
	return hash64_of(bytes, sizeof(bytes));
}

void part_entry_store(uint8_t bytes[static PART_ENTRY_SIZE], const struct part_entry *entry,
		      uint64_t tag)
{
	store_le64(bytes, entry->offset);
	store_le32(bytes + 8, entry->length);
	store_le32(bytes + 12, entry->epoch);
	store_le64(bytes + 16, entry->sequence);
	memcpy(bytes + 24, entry->hash.bytes, HASH_SIZE);
	store_le64(bytes + 40, tag);
	store_le64(bytes + 48, 0);
	store_le64(bytes + 56, hash64_of(bytes, 56));
}

int part_entry_load(const uint8_t bytes[static PART_ENTRY_SIZE], uint64_t tag, uint64_t sequence,
		    struct part_entry *ret)
{
	static const uint8_t never_written[PART_ENTRY_SIZE];

	if (load_le64(bytes + 56) != hash64_of(bytes, 56))
		return memcmp(bytes, never_written, PART_ENTRY_SIZE) == 0 ? -ENODATA : -EBADMSG;
	if (load_le64(bytes + 16) != sequence || load_le64(bytes + 40) != tag ||
	    load_le64(bytes + 48) != 0 || load_le32(bytes + 8) == 0)
		return -EBADMSG;

	*ret = (struct part_entry){.offset = load_le64(bytes),
				   .length = load_le32(bytes + 8),
				   .epoch = load_le32(bytes + 12),
				   .sequence = sequence};
	memcpy(ret->hash.bytes, bytes + 24, HASH_SIZE);
	return 0;
}

static const char *const part_suffix[] = {
	[PART_DATA] = "",
	[PART_TABLE] = ".table",
	[PART_INDEX] = ".index",
	[PART_NOTE] = ".remote",
};

void part_dir(enum part_file file, const struct uuid *segment, char path[static DISK_PATH_MAX])
{
	char text[UUID_TEXT_LENGTH + 1];
	(void)snprintf(path, DISK_PATH_MAX, "%s/%s", file == PART_DATA ? "segments" : "sealed",
		       uuid_format(segment, text));
}

void part_path(enum part_file file, const struct uuid *segment, uint64_t start,
	       char path[static DISK_PATH_MAX])
{
	char dir[DISK_PATH_MAX];
	part_dir(file, segment, dir);
	int n = snprintf(path, DISK_PATH_MAX, "%.64s/%020llu%s", dir, (unsigned long long)start,
			 part_suffix[file]);
	invariant(n > 0 && n < DISK_PATH_MAX);
}

int part_name_parse(const char *name, const char *suffix, uint64_t *ret_start)
{
	uint64_t start = 0;

	for (unsigned i = 0; i < 20; i++) {
		if (name[i] < '0' || name[i] > '9')
			return -EINVAL;
		unsigned digit = (unsigned)(name[i] - '0');
		if (start > (UINT64_MAX - digit) / 10)
			return -EINVAL;
		start = start * 10 + digit;
	}
	if (strcmp(name + 20, suffix) != 0)
		return -EINVAL;
	*ret_start = start;
	return 0;
}
