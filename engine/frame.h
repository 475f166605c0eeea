/*
 * Frames: ProtoDB's own framing, and the only structure inside a segment's stream.
 *
 *    0  u64 LE  payload size
 *    8  u8      format
 *    9  ...     payload
 *
 * A frame is valid if and only if its size is at most ENGINE_FRAME_PAYLOAD_MAX; it is whole if the
 * stream reaches its end. Unknown formats are skipped by their size.
 */
#ifndef PROTOFS_ENGINE_FRAME_H
#define PROTOFS_ENGINE_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "engine/engine.h"

/* Takes a header from IN. -ENODATA too short; -EBADMSG an absurd size. IN moves only on success. */
MUST_CHECK int frame_header_take(struct slice *in, uint64_t *ret_size, uint8_t *ret_format);

void frame_header_store(uint8_t header[static ENGINE_FRAME_HEADER_SIZE], uint64_t size,
			uint8_t format);

/*
 * Follows the frames of a stream whose bytes arrive in order, in pieces of any size.
 *
 * Invariants: 1. NEXT is where the header after the current frame begins; bytes of it that have
 * arrived are in HEADER[0..HAVE). 2. CURRENT <= NEXT is the last frame whose header is known
 * (CURRENT == NEXT: none yet).
 * 3. Once BAD, nothing moves any more.
 */
struct frame_scan {
	uint64_t position; /* stream offset of the next byte to arrive */
	uint64_t current;
	uint64_t next;
	uint8_t header[ENGINE_FRAME_HEADER_SIZE];
	uint8_t have;
	bool bad;
};

/* Told of each frame as soon as its header is known, in order. */
typedef void frame_scan_fn(void *arg, uint64_t offset, uint64_t size);

/*
 * Starts at POSITION; HEADER_START <= POSITION is where the header begins whose first bytes are in
 * HEADER.
 */
void frame_scan_init(struct frame_scan *scan, uint64_t position, uint64_t header_start,
		     const uint8_t *header);
void frame_scan_feed(struct frame_scan *scan, const void *data, size_t size, frame_scan_fn *found,
		     void *arg);
/* The short cut for a whole frame that begins at POSITION, where a header is expected. */
void frame_scan_whole(struct frame_scan *scan, uint64_t payload_size);

/* Whole frames parse up to here, given that all bytes have arrived up to POSITION. */
uint64_t frame_scan_end(const struct frame_scan *scan);

#endif
