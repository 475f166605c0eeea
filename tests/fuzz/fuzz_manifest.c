/* Manifests out of a hostile place: what is taken can be printed and means the same again. */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/invariant.h"
#include "cloud/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct manifest first, again;
	struct reterr err = {0};
	int r = manifest_parse((struct slice){.data = data, .size = size}, &first, &err);
	if (r < 0) {
		invariant(r == -EBADMSG && err.code == r && err.text[0] != '\0');
		return 0;
	}
	CLEANUP(buf_done) struct buf text = {.max = MANIFEST_SIZE_MAX};
	CLEANUP(buf_done) struct buf same = {.max = MANIFEST_SIZE_MAX};
	invariant(manifest_print(&first, &text) == 0);
	invariant(manifest_parse((struct slice){.data = text.data, .size = text.size}, &again,
				 NULL) == 0);
	invariant(manifest_print(&again, &same) == 0);
	invariant(text.size == same.size && memcmp(text.data, same.data, text.size) == 0);
	manifest_done(&first);
	manifest_done(&again);
	return 0;
}
