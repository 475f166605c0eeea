/*
 * The live records of a catalogue in memory, sorted by number. Not thread-safe: the catalogue's
 * lock guards it.
 */
#ifndef PROTOFS_ENGINE_CATALOGUE_TABLE_H
#define PROTOFS_ENGINE_CATALOGUE_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "engine/catalogue.h"

/* All zero is an empty table. */
struct catalogue_table {
	struct catalogue_record *records; /* by number */
	size_t count;
	size_t capacity;
};

void catalogue_table_done(struct catalogue_table *table);

/* Room for MORE records beyond those that there are: -ENOMEM. */
MUST_CHECK int catalogue_table_reserve(struct catalogue_table *table, size_t more);

/* NULL if there is none. */
const struct catalogue_record *catalogue_table_find(const struct catalogue_table *table,
						    uint32_t number);

/*
 * Takes RECORD as its segment's last one: inserts, replaces, or (FORGOTTEN) removes. A mark changes
 * nothing. Room was reserved.
 */
void catalogue_table_apply(struct catalogue_table *table, const struct catalogue_record *record);

/* No UUID has two numbers: 0, -ENOMEM, or -EEXIST with one of the two in RET. */
MUST_CHECK int catalogue_table_check_uuids(const struct catalogue_table *table,
					   const struct catalogue_record **ret);

#endif
