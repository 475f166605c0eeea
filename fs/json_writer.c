#include "fs/json_writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/invariant.h"

enum { INDENT = 2 };

MUST_CHECK static int put(struct json_writer *w, const void *data, size_t size)
{
	return w->out ? buf_append(w->out, data, size) : 0;
}

MUST_CHECK static int put_line(struct json_writer *w)
{
	char line[1 + INDENT * JSON_DEPTH_MAX];
	if (!w->pretty)
		return 0;
	size_t size = 1 + (size_t)INDENT * w->depth;
	memset(line, ' ', size);
	line[0] = '\n';
	return put(w, line, size);
}

/* What stands between the last thing written and a value or key. */
MUST_CHECK static int begin(struct json_writer *w)
{
	if (w->after_key) {
		w->after_key = false;
		return 0;
	}
	if (w->depth == 0)
		return 0;
	int r = w->filled ? put(w, ",", 1) : 0;
	w->filled = true;
	return r < 0 ? r : put_line(w);
}

MUST_CHECK static int end(struct json_writer *w, bool key)
{
	if (!key)
		return 0;
	w->after_key = true;
	return put(w, ": ", w->pretty ? 2 : 1);
}

int json_open(struct json_writer *w, enum json_container kind)
{
	int r = begin(w);
	if (r < 0)
		return r;
	if (w->depth == JSON_DEPTH_MAX) {
		w->too_deep = true;
		return -EFBIG;
	}
	w->depth++;
	w->filled = false;
	return put(w, kind == JSON_MAP ? "{" : "[", 1);
}

int json_close(struct json_writer *w, enum json_container kind)
{
	invariant(w->depth > 0 && !w->after_key);
	w->depth--;
	int r = w->filled ? put_line(w) : 0;
	if (r < 0)
		return r;
	w->filled = true; /* the one around it now holds this one */
	return put(w, kind == JSON_MAP ? "}" : "]", 1);
}

int json_verbatim(struct json_writer *w, struct slice text, bool key)
{
	int r = begin(w);
	if (r < 0)
		return r;
	r = put(w, text.data, text.size);
	return r < 0 ? r : end(w, key);
}

/* The escape of C, NULL if it needs none. SPARE holds it where it is no constant. */
static const char *escape_of(uint8_t c, char spare[static 8])
{
	switch (c) {
	case '"':
		return "\\\"";
	case '\\':
		return "\\\\";
	case '\b':
		return "\\b";
	case '\f':
		return "\\f";
	case '\n':
		return "\\n";
	case '\r':
		return "\\r";
	case '\t':
		return "\\t";
	default:
		if (c >= 0x20)
			return NULL;
		(void)snprintf(spare, 8, "\\u%04x", c);
		return spare;
	}
}

MUST_CHECK static int put_escaped(struct json_writer *w, struct slice text)
{
	char spare[8];
	size_t done = 0;
	int r = 0;

	if (text.size == 0)
		return 0;
	for (size_t i = 0; r == 0 && i < text.size; i++) {
		const char *escape = escape_of(text.data[i], spare);
		if (!escape)
			continue;
		r = put(w, text.data + done, i - done);
		if (r == 0)
			r = put(w, escape, strlen(escape));
		done = i + 1;
	}
	return r < 0 ? r : put(w, text.data + done, text.size - done);
}

int json_string(struct json_writer *w, struct slice utf8, bool key)
{
	int r = begin(w);
	if (r == 0)
		r = put(w, "\"", 1);
	if (r == 0)
		r = put_escaped(w, utf8);
	if (r == 0)
		r = put(w, "\"", 1);
	return r < 0 ? r : end(w, key);
}

static void base64_group(const uint8_t *bytes, size_t count, char out[static 4])
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t bits = (uint32_t)bytes[0] << 16;
	if (count > 1)
		bits |= (uint32_t)bytes[1] << 8;
	if (count > 2)
		bits |= bytes[2];
	out[0] = digits[bits >> 18];
	out[1] = digits[bits >> 12 & 63];
	out[2] = count > 1 ? digits[bits >> 6 & 63] : '=';
	out[3] = count > 2 ? digits[bits & 63] : '=';
}

int json_base64(struct json_writer *w, struct slice bytes, bool key)
{
	enum { GROUPS = 256 };
	char text[4 * GROUPS];
	int r = begin(w);
	if (r == 0)
		r = put(w, "\"", 1);

	while (r == 0 && bytes.size > 0) {
		size_t size = 0;
		while (bytes.size > 0 && size < sizeof(text)) {
			size_t count = bytes.size < 3 ? bytes.size : 3;
			base64_group(bytes.data, count, text + size);
			bytes.data += count;
			bytes.size -= count;
			size += 4;
		}
		r = put(w, text, size);
	}
	if (r == 0)
		r = put(w, "\"", 1);
	return r < 0 ? r : end(w, key);
}

static struct slice slice_of(const char *text)
{
	return (struct slice){.data = (const uint8_t *)text, .size = strlen(text)};
}

int json_text(struct json_writer *w, const char *json)
{
	return json_verbatim(w, slice_of(json), false);
}

int json_key(struct json_writer *w, const char *name)
{
	return json_string(w, slice_of(name), true);
}

int json_name_string(struct json_writer *w, const char *name, const char *value)
{
	int r = json_key(w, name);
	return r < 0 ? r : json_string(w, slice_of(value), false);
}

int json_name_uint(struct json_writer *w, const char *name, uint64_t value)
{
	char text[24];
	(void)snprintf(text, sizeof(text), "%" PRIu64, value);
	int r = json_key(w, name);
	return r < 0 ? r : json_text(w, text);
}

int json_name_bool(struct json_writer *w, const char *name, bool value)
{
	int r = json_key(w, name);
	return r < 0 ? r : json_text(w, value ? "true" : "false");
}
