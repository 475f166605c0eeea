#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "base/le.h"
#include "tests/lib/engine_model_internal.h"
#include "tests/lib/sim_alloc.h"

static uint64_t below(struct engine_model *model, uint64_t bound)
{
	return sim_random_below(&model->random, bound);
}

static bool chance(struct engine_model *model, unsigned percent)
{
	return sim_random_chance(&model->random, percent);
}

/* Counts an error, which must have a reason where there is room for one. */
static int failed(struct engine_model *model, const char *what, int r, const struct reterr *err)
{
	model->errors++;
	if (r != -EIO && r != -ENOSPC && r != -EROFS)
		model_problem(model, "%s: unexpected error %d (%s)", what, r, err ? err->text : "");
	if (err && !*err->text)
		model_problem(model, "%s: error %d without a reason", what, r);
	return r;
}

/* Mostly small, now and then enough to fill a part (4 MiB) in a few steps. */
static size_t random_size(struct engine_model *model)
{
	uint64_t dice = below(model, 100);
	if (dice < 60)
		return 1 + below(model, 600);
	if (dice < 90)
		return 1 + below(model, 20000);
	if (dice < 98)
		return 1 + below(model, 200000);
	return 1 + below(model, 1500000);
}

static void fill(struct engine_model *model, uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i += 8) {
		uint64_t word = sim_random_next(&model->random);
		memcpy(data + i, &word, size - i < 8 ? size - i : 8);
	}
}

/* ---- Steps ---- */

static int append_own(struct engine_model *model)
{
	size_t size = random_size(model);
	uint8_t *data = sim_malloc(ENGINE_FRAME_HEADER_SIZE + size);
	uint8_t *payload = data + ENGINE_FRAME_HEADER_SIZE;
	size_t half = (size_t)below(model, size + 1);
	struct iovec iov[] = {{payload, half}, {payload + half, size - half}};
	enum engine_class class = chance(model, 80) ? ENGINE_CLASS_LOG : ENGINE_CLASS_META;
	struct engine_pointer pointer;

	store_le64(data, size);
	data[8] = (uint8_t)below(model, 3);
	fill(model, payload, size);
	int r = engine_append(model->engine, class, data[8], iov, 2, &pointer);
	if (r == 0) {
		unsigned index = model_segment_of(model, &pointer.segment, false);
		model_accepted(model, index, data, ENGINE_FRAME_HEADER_SIZE + size, pointer.offset);
		model_add_frame(model, index, pointer.offset,
				pointer.offset + ENGINE_FRAME_HEADER_SIZE + size);
	}
	sim_free(data);
	model->own_append_failed |= r < 0;
	return r < 0 ? failed(model, "append", r, NULL) : 0;
}

static void keep_failed(struct model_segment *segment, const void *data, size_t size)
{
	buf_clear(&segment->maybe);
	int r = buf_append(&segment->maybe, data, size);
	invariant(r == 0);
}

static int append_bytes(struct engine_model *model, unsigned index, const uint8_t *data,
			size_t size)
{
	struct iovec iov = {(void *)(uintptr_t)data, size};
	uint64_t offset = 0;
	int r = engine_segment_append(model->engine, model->segments[index].segment, &iov, 1,
				      &offset);
	if (r < 0) {
		keep_failed(&model->segments[index], data, size);
		return failed(model, "append to a foreign segment", r, NULL);
	}
	model_accepted(model, index, data, size, offset);
	return 0;
}

/* As a client does it: a frame of its own making, sometimes in pieces. */
static int append_foreign(struct engine_model *model)
{
	unsigned index = (unsigned)below(model, MODEL_FOREIGN);
	struct model_segment *segment = &model->segments[index];
	size_t size = ENGINE_FRAME_HEADER_SIZE + random_size(model);
	size_t first = chance(model, 30) ? (size_t)below(model, size) : size;
	uint64_t offset = segment->bytes.size;

	if (!segment->segment || segment->removed)
		return 0;
	uint8_t *data = sim_malloc(size);
	store_le64(data, size - ENGINE_FRAME_HEADER_SIZE);
	data[8] = 0;
	fill(model, data + ENGINE_FRAME_HEADER_SIZE, size - ENGINE_FRAME_HEADER_SIZE);
	int r = first ? append_bytes(model, index, data, first) : 0;
	if (r == 0 && first < size) {
		r = append_bytes(model, index, data + first, size - first);
		segment->unframed |= r < 0;
	}
	if (r == 0)
		model_add_frame(model, index, offset, offset + size);
	sim_free(data);
	return r;
}

static int commit(struct engine_model *model)
{
	struct engine_position positions[4];
	unsigned indexes[4];
	size_t lengths[4];
	size_t count = 0;
	struct reterr err = {0};

	for (unsigned i = 0; i < 4 && model->segment_count; i++) {
		unsigned index = (unsigned)below(model, model->segment_count);
		const struct model_segment *segment = &model->segments[index];
		if (!segment->segment || !segment->bytes.size || segment->removed ||
		    (count && chance(model, 50)))
			continue;
		indexes[count] = index;
		lengths[count] = segment->bytes.size;
		positions[count++] = (struct engine_position){
			.segment = segment->segment,
			.length = chance(model, 50) ? UINT64_MAX : segment->bytes.size,
		};
	}
	if (count == 0)
		return 0;
	int r = engine_commit(model->engine, positions, count, &err);
	if (r < 0)
		return failed(model, "commit", r, &err);
	for (size_t i = 0; i < count; i++)
		model->segments[indexes[i]].acknowledged = lengths[i];
	return 0;
}

static int sync_all(struct engine_model *model)
{
	struct reterr err = {0};
	int r = engine_sync(model->engine, &err);
	if (r < 0)
		return failed(model, "sync", r, &err);
	model_acknowledge_all(model);
	return 0;
}

static bool frame_is_there(const struct engine_model *model, const struct model_frame *frame)
{
	const struct model_segment *segment = &model->segments[frame->segment];
	return !segment->removed && frame->end <= segment->bytes.size;
}

static int publish(struct engine_model *model)
{
	struct reterr err = {0};
	struct engine_root current = {0};
	struct engine_root ret;

	if (model->frame_count == 0 || model->root_count == MODEL_ROOTS_MAX)
		return 0;
	const struct model_frame *frame = &model->frames[below(model, model->frame_count)];
	if (!frame_is_there(model, frame))
		return 0;
	int r = engine_root_current(model->engine, &current);
	if (r < 0 && r != -ENOENT)
		return failed(model, "current root", r, NULL);

	struct model_root *root = &model->roots[model->root_count++];
	*root = (struct model_root){.seq = current.seq + 1};
	root->pointer = (struct engine_pointer){.segment = model->segments[frame->segment].uuid,
						.offset = frame->offset};
	fill(model, root->payload, sizeof(root->payload));
	for (unsigned i = 0; i < model->segment_count; i++)
		root->lengths[i] = model->segments[i].bytes.size;
	r = engine_root_publish(model->engine, chance(model, 50) ? current.seq : UINT64_MAX,
				&root->pointer, root->payload, sizeof(root->payload), &ret, &err);
	if (r < 0)
		return failed(model, "publish", r, &err);
	if (r != 0 || ret.seq != root->seq)
		model_problem(model, "publish returned %d with seq %llu, not %llu", r,
			      (unsigned long long)ret.seq, (unsigned long long)root->seq);
	root->acknowledged = true;
	model_acknowledge_all(model);
	return 0;
}

static int seal(struct engine_model *model)
{
	struct reterr err = {0};
	unsigned index = (unsigned)below(model, model->segment_count + 1);
	bool all = index == model->segment_count;

	if (!all && (!model->segments[index].segment || model->segments[index].removed))
		return 0;
	int r = engine_seal(model->engine, all ? NULL : model->segments[index].segment, &err);
	if (r < 0)
		return failed(model, "seal", r, &err);
	if (all)
		model_acknowledge_all(model);
	else
		model->segments[index].acknowledged = model->segments[index].bytes.size;
	return 0;
}

/* What was accepted can be read back at once. */
static int read_back(struct engine_model *model)
{
	struct reterr err = {0};
	unsigned index = (unsigned)below(model, model->segment_count);
	const struct model_segment *segment = &model->segments[index];
	size_t got = 0;

	if (!segment->segment || !segment->bytes.size || segment->removed)
		return 0;
	uint64_t offset = below(model, segment->bytes.size);
	size_t size = (size_t)below(model, 100000);
	size_t left = segment->bytes.size - (size_t)offset;
	uint8_t *data = sim_malloc(size);
	int r = engine_read(model->engine, segment->segment, data, size, offset, 0, &got, &err);
	if (r == 0 && got != (size < left ? size : left))
		model_problem(model, "read %zu bytes of %zu at %llu", got, size,
			      (unsigned long long)offset);
	else if (r == 0 && memcmp(data, segment->bytes.data + offset, got) != 0)
		model_problem(model, "wrong bytes at %llu+%zu", (unsigned long long)offset, got);
	sim_free(data);
	return r < 0 ? failed(model, "read", r, &err) : 0;
}

/* A foreign segment that no root points into. */
static int remove_segment(struct engine_model *model)
{
	unsigned index = (unsigned)below(model, MODEL_FOREIGN);
	struct model_segment *segment = &model->segments[index];

	if (!segment->segment || segment->removed || !segment->bytes.size)
		return 0;
	for (unsigned i = 0; i < model->root_count; i++) {
		if (uuid_equal(&model->roots[i].pointer.segment, &segment->uuid))
			return 0;
	}
	segment->removed = true;
	int r = engine_segment_remove(model->engine, segment->segment);
	return r < 0 ? failed(model, "remove", r, NULL) : 0;
}

/* A segment that is copied in: whole or not at all. */
static int import(struct engine_model *model)
{
	struct engine_stage *stage;
	struct reterr err = {0};
	struct uuid uuid = {{0}};
	size_t size = ENGINE_FRAME_HEADER_SIZE + random_size(model);

	if (model->segment_count == MODEL_SEGMENTS_MAX)
		return 0;
	int r = engine_stage_new(model->engine, &stage);
	if (r < 0)
		return failed(model, "stage", r, NULL);
	uint8_t *data = sim_malloc(size);
	fill(model, data, size);
	store_le64(data, size - ENGINE_FRAME_HEADER_SIZE);
	data[8] = 0;
	fill(model, uuid.bytes, sizeof(uuid.bytes));
	r = engine_stage_write(stage, data, size, 0);
	if (r == 0) {
		unsigned index = model_segment_of(model, &uuid, true);
		r = engine_import(model->engine, &uuid, stage, &err);
		if (r == 0) {
			model_accepted(model, index, data, size, 0);
			model->segments[index].acknowledged = size;
			model->segments[index].segment = engine_segment_find(model->engine, &uuid);
			model_add_frame(model, index, 0, size);
		} else {
			keep_failed(&model->segments[index], data, size);
		}
	}
	engine_stage_free(stage);
	sim_free(data);
	return r < 0 ? failed(model, "import", r, NULL) : 0;
}

static int prune(struct engine_model *model)
{
	struct reterr err = {0};
	uint64_t first = 0;
	uint64_t last = 0;

	engine_root_range(model->engine, &first, &last);
	if (last < 4)
		return 0;
	uint64_t keep_from = last - below(model, 3);
	if (keep_from > model->pruned_to)
		model->pruned_to = keep_from;
	int r = engine_root_prune(model->engine, keep_from, false, NULL, &err);
	return r < 0 ? failed(model, "prune", r, &err) : 0;
}

static void find_segments(struct engine_model *model)
{
	for (unsigned i = 0; i < model->segment_count; i++) {
		struct model_segment *segment = &model->segments[i];
		segment->segment = engine_segment_find(model->engine, &segment->uuid);
	}
}

static int create_foreign(struct engine_model *model)
{
	for (unsigned i = 0; i < MODEL_FOREIGN; i++) {
		struct model_segment *segment = &model->segments[i];
		if (segment->segment || segment->removed)
			continue;
		int r = engine_segment_create(model->engine, &segment->uuid, &segment->segment);
		if (r < 0)
			return failed(model, "create a segment", r, NULL);
	}
	return 0;
}

static int open_engine(struct engine_model *model)
{
	struct reterr err = {0};
	int r = model_open(model, &err);
	if (r < 0)
		return failed(model, "open", r, &err);
	find_segments(model);
	model_compare(model);
	return create_foreign(model);
}

static int reopen(struct engine_model *model)
{
	struct reterr err = {0};
	int r = engine_close(model->engine, &err);
	model->engine = NULL;
	if (r < 0)
		(void)failed(model, "close", r, &err);
	else
		model_acknowledge_all(model);
	int opened = open_engine(model);
	return r < 0 ? r : opened;
}

static int one_step(struct engine_model *model)
{
	uint64_t dice = below(model, 100);
	if (dice < 25)
		return append_own(model);
	if (dice < 50)
		return append_foreign(model);
	if (dice < 65)
		return commit(model);
	if (dice < 68)
		return sync_all(model);
	if (dice < 83)
		return publish(model);
	if (dice < 88)
		return seal(model);
	if (dice < 95)
		return read_back(model);
	if (dice < 96)
		return prune(model);
	if (dice < 97)
		return remove_segment(model);
	return dice < 98 ? import(model) : reopen(model);
}

/* ---- The whole ---- */

int engine_model_format(struct engine_model *model, struct disk *disk)
{
	const struct engine_format_options options = {.block_size = ENGINE_BLOCK_SIZE_MIN};
	struct reterr err = {0};

	for (unsigned i = 0; i < MODEL_FOREIGN; i++) {
		struct uuid uuid = {{0}};
		fill(model, uuid.bytes, sizeof(uuid.bytes));
		(void)model_segment_of(model, &uuid, true);
	}
	int r = engine_format(disk, &options, &err);
	return r < 0 ? failed(model, "format", r, &err) : 0;
}

static int work(struct engine_model *model, unsigned steps, bool go_on)
{
	int first = 0;
	for (model->step = 1; model->step <= steps && model->engine; model->step++) {
		int r = one_step(model);
		if (first == 0)
			first = r;
		if (r < 0 && !go_on)
			break;
	}
	return first;
}

static int stop(struct engine_model *model, bool clean)
{
	struct reterr err = {0};
	struct engine *e = model->engine;

	model->engine = NULL;
	if (!clean) {
		engine_abandon(e);
		return 0;
	}
	int r = engine_close(e, &err);
	if (r < 0)
		return failed(model, "close", r, &err);
	model_acknowledge_all(model);
	return 0;
}

int engine_model_run(struct engine_model *model, struct disk *disk, unsigned steps, unsigned flags)
{
	model->disk = disk;
	model->lenient = true;
	int r = open_engine(model);
	if (model->engine && (r == 0 || flags & ENGINE_MODEL_GO_ON))
		r = work(model, steps, flags & ENGINE_MODEL_GO_ON);
	if (model->engine) {
		int stopped = stop(model, flags & ENGINE_MODEL_CLOSE);
		r = r < 0 ? r : stopped;
	}
	return r;
}
