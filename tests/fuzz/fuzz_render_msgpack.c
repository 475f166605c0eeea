/* MessagePack atoms: what renders is JSON, and judging alone agrees. */
#include <stdint.h>
#include <string.h>

#include "base/invariant.h"
#include "engine/engine.h"
#include "fs/format_check.h"
#include "fs/render.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_slice(void *arg, void *data, size_t size, uint64_t offset)
{
	const struct slice *payload = arg;
	memcpy(data, payload->data + offset, size);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum { TEXT_MAX = 256 << 10 };
	struct buf out = {.max = TEXT_MAX};
	struct slice payload = {.data = data, .size = size};
	struct reterr err = {0};
	int checked = format_check(ENGINE_FORMAT_MSGPACK, size, read_slice, &payload);
	invariant((checked == 0) == (render_atom(ENGINE_FORMAT_MSGPACK, payload, NULL, NULL) == 0));

	int r = render_atom(ENGINE_FORMAT_MSGPACK, payload, &out, &err);
	invariant(r == 0 || err.code == r);
	if (r == 0) {
		invariant(render_atom(ENGINE_FORMAT_MSGPACK, payload, NULL, NULL) == 0);
		struct slice text = {.data = out.data, .size = out.size};
		invariant(render_atom(ENGINE_FORMAT_JSON, text, NULL, NULL) == 0);
	}
	buf_done(&out);
	return 0;
}
