/*
 * A cloud as the engine sees it: a reader that brings what was copied to it, and a keeper that says
 * yes when it is told to. Both can be made to fail, to lie and to stall.
 *
 * Thread-safe, but for copying and the faults while calls run.
 */
#ifndef PROTOFS_TESTS_LIB_REMOTE_MODEL_H
#define PROTOFS_TESTS_LIB_REMOTE_MODEL_H

#include <protofs/remote.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

enum { REMOTE_SEGMENTS_MAX = 64, REMOTE_LOG_SIZE = 4096 };

struct remote_copy {
	struct uuid uuid;
	uint8_t *data;
	uint64_t length;
};

struct remote_model {
	struct remote_reader reader;
	struct remote_keeper keeper;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct remote_copy copies[REMOTE_SEGMENTS_MAX];
	unsigned copy_count;

	/* The reader's faults and figures. */
	int read_error;       /* of every read; 0 none */
	uint64_t flip_at;     /* the byte of every segment that is wrong; UINT64_MAX none */
	size_t read_size_max; /* a read brings no more; 0: all */
	uint64_t block_size;  /* frame_before knows the first frame of each block; 0: nothing */
	bool frame_lies;      /* it says what is behind the offset */
	uint64_t reads, bytes_read, hints;
	size_t read_largest;

	/* The keeper's. */
	bool stalled; /* waits until it is not, or STOP */
	bool stopped;
	int keep_error;            /* of every wait for bytes; 0 none */
	int keep_root_error;       /* of every wait for a root */
	unsigned waiting;          /* calls that are stalled now */
	char log[REMOTE_LOG_SIZE]; /* "bytes N;" (sum of the lengths) and "root N;" */
};

void remote_model_init(struct remote_model *model);
void remote_model_done(struct remote_model *model);

/* Keeps what SEGMENT holds now, instead of an earlier copy. A test without memory stops. */
void remote_model_copy(struct remote_model *model, struct engine *e,
		       struct engine_segment *segment);
const struct remote_copy *remote_model_find(struct remote_model *model, const struct uuid *uuid);

void remote_model_stall(struct remote_model *model, bool stalled);
/* Returns when COUNT calls are stalled. */
void remote_model_await(struct remote_model *model, unsigned count);

#endif
