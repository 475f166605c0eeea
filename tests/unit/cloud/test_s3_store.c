/* Blocks as S3 objects, over a scripted transport: what each reply of a server comes to. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/block_store_s3.h"
#include "tests/lib/fake_clock.h"
#include "tests/lib/fault_alloc.h"
#include "tests/unit/cloud/s3_script.h"

#define U "11111111-2222-4333-8444-555555555555"
#define KEY "wal/" U "/00000000000000000000"
#define KEY5 "wal/" U "/00000000000005242880"
#define HASH_HELLO "b5e9c1ad071b3e7fc779cfaa5e523818" /* of "hello" */
#define ETAG_ANY "ETag: \"x\"\n"
#define ETAG_HELLO "ETag: \"5d41402abc4b2a76b9719d911017c592\"\n"

#define ERROR_XML(code, more)                                                                      \
	"<?xml version=\"1.0\"?><Error><Code>" code "</Code>" more                                 \
	"<RequestId>R1</RequestId></Error>"

static struct script script;
static struct fake_clock fake;
static struct block_store *store;
static struct reterr err;
static char dir[64];

static const struct s3_options *options_with(const struct s3_options *changed)
{
	static struct s3_options options;
	options = changed ? *changed : (struct s3_options){0};
	if (!options.bucket)
		options.bucket = "bucket";
	if (!options.prefix)
		options.prefix = "some/prefix";
	if (!options.endpoint)
		options.endpoint = "https://s3.example.com";
	options.clock = &fake.clock;
	return &options;
}

static void clean_environment(void)
{
	ck_assert_int_eq(clearenv(), 0);
	ck_assert_int_eq(setenv("HOME", "/nonexistent", 1), 0);
	ck_assert_int_eq(setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1), 0);
	ck_assert_int_eq(setenv("AWS_SECRET_ACCESS_KEY", "very+secret", 1), 0);
}

static void open_with(const struct s3_options *options, const struct script_reply *replies,
		      size_t count)
{
	fake_clock_init(&fake);
	script_init(&script, replies, count);
	int r = block_store_s3_new(options_with(options), &script.base, &err, &store);
	ck_assert_msg(r == 0, "%s", err.text);
}

#define OPEN(...)                                                                                  \
	static const struct script_reply replies[] = {__VA_ARGS__};                                \
	clean_environment();                                                                       \
	open_with(NULL, replies, ARRAY_SIZE(replies))

/* All of the script was played. */
static void done(void)
{
	ck_assert_uint_eq(script.done, script.count);
	block_store_free(store);
	ck_assert(script.freed);
}

static void ck_text(const char *part)
{
	ck_assert_msg(strstr(err.text, part) != NULL, "\"%s\" is not in \"%s\"", part, err.text);
}

static void ck_header(size_t request, const char *line)
{
	const char *found = strstr(script.requests[request].headers, line);
	ck_assert_msg(found != NULL, "\"%s\" is not in \"%s\"", line,
		      script.requests[request].headers);
}

static int put(const char *key, const char *data)
{
	return block_store_put(store, key, data, strlen(data), BLOCK_NO_FRAME, &err);
}

/* ---- put ---- */

START_TEST(a_put)
{
	OPEN({.head = "HTTP/1.1 200 OK\n" ETAG_HELLO});
	ck_assert_int_eq(block_store_put(store, KEY, "hello", 5, 17, &err), 0);
	ck_assert_str_eq(script.requests[0].method, "PUT");
	ck_assert_str_eq(script.requests[0].url, "https://s3.example.com/bucket/some/prefix/" KEY);
	ck_assert_str_eq(script.requests[0].body, "hello");
	ck_header(0, "Host: s3.example.com\n");
	ck_header(0, "If-None-Match: *\n");
	ck_header(0, "x-amz-meta-xxh3: " HASH_HELLO "\n");
	ck_header(0, "x-amz-meta-first-frame: 17\n");
	ck_header(0, "x-amz-content-sha256: "
		     "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\n");
	ck_header(0, "x-amz-date: 20231114T221320Z\n");
	ck_header(0, "Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20231114/us-east-1/s3/"
		     "aws4_request, SignedHeaders=host;if-none-match;x-amz-content-sha256;"
		     "x-amz-date;x-amz-meta-first-frame;x-amz-meta-xxh3, Signature=");
	ck_assert_ptr_null(strstr(script.requests[0].headers, "very+secret"));

	struct block_store_status status;
	block_store_status(store, &status);
	ck_assert_str_eq(status.place, "s3");
	ck_assert(status.conditional);
	ck_assert_uint_eq(status.requests[BLOCK_REQUEST_PUT], 1);
	ck_assert_uint_eq(status.bytes_sent, 5);
	done();
}
END_TEST

START_TEST(odd_characters_are_encoded)
{
	static const struct script_reply replies[] = {{.head = "HTTP/1.1 200 OK\nETag: \"x\"\n"}};
	clean_environment();
	open_with(&(struct s3_options){.prefix = "a b+c/\xc3\xa9"}, replies, 1);
	ck_assert_int_eq(put(KEY "+0000000001-0000000002", "x"), 0);
	ck_assert_str_eq(script.requests[0].url,
			 "https://s3.example.com/bucket/a%20b%2Bc/%C3%A9/" KEY
			 "%2B0000000001-0000000002");
	done();
}
END_TEST

START_TEST(virtual_hosts)
{
	static const struct script_reply replies[] = {{.head = "HTTP/1.1 204 No Content\n"}};
	clean_environment();
	open_with(&(struct s3_options){.virtual_host = true}, replies, 1);
	ck_assert_int_eq(block_store_delete(store, "owner", &err), 0);
	ck_assert_str_eq(script.requests[0].url, "https://bucket.s3.example.com/some/prefix/owner");
	ck_header(0, "Host: bucket.s3.example.com\n");
	done();
}
END_TEST

START_TEST(of_two_puts_one_wins)
{
	OPEN({.head = "HTTP/1.1 412 Precondition Failed\n",
	      .body = ERROR_XML("PreconditionFailed", "")},
	     {.head = "HTTP/1.1 409 Conflict\n",
	      .body = ERROR_XML("ConditionalRequestConflict", "")});
	ck_assert_int_eq(put(KEY, "hello"), -EEXIST);
	ck_text("PUT " KEY ": 412 PreconditionFailed");
	ck_assert_int_eq(put(KEY, "hello"), -EAGAIN);
	done();
}
END_TEST

START_TEST(a_server_that_cannot_refuse)
{
	OPEN({.head = "HTTP/1.1 501 Not Implemented\n", .body = ERROR_XML("NotImplemented", "")},
	     {.head = "HTTP/1.1 404 Not Found\n"},
	     {.head = "HTTP/1.1 404 Not Found\n", .body = ERROR_XML("NoSuchKey", "")},
	     {.head = "HTTP/1.1 200 OK\n" ETAG_HELLO},
	     /* The second put looks at once, and trusts the bucket. */
	     {.head = "HTTP/1.1 404 Not Found\n"}, {.head = "HTTP/1.1 200 OK\n" ETAG_HELLO},
	     /* The third finds one. */
	     {.head = "HTTP/1.1 200 OK\nContent-Length: 5\nx-amz-meta-xxh3: " HASH_HELLO "\n"});
	struct block_store_status status;
	ck_assert_int_eq(put(KEY, "hello"), 0);
	ck_assert_int_eq(err.code, 0);
	block_store_status(store, &status);
	ck_assert(!status.conditional);
	ck_assert_ptr_null(strstr(script.requests[3].headers, "If-None-Match"));
	ck_assert_int_eq(put(KEY, "hello"), 0);
	ck_assert_int_eq(put(KEY, "hello"), -EEXIST);
	done();
}
END_TEST

#define ROOT1 "roots/00000000000000000001"
#define ROOT2 "roots/00000000000000000002"

START_TEST(a_server_that_ignores_the_condition)
{
	OPEN({.head = "HTTP/1.1 200 OK\n" ETAG_HELLO}, {.head = "HTTP/1.1 200 OK\n" ETAG_HELLO},
	     {.head = "HTTP/1.1 200 OK\n" ETAG_HELLO});
	struct block_store_status status;
	/* Blocks are too dear to try it with. */
	ck_assert_int_eq(put(KEY, "hello"), 0);
	ck_assert_int_eq(put(ROOT1, "hello"), 0);
	ck_assert_str_eq(script.requests[2].url, script.requests[1].url);
	ck_assert_str_eq(script.requests[2].body, "hello");
	ck_header(2, "If-None-Match: *\n");
	block_store_status(store, &status);
	ck_assert(!status.conditional);
	done();
}
END_TEST

START_TEST(a_server_that_keeps_the_condition)
{
	OPEN({.head = "HTTP/1.1 200 OK\n" ETAG_HELLO}, {.head = "HTTP/1.1 503 Slow Down\n"},
	     /* Nothing was learnt. */
	     {.head = "HTTP/1.1 200 OK\n" ETAG_HELLO}, {.head = "HTTP/1.1 412 P\n"},
	     /* And now it is known. */
	     {.head = "HTTP/1.1 200 OK\n" ETAG_HELLO});
	struct block_store_status status;
	ck_assert_int_eq(put(ROOT1, "hello"), 0);
	ck_assert_int_eq(put(ROOT2, "hello"), 0);
	ck_assert_int_eq(put("roots/00000000000000000003", "hello"), 0);
	ck_assert_int_eq(err.code, 0);
	block_store_status(store, &status);
	ck_assert(status.conditional);
	ck_assert_uint_eq(status.requests[BLOCK_REQUEST_PUT], 5);
	done();
}
END_TEST

START_TEST(a_501_for_another_reason)
{
	OPEN({.head = "HTTP/1.1 501 Not Implemented\n"}, {.head = "HTTP/1.1 404 Not Found\n"},
	     {.head = "HTTP/1.1 404 Not Found\n", .body = ERROR_XML("NoSuchKey", "")},
	     {.head = "HTTP/1.1 501 Not Implemented\n"});
	struct block_store_status status;
	ck_assert_int_eq(put(KEY, "hello"), -EIO);
	block_store_status(store, &status);
	ck_assert(status.conditional);
	done();
}
END_TEST

START_TEST(any_web_server_says_200)
{
	OPEN({.head = "HTTP/1.1 200 OK\nContent-Length: 2\n", .body = "ok"},
	     {.head = "HTTP/1.1 404 Not Found\n", .body = "<html><body>no page</body></html>"},
	     {.head = "HTTP/1.1 404 Not Found\n"});
	char data[16];
	struct block_head head;
	ck_assert_int_eq(put(KEY, "hello"), -EIO);
	ck_text("ETag");
	ck_assert_int_eq(block_store_get(store, KEY, data, 16, &head, &err), -EIO);
	ck_text("endpoint");
	/* A bare 404 is still one. */
	ck_assert_int_eq(block_store_get(store, KEY, data, 16, &head, &err), -ENOENT);
	done();
}
END_TEST

START_TEST(only_the_owner_is_replaced)
{
	OPEN({.head = "HTTP/1.1 200 OK\n" ETAG_HELLO});
	ck_assert_int_eq(block_store_replace(store, KEY, "hello", 5, &err), -EINVAL);
	ck_assert_int_eq(block_store_replace(store, "owner", "hello", 5, &err), 0);
	ck_assert_ptr_null(strstr(script.requests[0].headers, "If-None-Match"));
	ck_assert_int_eq(put("../x", "hello"), -EINVAL);
	ck_assert_int_eq(block_store_put(store, KEY, "", BLOCK_STORE_SIZE_MAX + 1, 0, &err),
			 -EFBIG);
	done();
}
END_TEST

/* ---- get ---- */

START_TEST(a_get)
{
	OPEN({.head = "HTTP/1.1 100 Continue\nHTTP/1.1 200 OK\nContent-Length: 5\n" ETAG_HELLO
		      "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nX-Amz-Meta-XXH3: " HASH_HELLO
		      "\nx-amz-meta-first-frame: 3\n",
	      .body = "hello",
	      .piece = 2});
	char data[8] = "";
	struct block_head head;
	ck_assert_int_eq(block_store_get(store, KEY, data, 5, &head, &err), 0);
	ck_assert_str_eq(data, "hello");
	ck_assert_uint_eq(head.size, 5);
	ck_assert_uint_eq(head.first_frame, 3);
	ck_assert_uint_eq(head.modified_ns, 784111777000000000);
	ck_assert_str_eq(head.etag, "5d41402abc4b2a76b9719d911017c592");
	ck_assert(head.recorded);
	struct hash hash = hash_of("hello", 5);
	ck_assert(hash_equal(&head.hash, &hash));
	done();
}
END_TEST

START_TEST(a_get_without_metadata)
{
	OPEN({.head = "HTTP/1.1 200 OK\nContent-Length: 5\n" ETAG_HELLO, .body = "hello"},
	     {.head = "HTTP/1.1 200 OK\nContent-Length: 5\n" ETAG_HELLO, .body = "hellO"},
	     {.head = "HTTP/1.1 200 OK\nContent-Length: 5\n" ETAG_HELLO
		      "x-amz-server-side-encryption: aws:kms\n",
	      .body = "hellO"},
	     {.head = "HTTP/1.1 200 OK\nContent-Length: 5\nETag: \"abc-2\"\n", .body = "hellO"});
	char data[8];
	struct block_head head;
	struct hash hash = hash_of("hello", 5);
	ck_assert_int_eq(block_store_get(store, KEY, data, 5, &head, &err), 0);
	ck_assert(!head.recorded && hash_equal(&head.hash, &hash));
	ck_assert_uint_eq(head.first_frame, BLOCK_NO_FRAME);
	ck_assert_int_eq(block_store_get(store, KEY, data, 5, &head, &err), -EBADMSG);
	ck_text("ETag");
	/* No sum of the bytes: no judgement. */
	ck_assert_int_eq(block_store_get(store, KEY, data, 5, &head, &err), 0);
	ck_assert_int_eq(block_store_get(store, KEY, data, 5, &head, &err), 0);
	done();
}
END_TEST

START_TEST(bodies_that_are_too_long_or_too_short)
{
	OPEN({.head = "HTTP/1.1 200 OK\nContent-Length: 5\n", .body = "hello"},
	     {.head = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n", .body = "hello", .piece = 1},
	     {.head = "HTTP/1.1 200 OK\nContent-Length: 5\n", .body = "hel"},
	     {.head = "HTTP/1.1 200 OK\nContent-Length: 5\n", .body = "hel", .result = -EAGAIN},
	     {.head = "HTTP/1.1 200 OK\n", .body = "hell"},
	     {.head = "HTTP/1.1 206 Partial Content\nContent-Length: 4\n", .body = "hell"});
	char data[8] = "....";
	struct block_head head;
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(block_store_get(store, KEY, data, 4, &head, &err), -EFBIG);
		ck_assert_int_eq(data[4], '\0');
	}
	ck_assert_int_eq(block_store_get(store, KEY, data, 5, &head, &err), -EAGAIN);
	ck_text("3 of 5 bytes");
	ck_assert_int_eq(block_store_get(store, KEY, data, 5, &head, &err), -EAGAIN);
	ck_assert_int_eq(block_store_get(store, KEY, data, 5, &head, &err), -EIO);
	ck_assert_int_eq(block_store_get(store, KEY, data, 5, &head, &err), -EIO);
	done();
}
END_TEST

START_TEST(an_error_page_is_never_data)
{
	OPEN({.head = "HTTP/1.1 503 Slow Down\nRetry-After: 7\n",
	      .body = ERROR_XML("SlowDown", "<Message>Please \x1b[31mreduce</Message>")},
	     {.head = "HTTP/1.1 403 Forbidden\n",
	      .body = ERROR_XML("AccessDenied", "<Message>Access Denied</Message>")});
	char data[8] = "....";
	struct block_head head;
	ck_assert_int_eq(block_store_get(store, KEY, data, 8, &head, &err), -EAGAIN);
	ck_assert_uint_eq(err.retry_after_ms, 7000);
	ck_assert_str_eq(data, "....");
	ck_assert_int_eq(block_store_get(store, KEY, data, 8, &head, &err), -EACCES);
	ck_text("GET " KEY
		": 403 AccessDenied: Access Denied (request id R1); the credentials need");
	ck_assert_uint_eq(err.retry_after_ms, 0);
	done();
}
END_TEST

START_TEST(an_endless_error_page)
{
	char *page = malloc(1 << 20);
	ck_assert_ptr_nonnull(page);
	memset(page, 'x', (1 << 20) - 1);
	page[(1 << 20) - 1] = '\0';
	const struct script_reply replies[] = {
		{.head = "HTTP/1.1 500 Oops\n", .body = page, .piece = 10000}};
	clean_environment();
	open_with(NULL, replies, 1);
	struct block_head head;
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), -EAGAIN);
	script.done = 0;
	char data[8];
	ck_assert_int_eq(block_store_get(store, KEY, data, 8, &head, &err), -EAGAIN);
	done();
	free(page);
}
END_TEST

/* ---- get_range ---- */

static int range(char *data, size_t size, uint64_t offset, size_t *got)
{
	*got = 99;
	return block_store_get_range(store, KEY, data, size, offset, got, &err);
}

/* Any web server says 200. */
START_TEST(replies_of_no_s3)
{
	OPEN({.head = "HTTP/1.1 200 OK\nContent-Length: 5\n", .body = "<html"},
	     {.head = "HTTP/1.1 206 P\nContent-Length: 3\nContent-Range: bytes 0-2/5\n",
	      .body = "<ht"},
	     {.head = "HTTP/1.1 200 OK\nContent-Length: 5\n"});
	struct block_head head;
	char data[8];
	size_t got;
	ck_assert_int_eq(block_store_get(store, KEY, data, 8, &head, &err), -EIO);
	ck_text("check the endpoint");
	ck_assert_int_eq(range(data, 3, 0, &got), -EIO);
	ck_text("check the endpoint");
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), -EIO);
	ck_text("check the endpoint");
	done();
}
END_TEST

START_TEST(ranges)
{
	OPEN({.head = "HTTP/1.1 206 P\n" ETAG_ANY "Content-Length: 3\nContent-Range: bytes 1-3/5\n",
	      .body = "ell"},
	     {.head = "HTTP/1.1 206 P\n" ETAG_ANY "Content-Length: 2\nContent-Range: bytes 3-4/5\n",
	      .body = "lo"},
	     {.head = "HTTP/1.1 416 R\n", .body = ERROR_XML("InvalidRange", "")},
	     {.head = "HTTP/1.1 404 N\n", .body = ERROR_XML("NoSuchKey", "")});
	char data[16] = "";
	size_t got;
	ck_assert_int_eq(range(data, 3, 1, &got), 0);
	ck_assert_uint_eq(got, 3);
	ck_assert_str_eq(data, "ell");
	ck_header(0, "Range: bytes=1-3\n");
	ck_header(0, "SignedHeaders=host;range;");
	ck_assert_int_eq(range(data, 10, 3, &got), 0);
	ck_assert_uint_eq(got, 2);
	ck_assert_int_eq(range(data, 10, 5, &got), 0);
	ck_assert_uint_eq(got, 0);
	ck_assert_int_eq(err.code, 0);
	ck_assert_int_eq(range(data, 10, 5, &got), -ENOENT);
	done();
}
END_TEST

START_TEST(ranges_of_a_server_that_knows_none)
{
	OPEN({.head = "HTTP/1.1 200 OK\n" ETAG_ANY "Content-Length: 5\n",
	      .body = "hello",
	      .piece = 1},
	     {.head = "HTTP/1.1 200 OK\n" ETAG_ANY "Content-Length: 5\n",
	      .body = "hello",
	      .piece = 4},
	     {.head = "HTTP/1.1 200 OK\n" ETAG_ANY "Content-Length: 5\n", .body = "hello"},
	     {.head = "HTTP/1.1 200 OK\n" ETAG_ANY "Content-Length: 9\n", .body = "hello"});
	char data[16] = "";
	size_t got;
	ck_assert_int_eq(range(data, 3, 1, &got), 0);
	ck_assert_uint_eq(got, 3);
	ck_assert_str_eq(data, "ell");
	ck_assert_int_eq(range(data, 10, 3, &got), 0);
	ck_assert_uint_eq(got, 2);
	ck_assert_mem_eq(data, "lo", 2);
	ck_assert_int_eq(range(data, 10, 7, &got), 0);
	ck_assert_uint_eq(got, 0);
	ck_assert_int_eq(range(data, 10, 3, &got), -EAGAIN); /* cut short */
	done();
}
END_TEST

START_TEST(ranges_that_are_not_what_was_asked_for)
{
	OPEN({.head = "HTTP/1.1 206 P\nContent-Length: 3\nContent-Range: bytes 0-2/5\n",
	      .body = "hel"},
	     {.head = "HTTP/1.1 206 P\nContent-Length: 5\nContent-Range: bytes 1-5/9\n",
	      .body = "ello "},
	     {.head = "HTTP/1.1 206 P\nContent-Length: 3\n", .body = "ell"},
	     {.head = "HTTP/1.1 206 P\nContent-Length: 2\nContent-Range: bytes 1-2/5\n",
	      .body = "el"},
	     {.head = "HTTP/1.1 206 P\nContent-Length: 2\nContent-Range: bytes 1-3/5\n",
	      .body = "el"},
	     {.head = "HTTP/1.1 206 P\nContent-Length: 6\nContent-Range: bytes 1-3/5\n",
	      .body = "ellooo"});
	char data[16] = "...............";
	size_t got;
	for (size_t i = 0; i < script.count; i++) {
		ck_assert_int_eq(range(data, 3, 1, &got), -EIO);
		ck_assert_int_eq(data[3], '.');
	}
	done();
}
END_TEST

START_TEST(ranges_of_no_bytes)
{
	OPEN({.head = "HTTP/1.1 200 OK\nContent-Length: 5\nx-amz-meta-xxh3: " HASH_HELLO "\n"},
	     {.head = "HTTP/1.1 200 OK\nContent-Length: 5\nx-amz-meta-xxh3: " HASH_HELLO "\n"});
	char data[4];
	size_t got;
	ck_assert_int_eq(range(data, 0, 1, &got), 0);
	ck_assert_uint_eq(got, 0);
	ck_assert_int_eq(range(data, 4, UINT64_MAX - 1, &got), 0);
	ck_assert_uint_eq(got, 0);
	ck_assert_str_eq(script.requests[1].method, "HEAD");
	done();
}
END_TEST

/* ---- head, delete ---- */

START_TEST(a_head)
{
	OPEN({.head = "HTTP/1.1 200 OK\nContent-Length: 5\n" ETAG_HELLO
		      "x-amz-meta-xxh3: " HASH_HELLO "\n"},
	     {.head = "HTTP/1.1 200 OK\n" ETAG_ANY "Content-Length: 5\nx-amz-meta-xxh3: no\n"},
	     {.head = "HTTP/1.1 200 OK\n" ETAG_ANY "Content-Length: 5\n",
	      .body = "hello",
	      .piece = 2},
	     {.head = "HTTP/1.1 200 OK\n" ETAG_ANY "Content-Length: 99999999999\n"},
	     {.head = "HTTP/1.1 200 OK\n" ETAG_ANY});
	struct block_head head;
	struct hash hash = hash_of("hello", 5);
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), 0);
	ck_assert(head.recorded && hash_equal(&head.hash, &hash));
	/* Without metadata the bytes are read for their hash. */
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), 0);
	ck_assert(!head.recorded && hash_equal(&head.hash, &hash));
	ck_assert_uint_eq(head.size, 5);
	/* But not of something that is none of ours. */
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), 0);
	ck_assert_uint_eq(head.size, 99999999999);
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), -EIO);
	done();
}
END_TEST

START_TEST(a_bucket_that_is_missing_is_no_missing_block)
{
	OPEN({.head = "HTTP/1.1 404 Not Found\n"},
	     {.head = "HTTP/1.1 404 Not Found\n", .body = ERROR_XML("NoSuchBucket", "")},
	     {.head = "HTTP/1.1 404 Not Found\n"},
	     {.head = "HTTP/1.1 404 Not Found\n", .body = ERROR_XML("NoSuchKey", "")},
	     {.head = "HTTP/1.1 404 Not Found\n"},
	     /* A minute later the bucket has to be there once more. */
	     {.head = "HTTP/1.1 404 Not Found\n"},
	     {.head = "HTTP/1.1 404 Not Found\n", .body = ERROR_XML("NoSuchBucket", "")},
	     {.head = "HTTP/1.1 404 Not Found\n", .body = ERROR_XML("NoSuchBucket", "")},
	     {.head = "HTTP/1.1 404 Not Found\n", .body = ERROR_XML("NoSuchBucket", "")},
	     {.head = "HTTP/1.1 404 Not Found\n"},
	     {.head = "HTTP/1.1 206 P\n" ETAG_ANY "Content-Length: 1\nContent-Range: bytes 0-0/5\n",
	      .body = "h"});
	struct block_head head;
	char data[8];
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), -EACCES);
	ck_text("\"bucket\"");
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), -ENOENT);
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), -ENOENT);
	fake_clock_advance_ms(&fake, 61000);
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), -EACCES);
	ck_assert_int_eq(block_store_get(store, KEY, data, 8, &head, &err), -EACCES);
	ck_assert_int_eq(block_store_delete(store, KEY, &err), -EACCES);
	/* It came between the two requests. */
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), -EAGAIN);
	done();
}
END_TEST

START_TEST(deletes)
{
	OPEN({.head = "HTTP/1.1 204 No Content\n"}, {.head = "HTTP/1.1 200 OK\n"},
	     {.head = "HTTP/1.1 404 Not Found\n", .body = ERROR_XML("NoSuchKey", "")},
	     {.head = "HTTP/1.1 403 Forbidden\n", .body = ERROR_XML("AccessDenied", "")});
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(block_store_delete(store, KEY, &err), 0);
	ck_assert_int_eq(err.code, 0);
	ck_assert_int_eq(block_store_delete(store, KEY, &err), -EACCES);
	done();
}
END_TEST

/* ---- What the server tells how to mend ---- */

START_TEST(a_clock_that_is_off)
{
	OPEN({.head = "HTTP/1.1 403 Forbidden\nDate: Wed, 15 Nov 2023 00:13:20 GMT\n",
	      .body = ERROR_XML("RequestTimeTooSkewed", "")},
	     {.head = "HTTP/1.1 200 OK\n" ETAG_HELLO}, {.head = "HTTP/1.1 200 OK\n" ETAG_HELLO},
	     /* HEAD cannot say why: the date does. The clock was set meanwhile. */
	     {.head = "HTTP/1.1 403 Forbidden\nDate: Wed, 15 Nov 2023 00:13:20 GMT\n"},
	     {.head = "HTTP/1.1 200 OK\nContent-Length: 5\nx-amz-meta-xxh3: " HASH_HELLO "\n"},
	     /* It does not go on for ever. */
	     {.head = "HTTP/1.1 403 Forbidden\nDate: Thu, 16 Nov 2023 00:13:20 GMT\n",
	      .body = ERROR_XML("RequestTimeTooSkewed", "")},
	     {.head = "HTTP/1.1 403 Forbidden\nDate: Fri, 17 Nov 2023 00:13:20 GMT\n",
	      .body = ERROR_XML("RequestTimeTooSkewed", "")},
	     /* Without a date there is nothing to learn. */
	     {.head = "HTTP/1.1 403 Forbidden\n", .body = ERROR_XML("RequestTimeTooSkewed", "")});
	struct block_head head;
	ck_assert_int_eq(put(KEY, "hello"), 0);
	ck_header(0, "x-amz-date: 20231114T221320Z\n");
	ck_header(1, "x-amz-date: 20231115T001320Z\n");
	ck_assert_int_eq(put(KEY, "hello"), 0);
	ck_header(2, "x-amz-date: 20231115T001320Z\n");
	fake_clock_advance_ms(&fake, 7200000);
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), 0);
	ck_header(3, "x-amz-date: 20231115T021320Z\n");
	ck_header(4, "x-amz-date: 20231115T001320Z\n");
	ck_assert_int_eq(put(KEY, "hello"), -EACCES);
	ck_text("set this machine's clock");
	ck_assert_int_eq(put(KEY, "hello"), -EACCES);
	done();
}
END_TEST

START_TEST(another_region)
{
	OPEN({.head = "HTTP/1.1 400 Bad Request\n",
	      .body = ERROR_XML("AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>")},
	     {.head = "HTTP/1.1 200 OK\n" ETAG_HELLO},
	     {.head = "HTTP/1.1 301 Moved\nx-amz-bucket-region: eu-west-1\n"},
	     {.head = "HTTP/1.1 404 Not Found\n"},
	     {.head = "HTTP/1.1 301 Moved\nx-amz-bucket-region: us-west-1\n",
	      .body = ERROR_XML("PermanentRedirect", "")},
	     {.head = "HTTP/1.1 301 Moved\nx-amz-bucket-region: us-west-2\n",
	      .body = ERROR_XML("PermanentRedirect", "")},
	     {.head = "HTTP/1.1 301 Moved\nLocation: http://evil.example/\n"},
	     {.head = "HTTP/1.1 400 Bad Request\n",
	      .body = ERROR_XML("AuthorizationHeaderMalformed", "<Region>x.evil/</Region>")});
	struct block_head head;
	ck_assert_int_eq(put(KEY, "hello"), 0);
	ck_header(1, "/eu-west-3/s3/aws4_request");
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), -ENOENT);
	ck_header(3, "/eu-west-1/s3/aws4_request");
	ck_assert_int_eq(put(KEY, "hello"), -EACCES);
	ck_text("the bucket's region is us-west-2");
	/* A redirect is shown and never followed. */
	ck_assert_int_eq(put(KEY, "hello"), -EACCES);
	ck_text("http://evil.example/");
	ck_assert_int_eq(put(KEY, "hello"), -EACCES);
	ck_header(7, "Host: s3.example.com\n");
	done();
}
END_TEST

START_TEST(amazon_itself)
{
	static const struct script_reply replies[] = {
		{.head = "HTTP/1.1 307 Temporary Redirect\nx-amz-bucket-region: eu-west-3\n"},
		{.head = "HTTP/1.1 204 No Content\n"},
		{.head = "HTTP/1.1 204 No Content\n"},
	};
	clean_environment();
	fake_clock_init(&fake);
	script_init(&script, replies, 3);
	struct s3_options options = {.bucket = "bucket", .clock = &fake.clock};
	ck_assert_int_eq(block_store_s3_new(&options, &script.base, &err, &store), 0);
	ck_assert_int_eq(block_store_delete(store, "owner", &err), 0);
	ck_assert_str_eq(script.requests[0].url, "https://bucket.s3.us-east-1.amazonaws.com/owner");
	ck_assert_str_eq(script.requests[1].url, "https://bucket.s3.eu-west-3.amazonaws.com/owner");
	block_store_free(store);

	/* A dot in the bucket's name would leave the certificate. */
	script.done = 2;
	options.bucket = "dotted.bucket";
	options.region = "cn-north-1";
	ck_assert_int_eq(block_store_s3_new(&options, &script.base, &err, &store), 0);
	ck_assert_int_eq(block_store_delete(store, "owner", &err), 0);
	ck_assert_str_eq(script.requests[2].url,
			 "https://s3.cn-north-1.amazonaws.com.cn/dotted.bucket/owner");
	done();
}
END_TEST

static char credentials_path[128];

static void write_credentials(const char *token)
{
	FILE *file = fopen(credentials_path, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_gt(fprintf(file,
				 "[default]\naws_access_key_id = KEY1\n"
				 "aws_secret_access_key = S1\naws_session_token = %s\n",
				 token),
			 0);
	ck_assert_int_eq(fclose(file), 0);
	ck_assert_int_eq(chmod(credentials_path, 0600), 0);
}

static void renew(void)
{
	write_credentials("token-2");
}

#define EXPIRED                                                                                    \
	{                                                                                          \
		.head = "HTTP/1.1 400 Bad Request\n",                                              \
		.body = ERROR_XML("ExpiredToken",                                                  \
				  "<Message>token-1-and-more is too old</Message>")                \
	}

START_TEST(a_session_that_expires)
{
	static const struct script_reply replies[] = {
		EXPIRED,
		/* It is not looked at again within some seconds, */
		EXPIRED,
		/* and then it is. */
		{.head = "HTTP/1.1 400 Bad Request\n",
		 .body = ERROR_XML("ExpiredToken", ""),
		 .meanwhile = renew},
		{.head = "HTTP/1.1 200 OK\n" ETAG_HELLO},
		EXPIRED,
	};
	clean_environment();
	(void)snprintf(dir, sizeof(dir), "/tmp/test-s3-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	(void)snprintf(credentials_path, sizeof(credentials_path), "%s/credentials", dir);
	write_credentials("token-1-and-more");
	open_with(&(struct s3_options){.credentials_file = credentials_path}, replies,
		  ARRAY_SIZE(replies));
	ck_assert_int_eq(put(KEY, "hello"), -EAGAIN);
	ck_text("400 ExpiredToken (request id R1); renew");
	ck_header(0, "x-amz-security-token: token-1-and-more\n");
	ck_header(0, "SignedHeaders=host;if-none-match;x-amz-content-sha256;x-amz-date;"
		     "x-amz-meta-xxh3;x-amz-security-token,");
	write_credentials("token-3");
	ck_assert_int_eq(put(KEY, "hello"), -EAGAIN);
	fake_clock_advance_ms(&fake, 5000);
	ck_assert_int_eq(put(KEY, "hello"), 0);
	ck_header(3, "x-amz-security-token: token-2\n");

	/* What cannot be read changes nothing. */
	fake_clock_advance_ms(&fake, 5000);
	ck_assert_int_eq(chmod(credentials_path, 0644), 0);
	ck_assert_int_eq(put(KEY, "hello"), -EAGAIN);
	done();
	ck_assert_int_eq(unlink(credentials_path), 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

START_TEST(a_wrong_key)
{
	OPEN({.head = "HTTP/1.1 403 Forbidden\n", .body = ERROR_XML("InvalidAccessKeyId", "")},
	     {.head = "HTTP/1.1 403 Forbidden\n",
	      .body = ERROR_XML("SignatureDoesNotMatch",
				"<Message>it is very+secret</Message><StringToSign>very+secret"
				"</StringToSign>")},
	     {.head = "HTTP/1.1 403 Forbidden\n"});
	struct block_head head;
	ck_assert_int_eq(put(KEY, "hello"), -EACCES);
	ck_text("403 InvalidAccessKeyId (request id R1); check the access key");
	ck_assert_int_eq(put(KEY, "hello"), -EACCES);
	ck_assert_ptr_null(strstr(err.text, "secret "));
	ck_assert_ptr_null(strstr(err.text, "very+secret"));
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), -EACCES);
	done();
}
END_TEST

START_TEST(what_the_transport_says)
{
	OPEN({.result = -EAGAIN}, {.result = -EACCES}, {.head = "", .result = 0},
	     {.head = "HTTP/1.1 200 OK\n", .result = -EAGAIN});
	struct block_head head;
	ck_assert_int_eq(put(KEY, "hello"), -EAGAIN);
	ck_text("PUT " KEY ": the script says");
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), -EACCES);
	ck_assert_int_eq(block_store_head(store, KEY, &head, &err), -EIO);
	ck_assert_int_eq(put(KEY, "hello"), -EAGAIN);
	block_store_stop(store);
	ck_assert_int_eq(put(KEY, "hello"), -ECANCELED);
	done();
}
END_TEST

/* ---- list ---- */

#define LIST_HEAD "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n"
#define PAGE(more, contents)                                                                       \
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>"                                               \
	"<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">" more contents       \
	"<EncodingType>url</EncodingType></ListBucketResult>"
#define MORE(token)                                                                                \
	"<IsTruncated>true</IsTruncated><NextContinuationToken>" token "</NextContinuationToken>"
#define ITEM(key) "<Contents><Key>" key "</Key><Size>5</Size></Contents>"
#define PRE "some/prefix/"

struct names {
	char text[2048];
	unsigned count, stop_at;
};

static int remember(void *arg, const char *key, uint64_t size)
{
	struct names *names = arg;
	fault_alloc_pause();
	ck_assert_uint_eq(size, 5);
	fault_alloc_resume();
	strcat(names->text, key);
	strcat(names->text, "\n");
	return ++names->count == names->stop_at ? -EDOM : 1;
}

static int list(const char *prefix, const char *after, struct names *names)
{
	names->text[0] = '\0';
	names->count = 0;
	return block_store_list(store, prefix, after, remember, names, &err);
}

START_TEST(a_listing)
{
	OPEN({.head = LIST_HEAD,
	      .piece = 7,
	      .body = PAGE(MORE("a+b/c="),
			   ITEM(PRE "owner") ITEM(PRE "owner.old") ITEM(PRE "roots%2f"
									    "00000000000000000001")
				   ITEM("elsewhere/owner") ITEM(PRE "odd%") ITEM(PRE))},
	     {.head = LIST_HEAD,
	      .body = PAGE("<IsTruncated>false</IsTruncated>",
			   ITEM(PRE KEY) ITEM(PRE KEY "%2B0000000001-0000000002")
				   ITEM(PRE KEY5 "+0000000001-0000000002"))});
	struct names names = {0};
	ck_assert_int_eq(list("", "", &names), 0);
	ck_assert_str_eq(names.text, "owner\nroots/00000000000000000001\n" KEY "\n" KEY
				     "+0000000001-0000000002\n" KEY5 "+0000000001-0000000002\n");
	ck_assert_str_eq(script.requests[0].url,
			 "https://s3.example.com/bucket?encoding-type=url&list-type=2&"
			 "max-keys=1000&prefix=some%2Fprefix%2F");
	ck_assert_str_eq(script.requests[1].url,
			 "https://s3.example.com/bucket?continuation-token=a%2Bb%2Fc%3D&"
			 "encoding-type=url&list-type=2&max-keys=1000&prefix=some%2Fprefix%2F");
	ck_assert_str_eq(script.requests[1].method, "GET");
	struct block_store_status status;
	block_store_status(store, &status);
	ck_assert_uint_eq(status.requests[BLOCK_REQUEST_LIST], 2);
	done();
}
END_TEST

START_TEST(a_listing_of_a_part)
{
	OPEN({.head = LIST_HEAD,
	      .body = PAGE("",
			   ITEM(PRE KEY) ITEM(PRE KEY "%2B0000000001-0000000002") ITEM(PRE KEY5))},
	     {.head = LIST_HEAD, .body = PAGE(MORE("x"), ITEM(PRE KEY) ITEM(PRE KEY5))});
	struct names names = {0};
	/* AFTER counts whether or not the server knows it. */
	ck_assert_int_eq(list("wal/" U "/", KEY, &names), 0);
	ck_assert_str_eq(names.text, KEY "+0000000001-0000000002\n" KEY5 "\n");
	ck_assert_str_eq(script.requests[0].url,
			 "https://s3.example.com/bucket?encoding-type=url&list-type=2&"
			 "max-keys=1000&prefix=some%2Fprefix%2Fwal%2F" U "%2F&"
			 "start-after=some%2Fprefix%2Fwal%2F" U "%2F00000000000000000000");
	names.stop_at = 1;
	ck_assert_int_eq(list("wal/", "", &names), -EDOM);
	ck_assert_uint_eq(names.count, 1);
	done();
}
END_TEST

START_TEST(a_prefix_with_a_space)
{
	static const struct script_reply replies[] = {
		{.head = LIST_HEAD, .body = PAGE("", ITEM("my+data/owner"))},
		{.head = LIST_HEAD, .body = PAGE("", ITEM("my%20data/owner"))},
	};
	struct names names = {0};
	clean_environment();
	open_with(&(struct s3_options){.prefix = "my data"}, replies, 2);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(list("", "", &names), 0);
		ck_assert_str_eq(names.text, "owner\n");
	}
	done();
}
END_TEST

START_TEST(listings_that_are_refused)
{
	OPEN({.head = LIST_HEAD, .body = PAGE("", ITEM(PRE KEY5) ITEM(PRE KEY))},
	     {.head = LIST_HEAD, .body = PAGE("", ITEM(PRE KEY) ITEM(PRE KEY))},
	     {.head = LIST_HEAD, .body = PAGE("<IsTruncated>true</IsTruncated>", "")},
	     {.head = LIST_HEAD, .body = "<html>Welcome!</html>"},
	     {.head = LIST_HEAD, .body = "Welcome!"},
	     {.head = LIST_HEAD, .body = "<ListBucketResult>" ITEM(PRE KEY)},
	     {.head = LIST_HEAD, .body = PAGE("", "<Contents><Key>x</Key></Contents>")});
	struct names names = {0};
	for (size_t i = 0; i < script.count; i++) {
		ck_assert_int_eq(list("", "", &names), -EIO);
		ck_text("LIST bucket/some/prefix/: ");
		ck_assert_uint_eq(names.count, 0);
	}
	done();
}
END_TEST

START_TEST(a_listing_that_goes_round)
{
	OPEN({.head = LIST_HEAD, .body = PAGE(MORE("one"), "")},
	     {.head = LIST_HEAD, .body = PAGE(MORE("one"), "")},
	     {.head = "HTTP/1.1 404 N\n", .body = ERROR_XML("NoSuchBucket", "")},
	     {.head = "HTTP/1.1 404 N\n"},
	     {.head = "HTTP/1.1 403 F\n", .body = ERROR_XML("AccessDenied", "")},
	     {.head = LIST_HEAD, .body = PAGE("", ITEM(PRE KEY)), .result = -EAGAIN});
	struct names names = {0};
	ck_assert_int_eq(list("", "", &names), -EIO);
	ck_text("circles");
	ck_assert_int_eq(list("", "", &names), -EACCES);
	ck_assert_int_eq(list("", "", &names), -EACCES);
	ck_assert_int_eq(list("", "", &names), -EACCES);
	ck_text("s3:ListBucket");
	ck_assert_int_eq(list("", "", &names), -EAGAIN);
	ck_assert_uint_eq(names.count, 0);
	done();
}
END_TEST

/* ---- Without memory ---- */

static const struct script_reply memory_replies[] = {
	{.head = "HTTP/1.1 412 P\n", .body = ERROR_XML("PreconditionFailed", "")},
	{.head = "HTTP/1.1 200 OK\n" ETAG_ANY "Content-Length: 5\n", .body = "hello"},
	{.head = "HTTP/1.1 200 OK\n" ETAG_ANY "Content-Length: 5\n"},
	{.head = "HTTP/1.1 200 OK\n" ETAG_ANY "Content-Length: 5\n", .body = "hello"},
	{.head = LIST_HEAD, .body = PAGE("", ITEM(PRE KEY))},
};

/* Everything once. The first error ends it. */
static int use_all(void)
{
	struct names names = {0};
	struct block_head head;
	char data[8];
	script_init(&script, memory_replies, ARRAY_SIZE(memory_replies));
	int r = block_store_s3_new(options_with(NULL), &script.base, &err, &store);
	if (r < 0)
		return r;
	r = put(KEY, "hello");
	if (r == -EEXIST)
		r = block_store_get(store, KEY, data, 8, &head, &err);
	if (r == 0)
		r = block_store_head(store, KEY, &head, &err);
	if (r == 0)
		r = list("", "", &names);
	block_store_free(store);
	return r == 0 && names.count != 1 ? -EPROTO : r;
}

START_TEST(without_memory)
{
	bool failed;
	uint64_t n = 0;
	clean_environment();
	fake_clock_init(&fake);
	ck_assert(fault_alloc_available());
	do {
		fault_alloc_fail(++n);
		int r = use_all();
		failed = fault_alloc_stop();
		ck_assert_msg(r == (failed ? -ENOMEM : 0), "allocation %" PRIu64 ": %d %s", n, r,
			      err.text);
	} while (failed);
	ck_assert_uint_gt(n, 30);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("s3_store");
	TCase *tcase = tcase_create("s3_store");
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_put);
	tcase_add_test(tcase, odd_characters_are_encoded);
	tcase_add_test(tcase, virtual_hosts);
	tcase_add_test(tcase, of_two_puts_one_wins);
	tcase_add_test(tcase, a_server_that_cannot_refuse);
	tcase_add_test(tcase, a_server_that_ignores_the_condition);
	tcase_add_test(tcase, a_server_that_keeps_the_condition);
	tcase_add_test(tcase, a_501_for_another_reason);
	tcase_add_test(tcase, any_web_server_says_200);
	tcase_add_test(tcase, only_the_owner_is_replaced);
	tcase_add_test(tcase, a_get);
	tcase_add_test(tcase, a_get_without_metadata);
	tcase_add_test(tcase, bodies_that_are_too_long_or_too_short);
	tcase_add_test(tcase, an_error_page_is_never_data);
	tcase_add_test(tcase, an_endless_error_page);
	tcase_add_test(tcase, replies_of_no_s3);
	tcase_add_test(tcase, ranges);
	tcase_add_test(tcase, ranges_of_a_server_that_knows_none);
	tcase_add_test(tcase, ranges_that_are_not_what_was_asked_for);
	tcase_add_test(tcase, ranges_of_no_bytes);
	tcase_add_test(tcase, a_head);
	tcase_add_test(tcase, a_bucket_that_is_missing_is_no_missing_block);
	tcase_add_test(tcase, deletes);
	tcase_add_test(tcase, a_clock_that_is_off);
	tcase_add_test(tcase, another_region);
	tcase_add_test(tcase, amazon_itself);
	tcase_add_test(tcase, a_session_that_expires);
	tcase_add_test(tcase, a_wrong_key);
	tcase_add_test(tcase, what_the_transport_says);
	tcase_add_test(tcase, a_listing);
	tcase_add_test(tcase, a_listing_of_a_part);
	tcase_add_test(tcase, a_prefix_with_a_space);
	tcase_add_test(tcase, listings_that_are_refused);
	tcase_add_test(tcase, a_listing_that_goes_round);
	tcase_add_test(tcase, without_memory);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
