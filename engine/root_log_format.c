/*
 * The directory `rootlog/`. Numbers are little-endian.
 *
 *   rootlog/<first>   records from seq <first> (20 digits) on; record n lies at (n - first) * 1024
 *   rootlog/kept      which records are given up
 *   rootlog/spare     zeros, to become the next file; no content
 *
 * A record, 1024 bytes, four to a block of the disk:
 *
 *   offset size
 *        0    4  magic "PfRt"
 *        4    4  version, 1
 *        8    8  seq
 *       16    8  time of publication, ns since 1970 UTC; never below the previous record's
 *       24   16  pointer: segment UUID
 *       40    8  pointer: offset
 *       48    4  node
 *       52    4  epoch
 *       56    4  flags; 1: lost, see below
 *       60    4  barriers, 0 to 16
 *       64    4  size of the payload, 0 to 512
 *       68    4  zero
 *       72   16  the hash of the record before (its bytes 112 to 127), zeros for seq 1
 *       88   16  of a lost record: what stands for its hash in the chain; else zeros
 *      104    8  zeros
 *      112   16  XXH3-128 of the 1024 bytes with this field zero
 *      128  384  16 times {segment UUID, u64 length}: must be durable, or the record means nothing
 *      512  512  payload, then zeros
 *
 * `kept`, 64 bytes:
 *        0    8  magic "rootkept"
 *        8    4  version, 1
 *       12    4  zero
 *       16    8  first seq that is kept; 1, or not above the next field
 *       24    8  acknowledged: the last seq when this file was written, all up to it durable
 *       32   16  zeros
 *       48   16  XXH3-128 of bytes 0 to 47
 *
 * Record n lies in the file with the greatest first <= n, and nowhere else: what an older file
 * holds in slots that belong to a newer one is ignored. It is valid if and only if magic, version,
 * counts and hash are right and its seq is n. A slot that was never written, or was cut, is all
 * zero.
 *
 * Reader: read `kept` and the names. In the newest file find the last valid record; none: the last
 * record is the one before that file's first, and must be valid. An invalid slot behind the last
 * valid record is a torn publication and dropped. An invalid slot with a valid record behind it, or
 * one up to `acknowledged`, is damage, as are files that leave a gap. If the barrier of the last
 * record is not met, the record is cut: its slot is zeroed durably.
 *
 * A lost record was put by repair where one could not be read any more: it has a seq and a time,
 * and nothing else. The hash that stands for its own is the one that the next record names, so the
 * chain goes on; its own previous hash is that of the record before, or what stands for it.
 *
 * Invariants:
 *  1. Record n + 1 is submitted only after the flush of n returned, so at most one slot is ever
 *     torn, the last.
 *  2. A slot that holds bytes of unknown state (a failed write or flush) is not written again by
 *     the process that met the failure: the log goes on in a new file that begins at that very seq,
 *     whose name is durable before its first record is. Where the process ends before that, the
 *     record may be there after all, as one may that was in flight when the power went.
 *  3. A block is written with what its older records are already, bit by bit: a torn write cannot
 *     hurt them.
 *  4. Seqs are dense, and each record names the hash of the one before: none can be exchanged or
 *     left out unseen.
 *  5. `kept` is replaced durably before any file is unlinked, and files go from the oldest on. The
 *     last record is never given up.
 *  6. A file is empty (all zero) when it gets its name.
 *  7. Before the first publication of a process the last record's block is written once more and
 *     flushed, and the directory is flushed: what we read may be in memory only, if the process
 *     before this one met a failed flush, and a record behind it would make damage of it.
 */
#include "engine/root_log_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/invariant.h"
#include "base/le.h"

enum {
	MAGIC = 0x74526650, /* "PfRt" */
	FLAGS_OFFSET = 56,
	FLAG_LOST = 1,
	PREVIOUS_OFFSET = 72,
	STANDS_FOR_OFFSET = 88,
	SUM_OFFSET = 112,
	BARRIER_OFFSET = 128,
	BARRIER_SIZE = 24,
	PAYLOAD_OFFSET = 512,
	KEPT_MAGIC_SIZE = 8,
	KEPT_SUM_OFFSET = ROOT_LOG_KEPT_SIZE - HASH_SIZE,
};

static const char kept_magic[KEPT_MAGIC_SIZE] = {'r', 'o', 'o', 't', 'k', 'e', 'p', 't'};

static struct hash record_sum(const uint8_t *bytes)
{
	uint8_t copy[ROOT_LOG_RECORD_SIZE];
	memcpy(copy, bytes, sizeof(copy));
	memset(copy + SUM_OFFSET, 0, HASH_SIZE);
	return hash_of(copy, sizeof(copy));
}

struct hash root_log_encode(const struct root_record *record, const struct hash *previous,
			    uint8_t bytes[static ROOT_LOG_RECORD_SIZE])
{
	const struct engine_root *root = &record->root;
	invariant(record->barrier_count <= ENGINE_ROOT_BARRIER_MAX);
	invariant(root->payload_size <= ENGINE_ROOT_PAYLOAD_MAX);

	memset(bytes, 0, ROOT_LOG_RECORD_SIZE);
	store_le32(bytes, MAGIC);
	store_le32(bytes + 4, ROOT_LOG_VERSION);
	store_le64(bytes + 8, root->seq);
	store_le64(bytes + 16, root->time_ns);
	memcpy(bytes + 24, root->pointer.segment.bytes, sizeof(root->pointer.segment.bytes));
	store_le64(bytes + 40, root->pointer.offset);
	store_le32(bytes + 48, root->node);
	store_le32(bytes + 52, record->epoch);
	store_le32(bytes + 60, record->barrier_count);
	store_le32(bytes + 64, root->payload_size);
	memcpy(bytes + PREVIOUS_OFFSET, previous->bytes, HASH_SIZE);
	for (unsigned i = 0; i < record->barrier_count; i++) {
		uint8_t *at = bytes + BARRIER_OFFSET + i * BARRIER_SIZE;
		memcpy(at, record->barrier[i].segment.bytes, sizeof(struct uuid));
		store_le64(at + sizeof(struct uuid), record->barrier[i].length);
	}
	memcpy(bytes + PAYLOAD_OFFSET, root->payload, root->payload_size);

	struct hash self = record_sum(bytes);
	memcpy(bytes + SUM_OFFSET, self.bytes, HASH_SIZE);
	return self;
}

void root_log_encode_lost(uint64_t seq, uint64_t time_ns, const struct hash *previous,
			  const struct hash *stands_for, uint8_t bytes[static ROOT_LOG_RECORD_SIZE])
{
	struct root_record record = {.root = {.seq = seq, .time_ns = time_ns}};
	(void)root_log_encode(&record, previous, bytes);
	store_le32(bytes + FLAGS_OFFSET, FLAG_LOST);
	memcpy(bytes + STANDS_FOR_OFFSET, stands_for->bytes, HASH_SIZE);
	struct hash sum = record_sum(bytes);
	memcpy(bytes + SUM_OFFSET, sum.bytes, HASH_SIZE);
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
	/* Equal to itself shifted by one, and the first is zero. */
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

int root_log_decode(struct slice in, struct root_log_entry *ret)
{
	struct slice bytes;
	int r = slice_take(&in, ROOT_LOG_RECORD_SIZE, &bytes);
	if (r < 0)
		return r;
	const uint8_t *p = bytes.data;
	if (load_le32(p) != MAGIC)
		return is_zero(p, bytes.size) ? -ENOENT : -EBADMSG;

	uint32_t barrier_count = load_le32(p + 60);
	uint32_t payload_size = load_le32(p + 64);
	uint64_t seq = load_le64(p + 8);
	struct hash self = record_sum(p);
	if (memcmp(self.bytes, p + SUM_OFFSET, HASH_SIZE) != 0 ||
	    load_le32(p + 4) != ROOT_LOG_VERSION || seq == 0 || seq > ROOT_LOG_SEQ_MAX ||
	    barrier_count > ENGINE_ROOT_BARRIER_MAX || payload_size > ENGINE_ROOT_PAYLOAD_MAX)
		return -EBADMSG;

	struct engine_root *root = &ret->record.root;
	*ret = (struct root_log_entry){.self = self};
	ret->lost = (load_le32(p + FLAGS_OFFSET) & FLAG_LOST) != 0;
	if (ret->lost)
		memcpy(ret->self.bytes, p + STANDS_FOR_OFFSET, HASH_SIZE);
	ret->record.epoch = load_le32(p + 52);
	ret->record.barrier_count = barrier_count;
	root->seq = seq;
	root->time_ns = load_le64(p + 16);
	memcpy(root->pointer.segment.bytes, p + 24, sizeof(root->pointer.segment.bytes));
	root->pointer.offset = load_le64(p + 40);
	root->node = load_le32(p + 48);
	root->payload_size = payload_size;
	memcpy(ret->previous.bytes, p + PREVIOUS_OFFSET, HASH_SIZE);
	for (unsigned i = 0; i < barrier_count; i++) {
		const uint8_t *at = p + BARRIER_OFFSET + i * BARRIER_SIZE;
		memcpy(ret->record.barrier[i].segment.bytes, at, sizeof(struct uuid));
		ret->record.barrier[i].length = load_le64(at + sizeof(struct uuid));
	}
	memcpy(root->payload, p + PAYLOAD_OFFSET, payload_size);
	return 0;
}

void root_log_encode_kept(const struct root_log_kept *kept,
			  uint8_t bytes[static ROOT_LOG_KEPT_SIZE])
{
	memset(bytes, 0, ROOT_LOG_KEPT_SIZE);
	memcpy(bytes, kept_magic, KEPT_MAGIC_SIZE);
	store_le32(bytes + 8, ROOT_LOG_VERSION);
	store_le64(bytes + 16, kept->first);
	store_le64(bytes + 24, kept->acknowledged);
	struct hash sum = hash_of(bytes, KEPT_SUM_OFFSET);
	memcpy(bytes + KEPT_SUM_OFFSET, sum.bytes, HASH_SIZE);
}

int root_log_decode_kept(struct slice in, struct root_log_kept *ret)
{
	struct slice bytes;
	int r = slice_take(&in, ROOT_LOG_KEPT_SIZE, &bytes);
	if (r < 0)
		return r;
	const uint8_t *p = bytes.data;
	struct hash sum = hash_of(p, KEPT_SUM_OFFSET);
	if (memcmp(p, kept_magic, KEPT_MAGIC_SIZE) != 0 ||
	    memcmp(p + KEPT_SUM_OFFSET, sum.bytes, HASH_SIZE) != 0 ||
	    load_le32(p + 8) != ROOT_LOG_VERSION)
		return -EBADMSG;

	struct root_log_kept kept = {
		.first = load_le64(p + 16),
		.acknowledged = load_le64(p + 24),
	};
	/* The last record is never given up: what is kept begins at an acknowledged one. */
	bool possible = kept.first == 1 || kept.first <= kept.acknowledged;
	if (kept.first == 0 || !possible || kept.acknowledged > ROOT_LOG_SEQ_MAX)
		return -EBADMSG;
	*ret = kept;
	return 0;
}

char *root_log_path(uint64_t first, char path[static ROOT_LOG_PATH_SIZE])
{
	(void)snprintf(path, ROOT_LOG_PATH_SIZE, ROOT_LOG_DIR "/%020" PRIu64, first);
	return path;
}

int root_log_parse_name(const char *name, uint64_t *ret)
{
	if (strlen(name) != ROOT_LOG_NAME_LENGTH)
		return -EINVAL;
	uint64_t value = 0;
	for (; *name; name++) {
		if (*name < '0' || *name > '9')
			return -EINVAL;
		uint64_t digit = (uint64_t)(*name - '0');
		if (value > (UINT64_MAX - digit) / 10)
			return -EINVAL;
		value = value * 10 + digit;
	}
	if (value == 0 || value > ROOT_LOG_SEQ_MAX)
		return -EINVAL;
	*ret = value;
	return 0;
}
