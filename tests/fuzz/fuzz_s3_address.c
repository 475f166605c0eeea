/*
 * Endpoints, and paths and queries as they are signed: nothing gets into a URL that means something
 * there.
 */
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/invariant.h"
#include "cloud/s3_endpoint.h"
#include "cloud/sigv4.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = 1024 };

static const char unreserved[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";

static void check_endpoint(const char *text)
{
	struct s3_endpoint endpoint;
	struct buf host = {.max = 4096};
	struct reterr err = {0};
	int r = s3_endpoint_parse(text, "bucket", false, true, &err, &endpoint);
	invariant(r == 0 ? err.code == 0 : err.code == r);
	if (r == 0) {
		invariant(s3_endpoint_host(&endpoint, "bucket", "r", &host) == 0);
		invariant(host.size > 0 && !memchr(host.data, '/', host.size));
		for (size_t i = 0; i < host.size; i++)
			invariant(host.data[i] > ' ' && host.data[i] < 0x7f);
	}
	buf_done(&host);
}

static void check_encoding(const char *text)
{
	struct buf path = {.max = 8192}, query = {.max = 32768};
	const struct sigv4_pair pairs[] = {{text, text}, {"prefix", text}};
	invariant(sigv4_encode(&path, text, true) == 0);
	for (size_t i = 0; i < path.size; i++)
		invariant(memchr(unreserved, path.data[i], sizeof(unreserved) - 1) ||
			  path.data[i] == '%' || path.data[i] == '/');
	invariant(sigv4_query(&query, pairs, 2) == 0);
	size_t equals = 0;
	for (size_t i = 0; i < query.size; i++)
		equals += query.data[i] == '=';
	invariant(equals == 2);
	buf_done(&path);
	buf_done(&query);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[TEXT_MAX + 1];
	if (size > TEXT_MAX)
		return 0;
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	check_endpoint(text);
	check_encoding(text);
	(void)s3_bucket_valid(text);
	return 0;
}
