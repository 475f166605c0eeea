#include "cloud/s3_headers.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

enum { VALUE_MAX = 256 };

void s3_headers_init(struct s3_headers *headers)
{
	*headers = (struct s3_headers){.first_frame = BLOCK_NO_FRAME};
}

bool s3_region_valid(const char *region)
{
	size_t length = strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-");
	return length > 0 && length < S3_REGION_SIZE && region[length] == '\0';
}

/* Digits and nothing else. */
static bool take_number(const char **text, uint64_t *ret)
{
	uint64_t value = 0;
	const char *at = *text;
	for (; *at >= '0' && *at <= '9'; at++) {
		uint64_t digit = (uint64_t)(*at - '0');
		if (value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	if (at == *text)
		return false;
	*text = at;
	*ret = value;
	return true;
}

static bool whole_number(const char *text, uint64_t *ret)
{
	uint64_t value;
	if (!take_number(&text, &value) || *text != '\0')
		return false;
	*ret = value;
	return true;
}

/* A date of HTTP, in seconds since 1970; 0 if it is none. */
static uint64_t date_of(const char *text)
{
	time_t time = curl_getdate(text, NULL);
	return time > 0 ? (uint64_t)time : 0;
}

static void copy_text(char *to, size_t size, const char *value)
{
	(void)snprintf(to, size, "%s", value);
}

/* bytes FIRST-LAST/TOTAL, where the total may be a star */
static void take_range(struct s3_headers *headers, const char *value)
{
	uint64_t first, last, total = UINT64_MAX;
	if (strncasecmp(value, "bytes ", 6) != 0)
		return;
	value += 6;
	if (!take_number(&value, &first) || *value++ != '-' || !take_number(&value, &last) ||
	    *value++ != '/' || first > last)
		return;
	if (strcmp(value, "*") != 0 && (!whole_number(value, &total) || total <= last))
		return;
	headers->has_range = true;
	headers->range_first = first;
	headers->range_last = last;
	headers->range_total = total;
}

static void take_etag(struct s3_headers *headers, const char *value)
{
	if (strncmp(value, "W/", 2) == 0)
		value += 2;
	size_t length = strlen(value);
	if (length >= 2 && value[0] == '"' && value[length - 1] == '"') {
		value++;
		length -= 2;
	}
	/* One that does not fit is none: half of it would be another. */
	if (length >= sizeof(headers->etag))
		return;
	memcpy(headers->etag, value, length);
	headers->etag[length] = '\0';
}

static void take_retry_after(struct s3_headers *headers, const char *value)
{
	if (!whole_number(value, &headers->retry_after_s))
		headers->retry_at_s = date_of(value);
}

static void take_metadata(struct s3_headers *headers, const char *name, const char *value)
{
	if (strcasecmp(name, "xxh3") == 0)
		headers->has_hash = strlen(value) == HASH_TEXT_LENGTH &&
				    hash_parse(value, &headers->hash) == 0;
	else if (strcasecmp(name, "first-frame") == 0 &&
		 !whole_number(value, &headers->first_frame))
		headers->first_frame = BLOCK_NO_FRAME;
}

static void take_amazon(struct s3_headers *headers, const char *name, const char *value)
{
	if (strncasecmp(name, "meta-", 5) == 0)
		take_metadata(headers, name + 5, value);
	else if (strcasecmp(name, "request-id") == 0)
		copy_text(headers->request_id, sizeof(headers->request_id), value);
	else if (strcasecmp(name, "bucket-region") == 0 && s3_region_valid(value))
		copy_text(headers->region, sizeof(headers->region), value);
	else if (strcasecmp(name, "server-side-encryption") == 0)
		headers->etag_opaque |= strcasecmp(value, "AES256") != 0;
	else if (strcasecmp(name, "server-side-encryption-customer-algorithm") == 0)
		headers->etag_opaque = true;
}

static void take_field(struct s3_headers *headers, const char *name, const char *value)
{
	if (strncasecmp(name, "x-amz-", 6) == 0)
		take_amazon(headers, name + 6, value);
	else if (strcasecmp(name, "content-length") == 0)
		headers->has_length = whole_number(value, &headers->length);
	else if (strcasecmp(name, "transfer-encoding") == 0)
		headers->chunked = strcasecmp(value, "chunked") == 0;
	else if (strcasecmp(name, "content-range") == 0)
		take_range(headers, value);
	else if (strcasecmp(name, "etag") == 0)
		take_etag(headers, value);
	else if (strcasecmp(name, "date") == 0)
		headers->date_s = date_of(value);
	else if (strcasecmp(name, "last-modified") == 0)
		headers->modified_s = date_of(value);
	else if (strcasecmp(name, "retry-after") == 0)
		take_retry_after(headers, value);
	else if (strcasecmp(name, "location") == 0)
		copy_text(headers->location, sizeof(headers->location), value);
}

/* HTTP/1.1 200 OK */
static void take_status(struct s3_headers *headers, const char *line)
{
	uint64_t status;
	const char *at = strchr(line, ' ');
	s3_headers_init(headers);
	if (!at)
		return;
	at++;
	if (take_number(&at, &status) && status >= 100 && status <= 999)
		headers->status = (unsigned)status;
}

void s3_headers_line(struct s3_headers *headers, const char *line, size_t size)
{
	char text[VALUE_MAX + 64];

	while (size > 0 && strchr("\r\n \t", line[size - 1]))
		size--;
	/* Neither a line that is longer than any of ours nor one with a NUL in it says anything. */
	if (size == 0 || size >= sizeof(text) || memchr(line, '\0', size))
		return;
	memcpy(text, line, size);
	text[size] = '\0';

	if (strncmp(text, "HTTP/", 5) == 0) {
		take_status(headers, text);
		return;
	}
	char *value = strchr(text, ':');
	if (!value)
		return;
	*value++ = '\0';
	value += strspn(value, " \t");
	take_field(headers, text, value);
}

uint64_t s3_headers_retry_after_ms(const struct s3_headers *headers, uint64_t now_s)
{
	uint64_t wait_s = headers->retry_after_s;
	if (headers->date_s)
		now_s = headers->date_s;
	if (headers->retry_at_s > now_s)
		wait_s = headers->retry_at_s - now_s;
	return (wait_s < S3_RETRY_AFTER_MAX_S ? wait_s : S3_RETRY_AFTER_MAX_S) * 1000;
}

bool s3_headers_etag_is_md5(const struct s3_headers *headers)
{
	return !headers->etag_opaque && strlen(headers->etag) == 32 &&
	       strspn(headers->etag, "0123456789abcdefABCDEF") == 32;
}
