/* .sum files: whatever parses is written again and parses to the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "fs/sum_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sum_file file;
	struct reterr err = {0};
	int r = sum_file_parse((struct slice){.data = data, .size = size}, &file, &err);
	if (r < 0) {
		invariant(err.code == r);
		return 0;
	}

	size_t again_size = (size_t)sum_file_size(file.length);
	invariant(again_size == file.count * SUM_FILE_LINE_SIZE);
	char *again = malloc(again_size + 1);
	invariant(again != NULL);
	for (size_t i = 0; i < file.count; i++)
		sum_file_line(&file.sums[i], again + i * SUM_FILE_LINE_SIZE);

	struct sum_file second;
	struct slice text = {.data = (const uint8_t *)again, .size = again_size};
	invariant(sum_file_parse(text, &second, NULL) == 0);
	invariant(second.count == file.count && second.length == file.length);
	invariant(file.count == 0 ||
		  memcmp(second.sums, file.sums, file.count * sizeof(*file.sums)) == 0);
	sum_file_done(&second);
	sum_file_done(&file);
	free(again);
	return 0;
}
