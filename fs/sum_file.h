/*
 * `.sum` files: what wal/<uuid>.sum holds and what wal/in/ checks a copied segment against.
 *
 * A text of one line for each MiB of the segment, in order and without gaps, the last one for what
 * remains:
 *
 *     <offset> <length> <hex>\n      11 digits, 7 digits, 32 hex digits of XXH3-128
 *
 * Every line that we write has SUM_FILE_LINE_SIZE bytes, so that line n begins at n * that and the
 * size of the file follows from the length of the segment. When reading, the zeros in front may be
 * missing. A line is whole only with its newline.
 */
#ifndef PROTOFS_FS_SUM_FILE_H
#define PROTOFS_FS_SUM_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/reterr.h"
#include "base/slice.h"
#include "engine/engine.h"

enum {
	SUM_FILE_LINE_SIZE = 11 + 1 + 7 + 1 + HASH_TEXT_LENGTH + 1,
	/* 64 GiB and a frame header, a line per MiB. */
	SUM_FILE_LINES_MAX = 65537,
	SUM_FILE_SIZE_MAX = SUM_FILE_LINES_MAX * SUM_FILE_LINE_SIZE,
};

/* The size of the file of a segment of LENGTH bytes. */
uint64_t sum_file_size(uint64_t length);

/* Writes the line of SUM to exactly SUM_FILE_LINE_SIZE bytes at LINE, no NUL. */
void sum_file_line(const struct engine_sum *sum, char *line);

struct sum_file {
	struct engine_sum *sums;
	size_t count;
	uint64_t length; /* of the bytes that the sums cover, from 0 */
};

/*
 * Parses a whole file. 0, and RET is released by sum_file_done.
 * -EBADMSG a line is not of the form, out of order, or cut short: ERR names it
 * -EFBIG   more than SUM_FILE_LINES_MAX lines; -ENOMEM
 */
MUST_CHECK int sum_file_parse(struct slice text, struct sum_file *ret, struct reterr *err);

/* Accepts an empty one. */
void sum_file_done(struct sum_file *file);

#endif
