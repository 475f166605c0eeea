/*
 * The file `superblock`: 8192 bytes, two equal copies, at 0 and at 4096. Numbers are little-endian.
 *
 *   offset size
 *        0    8  magic "protofs\0"
 *        8    4  format version, 1
 *       12    4  node
 *       16    8  compat      feature bits: unknown ones are ignored
 *       24    8  ro_compat   unknown ones: the store is read, never written
 *       32    8  incompat    unknown ones: the store is refused
 *       40   16  store UUID
 *       56    8  block size, bytes
 *       64   16  secret hash seed
 *       80    8  creation, nanoseconds since 1970 UTC
 *       88    8  inode of the store's directory when it was made or taken over
 *       96   16  machine-id of the machine at that time
 *      112 3968  reserved: written as zeros, not judged by a reader
 *     4080   16  XXH3-128 of bytes 0 to 4079
 *
 * A copy is valid if and only if its magic and its checksum match; magic, version and checksum lie
 * at the same place in every version. It can be used if also its version is known, no unknown
 * incompat bit is set and the block size is one that the engine can have.
 *
 * Reader: take copy 0 if it is valid, else copy 1, else the store is damaged. Only then look at the
 * version: a rotted copy must not read as a newer one.
 *
 * Invariants:
 *  1. The file is replaced as a whole (temporary name, flush, rename, flush of the directory), so a
 *     crash never leaves half of it; the second copy is there for a sector that rots.
 *  2. Nothing in the store is believed before the superblock was.
 *  3. Copies that are both valid but differ cannot come from invariant 1; copy 0 counts, the other
 *     one is a bad copy.
 *
 * protofs.conf is written after it, from the same struct, without the seed, and never read.
 */
#include "engine/superblock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/invariant.h"
#include "base/le.h"
#include "engine/engine.h"

enum {
	MAGIC_SIZE = 8,
	SUM_OFFSET = SUPERBLOCK_COPY_SIZE - HASH_SIZE,
	FILE_SIZE = SUPERBLOCK_COPY_SIZE * SUPERBLOCK_COPY_COUNT,
	CONF_SIZE_MAX = 4096,
};

static const char magic[MAGIC_SIZE] = "protofs";

void superblock_encode(const struct superblock *sb, uint8_t bytes[static SUPERBLOCK_COPY_SIZE])
{
	memset(bytes, 0, SUPERBLOCK_COPY_SIZE);
	memcpy(bytes, magic, MAGIC_SIZE);
	store_le32(bytes + 8, sb->version);
	store_le32(bytes + 12, sb->node);
	store_le64(bytes + 16, sb->compat);
	store_le64(bytes + 24, sb->ro_compat);
	store_le64(bytes + 32, sb->incompat);
	memcpy(bytes + 40, sb->store.bytes, sizeof(sb->store.bytes));
	store_le64(bytes + 56, sb->block_size);
	memcpy(bytes + 64, sb->seed, sizeof(sb->seed));
	store_le64(bytes + 80, sb->created_ns);
	store_le64(bytes + 88, sb->identity.inode);
	memcpy(bytes + 96, sb->identity.machine, sizeof(sb->identity.machine));

	struct hash sum = hash_of(bytes, SUM_OFFSET);
	memcpy(bytes + SUM_OFFSET, sum.bytes, HASH_SIZE);
}

/* Magic and checksum; then whatever a version may have put there. */
static int check_copy(struct slice in, struct slice *ret, struct reterr *err)
{
	struct slice copy;
	int r = slice_take(&in, SUPERBLOCK_COPY_SIZE, &copy);
	if (r < 0)
		return reterr_set(err, r, "it is short: %zu bytes", in.size);
	if (memcmp(copy.data, magic, MAGIC_SIZE) != 0)
		return reterr_set(err, -EBADMSG, "no magic number");

	struct hash sum = hash_of(copy.data, SUM_OFFSET);
	if (memcmp(sum.bytes, copy.data + SUM_OFFSET, HASH_SIZE) != 0)
		return reterr_set(err, -EBADMSG, "its checksum does not match");
	*ret = copy;
	return 0;
}

static int check_features(const struct superblock *sb, struct reterr *err)
{
	if (sb->version == 0 || sb->version > SUPERBLOCK_VERSION)
		return reterr_set(err, -ENOTSUP,
				  "the store has format version %" PRIu32
				  ", this program knows version %d only: use a newer protofs",
				  sb->version, SUPERBLOCK_VERSION);

	uint64_t unknown = sb->incompat & ~SUPERBLOCK_INCOMPAT_KNOWN;
	if (unknown)
		return reterr_set(err, -ENOTSUP,
				  "the store uses features that this program does not know "
				  "(incompat bits 0x%" PRIx64 "): use a newer protofs",
				  unknown);

	if (sb->block_size < ENGINE_BLOCK_SIZE_MIN || sb->block_size > ENGINE_BLOCK_SIZE_MAX ||
	    sb->block_size % ENGINE_BLOCK_SIZE_MIN != 0)
		return reterr_set(err, -EBADMSG, "the block size %" PRIu64 " is none",
				  sb->block_size);
	return 0;
}

int superblock_decode(struct slice in, struct superblock *ret, struct reterr *err)
{
	struct slice copy;
	int r = check_copy(in, &copy, err);
	if (r < 0)
		return r;

	const uint8_t *bytes = copy.data;
	struct superblock sb = {
		.version = load_le32(bytes + 8),
		.node = load_le32(bytes + 12),
		.compat = load_le64(bytes + 16),
		.ro_compat = load_le64(bytes + 24),
		.incompat = load_le64(bytes + 32),
		.block_size = load_le64(bytes + 56),
		.created_ns = load_le64(bytes + 80),
		.identity.inode = load_le64(bytes + 88),
	};
	memcpy(sb.store.bytes, bytes + 40, sizeof(sb.store.bytes));
	memcpy(sb.seed, bytes + 64, sizeof(sb.seed));
	memcpy(sb.identity.machine, bytes + 96, sizeof(sb.identity.machine));
	sb.read_only = (sb.ro_compat & ~SUPERBLOCK_RO_COMPAT_KNOWN) != 0;

	r = check_features(&sb, err);
	if (r == 0 || r == -ENOTSUP)
		*ret = sb;
	return r;
}

int superblock_init(struct disk *disk, uint64_t block_size, uint32_t node, uint64_t created_ns,
		    struct superblock *ret)
{
	struct superblock sb = {
		.version = SUPERBLOCK_VERSION,
		.block_size = block_size,
		.node = node,
		.created_ns = created_ns,
	};

	/* Up to 256 bytes come whole or not at all (getrandom(2)). */
	if (getrandom(sb.seed, sizeof(sb.seed), 0) != (ssize_t)sizeof(sb.seed))
		return errno ? -errno : -EIO;
	int r = uuid_random(&sb.store);
	if (r < 0)
		return r;
	r = disk->ops->identity(disk, &sb.identity);
	if (r < 0)
		return r;
	*ret = sb;
	return 0;
}

static int format_time(uint64_t time_ns, struct buf *conf)
{
	time_t seconds = (time_t)(time_ns / 1000000000);
	struct tm tm;
	char text[40];
	if (!gmtime_r(&seconds, &tm) ||
	    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		return buf_printf(conf, "created = %" PRIu64 " ns\n", time_ns);
	return buf_printf(conf, "created = %s\n", text);
}

static int write_conf(struct disk *disk, const struct superblock *sb)
{
	CLEANUP(buf_done) struct buf conf = {.max = CONF_SIZE_MAX};
	char store[UUID_TEXT_LENGTH + 1];
	char machine[2 * sizeof(sb->identity.machine) + 1];

	for (size_t i = 0; i < sizeof(sb->identity.machine); i++)
		(void)snprintf(machine + 2 * i, 3, "%02x", sb->identity.machine[i]);

	int r = buf_printf(
		&conf,
		"# What the binary file `superblock` beside this one says. For readers only:\n"
		"# protofs writes this file and never reads it; the binary counts.\n"
		"# docs/FORMAT.md describes every file of a store.\n"
		"version = %" PRIu32 "\n"
		"store = %s\n"
		"block_size = %" PRIu64 "\n"
		"node = %" PRIu32 "\n",
		sb->version, uuid_format(&sb->store, store), sb->block_size, sb->node);
	if (r < 0)
		return r;
	r = format_time(sb->created_ns, &conf);
	if (r < 0)
		return r;
	r = buf_printf(
		&conf,
		"compat = 0x%" PRIx64 "\n"
		"ro_compat = 0x%" PRIx64 "\n"
		"incompat = 0x%" PRIx64 "\n"
		"# Where it was made or last taken over; a copy elsewhere is read-only until\n"
		"# it is taken over.\n"
		"inode = %" PRIu64 "\n"
		"machine = %s\n",
		sb->compat, sb->ro_compat, sb->incompat, sb->identity.inode, machine);
	if (r < 0)
		return r;
	return disk_replace_file(disk, "", SUPERBLOCK_CONF_PATH, conf.data, conf.size);
}

int superblock_write(struct disk *disk, const struct superblock *sb, struct reterr *err)
{
	uint8_t bytes[FILE_SIZE];
	superblock_encode(sb, bytes);
	memcpy(bytes + SUPERBLOCK_COPY_SIZE, bytes, SUPERBLOCK_COPY_SIZE);

	int r = disk_replace_file(disk, "", SUPERBLOCK_PATH, bytes, sizeof(bytes));
	if (r < 0)
		return reterr_set(err, r, "cannot write %s: %s", SUPERBLOCK_PATH, strerror(-r));
	r = write_conf(disk, sb);
	if (r < 0)
		return reterr_set(err, r, "cannot write %s: %s", SUPERBLOCK_CONF_PATH,
				  strerror(-r));
	return 0;
}

/* The file's bytes, as far as it goes: a short one reads as short copies. */
static int read_bytes(struct disk *disk, uint8_t bytes[static FILE_SIZE], size_t *ret_size,
		      struct reterr *err)
{
	struct disk_file *file;
	int r = disk_open(disk, SUPERBLOCK_PATH, DISK_READ, &file);
	if (r == -ENOENT)
		return reterr_set(err, r,
				  "there is no file %s here, so this is not a protofs store: "
				  "`protofs init` makes one",
				  SUPERBLOCK_PATH);
	if (r < 0)
		return reterr_set(err, r, "cannot open %s: %s", SUPERBLOCK_PATH, strerror(-r));

	r = disk_read(file, bytes, FILE_SIZE, 0, ret_size);
	disk_close(file);
	if (r < 0)
		return reterr_set(err, r, "cannot read %s: %s", SUPERBLOCK_PATH, strerror(-r));
	return 0;
}

int superblock_is_there(struct disk *disk, struct reterr *err)
{
	struct superblock sb;
	struct reterr why = {0};
	int r = superblock_read(disk, &sb, &why);
	return r == -ENOENT ? reterr_set(err, r, "%s", why.text) : 0;
}

int superblock_read(struct disk *disk, struct superblock *ret, struct reterr *err)
{
	uint8_t bytes[FILE_SIZE];
	size_t size = 0;
	int r = read_bytes(disk, bytes, &size, err);
	if (r < 0)
		return r;

	struct slice rest = {.data = bytes, .size = size};
	struct slice copies[SUPERBLOCK_COPY_COUNT] = {{0}};
	struct slice valid[SUPERBLOCK_COPY_COUNT];
	struct reterr why[SUPERBLOCK_COPY_COUNT] = {{0}};
	int result[SUPERBLOCK_COPY_COUNT];
	for (unsigned i = 0; i < SUPERBLOCK_COPY_COUNT; i++) {
		if (slice_take(&rest, SUPERBLOCK_COPY_SIZE, &copies[i]) < 0) {
			copies[i] = rest;
			rest.size = 0;
		}
		result[i] = check_copy(copies[i], &valid[i], &why[i]);
	}
	if (result[0] < 0 && result[1] < 0)
		return reterr_set(
			err, -EBADMSG,
			"%s is damaged: the copy at byte 0: %.100s; the copy at byte %d: %.100s",
			SUPERBLOCK_PATH, why[0].text, SUPERBLOCK_COPY_SIZE, why[1].text);

	struct superblock sb;
	r = superblock_decode(copies[result[0] < 0 ? 1 : 0], &sb, err);
	if (r < 0 && r != -ENOTSUP)
		return r;
	sb.bad_copies = result[0] < 0 || result[1] < 0 ||
			memcmp(copies[0].data, copies[1].data, SUPERBLOCK_COPY_SIZE) != 0;
	*ret = sb;
	return r;
}
