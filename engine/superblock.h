/*
 * What a store says about itself: its identity, its format and the features that it uses.
 *
 * Internal to the engine. The bytes are described at the top of superblock.c. The file `superblock`
 * counts; `protofs.conf` is its readable twin and is never read.
 */
#ifndef PROTOFS_ENGINE_SUPERBLOCK_H
#define PROTOFS_ENGINE_SUPERBLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "base/slice.h"
#include "base/uuid.h"
#include "engine/disk.h"

#define SUPERBLOCK_PATH "superblock"
#define SUPERBLOCK_CONF_PATH "protofs.conf"

enum {
	SUPERBLOCK_COPY_SIZE = 4096,
	SUPERBLOCK_COPY_COUNT = 2,
	SUPERBLOCK_SEED_SIZE = 16,
	SUPERBLOCK_VERSION = 1, /* the one that this program writes, and the newest that it reads */
};

/* The feature bits that this program knows. */
#define SUPERBLOCK_RO_COMPAT_CLONE ((uint64_t)1) /* another store's, not taken over */
#define SUPERBLOCK_RO_COMPAT_KNOWN SUPERBLOCK_RO_COMPAT_CLONE
/* Bytes of segments are elsewhere: who does not know of that takes them for lost. */
#define SUPERBLOCK_INCOMPAT_REMOTE ((uint64_t)1)
#define SUPERBLOCK_INCOMPAT_KNOWN SUPERBLOCK_INCOMPAT_REMOTE

struct superblock {
	uint32_t version;
	uint64_t compat;    /* unknown bits: ignored */
	uint64_t ro_compat; /* unknown bits: the store may be read, not written */
	uint64_t incompat;  /* unknown bits: the store is refused */
	struct uuid store;
	uint64_t block_size;
	uint32_t node;
	uint8_t seed[SUPERBLOCK_SEED_SIZE]; /* secret, of hash tables over names from outside */
	uint64_t created_ns;
	struct disk_identity
		identity; /* of the directory in which the store was made or taken over */

	/* Not stored; set by superblock_read, ignored by superblock_write. */
	bool read_only;      /* an unknown ro_compat bit is set */
	unsigned bad_copies; /* 0, or 1: the other one was used; superblock_write mends it */
};

/*
 * Fills RET for a new store on DISK: the current version, a random UUID and seed, DISK's identity.
 * The errors of getrandom(2) and of the disk.
 */
MUST_CHECK int superblock_init(struct disk *disk, uint64_t block_size, uint32_t node,
			       uint64_t created_ns, struct superblock *ret);

/*
 * Replaces the file, both copies, atomically and durably, then protofs.conf. A crash leaves the old
 * file or the new one. Returns 0 or the disk's error; ERR names the file.
 */
MUST_CHECK int superblock_write(struct disk *disk, const struct superblock *sb, struct reterr *err);

/*
 * Reads the first copy that verifies.
 * -ENOENT  there is no such file: no store; ERR names `protofs init`
 * -EBADMSG neither copy verifies; ERR says what is wrong with each
 * -ENOTSUP a newer version or unknown incompat bits; ERR names both versions or the bits. RET is
 * set.
 */
MUST_CHECK int superblock_read(struct disk *disk, struct superblock *ret, struct reterr *err);

/*
 * 0 or -ENOENT as above, whatever is in it: asked before the lock is taken, whose file would otherwise be left in a
 * directory that is no store.
 */
MUST_CHECK int superblock_is_there(struct disk *disk, struct reterr *err);

/*
 * The codec of one copy. superblock_decode: 0, -ENODATA short, -EBADMSG, or -ENOTSUP with RET set.
 */
void superblock_encode(const struct superblock *sb, uint8_t bytes[static SUPERBLOCK_COPY_SIZE]);
MUST_CHECK int superblock_decode(struct slice in, struct superblock *ret, struct reterr *err);

#endif
