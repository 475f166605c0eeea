/*
 * What one would do without protofs against S3: a loop of libcurl calls that signs what it sends. It shares no code with
 * cloud/, retries nothing and verifies nothing.
 */
#ifndef PROTOFS_BENCH_BARE_S3_H
#define PROTOFS_BENCH_BARE_S3_H

#include <stddef.h>
#include <stdint.h>

#include <curl/curl.h>

#include "base/attr.h"
#include "batch.h"

enum { BARE_URL_SIZE = 1024, BARE_TEXT_SIZE = 256 };

/* One for each thread: it keeps its connection. */
struct bare_connection {
	CURL *curl;
	const uint8_t *send; /* what is left to be sent */
	size_t send_size;
	uint8_t *receive; /* where what comes goes */
	size_t receive_size, received;
};

struct bare_s3 {
	char endpoint[BARE_TEXT_SIZE], host[BARE_TEXT_SIZE], bucket[BARE_TEXT_SIZE];
	char access_key[BARE_TEXT_SIZE], secret_key[BARE_TEXT_SIZE], region[BARE_TEXT_SIZE];
	struct bare_connection connections[BATCH_THREADS_MAX];
	unsigned count;
};

/*
 * Credentials, region and endpoint come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL. All:
 * 0 or -errno; what the server said is on stderr. THREAD's calls come from one thread at a time.
 */
MUST_CHECK int bare_s3_open(struct bare_s3 *s3, const char *bucket, unsigned connections);
void bare_s3_close(struct bare_s3 *s3);

MUST_CHECK int bare_s3_put(struct bare_s3 *s3, unsigned thread, const char *key, const void *data,
			   size_t size);
/* -EFBIG it has more than SIZE bytes. */
MUST_CHECK int bare_s3_get(struct bare_s3 *s3, unsigned thread, const char *key, void *data,
			   size_t size, size_t *ret);
MUST_CHECK int bare_s3_delete(struct bare_s3 *s3, unsigned thread, const char *key);

#endif
