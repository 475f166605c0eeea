/*
 * The signer against what AWS publishes: its SigV4 test suite (service "service", 2015-08-30) and the
 * examples of the S3 documentation (2013-05-24).
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/sigv4.h"
#include "tests/lib/fault_alloc.h"

#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SUITE_DATE "20150830T123600Z"
#define SUITE_SCOPE "20150830/us-east-1/service/aws4_request"
#define UNRESERVED "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

static const struct sigv4_identity suite_identity = {
	.key_id = "AKIDEXAMPLE",
	.secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
	.region = "us-east-1",
	.service = "service",
};

struct vector {
	const char *name, *method;
	const char *path; /* not encoded */
	struct sigv4_pair query[4];
	struct sigv4_pair headers[4]; /* beside Host and X-Amz-Date */
	const char *body;
	const char *signed_names, *signature;
};

static const struct vector vectors[] = {
	{"get-vanilla",
	 "GET",
	 "/",
	 {{0}},
	 {{0}},
	 "",
	 "host;x-amz-date",
	 "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"get-vanilla-empty-query-key",
	 "GET",
	 "/",
	 {{"Param1", "value1"}},
	 {{0}},
	 "",
	 "host;x-amz-date",
	 "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
	{"get-vanilla-query-order-key-case",
	 "GET",
	 "/",
	 {{"Param2", "value2"}, {"Param1", "value1"}},
	 {{0}},
	 "",
	 "host;x-amz-date",
	 "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
	{"get-vanilla-query-order-value",
	 "GET",
	 "/",
	 {{"Param1", "value2"}, {"Param1", "value1"}},
	 {{0}},
	 "",
	 "host;x-amz-date",
	 "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"},
	{"get-vanilla-query-unreserved",
	 "GET",
	 "/",
	 {{UNRESERVED, UNRESERVED}},
	 {{0}},
	 "",
	 "host;x-amz-date",
	 "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
	{"get-vanilla-utf8-query",
	 "GET",
	 "/",
	 {{"\xe1\x88\xb4", "bar"}},
	 {{0}},
	 "",
	 "host;x-amz-date",
	 "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
	{"get-unreserved",
	 "GET",
	 "/" UNRESERVED,
	 {{0}},
	 {{0}},
	 "",
	 "host;x-amz-date",
	 "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
	{"get-utf8",
	 "GET",
	 "/\xe1\x88\xb4",
	 {{0}},
	 {{0}},
	 "",
	 "host;x-amz-date",
	 "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
	{"get-space",
	 "GET",
	 "/example space/",
	 {{0}},
	 {{0}},
	 "",
	 "host;x-amz-date",
	 "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"},
	{"get-header-value-order",
	 "GET",
	 "/",
	 {{0}},
	 {{"My-Header1", "value4"},
	  {"My-Header1", "value1"},
	  {"My-Header1", "value3"},
	  {"My-Header1", "value2"}},
	 "",
	 "host;my-header1;x-amz-date",
	 "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"},
	{"get-header-key-duplicate",
	 "GET",
	 "/",
	 {{0}},
	 {{"My-Header1", "value2"}, {"My-Header1", "value2"}, {"My-Header1", "value1"}},
	 "",
	 "host;my-header1;x-amz-date",
	 "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
	{"get-header-value-trim",
	 "GET",
	 "/",
	 {{0}},
	 {{"My-Header1", " value1"}, {"My-Header2", " \"a   b   c\""}},
	 "",
	 "host;my-header1;my-header2;x-amz-date",
	 "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
	{"post-vanilla",
	 "POST",
	 "/",
	 {{0}},
	 {{0}},
	 "",
	 "host;x-amz-date",
	 "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
	{"post-vanilla-query",
	 "POST",
	 "/",
	 {{"Param1", "value1"}},
	 {{0}},
	 "",
	 "host;x-amz-date",
	 "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
	{"post-header-key-sort",
	 "POST",
	 "/",
	 {{0}},
	 {{"My-Header1", "value1"}},
	 "",
	 "host;my-header1;x-amz-date",
	 "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
	{"post-header-value-case",
	 "POST",
	 "/",
	 {{0}},
	 {{"My-Header1", "VALUE1"}},
	 "",
	 "host;my-header1;x-amz-date",
	 "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"},
	{"post-x-www-form-urlencoded",
	 "POST",
	 "/",
	 {{0}},
	 {{"Content-Type", "application/x-www-form-urlencoded"}},
	 "Param1=value1",
	 "content-type;host;x-amz-date",
	 "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
};

static size_t count_pairs(const struct sigv4_pair *pairs, size_t max)
{
	size_t count = 0;
	while (count < max && pairs[count].name)
		count++;
	return count;
}

static char *text_of(struct buf *buf)
{
	ck_assert_int_eq(buf_append_zeros(buf, 1), 0);
	return (char *)buf->data;
}

START_TEST(the_published_suite)
{
	const struct vector *v = &vectors[_i];
	struct buf path = {.max = 4096}, query = {.max = 4096}, got = {.max = 8192};
	struct sigv4_pair headers[8] = {{"X-Amz-Date", SUITE_DATE},
					{"Host", "example.amazonaws.com"}};
	char payload[SIGV4_SHA256_TEXT_SIZE], want[512];

	size_t count = count_pairs(v->headers, 4);
	memcpy(headers + 2, v->headers, count * sizeof(*headers));
	ck_assert_int_eq(sigv4_sha256(v->body, strlen(v->body), payload), 0);
	ck_assert_int_eq(sigv4_encode(&path, v->path, true), 0);
	ck_assert_int_eq(sigv4_query(&query, v->query, count_pairs(v->query, 4)), 0);
	struct sigv4_request request = {
		.method = v->method,
		.path = text_of(&path),
		.query = text_of(&query),
		.headers = headers,
		.header_count = count + 2,
		.payload_sha256 = payload,
	};
	ck_assert_int_eq(sigv4_authorization(&request, &suite_identity, SUITE_DATE, &got), 0);
	(void)snprintf(want, sizeof(want),
		       "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/" SUITE_SCOPE
		       ", SignedHeaders=%s, Signature=%s",
		       v->signed_names, v->signature);
	ck_assert_msg(strcmp(text_of(&got), want) == 0, "%s: %s", v->name, (char *)got.data);
	buf_done(&path);
	buf_done(&query);
	buf_done(&got);
}
END_TEST

START_TEST(each_step_as_published)
{
	const struct sigv4_pair headers[] = {{"Host", "example.amazonaws.com"},
					     {"My-Header1", " value1"},
					     {"My-Header2", " \"a   b   c\""},
					     {"X-Amz-Date", SUITE_DATE}};
	const struct sigv4_request request = {.method = "GET",
					      .path = "/",
					      .query = "",
					      .headers = headers,
					      .header_count = 4,
					      .payload_sha256 = EMPTY_SHA256};
	struct buf canonical = {.max = 4096}, to_sign = {.max = 4096};
	ck_assert_int_eq(sigv4_canonical_request(&request, &canonical), 0);
	ck_assert_str_eq(text_of(&canonical),
			 "GET\n/\n\nhost:example.amazonaws.com\nmy-header1:value1\n"
			 "my-header2:\"a b c\"\nx-amz-date:20150830T123600Z\n\n"
			 "host;my-header1;my-header2;x-amz-date\n" EMPTY_SHA256);
	ck_assert_int_eq(sigv4_string_to_sign(&request, &suite_identity, SUITE_DATE, &to_sign), 0);
	ck_assert_str_eq(text_of(&to_sign),
			 "AWS4-HMAC-SHA256\n20150830T123600Z\n" SUITE_SCOPE "\n"
			 "a726db9b0df21c14f559d0a978e563112acb1b9e05476f0a6a1c7d68f28605c7");
	buf_done(&canonical);
	buf_done(&to_sign);
}
END_TEST

/* The S3 documentation: a GET of a range, a PUT, a bucket's lifecycle, a listing. */
static const struct vector s3_vectors[] = {
	{"GET object",
	 "GET",
	 "/test.txt",
	 {{0}},
	 {{"Range", "bytes=0-9"}},
	 "",
	 "host;range;x-amz-content-sha256;x-amz-date",
	 "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
	{"PUT object",
	 "PUT",
	 "/test$file.text",
	 {{0}},
	 {{"Date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
	 "Welcome to Amazon S3.",
	 "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
	 "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
	{"GET lifecycle",
	 "GET",
	 "/",
	 {{"lifecycle", ""}},
	 {{0}},
	 "",
	 "host;x-amz-content-sha256;x-amz-date",
	 "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
	{"GET bucket",
	 "GET",
	 "/",
	 {{"prefix", "J"}, {"max-keys", "2"}},
	 {{0}},
	 "",
	 "host;x-amz-content-sha256;x-amz-date",
	 "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
};

START_TEST(the_examples_of_s3)
{
	const struct vector *v = &s3_vectors[_i];
	const struct sigv4_identity identity = {
		.key_id = "AKIAIOSFODNN7EXAMPLE",
		.secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		.region = "us-east-1",
		.service = "s3",
	};
	struct buf path = {.max = 4096}, query = {.max = 4096}, got = {.max = 8192};
	char payload[SIGV4_SHA256_TEXT_SIZE], want[512], date[SIGV4_DATE_SIZE];

	ck_assert_int_eq(sigv4_date(1369353600, date), 0);
	ck_assert_int_eq(sigv4_sha256(v->body, strlen(v->body), payload), 0);
	struct sigv4_pair headers[8] = {{"Host", "examplebucket.s3.amazonaws.com"},
					{"x-amz-content-sha256", payload},
					{"x-amz-date", date}};
	size_t count = count_pairs(v->headers, 4);
	memcpy(headers + 3, v->headers, count * sizeof(*headers));
	ck_assert_int_eq(sigv4_encode(&path, v->path, true), 0);
	ck_assert_int_eq(sigv4_query(&query, v->query, count_pairs(v->query, 4)), 0);
	struct sigv4_request request = {
		.method = v->method,
		.path = text_of(&path),
		.query = text_of(&query),
		.headers = headers,
		.header_count = count + 3,
		.payload_sha256 = payload,
	};
	ck_assert_int_eq(sigv4_authorization(&request, &identity, date, &got), 0);
	(void)snprintf(want, sizeof(want),
		       "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"
		       "aws4_request, SignedHeaders=%s, Signature=%s",
		       v->signed_names, v->signature);
	ck_assert_msg(strcmp(text_of(&got), want) == 0, "%s: %s", v->name, (char *)got.data);
	buf_done(&path);
	buf_done(&query);
	buf_done(&got);
}
END_TEST

START_TEST(encoding)
{
	struct buf buf = {.max = 256};
	ck_assert_int_eq(sigv4_encode(&buf, "a b+c/d%e~\xff'()*!", true), 0);
	ck_assert_str_eq(text_of(&buf), "a%20b%2Bc/d%25e~%FF%27%28%29%2A%21");
	buf_clear(&buf);
	ck_assert_int_eq(sigv4_encode(&buf, "a/b", false), 0);
	ck_assert_str_eq(text_of(&buf), "a%2Fb");
	buf_clear(&buf);

	/* By name and not by the whole text: '-' comes before '='. */
	const struct sigv4_pair pairs[] = {{"a-b", "1"}, {"a", "2"}, {"a", "1"}, {"A", "/"}};
	ck_assert_int_eq(sigv4_query(&buf, pairs, 4), 0);
	ck_assert_str_eq(text_of(&buf), "A=%2F&a=1&a=2&a-b=1");
	buf_done(&buf);

	const struct sigv4_pair many[SIGV4_PAIRS_MAX + 1] = {{"a", "b"}};
	struct buf small = {.max = 2};
	ck_assert_int_eq(sigv4_query(&small, many, SIGV4_PAIRS_MAX + 1), -E2BIG);
	ck_assert_int_eq(sigv4_query(&small, pairs, 4), -EFBIG);
	buf_done(&small);
}
END_TEST

START_TEST(dates)
{
	char date[SIGV4_DATE_SIZE];
	ck_assert_int_eq(sigv4_date(0, date), 0);
	ck_assert_str_eq(date, "19700101T000000Z");
	ck_assert_int_eq(sigv4_date(1709164800, date), 0);
	ck_assert_str_eq(date, "20240229T000000Z");
	ck_assert_int_eq(sigv4_date(253402300799, date), 0);
	ck_assert_str_eq(date, "99991231T235959Z");
	ck_assert_int_eq(sigv4_date(253402300800, date), -EINVAL);
	ck_assert_int_eq(sigv4_date(UINT64_MAX, date), -EINVAL);
}
END_TEST

START_TEST(a_secret_that_is_too_long)
{
	char secret[1024];
	struct buf got = {.max = 4096};
	const struct sigv4_request request = {
		.method = "GET", .path = "/", .query = "", .payload_sha256 = EMPTY_SHA256};
	memset(secret, 'x', sizeof(secret) - 1);
	secret[sizeof(secret) - 1] = '\0';
	struct sigv4_identity identity = suite_identity;
	identity.secret = secret;
	ck_assert_int_eq(sigv4_authorization(&request, &identity, SUITE_DATE, &got), -EINVAL);
	buf_done(&got);
}
END_TEST

START_TEST(without_memory)
{
	const struct sigv4_pair headers[] = {{"Host", "example.amazonaws.com"},
					     {"X-Amz-Date", SUITE_DATE}};
	const struct sigv4_request request = {.method = "GET",
					      .path = "/",
					      .query = "",
					      .headers = headers,
					      .header_count = 2,
					      .payload_sha256 = EMPTY_SHA256};
	bool failed;
	uint64_t n = 0;
	ck_assert(fault_alloc_available());
	do {
		struct buf got = {.max = 4096};
		fault_alloc_fail(++n);
		int r = sigv4_authorization(&request, &suite_identity, SUITE_DATE, &got);
		failed = fault_alloc_stop();
		ck_assert_int_eq(r, failed ? -ENOMEM : 0);
		buf_done(&got);
	} while (failed);
	ck_assert_uint_gt(n, 3);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sigv4");
	TCase *tcase = tcase_create("sigv4");
	tcase_add_loop_test(tcase, the_published_suite, 0, (int)ARRAY_SIZE(vectors));
	tcase_add_test(tcase, each_step_as_published);
	tcase_add_loop_test(tcase, the_examples_of_s3, 0, (int)ARRAY_SIZE(s3_vectors));
	tcase_add_test(tcase, encoding);
	tcase_add_test(tcase, dates);
	tcase_add_test(tcase, a_secret_that_is_too_long);
	tcase_add_test(tcase, without_memory);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
