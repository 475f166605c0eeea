#include "fs/render.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "engine/engine.h"
#include "fs/render_impl.h"

const char *render_format_name(uint8_t format)
{
	switch (format) {
	case ENGINE_FORMAT_RAW:
		return "raw";
	case ENGINE_FORMAT_JSON:
		return "json";
	case ENGINE_FORMAT_MSGPACK:
		return "msgpack";
	case ENGINE_FORMAT_SMALL_FILE:
		return "small-file";
	default:
		return "unknown";
	}
}

MUST_CHECK static int render_bytes(uint8_t format, struct slice payload, struct json_writer *w)
{
	int r = json_open(w, JSON_MAP);
	if (r == 0 && format != ENGINE_FORMAT_RAW)
		r = json_name_uint(w, "format", format);
	if (r == 0)
		r = json_key(w, format == ENGINE_FORMAT_RAW ? "raw" : "data");
	if (r == 0)
		r = json_base64(w, payload, false);
	return r < 0 ? r : json_close(w, JSON_MAP);
}

MUST_CHECK static int render_value(uint8_t format, struct slice payload, struct json_writer *w,
				   struct reterr *err)
{
	if (format == ENGINE_FORMAT_JSON)
		return render_json(payload, w, err);
	if (format == ENGINE_FORMAT_MSGPACK)
		return render_msgpack(payload, w, err);
	return render_bytes(format, payload, w);
}

int render_atom(uint8_t format, struct slice payload, struct buf *out, struct reterr *err)
{
	if (payload.size > RENDER_PAYLOAD_MAX)
		return reterr_set(err, -EFBIG,
				  "a payload of %zu bytes: only %zu are rendered as JSON",
				  payload.size, RENDER_PAYLOAD_MAX);

	struct json_writer w = {.out = out, .pretty = true};
	size_t size_before = out ? out->size : 0;
	int r = render_value(format, payload, &w, err);
	if (r == 0 && out)
		r = buf_append(out, "\n", 1);
	if (r == -EFBIG && w.too_deep)
		reterr_set(err, r, "nested deeper than %d levels", JSON_DEPTH_MAX);
	else if (r == -EFBIG)
		reterr_set(err, r, "its JSON text would exceed %zu bytes", out ? out->max : 0);
	else if (r == -ENOMEM)
		reterr_set(err, r, "no memory to render it");
	if (r < 0 && out)
		out->size = size_before;
	return r;
}
