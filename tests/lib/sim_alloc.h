/*
 * Memory of the test library itself: never failed by fault_alloc.h, and a test that gets none stops.
 */
#ifndef PROTOFS_TESTS_LIB_SIM_ALLOC_H
#define PROTOFS_TESTS_LIB_SIM_ALLOC_H

#include <stddef.h>

void *sim_malloc(size_t size);
void *sim_calloc(size_t size);
void *sim_realloc(void *data, size_t size);
char *sim_strdup(const char *text);
void sim_free(void *data);

#endif
