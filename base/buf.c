#include "base/buf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_CAPACITY_MIN = 256 };

int buf_reserve(struct buf *buf, size_t more)
{
	if (more > buf->max - buf->size)
		return -EFBIG;
	size_t needed = buf->size + more;
	if (needed <= buf->capacity)
		return 0;

	size_t capacity = buf->capacity ? buf->capacity : BUF_CAPACITY_MIN;
	while (capacity < needed)
		capacity = capacity > buf->max / 2 ? buf->max : capacity * 2;
	if (capacity > buf->max && needed <= buf->max)
		capacity = buf->max;

	uint8_t *data = realloc(buf->data, capacity);
	if (!data)
		return -ENOMEM;
	buf->data = data;
	buf->capacity = capacity;
	return 0;
}

int buf_append(struct buf *buf, const void *data, size_t size)
{
	int r = buf_reserve(buf, size);
	if (r < 0)
		return r;
	if (size)
		memcpy(buf->data + buf->size, data, size);
	buf->size += size;
	return 0;
}

int buf_append_zeros(struct buf *buf, size_t size)
{
	int r = buf_reserve(buf, size);
	if (r < 0)
		return r;
	if (size)
		memset(buf->data + buf->size, 0, size);
	buf->size += size;
	return 0;
}

int buf_append_text(struct buf *buf, const char *text)
{
	return buf_append(buf, text, strlen(text));
}

int buf_printf(struct buf *buf, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (length < 0)
		return -EINVAL;

	/* One byte more for vsnprintf's terminator, which is not part of the buffer. */
	int r = buf_reserve(buf, (size_t)length + 1);
	if (r < 0)
		return r;
	va_start(args, format);
	(void)vsnprintf((char *)buf->data + buf->size, (size_t)length + 1, format, args);
	va_end(args);
	buf->size += (size_t)length;
	return 0;
}

void buf_clear(struct buf *buf)
{
	buf->size = 0;
}

void buf_done(struct buf *buf)
{
	free(buf->data);
	*buf = (struct buf){.max = buf->max};
}
