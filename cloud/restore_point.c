#include "cloud/restore_point.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/block_key.h"
#include "cloud/cloud.h"

enum {
	LOOKS_MAX = 3, /* at a segment whose objects come and go while they are listed */
	COMPARE_SIZE = 65536,
};

/* One listing of one segment. Objects come in the order of their first byte, blocks before deltas. */
struct cover {
	struct block_store *store;
	struct reterr *err;
	uint64_t block_size;
	const struct manifest_segment *said;
	bool check_tails;
	struct restore_coverage coverage;
	struct block_key delta; /* the last one that reached further; to 0: none */
	bool any;
};

static const char *key_text(const struct block_key *key, char text[static BLOCK_KEY_MAX + 1])
{
	return block_key_format(key, text);
}

/* ---- Two deltas that overlap must be equal --------------------------------------------------- */

static int compare_range(struct cover *c, const struct block_key *a, const struct block_key *b,
			 uint64_t from, uint64_t to)
{
	char one[BLOCK_KEY_MAX + 1], two[BLOCK_KEY_MAX + 1];
	uint8_t *bytes = malloc(2 * (size_t)COMPARE_SIZE);
	int r = bytes ? 0 : reterr_set(c->err, -ENOMEM, "no memory to compare deltas");
	(void)key_text(a, one);
	(void)key_text(b, two);
	while (r == 0 && from < to) {
		size_t size = to - from < COMPARE_SIZE ? (size_t)(to - from) : COMPARE_SIZE;
		size_t got[2] = {0};
		r = block_store_get_range(c->store, one, bytes, size, from - a->from, &got[0],
					  c->err);
		if (r == 0)
			r = block_store_get_range(c->store, two, bytes + COMPARE_SIZE, size,
						  from - b->from, &got[1], c->err);
		if (r == 0 && (got[0] != size || got[1] != size ||
			       memcmp(bytes, bytes + COMPARE_SIZE, size) != 0))
			r = reterr_set(c->err, -EBADMSG,
				       "%s and %s overlap and differ: two owners wrote here", one,
				       two);
		from += size;
	}
	free(bytes);
	/* A block took their place meanwhile. */
	return r == -ENOENT ? 0 : r;
}

static int check_overlap(struct cover *c, const struct block_key *key)
{
	const struct block_key *last = &c->delta;
	if (last->to == 0 || last->position != key->position || key->from >= last->to)
		return 0;
	return compare_range(c, last, key, key->from, key->to < last->to ? key->to : last->to);
}

/* ---- Covering ------------------------------------------------------------------------------- */

static int check_head(struct cover *c, const char *text, uint64_t size)
{
	struct block_head head;
	int r = block_store_head(c->store, text, &head, c->err);
	if (r == -ENOENT)
		return 0; /* a delta whose block came */
	if (r == 0 && head.size != size)
		return reterr_set(c->err, -EBADMSG,
				  "%s has %" PRIu64 " bytes, and %" PRIu64 " in the listing", text,
				  head.size, size);
	return r;
}

static int bad_size(struct cover *c, const char *text, uint64_t size)
{
	return reterr_set(c->err, -EBADMSG, "%s has %" PRIu64 " bytes, which no object of it has",
			  text, size);
}

static int take_block(struct cover *c, const char *text, const struct block_key *key, uint64_t size)
{
	if (size == 0 || size > c->block_size || key->position % c->block_size != 0)
		return bad_size(c, text, size);
	uint64_t end = key->position + size;
	if (key->position == c->coverage.blocks)
		c->coverage.blocks = end;
	if (key->position <= c->coverage.length && end > c->coverage.length)
		c->coverage.length = end;
	return 0;
}

static int take_delta(struct cover *c, const char *text, const struct block_key *key, uint64_t size)
{
	if (size != key->to - key->from || key->to > c->block_size ||
	    key->position % c->block_size != 0)
		return bad_size(c, text, size);
	if (key->position < c->coverage.deltas)
		c->coverage.deltas = key->position;
	/* A block that covers all of it has the last word. */
	if (key->position + key->to <= c->coverage.blocks)
		return 0;
	int r = check_overlap(c, key);
	if (r < 0)
		return r;
	uint64_t from = key->position + key->from, end = key->position + key->to;
	if (from > c->coverage.length || end <= c->coverage.length)
		return 0;
	c->coverage.length = end;
	c->delta = *key;
	return 0;
}

static int take_object(void *arg, const char *text, uint64_t size)
{
	struct cover *c = arg;
	struct block_key key;
	if (block_key_parse(text, &key) < 0 || !uuid_equal(&key.segment, &c->said->uuid))
		return 0;
	uint64_t before = c->coverage.length;
	int r = key.kind == BLOCK_KEY_BLOCK ? take_block(c, text, &key, size)
					    : take_delta(c, text, &key, size);
	/* What no manifest counts is believed only as far as the place says the same twice. */
	if (r == 0 && c->check_tails && c->coverage.length > before &&
	    c->coverage.length > c->said->length)
		r = check_head(c, text, size);
	return r;
}

static int missing(const struct cover *c, struct reterr *err)
{
	char text[BLOCK_KEY_MAX + 1];
	const struct block_key key = {
		.kind = BLOCK_KEY_BLOCK,
		.segment = c->said->uuid,
		.position = c->coverage.length - c->coverage.length % c->block_size,
	};
	return reterr_set(err, -EBADMSG,
			  "%s is missing, or its deltas: the manifests count %" PRIu64
			  " bytes of the segment, the objects reach to %" PRIu64,
			  key_text(&key, text), c->said->length, c->coverage.length);
}

/* -EBADMSG with less than what was said, in COVERAGE what there is. */
static int cover_segment(struct cover *c)
{
	char uuid[UUID_TEXT_LENGTH + 1], prefix[BLOCK_KEY_MAX + 1];
	(void)snprintf(prefix, sizeof(prefix), "wal/%s/", uuid_format(&c->said->uuid, uuid));
	/* While it is listed, a block may come in the place of deltas that go. */
	for (unsigned look = 0; look < LOOKS_MAX; look++) {
		c->coverage = (struct restore_coverage){.deltas = UINT64_MAX};
		c->delta = (struct block_key){.to = 0};
		int r = block_store_list(c->store, prefix, "", take_object, c, c->err);
		if (r < 0)
			return r;
		if (c->coverage.length >= c->said->length)
			return 0;
	}
	return missing(c, c->err);
}

/* ---- All segments in one listing -------------------------------------------------------------- */

struct walk {
	const struct manifest_chain *chain;
	struct restore_coverage *coverage;
	struct cover cover;
	size_t current; /* in the chain; its count: none */
};

static void leave(struct walk *w)
{
	if (w->current < w->chain->count)
		w->coverage[w->current] = w->cover.coverage;
}

static void enter(struct walk *w, const struct chain_segment *found)
{
	leave(w);
	w->current = w->chain->count;
	if (!found)
		return;
	w->current = (size_t)(found - w->chain->segments);
	w->cover.said = &found->segment;
	w->cover.coverage = (struct restore_coverage){.deltas = UINT64_MAX};
	w->cover.delta = (struct block_key){.to = 0};
}

static int walk_object(void *arg, const char *text, uint64_t size)
{
	struct walk *w = arg;
	struct block_key key;
	if (block_key_parse(text, &key) < 0 ||
	    (key.kind != BLOCK_KEY_BLOCK && key.kind != BLOCK_KEY_DELTA))
		return 0;
	bool same = w->current < w->chain->count && uuid_equal(&w->cover.said->uuid, &key.segment);
	if (!same)
		enter(w, manifest_chain_find(w->chain, &key.segment));
	return w->current < w->chain->count ? take_object(&w->cover, text, size) : 0;
}

/*
 * One listing of all keys costs a request for a thousand objects, one of each segment at least one
 * for each. Only those that fall short, for objects come and go, are looked at alone.
 */
int restore_cover(struct block_store *store, const struct manifest_chain *chain, bool check_tails,
		  struct reterr *err, struct restore_coverage **ret)
{
	struct walk w = {
		.chain = chain,
		.coverage = calloc(chain->count + 1, sizeof(*w.coverage)),
		.cover = {.store = store,
			  .err = err,
			  .block_size = chain->newest.block_size,
			  .check_tails = check_tails},
		.current = chain->count,
	};
	if (!w.coverage)
		return reterr_set(err, -ENOMEM, "no memory for a list of segments");
	for (size_t i = 0; i < chain->count; i++)
		w.coverage[i].deltas = UINT64_MAX;
	int r = chain->count > 0 ? block_store_list(store, "wal/", "", walk_object, &w, err) : 0;
	if (r == 0)
		leave(&w);
	for (size_t i = 0; i < chain->count && r == 0; i++) {
		const struct manifest_segment *said = &chain->segments[i].segment;
		if (w.coverage[i].length >= said->length)
			continue;
		w.cover.said = said;
		r = cover_segment(&w.cover);
		w.coverage[i] = w.cover.coverage;
	}
	if (r < 0) {
		free(w.coverage);
		return r;
	}
	*ret = w.coverage;
	return 0;
}

/* ---- The public face ------------------------------------------------------------------------ */

static int fill(const struct manifest_chain *chain, const struct restore_coverage *coverage,
		struct reterr *err, struct restore_point *ret)
{
	struct restore_segment *segments = calloc(chain->count + 1, sizeof(*segments));
	if (!segments)
		return reterr_set(err, -ENOMEM, "no memory for a list of segments");
	for (size_t i = 0; i < chain->count; i++) {
		const struct manifest_segment *said = &chain->segments[i].segment;
		segments[i] = (struct restore_segment){
			.uuid = said->uuid,
			.class = said->class,
			.ended = said->ended,
			/* What another owner put behind the end is no part of it. */
			.length = said->ended ? said->length : coverage[i].length,
			.length_manifest = said->length,
		};
	}
	*ret = (struct restore_point){
		.manifest = chain->newest.n,
		.manifest_hash = chain->hash,
		.owner = chain->newest.owner,
		.epoch = chain->newest.epoch,
		.block_size = chain->newest.block_size,
		.root = chain->newest.root,
		.segments = segments,
		.segment_count = chain->count,
	};
	memcpy(ret->owner_name, chain->newest.host, sizeof(chain->newest.host));
	return 0;
}

/* The root's atom is in what can be had. */
static int check_root(const struct restore_point *point, struct reterr *err)
{
	const struct source_root *root = &point->root;
	char uuid[UUID_TEXT_LENGTH + 1];
	if (root->seq == 0)
		return 0;
	for (size_t i = 0; i < point->segment_count; i++)
		if (uuid_equal(&point->segments[i].uuid, &root->segment) &&
		    root->offset < point->segments[i].length_manifest)
			return 0;
	return reterr_set(err, -EBADMSG,
			  "manifest %" PRIu64 " has root %s/%" PRIu64
			  ", but the manifests do not count that byte",
			  point->manifest, uuid_format(&root->segment, uuid), root->offset);
}

int restore_point_find(struct block_store *store, bool check_tails, struct reterr *err,
		       struct restore_point *ret)
{
	struct manifest_chain chain = {.count = 0};
	struct restore_coverage *coverage = NULL;
	struct restore_point point = {.manifest = 0};
	int r = manifest_chain_read(store, err, &chain);
	if (r == 0)
		r = restore_cover(store, &chain, check_tails, err, &coverage);
	if (r == 0)
		r = fill(&chain, coverage, err, &point);
	if (r == 0)
		r = check_root(&point, err);
	free(coverage);
	manifest_chain_done(&chain);
	if (r < 0) {
		restore_point_done(&point);
		return r;
	}
	*ret = point;
	return 0;
}

void restore_point_done(struct restore_point *point)
{
	free(point->segments);
	point->segments = NULL;
	point->segment_count = 0;
}
