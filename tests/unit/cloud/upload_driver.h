/*
 * Drives the uploader's plan without threads: one step at a time, by seed, on a clock that is a
 * number. A writer is one run of the program; what survives it is its source and the place.
 *
 * What runs while allocations are made to fail uses invariant(): check itself allocates.
 */
#ifndef PROTOFS_TESTS_UNIT_CLOUD_UPLOAD_DRIVER_H
#define PROTOFS_TESTS_UNIT_CLOUD_UPLOAD_DRIVER_H

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "cloud/block_key.h"
#include "cloud/cloud.h"
#include "cloud/manifest_chain.h"
#include "cloud/upload_exec.h"
#include "cloud/upload_plan.h"
#include "tests/lib/faulty_store.h"
#include "tests/lib/source_model.h"

enum { BLOCK = 65536, INTERVAL_MS = 5000, WATCHED_MAX = 16384 };

static uint64_t now_ms __attribute__((unused));

static inline uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

/* ---- A place that notices everything --------------------------------------------------------- */

struct watched {
	char key[BLOCK_KEY_MAX + 1];
	struct hash hash;
	unsigned puts; /* that stored it */
};

struct watch_store {
	struct block_store base;
	struct block_store *below;
	struct watched *keys;
	size_t count;
	uint64_t requests, bytes, deletes;
	unsigned put_again; /* puts of a key that was stored before, whatever they answered */
	uint64_t put_largest;
	bool refuse_deletes;
};

static struct watched *watched_of(struct watch_store *w, const char *key)
{
	for (size_t i = w->count; i > 0; i--)
		if (strcmp(w->keys[i - 1].key, key) == 0)
			return &w->keys[i - 1];
	return NULL;
}

static int watch_put(struct block_store *base, const char *key, const void *data, size_t size,
		     uint64_t first_frame, struct reterr *err)
{
	struct watch_store *w = (struct watch_store *)base;
	struct watched *known = watched_of(w, key);
	struct hash hash = hash_of(data, size);
	w->requests++;
	w->put_again += known != NULL;
	if (size > w->put_largest)
		w->put_largest = size;
	int r = block_store_put(w->below, key, data, size, first_frame, err);
	if (r < 0)
		return r;
	w->bytes += size;
	if (!known) {
		invariant(w->count < WATCHED_MAX);
		known = &w->keys[w->count++];
		(void)snprintf(known->key, sizeof(known->key), "%s", key);
		known->hash = hash;
		known->puts = 0;
	}
	/* Never two contents under one key, even if it was deleted in between. */
	invariant(hash_equal(&known->hash, &hash));
	known->puts++;
	return 0;
}

static int watch_replace(struct block_store *base, const char *key, const void *data, size_t size,
			 struct reterr *err)
{
	struct watch_store *w = (struct watch_store *)base;
	w->requests++;
	return block_store_replace(w->below, key, data, size, err);
}

static int watch_get(struct block_store *base, const char *key, void *data, size_t size_max,
		     struct block_head *ret, struct reterr *err)
{
	struct watch_store *w = (struct watch_store *)base;
	w->requests++;
	return block_store_get(w->below, key, data, size_max, ret, err);
}

static int watch_get_range(struct block_store *base, const char *key, void *data, size_t size,
			   uint64_t offset, size_t *ret, struct reterr *err)
{
	struct watch_store *w = (struct watch_store *)base;
	w->requests++;
	return block_store_get_range(w->below, key, data, size, offset, ret, err);
}

static int watch_head(struct block_store *base, const char *key, struct block_head *ret,
		      struct reterr *err)
{
	struct watch_store *w = (struct watch_store *)base;
	w->requests++;
	return block_store_head(w->below, key, ret, err);
}

static int watch_list(struct block_store *base, const char *prefix, const char *after,
		      block_store_list_fn *fn, void *arg, struct reterr *err)
{
	struct watch_store *w = (struct watch_store *)base;
	w->requests++;
	return block_store_list(w->below, prefix, after, fn, arg, err);
}

static int watch_delete(struct block_store *base, const char *key, struct reterr *err)
{
	struct watch_store *w = (struct watch_store *)base;
	w->requests++;
	w->deletes++;
	if (w->refuse_deletes)
		return reterr_set(err, -EACCES, "it is not allowed");
	return block_store_delete(w->below, key, err);
}

static void watch_status(struct block_store *base, struct block_store_status *ret)
{
	block_store_status(((struct watch_store *)base)->below, ret);
}

static void watch_stop(struct block_store *base)
{
	block_store_stop(((struct watch_store *)base)->below);
}

static void watch_free(struct block_store *base)
{
	struct watch_store *w = (struct watch_store *)base;
	block_store_free(w->below);
	free(w->keys);
	free(w);
}

static const struct block_store_ops watch_ops = {
	.name = "watch",
	.put = watch_put,
	.replace = watch_replace,
	.get = watch_get,
	.get_range = watch_get_range,
	.head = watch_head,
	.list = watch_list,
	.delete = watch_delete,
	.status = watch_status,
	.stop = watch_stop,
	.free = watch_free,
};

static inline struct watch_store *watch_new(void)
{
	struct watch_store *w = calloc(1, sizeof(*w));
	ck_assert_ptr_nonnull(w);
	w->base.ops = &watch_ops;
	w->keys = calloc(WATCHED_MAX, sizeof(*w->keys));
	ck_assert_ptr_nonnull(w->keys);
	ck_assert_int_eq(block_store_memory_new((uint64_t)1 << 30, &w->below), 0);
	return w;
}

/* ---- A writer ------------------------------------------------------------------------------- */

struct writer {
	struct source_model *source;
	struct block_store *net; /* what it sees of the place; not its own */
	struct uuid store;
	struct upload_plan *plan;
	struct upload_io io;
	bool busy; /* in a step */
	/* What it was told to be in the place. */
	uint64_t confirmed[4096];
	struct hash confirmed_hash[4096];
	size_t confirmed_count;
	uint64_t confirmed_root;
};

static inline int load_one(void *arg, const void *record, size_t size)
{
	struct reterr err = {0};
	int r = upload_plan_load(arg, (struct slice){.data = record, .size = size}, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	return r;
}

static inline void writer_start_as(struct writer *w, struct source_model *source,
				   struct block_store *net, struct uuid store, uint64_t session,
				   bool take_over, uint64_t block_size)
{
	struct block_store_status status;
	*w = (struct writer){.source = source, .net = net, .store = store};
	block_store_status(net, &status);
	const struct upload_plan_options options = {
		.store = store,
		.host = "test",
		.block_size = block_size,
		.interval_ms = INTERVAL_MS,
		.session = session,
		.take_over = take_over,
		.conditional = status.conditional,
	};
	w->plan = calloc(1, sizeof(*w->plan));
	ck_assert_ptr_nonnull(w->plan);
	ck_assert_int_eq(upload_plan_init(w->plan, &options), 0);
	ck_assert_int_eq(source->source.ops->journal_load(&source->source, load_one, w->plan, NULL),
			 0);
	ck_assert_int_eq(upload_plan_loaded(w->plan, NULL), 0);
	w->io = (struct upload_io){
		.source = &source->source, .store = net, .block_size = block_size};
}

static inline void writer_start(struct writer *w, struct source_model *source,
				struct block_store *net, struct uuid store, uint64_t session,
				bool take_over)
{
	writer_start_as(w, source, net, store, session, take_over, BLOCK);
}

/* As a kill -9: only the source and the place stay. */
static inline void writer_kill(struct writer *w)
{
	upload_plan_done(w->plan);
	free(w->plan);
	upload_io_done(&w->io);
	w->plan = NULL;
}

static inline bool writer_fenced(const struct writer *w)
{
	return w->plan->sticky;
}

static inline void note_confirmed(struct writer *w)
{
	const struct upload_chain *chain = &w->plan->chain;
	if (!uuid_equal(&chain->owner, &w->store) ||
	    (w->confirmed_count > 0 && w->confirmed[w->confirmed_count - 1] == chain->n))
		return;
	invariant(w->confirmed_count < ARRAY_SIZE(w->confirmed));
	w->confirmed[w->confirmed_count] = chain->n;
	w->confirmed_hash[w->confirmed_count++] = chain->hash;
	w->confirmed_root = chain->root.seq;
}

/* One step; transfers and serial ones in an order of chance. False: there is nothing to do. */
static inline bool writer_step(struct writer *w, uint64_t *random)
{
	struct upload_step step;
	struct upload_result result;
	bool transfers_first = next_random(random) & 1;
	invariant(!w->busy);
	bool found = transfers_first ? upload_plan_transfer(w->plan, now_ms, &step)
				     : upload_plan_serial(w->plan, now_ms, &step);
	if (!found)
		found = transfers_first ? upload_plan_serial(w->plan, now_ms, &step)
					: upload_plan_transfer(w->plan, now_ms, &step);
	if (!found)
		return false;
	w->busy = true;
	upload_exec(&w->io, w->plan, &step, &result);
	w->busy = false;
	upload_plan_done_step(w->plan, now_ms, &step, &result);
	if (step.kind == UPLOAD_MANIFEST && result.r == 0)
		note_confirmed(w);
	return true;
}

/* Until there is nothing more to do, time passing; the writer's faults must be over. */
static inline void writer_settle(struct writer *w, uint64_t *random)
{
	for (unsigned rounds = 0; rounds < 200; rounds++) {
		for (unsigned steps = 0; writer_step(w, random); steps++)
			ck_assert_msg(steps < 20000, "it never ends");
		if (writer_fenced(w) || (!upload_dirty(w->plan) && w->plan->phase >= PHASE_CLAIM &&
					 w->plan->text.size == 0 && !w->plan->changed))
			return;
		now_ms += INTERVAL_MS;
	}
	ck_abort_msg("it does not come to rest: %s", w->plan->error.text);
}

/* ---- What the place must hold ---------------------------------------------------------------- */

struct assembly {
	struct uuid uuid;
	uint8_t *data;
	uint64_t length, size_max;
	struct block_store *store;
	uint64_t objects;
	uint64_t deltas_to; /* end of the last delta */
	unsigned overlaps;  /* deltas that begin before the one before ends */
};

static inline int assemble_one(void *arg, const char *text, uint64_t size)
{
	struct assembly *a = arg;
	struct block_key key;
	ck_assert_int_eq(block_key_parse(text, &key), 0);
	uint64_t from = key.position + (key.kind == BLOCK_KEY_DELTA ? key.from : 0);
	a->objects++;
	if (key.kind == BLOCK_KEY_DELTA) {
		a->overlaps += from < a->deltas_to;
		a->deltas_to = from + size;
	}
	if (from > a->length || from + size <= a->length)
		return 0;
	ck_assert(from + size <= a->size_max);
	size_t got = 0;
	uint8_t *bytes = malloc(size);
	ck_assert_int_eq(block_store_get_range(a->store, text, bytes, size, 0, &got, NULL), 0);
	ck_assert_uint_eq(got, size);
	/* Where two cover the same bytes they are equal. */
	ck_assert_msg(memcmp(a->data + from, bytes, a->length - from) == 0, "%s differs", text);
	memcpy(a->data + from, bytes, size);
	free(bytes);
	a->length = from + size;
	return 0;
}

/* What `cat` of a segment's objects by offset gives, which is what a bare restore does. */
static inline struct assembly assemble(struct block_store *store, const struct uuid *uuid)
{
	char text[UUID_TEXT_LENGTH + 1], prefix[64];
	struct assembly a = {.uuid = *uuid, .size_max = 16 << 20, .store = store};
	a.data = malloc(a.size_max);
	ck_assert_ptr_nonnull(a.data);
	(void)snprintf(prefix, sizeof(prefix), "wal/%s/", uuid_format(uuid, text));
	ck_assert_int_eq(block_store_list(store, prefix, "", assemble_one, &a, NULL), 0);
	return a;
}

/* Bytes [0, LENGTH) of the segment in the place are those of the model. */
static inline void check_bytes(struct block_store *store, const struct source_model *model,
			       const struct uuid *uuid, uint64_t length)
{
	const struct source_model_segment *s = source_model_find(model, uuid);
	ck_assert_ptr_nonnull(s);
	struct assembly a = assemble(store, uuid);
	uint8_t *wanted = malloc(length + 1);
	ck_assert_msg(a.length >= length, "%llu of %llu bytes", (unsigned long long)a.length,
		      (unsigned long long)length);
	source_model_bytes(model, s->info.number, wanted, length, 0);
	ck_assert(memcmp(a.data, wanted, length) == 0);
	free(wanted);
	free(a.data);
}

#endif
