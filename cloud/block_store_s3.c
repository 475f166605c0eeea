/*
 * Blocks as S3 objects: <prefix>/<key>, the bytes of the block and nothing else. Its hash and its first
 * frame are the object's metadata (x-amz-meta-xxh3, x-amz-meta-first-frame).
 *
 * A put carries If-None-Match: *, so that S3 itself lets one of two writers win. A server that answers
 * 501 to that, or ignores it, is remembered: from then on a put looks first and then writes, and
 * status says that this is no protection. One attempt a call; blocks are at most 64 MiB, so nothing is
 * ever uploaded in parts.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "cloud/block_key.h"
#include "cloud/block_store_s3.h"

enum {
	CONNECTIONS_MAX = 64,
	CONNECT_TIMEOUT_MS = 10000,
	STALL_TIMEOUT_MS = 30000,
};

#define META_HASH "x-amz-meta-xxh3"
#define META_FIRST_FRAME "x-amz-meta-first-frame"

static int bad_key(struct reterr *err, const char *key)
{
	return reterr_set(err, -EINVAL, "\"%.100s\" is no key of a block", key);
}

int s3_request_init(struct s3_request *request, struct s3_store *store, enum block_request kind,
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

int s3_request_do(struct s3_request *request, struct s3_store *store, struct reterr *err)
{
	return s3_client_call(&store->client, &request->call, &request->headers, &request->error,
			      err);
}

void s3_forget(struct reterr *err)
{
	if (err)
		*err = (struct reterr){0};
}

int s3_request_refuse(const struct s3_request *request, int r, const char *why, struct reterr *err)
{
	return reterr_set(err, r, "%s %s: %s", request->call.method, request->call.what, why);
}

int s3_request_check(const struct s3_request *request, struct reterr *err)
{
	if (request->headers.etag[0] || request->headers.has_hash)
		return 0;
	return s3_request_refuse(request, -EIO,
				 "the reply has no ETag, as S3's would have: check the endpoint",
				 err);
}

/* ---- put, replace ---- */

static int put_object(struct s3_store *store, const char *key, const void *data, size_t size,
		      uint64_t first_frame, bool conditional, struct s3_error *ret_error,
		      struct reterr *err)
{
	struct s3_request request;
	struct sigv4_pair headers[3];
	size_t count = 0;
	char hash_text[HASH_TEXT_LENGTH + 1], frame_text[24];

	*ret_error = (struct s3_error){0};
	int r = s3_request_init(&request, store, BLOCK_REQUEST_PUT, "PUT", key, err);
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
	r = s3_request_do(&request, store, err);
	*ret_error = request.error;
	return r < 0 ? r : s3_request_check(&request, err);
}

/* For servers that cannot refuse: looks, and then writes. */
static int put_after_look(struct s3_store *store, const char *key, const void *data, size_t size,
			  uint64_t first_frame, struct reterr *err)
{
	struct block_head head;
	struct s3_error error;
	int r = s3_store_head(&store->base, key, &head, err);
	if (r == 0)
		return reterr_set(err, -EEXIST, "PUT %s: there is one already", key);
	if (r != -ENOENT)
		return r;
	s3_forget(err);
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

/* ---- The rest ---- */

static int s3_delete(struct block_store *base, const char *key, struct reterr *err)
{
	struct s3_store *store = s3_store_of(base);
	struct s3_request request;
	int r = s3_request_init(&request, store, BLOCK_REQUEST_DELETE, "DELETE", key, err);
	if (r < 0)
		return r;
	r = s3_request_do(&request, store, err);
	if (r != -ENOENT)
		return r;
	s3_forget(err);
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
	.get = s3_store_get,
	.get_range = s3_store_get_range,
	.head = s3_store_head,
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
