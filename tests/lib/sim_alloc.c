#include "tests/lib/sim_alloc.h"

#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "tests/lib/fault_alloc.h"

void *sim_malloc(size_t size)
{
	return sim_realloc(NULL, size);
}

void *sim_calloc(size_t size)
{
	void *data = sim_malloc(size);
	memset(data, 0, size);
	return data;
}

void *sim_realloc(void *data, size_t size)
{
	fault_alloc_pause();
	void *out = realloc(data, size ? size : 1);
	fault_alloc_resume();
	invariant(out);
	return out;
}

char *sim_strdup(const char *text)
{
	size_t size = strlen(text) + 1;
	return memcpy(sim_malloc(size), text, size);
}

void sim_free(void *data)
{
	free(data);
}
