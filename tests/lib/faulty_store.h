/*
 * A block store that fails on purpose, by seed: in front of any other, which it does not own. Several
 * may stand in front of one, each a writer with a network of its own.
 *
 * A call draws its fate first, under a lock, so that one thread and one seed give one history.
 * Chances are in 1/1000.
 */
#ifndef PROTOFS_TESTS_LIB_FAULTY_STORE_H
#define PROTOFS_TESTS_LIB_FAULTY_STORE_H

#include <protofs/block_store.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct faulty_options {
	uint64_t seed;
	unsigned before; /* -EAGAIN, nothing happened */
	unsigned after;  /* -EAGAIN, but it happened */
	unsigned late;   /* a put or delete: -EAGAIN, and it happens at some later call, or never */
	unsigned lose;   /* a put: 0, and nothing happened: a place that lies */
	unsigned corrupt; /* get, get_range: a flipped bit */
	unsigned cut;     /* get: -EBADMSG, as of a body that ended early */
	unsigned hang;    /* waits until stop (-ECANCELED) or faulty_store_release (-EAGAIN) */
	unsigned forget;  /* get, head: the head is not RECORDED, its first frame unknown */
	uint64_t retry_after_ms; /* told with each -EAGAIN */
	bool unconditional; /* as a place that cannot refuse a second put: it looks, then writes */
	/*
	 * Called around each call's effect, no lock held: BEFORE, then the effect, then not BEFORE.
	 * Unconditional puts call it once more between looking and writing.
	 */
	void (*step)(void *arg, enum block_request kind, const char *key, bool before);
	void *step_arg;
};

MUST_CHECK int faulty_store_new(struct block_store *below, const struct faulty_options *options,
				struct block_store **ret);

/* From now on every call fails with CODE (-EAGAIN, -EACCES, ...) and does nothing. 0 ends that. */
void faulty_store_set_down(struct block_store *store, int code);
/* As if the process died: after N more effects every call is -ECANCELED and does nothing. */
void faulty_store_cut_after(struct block_store *store, uint64_t effects);
/* Other chances from now on; the seed goes on. */
void faulty_store_set(struct block_store *store, const struct faulty_options *options);
/* Whatever hangs, or will until the next call, goes on. */
void faulty_store_release(struct block_store *store);
/* All late puts and deletes happen now (KEEP) or never. Returns how many there were. */
unsigned faulty_store_settle(struct block_store *store, bool keep);
/* How many calls failed or were falsified since it was made. */
uint64_t faulty_store_faults(struct block_store *store);

#endif
