#include "tests/lib/engine_model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "tests/lib/engine_model_internal.h"
#include "tests/lib/sim_alloc.h"

/* Nothing happens by itself within a test, but what is asked for. */
#define NEVER_MS ((uint64_t)24 * 3600 * 1000)

struct engine_model *engine_model_new(uint64_t seed)
{
	struct engine_model *model = sim_calloc(sizeof(*model));
	model->random.state = seed;
	return model;
}

struct engine_model *engine_model_clone(const struct engine_model *model)
{
	struct engine_model *copy = sim_malloc(sizeof(*copy));
	*copy = *model;
	for (unsigned i = 0; i < copy->segment_count; i++) {
		const struct buf *from = &model->segments[i].bytes;
		copy->segments[i].bytes = (struct buf){.max = from->max};
		int r = buf_append(&copy->segments[i].bytes, from->data, from->size);
		from = &model->segments[i].maybe;
		copy->segments[i].maybe = (struct buf){.max = from->max};
		if (r == 0)
			r = buf_append(&copy->segments[i].maybe, from->data, from->size);
		invariant(r == 0);
	}
	return copy;
}

void engine_model_free(struct engine_model *model)
{
	if (!model)
		return;
	for (unsigned i = 0; i < model->segment_count; i++) {
		buf_done(&model->segments[i].bytes);
		buf_done(&model->segments[i].maybe);
	}
	sim_free(model);
}

void model_problem(struct engine_model *model, const char *format, ...)
{
	if (*model->problem)
		return;
	int at = snprintf(model->problem, sizeof(model->problem), "step %u: ", model->step);
	va_list args;
	va_start(args, format);
	(void)vsnprintf(model->problem + at, sizeof(model->problem) - (size_t)at, format, args);
	va_end(args);
}

const char *engine_model_problem(const struct engine_model *model)
{
	return *model->problem ? model->problem : NULL;
}

unsigned engine_model_errors(const struct engine_model *model)
{
	return model->errors;
}

int model_open(struct engine_model *model, struct reterr *err)
{
	const struct engine_options options = {
		.flush_interval_ms = NEVER_MS,
		.idle_seal_ms = NEVER_MS,
		.segment_size_max = 1 << 20,
	};
	return engine_open(model->disk, &options, err, &model->engine);
}

unsigned model_segment_of(struct engine_model *model, const struct uuid *uuid, bool foreign)
{
	for (unsigned i = 0; i < model->segment_count; i++) {
		if (uuid_equal(&model->segments[i].uuid, uuid))
			return i;
	}
	invariant(model->segment_count < MODEL_SEGMENTS_MAX);
	struct model_segment *segment = &model->segments[model->segment_count];
	*segment = (struct model_segment){
		.uuid = *uuid,
		.foreign = foreign,
		.bytes = {.max = SIZE_MAX / 2},
		.maybe = {.max = SIZE_MAX / 2},
	};
	return model->segment_count++;
}

void model_accepted(struct engine_model *model, unsigned index, const void *data, size_t size,
		    uint64_t offset)
{
	struct model_segment *segment = &model->segments[index];
	char text[UUID_TEXT_LENGTH + 1];

	if (offset != segment->bytes.size)
		model_problem(model, "segment %s: appended at %llu, not at its end %zu",
			      uuid_format(&segment->uuid, text), (unsigned long long)offset,
			      segment->bytes.size);
	int r = buf_append(&segment->bytes, data, size);
	invariant(r == 0);
	buf_clear(&segment->maybe);
}

void model_add_frame(struct engine_model *model, unsigned index, uint64_t offset, uint64_t end)
{
	if (model->frame_count < MODEL_FRAMES_MAX && !model->segments[index].unframed)
		model->frames[model->frame_count++] =
			(struct model_frame){.segment = index, .offset = offset, .end = end};
}

void model_acknowledge_all(struct engine_model *model)
{
	for (unsigned i = 0; i < model->segment_count; i++)
		model->segments[i].acknowledged = model->segments[i].bytes.size;
}
