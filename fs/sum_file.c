#include "fs/sum_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"

enum { OFFSET_DIGITS = 11, LENGTH_DIGITS = 7 };

uint64_t sum_file_size(uint64_t length)
{
	uint64_t lines = length / ENGINE_SUM_SIZE + (length % ENGINE_SUM_SIZE != 0);
	return lines * SUM_FILE_LINE_SIZE;
}

static char *put_digits(char *at, uint64_t value, int digits)
{
	for (int i = digits - 1; i >= 0; i--) {
		at[i] = (char)('0' + value % 10);
		value /= 10;
	}
	invariant(value == 0);
	return at + digits;
}

void sum_file_line(const struct engine_sum *sum, char *line)
{
	char hex[HASH_TEXT_LENGTH + 1];
	char *at = put_digits(line, sum->offset, OFFSET_DIGITS);
	*at++ = ' ';
	at = put_digits(at, sum->length, LENGTH_DIGITS);
	*at++ = ' ';
	memcpy(at, hash_format(&sum->hash, hex), HASH_TEXT_LENGTH);
	at[HASH_TEXT_LENGTH] = '\n';
}

/* 1 to DIGITS_MAX decimal digits and the space behind them. */
MUST_CHECK static int take_number(struct slice *in, int digits_max, uint64_t *ret)
{
	struct slice digit;
	uint64_t value = 0;

	for (int i = 0; i <= digits_max; i++) {
		if (slice_take(in, 1, &digit) < 0)
			return -EBADMSG;
		if (digit.data[0] == ' ' && i > 0) {
			*ret = value;
			return 0;
		}
		if (digit.data[0] < '0' || digit.data[0] > '9')
			return -EBADMSG;
		value = value * 10 + (uint64_t)(digit.data[0] - '0');
	}
	return -EBADMSG;
}

MUST_CHECK static int take_line(struct slice *in, struct engine_sum *ret)
{
	struct slice hex, end;
	char text[HASH_TEXT_LENGTH + 1] = {0};

	if (take_number(in, OFFSET_DIGITS, &ret->offset) < 0 ||
	    take_number(in, LENGTH_DIGITS, &ret->length) < 0 ||
	    slice_take(in, HASH_TEXT_LENGTH, &hex) < 0 || slice_take(in, 1, &end) < 0 ||
	    end.data[0] != '\n')
		return -EBADMSG;
	memcpy(text, hex.data, HASH_TEXT_LENGTH);
	return hash_parse(text, &ret->hash) < 0 ? -EBADMSG : 0;
}

/* The lines must follow each other without a gap, each of a whole MiB but for the last. */
MUST_CHECK static int add_line(struct sum_file *file, const struct engine_sum *sum,
			       struct reterr *err)
{
	size_t line = file->count + 1;

	if (sum->offset != file->length)
		return reterr_set(err, -EBADMSG,
				  "line %zu begins at byte %" PRIu64
				  ", the one before ends at %" PRIu64,
				  line, sum->offset, file->length);
	if (sum->length == 0 || sum->length > ENGINE_SUM_SIZE)
		return reterr_set(err, -EBADMSG,
				  "line %zu covers %" PRIu64 " bytes, not 1 to 1048576", line,
				  sum->length);
	if (sum->offset % ENGINE_SUM_SIZE != 0)
		return reterr_set(err, -EBADMSG, "line %zu follows one of less than a MiB", line);

	file->sums[file->count++] = *sum;
	file->length = sum->offset + sum->length;
	return 0;
}

int sum_file_parse(struct slice text, struct sum_file *ret, struct reterr *err)
{
	/*
	 * "0 1 ", 32 digits and a newline are the shortest line: the size of the array is earned.
	 */
	size_t lines_max = text.size / (4 + HASH_TEXT_LENGTH + 1);
	if (lines_max > SUM_FILE_LINES_MAX)
		lines_max = SUM_FILE_LINES_MAX;

	struct sum_file file = {.sums = calloc(lines_max + 1, sizeof(*file.sums))};
	if (!file.sums)
		return reterr_set(err, -ENOMEM, "no memory for %zu lines", lines_max);

	int r = 0;
	while (text.size > 0) {
		struct engine_sum sum;
		if (file.count >= lines_max) {
			r = file.count >= SUM_FILE_LINES_MAX
				    ? reterr_set(err, -EFBIG, "more than %d lines",
						 SUM_FILE_LINES_MAX)
				    : reterr_set(err, -EBADMSG, "line %zu is cut short",
						 file.count + 1);
			break;
		}
		r = take_line(&text, &sum);
		if (r < 0) {
			reterr_set(err, r, "line %zu is not \"<offset> <length> <32 hex digits>\"",
				   file.count + 1);
			break;
		}
		r = add_line(&file, &sum, err);
		if (r < 0)
			break;
	}
	if (r < 0) {
		sum_file_done(&file);
		return r;
	}
	*ret = file;
	return 0;
}

void sum_file_done(struct sum_file *file)
{
	free(file->sums);
	*file = (struct sum_file){0};
}
