/* The files of AWS's tools and our own: values keep their bounds, errors name a line of the file. */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/invariant.h"
#include "cloud/s3_credentials.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned lines_of(struct slice text)
{
	unsigned lines = 1;
	for (size_t i = 0; i < text.size; i++)
		lines += text.data[i] == '\n';
	return lines;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum s3_ini_kind kinds[] = {S3_INI_CREDENTIALS, S3_INI_CONFIG, S3_INI_PRIVATE};
	struct slice text = {.data = data, .size = size};
	if (size > S3_INI_SIZE_MAX)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct s3_credentials *credentials = NULL;
		struct s3_profile profile = {0};
		unsigned line = 0;
		int r = s3_credentials_new(&credentials);
		invariant(r == 0);
		r = s3_ini_parse(text, kinds[i], "default", credentials, &profile, &line);
		invariant(r == 0 || r == -EINVAL);
		invariant((r < 0) == (line > 0) && line <= lines_of(text));
		invariant(strlen(credentials->token) < S3_SESSION_TOKEN_SIZE);
		invariant(strlen(profile.endpoint) < S3_ENDPOINT_SIZE);
		invariant(strlen(profile.provider) < sizeof(profile.provider));
		s3_credentials_unref(credentials);
	}
	return 0;
}
