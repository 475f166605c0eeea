/*
 * What went wrong with a request to S3: what the server said, what that means to the caller (-errno),
 * and what the user is told and can do.
 */
#ifndef PROTOFS_CLOUD_S3_ERROR_H
#define PROTOFS_CLOUD_S3_ERROR_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "cloud/s3_headers.h"
#include "cloud/s3_xml.h"

struct s3_error {
	unsigned status;         /* HTTP's */
	char code[S3_CODE_SIZE]; /* S3's; "" it gave none */
	char message[S3_MESSAGE_SIZE];
	char request_id[S3_REQUEST_ID_SIZE];
	char region[S3_REGION_SIZE];     /* where the bucket is, if it says so */
	char location[S3_LOCATION_SIZE]; /* where else to go, to be shown */
	uint64_t retry_after_ms;
	bool foreign; /* there was a body, and it was not S3's */
};

/* From a reply that is no success: its header, and its body (bounded by the caller). -ENOMEM. */
MUST_CHECK int s3_error_from(const struct s3_headers *headers, const void *body, size_t size,
			     uint64_t now_s, struct s3_error *ret);

/*
 * What it means: -ENOENT no such object, -EEXIST there is one already, -EACCES, -EAGAIN, -ENOSPC,
 * -EFBIG, else -EIO. A bucket that is not there is -EACCES: it never looks like a missing object.
 */
int s3_error_code(const struct s3_error *error);

/* Whether S3 said CODE. */
bool s3_error_is(const struct s3_error *error, const char *code);

/*
 * Sets ERR to "PUT wal/...: 403 AccessDenied: message (request id ...); what to do", without anything
 * that is not printable, and returns the code. WHAT names the object, or the place.
 */
int s3_error_render(const struct s3_error *error, const char *method, const char *what,
		    struct reterr *err);

#endif
