/*
 * Whether a place holds what its manifests count, and what the store has. One listing of all
 * objects; a head, or the whole object, for each of them.
 *
 * A damaged object cannot be mended in place, since nothing is ever overwritten, and is not deleted
 * here: whoever deletes it by hand can have it put anew by the next repair.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/block_key.h"
#include "cloud/cloud.h"
#include "cloud/manifest_chain.h"
#include "cloud/upload_exec.h"

struct check {
	struct segment_source *source;
	struct block_store *store;
	uint64_t block_size;
	const struct cloud_check_options *options;
	struct cloud_check_result result;
	struct reterr *err;
	struct manifest_chain chain;
	bool *visited;
	uint8_t *mine, *theirs; /* a block each */
	uint64_t done, total;

	/* The segment under way. */
	bool any;
	struct uuid uuid;
	bool here; /* the source has it */
	struct source_segment segment;
	uint64_t listed;    /* bytes that the manifests count */
	bool ended;         /* ... and nothing follows */
	uint64_t covered;   /* by the objects so far, without a gap */
	uint64_t block_end; /* of the last block */
};

static void found(struct check *c, const struct reterr *finding, bool fixed)
{
	c->result.problems++;
	c->result.fixed += fixed;
	if (c->options->found)
		c->options->found(c->options->arg, finding, fixed);
}

static void progress(struct check *c, uint64_t bytes)
{
	c->done += bytes;
	if (c->done > c->total)
		c->total = c->done;
	if (c->options->progress)
		c->options->progress(c->options->arg, c->done, c->total);
}

/* ---- What is missing ------------------------------------------------------------------------ */

/*
 * Puts what covers FROM, up to TO: the whole block, where there is or will be one; else a delta.
 * Returns the end of what it put; 0: it cannot be had from here.
 */
static uint64_t put_missing(struct check *c, uint64_t from, uint64_t to, struct reterr *why)
{
	char text[BLOCK_KEY_MAX + 1];
	struct block_key key = {.kind = BLOCK_KEY_BLOCK,
				.segment = c->uuid,
				.position = from - from % c->block_size};
	uint64_t start = key.position, end = key.position + c->block_size;
	bool whole = c->segment.durable >= end;
	bool last = !whole && c->segment.final && !c->segment.foreign;
	if (last)
		end = c->segment.durable;
	if (!whole && !last) {
		start = from;
		end = to < end ? to : end;
		key.kind = BLOCK_KEY_DELTA;
		key.from = start - key.position;
		key.to = end - key.position;
	}
	if (end > c->segment.durable || end <= from)
		return 0;
	if (upload_read(c->source, &c->uuid, start, end, c->mine, why) < 0)
		return 0;
	uint64_t frame;
	int r = c->source->ops->first_frame(c->source, &c->uuid, start, end, &frame);
	r = block_store_put(c->store, block_key_format(&key, text), c->mine, (size_t)(end - start),
			    r == 0 ? frame - start : BLOCK_NO_FRAME, why);
	return r == 0 || r == -EEXIST ? end : 0;
}

/* A block came in the place of deltas while they were listed. */
static bool came(struct check *c, const char *text, uint64_t position, uint64_t end)
{
	struct block_head head;
	return block_store_head(c->store, text, &head, NULL) == 0 && position + head.size >= end;
}

/* No object holds [FROM, TO), which the manifests count. */
static void missing(struct check *c, uint64_t from, uint64_t to)
{
	while (from < to) {
		char text[BLOCK_KEY_MAX + 1];
		struct reterr finding, why = {0};
		const struct block_key key = {.kind = BLOCK_KEY_BLOCK,
					      .segment = c->uuid,
					      .position = from - from % c->block_size};
		uint64_t block_end = key.position + c->block_size;
		uint64_t end = to < block_end ? to : block_end;
		if (came(c, block_key_format(&key, text), key.position, end)) {
			from = end;
			continue;
		}
		uint64_t fixed = c->options->repair && c->here ? put_missing(c, from, end, &why)
							       : 0;
		(void)reterr_set(&finding, -ENOENT,
				 "%s or its deltas: bytes %" PRIu64 " to %" PRIu64
				 " of the segment are missing%s%.200s",
				 text, from, end, why.code ? ", and cannot be put: " : "",
				 why.code ? why.text : "");
		found(c, &finding, fixed > 0);
		progress(c, end - from);
		from = fixed > end ? fixed : end;
	}
}

/* ---- One object ----------------------------------------------------------------------------- */

static int damaged(struct check *c, const char *text, const char *what)
{
	struct reterr finding;
	(void)reterr_set(&finding, -EBADMSG,
			 "%s %s. Nothing is overwritten: delete that object, then repair again",
			 text, what);
	found(c, &finding, false);
	return 0;
}

static void orphan(struct check *c)
{
	c->result.orphans++;
}

/* The object's sum: as recorded, or of the bytes themselves. */
static int sum_of(struct check *c, const char *text, uint64_t size, struct block_head *head)
{
	if (!c->options->deep)
		return block_store_head(c->store, text, head, c->err);
	int r = block_store_get(c->store, text, c->theirs, (size_t)size, head, c->err);
	if (r < 0)
		return r == -EFBIG ? -EBADMSG : r;
	struct hash recorded = head->hash;
	head->hash = hash_of(c->theirs, (size_t)head->size);
	return head->recorded && !hash_equal(&recorded, &head->hash) ? -EBADMSG : 0;
}

/* Compares the object that holds [FROM, FROM + SIZE) with what is here. */
static int compare(struct check *c, const char *text, uint64_t from, uint64_t size)
{
	struct block_head head;
	int r = sum_of(c, text, size, &head);
	progress(c, size);
	if (r == -ENOENT)
		return 0; /* a delta whose block came */
	if (r == -EBADMSG)
		return damaged(c, text, "is damaged: its bytes are not those of its checksum");
	if (r < 0)
		return r;
	if (head.size != size)
		return damaged(c, text, "changed its size");
	if (!c->here || from + size > c->segment.durable)
		return 0; /* only the place has these bytes */
	struct reterr why = {0};
	r = upload_read(c->source, &c->uuid, from, from + size, c->mine, &why);
	if (r < 0) {
		(void)reterr_set(c->err, r, "%.400s", why.text);
		return r == -ENOMEM
			       ? r
			       : damaged(c, text, "cannot be compared: it cannot be read here");
	}
	struct hash mine = hash_of(c->mine, (size_t)size);
	if (!hash_equal(&mine, &head.hash))
		return damaged(c, text, "holds other bytes than this store");
	return 0;
}

static bool impossible(const struct check *c, const struct block_key *key, uint64_t size)
{
	if (key->position % c->block_size != 0 || size == 0 || size > c->block_size)
		return true;
	return key->kind == BLOCK_KEY_DELTA &&
	       (key->to > c->block_size || size != key->to - key->from);
}

static int check_object(struct check *c, const char *text, const struct block_key *key,
			uint64_t size)
{
	bool delta = key->kind == BLOCK_KEY_DELTA;
	uint64_t from = key->position + (delta ? key->from : 0);
	uint64_t known = c->here && c->segment.durable > c->listed ? c->segment.durable : c->listed;
	if (impossible(c, key, size))
		return damaged(c, text, "has a size or a position that none can have");
	if ((delta && from + size <= c->block_end) || from >= known ||
	    (c->ended && from >= c->listed)) {
		orphan(c);
		progress(c, 0);
		return 0;
	}
	/* A block that is neither full nor the last one. */
	if (!delta && size < c->block_size && from + size < c->listed)
		(void)damaged(c, text, "is too short");
	if (from > c->covered) {
		missing(c, c->covered, from < c->listed ? from : c->listed);
		c->covered = from;
	}
	if (from + size > c->covered)
		c->covered = from + size;
	if (!delta)
		c->block_end = from + size;
	return compare(c, text, from, size);
}

/* ---- All of them ---------------------------------------------------------------------------- */

static void leave(struct check *c)
{
	if (c->any && c->covered < c->listed)
		missing(c, c->covered, c->listed);
	c->any = false;
}

static void enter(struct check *c, const struct uuid *uuid)
{
	const struct chain_segment *said = manifest_chain_find(&c->chain, uuid);
	c->any = true;
	c->uuid = *uuid;
	c->here = c->source->ops->find(c->source, uuid, &c->segment);
	c->listed = said ? said->segment.length : 0;
	c->ended = said && said->segment.ended;
	c->covered = c->block_end = 0;
	if (said)
		c->visited[said - c->chain.segments] = true;
}

static int take_object(void *arg, const char *text, uint64_t size)
{
	struct check *c = arg;
	struct block_key key;
	if (block_key_parse(text, &key) < 0 ||
	    (key.kind != BLOCK_KEY_BLOCK && key.kind != BLOCK_KEY_DELTA))
		return 0;
	if (!c->any || !uuid_equal(&c->uuid, &key.segment)) {
		leave(c);
		enter(c, &key.segment);
	}
	c->result.objects++;
	c->result.bytes += size;
	if (!c->here && c->listed == 0) {
		orphan(c);
		return 0;
	}
	return check_object(c, text, &key, size);
}

static int check_all(struct check *c)
{
	int r = block_store_list(c->store, "wal/", "", take_object, c, c->err);
	if (r < 0)
		return r;
	leave(c);
	for (size_t i = 0; i < c->chain.count; i++) {
		if (c->visited[i])
			continue;
		enter(c, &c->chain.segments[i].segment.uuid);
		leave(c);
	}
	return 0;
}

/* A chain that is broken is a finding: what it counts cannot be known. */
static int read_chain(struct check *c)
{
	struct reterr why = {0};
	int r = manifest_chain_read(c->store, &why, &c->chain);
	if (r == -ENOENT)
		return 0;
	if (r == -EBADMSG || r == -E2BIG) {
		found(c, &why, false);
		return 0;
	}
	if (r < 0)
		return reterr_set(c->err, r, "%s", why.text);
	if (c->chain.newest.block_size != c->block_size)
		return reterr_set(c->err, -EINVAL,
				  "the place has blocks of %" PRIu64
				  " bytes, this store of %" PRIu64,
				  c->chain.newest.block_size, c->block_size);
	for (size_t i = 0; i < c->chain.count; i++)
		c->total += c->chain.segments[i].segment.length;
	return 0;
}

int cloud_check(struct segment_source *source, struct block_store *store, uint64_t block_size,
		const struct cloud_check_options *options, struct cloud_check_result *ret,
		struct reterr *err)
{
	struct check c = {.source = source,
			  .store = store,
			  .block_size = block_size,
			  .options = options,
			  .err = err,
			  .mine = malloc((size_t)block_size),
			  .theirs = options->deep ? malloc((size_t)block_size) : NULL};
	int r = c.mine && (c.theirs || !options->deep)
			? read_chain(&c)
			: reterr_set(err, -ENOMEM, "no memory for two blocks");
	if (r == 0) {
		c.visited = calloc(c.chain.count + 1, sizeof(*c.visited));
		r = c.visited ? check_all(&c) : reterr_set(err, -ENOMEM, "no memory for a list");
	}
	free(c.visited);
	free(c.mine);
	free(c.theirs);
	manifest_chain_done(&c.chain);
	if (r == 0)
		*ret = c.result;
	return r;
}
