/*
 * What `protofs put` reads an atom from: a file, or standard input under the name "-". JSON and
 * MessagePack are checked on the way, so that no atom calls itself what it is not.
 */
#ifndef PROTOFS_CMD_SOURCE_H
#define PROTOFS_CMD_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/reterr.h"

struct json_check;

struct source {
	const char *name; /* borrowed */
	int fd;
	uint8_t format; /* enum ENGINE_FORMAT_* */
	bool checked;   /* by source_check */
	bool sized;     /* a regular file: SIZE is known, and bytes can be read twice */
	uint64_t size;
	uint64_t at;             /* read so far by source_next */
	struct json_check *json; /* the check, of JSON */
	struct buf seen;         /* all bytes so far, of MessagePack */
};

/* -errno of open(2); -EISDIR. ERR says it in words, here and below. */
MUST_CHECK int source_open(const char *name, uint8_t format, struct source *ret,
			   struct reterr *err);
void source_close(struct source *source); /* accepts a zeroed one */

/*
 * The next bytes, at most SIZE; RET is 0 at the end. -EINVAL they are not of the format; -EIO and
 * other errors of read(2); -EINTR a signal.
 */
MUST_CHECK int source_next(struct source *source, void *data, size_t size, size_t *ret,
			   struct reterr *err);

/*
 * Checks all of a sized source and begins again at its first byte; source_next then checks no
 * more. -EINVAL as above.
 */
MUST_CHECK int source_check(struct source *source, struct reterr *err);

/* Exactly SIZE bytes at OFFSET of a sized source. -ENODATA it became shorter. No check. */
MUST_CHECK int source_read_at(struct source *source, void *data, size_t size, uint64_t offset);

#endif
