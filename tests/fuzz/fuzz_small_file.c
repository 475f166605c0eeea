/* Changes of small files: what decodes stays within its payload, and is encoded to what decodes to the same. */
#include <stdint.h>
#include <string.h>

#include "base/invariant.h"
#include "fs/small_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct small_file_change change, again;
	struct reterr err = {0};
	int r = small_file_decode((struct slice){.data = data, .size = size}, &change, &err);
	if (r < 0) {
		invariant(err.code == r && err.text[0] != '\0');
		return 0;
	}
	invariant(change.content.size <= size);
	invariant(change.content.data + change.content.size == data + size);

	struct buf payload = {.max = SMALL_FILE_PAYLOAD_MAX};
	invariant(small_file_encode(&change, &payload) == 0);
	if (change.content.size > 0)
		invariant(buf_append(&payload, change.content.data, change.content.size) == 0);
	struct slice whole = {.data = payload.data, .size = payload.size};
	invariant(small_file_decode(whole, &again, NULL) == 0);
	invariant(again.op == change.op && again.seq == change.seq && again.mode == change.mode &&
		  again.mtime_ns == change.mtime_ns && strcmp(again.name, change.name) == 0 &&
		  again.content.size == change.content.size);
	invariant(change.content.size == 0 ||
		  memcmp(again.content.data, change.content.data, change.content.size) == 0);
	buf_done(&payload);
	return 0;
}
