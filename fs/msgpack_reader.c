#include "fs/msgpack_reader.h"

#include <endian.h>

/* A big-endian number of 1, 2, 4 or 8 bytes. */
MUST_CHECK static int take_uint(struct slice *in, size_t size, uint64_t *ret)
{
	struct slice bytes;
	int r = slice_take(in, size, &bytes);
	if (r < 0)
		return r;
	uint64_t value = 0;
	for (size_t i = 0; i < size; i++)
		value = value << 8 | bytes.data[i];
	*ret = value;
	return 0;
}

MUST_CHECK static int take_count(struct slice *in, size_t size_bytes, uint32_t *ret)
{
	uint64_t count;
	int r = take_uint(in, size_bytes, &count);
	if (r == 0)
		*ret = (uint32_t)count;
	return r;
}

MUST_CHECK static int take_ext(struct slice *in, uint64_t size, struct msgpack_item *ret)
{
	uint64_t type;
	int r = take_uint(in, 1, &type);
	if (r < 0)
		return r;
	ret->kind = MSGPACK_KIND_EXT;
	ret->ext_type = (int8_t)(type < 128 ? (int)type : (int)type - 256);
	ret->data_size = size;
	return 0;
}

MUST_CHECK static int take_float(struct slice *in, size_t size, struct msgpack_item *ret)
{
	uint64_t bits;
	int r = take_uint(in, size, &bits);
	if (r < 0)
		return r;
	if (size == 4) {
		uint32_t bits32 = (uint32_t)bits;
		ret->kind = MSGPACK_KIND_FLOAT32;
		memcpy(&ret->float32, &bits32, sizeof(bits32));
	} else {
		ret->kind = MSGPACK_KIND_FLOAT64;
		memcpy(&ret->float64, &bits, sizeof(bits));
	}
	return 0;
}

static void set_signed(struct msgpack_item *ret, int64_t value)
{
	ret->kind = value < 0 ? MSGPACK_KIND_INT : MSGPACK_KIND_UINT;
	ret->signed_value = value;
	ret->unsigned_value = value < 0 ? 0 : (uint64_t)value;
}

/* A number of SIZE bytes in two's complement. */
MUST_CHECK static int take_signed(struct slice *in, size_t size, struct msgpack_item *ret)
{
	uint64_t bits;
	int r = take_uint(in, size, &bits);
	if (r < 0)
		return r;
	uint64_t sign = (uint64_t)1 << (size * 8 - 1);
	/* Flip and subtract: extends the sign without an implementation-defined conversion. */
	uint64_t magnitude = bits & (sign - 1);
	int64_t value = (int64_t)magnitude;
	if (bits & sign)
		value = (int64_t)magnitude - (int64_t)(sign - 1) - 1;
	set_signed(ret, value);
	return 0;
}

/* The forms 0xc0 to 0xdf, whose first byte FORM was taken. */
MUST_CHECK static int take_long_form(struct slice *in, uint8_t form, struct msgpack_item *ret)
{
	switch (form) {
	case 0xc0:
		ret->kind = MSGPACK_KIND_NIL;
		return 0;
	case 0xc2:
	case 0xc3:
		ret->kind = MSGPACK_KIND_BOOL;
		ret->boolean = form == 0xc3;
		return 0;
	case 0xc4:
	case 0xc5:
	case 0xc6:
		ret->kind = MSGPACK_KIND_BINARY;
		return take_uint(in, (size_t)1 << (form - 0xc4), &ret->data_size);
	case 0xc7:
	case 0xc8:
	case 0xc9: {
		uint64_t size;
		int r = take_uint(in, (size_t)1 << (form - 0xc7), &size);
		return r < 0 ? r : take_ext(in, size, ret);
	}
	case 0xca:
	case 0xcb:
		return take_float(in, form == 0xca ? 4 : 8, ret);
	case 0xcc:
	case 0xcd:
	case 0xce:
	case 0xcf:
		ret->kind = MSGPACK_KIND_UINT;
		return take_uint(in, (size_t)1 << (form - 0xcc), &ret->unsigned_value);
	case 0xd0:
	case 0xd1:
	case 0xd2:
	case 0xd3:
		return take_signed(in, (size_t)1 << (form - 0xd0), ret);
	case 0xd4:
	case 0xd5:
	case 0xd6:
	case 0xd7:
	case 0xd8:
		return take_ext(in, (uint64_t)1 << (form - 0xd4), ret);
	case 0xd9:
	case 0xda:
	case 0xdb:
		ret->kind = MSGPACK_KIND_STRING;
		return take_uint(in, (size_t)1 << (form - 0xd9), &ret->data_size);
	case 0xdc:
	case 0xdd:
		ret->kind = MSGPACK_KIND_ARRAY;
		return take_count(in, form == 0xdc ? 2 : 4, &ret->count);
	case 0xde:
	case 0xdf:
		ret->kind = MSGPACK_KIND_MAP;
		return take_count(in, form == 0xde ? 2 : 4, &ret->count);
	default:
		return -EBADMSG;
	}
}

int msgpack_take_header(struct slice *in, struct msgpack_item *ret)
{
	struct slice rest = *in, first;
	struct msgpack_item item = {.kind = MSGPACK_KIND_NIL};
	int r = slice_take(&rest, 1, &first);
	if (r < 0)
		return r;

	uint8_t form = first.data[0];
	if (form <= 0x7f) {
		set_signed(&item, form);
	} else if (form >= 0xe0) {
		set_signed(&item, (int64_t)form - 256);
	} else if (form <= 0x8f) {
		item.kind = MSGPACK_KIND_MAP;
		item.count = form & 0x0f;
	} else if (form <= 0x9f) {
		item.kind = MSGPACK_KIND_ARRAY;
		item.count = form & 0x0f;
	} else if (form <= 0xbf) {
		item.kind = MSGPACK_KIND_STRING;
		item.data_size = form & 0x1f;
	} else {
		r = take_long_form(&rest, form, &item);
	}
	if (r < 0)
		return r;
	*in = rest;
	*ret = item;
	return 0;
}

int msgpack_take(struct slice *in, struct msgpack_item *ret)
{
	struct slice rest = *in;
	struct msgpack_item item;
	int r = msgpack_take_header(&rest, &item);
	if (r == 0 && item.data_size > rest.size)
		r = -ENODATA;
	if (r == 0)
		r = slice_take(&rest, (size_t)item.data_size, &item.data);
	if (r < 0)
		return r;
	*in = rest;
	*ret = item;
	return 0;
}
