/*
 * One signed request to S3, and what came of it. A call is one attempt, but for three mistakes that
 * the server itself tells how to mend and that are mended at once, each at most once a call and then
 * remembered: a clock that is off, another region, credentials that somebody has renewed.
 *
 * Threads: any number of calls at once.
 */
#ifndef PROTOFS_CLOUD_S3_CLIENT_H
#define PROTOFS_CLOUD_S3_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include <protofs/block_store.h>
#include <protofs/clock.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "cloud/http_transport.h"
#include "cloud/s3_error.h"
#include "cloud/s3_headers.h"
#include "cloud/s3_settings.h"
#include "cloud/sigv4.h"

enum { S3_OBJECT_SIZE = S3_PREFIX_SIZE + BLOCK_KEY_MAX + 1 };

struct s3_client {
	struct s3_settings settings;      /* but for region and credentials, never changed */
	struct http_transport *transport; /* owned */
	const struct clock *clock;
	_Atomic int64_t skew_s;          /* the server's clock minus ours */
	_Atomic uint64_t bucket_seen_ms; /* when it proved to be there; 0 never */
	_Atomic uint64_t requests[BLOCK_REQUESTS];
	_Atomic uint64_t bytes_sent, bytes_received;
	pthread_mutex_t lock; /* guards settings.region, settings.credentials and the next */
	uint64_t reload_ms;   /* when the credentials may be read again */
};

struct s3_call {
	enum block_request kind;
	const char *method;
	const char *object; /* its name, prefix included; "" the bucket itself */
	const char *what;   /* to be shown */
	const char *verb;   /* to be shown before it; NULL: METHOD */
	const struct sigv4_pair *query;
	size_t query_count;
	const struct sigv4_pair *headers; /* beside those that every request has; signed */
	size_t header_count;
	const void *body;
	size_t body_size;
	/*
	 * Takes the body of a reply with status 200 or 206; HEADERS are whole by then. As the body
	 * of struct http_sink. NULL: the body is of no interest. BEGIN comes before each attempt.
	 */
	int (*take)(void *arg, const struct s3_headers *headers, const void *data, size_t size);
	void (*begin)(void *arg);
	void *arg;
};

/* Takes over SETTINGS and TRANSPORT on success. -ENOMEM. */
MUST_CHECK int s3_client_init(struct s3_client *client, struct s3_settings *settings,
			      struct http_transport *transport, const struct clock *clock);
void s3_client_done(struct s3_client *client);

/*
 * 0: status 200 to 299, and the whole body was taken. Otherwise what s3_error_code says, what the
 * transport says, or TAKE's error. HEADERS are those of the last reply; ERROR is what the server said,
 * with status 0 if it said nothing that it could be made of.
 */
MUST_CHECK int s3_client_call(struct s3_client *client, const struct s3_call *call,
			      struct s3_headers *ret_headers, struct s3_error *ret_error,
			      struct reterr *err);

#endif
