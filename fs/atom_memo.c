#include "fs/atom_memo.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum { SLOT_BITS = 10 };

struct slot {
	uint64_t id; /* 0: empty; no node has it */
	uint64_t size;
};

struct atom_memo {
	pthread_mutex_t lock; /* of the slots; a leaf */
	struct slot slots[1u << SLOT_BITS];
};

int atom_memo_new(struct atom_memo **ret)
{
	struct atom_memo *memo = calloc(1, sizeof(*memo));
	if (!memo)
		return -ENOMEM;
	(void)pthread_mutex_init(&memo->lock, NULL);
	*ret = memo;
	return 0;
}

void atom_memo_free(struct atom_memo *memo)
{
	if (!memo)
		return;
	(void)pthread_mutex_destroy(&memo->lock);
	free(memo);
}

/* Each id has one slot. Those of one segment differ in their low bits only, so all are mixed. */
static struct slot *slot_of(struct atom_memo *memo, uint64_t id)
{
	return &memo->slots[id * UINT64_C(0x9e3779b97f4a7c15) >> (64 - SLOT_BITS)];
}

void atom_memo_put(struct atom_memo *memo, uint64_t id, uint64_t size)
{
	(void)pthread_mutex_lock(&memo->lock);
	*slot_of(memo, id) = (struct slot){.id = id, .size = size};
	(void)pthread_mutex_unlock(&memo->lock);
}

bool atom_memo_get(struct atom_memo *memo, uint64_t id, uint64_t *ret_size)
{
	(void)pthread_mutex_lock(&memo->lock);
	struct slot found = *slot_of(memo, id);
	(void)pthread_mutex_unlock(&memo->lock);
	if (found.id != id)
		return false;
	*ret_size = found.size;
	return true;
}
