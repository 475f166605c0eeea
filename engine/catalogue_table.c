#include "engine/catalogue_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "engine/catalogue_format.h"

void catalogue_table_done(struct catalogue_table *table)
{
	free(table->records);
	*table = (struct catalogue_table){0};
}

int catalogue_table_reserve(struct catalogue_table *table, size_t more)
{
	if (more <= table->capacity - table->count)
		return 0;
	size_t capacity = table->capacity * 2 > table->count + more ? table->capacity * 2
								    : table->count + more;
	void *records = realloc(table->records, capacity * sizeof(*table->records));
	if (!records)
		return -ENOMEM;
	table->records = records;
	table->capacity = capacity;
	return 0;
}

/* Where NUMBER is or would be. They come in order nearly always, so the end is tried first. */
static size_t table_index(const struct catalogue_table *table, uint32_t number)
{
	size_t low = 0, high = table->count;
	if (high > 0 && table->records[high - 1].number < number)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (table->records[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct catalogue_record *catalogue_table_find(const struct catalogue_table *table,
						    uint32_t number)
{
	size_t i = table_index(table, number);
	return i < table->count && table->records[i].number == number ? &table->records[i] : NULL;
}

void catalogue_table_apply(struct catalogue_table *table, const struct catalogue_record *record)
{
	if (record->state == CATALOGUE_MARK)
		return;
	size_t i = table_index(table, record->number);
	bool found = i < table->count && table->records[i].number == record->number;
	struct catalogue_record *at = table->records + i;
	if (record->state == CATALOGUE_FORGOTTEN) {
		if (found)
			memmove(at, at + 1, (--table->count - i) * sizeof(*at));
		return;
	}
	if (!found) {
		invariant(table->count < table->capacity);
		memmove(at + 1, at, (table->count++ - i) * sizeof(*at));
	}
	*at = *record;
}

static int compare_uuids(const void *a, const void *b)
{
	const struct catalogue_record *const *left = a, *const *right = b;
	return memcmp((*left)->uuid.bytes, (*right)->uuid.bytes, sizeof((*left)->uuid.bytes));
}

int catalogue_table_check_uuids(const struct catalogue_table *table,
				const struct catalogue_record **ret)
{
	if (table->count < 2)
		return 0;
	const struct catalogue_record **sorted = calloc(table->count, sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	/* The UUID of a removed segment may be used again. */
	size_t count = 0;
	for (size_t i = 0; i < table->count; i++)
		if (table->records[i].state != CATALOGUE_REMOVED)
			sorted[count++] = &table->records[i];
	qsort(sorted, count, sizeof(*sorted), compare_uuids);

	int r = 0;
	for (size_t i = 1; i < count && r == 0; i++) {
		if (!uuid_equal(&sorted[i - 1]->uuid, &sorted[i]->uuid))
			continue;
		*ret = sorted[i];
		r = -EEXIST;
	}
	free(sorted);
	return r;
}
