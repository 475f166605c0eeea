/*
 * Headers of the cache's files: what decodes has a key, sizes within bounds, and is encoded to what
 * decodes to the same. Each input is also tried with the sum that makes it valid.
 */
#include <stdint.h>
#include <string.h>

#include "base/invariant.h"
#include "cloud/block_cache_file.h"
#include "cloud/block_key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SUMMED = 4080 };

static void judge(struct slice bytes)
{
	struct cache_file file, again;
	uint8_t encoded[CACHE_FILE_HEADER_SIZE];
	int r = cache_file_decode(bytes, &file);
	invariant(r == 0 || (r == -ENODATA && bytes.size < CACHE_FILE_HEADER_SIZE) ||
		  r == -EBADMSG);
	if (r < 0)
		return;
	invariant(block_key_parse(file.key, NULL) == 0);
	invariant(file.head.size <= BLOCK_STORE_SIZE_MAX);
	invariant(file.head.first_frame == BLOCK_NO_FRAME ||
		  file.head.first_frame < file.head.size);
	invariant(strnlen(file.head.etag, BLOCK_ETAG_SIZE) < BLOCK_ETAG_SIZE);

	cache_file_encode(&file, encoded);
	struct slice whole = {.data = encoded, .size = sizeof(encoded)};
	invariant(cache_file_decode(whole, &again) == 0);
	invariant(strcmp(again.key, file.key) == 0 && strcmp(again.head.etag, file.head.etag) == 0);
	invariant(again.head.size == file.head.size &&
		  again.head.first_frame == file.head.first_frame &&
		  again.head.modified_ns == file.head.modified_ns &&
		  again.head.recorded == file.head.recorded &&
		  hash_equal(&again.head.hash, &file.head.hash));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	judge((struct slice){.data = data, .size = size});

	uint8_t header[CACHE_FILE_HEADER_SIZE] = {0};
	if (size > 0)
		memcpy(header, data, size < SUMMED ? size : SUMMED);
	struct hash sum = hash_of(header, SUMMED);
	memcpy(header + SUMMED, sum.bytes, HASH_SIZE);
	judge((struct slice){.data = header, .size = sizeof(header)});
	return 0;
}
