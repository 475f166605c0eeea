/*
 * One HTTP request and its reply: the seam between what S3 means and how bytes travel. libcurl is
 * behind it, and a script in tests. A transport makes one attempt and judges nothing: a reply with
 * status 500 is a success of the transport.
 *
 * Threads: perform may be called by any number of threads at once, up to the connections that the
 * transport has; more wait for their turn.
 */
#ifndef PROTOFS_CLOUD_HTTP_TRANSPORT_H
#define PROTOFS_CLOUD_HTTP_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"

enum {
	HTTP_HEADERS_MAX = 16,
	HTTP_HEADER_BYTES_MAX = 256 << 10, /* of a reply's header */
};

struct http_request {
	const char *method;                    /* GET, HEAD, PUT, DELETE */
	const char *url;                       /* whole and encoded: sent as it is */
	const char *headers[HTTP_HEADERS_MAX]; /* "Name: value" */
	size_t header_count;
	const void *body; /* of a PUT, borrowed; not copied */
	size_t body_size;
};

/* Who takes the reply. Both are called by perform, in its thread. */
struct http_sink {
	void *arg;
	/* Each line of the header as it comes, a status line first; interim replies too. */
	void (*line)(void *arg, const char *line, size_t size);
	/*
	 * The next bytes of the body, behind all lines. 0; 1 that is enough: the rest is not fetched
	 * and perform succeeds; a negative errno ends the request with it.
	 */
	int (*body)(void *arg, const void *data, size_t size);
};

struct http_transport;

struct http_transport_ops {
	/*
	 * 0: a reply came, whole as far as its header tells how long it is. -EAGAIN: name
	 * resolution, connection, a stall, a reply cut short (the request may have taken effect);
	 * -EACCES: the peer's certificate is not to be trusted; -ECANCELED: stopped; -ENOMEM;
	 * -EIO: what answers does not speak HTTP, or can not be asked; what the sink returned.
	 * ERR says why, without naming the request.
	 */
	int (*perform)(struct http_transport *transport, const struct http_request *request,
		       const struct http_sink *sink, struct reterr *err);
	/* Ends all calls, running or to come, with -ECANCELED. */
	void (*stop)(struct http_transport *transport);
	/* No other call may be running. */
	void (*free)(struct http_transport *transport);
};

struct http_transport {
	const struct http_transport_ops *ops;
};

struct http_curl_options {
	const char *ca_bundle; /* NULL: the system's */
	bool no_proxy;         /* never through a proxy, whatever the environment says */
	uint64_t connect_timeout_ms;
	uint64_t stall_timeout_ms;
	unsigned connections_max;
};

/* Over libcurl. Connections are kept and used again. -ENOMEM, -EIO libcurl is unusable. */
MUST_CHECK int http_curl_new(const struct http_curl_options *options, struct reterr *err,
			     struct http_transport **ret);

#endif
