/* A borrowed range of bytes, and the checked cursor through which all disk and wire bytes pass. */
#ifndef PROTOFS_BASE_SLICE_H
#define PROTOFS_BASE_SLICE_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/le.h"

struct slice {
	const uint8_t *data;
	size_t size;
};

/*
 * Moves SIZE bytes from the front of IN to RET. -ENODATA, with nothing moved, if IN is shorter:
 * the comparison comes before any arithmetic, so that no size can overflow.
 */
MUST_CHECK static inline int slice_take(struct slice *in, size_t size, struct slice *ret)
{
	if (size > in->size)
		return -ENODATA;
	*ret = (struct slice){.data = in->data, .size = size};
	in->data += size;
	in->size -= size;
	return 0;
}

MUST_CHECK static inline int slice_take_le32(struct slice *in, uint32_t *ret)
{
	struct slice bytes;
	int r = slice_take(in, sizeof(*ret), &bytes);
	if (r < 0)
		return r;
	*ret = load_le32(bytes.data);
	return 0;
}

MUST_CHECK static inline int slice_take_le64(struct slice *in, uint64_t *ret)
{
	struct slice bytes;
	int r = slice_take(in, sizeof(*ret), &bytes);
	if (r < 0)
		return r;
	*ret = load_le64(bytes.data);
	return 0;
}

#endif
