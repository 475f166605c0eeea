#include "fs/format_check.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include <yajl/yajl_parse.h>

#include "base/slice.h"
#include "engine/engine.h"
#include "fs/json_writer.h"
#include "fs/msgpack_reader.h"
#include "fs/utf8.h"

enum { WINDOW_SIZE = 64 << 10, TOKEN_MAX = 16 << 20, UTF8_LENGTH_MAX = 4 };

/* The payload, through a window that moves forward. */
struct window {
	format_source_fn *read;
	void *arg;
	uint64_t size; /* of the payload */
	uint64_t next; /* offset of the byte behind the window */
	struct slice bytes;
	uint8_t data[WINDOW_SIZE];
};

/* Bytes that are left in the window go to its front, and what fits is read behind them. */
MUST_CHECK static int window_fill(struct window *w)
{
	size_t kept = w->bytes.size;
	if (kept > 0)
		memmove(w->data, w->bytes.data, kept);
	uint64_t rest = w->size - w->next;
	size_t more = rest < WINDOW_SIZE - kept ? (size_t)rest : WINDOW_SIZE - kept;
	int r = more > 0 ? w->read(w->arg, w->data + kept, more, w->next) : 0;
	if (r < 0)
		return r;
	w->next += more;
	w->bytes = (struct slice){.data = w->data, .size = kept + more};
	return 0;
}

/* ---- JSON ----------------------------------------------------------------------------------- */

/*
 * yajl keeps a byte for each level and the whole of a token that lies across pieces. What it sees is
 * therefore looked at before: bounds on both.
 */
struct json_bounds {
	unsigned depth;
	bool in_string, escaped;
	size_t token; /* bytes of the token so far */
};

static bool is_structure(uint8_t c)
{
	return c == '{' || c == '}' || c == '[' || c == ']' || c == ',' || c == ':' || c == ' ' ||
	       c == '\t' || c == '\n' || c == '\r';
}

static void json_step_string(struct json_bounds *b, uint8_t c)
{
	if (b->escaped)
		b->escaped = false;
	else if (c == '\\')
		b->escaped = true;
	else if (c == '"')
		b->in_string = false;
}

static void json_step(struct json_bounds *b, uint8_t c)
{
	b->token++;
	if (b->in_string) {
		json_step_string(b, c);
		return;
	}
	b->in_string = c == '"';
	if (is_structure(c))
		b->token = 0;
	if (c == '{' || c == '[')
		b->depth++;
	else if ((c == '}' || c == ']') && b->depth > 0)
		b->depth--;
}

MUST_CHECK static int json_within_bounds(struct json_bounds *b, struct slice bytes)
{
	for (size_t i = 0; i < bytes.size; i++) {
		json_step(b, bytes.data[i]);
		if (b->depth > JSON_DEPTH_MAX || b->token > TOKEN_MAX)
			return -EFBIG;
	}
	return 0;
}

/* The window up to where a character is cut off by its end; -EBADMSG not UTF-8. */
MUST_CHECK static int take_utf8(struct window *w, struct slice *ret)
{
	size_t good;
	bool last = w->next == w->size;
	if (!utf8_valid(w->bytes, &good) && (last || w->bytes.size - good >= UTF8_LENGTH_MAX))
		return -EBADMSG;
	return slice_take(&w->bytes, good, ret);
}

MUST_CHECK static int check_json(struct window *w)
{
	struct json_bounds bounds = {0};
	struct slice bytes;
	yajl_handle yajl = yajl_alloc(NULL, NULL, NULL);
	if (!yajl)
		return -ENOMEM;
	(void)yajl_config(yajl, yajl_dont_validate_strings, 1); /* utf8_valid is stricter */

	int r;
	do {
		r = window_fill(w);
		if (r == 0)
			r = take_utf8(w, &bytes);
		if (r == 0)
			r = json_within_bounds(&bounds, bytes);
		if (r == 0 && yajl_parse(yajl, bytes.data, bytes.size) != yajl_status_ok)
			r = -EBADMSG;
	} while (r == 0 && (w->next < w->size || w->bytes.size > 0));
	if (r == 0 && yajl_complete_parse(yajl) != yajl_status_ok)
		r = -EBADMSG;
	yajl_free(yajl);
	return r;
}

/* ---- MessagePack ---------------------------------------------------------------------------- */

/* Takes the next header, and its data by not looking at them. */
MUST_CHECK static int take_item(struct window *w, struct msgpack_item *ret)
{
	int r = w->bytes.size < MSGPACK_HEADER_MAX ? window_fill(w) : 0;
	if (r == 0)
		r = msgpack_take_header(&w->bytes, ret);
	if (r == -ENODATA)
		return -EBADMSG; /* the window is as long as any header, so the payload ends here */
	if (r < 0)
		return r;

	uint64_t rest = w->bytes.size + (w->size - w->next);
	uint64_t least = ret->kind == MSGPACK_KIND_MAP ? (uint64_t)ret->count * 2 : ret->count;
	if (ret->data_size > rest || least > rest)
		return -EBADMSG;
	uint64_t skip = ret->data_size;
	size_t within = skip < w->bytes.size ? (size_t)skip : w->bytes.size;
	w->bytes.data += within;
	w->bytes.size -= within;
	w->next += skip - within;
	return 0;
}

MUST_CHECK static int check_msgpack(struct window *w)
{
	uint64_t left[JSON_DEPTH_MAX + 1] = {1}; /* items to come, level by level */
	unsigned depth = 0;

	for (;;) {
		struct msgpack_item item;
		while (left[depth] == 0) {
			if (depth-- == 0)
				return w->bytes.size > 0 || w->next < w->size ? -EBADMSG : 0;
		}
		left[depth]--;
		int r = take_item(w, &item);
		if (r < 0)
			return r;
		if (item.kind != MSGPACK_KIND_ARRAY && item.kind != MSGPACK_KIND_MAP)
			continue;
		if (depth == JSON_DEPTH_MAX)
			return -EFBIG;
		left[++depth] = (uint64_t)item.count * (item.kind == MSGPACK_KIND_MAP ? 2 : 1);
	}
}

int format_check(uint8_t format, uint64_t size, format_source_fn *read, void *arg)
{
	struct window *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->read = read;
	w->arg = arg;
	w->size = size;
	int r = -EBADMSG;
	if (format == ENGINE_FORMAT_JSON)
		r = check_json(w);
	else if (format == ENGINE_FORMAT_MSGPACK)
		r = check_msgpack(w);
	free(w);
	return r;
}
