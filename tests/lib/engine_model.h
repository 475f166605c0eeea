/*
 * What a store must hold: random work on an engine, remembered beside it, and compared with what a later open finds.
 *
 * The rules that are checked, whatever happened in between:
 *  1. Bytes of a segment that were acknowledged (a commit, a publication, a seal or a close that covers them returned 0) are
 *     there. What else is there is a prefix of what was accepted, byte for byte.
 *  2. Every root that was acknowledged is there. The newest one was acknowledged, or was under way when the end came.
 *  3. All bytes that were accepted before a root was published are there if the root is, and its frame is whole.
 *  4. A second open finds the same as the first; fsck finds no problem.
 *
 * Single-threaded, but for the engine's own threads. Repeatable for one seed as far as those let it be.
 */
#ifndef PROTOFS_TESTS_LIB_ENGINE_MODEL_H
#define PROTOFS_TESTS_LIB_ENGINE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "engine/disk.h"

struct engine_model;

/* Never fails: a test without memory stops. */
struct engine_model *engine_model_new(uint64_t seed);
struct engine_model *engine_model_clone(const struct engine_model *model);
void engine_model_free(struct engine_model *model); /* accepts NULL */

/* Makes the store on DISK. -errno. */
MUST_CHECK int engine_model_format(struct engine_model *model, struct disk *disk);

enum engine_model_flags {
	ENGINE_MODEL_GO_ON = 1 << 0, /* after errors, as with a disk that fails now and then */
	ENGINE_MODEL_CLOSE = 1 << 1, /* ends with a clean stop; else the engine is just gone */
};

/*
 * Opens the store on DISK and does STEPS random things. The first error ends it (GO_ON: only one of open) and is
 * returned. Broken promises that show on the way are kept for engine_model_problem().
 */
int engine_model_run(struct engine_model *model, struct disk *disk, unsigned steps, unsigned flags);

/* Lets an open of DISK happen, and nothing else. Its error. */
int engine_model_open_only(struct engine_model *model, struct disk *disk);

/* Opens the store on DISK, twice, and compares. Neither may fail. What was lost, rightly, is forgotten. */
void engine_model_check(struct engine_model *model, struct disk *disk);

/*
 * After a check: appends, publishes and closes, as a store that goes on living would. Then the files alone are the
 * segments; LEFTOVERS: but for empty parts that a power cut left.
 */
void engine_model_go_on(struct engine_model *model, struct disk *disk, bool leftovers);

/* What was wrong first; NULL: nothing. */
const char *engine_model_problem(const struct engine_model *model);
/* How many operations failed, as a faulty disk makes them. */
unsigned engine_model_errors(const struct engine_model *model);

#endif
