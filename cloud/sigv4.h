/*
 * AWS Signature Version 4, for requests whose payload is signed too.
 *
 * What is signed must be, byte for byte, what goes over the wire: paths and queries are made here
 * (sigv4_encode, sigv4_query) and used unchanged in the URL. The path is encoded once and never
 * normalised, as S3 wants it.
 */
#ifndef PROTOFS_CLOUD_SIGV4_H
#define PROTOFS_CLOUD_SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"

enum {
	SIGV4_SHA256_TEXT_SIZE = 65, /* 64 hex digits and a NUL */
	SIGV4_DATE_SIZE = 17,        /* 20150830T123600Z and a NUL */
	SIGV4_PAIRS_MAX = 24,        /* of a query, and headers of a request */
};

struct sigv4_pair {
	const char *name, *value;
};

struct sigv4_request {
	const char *method;
	const char *path;  /* encoded, beginning with a slash */
	const char *query; /* of sigv4_query; "" none */
	/* All that are to be signed, in any order and case; one name several times is one list. */
	const struct sigv4_pair *headers;
	size_t header_count;
	const char *payload_sha256; /* hex */
};

struct sigv4_identity {
	const char *key_id, *secret;
	const char *region, *service;
};

/* 64 lower-case hex digits. -ENOMEM. */
MUST_CHECK int sigv4_sha256(const void *data, size_t size, char ret[static SIGV4_SHA256_TEXT_SIZE]);

/* TIME_S since 1970 as x-amz-date takes it. -EINVAL beyond the year 9999. */
MUST_CHECK int sigv4_date(uint64_t time_s, char ret[static SIGV4_DATE_SIZE]);

/*
 * All that append to RET: -ENOMEM; -EFBIG beyond its max; -E2BIG more than SIGV4_PAIRS_MAX pairs.
 * What RET holds after a failure is not to be used.
 */

/* TEXT with all but A-Z a-z 0-9 - _ . ~ as %XX; slashes too unless KEEP_SLASHES. */
MUST_CHECK int sigv4_encode(struct buf *ret, const char *text, bool keep_slashes);
/* The encoded pairs, sorted: the part of a URL behind its question mark. */
MUST_CHECK int sigv4_query(struct buf *ret, const struct sigv4_pair *pairs, size_t count);

/* The three steps of signing, apart so that each can be held against what AWS publishes. */
MUST_CHECK int sigv4_canonical_request(const struct sigv4_request *request, struct buf *ret);
MUST_CHECK int sigv4_string_to_sign(const struct sigv4_request *request,
				    const struct sigv4_identity *identity, const char *date,
				    struct buf *ret);
/* The value of the header Authorization, which has no secret in it. */
MUST_CHECK int sigv4_authorization(const struct sigv4_request *request,
				   const struct sigv4_identity *identity, const char *date,
				   struct buf *ret);

#endif
