/* A store's cloud.conf: what parses is written again and parses to the same. */
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/invariant.h"
#include "cmd/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = 64 << 10 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf first = {.max = TEXT_MAX}, second = {.max = TEXT_MAX};
	struct settings settings = {0}, again = {0};
	struct reterr err = {0};

	int r = settings_parse((struct slice){.data = data, .size = size}, &settings, &err);
	if (r < 0) {
		invariant(err.code == r && err.text[0]);
		return 0;
	}
	invariant(settings_print(&settings, &first) == 0);
	r = settings_parse((struct slice){.data = first.data, .size = first.size}, &again, &err);
	invariant(r == 0);
	invariant(settings_print(&again, &second) == 0);
	invariant(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
	settings_done(&settings);
	settings_done(&again);
	buf_done(&first);
	buf_done(&second);
	return 0;
}
