/*
 * Reads MessagePack one header at a time, through a checked cursor.
 *
 * Why not msgpack-c: its unpacker allocates what an array's header claims (16 bytes for each of up
 * to 2^32 elements) before it has seen one of them, and gives up beyond 32 levels. Nothing is
 * allocated here.
 */
#ifndef PROTOFS_FS_MSGPACK_READER_H
#define PROTOFS_FS_MSGPACK_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/slice.h"

enum msgpack_kind {
	MSGPACK_KIND_NIL,
	MSGPACK_KIND_BOOL,
	MSGPACK_KIND_UINT,
	MSGPACK_KIND_INT, /* negative */
	MSGPACK_KIND_FLOAT32,
	MSGPACK_KIND_FLOAT64,
	MSGPACK_KIND_STRING,
	MSGPACK_KIND_BINARY,
	MSGPACK_KIND_EXT,
	MSGPACK_KIND_ARRAY, /* COUNT values follow */
	MSGPACK_KIND_MAP,   /* COUNT pairs of key and value follow */
};

struct msgpack_item {
	enum msgpack_kind kind;
	bool boolean;
	uint64_t unsigned_value;
	int64_t signed_value;
	float float32;
	double float64;
	uint64_t data_size; /* of strings, binaries and ext: bytes that follow the header */
	struct slice data;  /* they, if msgpack_take() took them */
	int8_t ext_type;
	uint32_t count;
};

enum { MSGPACK_HEADER_MAX = 9 };

/*
 * Takes the header of one item: what follows it is data_size bytes or COUNT items. IN moves only on
 * success.
 * -ENODATA IN ends within it; -EBADMSG no item begins with this byte (0xc1)
 */
MUST_CHECK int msgpack_take_header(struct slice *in, struct msgpack_item *ret);

/* The same with the data, which must be there. */
MUST_CHECK int msgpack_take(struct slice *in, struct msgpack_item *ret);

#endif
