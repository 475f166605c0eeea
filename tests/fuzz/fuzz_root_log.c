/*
 * Root logs: any bytes as the first file. The first byte of the input says how much is put right
 * beforehand, so that what lies behind the checksums is reached: 1 the sums, 2 the seqs, 4 the
 * chain, 8 `kept` is the input's last 64 bytes. Whatever is opened can be read to its end, and if
 * it is not damaged it goes on.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/invariant.h"
#include "base/le.h"
#include "engine/root_log_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FIX_SUMS = 1, FIX_SEQS = 2, FIX_CHAIN = 4, FUZZ_KEPT = 8, RECORDS_MAX = 64 };
enum { SUM_OFFSET = 112, PREVIOUS_OFFSET = 72 };

static void fix_record(uint8_t *bytes, uint64_t seq, struct hash *previous, unsigned how)
{
	if (how & FIX_SEQS)
		store_le64(bytes + 8, seq);
	if (how & FIX_CHAIN)
		memcpy(bytes + PREVIOUS_OFFSET, previous->bytes, HASH_SIZE);
	if (how & FIX_SUMS && bytes[ROOT_LOG_RECORD_SIZE - 1] % 4 != 3) {
		memset(bytes + SUM_OFFSET, 0, HASH_SIZE);
		struct hash sum = hash_of(bytes, ROOT_LOG_RECORD_SIZE);
		memcpy(bytes + SUM_OFFSET, sum.bytes, HASH_SIZE);
	}
	memcpy(previous->bytes, bytes + SUM_OFFSET, HASH_SIZE);
}

static void write_file(struct disk *disk, const char *path, const uint8_t *bytes, size_t size)
{
	struct disk_file *file;
	invariant(disk_open(disk, path, DISK_WRITE | DISK_CREATE | DISK_REPLACE, &file) == 0);
	if (size)
		invariant(disk_write_flush(file, bytes, size, 0) == 0);
	disk_close(file);
}

static void write_log(struct disk *disk, const uint8_t *data, size_t size, unsigned how)
{
	char path[ROOT_LOG_PATH_SIZE];
	struct hash previous = {{0}};
	uint8_t *bytes = malloc(size + 1);
	invariant(bytes && root_log_create(disk) == 0);
	if (how & FUZZ_KEPT && size >= ROOT_LOG_KEPT_SIZE) {
		size -= ROOT_LOG_KEPT_SIZE;
		memcpy(bytes, data + size, ROOT_LOG_KEPT_SIZE);
		if (how & FIX_SUMS) {
			struct hash sum = hash_of(bytes, ROOT_LOG_KEPT_SIZE - HASH_SIZE);
			memcpy(bytes + ROOT_LOG_KEPT_SIZE - HASH_SIZE, sum.bytes, HASH_SIZE);
		}
		write_file(disk, ROOT_LOG_KEPT_PATH, bytes, ROOT_LOG_KEPT_SIZE);
	}
	if (size)
		memcpy(bytes, data, size);
	for (uint64_t i = 0; (i + 1) * ROOT_LOG_RECORD_SIZE <= size; i++)
		fix_record(bytes + i * ROOT_LOG_RECORD_SIZE, i + 1, &previous, how);
	write_file(disk, root_log_path(1, path), bytes, size);
	free(bytes);
}

/* Every kept record is there or is reported. */
static void read_all(struct root_log *log)
{
	uint64_t first, last, unreadable = 0;
	struct root_record record;
	struct root_log_checked checked;
	root_log_range(log, &first, &last);
	for (uint64_t seq = first; seq != 0 && seq <= last; seq++) {
		int r = root_log_get(log, seq, &record);
		invariant(r == 0 || r == -EBADMSG || r == -ENOENT); /* the last: a lost one */
		unreadable += r == -EBADMSG;
		invariant(r != 0 || record.root.seq == seq);
		invariant(r != 0 || record.root.payload_size <= ENGINE_ROOT_PAYLOAD_MAX);
		invariant(r != 0 || record.barrier_count <= ENGINE_ROOT_BARRIER_MAX);
	}
	invariant(root_log_check(log, true, NULL, NULL, &checked) == 0);
	invariant(checked.problems >= unreadable);
	int r = root_log_since(log, 1, &record);
	invariant(r == 0 || r == -ENOENT);
}

static int open_log(struct disk *disk, bool read_only, struct root_log **ret)
{
	struct reterr err = {0};
	int r = root_log_open(disk, read_only, &err, ret);
	invariant(r == 0 || r == -EBADMSG);
	invariant(*ret && (r == 0 || (err.code == r && err.text[0])));
	return r;
}

static uint64_t last_of(struct root_log *log)
{
	struct root_record record;
	return root_log_last(log, &record) == 0 ? record.root.seq : 0;
}

static void publish(struct disk *disk, struct root_log *log, uint64_t seq)
{
	struct root_record record = {.root = {.seq = seq, .time_ns = UINT64_MAX}};
	struct disk_job job;
	invariant(root_log_prepare(log, &record, &job) == 0);
	invariant(disk_commit(disk, &job, 1) == 0);
	root_log_done(log, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct disk *disk;
	struct root_log *log;
	if (size == 0 || size > RECORDS_MAX * ROOT_LOG_RECORD_SIZE)
		return 0;
	invariant(disk_memory_new(64 << 20, &disk) == 0);
	write_log(disk, data + 1, size - 1, data[0]);

	int r = open_log(disk, true, &log);
	read_all(log);
	root_log_close(log);
	bool damaged = r != 0;
	invariant(open_log(disk, false, &log) == r);
	if (r == 0) {
		uint64_t last = last_of(log);
		publish(disk, log, last + 1);
		root_log_close(log);
		invariant(open_log(disk, false, &log) == 0);
		invariant(last_of(log) == last + 1);
		r = root_log_cut_last(log, NULL);
		invariant(last_of(log) == (r == 0 ? last : last + 1));
		read_all(log);
	}
	root_log_close(log);

	/* What cannot be opened without complaint can be repaired, unless nothing is left. */
	if (damaged && root_log_repair(disk, NULL, NULL, NULL) == 0) {
		invariant(open_log(disk, false, &log) == 0);
		publish(disk, log, last_of(log) + 1);
		read_all(log);
		root_log_close(log);
	}
	disk_free(disk);
	return 0;
}
