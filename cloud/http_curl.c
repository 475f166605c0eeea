/*
 * HTTP over libcurl. A lane is an easy handle alone in a multi handle of its own, which keeps the
 * connection: a call takes one, or makes one, and gives it back. The multi handle is there for its
 * wakeup: stop() ends a call that sleeps in poll at once.
 *
 * The lock guards the lists of lanes; nothing of curl is called under it but wakeup and, at the very
 * end, cleanup. A lane that a call has is that call's alone.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "base/invariant.h"
#include "cloud/http_transport.h"

enum {
	UPLOAD_BUFFER_SIZE = 2 << 20,
	RECEIVE_BUFFER_SIZE = 512 << 10,
	POLL_MS = 1000,
	/* Fewer bytes a second than this, for as long as a stall may take, are a stall. */
	STALL_BYTES = 128,
};

struct lane {
	struct lane *next;
	CURL *easy;
	CURLM *multi;
	char error[CURL_ERROR_SIZE];
};

struct http_curl {
	struct http_transport base;
	char *ca_bundle;
	bool no_proxy;
	long connect_timeout_ms, stall_timeout_s;
	unsigned lanes_max;
	atomic_bool stopped;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t given_back;
	struct lane *idle; /* the one used last comes first: its connection is the warmest */
	struct lane *busy;
	unsigned lane_count;
};

/* One request on its way. */
struct exchange {
	const struct http_request *request;
	const struct http_sink *sink;
	size_t sent;         /* bytes of the body that curl has taken */
	size_t header_bytes; /* of the reply */
	int result;          /* what the sink made of the body: 1 enough, or an error */
};

static struct http_curl *curl_of(struct http_transport *base)
{
	return (struct http_curl *)base;
}

/* ---- Lanes ---- */

static void lane_free(struct lane *lane)
{
	if (!lane)
		return;
	if (lane->easy)
		curl_easy_cleanup(lane->easy);
	if (lane->multi)
		(void)curl_multi_cleanup(lane->multi);
	free(lane);
}

static struct lane *lane_new(void)
{
	struct lane *lane = calloc(1, sizeof(*lane));
	if (!lane)
		return NULL;
	lane->easy = curl_easy_init();
	lane->multi = curl_multi_init();
	if (!lane->easy || !lane->multi) {
		lane_free(lane);
		return NULL;
	}
	return lane;
}

static void unlink_lane(struct lane **list, struct lane *lane)
{
	while (*list != lane)
		list = &(*list)->next;
	*list = lane->next;
}

static void push_lane(struct lane **list, struct lane *lane)
{
	lane->next = *list;
	*list = lane;
}

/* An idle lane, or leave to make one (RET NULL), or waits for either. */
static int lane_reserve(struct http_curl *curl, struct lane **ret)
{
	int r = 0;
	*ret = NULL;
	pthread_mutex_lock(&curl->lock);
	while (!curl->idle && curl->lane_count == curl->lanes_max && !atomic_load(&curl->stopped))
		(void)pthread_cond_wait(&curl->given_back, &curl->lock);
	if (atomic_load(&curl->stopped)) {
		r = -ECANCELED;
	} else if (curl->idle) {
		*ret = curl->idle;
		unlink_lane(&curl->idle, *ret);
		push_lane(&curl->busy, *ret);
	} else {
		curl->lane_count++;
	}
	pthread_mutex_unlock(&curl->lock);
	return r;
}

static int lane_take(struct http_curl *curl, struct lane **ret)
{
	int r = lane_reserve(curl, ret);
	if (r < 0 || *ret)
		return r;

	struct lane *lane = lane_new();
	pthread_mutex_lock(&curl->lock);
	if (lane) {
		push_lane(&curl->busy, lane);
	} else {
		curl->lane_count--;
		(void)pthread_cond_signal(&curl->given_back);
	}
	pthread_mutex_unlock(&curl->lock);
	*ret = lane;
	return lane ? 0 : -ENOMEM;
}

static void lane_give_back(struct http_curl *curl, struct lane *lane)
{
	pthread_mutex_lock(&curl->lock);
	unlink_lane(&curl->busy, lane);
	push_lane(&curl->idle, lane);
	(void)pthread_cond_signal(&curl->given_back);
	pthread_mutex_unlock(&curl->lock);
}

/* ---- What curl calls ---- */

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
	struct exchange *exchange = arg;
	size *= count;
	exchange->header_bytes += size;
	if (exchange->header_bytes > HTTP_HEADER_BYTES_MAX) {
		exchange->result = -EIO;
		return 0;
	}
	exchange->sink->line(exchange->sink->arg, data, size);
	return size;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
	struct exchange *exchange = arg;
	size *= count;
	if (size == 0)
		return 0;
	exchange->result = exchange->sink->body(exchange->sink->arg, data, size);
	/* Anything but SIZE makes curl end the transfer. */
	return exchange->result == 0 ? size : 0;
}

static size_t on_read(char *data, size_t size, size_t count, void *arg)
{
	struct exchange *exchange = arg;
	size_t left = exchange->request->body_size - exchange->sent;
	size *= count;
	if (size > left)
		size = left;
	if (size)
		memcpy(data, (const char *)exchange->request->body + exchange->sent, size);
	exchange->sent += size;
	return size;
}

/*
 * A kept connection ended without a reply, and curl would begin again on a fresh one. But the body was
 * sent, and may have taken effect: whoever calls must know that this attempt has failed.
 */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	const struct exchange *exchange = arg;
	bool untouched = exchange->sent == 0 && offset == 0 && origin == SEEK_SET;
	return untouched ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
}

/* ---- Options: the first that fails is remembered, so that one look at the end is enough ---- */

struct setup {
	CURL *easy;
	CURLcode code;
};

static void set_long(struct setup *setup, CURLoption option, long value)
{
	if (setup->code == CURLE_OK)
		setup->code = curl_easy_setopt(setup->easy, option, value);
}

static void set_text(struct setup *setup, CURLoption option, const char *value)
{
	if (setup->code == CURLE_OK)
		setup->code = curl_easy_setopt(setup->easy, option, value);
}

static void set_data(struct setup *setup, CURLoption option, void *value)
{
	if (setup->code == CURLE_OK)
		setup->code = curl_easy_setopt(setup->easy, option, value);
}

static void set_upload(struct setup *setup, struct exchange *exchange)
{
	set_long(setup, CURLOPT_UPLOAD, 1);
	set_long(setup, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER_SIZE);
	set_data(setup, CURLOPT_READDATA, exchange);
	set_data(setup, CURLOPT_SEEKDATA, exchange);
	if (setup->code == CURLE_OK)
		setup->code = curl_easy_setopt(setup->easy, CURLOPT_READFUNCTION,
					       (curl_read_callback)on_read);
	if (setup->code == CURLE_OK)
		setup->code = curl_easy_setopt(setup->easy, CURLOPT_SEEKFUNCTION,
					       (curl_seek_callback)on_seek);
	if (setup->code == CURLE_OK)
		setup->code = curl_easy_setopt(setup->easy, CURLOPT_INFILESIZE_LARGE,
					       (curl_off_t)exchange->request->body_size);
}

static void set_method(struct setup *setup, struct exchange *exchange)
{
	const char *method = exchange->request->method;
	if (strcmp(method, "PUT") == 0)
		set_upload(setup, exchange);
	else if (strcmp(method, "HEAD") == 0)
		set_long(setup, CURLOPT_NOBODY, 1);
	else if (strcmp(method, "GET") == 0)
		set_long(setup, CURLOPT_HTTPGET, 1);
	else
		set_text(setup, CURLOPT_CUSTOMREQUEST, method);
}

static void set_connection(struct setup *setup, const struct http_curl *curl)
{
	set_long(setup, CURLOPT_NOSIGNAL, 1);
	set_long(setup, CURLOPT_TCP_NODELAY, 1);
	set_long(setup, CURLOPT_TCP_KEEPALIVE, 1);
	set_long(setup, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	set_long(setup, CURLOPT_FOLLOWLOCATION, 0);
	set_long(setup, CURLOPT_CONNECTTIMEOUT_MS, curl->connect_timeout_ms);
	set_long(setup, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES);
	set_long(setup, CURLOPT_LOW_SPEED_TIME, curl->stall_timeout_s);
	/*
	 * Refused where curl still holds the buffer of a transfer that never got a connection, as its
	 * name did not resolve. That buffer is as large.
	 */
	if (setup->code == CURLE_OK)
		(void)curl_easy_setopt(setup->easy, CURLOPT_BUFFERSIZE, (long)RECEIVE_BUFFER_SIZE);
#if LIBCURL_VERSION_NUM >= 0x075500
	set_text(setup, CURLOPT_PROTOCOLS_STR, "http,https");
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
	/* A name that is still being resolved does not hold up the end. */
	set_long(setup, CURLOPT_QUICK_EXIT, 1);
#endif
	if (curl->no_proxy)
		set_text(setup, CURLOPT_NOPROXY, "*");
	/* A proxy's own reply to CONNECT is not S3's. */
	set_long(setup, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1);

	set_long(setup, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
	set_long(setup, CURLOPT_SSL_VERIFYPEER, 1);
	set_long(setup, CURLOPT_SSL_VERIFYHOST, 2);
	if (curl->ca_bundle)
		set_text(setup, CURLOPT_CAINFO, curl->ca_bundle);
}

static int lane_setup(const struct http_curl *curl, struct lane *lane, struct exchange *exchange,
		      struct curl_slist *headers)
{
	curl_easy_reset(lane->easy); /* the connection stays */
	lane->error[0] = '\0';
	struct setup setup = {.easy = lane->easy};
	set_data(&setup, CURLOPT_ERRORBUFFER, lane->error);
	set_text(&setup, CURLOPT_URL, exchange->request->url);
	/* What was signed is what is sent: a path with dots in it stays as it is. */
	set_long(&setup, CURLOPT_PATH_AS_IS, 1);
	set_text(&setup, CURLOPT_USERAGENT, "protofs/" PROTOFS_VERSION);
	set_data(&setup, CURLOPT_HTTPHEADER, headers);
	set_connection(&setup, curl);
	set_method(&setup, exchange);
	set_data(&setup, CURLOPT_HEADERDATA, exchange);
	set_data(&setup, CURLOPT_WRITEDATA, exchange);
	if (setup.code == CURLE_OK)
		setup.code = curl_easy_setopt(lane->easy, CURLOPT_HEADERFUNCTION,
					      (curl_write_callback)on_header);
	if (setup.code == CURLE_OK)
		setup.code = curl_easy_setopt(lane->easy, CURLOPT_WRITEFUNCTION,
					      (curl_write_callback)on_body);
	return setup.code == CURLE_OK ? 0 : -ENOMEM;
}

/* ---- A request ---- */

/* Until the transfer has ended, or stop. */
static int lane_run(struct http_curl *curl, struct lane *lane, CURLcode *ret)
{
	if (curl_multi_add_handle(lane->multi, lane->easy) != CURLM_OK)
		return -ENOMEM;
	int running = 1, left;
	CURLMcode code = curl_multi_perform(lane->multi, &running);
	while (code == CURLM_OK && running && !atomic_load(&curl->stopped)) {
		code = curl_multi_poll(lane->multi, NULL, 0, POLL_MS, NULL);
		if (code == CURLM_OK)
			code = curl_multi_perform(lane->multi, &running);
	}
	const CURLMsg *message = curl_multi_info_read(lane->multi, &left);
	int r = 0;
	if (code != CURLM_OK)
		r = -ENOMEM;
	else if (running)
		r = -ECANCELED;
	else
		*ret = message ? message->data.result : CURLE_RECV_ERROR;
	(void)curl_multi_remove_handle(lane->multi, lane->easy);
	return r;
}

/* What a caller can do about it. */
static int error_of(CURLcode code)
{
	switch ((int)code) {
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
	case CURLE_PARTIAL_FILE:
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_FAIL_REWIND:
	case CURLE_SSL_SHUTDOWN_FAILED:
	case CURLE_AGAIN:
		return -EAGAIN;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
	case CURLE_SSL_CIPHER:
		return -EACCES;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

static int judge(const struct exchange *exchange, const struct lane *lane, CURLcode code,
		 struct reterr *err)
{
	if (exchange->result == 1)
		return 0;
	if (exchange->result < 0)
		return reterr_set(err, exchange->result, "the reply was refused");
	if (code == CURLE_OK)
		return 0;
	int r = error_of(code);
	const char *text = lane->error[0] ? lane->error : curl_easy_strerror(code);
	if (r == -EACCES)
		return reterr_set(
			err, r, "%s; check the CA bundle, and that this is the right server", text);
	return reterr_set(err, r, "%s", text);
}

/* A session token is among the headers. */
static void free_headers(struct curl_slist **headers)
{
	for (struct curl_slist *at = *headers; at; at = at->next)
		explicit_bzero(at->data, strlen(at->data));
	curl_slist_free_all(*headers);
}

static int make_headers(const struct http_request *request, struct curl_slist **ret)
{
	/* Without this curl asks for leave to send a large body, and waits. */
	*ret = curl_slist_append(NULL, "Expect:");
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < request->header_count; i++) {
		if (!curl_slist_append(*ret, request->headers[i]))
			return -ENOMEM;
	}
	return 0;
}

static int curl_perform(struct http_transport *base, const struct http_request *request,
			const struct http_sink *sink, struct reterr *err)
{
	struct http_curl *curl = curl_of(base);
	CLEANUP(free_headers) struct curl_slist *headers = NULL;
	struct exchange exchange = {.request = request, .sink = sink};
	struct lane *lane = NULL;
	CURLcode code = CURLE_OK;

	invariant(request->header_count <= HTTP_HEADERS_MAX);
	int r = make_headers(request, &headers);
	if (r == 0)
		r = lane_take(curl, &lane);
	if (r < 0)
		return reterr_set(err, r, "%s", strerror(-r));
	r = lane_setup(curl, lane, &exchange, headers);
	if (r == 0)
		r = lane_run(curl, lane, &code);
	if (r < 0)
		(void)reterr_set(err, r, "%s", strerror(-r));
	else
		r = judge(&exchange, lane, code, err);
	/* It must not keep pointers to what is ours for this call. */
	curl_easy_reset(lane->easy);
	lane_give_back(curl, lane);
	return r;
}

static void curl_stop(struct http_transport *base)
{
	struct http_curl *curl = curl_of(base);
	atomic_store(&curl->stopped, true);
	pthread_mutex_lock(&curl->lock);
	for (struct lane *lane = curl->busy; lane; lane = lane->next)
		(void)curl_multi_wakeup(lane->multi);
	(void)pthread_cond_broadcast(&curl->given_back);
	pthread_mutex_unlock(&curl->lock);
}

static void curl_free_transport(struct http_transport *base)
{
	struct http_curl *curl = curl_of(base);
	invariant(!curl->busy);
	while (curl->idle) {
		struct lane *lane = curl->idle;
		unlink_lane(&curl->idle, lane);
		lane_free(lane);
	}
	(void)pthread_cond_destroy(&curl->given_back);
	(void)pthread_mutex_destroy(&curl->lock);
	free(curl->ca_bundle);
	free(curl);
}

static const struct http_transport_ops curl_ops = {
	.perform = curl_perform,
	.stop = curl_stop,
	.free = curl_free_transport,
};

static CURLcode global_result;

/* Never undone: other users of curl may be in this process. */
static void global_init(void)
{
	global_result = curl_global_init(CURL_GLOBAL_DEFAULT);
}

int http_curl_new(const struct http_curl_options *options, struct reterr *err,
		  struct http_transport **ret)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	(void)pthread_once(&once, global_init);
	if (global_result != CURLE_OK)
		return reterr_set(err, -EIO, "libcurl: %s", curl_easy_strerror(global_result));

	struct http_curl *curl = calloc(1, sizeof(*curl));
	if (!curl)
		return reterr_set(err, -ENOMEM, "%s", strerror(ENOMEM));
	curl->base.ops = &curl_ops;
	curl->no_proxy = options->no_proxy;
	curl->connect_timeout_ms = (long)options->connect_timeout_ms;
	curl->stall_timeout_s = (long)((options->stall_timeout_ms + 999) / 1000);
	curl->lanes_max = options->connections_max;
	if (options->ca_bundle && !(curl->ca_bundle = strdup(options->ca_bundle))) {
		free(curl);
		return reterr_set(err, -ENOMEM, "%s", strerror(ENOMEM));
	}
	(void)pthread_mutex_init(&curl->lock, NULL);
	(void)pthread_cond_init(&curl->given_back, NULL);
	*ret = &curl->base;
	return 0;
}
