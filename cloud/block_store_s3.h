/* What the files of the S3 store share, and what tests need of it. */
#ifndef PROTOFS_CLOUD_BLOCK_STORE_S3_H
#define PROTOFS_CLOUD_BLOCK_STORE_S3_H

#include <stdatomic.h>
#include <stdbool.h>

#include <protofs/block_store.h>

#include "base/attr.h"
#include "cloud/cloud.h"
#include "cloud/s3_client.h"

struct s3_store {
	struct block_store base;
	struct s3_client client;
	/* Whether If-None-Match works there: true until the server says 501, or ignores it. */
	atomic_bool conditional;
	atomic_bool proved; /* the server was seen to refuse a second put, or is asked just now */
};

static inline struct s3_store *s3_store_of(struct block_store *base)
{
	return (struct s3_store *)base;
}

MUST_CHECK int s3_store_list(struct block_store *base, const char *prefix, const char *after,
			     block_store_list_fn *fn, void *arg, struct reterr *err);

/*
 * As block_store_s3_open, over TRANSPORT instead of libcurl, which is taken over on success. For tests.
 */
MUST_CHECK int block_store_s3_new(const struct s3_options *options,
				  struct http_transport *transport, struct reterr *err,
				  struct block_store **ret);

#endif
