/*
 * JSON, indented. yajl judges the syntax; the tokens are copied from the payload, not from what
 * yajl decoded: "\u00e9", 1.10 and 1E400 stay what their author wrote.
 *
 * yajl parses the payload in one piece, so that at each callback its count of consumed bytes is
 * where the token ends. Between the end of one token and the begin of the next there are only
 * spaces, commas and colons, which is how a string's first quote is found.
 */
#include <errno.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#include "base/invariant.h"
#include "fs/render_impl.h"
#include "fs/utf8.h"

struct indenter {
	yajl_handle yajl;
	struct json_writer *w;
	struct slice text;
	size_t token_end; /* of the last token */
	int result;       /* of the writer; stops the parser */
};

enum { GO_ON = 1, STOP = 0 };

static int done(struct indenter *in, int r)
{
	in->token_end = yajl_get_bytes_consumed(in->yajl);
	in->result = r;
	return r < 0 ? STOP : GO_ON;
}

static int on_null(void *arg)
{
	struct indenter *in = arg;
	return done(in, json_text(in->w, "null"));
}

static int on_boolean(void *arg, int value)
{
	struct indenter *in = arg;
	return done(in, json_text(in->w, value ? "true" : "false"));
}

static int on_number(void *arg, const char *text, size_t size)
{
	struct indenter *in = arg;
	struct slice number = {.data = (const uint8_t *)text, .size = size};
	return done(in, json_verbatim(in->w, number, false));
}

static int on_any_string(struct indenter *in, bool key)
{
	size_t end = yajl_get_bytes_consumed(in->yajl);
	invariant(end <= in->text.size && in->token_end < end);
	const uint8_t *start = memchr(in->text.data + in->token_end, '"', end - in->token_end);
	invariant(start != NULL);
	struct slice string = {.data = start, .size = (size_t)(in->text.data + end - start)};
	return done(in, json_verbatim(in->w, string, key));
}

static int on_string(void *arg, const unsigned char *text, size_t size)
{
	(void)text;
	(void)size;
	return on_any_string(arg, false);
}

static int on_key(void *arg, const unsigned char *text, size_t size)
{
	(void)text;
	(void)size;
	return on_any_string(arg, true);
}

static int on_map(void *arg)
{
	struct indenter *in = arg;
	return done(in, json_open(in->w, JSON_MAP));
}

static int on_map_end(void *arg)
{
	struct indenter *in = arg;
	return done(in, json_close(in->w, JSON_MAP));
}

static int on_array(void *arg)
{
	struct indenter *in = arg;
	return done(in, json_open(in->w, JSON_ARRAY));
}

static int on_array_end(void *arg)
{
	struct indenter *in = arg;
	return done(in, json_close(in->w, JSON_ARRAY));
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_boolean,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_map,
	.yajl_map_key = on_key,
	.yajl_end_map = on_map_end,
	.yajl_start_array = on_array,
	.yajl_end_array = on_array_end,
};

/* yajl's own words, without its "parse error: " and newline. */
static int syntax_error(struct indenter *in, size_t at, struct reterr *err)
{
	static const char prefix[] = "parse error: ";
	unsigned char *message = yajl_get_error(in->yajl, 0, NULL, 0);
	const char *text = message ? (const char *)message : "no JSON";
	if (strncmp(text, prefix, sizeof(prefix) - 1) == 0)
		text += sizeof(prefix) - 1;
	int r = reterr_set(err, -EBADMSG, "byte %zu: %.*s", at, (int)strcspn(text, "\n"), text);
	if (message)
		yajl_free_error(in->yajl, message);
	return r;
}

MUST_CHECK static int parse(struct indenter *in, struct reterr *err)
{
	yajl_status status = yajl_parse(in->yajl, in->text.data, in->text.size);
	if (status == yajl_status_client_canceled)
		return in->result;
	if (status == yajl_status_error)
		return syntax_error(in, yajl_get_bytes_consumed(in->yajl), err);

	/* A number at the very end is only known to be whole now. */
	status = yajl_complete_parse(in->yajl);
	if (status == yajl_status_client_canceled)
		return in->result;
	return status == yajl_status_ok ? 0 : syntax_error(in, in->text.size, err);
}

int render_json(struct slice payload, struct json_writer *w, struct reterr *err)
{
	size_t bad;
	if (!utf8_valid(payload, &bad))
		return reterr_set(err, -EBADMSG, "byte %zu: not UTF-8", bad);

	struct indenter in = {.w = w, .text = payload};
	in.yajl = yajl_alloc(&callbacks, NULL, &in);
	if (!in.yajl)
		return -ENOMEM;
	(void)yajl_config(in.yajl, yajl_dont_validate_strings, 1); /* utf8_valid is stricter */
	int r = parse(&in, err);
	yajl_free(in.yajl);
	return r;
}
