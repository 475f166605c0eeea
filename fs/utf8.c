#include "fs/utf8.h"

/* The length of the sequence at BYTES, of which there are SIZE > 0; 0 if it is none. */
static size_t sequence_length(const uint8_t *bytes, size_t size)
{
	uint8_t lead = bytes[0];
	uint8_t second_min = 0x80, second_max = 0xbf;
	size_t length;

	if (lead < 0x80)
		return 1;
	if (lead >= 0xc2 && lead <= 0xdf) {
		length = 2;
	} else if (lead >= 0xe0 && lead <= 0xef) {
		length = 3;
		if (lead == 0xe0)
			second_min = 0xa0; /* below: overlong */
		if (lead == 0xed)
			second_max = 0x9f; /* above: surrogates */
	} else if (lead >= 0xf0 && lead <= 0xf4) {
		length = 4;
		if (lead == 0xf0)
			second_min = 0x90; /* below: overlong */
		if (lead == 0xf4)
			second_max = 0x8f; /* above: more than U+10FFFF */
	} else {
		return 0;
	}
	if (length > size || bytes[1] < second_min || bytes[1] > second_max)
		return 0;
	for (size_t i = 2; i < length; i++) {
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
	}
	return length;
}

bool utf8_valid(struct slice text, size_t *ret_at)
{
	size_t at = 0;
	while (at < text.size) {
		size_t length = sequence_length(text.data + at, text.size - at);
		if (length == 0)
			break;
		at += length;
	}
	if (ret_at)
		*ret_at = at;
	return at == text.size;
}
