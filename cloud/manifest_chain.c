#include "cloud/manifest_chain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/block_key.h"

enum { FIRST_READ_SIZE = 65536, FIND_ROUNDS_MAX = 1000 };

static char *key_of(uint64_t n, char text[static BLOCK_KEY_MAX + 1])
{
	return block_key_format(&(struct block_key){.kind = BLOCK_KEY_ROOT, .position = n}, text);
}

/* ---- The newest ----------------------------------------------------------------------------- */

static int exists(struct block_store *store, uint64_t n, struct reterr *err)
{
	char key[BLOCK_KEY_MAX + 1];
	struct block_head head;
	int r = block_store_head(store, key_of(n, key), &head, err);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : 1;
}

struct first {
	uint64_t n; /* 0: there is none */
};

static int note_first(void *arg, const char *text, uint64_t size)
{
	struct first *first = arg;
	struct block_key key;
	(void)size;
	if (block_key_parse(text, &key) < 0 || key.kind != BLOCK_KEY_ROOT)
		return 0;
	first->n = key.position;
	return -EEXIST; /* one is enough */
}

/* The first number behind N; 0: there is none. */
static int first_behind(struct block_store *store, uint64_t n, struct reterr *err, uint64_t *ret)
{
	char key[BLOCK_KEY_MAX + 1];
	struct first first = {.n = 0};
	int r = block_store_list(store, "roots/", n > 0 ? key_of(n, key) : "", note_first, &first,
				 err);
	if (r < 0 && first.n == 0)
		return r;
	*ret = first.n;
	return 0;
}

/* Numbers are dense: doubles until one is missing, then halves. LOW is there. */
static int search(struct block_store *store, uint64_t low, struct reterr *err, uint64_t *ret)
{
	uint64_t high = low, step = 1;
	int r;
	do {
		low = high;
		high = low + step;
		step *= 2;
		r = high > BLOCK_KEY_POSITION_MAX ? 0 : exists(store, high, err);
		if (r < 0)
			return r;
	} while (r > 0);
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;
		r = exists(store, middle, err);
		if (r < 0)
			return r;
		if (r > 0)
			low = middle;
		else
			high = middle;
	}
	*ret = low;
	return 0;
}

int manifest_find_newest(struct block_store *store, struct reterr *err, uint64_t *ret)
{
	uint64_t n = 0, next = 0;
	/* While somebody writes, there is always one more: any of them will do. */
	for (unsigned round = 0; round < FIND_ROUNDS_MAX; round++) {
		int r = first_behind(store, n, err, &next);
		if (r < 0)
			return r;
		if (next == 0 && n == 0)
			return reterr_set(err, -ENOENT, "there is no manifest");
		if (next == 0)
			break;
		if (next != n + 1)
			return reterr_set(err, -EBADMSG,
					  "manifest %" PRIu64 " is missing, but %" PRIu64
					  " is there: the chain is broken",
					  n + 1, next);
		r = search(store, next, err, &n);
		if (r < 0)
			return r;
	}
	*ret = n;
	return 0;
}

/* ---- Reading one ---------------------------------------------------------------------------- */

/* Grows BUFFER to what KEY needs. */
static int fetch(struct block_store *store, const char *key, struct buf *buffer,
		 struct block_head *head, struct reterr *err)
{
	int r = buf_reserve(buffer, FIRST_READ_SIZE);
	if (r == 0)
		r = block_store_get(store, key, buffer->data, FIRST_READ_SIZE, head, err);
	if (r != -EFBIG)
		return r == -ENOMEM ? reterr_set(err, r, "no memory for %s", key) : r;

	r = block_store_head(store, key, head, err);
	if (r < 0)
		return r;
	if (head->size > MANIFEST_SIZE_MAX)
		return reterr_set(err, -EBADMSG,
				  "%s: %" PRIu64 " bytes are too many for a manifest", key,
				  head->size);
	r = buf_reserve(buffer, (size_t)head->size);
	if (r < 0)
		return reterr_set(err, r, "no memory for %s", key);
	r = block_store_get(store, key, buffer->data, (size_t)head->size, head, err);
	return r == -EFBIG ? reterr_set(err, -EBADMSG, "%s grew while it was read", key) : r;
}

int manifest_get(struct block_store *store, uint64_t n, struct reterr *err, struct manifest *ret,
		 struct hash *ret_hash, struct block_head *ret_head)
{
	CLEANUP(buf_done) struct buf buffer = {.max = MANIFEST_SIZE_MAX};
	char key[BLOCK_KEY_MAX + 1];
	struct block_head head = {.size = 0};
	struct reterr why = {0};

	int r = fetch(store, key_of(n, key), &buffer, &head, err);
	if (r < 0)
		return r;
	struct slice text = {.data = buffer.data, .size = (size_t)head.size};
	*ret_hash = hash_of(text.data, text.size);
	if (head.recorded && !hash_equal(&head.hash, ret_hash))
		return reterr_set(err, -EBADMSG, "%s is damaged: its checksum does not match", key);

	r = manifest_parse(text, ret, &why);
	if (r < 0)
		return reterr_set(err, r, "%s: %.300s", key, why.text);
	if (ret->n != n) {
		manifest_done(ret);
		return reterr_set(err, -EBADMSG, "%s says that it is manifest %" PRIu64, key,
				  ret->n);
	}
	if (ret_head)
		*ret_head = head;
	return 0;
}

/* ---- All of them ---------------------------------------------------------------------------- */

void manifest_chain_done(struct manifest_chain *chain)
{
	manifest_done(&chain->newest);
	free(chain->segments);
	*chain = (struct manifest_chain){.count = 0};
}

static int compare(const void *a, const void *b)
{
	const struct chain_segment *x = a, *y = b;
	int order = memcmp(x->segment.uuid.bytes, y->segment.uuid.bytes, 16);
	if (order != 0)
		return order;
	return x->n > y->n ? -1 : x->n < y->n;
}

/* Sorts them; of each segment only what the newest manifest says stays. */
static void unite(struct manifest_chain *chain)
{
	size_t kept = 0;
	if (chain->count > 1)
		qsort(chain->segments, chain->count, sizeof(*chain->segments), compare);
	for (size_t i = 0; i < chain->count; i++)
		if (kept == 0 || !uuid_equal(&chain->segments[kept - 1].segment.uuid,
					     &chain->segments[i].segment.uuid))
			chain->segments[kept++] = chain->segments[i];
	chain->count = kept;
}

static int reserve(struct manifest_chain *chain, size_t more, struct reterr *err)
{
	if (chain->capacity - chain->count >= more)
		return 0;
	unite(chain);
	if (chain->count > MANIFEST_CHAIN_SEGMENTS_MAX)
		return reterr_set(err, -E2BIG, "the manifests list more than %zu segments",
				  MANIFEST_CHAIN_SEGMENTS_MAX);
	size_t needed = chain->count + more;
	if (chain->capacity >= 2 * needed)
		return 0;
	void *segments = realloc(chain->segments, 2 * needed * sizeof(*chain->segments));
	if (!segments)
		return reterr_set(err, -ENOMEM, "no memory for a list of %zu segments", needed);
	chain->segments = segments;
	chain->capacity = 2 * needed;
	return 0;
}

static int absorb(struct manifest_chain *chain, const struct manifest *m, const struct hash *hash,
		  struct reterr *err)
{
	int r = m->segment_count > 0 ? reserve(chain, m->segment_count, err) : 0;
	if (r < 0)
		return r;
	for (size_t i = 0; i < m->segment_count; i++)
		chain->segments[chain->count++] =
			(struct chain_segment){.segment = m->segments[i], .n = m->n};
	if (m->since != 0 && m->since == m->n - 1)
		return 0;
	if (chain->run_count == MANIFEST_RUNS_MAX)
		return reterr_set(err, -E2BIG, "the list of segments lies in too many manifests");
	chain->runs[chain->run_count++] =
		(struct manifest_run){.n = m->n, .hash = *hash, .entries = m->segment_count};
	return 0;
}

/* One step back: reads N, which must have the bytes that WANTED is the hash of. */
static int step(struct block_store *store, struct manifest_chain *chain, uint64_t n,
		const struct hash *wanted, struct reterr *err, struct manifest *ret)
{
	struct hash hash;
	int r = manifest_get(store, n, err, ret, &hash, NULL);
	if (r == -ENOENT)
		return reterr_set(err, -EBADMSG,
				  "manifest %" PRIu64 " is missing: the chain is broken", n);
	if (r < 0)
		return r;
	if (!hash_equal(&hash, wanted))
		r = reterr_set(err, -EBADMSG,
			       "manifest %" PRIu64 " is not the one that a later one was built on",
			       n);
	else if (ret->block_size != chain->newest.block_size)
		r = reterr_set(err, -EBADMSG, "manifest %" PRIu64 " has another block size", n);
	else
		r = absorb(chain, ret, &hash, err);
	manifest_done(ret); /* the head of it stays */
	return r;
}

static int follow(struct block_store *store, struct manifest_chain *chain, uint64_t n,
		  struct reterr *err)
{
	struct block_head head;
	int r = manifest_get(store, n, err, &chain->newest, &chain->hash, &head);
	if (r < 0)
		return r;
	chain->modified_ns = head.modified_ns;
	r = absorb(chain, &chain->newest, &chain->hash, err);
	manifest_done(&chain->newest);

	uint64_t since = chain->newest.since;
	struct hash wanted = chain->newest.since_hash;
	for (unsigned steps = 1; r == 0 && since > 0; steps++) {
		struct manifest m;
		if (steps == MANIFEST_STEPS_MAX)
			return reterr_set(err, -E2BIG, "no manifest of the last %d has a full list",
					  MANIFEST_STEPS_MAX);
		r = step(store, chain, since, &wanted, err, &m);
		if (r < 0)
			return r;
		since = m.since;
		wanted = m.since_hash;
	}
	return r;
}

static void reverse(struct manifest_chain *chain)
{
	for (unsigned i = 0, j = chain->run_count; i + 1 < j; i++) {
		j--;
		struct manifest_run run = chain->runs[i];
		chain->runs[i] = chain->runs[j];
		chain->runs[j] = run;
	}
}

int manifest_chain_read(struct block_store *store, struct reterr *err, struct manifest_chain *ret)
{
	struct manifest_chain chain = {.count = 0};
	uint64_t n;
	int r = manifest_find_newest(store, err, &n);
	if (r == 0)
		r = follow(store, &chain, n, err);
	if (r == 0) {
		unite(&chain);
		reverse(&chain);
		if (chain.count > MANIFEST_CHAIN_SEGMENTS_MAX)
			r = reterr_set(err, -E2BIG, "the manifests list more than %zu segments",
				       MANIFEST_CHAIN_SEGMENTS_MAX);
	}
	if (r < 0) {
		manifest_chain_done(&chain);
		return r;
	}
	*ret = chain;
	return 0;
}

const struct chain_segment *manifest_chain_find(const struct manifest_chain *chain,
						const struct uuid *uuid)
{
	size_t low = 0, high = chain->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = memcmp(chain->segments[middle].segment.uuid.bytes, uuid->bytes, 16);
		if (order == 0)
			return &chain->segments[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}
