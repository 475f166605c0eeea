/*
 * A shared root, 512 bytes, little-endian:
 *
 *   offset size
 *        0    8  magic "protoclu"
 *        8    4  version, 1
 *       12    4  node
 *       16    8  seq
 *       24   16  pointer: segment UUID
 *       40    8  pointer: offset
 *       48    8  time, ns since 1970 UTC
 *       56   16  nonce
 *       72    4  acknowledged lengths, 0 to 16
 *       76    4  zero
 *       80  384  16 times {segment UUID, u64 length}
 *      464   32  zeros
 *      496   16  XXH3-128 of bytes 0 to 495
 *
 * Valid if and only if magic, version, count and checksum are right and seq is not 0.
 */
#include "cluster/root_log_codec.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/hash.h"
#include "base/invariant.h"
#include "base/le.h"

enum {
	MAGIC_SIZE = 8,
	VERSION = 1,
	NONCE_OFFSET = 56,
	ACKED_OFFSET = 80,
	ACKED_SIZE = 24,
	SUM_OFFSET = SHARED_ROOT_SIZE - HASH_SIZE,
};

static const char magic[MAGIC_SIZE] = {'p', 'r', 'o', 't', 'o', 'c', 'l', 'u'};

void shared_root_encode(const struct shared_root *root, uint8_t bytes[static SHARED_ROOT_SIZE])
{
	invariant(root->acked_count <= SHARED_ROOT_ACKED_MAX);
	memset(bytes, 0, SHARED_ROOT_SIZE);
	memcpy(bytes, magic, MAGIC_SIZE);
	store_le32(bytes + 8, VERSION);
	store_le32(bytes + 12, root->node);
	store_le64(bytes + 16, root->seq);
	memcpy(bytes + 24, root->segment.bytes, sizeof(root->segment.bytes));
	store_le64(bytes + 40, root->offset);
	store_le64(bytes + 48, root->time_ns);
	memcpy(bytes + NONCE_OFFSET, root->nonce, sizeof(root->nonce));
	store_le32(bytes + 72, root->acked_count);
	for (unsigned i = 0; i < root->acked_count; i++) {
		uint8_t *at = bytes + ACKED_OFFSET + i * ACKED_SIZE;
		memcpy(at, root->acked[i].segment.bytes, sizeof(struct uuid));
		store_le64(at + sizeof(struct uuid), root->acked[i].length);
	}
	struct hash sum = hash_of(bytes, SUM_OFFSET);
	memcpy(bytes + SUM_OFFSET, sum.bytes, HASH_SIZE);
}

int shared_root_decode(struct slice in, struct shared_root *ret)
{
	struct slice bytes;
	int r = slice_take(&in, SHARED_ROOT_SIZE, &bytes);
	if (r < 0)
		return r;
	const uint8_t *p = bytes.data;
	struct hash sum = hash_of(p, SUM_OFFSET);
	struct shared_root root = {
		.node = load_le32(p + 12),
		.seq = load_le64(p + 16),
		.offset = load_le64(p + 40),
		.time_ns = load_le64(p + 48),
		.acked_count = load_le32(p + 72),
	};
	if (memcmp(p, magic, MAGIC_SIZE) != 0 || load_le32(p + 8) != VERSION ||
	    memcmp(sum.bytes, p + SUM_OFFSET, HASH_SIZE) != 0 || root.seq == 0 ||
	    root.acked_count > SHARED_ROOT_ACKED_MAX)
		return -EBADMSG;

	memcpy(root.segment.bytes, p + 24, sizeof(root.segment.bytes));
	memcpy(root.nonce, p + NONCE_OFFSET, sizeof(root.nonce));
	for (unsigned i = 0; i < root.acked_count; i++) {
		const uint8_t *at = p + ACKED_OFFSET + i * ACKED_SIZE;
		memcpy(root.acked[i].segment.bytes, at, sizeof(struct uuid));
		root.acked[i].length = load_le64(at + sizeof(struct uuid));
	}
	*ret = root;
	return 0;
}

int shared_root_check(uint64_t expected, const struct shared_root *next, struct reterr *err)
{
	if (expected == UINT64_MAX || next->seq != expected + 1)
		return reterr_set(err, -EINVAL, "root %" PRIu64 " cannot follow root %" PRIu64,
				  next->seq, expected);
	if (next->acked_count > SHARED_ROOT_ACKED_MAX)
		return reterr_set(err, -EINVAL, "a root names %u lengths at most",
				  SHARED_ROOT_ACKED_MAX);
	return 0;
}
