#include "engine/frame.h"

#include "base/invariant.h"

int frame_header_take(struct slice *in, uint64_t *ret_size, uint8_t *ret_format)
{
	struct slice rest = *in, header;
	int r = slice_take(&rest, ENGINE_FRAME_HEADER_SIZE, &header);
	if (r < 0)
		return r;

	/* Damage must read as damage, not as "wait for 2^60 more bytes". */
	uint64_t size = load_le64(header.data);
	if (size > ENGINE_FRAME_PAYLOAD_MAX)
		return -EBADMSG;
	*ret_size = size;
	*ret_format = header.data[8];
	*in = rest;
	return 0;
}

void frame_header_store(uint8_t header[static ENGINE_FRAME_HEADER_SIZE], uint64_t size,
			uint8_t format)
{
	store_le64(header, size);
	header[8] = format;
}

void frame_scan_init(struct frame_scan *scan, uint64_t position, uint64_t header_start,
		     const uint8_t *header)
{
	*scan = (struct frame_scan){
		.position = position, .current = header_start, .next = header_start};
	if (header_start >= position)
		return;
	invariant(position - header_start < ENGINE_FRAME_HEADER_SIZE);
	scan->have = (uint8_t)(position - header_start);
	memcpy(scan->header, header, scan->have);
}

void frame_scan_feed(struct frame_scan *scan, const void *data, size_t size, frame_scan_fn *found,
		     void *arg)
{
	const uint8_t *bytes = data;
	uint64_t end = scan->position + size;
	/* Where the missing part of the next header begins. */
	uint64_t at = scan->next + scan->have;

	while (!scan->bad && at < end) {
		const uint8_t *from = bytes + (at - scan->position);
		size_t want = (size_t)(ENGINE_FRAME_HEADER_SIZE - scan->have);
		size_t take = end - at < want ? (size_t)(end - at) : want;
		memcpy(scan->header + scan->have, from, take);
		scan->have = (uint8_t)(scan->have + take);
		if (scan->have < ENGINE_FRAME_HEADER_SIZE)
			break;

		struct slice header = {.data = scan->header, .size = sizeof(scan->header)};
		uint64_t payload_size;
		uint8_t format;
		if (frame_header_take(&header, &payload_size, &format) < 0) {
			scan->bad = true;
			break;
		}
		scan->current = scan->next;
		scan->next += ENGINE_FRAME_HEADER_SIZE + payload_size;
		scan->have = 0;
		at = scan->next;
		found(arg, scan->current, payload_size);
	}
	scan->position = end;
}

void frame_scan_whole(struct frame_scan *scan, uint64_t payload_size)
{
	scan->current = scan->next;
	scan->next += ENGINE_FRAME_HEADER_SIZE + payload_size;
	scan->position = scan->next;
}

uint64_t frame_scan_end(const struct frame_scan *scan)
{
	return scan->next <= scan->position ? scan->next : scan->current;
}
