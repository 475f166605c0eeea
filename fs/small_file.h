/*
 * The payload of a frame of format 0x87: one change to the small files of space/, as MessagePack.
 *
 *   {"op": str, "seq": uint, "name": str, "mode": uint, "mtime": int, "content": bin}
 *
 *   "set"     the file NAME has MODE (9 bits), MTIME (ns since 1970) and CONTENT, whatever it was
 *             before
 *   "unlink"  there is no file NAME
 *   "rename"  the file NAME is called what CONTENT says, and replaces a file of that name
 *   "reset"   all before SEQ = CONTENT (8 bytes, little-endian) is void: written behind a copy
 *             of all files that begins at that SEQ, so that half a copy changes nothing
 *
 * SEQ grows by one with each change; the changes of a store are one sequence over all its segments.
 * A payload is valid if and only if it is exactly one such map, with the six keys in this order,
 * and within the limits below.
 */
#ifndef PROTOFS_FS_SMALL_FILE_H
#define PROTOFS_FS_SMALL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/reterr.h"
#include "base/slice.h"

enum {
	SMALL_FILE_NAME_MAX = 255,
	SMALL_FILE_SIZE_MAX = 1 << 20,
	SMALL_FILE_PREFIX_MAX = 512,
	SMALL_FILE_PAYLOAD_MAX = SMALL_FILE_PREFIX_MAX + SMALL_FILE_SIZE_MAX,
};

enum small_file_op {
	SMALL_FILE_SET,
	SMALL_FILE_UNLINK,
	SMALL_FILE_RENAME,
	SMALL_FILE_RESET,
};

struct small_file_change {
	enum small_file_op op;
	uint64_t seq;
	char name[SMALL_FILE_NAME_MAX + 1];
	uint32_t mode;
	int64_t mtime_ns;
	struct slice content; /* borrowed from the payload */
};

/*
 * Appends to PREFIX all of the payload but the bytes of the content, which follow it. -ENOMEM,
 * -EFBIG;
 * -EINVAL a name or content that is too long.
 */
MUST_CHECK int small_file_encode(const struct small_file_change *change, struct buf *prefix);

/* -EBADMSG, with ERR saying what is wrong. */
MUST_CHECK int small_file_decode(struct slice payload, struct small_file_change *ret,
				 struct reterr *err);

/*
 * A name that a file may have: not empty, no '/', not "." or "..", at most SMALL_FILE_NAME_MAX
 * bytes.
 */
bool small_file_name_ok(const char *name, size_t length);

#endif
