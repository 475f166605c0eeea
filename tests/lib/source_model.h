/*
 * A segment_source in memory: segments whose bytes follow from a seed, roots, a journal that outlives
 * its user, parts that can be evicted. A test without memory stops.
 *
 * Thread-safe.
 */
#ifndef PROTOFS_TESTS_LIB_SOURCE_MODEL_H
#define PROTOFS_TESTS_LIB_SOURCE_MODEL_H

#include <protofs/segment_source.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum { SOURCE_MODEL_SEGMENTS_MAX = 256, SOURCE_MODEL_ROOTS_MAX = 512 };

struct source_model_segment {
	struct source_segment info;
	uint64_t salt;    /* its bytes are a function of salt and offset ... */
	uint64_t fork_at; /* ... and from here on, a multiple of 8, of fork_salt */
	uint64_t fork_salt;
	bool removed;
	bool unreadable;  /* read fails with -EIO */
	uint64_t evicted; /* bytes from 0 whose parts are gone; reads of them still work */
};

struct source_model_record {
	uint8_t *data;
	size_t size;
};

/* What was durable when a root was published. */
struct source_model_barrier {
	struct source_root root;
	unsigned count;
	struct uuid uuids[SOURCE_MODEL_SEGMENTS_MAX];
	uint64_t lengths[SOURCE_MODEL_SEGMENTS_MAX];
};

struct source_model {
	struct segment_source source;
	pthread_mutex_t lock;
	struct source_model_segment segments[SOURCE_MODEL_SEGMENTS_MAX];
	unsigned count;
	struct source_root root;
	struct source_model_barrier *barriers[SOURCE_MODEL_ROOTS_MAX];
	unsigned barrier_count;

	struct source_model_record *journal;
	size_t journal_count;
	uint64_t journal_writes; /* appends and replacements so far */
	uint64_t journal_left;   /* so many more succeed, then -EIO, for ever; UINT64_MAX all */
	int journal_error;       /* of every write meanwhile; 0 none */

	segment_source_changed_fn *changed;
	void *changed_arg;
	struct reterr fenced; /* code 0: it is not */
	_Atomic unsigned fences;

	uint64_t part_size; /* sealed parts have it; 0: there are none */
	_Atomic unsigned evictions;
	uint64_t frame_size; /* frame headers begin at its multiples; 0: nobody knows */
};

void source_model_init(struct source_model *model, uint64_t part_size);
void source_model_done(struct source_model *model);

/* A segment without a byte, whose bytes follow from SALT; its number. */
uint32_t source_model_add(struct source_model *model, const struct uuid *uuid, uint64_t salt,
			  bool foreign);
struct uuid source_model_uuid(uint64_t seed);
void source_model_append(struct source_model *model, uint32_t number, uint64_t size);
void source_model_finish(struct source_model *model, uint32_t number);
/* The root is the segment's first byte; everything before it is its barrier. */
void source_model_publish(struct source_model *model, uint32_t number);
/* As a copied directory: journal, segments, roots. TO is initialised. */
void source_model_copy(const struct source_model *from, struct source_model *to);
/* The bytes as they are. */
void source_model_bytes(const struct source_model *model, uint32_t number, void *data, size_t size,
			uint64_t offset);
const struct source_model_segment *source_model_find(const struct source_model *model,
						     const struct uuid *uuid);

#endif
