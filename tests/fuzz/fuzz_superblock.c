/* Superblocks: as they come, and with a checksum that matches so that the rest is judged too. */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/hash.h"
#include "base/invariant.h"
#include "engine/superblock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SUM_OFFSET = SUPERBLOCK_COPY_SIZE - HASH_SIZE };

static void judge(struct slice in)
{
	struct superblock sb, again;
	struct reterr err = {0};
	uint8_t bytes[SUPERBLOCK_COPY_SIZE];
	int r = superblock_decode(in, &sb, &err);
	if (r < 0) {
		invariant(r == -ENODATA || r == -EBADMSG || r == -ENOTSUP);
		invariant(err.code == r && err.text[0]);
		return;
	}
	/* What was understood is written as it was read. */
	superblock_encode(&sb, bytes);
	struct slice copy = {.data = bytes, .size = sizeof(bytes)};
	invariant(superblock_decode(copy, &again, NULL) == 0);
	invariant(again.version == sb.version && again.node == sb.node);
	invariant(again.block_size == sb.block_size && again.ro_compat == sb.ro_compat);
	invariant(uuid_equal(&again.store, &sb.store) && again.read_only == sb.read_only);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	judge((struct slice){.data = data, .size = size});

	uint8_t bytes[SUPERBLOCK_COPY_SIZE] = "protofs";
	size_t used = size < SUM_OFFSET - 8 ? size : SUM_OFFSET - 8;
	if (used)
		memcpy(bytes + 8, data, used);
	struct hash sum = hash_of(bytes, SUM_OFFSET);
	memcpy(bytes + SUM_OFFSET, sum.bytes, HASH_SIZE);
	judge((struct slice){.data = bytes, .size = sizeof(bytes)});
	return 0;
}
