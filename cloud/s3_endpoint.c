#include "cloud/s3_endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LOWER "abcdefghijklmnopqrstuvwxyz0123456789"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

bool s3_bucket_valid(const char *bucket)
{
	size_t length = strspn(bucket, LOWER UPPER ".-_");
	return length >= 3 && length < S3_BUCKET_SIZE && bucket[length] == '\0' &&
	       strchr(".-_", bucket[0]) == NULL && !strstr(bucket, "..");
}

/* One label of a host name: a dot would leave what a wildcard certificate covers. */
static bool bucket_is_label(const char *bucket)
{
	size_t length = strspn(bucket, LOWER "-");
	return bucket[length] == '\0' && bucket[length - 1] != '-';
}

/* Splits "host:port", "[v6]:port". False if it is neither. */
static bool split_host(const char *text, char host[static S3_HOST_SIZE], unsigned *ret_port)
{
	size_t length = text[0] == '[' ? strcspn(text, "]") : strcspn(text, ":");
	if (text[0] == '[' && text[length] == ']')
		length++;
	if (length == 0 || length >= S3_HOST_SIZE - 8)
		return false;
	memcpy(host, text, length);
	host[length] = '\0';
	text += length;
	*ret_port = 0;
	if (*text == '\0')
		return true;
	size_t digits = strspn(text + 1, "0123456789");
	if (*text != ':' || digits == 0 || digits > 5 || text[1 + digits] != '\0')
		return false;
	*ret_port = (unsigned)atoi(text + 1);
	return *ret_port > 0 && *ret_port <= 65535;
}

static bool is_v6(const char *host)
{
	char address[INET6_ADDRSTRLEN];
	struct in6_addr parsed;
	size_t length = strlen(host);
	if (host[0] != '[' || length < 4 || length - 2 >= sizeof(address))
		return false;
	memcpy(address, host + 1, length - 2);
	address[length - 2] = '\0';
	return host[length - 1] == ']' && inet_pton(AF_INET6, address, &parsed) == 1;
}

static bool is_v4(const char *host)
{
	struct in_addr parsed;
	return inet_pton(AF_INET, host, &parsed) == 1;
}

static bool is_name(const char *host)
{
	size_t length = strspn(host, LOWER UPPER ".-_");
	return host[length] == '\0' && host[0] != '.' && host[0] != '-';
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), end_length = strlen(end);
	return length >= end_length && strcasecmp(text + length - end_length, end) == 0;
}

static bool is_loopback(const char *host)
{
	if (is_v4(host))
		return strncmp(host, "127.", 4) == 0;
	return strcmp(host, "[::1]") == 0 || strcasecmp(host, "localhost") == 0 ||
	       ends_with(host, ".localhost");
}

static int bad(struct reterr *err, const char *url, const char *why)
{
	return reterr_set(err, -EINVAL, "endpoint \"%.200s\": %s", url, why);
}

static int parse_url(const char *url, struct s3_endpoint *ret, struct reterr *err)
{
	char text[S3_HOST_SIZE], host[S3_HOST_SIZE];
	const char *at = url;
	unsigned port;

	if (strncasecmp(at, "https://", 8) == 0) {
		ret->tls = true;
		at += 8;
	} else if (strncasecmp(at, "http://", 7) == 0) {
		at += 7;
	} else {
		return bad(err, url, "it must be https://HOST[:PORT]");
	}
	size_t length = strlen(at);
	while (length > 0 && at[length - 1] == '/')
		length--;
	if (length >= sizeof(text))
		return bad(err, url, "too long");
	memcpy(text, at, length);
	text[length] = '\0';
	if (strpbrk(text, "/?#@"))
		return bad(err, url, "a host and a port, and neither a path nor a user");
	if (!split_host(text, host, &port) || !(is_v6(host) || is_v4(host) || is_name(host)))
		return bad(err, url, "no host that can be used, or no port");

	/* The header Host leaves out the port that goes without saying. */
	bool plain = port == 0 || port == (ret->tls ? 443 : 80);
	(void)snprintf(ret->host, sizeof(ret->host), plain ? "%.270s" : "%.270s:%u", host, port);
	ret->loopback = is_loopback(host);
	return 0;
}

int s3_endpoint_parse(const char *url, const char *bucket, bool virtual_host, bool allow_http,
		      struct reterr *err, struct s3_endpoint *ret)
{
	struct s3_endpoint endpoint = {0};
	char host[S3_HOST_SIZE];
	unsigned port;

	if (!url) {
		*ret = (struct s3_endpoint){
			.aws = true, .tls = true, .virtual_host = bucket_is_label(bucket)};
		return 0;
	}
	int r = parse_url(url, &endpoint, err);
	if (r < 0)
		return r;
	if (!endpoint.tls && !endpoint.loopback && !allow_http)
		return bad(err, url,
			   "without TLS everybody on the way can read and change what is stored: "
			   "use https, or set PROTOFS_S3_ALLOW_HTTP=1 if that is acceptable");
	(void)split_host(endpoint.host, host, &port);
	if (virtual_host && (!is_name(host) || is_v4(host)))
		return bad(err, url, "an address cannot have the bucket's name in front of it");
	if (virtual_host && !bucket_is_label(bucket))
		return reterr_set(err, -EINVAL,
				  "bucket \"%s\" cannot be part of a host name: use path style",
				  bucket);
	endpoint.virtual_host = virtual_host;
	*ret = endpoint;
	return 0;
}

int s3_endpoint_host(const struct s3_endpoint *endpoint, const char *bucket, const char *region,
		     struct buf *ret)
{
	int r = endpoint->virtual_host ? buf_printf(ret, "%s.", bucket) : 0;
	if (r < 0)
		return r;
	if (!endpoint->aws)
		return buf_append_text(ret, endpoint->host);
	return buf_printf(ret, "s3.%s.amazonaws.com%s", region,
			  strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}
