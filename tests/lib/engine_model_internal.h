/*
 * Inside the model of a store.
 *
 *   engine_model.c        what is remembered
 *   engine_model_run.c    random work
 *   engine_model_check.c  the comparison
 */
#ifndef PROTOFS_TESTS_LIB_ENGINE_MODEL_INTERNAL_H
#define PROTOFS_TESTS_LIB_ENGINE_MODEL_INTERNAL_H

#include "base/buf.h"
#include "engine/engine.h"
#include "tests/lib/engine_model.h"
#include "tests/lib/sim_disk_internal.h"

enum {
	MODEL_SEGMENTS_MAX = 64,
	MODEL_FRAMES_MAX = 1024,
	MODEL_ROOTS_MAX = 512,
	MODEL_FOREIGN = 3,
	MODEL_PAYLOAD_SIZE = 24,
};

struct model_segment {
	struct uuid uuid;
	struct engine_segment *segment; /* while the engine is open */
	bool foreign;
	bool unframed;    /* it ends within a frame: what is appended from here on is none */
	bool removed;     /* or its removal is under way */
	struct buf bytes; /* all that was accepted */
	struct buf maybe; /* behind them, of an append that failed: a crash may leave part of it */
	size_t acknowledged;
};

struct model_frame {
	unsigned segment;
	uint64_t offset;
	uint64_t end;
};

struct model_root {
	uint64_t seq;
	struct engine_pointer pointer;
	uint8_t payload[MODEL_PAYLOAD_SIZE];
	bool acknowledged;
	size_t lengths[MODEL_SEGMENTS_MAX]; /* of all segments when it was published */
};

struct engine_model {
	struct sim_random random;
	struct disk *disk;
	struct engine *engine;
	unsigned segment_count;
	struct model_segment segments[MODEL_SEGMENTS_MAX];
	unsigned frame_count;
	struct model_frame frames[MODEL_FRAMES_MAX];
	unsigned root_count; /* attempts, in order; several may have the same seq */
	struct model_root roots[MODEL_ROOTS_MAX];
	uint64_t pruned_to;     /* roots below may be gone */
	bool lenient;           /* the disk fails: what cannot be read now is not compared */
	bool leftovers;         /* see engine_model_go_on */
	bool own_append_failed; /* a piece of that atom may be there, but never the atom */
	unsigned step;
	unsigned errors;
	char problem[1024];
};

/* Notes what is wrong; the first one stays. */
void model_problem(struct engine_model *model, const char *format, ...) PRINTF_LIKE(2, 3);
/* Opens the engine with few background effects. -errno. */
MUST_CHECK int model_open(struct engine_model *model, struct reterr *err);
/* The index of UUID; it is added if it is new. */
unsigned model_segment_of(struct engine_model *model, const struct uuid *uuid, bool foreign);
/* The engine has accepted bytes at OFFSET. */
void model_accepted(struct engine_model *model, unsigned index, const void *data, size_t size,
		    uint64_t offset);
void model_add_frame(struct engine_model *model, unsigned index, uint64_t offset, uint64_t end);
void model_acknowledge_all(struct engine_model *model);
/* After an open: what the engine has is compared, and becomes what there is. */
void model_compare(struct engine_model *model);

#endif
