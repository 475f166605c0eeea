#include "cloud/s3_error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct meaning {
	const char *code; /* S3's; NULL: of a status */
	unsigned status;
	int error;
	const char *advice; /* what to do; "" nothing that would be new to the user */
};

#define ADVICE_KEYS "check the access key and its secret"
#define ADVICE_RENEW "renew the session's credentials"
#define ADVICE_POLICY                                                                              \
	"the credentials need s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket here"
#define ADVICE_REGION "set the region"
#define ADVICE_CLOCK "set this machine's clock"
#define ADVICE_BUCKET "create the bucket, or correct its name"
#define ADVICE_BUSY ""
#define ADVICE_SPACE "make room there, or raise the quota"

/* By S3's own codes first: one status has many meanings. Similar servers' codes are among them. */
static const struct meaning by_code[] = {
	{"NoSuchKey", 0, -ENOENT, ""},
	{"NoSuchBucket", 0, -EACCES, ADVICE_BUCKET},
	{"InvalidBucketName", 0, -EACCES, ADVICE_BUCKET},
	{"AccessDenied", 0, -EACCES, ADVICE_POLICY},
	{"AllAccessDisabled", 0, -EACCES, ADVICE_POLICY},
	{"InvalidAccessKeyId", 0, -EACCES, ADVICE_KEYS},
	{"SignatureDoesNotMatch", 0, -EACCES, ADVICE_KEYS},
	{"InvalidToken", 0, -EACCES, ADVICE_RENEW},
	/* Somebody renews them, or nobody does: the file is read again. */
	{"ExpiredToken", 0, -EAGAIN, ADVICE_RENEW},
	{"TokenRefreshRequired", 0, -EAGAIN, ADVICE_RENEW},
	{"RequestTimeTooSkewed", 0, -EACCES, ADVICE_CLOCK},
	{"RequestExpired", 0, -EACCES, ADVICE_CLOCK},
	{"AuthorizationHeaderMalformed", 0, -EACCES, ADVICE_REGION},
	{"PermanentRedirect", 0, -EACCES, ADVICE_REGION},
	{"IllegalLocationConstraintException", 0, -EACCES, ADVICE_REGION},
	{"TemporaryRedirect", 0, -EAGAIN, ADVICE_REGION},
	{"Redirect", 0, -EAGAIN, ADVICE_REGION},
	{"PreconditionFailed", 0, -EEXIST, ""},
	{"ConditionalRequestConflict", 0, -EAGAIN, ""},
	{"OperationAborted", 0, -EAGAIN, ""},
	{"RequestTimeout", 0, -EAGAIN, ""},
	{"IncompleteBody", 0, -EAGAIN, "the bytes were cut off on their way"},
	{"BadDigest", 0, -EAGAIN, "the bytes changed on their way"},
	{"XAmzContentSHA256Mismatch", 0, -EAGAIN, "the bytes changed on their way"},
	{"SlowDown", 0, -EAGAIN, ADVICE_BUSY},
	{"ServiceUnavailable", 0, -EAGAIN, ADVICE_BUSY},
	{"InternalError", 0, -EAGAIN, ADVICE_BUSY},
	{"RequestLimitExceeded", 0, -EAGAIN, ADVICE_BUSY},
	{"BandwidthLimitExceeded", 0, -EAGAIN, ADVICE_BUSY},
	{"TooManyRequests", 0, -EAGAIN, ADVICE_BUSY},
	{"EntityTooLarge", 0, -EFBIG, ""},
	{"QuotaExceeded", 0, -ENOSPC, ADVICE_SPACE},
	{"XMinioStorageFull", 0, -ENOSPC, ADVICE_SPACE},
	{"XMinioAdminBucketQuotaExceeded", 0, -ENOSPC, ADVICE_SPACE},
	{"InvalidObjectState", 0, -EIO, "the object is archived: restore it"},
};

static const struct meaning by_status[] = {
	{NULL, 301, -EACCES, ADVICE_REGION},
	{NULL, 302, -EACCES, "check the endpoint"},
	{NULL, 307, -EAGAIN, ADVICE_REGION},
	{NULL, 308, -EACCES, "check the endpoint"},
	{NULL, 401, -EACCES, ADVICE_KEYS},
	{NULL, 403, -EACCES, "check the credentials and what they may do"},
	{NULL, 404, -ENOENT, ""},
	{NULL, 407, -EACCES, "the proxy wants credentials"},
	{NULL, 408, -EAGAIN, ADVICE_BUSY},
	{NULL, 409, -EAGAIN, ADVICE_BUSY},
	{NULL, 412, -EEXIST, ""},
	{NULL, 413, -EFBIG, ""},
	{NULL, 425, -EAGAIN, ADVICE_BUSY},
	{NULL, 429, -EAGAIN, ADVICE_BUSY},
	{NULL, 500, -EAGAIN, ADVICE_BUSY},
	{NULL, 502, -EAGAIN, ADVICE_BUSY},
	{NULL, 503, -EAGAIN, ADVICE_BUSY},
	{NULL, 504, -EAGAIN, ADVICE_BUSY},
	{NULL, 507, -ENOSPC, ADVICE_SPACE},
	{NULL, 509, -EAGAIN, ADVICE_BUSY},
};

static const struct meaning throttled = {NULL, 0, -EAGAIN, ADVICE_BUSY};
static const struct meaning no_s3 = {NULL, 0, -EIO, "this is no answer of S3: check the endpoint"};
static const struct meaning unknown = {NULL, 0, -EIO, ""};

static const struct meaning *meaning_of(const struct s3_error *error)
{
	for (size_t i = 0; i < ARRAY_SIZE(by_code); i++) {
		if (s3_error_is(error, by_code[i].code))
			return &by_code[i];
	}
	if (strncmp(error->code, "Throttling", strlen("Throttling")) == 0)
		return &throttled;
	/* Any web server says 404: only S3 can say that an object is not there. */
	if (error->foreign && error->status == 404)
		return &no_s3;
	for (size_t i = 0; i < ARRAY_SIZE(by_status); i++) {
		if (by_status[i].status == error->status)
			return &by_status[i];
	}
	return &unknown;
}

int s3_error_code(const struct s3_error *error)
{
	return meaning_of(error)->error;
}

bool s3_error_is(const struct s3_error *error, const char *code)
{
	return strcmp(error->code, code) == 0;
}

static void copy_text(char *to, size_t size, const char *text)
{
	(void)snprintf(to, size, "%s", text);
}

int s3_error_from(const struct s3_headers *headers, const void *body, size_t size, uint64_t now_s,
		  struct s3_error *ret)
{
	struct s3_xml_error xml = {0};
	int r = size ? s3_xml_error_parse(body, size, &xml) : 0;
	if (r == -ENOMEM)
		return r;

	*ret = (struct s3_error){
		.status = headers->status,
		.retry_after_ms = s3_headers_retry_after_ms(headers, now_s),
		.foreign = r < 0,
	};
	copy_text(ret->code, sizeof(ret->code), xml.code);
	copy_text(ret->message, sizeof(ret->message), xml.message);
	copy_text(ret->request_id, sizeof(ret->request_id),
		  xml.request_id[0] ? xml.request_id : headers->request_id);
	copy_text(ret->region, sizeof(ret->region), xml.region[0] ? xml.region : headers->region);
	copy_text(ret->location, sizeof(ret->location),
		  xml.endpoint[0] ? xml.endpoint : headers->location);
	return 0;
}

/* Whatever a terminal or a log could take for more than text. */
static void make_printable(char *text)
{
	for (; *text; text++) {
		if (*text < ' ' || *text > '~')
			*text = *text == '\n' || *text == '\t' ? ' ' : '?';
	}
}

int s3_error_render(const struct s3_error *error, const char *method, const char *what,
		    struct reterr *err)
{
	const struct meaning *meaning = meaning_of(error);
	char region[S3_REGION_SIZE + 32] = "";
	char location[S3_LOCATION_SIZE + 32] = "";
	char id[S3_REQUEST_ID_SIZE + 32] = "";

	if (!err)
		return meaning->error;
	if (error->region[0])
		(void)snprintf(region, sizeof(region), "; the bucket's region is %s",
			       error->region);
	else if (error->location[0])
		(void)snprintf(location, sizeof(location), "; it points to %.100s",
			       error->location);
	if (error->request_id[0])
		(void)snprintf(id, sizeof(id), " (request id %.64s)", error->request_id);
	(void)reterr_set(err, meaning->error, "%s %.140s: %u%s%s%s%.160s%s%s%s%s%s", method, what,
			 error->status, error->code[0] ? " " : "", error->code,
			 error->message[0] ? ": " : "", error->message, id, region, location,
			 meaning->advice[0] ? "; " : "", meaning->advice);
	make_printable(err->text);
	err->retry_after_ms = error->retry_after_ms;
	return meaning->error;
}
