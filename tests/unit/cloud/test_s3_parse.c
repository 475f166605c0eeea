/* What a server says, taken apart: header lines, error documents, listings, and what they mean. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cloud/s3_error.h"
#include "cloud/s3_headers.h"
#include "cloud/s3_xml.h"
#include "tests/lib/fault_alloc.h"

/* ---- Headers ---- */

static struct s3_headers headers_of(const char *lines)
{
	struct s3_headers headers;
	s3_headers_init(&headers);
	while (*lines) {
		size_t length = strcspn(lines, "\n");
		s3_headers_line(&headers, lines, length);
		lines += length + (lines[length] == '\n');
	}
	return headers;
}

START_TEST(a_header)
{
	struct s3_headers h = headers_of("HTTP/1.1 206 Partial Content\r\n"
					 "content-LENGTH:  12 \r\n"
					 "Content-Range: bytes 10-21/100\r\n"
					 "ETag: W/\"abc\"\r\n"
					 "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
					 "Last-Modified: Sun, 06 Nov 1994 08:49:36 GMT\r\n"
					 "x-amz-request-id: tx1\r\n"
					 "x-amz-bucket-region: eu-west-3\r\n"
					 "Location: https://a/\r\n"
					 "x-amz-meta-xxh3: 000102030405060708090a0b0c0d0e0f\r\n"
					 "x-amz-meta-first-frame: 4096\r\n"
					 "\r\n");
	ck_assert_uint_eq(h.status, 206);
	ck_assert(h.has_length && h.length == 12 && !h.chunked);
	ck_assert(h.has_range && h.range_first == 10 && h.range_last == 21 && h.range_total == 100);
	ck_assert_str_eq(h.etag, "abc");
	ck_assert_uint_eq(h.date_s, 784111777);
	ck_assert_uint_eq(h.modified_s, 784111776);
	ck_assert_str_eq(h.request_id, "tx1");
	ck_assert_str_eq(h.region, "eu-west-3");
	ck_assert_str_eq(h.location, "https://a/");
	ck_assert(h.has_hash && h.hash.bytes[15] == 15);
	ck_assert_uint_eq(h.first_frame, 4096);
}
END_TEST

START_TEST(a_status_line_begins_anew)
{
	struct s3_headers h = headers_of("HTTP/1.1 100 Continue\nContent-Length: 7\nHTTP/2 200\n");
	ck_assert_uint_eq(h.status, 200);
	ck_assert(!h.has_length);
	ck_assert_uint_eq(h.first_frame, BLOCK_NO_FRAME);
	ck_assert_uint_eq(headers_of("HTTP/1.1\n").status, 0);
	ck_assert_uint_eq(headers_of("HTTP/1.1 2x\n").status, 0);
	ck_assert_uint_eq(headers_of("HTTP/1.1 99\n").status, 0);
	ck_assert_uint_eq(headers_of("HTTP/1.1 99999999999999999999\n").status, 0);
}
END_TEST

START_TEST(lines_without_sense)
{
	struct s3_headers h =
		headers_of("HTTP/1.1 200 OK\nContent-Length: -1\nContent-Range: bytes 5-4/9\n"
			   "ETag\nx-amz-meta-xxh3: 00010203\nx-amz-meta-first-frame: 1x\n"
			   "x-amz-bucket-region: a.evil.example\nRetry-After: soon\n"
			   "Date: yesterday\n: \n\n");
	ck_assert(!h.has_length && !h.has_range && !h.has_hash && !h.etag[0] && !h.region[0]);
	ck_assert_uint_eq(h.first_frame, BLOCK_NO_FRAME);
	ck_assert_uint_eq(h.date_s, 0);
	ck_assert_uint_eq(s3_headers_retry_after_ms(&h, 5), 0);
	ck_assert(!headers_of("Content-Length: 18446744073709551616\n").has_length);
	ck_assert(headers_of("Content-Length: 18446744073709551615\n").has_length);
	ck_assert(!headers_of("Content-Range: bytes 0-4/5x\n").has_range);
	ck_assert(!headers_of("Content-Range: bytes 0-4/4\n").has_range);
	ck_assert_uint_eq(headers_of("Content-Range: bytes 0-4/*\n").range_total, UINT64_MAX);

	/* Half of an ETag would be another one. */
	char line[400] = "ETag: ";
	memset(line + 6, 'a', 80);
	ck_assert_str_eq(headers_of(line).etag, "");
	memset(line + 6, 'a', 390);
	s3_headers_line(&h, line, 396);
	s3_headers_line(&h, "ETag: a\0b", 9);
	ck_assert_str_eq(h.etag, "");
}
END_TEST

START_TEST(how_long_to_wait)
{
	struct s3_headers h = headers_of("Retry-After: 120\n");
	ck_assert_uint_eq(s3_headers_retry_after_ms(&h, 0), 120000);
	h = headers_of("Retry-After: 99999999999\n");
	ck_assert_uint_eq(s3_headers_retry_after_ms(&h, 0), 1000 * S3_RETRY_AFTER_MAX_S);
	h = headers_of("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\n");
	ck_assert_uint_eq(s3_headers_retry_after_ms(&h, 784111770), 7000);
	ck_assert_uint_eq(s3_headers_retry_after_ms(&h, 784111999), 0);
	ck_assert_uint_eq(s3_headers_retry_after_ms(&h, 0), 1000 * S3_RETRY_AFTER_MAX_S);
	/* The server's own clock is the one that its wish is about. */
	h = headers_of("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\n"
		       "Date: Sun, 06 Nov 1994 08:49:35 GMT\n");
	ck_assert_uint_eq(s3_headers_retry_after_ms(&h, 5), 2000);
}
END_TEST

START_TEST(etags_that_are_md5)
{
#define MD5 "ETag: \"0123456789abcdef0123456789abcdef\"\n"
	struct s3_headers h = headers_of(MD5);
	ck_assert(s3_headers_etag_is_md5(&h));
	h = headers_of(MD5 "x-amz-server-side-encryption: AES256\n");
	ck_assert(s3_headers_etag_is_md5(&h));
	h = headers_of(MD5 "x-amz-server-side-encryption: aws:kms\n");
	ck_assert(!s3_headers_etag_is_md5(&h));
	h = headers_of(MD5 "x-amz-server-side-encryption-customer-algorithm: AES256\n");
	ck_assert(!s3_headers_etag_is_md5(&h));
	h = headers_of("ETag: \"0123456789abcdef0123456789abcdef-2\"\n");
	ck_assert(!s3_headers_etag_is_md5(&h));
	h = headers_of("ETag: \"0123456789abcdef0123456789abcdeg\"\n");
	ck_assert(!s3_headers_etag_is_md5(&h));
}
END_TEST

/* ---- Error documents ---- */

static int parse_error(const char *text, struct s3_xml_error *ret)
{
	return s3_xml_error_parse(text, strlen(text), ret);
}

START_TEST(an_error_document)
{
	struct s3_xml_error error = {0};
	const char *text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>A</Code>"
			   "<Message>b &lt;c&gt; d</Message><Region>eu-west-3</Region>"
			   "<Endpoint>e</Endpoint><Nested><Code>no</Code></Nested>"
			   "<RequestId>r</RequestId><HostId>h</HostId></Error>";
	ck_assert_int_eq(parse_error(text, &error), 0);
	ck_assert_str_eq(error.code, "A");
	ck_assert_str_eq(error.message, "b <c> d");
	ck_assert_str_eq(error.region, "eu-west-3");
	ck_assert_str_eq(error.endpoint, "e");
	ck_assert_str_eq(error.request_id, "r");
	/* No beginning of it is one. */
	for (size_t size = 0; size < strlen(text); size++)
		ck_assert_int_eq(s3_xml_error_parse(text, size, &error), -EBADMSG);
}
END_TEST

START_TEST(documents_that_are_refused)
{
	struct s3_xml_error error;
	ck_assert_int_eq(parse_error("<Error><Message>no code</Message></Error>", &error),
			 -EBADMSG);
	ck_assert_int_eq(parse_error("<html><Code>A</Code></html>", &error), -EBADMSG);
	ck_assert_int_eq(parse_error("<!DOCTYPE Error><Error><Code>A</Code></Error>", &error),
			 -EBADMSG);
	ck_assert_int_eq(parse_error("<!DOCTYPE e [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>"
				     "<Error><Code>&b;</Code></Error>",
				     &error),
			 -EBADMSG);
	ck_assert_int_eq(parse_error("<Error><Code>&lol;</Code></Error>", &error), -EBADMSG);

	struct buf deep = {.max = 65536};
	for (unsigned i = 0; i < 1000; i++)
		ck_assert_int_eq(buf_append_text(&deep, i ? "<a>" : "<Error><Code>A</Code>"), 0);
	ck_assert_int_eq(s3_xml_error_parse(deep.data, deep.size, &error), -EBADMSG);
	buf_clear(&deep);
	/* Beyond the bound even what would be right is not read. */
	ck_assert_int_eq(buf_append_text(&deep, "<Error><Code>A</Code></Error>"), 0);
	while (buf_append_text(&deep, " ") == 0)
		;
	ck_assert_int_eq(s3_xml_error_parse(deep.data, deep.size, &error), 0);
	deep.max++;
	ck_assert_int_eq(buf_append_text(&deep, " "), 0);
	ck_assert_int_eq(s3_xml_error_parse(deep.data, deep.size, &error), -EBADMSG);
	buf_done(&deep);
}
END_TEST

START_TEST(long_texts_are_cut)
{
	struct s3_xml_error error;
	char text[8192] = "<Error><Code>";
	memset(text + strlen(text), 'c', 4000);
	strcat(text,
	       "</Code><Region>far-too-long-to-be-the-name-of-a-region-anywhere</Region></Error>");
	ck_assert_int_eq(parse_error(text, &error), 0);
	ck_assert_uint_eq(strlen(error.code), S3_CODE_SIZE - 1);
	ck_assert_str_eq(error.region, "");
}
END_TEST

/* ---- Listings ---- */

struct names {
	char text[512];
	unsigned count;
	int result;
};

static int remember(void *arg, const char *key, uint64_t size)
{
	struct names *names = arg;
	names->count++;
	size_t at = strlen(names->text);
	int length = snprintf(names->text + at, sizeof(names->text) - at, "%s=%lu ", key,
			      (unsigned long)size);
	if (length < 0 || (size_t)length >= sizeof(names->text) - at)
		names->text[at] = '\0'; /* enough */
	return names->result;
}

/* In pieces of PIECE bytes. */
static int parse_list(const char *text, size_t size, size_t piece, struct names *names,
		      struct s3_xml_page *page)
{
	struct s3_xml_list *list = NULL;
	int result = names->result;
	*names = (struct names){.result = result};
	int r = s3_xml_list_new(remember, names, &list);
	for (size_t done = 0; done < size && r == 0; done += piece)
		r = s3_xml_list_feed(list, text + done, size - done < piece ? size - done : piece);
	if (r == 0)
		r = s3_xml_list_end(list, page);
	s3_xml_list_free(list);
	return r;
}

static const char listing[] =
	"<ListBucketResult><Name>b</Name><Contents><Key>a%2Fb+c%2Bd</Key><Size>7</Size>"
	"<Owner><ID>x</ID></Owner></Contents><Contents><Size>0</Size><Key>\xc3\xa9</Key></Contents>"
	"<Contents><Key>bad%4</Key><Size>1</Size></Contents>"
	"<Contents><Key>bad%00</Key><Size>1</Size></Contents>"
	"<CommonPrefixes><Key>no</Key></CommonPrefixes>"
	"<IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;</NextContinuationToken>"
	"</ListBucketResult>";

START_TEST(a_page)
{
	struct names names = {0};
	struct s3_xml_page page;
	size_t size = strlen(listing);
	for (size_t piece = 1; piece <= size; piece++) {
		ck_assert_int_eq(parse_list(listing, size, piece, &names, &page), 0);
		ck_assert_str_eq(names.text, "a/b+c+d=7 \xc3\xa9=0 ");
		ck_assert(page.truncated);
		ck_assert_str_eq(page.token, "t&");
	}
	for (size_t cut = 0; cut < size; cut++)
		ck_assert_int_eq(parse_list(listing, cut, 100, &names, &page), -EBADMSG);
	names.result = -EDOM;
	ck_assert_int_eq(parse_list(listing, size, 100, &names, &page), -EDOM);
	ck_assert_uint_eq(names.count, 1);
	ck_assert_int_eq(parse_list("<ListBucketResult/>", 19, 100, &names, &page), 0);
	ck_assert(!page.truncated);
}
END_TEST

static int parse_text(const char *text)
{
	struct names names = {0};
	struct s3_xml_page page;
	return parse_list(text, strlen(text), 4096, &names, &page);
}

START_TEST(pages_that_are_refused)
{
	ck_assert_int_eq(parse_text("<ListBucketResult><Contents><Key>a</Key></Contents>"
				    "</ListBucketResult>"),
			 -EBADMSG);
	ck_assert_int_eq(parse_text("<ListBucketResult><Contents><Size>1</Size></Contents>"
				    "</ListBucketResult>"),
			 -EBADMSG);
	ck_assert_int_eq(
		parse_text("<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents>"
			   "</ListBucketResult>"),
		-EBADMSG);
	ck_assert_int_eq(
		parse_text("<ListBucketResult><Contents><Key>a</Key>"
			   "<Size>99999999999999999999</Size></Contents></ListBucketResult>"),
		-EBADMSG);
	ck_assert_int_eq(parse_text("<Error><Code>A</Code></Error>"), -EBADMSG);

	/* A key, then a token, beyond what S3 has. */
	char *text = calloc(1, 16384);
	ck_assert_ptr_nonnull(text);
	strcpy(text, "<ListBucketResult><Contents><Key>");
	memset(text + strlen(text), 'k', 3 * 1024);
	strcat(text, "</Key><Size>1</Size></Contents></ListBucketResult>");
	ck_assert_int_eq(parse_text(text), -EBADMSG);
	memset(text, 0, 16384);
	strcpy(text, "<ListBucketResult><NextContinuationToken>");
	memset(text + strlen(text), 't', S3_TOKEN_SIZE);
	strcat(text, "</NextContinuationToken></ListBucketResult>");
	ck_assert_int_eq(parse_text(text), -EBADMSG);
	free(text);

	/* More entries than were asked for. */
	struct buf many = {.max = 1 << 20};
	struct names names = {0};
	struct s3_xml_page page;
	ck_assert_int_eq(buf_append_text(&many, "<ListBucketResult>"), 0);
	for (unsigned i = 0; i <= S3_PAGE_MAX; i++)
		ck_assert_int_eq(
			buf_append_text(&many, "<Contents><Key>a</Key><Size>1</Size></Contents>"),
			0);
	ck_assert_int_eq(parse_list((char *)many.data, many.size, many.size, &names, &page),
			 -EBADMSG);
	ck_assert_uint_eq(names.count, S3_PAGE_MAX);
	buf_done(&many);
}
END_TEST

START_TEST(without_memory)
{
	struct names names = {0};
	struct s3_xml_page page;
	struct s3_xml_error error;
	const char *text = "<Error><Code>A</Code><Message>m</Message></Error>";
	bool failed;
	uint64_t n = 0;
	ck_assert(fault_alloc_available());
	do {
		fault_alloc_fail(++n);
		int r = parse_list(listing, strlen(listing), 50, &names, &page);
		if (r == 0)
			r = s3_xml_error_parse(text, strlen(text), &error);
		failed = fault_alloc_stop();
		ck_assert_int_eq(r, failed ? -ENOMEM : 0);
	} while (failed);
	ck_assert_uint_gt(n, 10);
}
END_TEST

/* ---- What they mean ---- */

static const struct {
	unsigned status;
	const char *code;
	int error;
} meanings[] = {
	{404, "NoSuchKey", -ENOENT},
	{404, "", -ENOENT},
	{404, "NoSuchBucket", -EACCES},
	{403, "AccessDenied", -EACCES},
	{403, "", -EACCES},
	{403, "SomethingNew", -EACCES},
	{401, "", -EACCES},
	{403, "InvalidAccessKeyId", -EACCES},
	{403, "SignatureDoesNotMatch", -EACCES},
	{403, "RequestTimeTooSkewed", -EACCES},
	{400, "ExpiredToken", -EAGAIN},
	{400, "RequestTimeout", -EAGAIN},
	{400, "BadDigest", -EAGAIN},
	{400, "XAmzContentSHA256Mismatch", -EAGAIN},
	{400, "IncompleteBody", -EAGAIN},
	{400, "InvalidArgument", -EIO},
	{400, "", -EIO},
	{400, "ThrottlingException", -EAGAIN},
	{400, "Throttling", -EAGAIN},
	{409, "ConditionalRequestConflict", -EAGAIN},
	{409, "OperationAborted", -EAGAIN},
	{412, "PreconditionFailed", -EEXIST},
	{412, "", -EEXIST},
	{429, "", -EAGAIN},
	{500, "InternalError", -EAGAIN},
	{502, "", -EAGAIN},
	{503, "SlowDown", -EAGAIN},
	{503, "", -EAGAIN},
	{504, "", -EAGAIN},
	{501, "NotImplemented", -EIO},
	{507, "", -ENOSPC},
	{403, "QuotaExceeded", -ENOSPC},
	{413, "EntityTooLarge", -EFBIG},
	{301, "PermanentRedirect", -EACCES},
	{307, "TemporaryRedirect", -EAGAIN},
	{302, "", -EACCES},
	{418, "", -EIO},
};

START_TEST(what_errors_mean)
{
	struct s3_error error = {.status = meanings[_i].status};
	struct reterr err = {0};
	strcpy(error.code, meanings[_i].code);
	ck_assert_msg(s3_error_code(&error) == meanings[_i].error, "%u %s", error.status,
		      error.code);
	ck_assert_int_eq(s3_error_render(&error, "GET", "x", &err), meanings[_i].error);
	ck_assert_int_eq(err.code, meanings[_i].error);
	ck_assert_int_eq(s3_error_render(&error, "GET", "x", NULL), meanings[_i].error);
}
END_TEST

START_TEST(a_page_that_is_not_s3s)
{
	struct s3_headers h = headers_of("HTTP/1.1 404 Not Found\nx-amz-request-id: tx1\n");
	struct s3_error error;
	ck_assert_int_eq(s3_error_from(&h, "<html/>", 7, 0, &error), 0);
	ck_assert(error.foreign);
	ck_assert_str_eq(error.request_id, "tx1");
	ck_assert_int_eq(s3_error_code(&error), -EIO);
	ck_assert_int_eq(s3_error_from(&h, NULL, 0, 0, &error), 0);
	ck_assert_int_eq(s3_error_code(&error), -ENOENT);
}
END_TEST

START_TEST(what_the_user_reads)
{
	struct s3_error error = {
		.status = 403,
		.code = "AccessDenied",
		.message = "no\nway\x1b[2J\xc2\x9b",
		.request_id = "tx1",
		.region = "eu-west-3",
		.retry_after_ms = 5,
	};
	struct reterr err;
	ck_assert_int_eq(s3_error_render(&error, "PUT", "owner", &err), -EACCES);
	ck_assert_str_eq(err.text,
			 "PUT owner: 403 AccessDenied: no way?[2J?? (request id tx1); the "
			 "bucket's region is eu-west-3; the credentials need s3:GetObject, "
			 "s3:PutObject, s3:DeleteObject and s3:ListBucket here");
	ck_assert_uint_eq(err.retry_after_ms, 5);

	/* The longest of all still fits, or is cut. */
	memset(error.code, 'c', sizeof(error.code) - 1);
	memset(error.message, 'm', sizeof(error.message) - 1);
	memset(error.request_id, 'r', sizeof(error.request_id) - 1);
	(void)s3_error_render(&error, "PUT", "owner", &err);
	ck_assert_uint_lt(strlen(err.text), RETERR_TEXT_SIZE);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("s3_parse");
	TCase *tcase = tcase_create("s3_parse");
	tcase_add_test(tcase, a_header);
	tcase_add_test(tcase, a_status_line_begins_anew);
	tcase_add_test(tcase, lines_without_sense);
	tcase_add_test(tcase, how_long_to_wait);
	tcase_add_test(tcase, etags_that_are_md5);
	tcase_add_test(tcase, an_error_document);
	tcase_add_test(tcase, documents_that_are_refused);
	tcase_add_test(tcase, long_texts_are_cut);
	tcase_add_test(tcase, a_page);
	tcase_add_test(tcase, pages_that_are_refused);
	tcase_add_test(tcase, without_memory);
	tcase_add_loop_test(tcase, what_errors_mean, 0, (int)ARRAY_SIZE(meanings));
	tcase_add_test(tcase, a_page_that_is_not_s3s);
	tcase_add_test(tcase, what_the_user_reads);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
