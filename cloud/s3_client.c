#include "cloud/s3_client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/invariant.h"

enum {
	URL_MAX = 16 << 10,
	HEADER_TEXT_MAX = 16 << 10, /* of the signed headers: a session token is the longest */
	AUTHORIZATION_MAX = 4096,
	RELOAD_MS = 5000, /* between two looks at the credentials' file */
	SKEW_MIN_S = 300, /* less than this is no reason to refuse */
	CLOCK_LIMIT_S = 1 << 30,
};

/* What a call may mend once. */
enum correction {
	CORRECT_CLOCK = 1,
	CORRECT_REGION = 2,
	CORRECT_CREDENTIALS = 4,
};

/* One attempt: what it was made with, and what came of it. */
struct attempt {
	const struct s3_call *call;
	struct s3_client *client;
	/* Of the request */
	char region[S3_REGION_SIZE];
	struct s3_credentials *credentials; /* a reference */
	int64_t time_s;                     /* that was signed */
	char payload_sha256[SIGV4_SHA256_TEXT_SIZE];
	/* Of the reply */
	struct s3_headers headers;
	uint64_t received; /* bytes of the body */
	int taken;         /* what TAKE returned last */
	struct buf error;  /* body of a reply that is no success */
};

int s3_client_init(struct s3_client *client, struct s3_settings *settings,
		   struct http_transport *transport, const struct clock *clock)
{
	if (pthread_mutex_init(&client->lock, NULL) != 0)
		return -ENOMEM;
	client->settings = *settings;
	*settings = (struct s3_settings){0};
	client->transport = transport;
	client->clock = clock;
	return 0;
}

void s3_client_done(struct s3_client *client)
{
	client->transport->ops->free(client->transport);
	s3_settings_done(&client->settings);
	(void)pthread_mutex_destroy(&client->lock);
}

static int64_t wall_s(const struct s3_client *client)
{
	return (int64_t)(client->clock->wall_ns(client->clock) / 1000000000);
}

/* ---- The reply, as it comes ---- */

static bool is_success(unsigned status)
{
	return status >= 200 && status < 300;
}

static void on_line(void *arg, const char *line, size_t size)
{
	struct attempt *attempt = arg;
	s3_headers_line(&attempt->headers, line, size);
}

static int on_body(void *arg, const void *data, size_t size)
{
	struct attempt *attempt = arg;
	const struct s3_call *call = attempt->call;
	bool is_data = attempt->headers.status == 200 || attempt->headers.status == 206;

	if (is_data && call->take) {
		attempt->received += size;
		attempt->taken = call->take(call->arg, &attempt->headers, data, size);
		return attempt->taken;
	}
	/* An error page is never data, and what is too long to be one is not read. */
	if (buf_append(&attempt->error, data, size) == 0)
		return 0;
	return attempt->error.size + size > attempt->error.max ? 1 : -ENOMEM;
}

/* ---- The request ---- */

struct message {
	struct buf url, path, query, host, headers, authorization;
	char date[SIGV4_DATE_SIZE];
	struct sigv4_pair pairs[SIGV4_PAIRS_MAX];
	size_t pair_count;
	struct http_request http;
};

static void wipe(struct buf *buf)
{
	if (buf->data)
		explicit_bzero(buf->data, buf->size);
	buf_done(buf);
}

static void message_done(struct message *message)
{
	buf_done(&message->url);
	buf_done(&message->path);
	buf_done(&message->query);
	buf_done(&message->host);
	wipe(&message->headers); /* the session token */
	buf_done(&message->authorization);
}

static int end_text(struct buf *buf)
{
	return buf_append_zeros(buf, 1);
}

static const char *text_of(const struct buf *buf)
{
	return (const char *)buf->data;
}

/* Host, path and query: encoded once, and then used as they are by signature and URL. */
static int make_address(const struct attempt *attempt, struct message *message)
{
	const struct s3_settings *settings = &attempt->client->settings;
	const struct s3_call *call = attempt->call;
	const struct s3_endpoint *endpoint = &settings->endpoint;

	int r = s3_endpoint_host(endpoint, settings->bucket, attempt->region, &message->host);
	if (r == 0)
		r = end_text(&message->host);
	if (r == 0)
		r = buf_append_text(&message->path, "/");
	if (r == 0 && !endpoint->virtual_host)
		r = sigv4_encode(&message->path, settings->bucket, false);
	if (r == 0 && !endpoint->virtual_host && call->object[0])
		r = buf_append_text(&message->path, "/");
	if (r == 0)
		r = sigv4_encode(&message->path, call->object, true);
	if (r == 0)
		r = end_text(&message->path);
	if (r == 0)
		r = sigv4_query(&message->query, call->query, call->query_count);
	if (r == 0)
		r = end_text(&message->query);
	if (r == 0)
		r = buf_printf(&message->url, "%s://%s%s%s%s", endpoint->tls ? "https" : "http",
			       text_of(&message->host), text_of(&message->path),
			       call->query_count ? "?" : "", text_of(&message->query));
	return r < 0 ? r : end_text(&message->url);
}

static void add_pair(struct message *message, const char *name, const char *value)
{
	invariant(message->pair_count < SIGV4_PAIRS_MAX);
	message->pairs[message->pair_count++] = (struct sigv4_pair){name, value};
}

static int sign(const struct attempt *attempt, struct message *message)
{
	const struct s3_call *call = attempt->call;
	const struct s3_credentials *credentials = attempt->credentials;

	add_pair(message, "Host", text_of(&message->host));
	add_pair(message, "x-amz-content-sha256", attempt->payload_sha256);
	add_pair(message, "x-amz-date", message->date);
	if (credentials->token[0])
		add_pair(message, "x-amz-security-token", credentials->token);
	for (size_t i = 0; i < call->header_count; i++)
		add_pair(message, call->headers[i].name, call->headers[i].value);

	const struct sigv4_request request = {
		.method = call->method,
		.path = text_of(&message->path),
		.query = text_of(&message->query),
		.headers = message->pairs,
		.header_count = message->pair_count,
		.payload_sha256 = attempt->payload_sha256,
	};
	const struct sigv4_identity identity = {
		.key_id = credentials->key_id,
		.secret = credentials->secret,
		.region = attempt->region,
		.service = "s3",
	};
	int r = buf_append_text(&message->authorization, "Authorization: ");
	if (r == 0)
		r = sigv4_authorization(&request, &identity, message->date,
					&message->authorization);
	return r < 0 ? r : end_text(&message->authorization);
}

/* "Name: value" of each signed header, and the signature. */
static int make_lines(struct message *message)
{
	size_t at[SIGV4_PAIRS_MAX];
	int r = 0;
	invariant(message->pair_count < HTTP_HEADERS_MAX);
	/* All of the room at once: a buffer that grew would leave a copy of the token behind. */
	r = buf_reserve(&message->headers, message->headers.max);
	for (size_t i = 0; i < message->pair_count && r == 0; i++) {
		at[i] = message->headers.size;
		r = buf_printf(&message->headers, "%s: %s", message->pairs[i].name,
			       message->pairs[i].value);
		if (r == 0)
			r = end_text(&message->headers);
	}
	if (r < 0)
		return r;
	for (size_t i = 0; i < message->pair_count; i++)
		message->http.headers[i] = text_of(&message->headers) + at[i];
	message->http.headers[message->pair_count] = text_of(&message->authorization);
	message->http.header_count = message->pair_count + 1;
	return 0;
}

static int make_message(struct attempt *attempt, struct message *message)
{
	const struct s3_call *call = attempt->call;
	int r = sigv4_date(attempt->time_s > 0 ? (uint64_t)attempt->time_s : 0, message->date);
	if (r == 0)
		r = make_address(attempt, message);
	if (r == 0)
		r = sign(attempt, message);
	if (r == 0)
		r = make_lines(message);
	message->http.method = call->method;
	message->http.url = text_of(&message->url);
	message->http.body = call->body;
	message->http.body_size = call->body_size;
	return r;
}

/* ---- One attempt ---- */

static void take_identity(struct s3_client *client, struct attempt *attempt)
{
	pthread_mutex_lock(&client->lock);
	memcpy(attempt->region, client->settings.region, sizeof(attempt->region));
	attempt->credentials = s3_credentials_ref(client->settings.credentials);
	pthread_mutex_unlock(&client->lock);
	attempt->time_s = wall_s(client) + atomic_load(&client->skew_s);
}

static int cut_short(const struct attempt *attempt, struct reterr *err)
{
	return reterr_set(err, -EAGAIN, "the reply ended after %" PRIu64 " of %" PRIu64 " bytes",
			  attempt->received, attempt->headers.length);
}

static int check_length(const struct attempt *attempt, struct reterr *err)
{
	const struct s3_headers *headers = &attempt->headers;
	if (!attempt->call->take || attempt->taken == 1 || headers->status == 204)
		return 0;
	if (headers->has_length && !headers->chunked)
		return attempt->received == headers->length ? 0 : cut_short(attempt, err);
	if (headers->chunked)
		return 0;
	return reterr_set(
		err, -EIO,
		"the reply does not say how long it is, so nobody can tell if it is whole");
}

static int perform(struct attempt *attempt, struct reterr *err)
{
	struct s3_client *client = attempt->client;
	const struct s3_call *call = attempt->call;
	CLEANUP(message_done)
	struct message message = {
		.url = {.max = URL_MAX},
		.path = {.max = URL_MAX},
		.query = {.max = URL_MAX},
		.host = {.max = URL_MAX},
		.headers = {.max = HEADER_TEXT_MAX},
		.authorization = {.max = AUTHORIZATION_MAX},
	};
	const struct http_sink sink = {.arg = attempt, .line = on_line, .body = on_body};

	int r = make_message(attempt, &message);
	if (r < 0)
		return reterr_set(err, r, "cannot make the request: %s", strerror(-r));
	if (call->begin)
		call->begin(call->arg);
	s3_headers_init(&attempt->headers);
	(void)atomic_fetch_add(&client->requests[call->kind], 1);
	r = client->transport->ops->perform(client->transport, &message.http, &sink, err);
	(void)atomic_fetch_add(&client->bytes_received, attempt->received);
	if (r < 0)
		return r;
	if (attempt->headers.status == 0)
		return reterr_set(err, -EIO, "what answers does not speak HTTP");
	if (!is_success(attempt->headers.status))
		return 0;
	(void)atomic_fetch_add(&client->bytes_sent, call->body_size);
	return check_length(attempt, err);
}

/* ---- What can be mended at once ---- */

static bool correct_clock(const struct attempt *attempt, const struct s3_error *error)
{
	struct s3_client *client = attempt->client;
	int64_t date_s = (int64_t)attempt->headers.date_s;
	int64_t off_s = date_s - attempt->time_s;
	bool said = s3_error_is(error, "RequestTimeTooSkewed") ||
		    s3_error_is(error, "RequestExpired");
	/* A reply to HEAD has no body to say so. */
	bool silent = error->status == 403 && error->code[0] == '\0' &&
		      (off_s > SKEW_MIN_S || off_s < -SKEW_MIN_S);
	if (date_s == 0 || !(said || silent) || off_s == 0)
		return false;
	int64_t skew_s = date_s - wall_s(client);
	if (skew_s > CLOCK_LIMIT_S || skew_s < -CLOCK_LIMIT_S)
		return false;
	atomic_store(&client->skew_s, skew_s);
	return true;
}

static bool correct_region(const struct attempt *attempt, const struct s3_error *error)
{
	struct s3_client *client = attempt->client;
	bool refused = error->status == 301 || error->status == 307 || error->status == 400 ||
		       error->status == 403;
	if (!refused || !error->region[0] || strcmp(error->region, attempt->region) == 0)
		return false;
	pthread_mutex_lock(&client->lock);
	memcpy(client->settings.region, error->region, sizeof(client->settings.region));
	pthread_mutex_unlock(&client->lock);
	return true;
}

static bool credentials_refused(const struct s3_error *error)
{
	static const char *const codes[] = {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken",
					    "TokenRefreshRequired", "SignatureDoesNotMatch"};
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		if (s3_error_is(error, codes[i]))
			return true;
	}
	return error->code[0] == '\0' &&
	       (error->status == 400 || error->status == 401 || error->status == 403);
}

/* Whether it is time for another look at the file; if so, it is ours. */
static bool reload_due(struct s3_client *client)
{
	uint64_t now_ms = client->clock->now_ms(client->clock);
	pthread_mutex_lock(&client->lock);
	bool due = now_ms >= client->reload_ms;
	if (due)
		client->reload_ms = now_ms + RELOAD_MS;
	pthread_mutex_unlock(&client->lock);
	return due;
}

static bool correct_credentials(const struct attempt *attempt, const struct s3_error *error)
{
	struct s3_client *client = attempt->client;
	struct s3_credentials *fresh = NULL;
	if (!client->settings.source.again || !credentials_refused(error))
		return false;
	/* A file that cannot be read just now changes nothing: the old keys go on. */
	if (reload_due(client) && s3_source_read(&client->settings.source, NULL, &fresh) < 0)
		fresh = NULL;

	pthread_mutex_lock(&client->lock);
	struct s3_credentials *old = NULL;
	if (fresh && !s3_credentials_equal(fresh, client->settings.credentials)) {
		old = client->settings.credentials;
		client->settings.credentials = fresh;
		fresh = NULL;
	}
	/* Somebody else may have read them since this attempt began. */
	bool changed = client->settings.credentials != attempt->credentials;
	pthread_mutex_unlock(&client->lock);
	s3_credentials_unref(old);
	s3_credentials_unref(fresh);
	return changed;
}

/* The correction that was made, or 0. DONE are those that this call has had. */
static unsigned correct(const struct attempt *attempt, const struct s3_error *error, unsigned done)
{
	if (!(done & CORRECT_CLOCK) && correct_clock(attempt, error))
		return CORRECT_CLOCK;
	if (!(done & CORRECT_REGION) && correct_region(attempt, error))
		return CORRECT_REGION;
	if (!(done & CORRECT_CREDENTIALS) && correct_credentials(attempt, error))
		return CORRECT_CREDENTIALS;
	return 0;
}

/* ---- A call ---- */

/* A server that quotes the token in its message does not get it into ours. */
static void redact(const struct attempt *attempt, struct s3_error *error)
{
	char start[16] = "";
	(void)snprintf(start, sizeof(start), "%.15s", attempt->credentials->token);
	if ((start[0] && strstr(error->message, start)) ||
	    strstr(error->message, attempt->credentials->secret))
		error->message[0] = '\0';
}

static const char *verb_of(const struct s3_call *call)
{
	return call->verb ? call->verb : call->method;
}

static int name_failure(const struct s3_call *call, int r, const struct reterr *details,
			struct reterr *err)
{
	return reterr_set(err, r, "%s %.160s: %s", verb_of(call), call->what, details->text);
}

static void bucket_seen(struct s3_client *client)
{
	atomic_store(&client->bucket_seen_ms, client->clock->now_ms(client->clock));
}

/* One attempt. 0 success; 1 it was refused, and ERROR says why; else what it failed with. */
static int try_once(struct attempt *attempt, struct s3_error *error, struct reterr *err)
{
	const struct s3_call *call = attempt->call;
	struct reterr details = {0};
	int r = perform(attempt, &details);
	if (r < 0)
		return name_failure(call, r, &details, err);
	if (is_success(attempt->headers.status)) {
		bucket_seen(attempt->client);
		return 0;
	}
	r = s3_error_from(
		&attempt->headers, attempt->error.data, attempt->error.size,
		(uint64_t)(wall_s(attempt->client) + atomic_load(&attempt->client->skew_s)), error);
	if (r < 0)
		return reterr_set(err, r, "%s %.160s: %s", verb_of(call), call->what, strerror(-r));
	redact(attempt, error);
	if (s3_error_is(error, "NoSuchKey"))
		bucket_seen(attempt->client);
	if (s3_error_is(error, "NoSuchBucket"))
		(void)snprintf(error->message, sizeof(error->message), "there is no bucket \"%s\"",
			       attempt->client->settings.bucket);
	return 1;
}

int s3_client_call(struct s3_client *client, const struct s3_call *call,
		   struct s3_headers *ret_headers, struct s3_error *ret_error, struct reterr *err)
{
	char payload[SIGV4_SHA256_TEXT_SIZE];
	unsigned done = 0;

	*ret_error = (struct s3_error){0};
	int r = sigv4_sha256(call->body_size ? call->body : "", call->body_size, payload);
	if (r < 0)
		return reterr_set(err, r, "%s %.160s: %s", verb_of(call), call->what, strerror(-r));
	for (;;) {
		struct attempt attempt = {
			.call = call,
			.client = client,
			.error = {.max = S3_ERROR_SIZE_MAX},
		};
		memcpy(attempt.payload_sha256, payload, sizeof(payload));
		take_identity(client, &attempt);
		r = try_once(&attempt, ret_error, err);
		unsigned correction = r == 1 ? correct(&attempt, ret_error, done) : 0;
		*ret_headers = attempt.headers;
		s3_credentials_unref(attempt.credentials);
		buf_done(&attempt.error);
		if (correction == 0)
			break;
		done |= correction;
	}
	return r == 1 ? s3_error_render(ret_error, verb_of(call), call->what, err) : r;
}
