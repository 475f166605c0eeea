/*
 * Records of the uploader's journal, as a damaged disk could bring them. The first byte says whether
 * the sum is put right, so that what lies behind it is reached, too.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "base/le.h"
#include "cloud/upload_plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct upload_plan_options options = {.block_size = 65536, .interval_ms = 1};
	struct upload_plan *plan = calloc(1, sizeof(*plan));
	uint8_t *record = malloc(size + 1);
	invariant(plan && record);
	if (size > 0) {
		memcpy(record, data + 1, size - 1);
		if ((data[0] & 1) && size > 8)
			store_le64(record + size - 9, hash64_of(record, size - 9));
		struct slice text = {.data = record, .size = size - 1};
		struct reterr err = {0};
		invariant(upload_plan_init(plan, &options) == 0);
		int r = upload_plan_load(plan, text, &err);
		invariant(r == 0 || r == -EBADMSG || r == -ENOMEM);
		if (r == 0)
			(void)!upload_plan_loaded(plan, &err);
		upload_plan_done(plan);
	}
	free(record);
	free(plan);
	return 0;
}
