/*
 * What the uploader knows of each segment, and the arithmetic of which object comes next. Pure: no
 * I/O, no clock, no lock of its own (the plan's).
 *
 * Invariants
 *  1. Objects cover [0, upload_covered()) without a gap, and all of them were confirmed by the place.
 *  2. FULL is a multiple of the block size, or the length of a segment that ended.
 *  3. Deltas are of one chain: each begins where the one before ends; only of the block at TAIL_AT,
 *     and only when all blocks before it are confirmed.
 *  4. A block is handed out only within UPLOAD_AHEAD blocks behind SAVED, the FULL that the journal
 *     knows: what may be in the place without the journal knowing it is bounded.
 *  5. LISTED never exceeds upload_covered(), and never shrinks.
 */
#ifndef PROTOFS_CLOUD_UPLOAD_TABLE_H
#define PROTOFS_CLOUD_UPLOAD_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protofs/segment_source.h>

#include "base/attr.h"
#include "base/hash.h"
#include "base/uuid.h"

enum {
	UPLOAD_WINDOW = 64, /* blocks of a segment that may be on their way at once */
	UPLOAD_AHEAD = 128,
};

/* More are not carried: a restore has to know them all. */
#define UPLOAD_SEGMENTS_MAX ((size_t)1 << 19)
#define UPLOAD_NONE UINT64_MAX

struct upload_segment {
	/* As the source said last. HERE is false for what only the place has. */
	struct uuid uuid;
	uint32_t number;
	uint8_t class;
	bool here, foreign, final, inherited;
	uint64_t durable;

	/* Objects. */
	uint64_t full;                   /* whole blocks cover [0, full) */
	uint64_t done_mask;              /* bit i: the block at full + i * block size is there */
	uint64_t sent_mask;              /* ... is there or on its way */
	uint64_t tail_at;                /* the block that the deltas are of */
	uint64_t tail_to;                /* they cover [tail_at, tail_to); 0: there are none */
	uint64_t intent_from, intent_to; /* the delta that the journal knows; to 0: none */
	bool intent_saved;               /* it does know it */
	bool intent_sent;                /* it is on its way */
	bool intent_tried;               /* it may be in the place, whatever became of it */
	uint64_t saved;                  /* FULL as the journal has it */
	uint64_t saved_next;             /* ... as it has it when the record under way is there */
	uint64_t doubt;      /* objects that begin below it may be there already: look first */
	uint64_t trash;      /* deltas may be left of blocks from here to FULL; UPLOAD_NONE: none */
	uint64_t trash_sent; /* ... from here are being deleted; UPLOAD_NONE: none */
	bool unsaved;        /* the journal is to know more of it */

	/* What the newest confirmed manifest says, and which manifest said it. */
	uint64_t listed, listed_n;
	bool listed_ended, summed;
	struct hash sum;

	/* The snapshot under way. */
	uint64_t target;
	bool pending; /* it is not reached yet */

	uint64_t behind_ms;       /* since when bytes are not listed; 0: all are */
	bool broken;              /* it could not be read here, and is left alone ... */
	uint64_t broken_until_ms; /* ... until then */
	/*
	 * The place has more of it than there was here: what follows here from LOST_AT on does not go with
	 * what is there, and nothing of it is put any more. The journal knows.
	 */
	bool lost;
	uint64_t lost_at;
	bool active; /* in the table's list of those with something left to do */
};

struct upload_table {
	uint64_t block_size;
	struct upload_segment *segments; /* never reordered; an index is a segment's name */
	size_t count, capacity;
	uint32_t *slots; /* by UUID: index + 1; open addressing, a power of two of them */
	size_t slot_count;
	uint32_t *active; /* indexes */
	size_t active_count;
};

void upload_table_init(struct upload_table *table, uint64_t block_size);
void upload_table_done(struct upload_table *table);
/* Forgets all segments. */
void upload_table_clear(struct upload_table *table);

/* NULL: there is none. Pointers live until the next upload_table_add. */
struct upload_segment *upload_table_find(const struct upload_table *table, const struct uuid *uuid);
/* -ENOMEM; -E2BIG more than UPLOAD_SEGMENTS_MAX. One that is there is returned as it is. */
MUST_CHECK int upload_table_add(struct upload_table *table, const struct uuid *uuid,
				struct upload_segment **ret);
/* Puts it on the list of active ones. */
void upload_table_wake(struct upload_table *table, struct upload_segment *segment);
/* Takes those off the list that have nothing left to do, ever. */
void upload_table_settle(struct upload_table *table);

/* Takes over what the source says, at NOW_MS. Sets LOST if it says less than was put. */
void upload_segment_see(struct upload_segment *segment, const struct source_segment *seen,
			uint64_t now_ms);

/* Bytes from 0 that objects cover. */
uint64_t upload_covered(const struct upload_segment *segment);
/* Its last block goes up short: it ended, and is not foreign. */
bool upload_ends_short(const struct upload_segment *segment);
/*
 * It ended, and all of it is there: as blocks, but for one that another store ended or clients wrote.
 */
bool upload_ended(const struct upload_segment *segment);
/* How far it got towards TARGET. */
uint64_t upload_progress(const struct upload_segment *segment);
/* Bytes from 0 that are here, and that the newest manifest has. */
uint64_t upload_safe(const struct upload_segment *segment);
/* A manifest has something new to say of it. */
bool upload_unlisted(const struct upload_segment *segment);

/* The next block to put; false: none now. */
bool upload_next_block(const struct upload_table *table, const struct upload_segment *segment,
		       uint64_t *ret_position, uint64_t *ret_end);
void upload_block_sent(const struct upload_table *table, struct upload_segment *segment,
		       uint64_t position);
/* It failed. */
void upload_block_back(const struct upload_table *table, struct upload_segment *segment,
		       uint64_t position);
void upload_block_done(const struct upload_table *table, struct upload_segment *segment,
		       uint64_t position);

/* Sets the intent of the delta that its target needs; false: none is needed, or one is under way. */
bool upload_intend(const struct upload_table *table, struct upload_segment *segment);
/* The intended delta may be put now. Drops an intent that a block has made superfluous. */
bool upload_next_delta(const struct upload_table *table, struct upload_segment *segment);
void upload_delta_done(const struct upload_table *table, struct upload_segment *segment);

#endif
