/* HTTP over libcurl against a server of our own, which does what a script says, the bad things too. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hash.h"
#include "cloud/http_transport.h"

/* ---- The server: a thread for each connection ---- */

enum after { KEEP, CLOSE, RESET, HANG };

struct step {
	const char *reply;
	enum after after;
};

enum { CONNECTIONS_MAX = 32, REQUEST_MAX = 4096 };

static const struct step *steps; /* of the requests in turn; the last one goes on */
static size_t step_count;
static atomic_size_t requests, connections;
static int listener = -1;
static unsigned port;
static pthread_t acceptor, servants[CONNECTIONS_MAX];
static int sockets[CONNECTIONS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char last_request[REQUEST_MAX]; /* the lock */
static struct hash last_body;          /* the lock */

/* The header of a request into HEAD. False at the end of the connection. */
static bool read_head(int fd, char *head, size_t *size)
{
	*size = 0;
	while (*size < REQUEST_MAX - 1) {
		if (read(fd, head + *size, 1) != 1)
			return false;
		head[++*size] = '\0';
		if (*size >= 4 && memcmp(head + *size - 4, "\r\n\r\n", 4) == 0)
			return true;
	}
	return false;
}

static bool read_body(int fd, const char *head, struct hash *hash)
{
	const char *length = strcasestr(head, "\r\nContent-Length:");
	size_t size = length ? strtoul(length + 17, NULL, 10) : 0, done = 0;
	char *body = malloc(size + 1);
	while (done < size) {
		ssize_t got = read(fd, body + done, size - done);
		if (got <= 0)
			break;
		done += (size_t)got;
	}
	*hash = hash_of(body, done);
	free(body);
	return done == size;
}

static void *serve(void *arg)
{
	int fd = *(int *)arg;
	char head[REQUEST_MAX];
	struct hash body;
	size_t size;
	while (read_head(fd, head, &size) && read_body(fd, head, &body)) {
		size_t i = atomic_fetch_add(&requests, 1);
		const struct step *step = &steps[i < step_count ? i : step_count - 1];
		pthread_mutex_lock(&lock);
		memcpy(last_request, head, size + 1);
		last_body = body;
		pthread_mutex_unlock(&lock);
		size_t length = strlen(step->reply);
		if (length && send(fd, step->reply, length, MSG_NOSIGNAL) != (ssize_t)length)
			break;
		if (step->after == KEEP)
			continue;
		if (step->after == HANG)
			while (read(fd, head, 1) > 0)
				;
		if (step->after == RESET)
			(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0},
					 sizeof(struct linger));
		break;
	}
	(void)shutdown(fd, step_count && steps[0].after == RESET ? SHUT_RD : SHUT_RDWR);
	(void)close(fd);
	return NULL;
}

static bool was_asked(const char *text)
{
	pthread_mutex_lock(&lock);
	bool found = strcasestr(last_request, text) != NULL;
	pthread_mutex_unlock(&lock);
	return found;
}

static bool was_sent(const struct hash *hash)
{
	pthread_mutex_lock(&lock);
	bool same = hash_equal(&last_body, hash);
	pthread_mutex_unlock(&lock);
	return same;
}

static void *accept_all(void *arg)
{
	(void)arg;
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		if (fd < 0)
			return NULL;
		size_t i = atomic_load(&connections);
		ck_assert_uint_lt(i, CONNECTIONS_MAX);
		sockets[i] = fd;
		ck_assert_int_eq(pthread_create(&servants[i], NULL, serve, &sockets[i]), 0);
		atomic_store(&connections, i + 1);
	}
}

static struct http_transport *transport;
static struct reterr err;
static char url[64];

static void start(const struct step *script, size_t count, unsigned connections_max)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t size = sizeof(address);
	const struct http_curl_options options = {
		.no_proxy = true,
		.connect_timeout_ms = 2000,
		.stall_timeout_ms = 1000,
		.connections_max = connections_max,
	};
	steps = script;
	step_count = count;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_ge(listener, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(listener, CONNECTIONS_MAX), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &size), 0);
	port = ntohs(address.sin_port);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/a/../b%%20c?x=1", port);
	ck_assert_int_eq(pthread_create(&acceptor, NULL, accept_all, NULL), 0);
	ck_assert_int_eq(http_curl_new(&options, &err, &transport), 0);
}

static void finish(void)
{
	transport->ops->free(transport); /* closes its connections, which ends the servants */
	(void)shutdown(listener, SHUT_RDWR);
	ck_assert_int_eq(pthread_join(acceptor, NULL), 0);
	for (size_t i = 0; i < atomic_load(&connections); i++)
		ck_assert_int_eq(pthread_join(servants[i], NULL), 0);
	(void)close(listener);
}

#define START(...)                                                                                 \
	static const struct step script[] = {__VA_ARGS__};                                         \
	start(script, ARRAY_SIZE(script), 4)

/* ---- The client's side ---- */

struct reply {
	struct buf lines, body;
	int enough_at; /* bytes of the body after which it is enough, or refused if negative */
};

static void on_line(void *arg, const char *line, size_t size)
{
	struct reply *reply = arg;
	ck_assert_int_eq(buf_append(&reply->lines, line, size), 0);
}

static int on_body(void *arg, const void *data, size_t size)
{
	struct reply *reply = arg;
	ck_assert_int_eq(buf_append(&reply->body, data, size), 0);
	if (reply->enough_at < 0)
		return -EDOM;
	return reply->enough_at > 0 && reply->body.size >= (size_t)reply->enough_at;
}

static int ask_with(const char *method, const void *data, size_t size, struct reply *reply)
{
	const struct http_request request = {
		.method = method,
		.url = url,
		.headers = {"X-One: 1", "X-Two: 2"},
		.header_count = 2,
		.body = data,
		.body_size = size,
	};
	const struct http_sink sink = {.arg = reply, .line = on_line, .body = on_body};
	reply->lines = (struct buf){.max = 1 << 20};
	reply->body = (struct buf){.max = 1 << 20};
	struct reterr details = {0};
	int r = transport->ops->perform(transport, &request, &sink, &details);
	ck_assert((r < 0) == (details.code < 0));
	if (r < 0)
		printf("%s: %s\n", method, details.text);
	return r;
}

static void reply_done(struct reply *reply)
{
	buf_done(&reply->lines);
	buf_done(&reply->body);
}

/* -errno, or the first digit of the body. */
static int ask(const char *method)
{
	struct reply reply = {0};
	int r = ask_with(method, NULL, 0, &reply);
	if (r == 0 && reply.body.size)
		r = reply.body.data[0] - '0';
	reply_done(&reply);
	return r;
}

#define OK(body) "HTTP/1.1 200 OK\r\nContent-Length: " body

START_TEST(a_request)
{
	START({OK("5\r\nETag: \"x\"\r\n\r\n7ello"), KEEP});
	struct reply reply = {0};
	ck_assert_int_eq(ask_with("GET", NULL, 0, &reply), 0);
	ck_assert_uint_eq(reply.body.size, 5);
	ck_assert_mem_eq(reply.body.data, "7ello", 5);
	ck_assert_ptr_nonnull(memmem(reply.lines.data, reply.lines.size, "ETag: \"x\"\r\n", 11));
	/* What was signed is what is sent. */
	ck_assert(was_asked("GET /a/../b%20c?x=1 HTTP/1.1\r\n"));
	ck_assert(was_asked("\r\nX-One: 1\r\nX-Two: 2\r\n"));
	reply_done(&reply);
	finish();
}
END_TEST

START_TEST(connections_are_used_again)
{
	START({OK("1\r\n\r\n3"), KEEP});
	for (unsigned i = 0; i < 20; i++)
		ck_assert_int_eq(ask("GET"), 3);
	ck_assert_uint_eq(atomic_load(&connections), 1);
	finish();
}
END_TEST

START_TEST(methods)
{
	START({OK("5\r\n\r\n"), KEEP}, {"HTTP/1.1 204 No Content\r\n\r\n", KEEP},
	      {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 1\r\n\r\n4",
	       KEEP});
	ck_assert_int_eq(ask("HEAD"), 0);
	ck_assert(was_asked("HEAD /"));
	ck_assert_int_eq(ask("DELETE"), 0);
	ck_assert(was_asked("DELETE /"));
	ck_assert_int_eq(ask("GET"), 4); /* and does not go there */
	ck_assert_uint_eq(atomic_load(&connections), 1);
	finish();
}
END_TEST

START_TEST(uploads)
{
	/* The server closes the connection behind the first one. */
	START({OK("0\r\n\r\n"), CLOSE}, {OK("0\r\n\r\n"), KEEP}, {OK("0\r\n\r\n"), KEEP});
	size_t size = 5 << 20;
	char *data = malloc(size);
	struct reply reply = {0};
	ck_assert_ptr_nonnull(data);
	for (size_t i = 0; i < size; i++)
		data[i] = (char)(i * 7 + i / 1000);
	struct hash hash = hash_of(data, size);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(ask_with("PUT", data, size, &reply), 0);
		ck_assert(was_sent(&hash));
		ck_assert(was_asked("Content-Length: 5242880\r\n"));
		ck_assert(!was_asked("Expect:"));
		reply_done(&reply);
		(void)usleep(100000);
	}
	ck_assert_uint_eq(atomic_load(&connections), 2);
	ck_assert_int_eq(ask_with("PUT", NULL, 0, &reply), 0);
	ck_assert(was_asked("Content-Length: 0\r\n"));
	reply_done(&reply);
	free(data);
	finish();
}
END_TEST

START_TEST(a_body_cut_short)
{
	START({OK("9\r\n\r\n3"), CLOSE}, {OK("1\r\n\r\n5"), KEEP});
	ck_assert_int_eq(ask("GET"), -EAGAIN);
	ck_assert_int_eq(ask("GET"), 5);
	finish();
}
END_TEST

START_TEST(a_chunked_body_cut_short)
{
	START({"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", CLOSE});
	ck_assert_int_eq(ask("GET"), -EAGAIN);
	finish();
}
END_TEST

START_TEST(a_reset)
{
	START({OK("9\r\n\r\n3"), RESET});
	ck_assert_int_eq(ask("GET"), -EAGAIN);
	finish();
}
END_TEST

START_TEST(no_answer)
{
	START({"", CLOSE}, {"SSH-2.0-x\r\n", CLOSE});
	ck_assert_int_eq(ask("GET"), -EAGAIN);
	ck_assert_int_eq(ask("GET"), -EIO);
	finish();
}
END_TEST

START_TEST(nobody_there)
{
	START({"", CLOSE});
	unsigned real = port;
	/* A port that was ours a moment ago. */
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t size = sizeof(address);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/", ntohs(address.sin_port));
	ck_assert_int_eq(ask("GET"), -EAGAIN);
	(void)close(fd);
	(void)snprintf(url, sizeof(url), "https://127.0.0.1:%u/", real);
	ck_assert_int_lt(ask("GET"), 0); /* TLS with one who does not speak it */
	(void)snprintf(url, sizeof(url), "file:///etc/passwd");
	ck_assert_int_eq(ask("GET"), -EIO);
	finish();
}
END_TEST

START_TEST(an_endless_header)
{
	static char flood[400 << 10] = "HTTP/1.1 200 OK\r\n";
	size_t at = strlen(flood);
	while (at + 100 < sizeof(flood))
		at += (size_t)snprintf(flood + at, 100, "X-Header-%zu: %060d\r\n", at, 0);
	static struct step script[1];
	script[0] = (struct step){flood, CLOSE};
	start(script, 1, 4);
	ck_assert_int_eq(ask("GET"), -EIO);
	finish();
}
END_TEST

START_TEST(the_sink_decides)
{
	START({OK("1000000000\r\n\r\n12345"), HANG}, {OK("5\r\n\r\n12345"), KEEP});
	struct reply reply = {.enough_at = 5};
	ck_assert_int_eq(ask_with("GET", NULL, 0, &reply), 0);
	ck_assert_uint_eq(reply.body.size, 5);
	reply_done(&reply);
	reply.enough_at = -1;
	ck_assert_int_eq(ask_with("GET", NULL, 0, &reply), -EDOM);
	reply_done(&reply);
	finish();
}
END_TEST

static uint64_t now_ms(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

START_TEST(a_stall)
{
	START({"", HANG});
	uint64_t begin_ms = now_ms();
	ck_assert_int_eq(ask("GET"), -EAGAIN);
	ck_assert_uint_ge(now_ms() - begin_ms, 900);
	ck_assert_uint_lt(now_ms() - begin_ms, 15000);
	finish();
}
END_TEST

static void *ask_in_thread(void *arg)
{
	*(int *)arg = ask("GET");
	return NULL;
}

START_TEST(stop_ends_all_calls)
{
	/* One call hangs, two more wait for its connection. */
	static const struct step script[] = {{"", HANG}};
	pthread_t threads[3];
	int results[3];
	start(script, 1, 1);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_in_thread, &results[i]), 0);
	while (atomic_load(&requests) == 0)
		(void)usleep(1000);
	uint64_t begin_ms = now_ms();
	transport->ops->stop(transport);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
		ck_assert_int_eq(results[i], -ECANCELED);
	}
	/* Long before curl would have looked by itself. */
	ck_assert_uint_lt(now_ms() - begin_ms, 700);
	ck_assert_int_eq(ask("GET"), -ECANCELED);
	finish();
}
END_TEST

static void *ask_often(void *arg)
{
	int *good = arg;
	for (unsigned i = 0; i < 50; i++)
		*good += ask("GET") == 6;
	return NULL;
}

START_TEST(many_callers)
{
	START({OK("1\r\n\r\n6"), KEEP});
	pthread_t threads[12];
	int good[12] = {0};
	for (unsigned i = 0; i < 12; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_often, &good[i]), 0);
	for (unsigned i = 0; i < 12; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
		ck_assert_int_eq(good[i], 50);
	}
	ck_assert_uint_le(atomic_load(&connections), 4);
	finish();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("http_curl");
	TCase *tcase = tcase_create("http_curl");
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_request);
	tcase_add_test(tcase, connections_are_used_again);
	tcase_add_test(tcase, methods);
	tcase_add_test(tcase, uploads);
	tcase_add_test(tcase, a_body_cut_short);
	tcase_add_test(tcase, a_chunked_body_cut_short);
	tcase_add_test(tcase, a_reset);
	tcase_add_test(tcase, no_answer);
	tcase_add_test(tcase, nobody_there);
	tcase_add_test(tcase, an_endless_header);
	tcase_add_test(tcase, the_sink_decides);
	tcase_add_test(tcase, a_stall);
	tcase_add_test(tcase, stop_ends_all_calls);
	tcase_add_test(tcase, many_callers);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
