/*
 * Credentials, and what else the files of AWS's tools say: INI files with a section for each profile,
 * parsed by inih. The text of a file that is read lives in secret memory, and so do credentials;
 * neither ever gets into a message.
 */
#ifndef PROTOFS_CLOUD_S3_CREDENTIALS_H
#define PROTOFS_CLOUD_S3_CREDENTIALS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "base/slice.h"
#include "cloud/s3_headers.h"

enum {
	S3_KEY_ID_SIZE = 129,
	S3_SECRET_SIZE = 257,
	S3_SESSION_TOKEN_SIZE = 4097,
	S3_PROFILE_SIZE = 41, /* inih keeps 49 bytes of "profile NAME" */
	S3_ENDPOINT_SIZE = 256,
	S3_PATH_SIZE = 1024,
	S3_INI_SIZE_MAX = 256 << 10,
};

/* Never changed once others see it. Shared: the last unref wipes it. */
struct s3_credentials {
	atomic_uint refs;
	char key_id[S3_KEY_ID_SIZE];
	char secret[S3_SECRET_SIZE];
	char token[S3_SESSION_TOKEN_SIZE]; /* "" none */
};

/* Empty ones, with one reference. -ENOMEM. */
MUST_CHECK int s3_credentials_new(struct s3_credentials **ret);
struct s3_credentials *s3_credentials_ref(struct s3_credentials *credentials);
void s3_credentials_unref(struct s3_credentials *credentials); /* accepts NULL */
bool s3_credentials_equal(const struct s3_credentials *a, const struct s3_credentials *b);

/* What a profile says beside its keys; "" where it says nothing. */
struct s3_profile {
	bool found;
	bool virtual_host; /* s3 = addressing_style = virtual */
	char region[S3_REGION_SIZE];
	char endpoint[S3_ENDPOINT_SIZE];
	char ca_bundle[S3_PATH_SIZE];
	/* A way to get credentials that we do not know: "role_arn", "sso_session", ... */
	char provider[32];
};

/* How sections are named. */
enum s3_ini_kind {
	S3_INI_CREDENTIALS, /* ~/.aws/credentials: [name] */
	S3_INI_CONFIG,      /* ~/.aws/config: [profile name], [default] */
	S3_INI_PRIVATE,     /* a file of our own: both, and no section at all; strict */
};

/*
 * Reads the section of profile NAME. What it does not say stays as it is in CREDENTIALS and RET.
 * -EINVAL: a line that makes no sense (in a private file) or a value that is too long; RET_LINE is
 * its number. -ENOMEM.
 */
MUST_CHECK int s3_ini_parse(struct slice text, enum s3_ini_kind kind, const char *name,
			    struct s3_credentials *credentials, struct s3_profile *ret,
			    unsigned *ret_line);

/*
 * The same of a file. A private one must belong to us or to root and be closed to others. 0, also if
 * one that is not private is not there; -EACCES; -EINVAL; -ENOMEM.
 */
MUST_CHECK int s3_ini_read(const char *path, enum s3_ini_kind kind, const char *name,
			   struct s3_credentials *credentials, struct s3_profile *ret,
			   struct reterr *err);

#endif
