#include "bare_s3.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

enum {
	SHA_SIZE = 32,
	HEX_SIZE = 2 * SHA_SIZE + 1,
	DATE_SIZE = 17,
	DAY_LENGTH = 8,
	CALL_BUFFER = 512 << 10,
	UPLOAD_BUFFER = 2 << 20
};

static const char empty_hash[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/* ---- Signing -------------------------------------------------------------------------------- */

static void hex(const uint8_t *data, char *ret)
{
	for (unsigned i = 0; i < SHA_SIZE; i++)
		(void)snprintf(ret + 2 * (size_t)i, 3, "%02x", data[i]);
}

static void sha(const void *data, size_t size, char *ret)
{
	uint8_t sum[SHA_SIZE];

	(void)EVP_Digest(data, size, sum, NULL, EVP_sha256(), NULL);
	hex(sum, ret);
}

static void mac(const void *key, size_t key_size, const char *text, uint8_t *ret)
{
	unsigned size = SHA_SIZE;

	(void)HMAC(EVP_sha256(), key, (int)key_size, (const uint8_t *)text, strlen(text), ret,
		   &size);
}

/* HEADERS end with the signed ones' values, in order and lower case. */
static void sign(const struct bare_s3 *s3, const char *method, const char *path, const char *date,
		 const char *payload, char *ret_authorization, size_t size)
{
	static const char names[] = "host;x-amz-content-sha256;x-amz-date";
	char text[2 * BARE_URL_SIZE], scope[BARE_TEXT_SIZE + 64], sum[HEX_SIZE],
		secret[BARE_TEXT_SIZE + 4];
	uint8_t key[SHA_SIZE], next[SHA_SIZE];

	(void)snprintf(text, sizeof(text),
		       "%s\n%s\n\nhost:%s\nx-amz-content-sha256:%s\nx-amz-date:%s\n\n%s\n%s",
		       method, path, s3->host, payload, date, names, payload);
	sha(text, strlen(text), sum);
	(void)snprintf(scope, sizeof(scope), "%.*s/%s/s3/aws4_request", DAY_LENGTH, date,
		       s3->region);
	(void)snprintf(text, sizeof(text), "AWS4-HMAC-SHA256\n%s\n%s\n%s", date, scope, sum);

	int n = snprintf(secret, sizeof(secret), "AWS4%s", s3->secret_key);
	char day[DAY_LENGTH + 1];
	(void)snprintf(day, sizeof(day), "%.*s", DAY_LENGTH, date);
	mac(secret, (size_t)n, day, key);
	mac(key, SHA_SIZE, s3->region, next);
	mac(next, SHA_SIZE, "s3", key);
	mac(key, SHA_SIZE, "aws4_request", next);
	mac(next, SHA_SIZE, text, key);
	hex(key, sum);
	(void)snprintf(
		ret_authorization, size,
		"Authorization: AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
		s3->access_key, scope, names, sum);
}

/* ---- Transfers ------------------------------------------------------------------------------ */

static size_t give(char *to, size_t one, size_t count, void *arg)
{
	struct bare_connection *c = arg;
	size_t size = one * count < c->send_size ? one * count : c->send_size;

	memcpy(to, c->send, size);
	c->send += size;
	c->send_size -= size;
	return size;
}

static size_t take(char *from, size_t one, size_t count, void *arg)
{
	struct bare_connection *c = arg;
	size_t size = one * count;

	if (size > c->receive_size - c->received)
		return 0;
	memcpy(c->receive + c->received, from, size);
	c->received += size;
	return size;
}

static void set_method(struct bare_connection *c, const char *method)
{
	bool put = strcmp(method, "PUT") == 0;

	(void)curl_easy_setopt(c->curl, CURLOPT_UPLOAD, put ? 1L : 0L);
	if (!put)
		(void)curl_easy_setopt(c->curl, CURLOPT_HTTPGET, 1L);
	(void)curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, put ? NULL : method);
	(void)curl_easy_setopt(c->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)c->send_size);
}

static struct curl_slist *make_headers(const struct bare_s3 *s3, const char *method,
				       const char *path, const void *data, size_t size)
{
	char payload[HEX_SIZE], date[DATE_SIZE], line[BARE_URL_SIZE];
	time_t now = time(NULL);
	struct tm tm;

	(void)gmtime_r(&now, &tm);
	(void)strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", &tm);
	if (size)
		sha(data, size, payload);
	else
		memcpy(payload, empty_hash, sizeof(payload));

	struct curl_slist *list = curl_slist_append(NULL, "Expect:");
	(void)snprintf(line, sizeof(line), "x-amz-date: %s", date);
	list = curl_slist_append(list, line);
	(void)snprintf(line, sizeof(line), "x-amz-content-sha256: %s", payload);
	list = curl_slist_append(list, line);
	sign(s3, method, path, date, payload, line, sizeof(line));
	return curl_slist_append(list, line);
}

static int answer(const struct bare_connection *c, CURLcode code, const char *method,
		  const char *path)
{
	long status = 0;

	(void)curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	if (code == CURLE_OK && status / 100 == 2)
		return 0;
	(void)fprintf(stderr, "%s %s: %s, HTTP %ld: %.*s\n", method, path, curl_easy_strerror(code),
		      status, (int)(c->received < 300 ? c->received : 300),
		      (const char *)c->receive);
	return code == CURLE_WRITE_ERROR ? -EFBIG : -EIO;
}

static int transfer(struct bare_s3 *s3, unsigned thread, const char *method, const char *key,
		    const void *data, size_t size)
{
	struct bare_connection *c = &s3->connections[thread];
	char path[BARE_URL_SIZE / 2], url[BARE_URL_SIZE];
	const char *plus = strchr(key, '+'); /* the only character of our keys that is escaped */

	if (plus)
		(void)snprintf(path, sizeof(path), "/%s/%.*s%%2B%s", s3->bucket, (int)(plus - key),
			       key, plus + 1);
	else
		(void)snprintf(path, sizeof(path), "/%s/%s", s3->bucket, key);
	(void)snprintf(url, sizeof(url), "%s%s", s3->endpoint, path);
	struct curl_slist *headers = make_headers(s3, method, path, data, size);
	if (!headers)
		return -ENOMEM;
	c->send = data;
	c->send_size = size;
	c->received = 0;
	set_method(c, method);
	(void)curl_easy_setopt(c->curl, CURLOPT_URL, url);
	(void)curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
	CURLcode code = curl_easy_perform(c->curl);
	curl_slist_free_all(headers);
	return answer(c, code, method, path);
}

int bare_s3_put(struct bare_s3 *s3, unsigned thread, const char *key, const void *data, size_t size)
{
	struct bare_connection *c = &s3->connections[thread];
	uint8_t message[BARE_URL_SIZE];

	c->receive = message;
	c->receive_size = sizeof(message);
	int r = transfer(s3, thread, "PUT", key, data, size);
	c->receive = NULL;
	return r;
}

int bare_s3_get(struct bare_s3 *s3, unsigned thread, const char *key, void *data, size_t size,
		size_t *ret)
{
	struct bare_connection *c = &s3->connections[thread];

	c->receive = data;
	c->receive_size = size;
	int r = transfer(s3, thread, "GET", key, NULL, 0);
	c->receive = NULL;
	*ret = c->received;
	return r;
}

int bare_s3_delete(struct bare_s3 *s3, unsigned thread, const char *key)
{
	struct bare_connection *c = &s3->connections[thread];
	uint8_t message[BARE_URL_SIZE];

	c->receive = message;
	c->receive_size = sizeof(message);
	int r = transfer(s3, thread, "DELETE", key, NULL, 0);
	c->receive = NULL;
	return r;
}

/* ---- Open and close ------------------------------------------------------------------------- */

static int from_environment(const char *name, char *ret)
{
	const char *value = getenv(name);

	if (!value || strlen(value) >= BARE_TEXT_SIZE) {
		(void)fprintf(stderr, "%s is not set\n", name);
		return -EINVAL;
	}
	(void)snprintf(ret, BARE_TEXT_SIZE, "%s", value);
	return 0;
}

static int connection_open(struct bare_connection *c)
{
	const char *ca = getenv("AWS_CA_BUNDLE");

	c->curl = curl_easy_init();
	if (!c->curl)
		return -ENOMEM;
	(void)curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(c->curl, CURLOPT_TCP_NODELAY, 1L);
	(void)curl_easy_setopt(c->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	(void)curl_easy_setopt(c->curl, CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BUFFER);
	(void)curl_easy_setopt(c->curl, CURLOPT_BUFFERSIZE, (long)CALL_BUFFER);
	(void)curl_easy_setopt(c->curl, CURLOPT_READFUNCTION, give);
	(void)curl_easy_setopt(c->curl, CURLOPT_READDATA, c);
	(void)curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, take);
	(void)curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
	if (ca)
		(void)curl_easy_setopt(c->curl, CURLOPT_CAINFO, ca);
	return 0;
}

int bare_s3_open(struct bare_s3 *s3, const char *bucket, unsigned connections)
{
	*s3 = (struct bare_s3){.count = 0};
	if (!bucket || strlen(bucket) >= sizeof(s3->bucket) || connections > BATCH_THREADS_MAX)
		return -EINVAL;
	(void)snprintf(s3->bucket, sizeof(s3->bucket), "%s", bucket);
	if (from_environment("AWS_ACCESS_KEY_ID", s3->access_key) < 0 ||
	    from_environment("AWS_SECRET_ACCESS_KEY", s3->secret_key) < 0 ||
	    from_environment("AWS_REGION", s3->region) < 0 ||
	    from_environment("AWS_ENDPOINT_URL", s3->endpoint) < 0)
		return -EINVAL;
	const char *host = strstr(s3->endpoint, "://");
	if (!host)
		return -EINVAL;
	(void)snprintf(s3->host, sizeof(s3->host), "%s", host + 3);
	(void)curl_global_init(CURL_GLOBAL_DEFAULT);
	for (; s3->count < connections; s3->count++) {
		int r = connection_open(&s3->connections[s3->count]);
		if (r < 0)
			return r;
	}
	return 0;
}

void bare_s3_close(struct bare_s3 *s3)
{
	for (unsigned i = 0; i < s3->count; i++)
		curl_easy_cleanup(s3->connections[i].curl);
	s3->count = 0;
}
