/*
 * A transport that plays replies from a script and remembers what it was asked, for tests of what
 * stands on it.
 */
#ifndef PROTOFS_TESTS_UNIT_CLOUD_S3_SCRIPT_H
#define PROTOFS_TESTS_UNIT_CLOUD_S3_SCRIPT_H

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/http_transport.h"
#include "tests/lib/fault_alloc.h"

enum { SCRIPT_MAX = 64, SCRIPT_HEADERS_MAX = 8192 };

struct script_reply {
	const char *head; /* lines with \n; NULL: none came */
	const char *body;
	int result;   /* of the transport, after all that */
	size_t piece; /* the body comes in pieces of so many bytes; 0: at once */
	/* Something that happens before the reply. */
	void (*meanwhile)(void);
};

struct script_request {
	char method[16];
	char url[2048];
	char headers[SCRIPT_HEADERS_MAX]; /* lines with \n */
	size_t body_size;
	char body[64]; /* its beginning */
};

struct script {
	struct http_transport base;
	const struct script_reply *replies;
	size_t count;
	size_t done;
	bool stopped, freed;
	struct script_request requests[SCRIPT_MAX];
};

static inline void script_remember(struct script_request *to, const struct http_request *request)
{
	(void)snprintf(to->method, sizeof(to->method), "%s", request->method);
	(void)snprintf(to->url, sizeof(to->url), "%s", request->url);
	to->headers[0] = '\0';
	for (size_t i = 0; i < request->header_count; i++) {
		strcat(to->headers, request->headers[i]);
		strcat(to->headers, "\n");
		ck_assert_uint_lt(strlen(to->headers), SCRIPT_HEADERS_MAX / 2 + 4096);
	}
	to->body_size = request->body_size;
	(void)snprintf(to->body, sizeof(to->body), "%.*s",
		       request->body_size < 60 ? (int)request->body_size : 60,
		       request->body_size ? (const char *)request->body : "");
}

static inline int script_play(const struct script_reply *reply, const struct http_sink *sink,
			      bool with_body)
{
	for (const char *at = reply->head; at && *at;) {
		size_t length = strcspn(at, "\n");
		sink->line(sink->arg, at, length);
		at += length + (at[length] == '\n');
	}
	size_t left = with_body && reply->body ? strlen(reply->body) : 0;
	for (const char *at = reply->body; left > 0;) {
		size_t piece = reply->piece && reply->piece < left ? reply->piece : left;
		int r = sink->body(sink->arg, at, piece);
		if (r != 0)
			return r == 1 ? 0 : r;
		at += piece;
		left -= piece;
	}
	return reply->result;
}

static inline int script_perform(struct http_transport *base, const struct http_request *request,
				 const struct http_sink *sink, struct reterr *err)
{
	struct script *script = (struct script *)base;
	if (script->stopped)
		return reterr_set(err, -ECANCELED, "stopped");
	fault_alloc_pause(); /* what `check` allocates is not under test */
	ck_assert_msg(script->done < script->count && script->done < SCRIPT_MAX,
		      "an unexpected request: %s %s", request->method, request->url);
	const struct script_reply *reply = &script->replies[script->done];
	script_remember(&script->requests[script->done++], request);
	if (reply->meanwhile)
		reply->meanwhile();
	fault_alloc_resume();
	int r = script_play(reply, sink, strcmp(request->method, "HEAD") != 0);
	return r < 0 ? reterr_set(err, r, "the script says %d", r) : 0;
}

static inline void script_stop(struct http_transport *base)
{
	((struct script *)base)->stopped = true;
}

static inline void script_free(struct http_transport *base)
{
	((struct script *)base)->freed = true;
}

static inline void script_init(struct script *script, const struct script_reply *replies,
			       size_t count)
{
	static const struct http_transport_ops ops = {
		.perform = script_perform, .stop = script_stop, .free = script_free};
	memset(script, 0, sizeof(*script));
	script->base.ops = &ops;
	script->replies = replies;
	script->count = count;
}

#endif
