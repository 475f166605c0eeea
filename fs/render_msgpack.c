#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/msgpack_reader.h"
#include "fs/render.h"
#include "fs/render_impl.h"
#include "fs/utf8.h"

struct decoder {
	struct slice rest;
	size_t size; /* of the whole payload: where we are is SIZE - rest.size */
	struct reterr *err;
};

/* Both call each other, never deeper than JSON_DEPTH_MAX: the writers count. */
MUST_CHECK static int decode_value(struct decoder *d, struct json_writer *w);
MUST_CHECK static int decode_key(struct decoder *d, struct json_writer *w);

MUST_CHECK static int take_item(struct decoder *d, struct msgpack_item *ret)
{
	size_t at = d->size - d->rest.size;
	int r = msgpack_take(&d->rest, ret);
	if (r == -ENODATA)
		return reterr_set(d->err, -EBADMSG, "byte %zu: the payload ends within this value",
				  at);
	if (r < 0)
		return reterr_set(d->err, r, "byte %zu: no MessagePack value begins with 0xc1", at);

	/* Each value has a byte at least: a hostile count is refused before anything is written. */
	bool map = ret->kind == MSGPACK_KIND_MAP;
	if ((uint64_t)ret->count * (map ? 2 : 1) > d->rest.size)
		return reterr_set(d->err, -EBADMSG,
				  "byte %zu: %s of %" PRIu32 " in the %zu bytes that follow", at,
				  map ? "a map" : "an array", ret->count, d->rest.size);
	return 0;
}

enum { NUMBER_SIZE = 40 };

static void format_float(const struct msgpack_item *item, char text[static NUMBER_SIZE])
{
	bool narrow = item->kind == MSGPACK_KIND_FLOAT32;
	double value = narrow ? (double)item->float32 : item->float64;
	if (isnan(value) || isinf(value)) {
		(void)snprintf(text, NUMBER_SIZE, "%s",
			       isnan(value) ? "NaN" : (value < 0 ? "-Infinity" : "Infinity"));
		return;
	}
	/* 9 and 17 digits always read back to the same value. */
	int digits_max = narrow ? 9 : 17;
	for (int digits = narrow ? 6 : 15; digits <= digits_max; digits++) {
		(void)snprintf(text, NUMBER_SIZE - 2, "%.*g", digits, value);
		if (narrow ? strtof(text, NULL) == item->float32 : strtod(text, NULL) == value)
			break;
	}
	if (!strpbrk(text, ".e"))
		memcpy(text + strlen(text), ".0", sizeof(".0"));
}

static struct slice slice_of(const char *text)
{
	return (struct slice){.data = (const uint8_t *)text, .size = strlen(text)};
}

/* Numbers, booleans and nil: bare as values, in quotes as keys. */
MUST_CHECK static int put_word(struct json_writer *w, const char *word, bool key)
{
	return key ? json_string(w, slice_of(word), true) : json_text(w, word);
}

MUST_CHECK static int put_float(struct json_writer *w, const struct msgpack_item *item, bool key)
{
	char text[NUMBER_SIZE];
	format_float(item, text);
	bool number = strpbrk(text, "0123456789") != NULL;
	return number ? put_word(w, text, key) : json_string(w, slice_of(text), key);
}

MUST_CHECK static int put_scalar(struct json_writer *w, const struct msgpack_item *item, bool key)
{
	char text[NUMBER_SIZE];

	switch (item->kind) {
	case MSGPACK_KIND_NIL:
		return put_word(w, "null", key);
	case MSGPACK_KIND_BOOL:
		return put_word(w, item->boolean ? "true" : "false", key);
	case MSGPACK_KIND_UINT:
		(void)snprintf(text, sizeof(text), "%" PRIu64, item->unsigned_value);
		return put_word(w, text, key);
	case MSGPACK_KIND_INT:
		(void)snprintf(text, sizeof(text), "%" PRId64, item->signed_value);
		return put_word(w, text, key);
	case MSGPACK_KIND_FLOAT32:
	case MSGPACK_KIND_FLOAT64:
		return put_float(w, item, key);
	case MSGPACK_KIND_STRING:
		if (utf8_valid(item->data, NULL))
			return json_string(w, item->data, key);
		return json_base64(w, item->data, key);
	case MSGPACK_KIND_BINARY:
		return json_base64(w, item->data, key);
	case MSGPACK_KIND_EXT:
	case MSGPACK_KIND_ARRAY:
	case MSGPACK_KIND_MAP:
		break;
	}
	return -EBADMSG; /* containers never come here */
}

static bool is_scalar(const struct msgpack_item *item)
{
	return item->kind != MSGPACK_KIND_EXT && item->kind != MSGPACK_KIND_ARRAY &&
	       item->kind != MSGPACK_KIND_MAP;
}

MUST_CHECK static int put_ext(struct json_writer *w, const struct msgpack_item *item)
{
	char type[8];
	(void)snprintf(type, sizeof(type), "%d", item->ext_type);
	int r = json_open(w, JSON_MAP);
	if (r == 0)
		r = json_key(w, "ext");
	if (r == 0)
		r = json_text(w, type);
	if (r == 0)
		r = json_key(w, "data");
	if (r == 0)
		r = json_base64(w, item->data, false);
	return r < 0 ? r : json_close(w, JSON_MAP);
}

MUST_CHECK static int decode_container(struct decoder *d, struct json_writer *w,
				       const struct msgpack_item *item)
{
	if (item->kind == MSGPACK_KIND_EXT)
		return put_ext(w, item);

	bool map = item->kind == MSGPACK_KIND_MAP;
	enum json_container kind = map ? JSON_MAP : JSON_ARRAY;
	int r = json_open(w, kind);
	for (uint32_t i = 0; r == 0 && i < item->count; i++) {
		if (map)
			r = decode_key(d, w);
		if (r == 0)
			r = decode_value(d, w);
	}
	return r < 0 ? r : json_close(w, kind);
}

static int decode_value(struct decoder *d, struct json_writer *w)
{
	struct msgpack_item item;
	int r = take_item(d, &item);
	if (r < 0)
		return r;
	return is_scalar(&item) ? put_scalar(w, &item, false) : decode_container(d, w, &item);
}

/*
 * A container as a key is written apart, without spaces, and its text becomes the key. It counts as
 * a level of the map around it, so that keys within keys end where all nesting ends.
 */
static int decode_key(struct decoder *d, struct json_writer *w)
{
	struct msgpack_item item;
	int r = take_item(d, &item);
	if (r < 0)
		return r;
	if (is_scalar(&item))
		return put_scalar(w, &item, true);

	CLEANUP(buf_done) struct buf text = {.max = w->out ? w->out->max : 0};
	struct json_writer inner = {.out = w->out ? &text : NULL, .depth = w->depth};
	r = decode_container(d, &inner, &item);
	w->too_deep = inner.too_deep;
	if (r < 0)
		return r;
	return json_string(w, (struct slice){.data = text.data, .size = text.size}, true);
}

int render_msgpack(struct slice payload, struct json_writer *w, struct reterr *err)
{
	struct decoder d = {.rest = payload, .size = payload.size, .err = err};
	int r = decode_value(&d, w);
	if (r == 0 && d.rest.size > 0)
		return reterr_set(err, -EBADMSG, "byte %zu: %zu bytes follow the value",
				  d.size - d.rest.size, d.rest.size);
	return r;
}
