#include "cloud/sigv4.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/invariant.h"

#define ALGORITHM "AWS4-HMAC-SHA256"
#define TERMINATOR "aws4_request"

enum {
	SHA256_SIZE = 32,
	DATE_DAY_SIZE = 8, /* 20150830 */
	SECRET_MAX = 512,
	SCRATCH_MAX = 64 << 10, /* a canonical request */
};

static void hex_of(const uint8_t *bytes, size_t size, char *ret)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < size; i++) {
		ret[2 * i] = digits[bytes[i] >> 4];
		ret[2 * i + 1] = digits[bytes[i] & 15];
	}
	ret[2 * size] = '\0';
}

int sigv4_sha256(const void *data, size_t size, char ret[static SIGV4_SHA256_TEXT_SIZE])
{
	uint8_t sum[SHA256_SIZE];
	/* SHA-256 of memory fails for want of memory only. */
	if (EVP_Digest(data, size, sum, NULL, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	hex_of(sum, sizeof(sum), ret);
	return 0;
}

int sigv4_date(uint64_t time_s, char ret[static SIGV4_DATE_SIZE])
{
	const uint64_t end_of_9999 = 253402300800;
	if (time_s >= end_of_9999)
		return -EINVAL;
	time_t time = (time_t)time_s;
	struct tm tm;
	if (!gmtime_r(&time, &tm) || strftime(ret, SIGV4_DATE_SIZE, "%Y%m%dT%H%M%SZ", &tm) == 0)
		return -EINVAL;
	return 0;
}

/* ---- Encoding ---- */

static bool unreserved(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_' || c == '.' || c == '~';
}

int sigv4_encode(struct buf *ret, const char *text, bool keep_slashes)
{
	static const char digits[] = "0123456789ABCDEF";
	for (; *text; text++) {
		uint8_t byte = (uint8_t)*text;
		char escaped[3] = {'%', digits[byte >> 4], digits[byte & 15]};
		bool plain = unreserved(*text) || (keep_slashes && *text == '/');
		int r = buf_append(ret, plain ? text : escaped, plain ? 1 : sizeof(escaped));
		if (r < 0)
			return r;
	}
	return 0;
}

/* A name and a value, both with a NUL, as offsets into a buffer that still grows. */
struct span {
	size_t name, value;
};

/* Insertion sort: few pairs, and stable, as lists of headers need it. */
static void sort_spans(const struct buf *text, struct span *spans, size_t count, bool by_value)
{
	const char *base = (const char *)text->data;
	for (size_t i = 1; i < count; i++) {
		struct span span = spans[i];
		size_t to = i;
		for (; to > 0; to--) {
			int order = strcmp(base + spans[to - 1].name, base + span.name);
			if (order == 0 && by_value)
				order = strcmp(base + spans[to - 1].value, base + span.value);
			if (order <= 0)
				break;
			spans[to] = spans[to - 1];
		}
		spans[to] = span;
	}
}

static int append_encoded(struct buf *text, const char *value, size_t *ret_at)
{
	*ret_at = text->size;
	int r = sigv4_encode(text, value, false);
	return r < 0 ? r : buf_append_zeros(text, 1);
}

int sigv4_query(struct buf *ret, const struct sigv4_pair *pairs, size_t count)
{
	CLEANUP(buf_done) struct buf text = {.max = SCRATCH_MAX};
	struct span spans[SIGV4_PAIRS_MAX];
	int r = 0;

	if (count > SIGV4_PAIRS_MAX)
		return -E2BIG;
	for (size_t i = 0; i < count; i++) {
		r = append_encoded(&text, pairs[i].name, &spans[i].name);
		if (r == 0)
			r = append_encoded(&text, pairs[i].value, &spans[i].value);
		if (r < 0)
			return r;
	}
	sort_spans(&text, spans, count, true);

	const char *base = (const char *)text.data;
	for (size_t i = 0; i < count && r == 0; i++)
		r = buf_printf(ret, "%s%s=%s", i ? "&" : "", base + spans[i].name,
			       base + spans[i].value);
	return r;
}

/* ---- The canonical request ---- */

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static int append_lower(struct buf *text, const char *name)
{
	for (; *name; name++) {
		char c = lower(*name);
		int r = buf_append(text, &c, 1);
		if (r < 0)
			return r;
	}
	return buf_append_zeros(text, 1);
}

/* Without blanks at its ends, runs of them as one. */
static int append_trimmed(struct buf *text, const char *value)
{
	bool gap = false;
	size_t begin = text->size;
	for (; *value; value++) {
		if (*value == ' ' || *value == '\t') {
			gap = true;
			continue;
		}
		int r = gap && text->size > begin ? buf_append(text, " ", 1) : 0;
		if (r == 0)
			r = buf_append(text, value, 1);
		if (r < 0)
			return r;
		gap = false;
	}
	return buf_append_zeros(text, 1);
}

/* Headers as the signature sees them: names in lower case, sorted; values trimmed. */
struct headers {
	struct buf text;
	struct span spans[SIGV4_PAIRS_MAX];
	size_t count;
};

static void headers_done(struct headers *headers)
{
	/* A session token is among them. */
	if (headers->text.data)
		OPENSSL_cleanse(headers->text.data, headers->text.size);
	buf_done(&headers->text);
}

static int headers_init(struct headers *headers, const struct sigv4_request *request)
{
	*headers = (struct headers){.text = {.max = SCRATCH_MAX}, .count = request->header_count};
	if (request->header_count > SIGV4_PAIRS_MAX)
		return -E2BIG;
	for (size_t i = 0; i < request->header_count; i++) {
		headers->spans[i].name = headers->text.size;
		int r = append_lower(&headers->text, request->headers[i].name);
		if (r < 0)
			return r;
		headers->spans[i].value = headers->text.size;
		r = append_trimmed(&headers->text, request->headers[i].value);
		if (r < 0)
			return r;
	}
	sort_spans(&headers->text, headers->spans, headers->count, false);
	return 0;
}

static const char *header_name(const struct headers *headers, size_t i)
{
	return (const char *)headers->text.data + headers->spans[i].name;
}

static bool same_as_before(const struct headers *headers, size_t i)
{
	return i > 0 && strcmp(header_name(headers, i - 1), header_name(headers, i)) == 0;
}

static int append_header_lines(const struct headers *headers, struct buf *ret)
{
	const char *base = (const char *)headers->text.data;
	int r = 0;
	for (size_t i = 0; i < headers->count && r == 0; i++) {
		const char *value = base + headers->spans[i].value;
		if (same_as_before(headers, i))
			r = buf_printf(ret, ",%s", value);
		else
			r = buf_printf(ret, "%s%s:%s", i ? "\n" : "", header_name(headers, i),
				       value);
	}
	return r < 0 || headers->count == 0 ? r : buf_append_text(ret, "\n");
}

static int append_signed_names(const struct headers *headers, struct buf *ret)
{
	int r = 0;
	for (size_t i = 0; i < headers->count && r == 0; i++) {
		if (!same_as_before(headers, i))
			r = buf_printf(ret, "%s%s", i ? ";" : "", header_name(headers, i));
	}
	return r;
}

int sigv4_canonical_request(const struct sigv4_request *request, struct buf *ret)
{
	CLEANUP(headers_done) struct headers headers;
	int r = headers_init(&headers, request);
	if (r == 0)
		r = buf_printf(ret, "%s\n%s\n%s\n", request->method, request->path, request->query);
	if (r == 0)
		r = append_header_lines(&headers, ret);
	if (r == 0)
		r = buf_append_text(ret, "\n");
	if (r == 0)
		r = append_signed_names(&headers, ret);
	return r < 0 ? r : buf_printf(ret, "\n%s", request->payload_sha256);
}

/* ---- The signature ---- */

static int append_scope(const struct sigv4_identity *identity, const char *date, struct buf *ret)
{
	return buf_printf(ret, "%.*s/%s/%s/" TERMINATOR, DATE_DAY_SIZE, date, identity->region,
			  identity->service);
}

static void buf_wipe(struct buf *buf)
{
	if (buf->data)
		OPENSSL_cleanse(buf->data, buf->size);
	buf_done(buf);
}

int sigv4_string_to_sign(const struct sigv4_request *request, const struct sigv4_identity *identity,
			 const char *date, struct buf *ret)
{
	CLEANUP(buf_wipe) struct buf canonical = {.max = SCRATCH_MAX};
	char sum[SIGV4_SHA256_TEXT_SIZE];

	int r = sigv4_canonical_request(request, &canonical);
	if (r == 0)
		r = sigv4_sha256(canonical.data, canonical.size, sum);
	if (r == 0)
		r = buf_printf(ret, ALGORITHM "\n%s\n", date);
	if (r == 0)
		r = append_scope(identity, date, ret);
	return r < 0 ? r : buf_printf(ret, "\n%s", sum);
}

/* KEY becomes the HMAC of DATA under it. */
static int hmac_step(uint8_t key[static SHA256_SIZE], const void *data, size_t size)
{
	uint8_t sum[SHA256_SIZE];
	if (!HMAC(EVP_sha256(), key, SHA256_SIZE, data, size, sum, NULL))
		return -ENOMEM;
	memcpy(key, sum, sizeof(sum));
	OPENSSL_cleanse(sum, sizeof(sum));
	return 0;
}

/* The key that is good for one day, one region and one service. */
static int signing_key(const struct sigv4_identity *identity, const char *date,
		       uint8_t key[static SHA256_SIZE])
{
	char secret[SECRET_MAX + sizeof("AWS4")];
	int length = snprintf(secret, sizeof(secret), "AWS4%s", identity->secret);
	int r = -EINVAL;
	if (length > 0 && (size_t)length < sizeof(secret))
		r = HMAC(EVP_sha256(), secret, length, (const uint8_t *)date, DATE_DAY_SIZE, key,
			 NULL)
			    ? 0
			    : -ENOMEM;
	OPENSSL_cleanse(secret, sizeof(secret));
	if (r == 0)
		r = hmac_step(key, identity->region, strlen(identity->region));
	if (r == 0)
		r = hmac_step(key, identity->service, strlen(identity->service));
	return r < 0 ? r : hmac_step(key, TERMINATOR, strlen(TERMINATOR));
}

int sigv4_authorization(const struct sigv4_request *request, const struct sigv4_identity *identity,
			const char *date, struct buf *ret)
{
	CLEANUP(buf_done) struct buf to_sign = {.max = SCRATCH_MAX};
	CLEANUP(headers_done) struct headers headers = {0};
	uint8_t key[SHA256_SIZE];
	char signature[SIGV4_SHA256_TEXT_SIZE];

	invariant(strlen(date) == SIGV4_DATE_SIZE - 1);
	int r = sigv4_string_to_sign(request, identity, date, &to_sign);
	if (r == 0)
		r = signing_key(identity, date, key);
	if (r == 0)
		r = hmac_step(key, to_sign.data, to_sign.size);
	if (r < 0) {
		OPENSSL_cleanse(key, sizeof(key));
		return r;
	}
	hex_of(key, sizeof(key), signature);

	r = headers_init(&headers, request);
	if (r == 0)
		r = buf_printf(ret, ALGORITHM " Credential=%s/", identity->key_id);
	if (r == 0)
		r = append_scope(identity, date, ret);
	if (r == 0)
		r = buf_append_text(ret, ", SignedHeaders=");
	if (r == 0)
		r = append_signed_names(&headers, ret);
	return r < 0 ? r : buf_printf(ret, ", Signature=%s", signature);
}
