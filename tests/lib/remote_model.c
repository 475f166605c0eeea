#include "tests/lib/remote_model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "base/le.h"

static struct remote_model *of_reader(struct remote_reader *reader)
{
	return (struct remote_model *)((char *)reader - offsetof(struct remote_model, reader));
}

static struct remote_model *of_keeper(struct remote_keeper *keeper)
{
	return (struct remote_model *)((char *)keeper - offsetof(struct remote_model, keeper));
}

static void lock(struct remote_model *model)
{
	(void)pthread_mutex_lock(&model->lock);
}

static void unlock(struct remote_model *model)
{
	(void)pthread_mutex_unlock(&model->lock);
}

/* ---- Reader ---- */

const struct remote_copy *remote_model_find(struct remote_model *model, const struct uuid *uuid)
{
	for (unsigned i = 0; i < model->copy_count; i++)
		if (uuid_equal(&model->copies[i].uuid, uuid))
			return &model->copies[i];
	return NULL;
}

static int model_read(struct remote_reader *reader, const struct uuid *segment, void *data,
		      size_t size, uint64_t offset, size_t *ret, struct reterr *err)
{
	struct remote_model *model = of_reader(reader);
	const struct remote_copy *copy = remote_model_find(model, segment);

	lock(model);
	model->reads++;
	if (size > model->read_largest)
		model->read_largest = size;
	int r = model->read_error;
	if (r == 0 && (!copy || offset >= copy->length))
		r = -ENOENT;
	if (r == 0) {
		if (size > copy->length - offset)
			size = (size_t)(copy->length - offset);
		if (model->read_size_max && size > model->read_size_max)
			size = model->read_size_max;
		memcpy(data, copy->data + offset, size);
		if (model->flip_at >= offset && model->flip_at - offset < size)
			((uint8_t *)data)[model->flip_at - offset] ^= 1;
		model->bytes_read += size;
		*ret = size;
	}
	unlock(model);
	return r < 0 ? reterr_set(err, r, "the model says %d", r) : 0;
}

static int model_frame_before(struct remote_reader *reader, const struct uuid *segment,
			      uint64_t offset, uint64_t *ret, struct reterr *err)
{
	struct remote_model *model = of_reader(reader);
	const struct remote_copy *copy = remote_model_find(model, segment);

	lock(model);
	model->hints++;
	int r = model->read_error;
	uint64_t block = model->block_size ? offset - offset % model->block_size : 0;
	*ret = 0;
	for (uint64_t at = 0;
	     r == 0 && model->block_size && copy && at + 9 <= copy->length && at <= offset;
	     at += 9 + load_le64(copy->data + at)) {
		*ret = at;
		if (at >= block)
			break;
	}
	if (model->frame_lies)
		*ret = offset + 1;
	unlock(model);
	return r < 0 ? reterr_set(err, r, "the model says %d", r) : 0;
}

static void reader_stop(struct remote_reader *reader)
{
	(void)reader;
}

/* ---- Keeper ---- */

static void note(struct remote_model *model, const char *what, uint64_t n)
{
	size_t used = strlen(model->log);
	(void)snprintf(model->log + used, sizeof(model->log) - used, "%s %llu;", what,
		       (unsigned long long)n);
}

static int keep(struct remote_model *model, const char *what, uint64_t n, int error,
		struct reterr *err)
{
	lock(model);
	note(model, what, n);
	model->waiting++;
	(void)pthread_cond_broadcast(&model->changed);
	while (model->stalled && !model->stopped)
		(void)pthread_cond_wait(&model->changed, &model->lock);
	model->waiting--;
	int r = model->stopped ? -ECANCELED : error;
	unlock(model);
	return r < 0 ? reterr_set(err, r, "the model says %d", r) : 0;
}

static int model_wait_bytes(struct remote_keeper *keeper, const struct remote_length *lengths,
			    size_t count, struct reterr *err)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += lengths[i].length;
	return keep(of_keeper(keeper), "bytes", sum, of_keeper(keeper)->keep_error, err);
}

static int model_wait_root(struct remote_keeper *keeper, uint64_t seq, struct reterr *err)
{
	return keep(of_keeper(keeper), "root", seq, of_keeper(keeper)->keep_root_error, err);
}

static uint64_t model_safe_length(struct remote_keeper *keeper, const struct uuid *segment)
{
	(void)keeper;
	(void)segment;
	return 0;
}

static uint64_t model_safe_root(struct remote_keeper *keeper)
{
	(void)keeper;
	return 0;
}

static void keeper_stop(struct remote_keeper *keeper)
{
	struct remote_model *model = of_keeper(keeper);
	lock(model);
	model->stopped = true;
	(void)pthread_cond_broadcast(&model->changed);
	unlock(model);
}

void remote_model_stall(struct remote_model *model, bool stalled)
{
	lock(model);
	model->stalled = stalled;
	(void)pthread_cond_broadcast(&model->changed);
	unlock(model);
}

void remote_model_await(struct remote_model *model, unsigned count)
{
	lock(model);
	while (model->waiting < count)
		(void)pthread_cond_wait(&model->changed, &model->lock);
	unlock(model);
}

/* ---- Both ---- */

void remote_model_init(struct remote_model *model)
{
	static const struct remote_reader_ops reader_ops = {
		.read = model_read, .frame_before = model_frame_before, .stop = reader_stop};
	static const struct remote_keeper_ops keeper_ops = {.level = "model",
							    .wait_bytes = model_wait_bytes,
							    .wait_root = model_wait_root,
							    .safe_length = model_safe_length,
							    .safe_root = model_safe_root,
							    .stop = keeper_stop};

	*model = (struct remote_model){
		.reader = {&reader_ops}, .keeper = {&keeper_ops}, .flip_at = UINT64_MAX};
	(void)pthread_mutex_init(&model->lock, NULL);
	(void)pthread_cond_init(&model->changed, NULL);
}

void remote_model_done(struct remote_model *model)
{
	for (unsigned i = 0; i < model->copy_count; i++)
		free(model->copies[i].data);
	(void)pthread_mutex_destroy(&model->lock);
	(void)pthread_cond_destroy(&model->changed);
}

void remote_model_copy(struct remote_model *model, struct engine *e, struct engine_segment *segment)
{
	struct engine_segment_info info;
	struct remote_copy *copy = NULL;
	size_t got = 0;

	engine_segment_info(e, segment, &info);
	for (unsigned i = 0; i < model->copy_count; i++)
		if (uuid_equal(&model->copies[i].uuid, &info.uuid))
			copy = &model->copies[i];
	if (!copy) {
		invariant(model->copy_count < REMOTE_SEGMENTS_MAX);
		copy = &model->copies[model->copy_count++];
	}
	uint8_t *data = malloc((size_t)info.durable + 1);
	invariant(data);
	int r = engine_read(e, segment, data, (size_t)info.durable, 0, 0, &got, NULL);
	invariant(r == 0 && got == info.durable);
	free(copy->data);
	*copy = (struct remote_copy){.uuid = info.uuid, .data = data, .length = info.durable};
}
