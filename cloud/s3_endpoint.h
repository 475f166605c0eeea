/*
 * Where an S3 server is, and how a bucket's name gets into its address.
 */
#ifndef PROTOFS_CLOUD_S3_ENDPOINT_H
#define PROTOFS_CLOUD_S3_ENDPOINT_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/reterr.h"

enum { S3_HOST_SIZE = 280, S3_BUCKET_SIZE = 64 };

struct s3_endpoint {
	bool aws; /* AWS's own: the host follows from the region */
	bool tls;
	bool loopback;
	bool virtual_host;       /* bucket.host/key, not host/bucket/key */
	char host[S3_HOST_SIZE]; /* host[:port], as the header Host has it; of AWS "" */
};

/* 3 to 63 letters, digits, dots, dashes and underscores; the first one a letter or a digit. */
bool s3_bucket_valid(const char *bucket);

/*
 * URL is http[s]://host[:port], or NULL for AWS. ALLOW_HTTP: also where bytes leave the machine.
 * VIRTUAL_HOST is taken where the bucket's name and the host allow it. -EINVAL.
 */
MUST_CHECK int s3_endpoint_parse(const char *url, const char *bucket, bool virtual_host,
				 bool allow_http, struct reterr *err, struct s3_endpoint *ret);

/* The header Host of a request to BUCKET in REGION. -ENOMEM, -EFBIG. */
MUST_CHECK int s3_endpoint_host(const struct s3_endpoint *endpoint, const char *bucket,
				const char *region, struct buf *ret);

#endif
