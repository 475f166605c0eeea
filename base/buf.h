/*
 * A growing byte buffer that declares its ceiling. A zeroed struct with MAX set is an empty buffer;
 * buf_done() releases it and accepts an empty one.
 */
#ifndef PROTOFS_BASE_BUF_H
#define PROTOFS_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct buf {
	uint8_t *data;
	size_t size;
	size_t capacity;
	size_t max; /* bytes that SIZE may reach */
};

/* All: 0; -ENOMEM without memory; -EFBIG beyond MAX. The buffer is unchanged on error. */
MUST_CHECK int buf_reserve(struct buf *buf, size_t more);
MUST_CHECK int buf_append(struct buf *buf, const void *data, size_t size);
MUST_CHECK int buf_append_zeros(struct buf *buf, size_t size);
MUST_CHECK int buf_append_text(struct buf *buf, const char *text);
MUST_CHECK int buf_printf(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);

void buf_clear(struct buf *buf);
void buf_done(struct buf *buf);

#endif
