/* A reply's header and the error that is made of it: bounded, and printable when it is shown. */
#include <stdint.h>
#include <string.h>

#include "base/invariant.h"
#include "cloud/s3_error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct s3_headers headers;
	struct s3_error error;
	struct reterr err;
	size_t at = 0;

	s3_headers_init(&headers);
	while (at < size) {
		const uint8_t *end = memchr(data + at, '\n', size - at);
		size_t length = end ? (size_t)(end - data) - at + 1 : size - at;
		s3_headers_line(&headers, (const char *)data + at, length);
		at += length;
	}
	invariant(headers.status <= 999);
	invariant(!headers.region[0] || s3_region_valid(headers.region));
	invariant(!headers.has_range || headers.range_first <= headers.range_last);
	invariant(s3_headers_retry_after_ms(&headers, 1700000000) <= 1000 * S3_RETRY_AFTER_MAX_S);
	if (s3_headers_etag_is_md5(&headers))
		invariant(strlen(headers.etag) == 32);

	/* The same bytes as the body. */
	invariant(s3_error_from(&headers, data, size, 1700000000, &error) == 0);
	invariant(s3_error_render(&error, "GET", "owner", &err) < 0);
	for (const char *c = err.text; *c; c++)
		invariant(*c >= ' ' && *c <= '~');
	return 0;
}
