#include "cloud/block_cache_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"

enum {
	BUCKETS = 1 << 14,
	AGAIN_MS = 5000, /* longer than one reader takes from a block's beginning to its end */
	GONE_MIN = 32,
	GONE_MAX = 4096,
};

static struct cache_entry **bucket_of(const struct cache_table *table, const struct hash *id)
{
	return &table->buckets[load_le64(id->bytes) % BUCKETS];
}

/* ---- The two lists ---- */

static struct cache_list *list_of(struct cache_table *table, const struct cache_entry *entry)
{
	return entry->main ? &table->main : &table->probation;
}

static void list_push(struct cache_list *list, struct cache_entry *entry)
{
	entry->newer = NULL;
	entry->older = list->newest;
	if (list->newest)
		list->newest->newer = entry;
	else
		list->oldest = entry;
	list->newest = entry;
	list->bytes += entry->disk;
}

static void list_take(struct cache_list *list, struct cache_entry *entry)
{
	if (entry->older)
		entry->older->newer = entry->newer;
	else
		list->oldest = entry->newer;
	if (entry->newer)
		entry->newer->older = entry->older;
	else
		list->newest = entry->older;
	list->bytes -= entry->disk;
}

/* ---- The names of what went ---- */

static bool was_here(const struct cache_table *table, const struct hash *id)
{
	for (size_t i = 0; i < table->gone_count; i++) {
		if (hash_equal(&table->gone[i], id))
			return true;
	}
	return false;
}

static void remember_name(struct cache_table *table, const struct hash *id)
{
	table->gone[table->gone_next] = *id;
	table->gone_next = (table->gone_next + 1) % table->gone_max;
	if (table->gone_count < table->gone_max)
		table->gone_count++;
}

/* ---- Interface ---- */

int cache_table_init(struct cache_table *table, uint64_t size_max, uint64_t block_size)
{
	uint64_t gone = block_size ? size_max / block_size / 2 : GONE_MIN;
	gone = gone < GONE_MIN ? GONE_MIN : gone > GONE_MAX ? GONE_MAX : gone;
	*table = (struct cache_table){
		.size_max = size_max,
		.buckets = calloc(BUCKETS, sizeof(struct cache_entry *)),
		.gone = calloc(gone, sizeof(struct hash)),
		.gone_max = (size_t)gone,
	};
	if (table->buckets && table->gone)
		return 0;
	cache_table_done(table);
	return -ENOMEM;
}

static void free_list(struct cache_list *list)
{
	while (list->oldest) {
		struct cache_entry *entry = list->oldest;
		list_take(list, entry);
		free(entry);
	}
}

void cache_table_done(struct cache_table *table)
{
	free_list(&table->probation);
	free_list(&table->main);
	free((void *)table->buckets);
	free(table->gone);
	*table = (struct cache_table){0};
}

struct cache_entry *cache_table_find(const struct cache_table *table, const struct hash *id)
{
	struct cache_entry *entry = *bucket_of(table, id);
	while (entry && !hash_equal(&entry->id, id))
		entry = entry->chain;
	return entry;
}

void cache_table_insert(struct cache_table *table, struct cache_entry *entry, uint64_t now_ms)
{
	struct cache_entry **bucket = bucket_of(table, &entry->id);
	entry->main = was_here(table, &entry->id);
	entry->admitted_ms = now_ms;
	entry->served = 0;
	entry->chain = *bucket;
	*bucket = entry;
	list_push(list_of(table, entry), entry);
	table->count++;
}

void cache_table_touch(struct cache_table *table, struct cache_entry *entry, uint64_t size,
		       uint64_t now_ms)
{
	entry->served += size;
	bool again = now_ms - entry->admitted_ms >= AGAIN_MS ||
		     entry->served > entry->file.head.size + entry->file.head.size / 2;
	if (!entry->main && !again)
		return;
	list_take(list_of(table, entry), entry);
	entry->main = true;
	list_push(&table->main, entry);
}

static struct cache_entry *oldest_free(const struct cache_list *list)
{
	struct cache_entry *entry = list->oldest;
	while (entry && (entry->pins || entry->busy))
		entry = entry->newer;
	return entry;
}

struct cache_entry *cache_table_victim(const struct cache_table *table)
{
	bool probation_first = table->probation.bytes >= table->size_max / 4;
	const struct cache_list *first = probation_first ? &table->probation : &table->main;
	const struct cache_list *second = probation_first ? &table->main : &table->probation;
	struct cache_entry *entry = oldest_free(first);
	return entry ? entry : oldest_free(second);
}

void cache_table_remove(struct cache_table *table, struct cache_entry *entry, bool remember)
{
	struct cache_entry **at = bucket_of(table, &entry->id);
	while (*at != entry)
		at = &(*at)->chain;
	*at = entry->chain;
	list_take(list_of(table, entry), entry);
	table->count--;
	if (remember && !entry->main)
		remember_name(table, &entry->id);
}

struct cache_entry *cache_table_next(const struct cache_table *table,
				     const struct cache_entry *entry)
{
	if (!entry)
		return table->probation.oldest ? table->probation.oldest : table->main.oldest;
	if (entry->newer || entry->main)
		return entry->newer;
	return table->main.oldest;
}
