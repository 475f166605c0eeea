/*
 * Atoms as JSON for people: what atoms/<uuid>/<offset>.json and `protofs cat --json` show.
 *
 *   JSON         the same text, indented by two spaces. Numbers and strings stay as they were written,
 *                byte by byte; keys keep their order, repeated ones included.
 *   MessagePack  integers exactly, floats as the shortest text that reads back to the same value
 *                (with ".0" where it would look like an integer), NaN and the infinities, for which
 *                JSON has nothing, as the strings "NaN", "Infinity" and "-Infinity"; binary as a
 *                string of base64, and so a "string" that is not UTF-8, as old encoders wrote bytes;
 *                ext as {"ext": <type>, "data": "<base64>"}. A key that is no string becomes its JSON
 *                text: 5 is "5", [1,2] is "[1,2]".
 *   raw          {"raw": "<base64>"}, whatever the bytes are: a shape that depends on the content would
 *                surprise scripts, and the payload itself is beside it.
 *   other        {"format": <number>, "data": "<base64>"}
 *
 * The text ends with a newline.
 */
#ifndef PROTOFS_FS_RENDER_H
#define PROTOFS_FS_RENDER_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/reterr.h"
#include "base/slice.h"

#define RENDER_PAYLOAD_MAX ((size_t)16 << 20)
#define RENDER_TEXT_MAX ((size_t)64 << 20)

/*
 * Appends the text of PAYLOAD, of the given FORMAT, to OUT, whose max bounds it (RENDER_TEXT_MAX is
 * the limit of the mount). OUT may be NULL: the payload is only judged.
 * -EBADMSG the payload is not of its format; ERR names the byte and what is wrong there
 * -EFBIG   it is larger than RENDER_PAYLOAD_MAX, nested deeper than 128, or its text exceeds OUT's max
 * -ENOMEM
 */
MUST_CHECK int render_atom(uint8_t format, struct slice payload, struct buf *out,
			   struct reterr *err);

/* "raw", "json", "msgpack", "small-file", "unknown": the value of user.protofs.format. */
const char *render_format_name(uint8_t format);

#endif
