#include "engine/part_list.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/part_format.h"

/* Names that are none of these are of a seal that a crash cut short. */
static bool parse(const char *name, struct part_found *ret)
{
	*ret = (struct part_found){0};
	ret->data = part_name_parse(name, "", &ret->start) == 0;
	ret->table = !ret->data && part_name_parse(name, ".table", &ret->start) == 0;
	ret->noted = !ret->data && !ret->table &&
		     part_name_parse(name, ".remote", &ret->start) == 0;
	return ret->data || ret->table || ret->noted;
}

static int collect(void *arg, const char *name, bool is_dir)
{
	struct part_list *list = arg;
	struct part_found found;

	if (is_dir || !parse(name, &found))
		return 0;
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 16;
		if (capacity > PART_LIST_MAX)
			return -E2BIG;
		struct part_found *items = realloc(list->items, capacity * sizeof(*items));
		if (!items)
			return -ENOMEM;
		list->items = items;
		list->capacity = capacity;
	}
	list->items[list->count++] = found;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct part_found *x = a, *y = b;
	return (x->start > y->start) - (x->start < y->start);
}

/* Of several names of one start one item is left, and none of a note alone. */
static void merge(struct part_list *list)
{
	size_t kept = 0;

	for (size_t i = 0; i < list->count;) {
		struct part_found found = list->items[i];
		for (i++; i < list->count && list->items[i].start == found.start; i++) {
			found.data |= list->items[i].data;
			found.table |= list->items[i].table;
			found.noted |= list->items[i].noted;
		}
		if (found.data || found.table)
			list->items[kept++] = found;
	}
	list->count = kept;
}

int part_list_load(struct disk *disk, const struct uuid *segment, struct part_list *ret)
{
	static const enum part_file dirs[] = {PART_DATA, PART_TABLE};
	struct part_list list = {0};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(dirs) && r == 0; i++) {
		char path[DISK_PATH_MAX];
		part_dir(dirs[i], segment, path);
		r = disk_list(disk, path, collect, &list);
		if (r == -ENOENT)
			r = 0;
	}
	if (r < 0) {
		part_list_done(&list);
		return r;
	}
	if (list.count)
		qsort(list.items, list.count, sizeof(*list.items), compare);
	merge(&list);
	*ret = list;
	return 0;
}

void part_list_done(struct part_list *list)
{
	free(list->items);
	*list = (struct part_list){0};
}
