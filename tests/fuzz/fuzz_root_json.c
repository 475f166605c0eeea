/* space_root's JSON: what is taken can be printed and means the same again; what is refused has a reason. */
#include <stdint.h>

#include "base/invariant.h"
#include "fs/root_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct engine_pointer pointer, again;
	struct reterr err = {0};
	int r = root_json_parse((struct slice){.data = data, .size = size}, &pointer, &err);
	if (r < 0) {
		invariant(err.code == r && err.text[0] != '\0');
		return 0;
	}
	struct buf text = {.max = ROOT_JSON_SIZE_MAX};
	invariant(root_json_print(&pointer, &text) == 0);
	invariant(root_json_parse((struct slice){.data = text.data, .size = text.size}, &again,
				  NULL) == 0);
	invariant(again.offset == pointer.offset && uuid_equal(&again.segment, &pointer.segment));
	buf_done(&text);
	return 0;
}
