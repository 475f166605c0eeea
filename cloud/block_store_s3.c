/*
 * Blocks as S3 objects: <prefix>/<key>, the bytes of the block and nothing else. Its hash and its first
 * frame are the object's metadata (x-amz-meta-xxh3, x-amz-meta-first-frame).
 *
 * A put carries If-None-Match: *, so that S3 itself lets one of two writers win. A server that answers
 * 501 to that, or ignores it, is remembered: from then on a put looks first and then writes, and status says that this
 * is no protection. One attempt a call; blocks are at most 64 MiB, so nothing is ever uploaded in
 * parts.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/hash.h"
#include "cloud/block_key.h"
#include "cloud/block_store_s3.h"

enum {
	CONNECTIONS_MAX = 64,
	CONNECT_TIMEOUT_MS = 10000,
	STALL_TIMEOUT_MS = 30000,
	/* For so long a bucket that was there is taken to be there still. */
	BUCKET_TRUSTED_MS = 60000,
};

#define META_HASH "x-amz-meta-xxh3"
#define META_FIRST_FRAME "x-amz-meta-first-frame"

static int bad_key(struct reterr *err, const char *key)
{
	return reterr_set(err, -EINVAL, "\"%.100s\" is no key of a block", key);
}

/* A request about one block. KEY is shown in messages; OBJECT is where it lies in the bucket. */
struct request {
	struct s3_call call;
	char object[S3_OBJECT_SIZE];
	struct s3_headers headers;
	struct s3_error error;
};

static int request_init(struct request *request, struct s3_store *store, enum block_request kind,
			const char *method, const char *key, struct reterr *err)
{
	if (block_key_parse(key, NULL) < 0)
		return bad_key(err, key);
	request->call = (struct s3_call){
		.kind = kind, .method = method, .object = request->object, .what = key};
	(void)snprintf(request->object, sizeof(request->object), "%s%s",
		       store->client.settings.prefix, key);
	return 0;
}

static int request_do(struct request *request, struct s3_store *store, struct reterr *err)
{
	return s3_client_call(&store->client, &request->call, &request->headers, &request->error,
			      err);
}

/* What was refused turned out to be no failure. */
static void forget(struct reterr *err)
{
	if (err)
		*err = (struct reterr){0};
}

/* The request was answered as it should, but its reply is no good. */
static int refuse(const struct request *request, int r, const char *why, struct reterr *err)
{
	return reterr_set(err, r, "%s %s: %s", request->call.method, request->call.what, why);
}

/* Any web server can say 200: what S3 has, it has an ETag of. */
static int check_etag(const struct request *request, struct reterr *err)
{
	if (request->headers.etag[0] || request->headers.has_hash)
		return 0;
	return refuse(request, -EIO,
		      "the reply has no ETag, as S3's would have: check the endpoint", err);
}

/* ---- put, replace ---- */

static int put_object(struct s3_store *store, const char *key, const void *data, size_t size,
		      uint64_t first_frame, bool conditional, struct s3_error *ret_error,
		      struct reterr *err)
{
	struct request request;
	struct sigv4_pair headers[3];
	size_t count = 0;
	char hash_text[HASH_TEXT_LENGTH + 1], frame_text[24];

	*ret_error = (struct s3_error){0};
	int r = request_init(&request, store, BLOCK_REQUEST_PUT, "PUT", key, err);
	if (r < 0)
		return r;
	struct hash hash = hash_of(data, size);
	headers[count++] = (struct sigv4_pair){META_HASH, hash_format(&hash, hash_text)};
	if (first_frame != BLOCK_NO_FRAME) {
		(void)snprintf(frame_text, sizeof(frame_text), "%" PRIu64, first_frame);
		headers[count++] = (struct sigv4_pair){META_FIRST_FRAME, frame_text};
	}
	if (conditional)
		headers[count++] = (struct sigv4_pair){"If-None-Match", "*"};
	request.call.headers = headers;
	request.call.header_count = count;
	request.call.body = data;
	request.call.body_size = size;
	r = request_do(&request, store, err);
	*ret_error = request.error;
	return r < 0 ? r : check_etag(&request, err);
}

static int s3_head(struct block_store *base, const char *key, struct block_head *ret,
		   struct reterr *err);

/* For servers that cannot refuse: looks, and then writes. */
static int put_after_look(struct s3_store *store, const char *key, const void *data, size_t size,
			  uint64_t first_frame, struct reterr *err)
{
	struct block_head head;
	struct s3_error error;
	int r = s3_head(&store->base, key, &head, err);
	if (r == 0)
		return reterr_set(err, -EEXIST, "PUT %s: there is one already", key);
	if (r != -ENOENT)
		return r;
	forget(err);
	return put_object(store, key, data, size, first_frame, false, &error, err);
}

static int check_size(const char *key, size_t size, struct reterr *err)
{
	if (size <= BLOCK_STORE_SIZE_MAX)
		return 0;
	return reterr_set(err, -EFBIG, "%.100s: %zu bytes are too many for a block", key, size);
}

/*
 * A server that does not know the condition may not say so but ignore it, and then everybody wins. The
 * first manifest of each process is put again, byte for byte: who takes it cannot refuse.
 */
static void prove_condition(struct s3_store *store, const char *key, const void *data, size_t size,
			    uint64_t first_frame)
{
	struct block_key parsed;
	struct s3_error error;
	if (block_key_parse(key, &parsed) < 0 || parsed.kind != BLOCK_KEY_ROOT ||
	    atomic_exchange(&store->proved, true))
		return;
	int r = put_object(store, key, data, size, first_frame, true, &error, NULL);
	if (r == 0)
		atomic_store(&store->conditional, false);
	else if (r != -EEXIST)
		atomic_store(&store->proved, false); /* nothing was learnt: the next one again */
}

static int s3_put(struct block_store *base, const char *key, const void *data, size_t size,
		  uint64_t first_frame, struct reterr *err)
{
	struct s3_store *store = s3_store_of(base);
	struct s3_error error;
	int r = check_size(key, size, err);
	if (r < 0)
		return r;
	if (!atomic_load(&store->conditional))
		return put_after_look(store, key, data, size, first_frame, err);

	r = put_object(store, key, data, size, first_frame, true, &error, err);
	if (r == 0)
		prove_condition(store, key, data, size, first_frame);
	if (error.status != 501)
		return r;
	r = put_after_look(store, key, data, size, first_frame, err);
	/* Without the condition it works: so that was it. */
	if (r == 0 || r == -EEXIST)
		atomic_store(&store->conditional, false);
	return r;
}

static int s3_replace(struct block_store *base, const char *key, const void *data, size_t size,
		      struct reterr *err)
{
	struct block_key parsed;
	struct s3_error error;
	if (block_key_parse(key, &parsed) < 0 || parsed.kind != BLOCK_KEY_OWNER)
		return bad_key(err, key);
	int r = check_size(key, size, err);
	return r < 0 ? r
		     : put_object(s3_store_of(base), key, data, size, BLOCK_NO_FRAME, false, &error,
				  err);
}

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

static int s3_get(struct block_store *base, const char *key, void *data, size_t size_max,
		  struct block_head *ret, struct reterr *err)
{
	struct s3_store *store = s3_store_of(base);
	struct request request;
	struct body body = {.data = data, .size_max = size_max};
	int r = request_init(&request, store, BLOCK_REQUEST_GET, "GET", key, err);
	if (r < 0)
		return r;
	request.call.take = take_whole;
	request.call.begin = begin_body;
	request.call.arg = &body;
	r = request_do(&request, store, err);
	if (body.refused)
		return refuse(&request, r, body.refused, err);
	if (r == 0)
		r = check_etag(&request, err);
	if (r < 0)
		return r;

	fill_head(&request.headers, body.size, ret);
	if (ret->recorded)
		return 0;
	/* Somebody copied it without its metadata: S3's own sum is the only other witness. */
	ret->hash = hash_of(data, body.size);
	if (s3_headers_etag_is_md5(&request.headers) &&
	    md5_differs(request.headers.etag, data, body.size))
		return refuse(&request, -EBADMSG, "the bytes are not those that the ETag sums up",
			      err);
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

static int s3_get_range(struct block_store *base, const char *key, void *data, size_t size,
			uint64_t offset, size_t *ret, struct reterr *err)
{
	struct s3_store *store = s3_store_of(base);
	struct request request;
	struct body body = {.data = data, .size_max = size, .offset = offset};
	char range[64];

	int r = request_init(&request, store, BLOCK_REQUEST_GET, "GET", key, err);
	if (r < 0)
		return r;
	if (size == 0 || offset > BLOCK_KEY_POSITION_MAX) {
		struct block_head head;
		r = s3_head(base, key, &head, err);
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
	r = request_do(&request, store, err);
	if (body.refused)
		return refuse(&request, r, body.refused, err);
	/* Behind the end. A block that is not there is 404. */
	if (request.error.status == 416) {
		forget(err);
		*ret = 0;
		return 0;
	}
	if (r == 0)
		r = check_etag(&request, err);
	if (r < 0)
		return r;
	const char *why = judge_part(&request.headers, &body);
	if (why)
		return refuse(&request, -EIO, why, err);
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
	int r = s3_get_range(&store->base, key, &byte, 1, 0, &got, err);
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
	struct request request;
	struct hash_stream *stream = NULL;
	/* None of ours is so large. */
	if (head->size > BLOCK_STORE_SIZE_MAX)
		return 0;
	int r = request_init(&request, store, BLOCK_REQUEST_GET, "GET", key, err);
	if (r == 0 && (r = hash_stream_new(&stream)) < 0)
		(void)reterr_set(err, r, "GET %s: %s", key, strerror(-r));
	if (r == 0) {
		request.call.take = take_hash;
		request.call.begin = begin_hash;
		request.call.arg = stream;
		r = request_do(&request, store, err);
	}
	if (r == 0)
		head->hash = hash_stream_sum(stream);
	hash_stream_free(stream);
	return r;
}

static int s3_head(struct block_store *base, const char *key, struct block_head *ret,
		   struct reterr *err)
{
	struct s3_store *store = s3_store_of(base);
	struct request request;
	struct block_head head;
	int r = request_init(&request, store, BLOCK_REQUEST_HEAD, "HEAD", key, err);
	if (r < 0)
		return r;
	r = request_do(&request, store, err);
	if (r == -ENOENT)
		return confirm_absence(store, key, err);
	if (r == 0)
		r = check_etag(&request, err);
	if (r < 0)
		return r;
	if (!request.headers.has_length)
		return refuse(&request, -EIO, "the reply does not say how large the object is",
			      err);
	fill_head(&request.headers, request.headers.length, &head);
	r = head.recorded ? 0 : read_hash(store, key, &head, err);
	if (r == 0)
		*ret = head;
	return r;
}

/* ---- The rest ---- */

static int s3_delete(struct block_store *base, const char *key, struct reterr *err)
{
	struct s3_store *store = s3_store_of(base);
	struct request request;
	int r = request_init(&request, store, BLOCK_REQUEST_DELETE, "DELETE", key, err);
	if (r < 0)
		return r;
	r = request_do(&request, store, err);
	if (r != -ENOENT)
		return r;
	forget(err);
	return 0;
}

static void s3_status(struct block_store *base, struct block_store_status *ret)
{
	struct s3_store *store = s3_store_of(base);
	struct s3_client *client = &store->client;
	*ret = (struct block_store_status){
		.place = "s3",
		.conditional = atomic_load(&store->conditional),
		.bytes_sent = atomic_load(&client->bytes_sent),
		.bytes_received = atomic_load(&client->bytes_received),
	};
	for (unsigned i = 0; i < BLOCK_REQUESTS; i++)
		ret->requests[i] = atomic_load(&client->requests[i]);
}

static void s3_stop(struct block_store *base)
{
	struct http_transport *transport = s3_store_of(base)->client.transport;
	transport->ops->stop(transport);
}

static void s3_free(struct block_store *base)
{
	struct s3_store *store = s3_store_of(base);
	s3_client_done(&store->client);
	free(store);
}

static const struct block_store_ops s3_ops = {
	.name = "s3",
	.put = s3_put,
	.replace = s3_replace,
	.get = s3_get,
	.get_range = s3_get_range,
	.head = s3_head,
	.list = s3_store_list,
	.delete = s3_delete,
	.status = s3_status,
	.stop = s3_stop,
	.free = s3_free,
};

/* Takes over SETTINGS and TRANSPORT on success. */
static int store_new(const struct s3_options *options, struct s3_settings *settings,
		     struct http_transport *transport, struct reterr *err, struct block_store **ret)
{
	struct s3_store *store = calloc(1, sizeof(*store));
	int r = store ? s3_client_init(&store->client, settings, transport,
				       options->clock ? options->clock : clock_system())
		      : -ENOMEM;
	if (r < 0) {
		free(store);
		return reterr_set(err, r, "%s", strerror(-r));
	}
	store->base.ops = &s3_ops;
	atomic_init(&store->conditional, true);
	*ret = &store->base;
	return 0;
}

int block_store_s3_new(const struct s3_options *options, struct http_transport *transport,
		       struct reterr *err, struct block_store **ret)
{
	CLEANUP(s3_settings_done) struct s3_settings settings = {0};
	int r = s3_settings_load(options, err, &settings);
	return r < 0 ? r : store_new(options, &settings, transport, err, ret);
}

int block_store_s3_open(const struct s3_options *options, struct reterr *err,
			struct block_store **ret)
{
	CLEANUP(s3_settings_done) struct s3_settings settings = {0};
	struct http_transport *transport = NULL;
	int r = s3_settings_load(options, err, &settings);
	if (r < 0)
		return r;
	const struct http_curl_options curl = {
		.ca_bundle = settings.ca_bundle[0] ? settings.ca_bundle : NULL,
		/* A proxy is never the way to this machine itself. */
		.no_proxy = settings.endpoint.loopback,
		.connect_timeout_ms = options->connect_timeout_ms ? options->connect_timeout_ms
								  : CONNECT_TIMEOUT_MS,
		.stall_timeout_ms = options->stall_timeout_ms ? options->stall_timeout_ms
							      : STALL_TIMEOUT_MS,
		.connections_max = CONNECTIONS_MAX,
	};
	r = http_curl_new(&curl, err, &transport);
	if (r < 0)
		return r;
	r = store_new(options, &settings, transport, err, ret);
	if (r < 0)
		transport->ops->free(transport);
	return r;
}
