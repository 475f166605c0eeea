/*
 * Reading S3 objects: whole, in part, and what is known of them. The bytes of a reply go straight into
 * the caller's memory, and only as many as there is room for.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>

#include "base/hash.h"
#include "cloud/block_key.h"
#include "cloud/block_store_s3.h"

/* For so long a bucket that was there is taken to be there still. */
enum { BUCKET_TRUSTED_MS = 60000 };

/* ---- get ---- */

/* Where the bytes of a reply go. */
struct body {
	uint8_t *data;
	size_t size_max;
	size_t size;         /* so far */
	uint64_t offset;     /* of get_range: where the first of them lies in the block */
	uint64_t skipped;    /* of a whole block that came instead of the range */
	const char *refused; /* why no more is taken */
};

static void begin_body(void *arg)
{
	struct body *body = arg;
	body->size = 0;
	body->skipped = 0;
	body->refused = NULL;
}

static int take_whole(void *arg, const struct s3_headers *headers, const void *data, size_t size)
{
	struct body *body = arg;
	bool too_large = headers->has_length && headers->length > body->size_max;
	if (headers->status != 200) {
		body->refused = "the reply has a part of the block, which was not asked for";
		return -EIO;
	}
	if (too_large || size > body->size_max - body->size) {
		body->refused = "the object is larger than the block that is expected";
		return -EFBIG;
	}
	memcpy(body->data + body->size, data, size);
	body->size += size;
	return 0;
}

static void fill_head(const struct s3_headers *headers, uint64_t size, struct block_head *ret)
{
	*ret = (struct block_head){
		.size = size,
		.first_frame = headers->first_frame,
		.modified_ns = headers->modified_s * 1000000000,
		.recorded = headers->has_hash,
	};
	memcpy(ret->etag, headers->etag, sizeof(ret->etag));
	if (headers->has_hash)
		ret->hash = headers->hash;
}

/* Whether the bytes are not those that the ETag is the MD5 of. Unknown is no. */
static bool md5_differs(const char *etag, const void *data, size_t size)
{
	uint8_t sum[EVP_MAX_MD_SIZE];
	char text[33];
	/* Not there in a FIPS build. */
	EVP_MD *md5 = EVP_MD_fetch(NULL, "MD5", NULL);
	bool done = md5 && EVP_Digest(data, size, sum, NULL, md5, NULL) == 1;
	EVP_MD_free(md5);
	if (!done)
		return false;
	for (unsigned i = 0; i < 16; i++)
		(void)snprintf(text + 2 * i, sizeof(text) - 2 * i, "%02x", sum[i]);
	return strcasecmp(text, etag) != 0;
}

int s3_store_get(struct block_store *base, const char *key, void *data, size_t size_max,
		 struct block_head *ret, struct reterr *err)
{
	struct s3_store *store = s3_store_of(base);
	struct s3_request request;
	struct body body = {.data = data, .size_max = size_max};
	int r = s3_request_init(&request, store, BLOCK_REQUEST_GET, "GET", key, err);
	if (r < 0)
		return r;
	request.call.take = take_whole;
	request.call.begin = begin_body;
	request.call.arg = &body;
	r = s3_request_do(&request, store, err);
	if (body.refused)
		return s3_request_refuse(&request, r, body.refused, err);
	if (r == 0)
		r = s3_request_check(&request, err);
	if (r < 0)
		return r;

	fill_head(&request.headers, body.size, ret);
	if (ret->recorded)
		return 0;
	/* Somebody copied it without its metadata: S3's own sum is the only other witness. */
	ret->hash = hash_of(data, body.size);
	if (s3_headers_etag_is_md5(&request.headers) &&
	    md5_differs(request.headers.etag, data, body.size))
		return s3_request_refuse(&request, -EBADMSG,
					 "the bytes are not those that the ETag sums up", err);
	return 0;
}

/* The bytes of body.size_max from body.offset, out of a reply that may begin earlier. */
static int take_part(void *arg, const struct s3_headers *headers, const void *data, size_t size)
{
	struct body *body = arg;
	const uint8_t *bytes = data;
	bool whole = headers->status == 200; /* the server does not know ranges */
	if (!whole && (!headers->has_range || headers->range_first != body->offset ||
		       headers->range_last - headers->range_first >= body->size_max)) {
		body->refused = "the reply has another range than was asked for";
		return -EIO;
	}
	if (whole && body->skipped < body->offset) {
		uint64_t skip = body->offset - body->skipped;
		if (skip > size)
			skip = size;
		body->skipped += skip;
		bytes += skip;
		size -= (size_t)skip;
	}
	size_t room = body->size_max - body->size;
	if (size > room && !whole) {
		body->refused = "the reply has more bytes than it says";
		return -EIO;
	}
	size_t taken = size < room ? size : room;
	memcpy(body->data + body->size, bytes, taken);
	body->size += taken;
	return whole && body->size == body->size_max ? 1 : 0;
}

/* Fewer bytes than were asked for are right at the end of the block only. */
static const char *judge_part(const struct s3_headers *headers, const struct body *body)
{
	if (headers->status == 200)
		return NULL;
	if (!headers->has_range)
		return "the reply does not say which bytes it has";
	if (body->size != headers->range_last - headers->range_first + 1)
		return "the reply has fewer bytes than it says";
	if (body->size < body->size_max && headers->range_total != UINT64_MAX &&
	    headers->range_total != headers->range_last + 1)
		return "the reply ends before the range does";
	return NULL;
}

int s3_store_get_range(struct block_store *base, const char *key, void *data, size_t size,
		       uint64_t offset, size_t *ret, struct reterr *err)
{
	struct s3_store *store = s3_store_of(base);
	struct s3_request request;
	struct body body = {.data = data, .size_max = size, .offset = offset};
	char range[64];

	int r = s3_request_init(&request, store, BLOCK_REQUEST_GET, "GET", key, err);
	if (r < 0)
		return r;
	if (size == 0 || offset > BLOCK_KEY_POSITION_MAX) {
		struct block_head head;
		r = s3_store_head(base, key, &head, err);
		if (r == 0)
			*ret = 0;
		return r;
	}
	(void)snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, offset,
		       offset + size - 1);
	const struct sigv4_pair headers[] = {{"Range", range}};
	request.call.headers = headers;
	request.call.header_count = 1;
	request.call.take = take_part;
	request.call.begin = begin_body;
	request.call.arg = &body;
	r = s3_request_do(&request, store, err);
	if (body.refused)
		return s3_request_refuse(&request, r, body.refused, err);
	/* Behind the end. A block that is not there is 404. */
	if (request.error.status == 416) {
		s3_forget(err);
		*ret = 0;
		return 0;
	}
	if (r == 0)
		r = s3_request_check(&request, err);
	if (r < 0)
		return r;
	const char *why = judge_part(&request.headers, &body);
	if (why)
		return s3_request_refuse(&request, -EIO, why, err);
	*ret = body.size;
	return 0;
}

/* ---- head ---- */

/*
 * A reply to HEAD has no body, so that a 404 does not say what is missing. Unless the bucket was there
 * a moment ago, a GET of one byte asks for the name of the error.
 */
static int confirm_absence(struct s3_store *store, const char *key, struct reterr *err)
{
	struct s3_client *client = &store->client;
	uint64_t seen_ms = atomic_load(&client->bucket_seen_ms);
	if (seen_ms && client->clock->now_ms(client->clock) - seen_ms < BUCKET_TRUSTED_MS)
		return -ENOENT;

	uint8_t byte;
	size_t got;
	int r = s3_store_get_range(&store->base, key, &byte, 1, 0, &got, err);
	if (r == 0)
		return reterr_set(err, -EAGAIN, "HEAD %s: it came just now", key);
	return r;
}

static int take_hash(void *arg, const struct s3_headers *headers, const void *data, size_t size)
{
	(void)headers;
	hash_stream_update(arg, data, size);
	return 0;
}

static void begin_hash(void *arg)
{
	hash_stream_reset(arg);
}

/* The hash of an object that has lost its own, from its bytes. */
static int read_hash(struct s3_store *store, const char *key, struct block_head *head,
		     struct reterr *err)
{
	struct s3_request request;
	struct hash_stream *stream = NULL;
	/* None of ours is so large. */
	if (head->size > BLOCK_STORE_SIZE_MAX)
		return 0;
	int r = s3_request_init(&request, store, BLOCK_REQUEST_GET, "GET", key, err);
	if (r == 0 && (r = hash_stream_new(&stream)) < 0)
		(void)reterr_set(err, r, "GET %s: %s", key, strerror(-r));
	if (r == 0) {
		request.call.take = take_hash;
		request.call.begin = begin_hash;
		request.call.arg = stream;
		r = s3_request_do(&request, store, err);
	}
	if (r == 0)
		head->hash = hash_stream_sum(stream);
	hash_stream_free(stream);
	return r;
}

int s3_store_head(struct block_store *base, const char *key, struct block_head *ret,
		  struct reterr *err)
{
	struct s3_store *store = s3_store_of(base);
	struct s3_request request;
	struct block_head head;
	int r = s3_request_init(&request, store, BLOCK_REQUEST_HEAD, "HEAD", key, err);
	if (r < 0)
		return r;
	r = s3_request_do(&request, store, err);
	if (r == -ENOENT)
		return confirm_absence(store, key, err);
	if (r == 0)
		r = s3_request_check(&request, err);
	if (r < 0)
		return r;
	if (!request.headers.has_length)
		return s3_request_refuse(&request, -EIO,
					 "the reply does not say how large the object is", err);
	fill_head(&request.headers, request.headers.length, &head);
	r = head.recorded ? 0 : read_hash(store, key, &head, err);
	if (r == 0)
		*ret = head;
	return r;
}
