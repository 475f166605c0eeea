/*
 * What the options, the environment and the files of AWS's tools say together. In this order, for each
 * setting by itself: option, environment, our own credentials file, the profile in ~/.aws.
 *
 * Keys come from one place only: the credentials file if one is named; else the environment, unless
 * a profile was asked for by option; else the profile in ~/.aws/credentials, then ~/.aws/config.
 */
#ifndef PROTOFS_CLOUD_S3_SETTINGS_H
#define PROTOFS_CLOUD_S3_SETTINGS_H

#include "base/attr.h"
#include "base/reterr.h"
#include "cloud/cloud.h"
#include "cloud/s3_credentials.h"
#include "cloud/s3_endpoint.h"

enum { S3_PREFIX_SIZE = 513 };

/* Where the keys came from, so that they can be read again. */
struct s3_source {
	bool again; /* false: the environment, which does not change */
	enum s3_ini_kind kind;
	char path[S3_PATH_SIZE];
	char profile[S3_PROFILE_SIZE];
};

struct s3_settings {
	char bucket[S3_BUCKET_SIZE];
	char prefix[S3_PREFIX_SIZE]; /* "" or with a slash at its end */
	char region[S3_REGION_SIZE];
	char ca_bundle[S3_PATH_SIZE]; /* "" the system's */
	struct s3_endpoint endpoint;
	struct s3_source source;
	struct s3_credentials *credentials; /* owned */
};

/* -EINVAL, -EACCES, -ENOMEM as block_store_s3_open. */
MUST_CHECK int s3_settings_load(const struct s3_options *options, struct reterr *err,
				struct s3_settings *ret);
void s3_settings_done(struct s3_settings *settings); /* accepts a zeroed one */

/* The keys that are there now. -EACCES, -EINVAL, -ENOMEM. */
MUST_CHECK int s3_source_read(const struct s3_source *source, struct reterr *err,
			      struct s3_credentials **ret);

#endif
