#include "fs/small_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/invariant.h"

enum { TABLE_CAPACITY_FIRST = 16 };

static uint32_t name_hash(const char *name)
{
	return (uint32_t)hash64_of(name, strlen(name));
}

static struct small_entry *table_find(const struct small_table *table, const char *name)
{
	uint32_t hash = name_hash(name);
	for (size_t i = 0; i < table->count; i++) {
		struct small_entry *entry = &table->entries[i];
		if (entry->hash == hash && strcmp(entry->name, name) == 0)
			return entry;
	}
	return NULL;
}

static void table_remove(struct small_table *table, struct small_entry *entry)
{
	invariant(table->count > 0 && table->entries);
	size_t behind = table->count - (size_t)(entry - table->entries) - 1;
	memmove(entry, entry + 1, behind * sizeof(*entry));
	table->count--;
}

static void entry_name(struct small_entry *entry, const char *name)
{
	strcpy(entry->name, name);
	entry->hash = name_hash(name);
}

static int table_add(struct small_table *table, const char *name, struct small_entry **ret)
{
	if (table->count == table->count_max)
		return -ENOSPC;
	if (table->count == table->capacity) {
		size_t capacity = table->capacity ? 2 * table->capacity : TABLE_CAPACITY_FIRST;
		struct small_entry *grown = reallocarray(table->entries, capacity, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		table->entries = grown;
		table->capacity = capacity;
	}
	struct small_entry *entry = &table->entries[table->count++];
	*entry = (struct small_entry){.seq = 0};
	entry_name(entry, name);
	*ret = entry;
	return 0;
}

static int table_set(struct small_table *table, const struct small_file_change *change,
		     struct engine_segment *segment, uint64_t content)
{
	struct small_entry *entry = table_find(table, change->name);
	int r = entry ? 0 : table_add(table, change->name, &entry);
	if (r < 0)
		return r;
	entry->mode = change->mode;
	entry->mtime_ns = change->mtime_ns;
	entry->size = change->content.size;
	entry->segment = segment;
	entry->offset = content;
	entry->seq = change->seq;
	return 0;
}

static void table_unlink(struct small_table *table, const char *name)
{
	struct small_entry *entry = table_find(table, name);
	if (entry)
		table_remove(table, entry);
}

static void table_rename(struct small_table *table, const struct small_file_change *change)
{
	char to[SMALL_FILE_NAME_MAX + 1] = {0};
	struct small_entry *entry = table_find(table, change->name);
	memcpy(to, change->content.data, change->content.size);
	if (!entry || strcmp(change->name, to) == 0)
		return;
	table_unlink(table, to);
	/* It may have moved. */
	entry = table_find(table, change->name);
	invariant(entry);
	entry_name(entry, to);
	entry->seq = change->seq;
}

static void table_reset(struct small_table *table, const struct small_file_change *change)
{
	uint64_t since = load_le64(change->content.data);
	for (size_t i = 0; i < table->count;) {
		if (table->entries[i].seq < since)
			table_remove(table, &table->entries[i]);
		else
			i++;
	}
}

int small_table_apply(struct small_table *table, const struct small_file_change *change,
		      struct engine_segment *segment, uint64_t content)
{
	int r = 0;

	switch (change->op) {
	case SMALL_FILE_SET:
		r = table_set(table, change, segment, content);
		break;
	case SMALL_FILE_UNLINK:
		table_unlink(table, change->name);
		break;
	case SMALL_FILE_RENAME:
		table_rename(table, change);
		break;
	case SMALL_FILE_RESET:
		table_reset(table, change);
		break;
	}
	if (change->seq >= table->next_seq)
		table->next_seq = change->seq + 1;
	return r;
}

void small_table_done(struct small_table *table)
{
	free(table->entries);
	*table = (struct small_table){.count_max = table->count_max};
}
