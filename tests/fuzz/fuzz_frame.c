/*
 * Frames and entries of the commit table. The first byte says in what pieces the rest arrives: a scanner that is fed
 * piece by piece must find the same frames as one that gets everything at once.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/invariant.h"
#include "engine/frame.h"
#include "engine/part_format.h"

struct found {
	uint64_t count, last, size;
};

static void on_frame(void *arg, uint64_t offset, uint64_t size)
{
	struct found *found = arg;

	invariant(found->count == 0 || offset > found->last);
	invariant(size <= ENGINE_FRAME_PAYLOAD_MAX);
	found->count++;
	found->last = offset;
	found->size = size;
}

static void check_entry(const uint8_t *data, size_t size)
{
	struct part_entry entry;
	uint8_t again[PART_ENTRY_SIZE];

	if (size < PART_ENTRY_SIZE || part_entry_load(data, 7, 1, &entry) < 0)
		return;
	part_entry_store(again, &entry, 7);
	invariant(memcmp(again, data, sizeof(again)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame_scan whole, pieces;
	struct found in_whole = {0}, in_pieces = {0};

	if (size == 0)
		return 0;
	size_t step = data[0] + 1u;
	data++;
	size--;
	check_entry(data, size);
	frame_scan_init(&whole, 0, 0, NULL);
	frame_scan_feed(&whole, data, size, on_frame, &in_whole);
	frame_scan_init(&pieces, 0, 0, NULL);
	for (size_t done = 0; done < size; done += step)
		frame_scan_feed(&pieces, data + done, size - done < step ? size - done : step,
				on_frame, &in_pieces);
	invariant(whole.bad == pieces.bad && whole.next == pieces.next);
	invariant(in_whole.count == in_pieces.count && in_whole.last == in_pieces.last);
	invariant(frame_scan_end(&whole) == frame_scan_end(&pieces));
	return 0;
}
