/* Transfers: blocks, deltas, and the deltas that blocks made superfluous. */
#include "cloud/upload_exec.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "cloud/block_key.h"

enum {
	COMPARE_SIZE = 65536,
	DELETE_MAX = 256,
	READ_PIECE_SIZE = 1 << 20,
	BUFFER_ALIGNMENT = 4096,
};

void upload_io_done(struct upload_io *io)
{
	free(io->buffer);
	io->buffer = NULL;
}

struct load {
	struct upload_plan *plan;
	struct reterr *err;
};

static int load_record(void *arg, const void *record, size_t size)
{
	struct load *load = arg;
	return upload_plan_load(load->plan, (struct slice){.data = record, .size = size},
				load->err);
}

int upload_load_journal(struct segment_source *source, struct upload_plan *plan, struct reterr *err)
{
	struct load load = {.plan = plan, .err = err};
	int r = source->ops->journal_load(source, load_record, &load, err);
	return r < 0 ? r : upload_plan_loaded(plan, err);
}

int upload_read(struct segment_source *source, const struct uuid *segment, uint64_t from,
		uint64_t to, uint8_t *buffer, struct reterr *err)
{
	char uuid[UUID_TEXT_LENGTH + 1];
	uint64_t at = from;
	while (at < to) {
		size_t got = 0;
		int r = source->ops->read(source, segment, buffer + (at - from), (size_t)(to - at),
					  at, &got, err);
		if (r < 0)
			return r;
		if (got == 0)
			return reterr_set(err, -EIO,
					  "%s: the bytes from %" PRIu64
					  " on are not here, though they are durable",
					  uuid_format(segment, uuid), at);
		at += got;
	}
	return 0;
}

static void take_turn(struct upload_turn *turn)
{
	if (!turn)
		return;
	pthread_mutex_lock(&turn->lock);
	while (turn->taken)
		(void)pthread_cond_wait(&turn->given, &turn->lock);
	turn->taken = true;
	pthread_mutex_unlock(&turn->lock);
}

static void give_turn(struct upload_turn *turn)
{
	if (!turn)
		return;
	pthread_mutex_lock(&turn->lock);
	turn->taken = false;
	(void)pthread_cond_signal(&turn->given);
	pthread_mutex_unlock(&turn->lock);
}

/* The bytes of STEP's object, into the buffer. */
static int read_object(struct upload_io *io, const struct upload_step *step, struct reterr *err)
{
	int r = 0;
	for (uint64_t at = step->from; r == 0 && at < step->to;) {
		uint64_t end = step->to - at < READ_PIECE_SIZE ? step->to : at + READ_PIECE_SIZE;
		take_turn(io->turn);
		r = upload_read(io->source, &step->segment, at, end, io->buffer + (at - step->from),
				err);
		give_turn(io->turn);
		at = end;
	}
	return r;
}

/* Where the first frame header begins behind the object's first byte. */
static uint64_t first_frame(struct upload_io *io, const struct upload_step *step)
{
	uint64_t offset;
	int r = io->source->ops->first_frame(io->source, &step->segment, step->from, step->to,
					     &offset);
	return r == 0 && offset >= step->from && offset < step->to ? offset - step->from
								   : BLOCK_NO_FRAME;
}

/* Whether the object KEY begins with the SIZE bytes at DATA. Negative: nobody knows. */
static int begins_with(struct block_store *store, const char *key, const uint8_t *data, size_t size,
		       struct reterr *err)
{
	uint8_t *there = malloc(COMPARE_SIZE);
	int r = there ? 1 : -ENOMEM;
	for (size_t at = 0; r > 0 && at < size;) {
		size_t wanted = size - at < COMPARE_SIZE ? size - at : COMPARE_SIZE, got = 0;
		r = block_store_get_range(store, key, there, wanted, at, &got, err);
		if (r == 0)
			r = got > 0 && memcmp(there, data + at, got) == 0;
		at += got;
	}
	free(there);
	return r;
}

/* Whether what is there will do: 1 yes, 0 no: it holds something else. */
static int is_ours(struct upload_io *io, const struct upload_step *step, const char *key,
		   const struct block_head *head, struct reterr *err)
{
	size_t size = (size_t)(step->to - step->from);
	if (head->size == size) {
		struct hash hash = hash_of(io->buffer, size);
		return hash_equal(&hash, &head->hash);
	}
	/* Of a segment that ended here, but went on in a copy of this store that lost the place. */
	if (step->last && head->size > size)
		return begins_with(io->store, key, io->buffer, size, err);
	return 0;
}

static void collision(struct upload_io *io, const struct upload_step *step, const char *key,
		      const struct block_head *head, struct upload_result *ret)
{
	char what[200];
	(void)snprintf(what, sizeof(what), "%s holds %" PRIu64 " other bytes", key, head->size);
	ret->fenced = true;
	ret->r = upload_tell_owner(io->store, step->n + 1, what, &ret->err);
}

/* Puts the buffer; what is there already is as good if it is the same. */
static void put(struct upload_io *io, const struct upload_step *step, const char *key,
		struct upload_result *ret)
{
	struct block_head head;
	size_t size = (size_t)(step->to - step->from);
	int r = -EEXIST;
	if (step->look_first) {
		r = block_store_head(io->store, key, &head, &ret->err);
		if (r == 0)
			r = -EEXIST;
		else if (r != -ENOENT)
			goto out;
	}
	if (!step->look_first || r == -ENOENT) {
		r = block_store_put(io->store, key, io->buffer, size, first_frame(io, step),
				    &ret->err);
		ret->bytes = r == 0 ? size : 0;
		if (r == -EEXIST)
			r = block_store_head(io->store, key, &head, &ret->err) < 0 ? -EAGAIN
										   : -EEXIST;
	}
	if (r != -EEXIST)
		goto out;
	r = is_ours(io, step, key, &head, &ret->err);
	if (r == 0) {
		collision(io, step, key, &head, ret);
		return;
	}
out:
	ret->r = r < 0 ? r : 0;
}

static void upload(struct upload_io *io, const struct upload_step *step, struct upload_result *ret)
{
	char text[BLOCK_KEY_MAX + 1];
	const struct block_key key = {
		.kind = step->kind == UPLOAD_BLOCK ? BLOCK_KEY_BLOCK : BLOCK_KEY_DELTA,
		.segment = step->segment,
		.position = step->position,
		.from = step->from - step->position,
		.to = step->to - step->position,
	};
	invariant(step->to - step->from <= io->block_size);
	if (!io->buffer)
		io->buffer = aligned_alloc(BUFFER_ALIGNMENT, (size_t)io->block_size);
	if (!io->buffer) {
		ret->r = reterr_set(&ret->err, -ENOMEM, "no memory for a block");
		ret->local = true;
		return;
	}
	int r = read_object(io, step, &ret->err);
	if (r < 0) {
		ret->r = r;
		ret->local = true;
		return;
	}
	put(io, step, block_key_format(&key, text), ret);
}

/* ---- Deleting ------------------------------------------------------------------------------- */

struct victims {
	uint64_t to; /* of blocks below it */
	size_t count;
	char keys[DELETE_MAX][BLOCK_KEY_MAX + 1];
};

static int note_victim(void *arg, const char *text, uint64_t size)
{
	struct victims *victims = arg;
	struct block_key key;
	(void)size;
	if (block_key_parse(text, &key) < 0)
		return 0;
	if (key.position >= victims->to || victims->count == DELETE_MAX)
		return -ERANGE;
	if (key.kind == BLOCK_KEY_DELTA)
		memcpy(victims->keys[victims->count++], text, strlen(text) + 1);
	return 0;
}

static int delete_some(struct upload_io *io, const struct upload_step *step,
		       struct victims *victims, struct reterr *err)
{
	char uuid[UUID_TEXT_LENGTH + 1], prefix[BLOCK_KEY_MAX + 1], after[BLOCK_KEY_MAX + 1];
	const struct block_key first = {
		.kind = BLOCK_KEY_BLOCK, .segment = step->segment, .position = step->from};
	(void)snprintf(prefix, sizeof(prefix), "wal/%s/", uuid_format(&step->segment, uuid));
	victims->count = 0;
	int r = block_store_list(io->store, prefix, block_key_format(&first, after), note_victim,
				 victims, err);
	if (r < 0 && r != -ERANGE)
		return r;
	r = 0;
	for (size_t i = 0; i < victims->count && r == 0; i++)
		r = block_store_delete(io->store, victims->keys[i], err);
	return r;
}

static void delete_deltas(struct upload_io *io, const struct upload_step *step,
			  struct upload_result *ret)
{
	struct victims *victims = malloc(sizeof(*victims));
	if (!victims) {
		ret->r = reterr_set(&ret->err, -ENOMEM, "no memory to delete deltas");
		return;
	}
	victims->to = step->to;
	do {
		ret->r = delete_some(io, step, victims, &ret->err);
	} while (ret->r == 0 && victims->count == DELETE_MAX);
	free(victims);
}

void upload_exec(struct upload_io *io, struct upload_plan *plan, const struct upload_step *step,
		 struct upload_result *ret)
{
	*ret = (struct upload_result){.r = 0};
	if (step->kind == UPLOAD_BLOCK || step->kind == UPLOAD_DELTA)
		upload(io, step, ret);
	else if (step->kind == UPLOAD_DELETE)
		delete_deltas(io, step, ret);
	else
		upload_exec_serial(io, plan, step, ret);
	if (ret->r < 0 && ret->err.code == 0)
		(void)reterr_set(&ret->err, ret->r, "%s", strerror(-ret->r));
	if (ret->fenced)
		ret->err.code = ret->r;
}
