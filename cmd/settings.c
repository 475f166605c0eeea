#include "cmd/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/text.h"

enum kind {
	KIND_FLAG, /* bool */
	KIND_TEXT, /* char * */
	KIND_URL,  /* char *: no name and password in it */
	KIND_PATH, /* char *: made absolute, since a daemon works elsewhere */
	KIND_SIZE, /* uint64_t, bytes */
	KIND_MS,   /* uint64_t, milliseconds */
	KIND_COUNT,
	KIND_DURABILITY,
};

struct setting {
	const char *name;
	enum kind kind;
	size_t field; /* offset in struct settings */
	uint64_t min, max;
	const char *argument;
	const char *help;
};

#define FIELD(name) offsetof(struct settings, name)

static const struct setting table[] = {
	{"cloud", KIND_URL, FIELD(cloud), 0, 0, "URL",
	 "Where blocks are uploaded: s3://BUCKET/PREFIX or file:///DIR"},
	{"durability", KIND_DURABILITY, FIELD(durability), 0, 0, "LEVEL",
	 "What fsync and publishing wait for: local, this disk (default), or cloud"},
	{"upload_interval", KIND_MS, FIELD(upload_interval_ms), 1, 86400000, "TIME",
	 "How long bytes may wait for their upload (default 5s)"},
	{"transfers", KIND_COUNT, FIELD(transfers), 1, 256, "N", "Transfers at once (default 8)"},
	{"bandwidth", KIND_SIZE, FIELD(bandwidth), 1024, UINT64_MAX, "SIZE",
	 "Bytes a second that uploads may take (default: all)"},
	{"disk_max", KIND_SIZE, FIELD(disk_max), 16 << 20, UINT64_MAX, "SIZE",
	 "Above it, what is in the cloud leaves this disk (default: never)"},
	{"cache_max", KIND_SIZE, FIELD(cache_max), 1 << 20, UINT64_MAX, "SIZE",
	 "Disk for blocks that were read back (default 500M, or a tenth of disk_max)"},
	{"endpoint", KIND_URL, FIELD(endpoint), 0, 0, "URL",
	 "The S3 server (default: AWS_ENDPOINT_URL, the profile's, AWS)"},
	{"region", KIND_TEXT, FIELD(region), 0, 0, "NAME",
	 "Of the bucket (default: AWS_REGION, the profile's, us-east-1)"},
	{"virtual_host", KIND_FLAG, FIELD(virtual_host), 0, 0, NULL,
	 "Ask BUCKET.HOST, not HOST/BUCKET"},
	{"profile", KIND_TEXT, FIELD(profile), 0, 0, "NAME",
	 "Of ~/.aws/credentials and config (default: AWS_PROFILE, default)"},
	{"credentials", KIND_PATH, FIELD(credentials), 0, 0, "FILE",
	 "A file as ~/.aws/credentials, readable by its owner only"},
	{"ca_bundle", KIND_PATH, FIELD(ca_bundle), 0, 0, "FILE",
	 "Certificates to trust (default: AWS_CA_BUNDLE, the system's)"},
	{"server_id", KIND_COUNT, FIELD(server_id), 1, UINT32_MAX, "N",
	 "Names the cache: cloud_page_cache/server_N (default: the node's number)"},
};

static char **text_of(struct settings *settings, const struct setting *setting)
{
	return (char **)(void *)((char *)settings + setting->field);
}

static uint64_t *number_of(struct settings *settings, const struct setting *setting)
{
	return (uint64_t *)(void *)((char *)settings + setting->field);
}

static bool is_text(const struct setting *setting)
{
	return setting->kind == KIND_TEXT || setting->kind == KIND_URL ||
	       setting->kind == KIND_PATH;
}

void settings_done(struct settings *settings)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (is_text(&table[i]))
			free(*text_of(settings, &table[i]));
	*settings = (struct settings){0};
}

bool settings_describe(size_t i, const char **ret_name, const char **ret_argument,
		       const char **ret_help)
{
	if (i >= ARRAY_SIZE(table))
		return false;
	*ret_name = table[i].name;
	*ret_argument = table[i].argument;
	*ret_help = table[i].help;
	return true;
}

/* ---- Values --------------------------------------------------------------------------------- */

/* A user:password@ before the host would end in process lists, messages and the store. */
static bool has_credentials(const char *url)
{
	const char *authority = strstr(url, "://");
	const char *at = authority ? strchr(authority, '@') : NULL;
	const char *path = authority ? strchr(authority + 3, '/') : NULL;
	return at && (!path || at < path);
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static int check_scheme(const struct setting *setting, const char *url, struct reterr *err)
{
	if (setting->field == FIELD(endpoint))
		return begins(url, "https://") || begins(url, "http://")
			       ? 0
			       : reterr_set(err, -EINVAL,
					    "option endpoint: https://HOST[:PORT] or "
					    "http://HOST[:PORT], not '%s'",
					    url);
	if (begins(url, "s3://") || begins(url, "file:///") || strcmp(url, "mem:") == 0)
		return 0;
	return reterr_set(err, -EINVAL,
			  "option cloud: s3://BUCKET/PREFIX, file:///DIR or mem:, not '%s'", url);
}

/* What cannot stand in a line of the file as it is, is refused from the start. */
static int check_text(const struct setting *setting, const char *value, struct reterr *err)
{
	size_t length = strlen(value);

	if (setting->kind == KIND_URL && has_credentials(value))
		return reterr_set(err, -EINVAL,
				  "option %s: a URL carries no name and password; credentials come "
				  "from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or "
				  "credentials=FILE",
				  setting->name);
	if (setting->kind == KIND_URL && check_scheme(setting, value, err) < 0)
		return -EINVAL;
	if (length > SETTINGS_TEXT_MAX)
		return reterr_set(err, -EINVAL, "option %s: its value has more than %d bytes",
				  setting->name, SETTINGS_TEXT_MAX);
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)value[i] < ' ' || value[i] == ';' || value[i] == 0x7f)
			return reterr_set(err, -EINVAL,
					  "option %s: control characters and ';' cannot be in it",
					  setting->name);
	if (value[0] == ' ' || value[length - 1] == ' ')
		return reterr_set(err, -EINVAL, "option %s: it begins or ends with a space",
				  setting->name);
	return 0;
}

static int set_text(char **text, const struct setting *setting, const char *value,
		    struct reterr *err)
{
	char *directory = NULL, *copy = NULL;

	if (setting->kind == KIND_PATH && value[0] != '/') {
		directory = getcwd(NULL, 0);
		if (!directory || asprintf(&copy, "%s/%s", directory, value) < 0)
			copy = NULL;
		free(directory);
	} else {
		copy = strdup(value);
	}
	if (!copy)
		return reterr_set(err, -ENOMEM, "out of memory");
	int r = check_text(setting, copy, err);
	if (r < 0) {
		free(copy);
		return r;
	}
	free(*text);
	*text = copy;
	return 0;
}

static int set_durability(struct settings *settings, const char *level, struct reterr *err)
{
	if (strcmp(level, "quorum") == 0)
		return reterr_set(err, -EINVAL,
				  "durability=quorum needs peers, and this store is in no cluster; "
				  "durability=local and durability=cloud are what it can have");
	if (strcmp(level, "local") == 0)
		settings->durability = DURABILITY_LOCAL;
	else if (strcmp(level, "cloud") == 0)
		settings->durability = DURABILITY_CLOUD;
	else
		return reterr_set(err, -EINVAL, "durability is local, quorum or cloud, not '%s'",
				  level);
	return 0;
}

static int set_number(struct settings *settings, const struct setting *setting, const char *value,
		      struct reterr *err)
{
	uint64_t number = 0;
	int r = setting->kind == KIND_MS     ? text_parse_duration(value, 1, &number)
		: setting->kind == KIND_SIZE ? text_parse_size(value, &number)
					     : text_parse_u64(value, &number);
	if (r < 0 || number < setting->min || number > setting->max)
		return reterr_set(err, -EINVAL, "option %s: '%s' is no %s that it can have",
				  setting->name, value, setting->argument);
	*number_of(settings, setting) = number;
	return 0;
}

static const struct setting *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strcmp(name, table[i].name) == 0)
			return &table[i];
	return NULL;
}

int settings_set(struct settings *settings, const char *name, const char *value, struct reterr *err)
{
	const struct setting *setting = find(name);

	if (!setting)
		return 1;
	if (setting->kind == KIND_FLAG) {
		if (value)
			return reterr_set(err, -EINVAL, "option %s takes no value", name);
		settings->virtual_host = true;
		return 0;
	}
	if (!value || !*value)
		return reterr_set(err, -EINVAL, "option %s needs a value: %s=%s", name, name,
				  setting->argument);
	if (setting->kind == KIND_DURABILITY)
		return set_durability(settings, value, err);
	if (is_text(setting))
		return set_text(text_of(settings, setting), setting, value, err);
	return set_number(settings, setting, value, err);
}

int settings_override(struct settings *settings, const struct settings *over)
{
	struct settings from = *over; /* its strings stay OVER's */

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (is_text(&table[i])) {
			const char *text = *text_of(&from, &table[i]);
			char *copy = text ? strdup(text) : NULL;
			if (text && !copy)
				return -ENOMEM;
			if (copy) {
				free(*text_of(settings, &table[i]));
				*text_of(settings, &table[i]) = copy;
			}
		} else if (table[i].kind != KIND_FLAG && table[i].kind != KIND_DURABILITY &&
			   *number_of(&from, &table[i])) {
			*number_of(settings, &table[i]) = *number_of(&from, &table[i]);
		}
	}
	settings->virtual_host = settings->virtual_host || from.virtual_host;
	if (from.durability)
		settings->durability = from.durability;
	return 0;
}

bool settings_any(const struct settings *settings)
{
	struct settings copy = *settings; /* its strings stay SETTINGS's */
	bool any = copy.virtual_host || copy.durability != DURABILITY_UNSET;

	for (size_t i = 0; i < ARRAY_SIZE(table) && !any; i++) {
		if (is_text(&table[i]))
			any = *text_of(&copy, &table[i]) != NULL;
		else if (table[i].kind != KIND_FLAG && table[i].kind != KIND_DURABILITY)
			any = *number_of(&copy, &table[i]) != 0;
	}
	return any;
}

int settings_check(const struct settings *settings, struct reterr *err)
{
	if (settings->cloud)
		return 0;
	if (settings->durability == DURABILITY_CLOUD)
		return reterr_set(
			err, -EINVAL,
			"durability=cloud needs a bucket, and this store has none: give it "
			"one with cloud=URL, or let fsync wait for the disk with "
			"durability=local");
	if (settings->disk_max)
		return reterr_set(
			err, -EINVAL,
			"disk_max needs a bucket: what leaves the disk must be elsewhere, "
			"and this store has no cloud=URL");
	return 0;
}
