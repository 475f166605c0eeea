#include "tests/lib/source_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/invariant.h"
#include "tests/lib/fault_alloc.h"

static struct source_model *model_of(struct segment_source *source)
{
	return (struct source_model *)source;
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9;
	x ^= x >> 27;
	x *= 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static uint64_t word_at(const struct source_model_segment *s, uint64_t offset)
{
	return mix((offset >= s->fork_at ? s->fork_salt : s->salt) + offset / 8);
}

static struct source_model_segment *find(const struct source_model *model, const struct uuid *uuid)
{
	struct source_model *m = (struct source_model *)(uintptr_t)model;
	for (unsigned i = 0; i < m->count; i++)
		if (uuid_equal(&m->segments[i].info.uuid, uuid) && !m->segments[i].removed)
			return &m->segments[i];
	return NULL;
}

const struct source_model_segment *source_model_find(const struct source_model *model,
						     const struct uuid *uuid)
{
	return find(model, uuid);
}

/* FORK_AT is a multiple of 8. */
static void bytes(const struct source_model_segment *s, uint8_t *data, size_t size, uint64_t offset)
{
	for (size_t i = 0; i < size;) {
		uint64_t word = word_at(s, offset + i);
		size_t skip = (offset + i) % 8, count = 8 - skip;
		if (count > size - i)
			count = size - i;
		memcpy(data + i, (uint8_t *)&word + skip, count);
		i += count;
	}
}

void source_model_bytes(const struct source_model *model, uint32_t number, void *data, size_t size,
			uint64_t offset)
{
	bytes(&model->segments[number - 1], data, size, offset);
}

/* ---- The source ----------------------------------------------------------------------------- */

static void model_root(struct segment_source *source, struct source_root *ret)
{
	struct source_model *m = model_of(source);
	pthread_mutex_lock(&m->lock);
	*ret = m->root;
	pthread_mutex_unlock(&m->lock);
}

static bool model_next(struct segment_source *source, uint32_t after, struct source_segment *ret)
{
	struct source_model *m = model_of(source);
	bool found = false;
	pthread_mutex_lock(&m->lock);
	for (unsigned i = after; i < m->count && !found; i++) {
		found = !m->segments[i].removed;
		*ret = m->segments[i].info;
	}
	pthread_mutex_unlock(&m->lock);
	return found;
}

static bool model_find(struct segment_source *source, const struct uuid *uuid,
		       struct source_segment *ret)
{
	struct source_model *m = model_of(source);
	pthread_mutex_lock(&m->lock);
	const struct source_model_segment *s = find(m, uuid);
	if (s)
		*ret = s->info;
	pthread_mutex_unlock(&m->lock);
	return s;
}

/* Segments never move and their bytes never change: only what guards them is read under the lock. */
static const struct source_model_segment *look(struct source_model *m, const struct uuid *uuid,
					       struct source_model_segment *copy)
{
	pthread_mutex_lock(&m->lock);
	const struct source_model_segment *s = find(m, uuid);
	if (s)
		*copy = *s;
	pthread_mutex_unlock(&m->lock);
	return s ? copy : NULL;
}

static int model_read(struct segment_source *source, const struct uuid *segment, void *data,
		      size_t size, uint64_t offset, size_t *ret, struct reterr *err)
{
	struct source_model_segment copy;
	const struct source_model_segment *s = look(model_of(source), segment, &copy);
	if (!s)
		return reterr_set(err, -ENOENT, "there is no such segment");
	if (s->unreadable)
		return reterr_set(err, -EIO, "the model's disk fails");
	invariant(offset <= s->info.durable);
	if (size > s->info.durable - offset)
		size = (size_t)(s->info.durable - offset);
	bytes(s, data, size, offset);
	*ret = size;
	return 0;
}

static int model_sums(struct segment_source *source, const struct uuid *segment, uint64_t from,
		      uint64_t length, struct hash *sums, size_t count, size_t *ret)
{
	struct source_model_segment copy;
	const struct source_model_segment *s = look(model_of(source), segment, &copy);
	if (!s)
		return -ENOENT;
	uint8_t *mib = malloc(SOURCE_SUM_SIZE);
	invariant(mib);
	*ret = 0;
	for (uint64_t at = from - from % SOURCE_SUM_SIZE;
	     *ret < count && at + SOURCE_SUM_SIZE <= length; at += SOURCE_SUM_SIZE) {
		bytes(s, mib, SOURCE_SUM_SIZE, at);
		sums[(*ret)++] = hash_of(mib, SOURCE_SUM_SIZE);
	}
	free(mib);
	return 0;
}

static int model_first_frame(struct segment_source *source, const struct uuid *segment,
			     uint64_t from, uint64_t to, uint64_t *ret)
{
	struct source_model *m = model_of(source);
	(void)segment;
	if (m->frame_size == 0)
		return -ENOENT;
	*ret = (from + m->frame_size - 1) / m->frame_size * m->frame_size;
	return *ret < to ? 0 : -ENOENT;
}

static void model_listen(struct segment_source *source, segment_source_changed_fn *fn, void *arg)
{
	struct source_model *m = model_of(source);
	pthread_mutex_lock(&m->lock);
	m->changed = fn;
	m->changed_arg = arg;
	pthread_mutex_unlock(&m->lock);
}

static void changed(struct source_model *m)
{
	pthread_mutex_lock(&m->lock);
	segment_source_changed_fn *fn = m->changed;
	void *arg = m->changed_arg;
	pthread_mutex_unlock(&m->lock);
	if (fn)
		fn(arg);
}

/* ---- The journal ---------------------------------------------------------------------------- */

static int model_journal_load(struct segment_source *source, segment_source_record_fn *fn,
			      void *arg, struct reterr *err)
{
	struct source_model *m = model_of(source);
	(void)err;
	for (size_t i = 0; i < m->journal_count; i++) {
		int r = fn(arg, m->journal[i].data, m->journal[i].size);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Whether a write takes place. */
static int write_journal(struct source_model *m, struct reterr *err)
{
	if (m->journal_error < 0)
		return reterr_set(err, m->journal_error, "the model's journal fails");
	if (m->journal_left == 0)
		return reterr_set(err, -EIO, "the model is dead");
	if (m->journal_left != UINT64_MAX)
		m->journal_left--;
	m->journal_writes++;
	return 0;
}

static void push(struct source_model *m, const void *data, size_t size)
{
	fault_alloc_pause();
	m->journal = realloc(m->journal, (m->journal_count + 1) * sizeof(*m->journal));
	uint8_t *copy = malloc(size);
	fault_alloc_resume();
	invariant(m->journal && copy);
	memcpy(copy, data, size);
	m->journal[m->journal_count++] = (struct source_model_record){copy, size};
}

static int model_journal_append(struct segment_source *source, const void *record, size_t size,
				struct reterr *err)
{
	struct source_model *m = model_of(source);
	if (size > SOURCE_RECORD_MAX)
		return reterr_set(err, -EFBIG, "the record is too large");
	int r = write_journal(m, err);
	if (r == 0)
		push(m, record, size);
	return r;
}

static void clear_journal(struct source_model *m)
{
	for (size_t i = 0; i < m->journal_count; i++)
		free(m->journal[i].data);
	m->journal_count = 0;
}

static int model_journal_replace(struct segment_source *source, const void *const *records,
				 const size_t *sizes, size_t count, struct reterr *err)
{
	struct source_model *m = model_of(source);
	int r = write_journal(m, err);
	if (r < 0)
		return r;
	clear_journal(m);
	for (size_t i = 0; i < count; i++)
		push(m, records[i], sizes[i]);
	return 0;
}

/* ---- Parts ---------------------------------------------------------------------------------- */

static size_t model_parts(struct segment_source *source, struct source_part *parts, size_t count)
{
	struct source_model *m = model_of(source);
	size_t found = 0;
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < m->count && m->part_size > 0; i++) {
		const struct source_model_segment *s = &m->segments[i];
		for (uint64_t at = s->evicted; found < count && at < s->info.durable;
		     at += m->part_size) {
			uint64_t end = at + m->part_size;
			bool last = end >= s->info.durable;
			if (last && !s->info.final)
				break;
			if (last)
				end = s->info.durable;
			parts[found++] = (struct source_part){
				.segment = s->info.uuid, .start = at, .end = end, .size = end - at};
		}
	}
	pthread_mutex_unlock(&m->lock);
	return found;
}

static uint64_t model_disk_used(struct segment_source *source)
{
	struct source_model *m = model_of(source);
	uint64_t used = 0;
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < m->count; i++)
		used += m->segments[i].info.durable - m->segments[i].evicted;
	pthread_mutex_unlock(&m->lock);
	return used;
}

static int model_evict(struct segment_source *source, const struct uuid *segment, uint64_t start,
		       struct reterr *err)
{
	struct source_model *m = model_of(source);
	(void)err;
	pthread_mutex_lock(&m->lock);
	struct source_model_segment *s = find(m, segment);
	int r = s && start == s->evicted ? 0 : -ENOENT;
	if (r == 0) {
		uint64_t end = start + m->part_size;
		s->evicted = end < s->info.durable ? end : s->info.durable;
		m->evictions++;
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}

static void model_fence(struct segment_source *source, const struct reterr *reason)
{
	struct source_model *m = model_of(source);
	pthread_mutex_lock(&m->lock);
	m->fenced = *reason;
	m->fences++;
	pthread_mutex_unlock(&m->lock);
}

static const struct segment_source_ops model_ops = {
	.root = model_root,
	.next = model_next,
	.find = model_find,
	.read = model_read,
	.sums = model_sums,
	.first_frame = model_first_frame,
	.listen = model_listen,
	.journal_load = model_journal_load,
	.journal_append = model_journal_append,
	.journal_replace = model_journal_replace,
	.parts = model_parts,
	.disk_used = model_disk_used,
	.evict = model_evict,
	.fence = model_fence,
};

/* ---- The model ------------------------------------------------------------------------------ */

void source_model_init(struct source_model *model, uint64_t part_size)
{
	*model = (struct source_model){
		.source.ops = &model_ops, .part_size = part_size, .journal_left = UINT64_MAX};
	(void)pthread_mutex_init(&model->lock, NULL);
}

void source_model_done(struct source_model *model)
{
	clear_journal(model);
	free(model->journal);
	for (unsigned i = 0; i < model->barrier_count; i++)
		free(model->barriers[i]);
	(void)pthread_mutex_destroy(&model->lock);
}

struct uuid source_model_uuid(uint64_t seed)
{
	struct uuid uuid;
	uint64_t words[2] = {mix(seed + 1), mix(seed + 2)};
	memcpy(uuid.bytes, words, sizeof(words));
	return uuid;
}

uint32_t source_model_add(struct source_model *model, const struct uuid *uuid, uint64_t salt,
			  bool foreign)
{
	pthread_mutex_lock(&model->lock);
	invariant(model->count < SOURCE_MODEL_SEGMENTS_MAX);
	struct source_model_segment *s = &model->segments[model->count];
	*s = (struct source_model_segment){
		.info = {.uuid = *uuid,
			 .number = model->count + 1,
			 .class = foreign ? 2 : 0,
			 .foreign = foreign},
		.salt = mix(salt + 17),
		.fork_at = UINT64_MAX,
	};
	model->count++;
	pthread_mutex_unlock(&model->lock);
	changed(model);
	return s->info.number;
}

void source_model_append(struct source_model *model, uint32_t number, uint64_t size)
{
	pthread_mutex_lock(&model->lock);
	invariant(!model->segments[number - 1].info.final);
	model->segments[number - 1].info.durable += size;
	pthread_mutex_unlock(&model->lock);
	changed(model);
}

void source_model_finish(struct source_model *model, uint32_t number)
{
	pthread_mutex_lock(&model->lock);
	model->segments[number - 1].info.final = true;
	pthread_mutex_unlock(&model->lock);
	changed(model);
}

void source_model_publish(struct source_model *model, uint32_t number)
{
	struct source_model_barrier *barrier = calloc(1, sizeof(*barrier));
	invariant(barrier && model->barrier_count < SOURCE_MODEL_ROOTS_MAX);
	pthread_mutex_lock(&model->lock);
	invariant(model->segments[number - 1].info.durable > 0);
	model->root = (struct source_root){.seq = model->root.seq + 1,
					   .segment = model->segments[number - 1].info.uuid,
					   .offset = model->segments[number - 1].info.durable - 1,
					   .time_ns = 1700000000000000000 + model->root.seq,
					   .node = 1};
	barrier->root = model->root;
	for (unsigned i = 0; i < model->count; i++) {
		barrier->uuids[barrier->count] = model->segments[i].info.uuid;
		barrier->lengths[barrier->count++] = model->segments[i].info.durable;
	}
	model->barriers[model->barrier_count++] = barrier;
	pthread_mutex_unlock(&model->lock);
	changed(model);
}

void source_model_copy(const struct source_model *from, struct source_model *to)
{
	memcpy(to->segments, from->segments, sizeof(to->segments));
	to->count = from->count;
	to->root = from->root;
	for (unsigned i = 0; i < from->barrier_count; i++) {
		to->barriers[i] = malloc(sizeof(*to->barriers[i]));
		invariant(to->barriers[i]);
		*to->barriers[i] = *from->barriers[i];
	}
	to->barrier_count = from->barrier_count;
	for (size_t i = 0; i < from->journal_count; i++)
		push(to, from->journal[i].data, from->journal[i].size);
	to->frame_size = from->frame_size;
}
