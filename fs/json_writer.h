/*
 * Writes one JSON value into a buffer, indented by two spaces a level or without any space.
 *
 * The caller calls in the order of the text: a key before each value of a map, a close for each
 * open. Memory is bounded by the buffer's ceiling, nesting by JSON_DEPTH_MAX. A writer whose OUT is
 * NULL writes nothing and still judges the depth: it validates.
 *
 * Every function: 0; -EFBIG too deep, or the buffer is full; -ENOMEM. After an error the text is
 * useless.
 */
#ifndef PROTOFS_FS_JSON_WRITER_H
#define PROTOFS_FS_JSON_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/slice.h"

enum { JSON_DEPTH_MAX = 128 };

struct json_writer {
	struct buf *out;
	bool pretty;
	unsigned depth; /* containers that are open */
	bool filled;    /* the innermost one has a value */
	bool after_key;
	bool too_deep; /* why the last call was -EFBIG */
};

enum json_container { JSON_MAP, JSON_ARRAY };

MUST_CHECK int json_open(struct json_writer *w, enum json_container kind);
MUST_CHECK int json_close(struct json_writer *w, enum json_container kind);

/* A value, or if KEY the key of the next value. TEXT is JSON text already: written as it is. */
MUST_CHECK int json_verbatim(struct json_writer *w, struct slice text, bool key);
/* UTF-8, in quotes, escaped where JSON asks for it and nowhere else. */
MUST_CHECK int json_string(struct json_writer *w, struct slice utf8, bool key);
/* Any bytes, as a string of base64 (RFC 4648, padded). */
MUST_CHECK int json_base64(struct json_writer *w, struct slice bytes, bool key);

/* The same from C. */
MUST_CHECK int json_text(struct json_writer *w, const char *json);
MUST_CHECK int json_key(struct json_writer *w, const char *name);
MUST_CHECK int json_name_string(struct json_writer *w, const char *name, const char *value);
MUST_CHECK int json_name_uint(struct json_writer *w, const char *name, uint64_t value);
MUST_CHECK int json_name_bool(struct json_writer *w, const char *name, bool value);

#endif
