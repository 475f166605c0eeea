/* Lists on stdout: aligned text, or with --json one array with an object a line. */
#ifndef PROTOFS_CMD_PRINT_H
#define PROTOFS_CMD_PRINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/uuid.h"

struct engine_root;
struct where_segment;

struct print {
	bool json;
	bool any; /* an object was printed already */
};

void print_begin(struct print *print);
void print_end(struct print *print);

/* What stands before the next object of the JSON array, for those who print one themselves. */
void print_next(struct print *print);
/* `, "NAME": VALUE` with VALUE as a string, null if it is NULL. */
void print_member(const char *name, const char *value);

void print_segment(struct print *print, const struct where_segment *segment);
void print_atom(struct print *print, const struct uuid *segment, uint64_t offset, uint64_t size);
void print_root(struct print *print, const struct engine_root *root);

/* One root by itself: as roots/<seq> shows it, or in words. */
void print_root_alone(const struct engine_root *root, bool json);

#endif
