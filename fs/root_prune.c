#include "fs/root_prune.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "fs/decimal.h"

/* Roots at a time: their names are wanted after they are gone. */
enum { SLICE = 4096, NAME_SIZE = 48 };

static const char keep_word[] = "keep ";

static int parse(const char *text, uint64_t first, uint64_t last, uint64_t *ret_keep_from)
{
	uint64_t count;

	if (strncmp(text, keep_word, sizeof(keep_word) - 1) != 0) {
		/* A number that is none yet would drop all but one. */
		int r = decimal_parse(text, ret_keep_from);
		return r < 0 || *ret_keep_from == 0 || *ret_keep_from > last ? -EINVAL : 0;
	}
	if (decimal_parse(text + sizeof(keep_word) - 1, &count) < 0 || count == 0)
		return -EINVAL;
	*ret_keep_from = last >= first && count <= last - first ? last - count + 1 : first;
	return 0;
}

static void forget(struct call *call, uint64_t seq, uint64_t time_ns)
{
	char name[NAME_SIZE];

	(void)snprintf(name, sizeof(name), "%" PRIu64, seq);
	fs_forget_entry(call->fs, NODE_ROOTS, name);
	(void)snprintf(name, sizeof(name), "%" PRIu64 "-%" PRIu64, time_ns, seq);
	fs_forget_entry(call->fs, NODE_ROOTS_BY_TIME, name);
}

/* Those from FIRST on, SLICE at most, below KEEP_FROM. TIMES has room for so many. */
static int prune_slice(struct call *call, uint64_t first, uint64_t keep_from, uint64_t *times)
{
	uint64_t count = keep_from - first < SLICE ? keep_from - first : SLICE;

	for (uint64_t i = 0; i < count; i++) {
		struct engine_root root;
		/* One that a repair wrote off has no name. */
		times[i] = engine_root_get(call->engine, first + i, &root) == 0 ? root.time_ns : 0;
	}
	int r = engine_root_prune(call->engine, first + count, false, NULL, &call->err);
	for (uint64_t i = 0; r == 0 && i < count; i++)
		forget(call, first + i, times[i]);
	return r;
}

int root_prune(struct call *call, const char *text)
{
	uint64_t first, last, keep_from = 0;

	engine_root_range(call->engine, &first, &last);
	int r = parse(text, first, last, &keep_from);
	if (r < 0)
		return reterr_set(
			&call->err, r,
			".ctl/prune takes the number of the oldest root to keep, or \"keep N\"");
	uint64_t *times = calloc(SLICE, sizeof(*times));
	if (!times)
		return -ENOMEM;
	while (r == 0 && last != 0 && first < keep_from) {
		r = prune_slice(call, first, keep_from, times);
		first += SLICE;
	}
	free(times);
	return r;
}
