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

/* A request about one block. The key is shown in messages; OBJECT is where it lies in the bucket. */
struct s3_request {
	struct s3_call call;
	char object[S3_OBJECT_SIZE];
	struct s3_headers headers;
	struct s3_error error;
};

/* -EINVAL: KEY is none. REQUEST must stay where it is. */
MUST_CHECK int s3_request_init(struct s3_request *request, struct s3_store *store,
			       enum block_request kind, const char *method, const char *key,
			       struct reterr *err);
/* As s3_client_call. */
MUST_CHECK int s3_request_do(struct s3_request *request, struct s3_store *store,
			     struct reterr *err);
/* Sets ERR to what is wrong with a reply that came, and returns R. */
int s3_request_refuse(const struct s3_request *request, int r, const char *why, struct reterr *err);
/* -EIO: any web server can say 200. What S3 has, it has an ETag of. */
MUST_CHECK int s3_request_check(const struct s3_request *request, struct reterr *err);
/* What was refused turned out to be no failure. */
void s3_forget(struct reterr *err);

MUST_CHECK int s3_store_get(struct block_store *base, const char *key, void *data, size_t size_max,
			    struct block_head *ret, struct reterr *err);
MUST_CHECK int s3_store_get_range(struct block_store *base, const char *key, void *data,
				  size_t size, uint64_t offset, size_t *ret, struct reterr *err);
MUST_CHECK int s3_store_head(struct block_store *base, const char *key, struct block_head *ret,
			     struct reterr *err);
MUST_CHECK int s3_store_list(struct block_store *base, const char *prefix, const char *after,
			     block_store_list_fn *fn, void *arg, struct reterr *err);

/*
 * As block_store_s3_open, over TRANSPORT instead of libcurl, which is taken over on success. For tests.
 */
MUST_CHECK int block_store_s3_new(const struct s3_options *options,
				  struct http_transport *transport, struct reterr *err,
				  struct block_store **ret);

#endif
