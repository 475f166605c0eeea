#include "cloud/s3_settings.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* While it is being put together. */
struct loading {
	const struct s3_options *options;
	struct s3_settings *settings;
	struct s3_profile profile; /* of all files together, the first that says something counts */
	struct reterr *err;
	char name[S3_PROFILE_SIZE];
	char files[2][S3_PATH_SIZE]; /* credentials and config of ~/.aws; "" none */
};

/* An empty variable is none. */
static const char *environment(const char *name)
{
	const char *value = secure_getenv(name);
	return value && *value ? value : NULL;
}

static const char *given(const char *text)
{
	return text && *text ? text : NULL;
}

/* COPY into TO, or -EINVAL with WHAT it is that is too long. */
static int copy_text(struct reterr *err, char *to, size_t size, const char *text, const char *what)
{
	size_t length = strlen(text);
	if (length >= size)
		return reterr_set(err, -EINVAL, "%s has more than %zu bytes", what, size - 1);
	memcpy(to, text, length + 1);
	return 0;
}

/* ---- Bucket and prefix ---- */

/* No component that a URL could lose, nothing that a listing could not give back. */
static bool prefix_valid(const char *prefix)
{
	for (const char *at = prefix; *at; at++) {
		if ((unsigned char)*at < ' ' || *at == 0x7f || *at == '%')
			return false;
	}
	for (const char *at = prefix;; at++) {
		size_t length = strcspn(at, "/");
		if (length == 0 || (length <= 2 && strspn(at, ".") >= length))
			return false;
		at += length;
		if (*at == '\0')
			return true;
	}
}

static int take_place(struct loading *loading)
{
	const struct s3_options *options = loading->options;
	struct s3_settings *settings = loading->settings;
	const char *prefix = given(options->prefix);

	if (!options->bucket || !s3_bucket_valid(options->bucket))
		return reterr_set(loading->err, -EINVAL,
				  "\"%.80s\" is no name of a bucket: 3 to 63 letters, digits, dots "
				  "and dashes",
				  options->bucket ? options->bucket : "");
	(void)snprintf(settings->bucket, sizeof(settings->bucket), "%s", options->bucket);
	if (!prefix)
		return 0;
	if (!prefix_valid(prefix))
		return reterr_set(loading->err, -EINVAL,
				  "prefix \"%.200s\": components without names, \".\", \"..\", "
				  "percent signs and control characters are not taken",
				  prefix);
	int r = copy_text(loading->err, settings->prefix, sizeof(settings->prefix) - 1, prefix,
			  "the prefix");
	if (r == 0)
		strcat(settings->prefix, "/");
	return r;
}

/* ---- Keys ---- */

static bool have_keys(const struct s3_credentials *credentials)
{
	return credentials->key_id[0] && credentials->secret[0];
}

/* Half a pair is a mistake that must not be passed over. */
static int check_pair(struct reterr *err, const struct s3_credentials *credentials,
		      const char *place)
{
	if (!credentials->key_id[0] == !credentials->secret[0])
		return 0;
	return reterr_set(err, -EACCES, "%s has an access key and no secret, or a secret alone",
			  place);
}

static int keys_of_environment(struct loading *loading)
{
	struct s3_credentials *credentials = loading->settings->credentials;
	const struct {
		const char *name;
		char *to;
		size_t size;
	} values[] = {
		{"AWS_ACCESS_KEY_ID", credentials->key_id, sizeof(credentials->key_id)},
		{"AWS_SECRET_ACCESS_KEY", credentials->secret, sizeof(credentials->secret)},
		{"AWS_SESSION_TOKEN", credentials->token, sizeof(credentials->token)},
	};
	if (!environment(values[0].name) && !environment(values[1].name))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		const char *value = environment(values[i].name);
		int r = value ? copy_text(loading->err, values[i].to, values[i].size, value,
					  values[i].name)
			      : 0;
		if (r < 0)
			return r;
	}
	return check_pair(loading->err, credentials, "the environment");
}

/* What the file at PATH says, and remembers it as the source if it has keys. */
static int keys_of_file(struct loading *loading, const char *path, enum s3_ini_kind kind)
{
	struct s3_settings *settings = loading->settings;
	bool had_keys = have_keys(settings->credentials);
	struct s3_credentials *into = NULL;
	struct s3_profile profile = {0};
	struct s3_profile *sum = &loading->profile;

	int r = s3_credentials_new(&into);
	if (r < 0)
		return reterr_set(loading->err, r, "%s", strerror(-r));
	r = s3_ini_read(path, kind, loading->name, into, &profile, loading->err);
	if (r == 0 && !had_keys)
		r = check_pair(loading->err, into, path);
	if (r == 0 && !had_keys && have_keys(into)) {
		s3_credentials_unref(settings->credentials);
		settings->credentials = s3_credentials_ref(into);
		settings->source = (struct s3_source){.again = true, .kind = kind};
		(void)snprintf(settings->source.path, sizeof(settings->source.path), "%s", path);
		(void)snprintf(settings->source.profile, sizeof(settings->source.profile), "%s",
			       loading->name);
	}
	s3_credentials_unref(into);
	/* Who has keys does not need what other tools' files say. */
	if (r < 0 && r != -ENOMEM && had_keys && kind != S3_INI_PRIVATE)
		return 0;
	if (r < 0)
		return r;

	sum->found |= profile.found;
	sum->virtual_host |= profile.virtual_host;
	if (!sum->region[0])
		memcpy(sum->region, profile.region, sizeof(sum->region));
	if (!sum->endpoint[0])
		memcpy(sum->endpoint, profile.endpoint, sizeof(sum->endpoint));
	if (!sum->ca_bundle[0])
		memcpy(sum->ca_bundle, profile.ca_bundle, sizeof(sum->ca_bundle));
	if (!sum->provider[0])
		memcpy(sum->provider, profile.provider, sizeof(sum->provider));
	return 0;
}

/* ~/.aws/NAME, unless VARIABLE says where. */
static int find_file(struct loading *loading, const char *variable, const char *name,
		     char path[static S3_PATH_SIZE])
{
	const char *from = environment(variable);
	if (from)
		return copy_text(loading->err, path, S3_PATH_SIZE, from, variable);
	const char *home = environment("HOME");
	char room[1024];
	struct passwd entry, *found = NULL;
	if (!home && getpwuid_r(geteuid(), &entry, room, sizeof(room), &found) == 0 && found)
		home = found->pw_dir;
	int length = home ? snprintf(path, S3_PATH_SIZE, "%s/.aws/%s", home, name) : 0;
	if (length < 0 || length >= S3_PATH_SIZE)
		path[0] = '\0';
	return 0;
}

static int no_keys(const struct loading *loading)
{
	const char *file = given(loading->options->credentials_file);
	if (loading->profile.provider[0])
		return reterr_set(
			loading->err, -EACCES,
			"profile \"%s\" gets its credentials by %s, which protofs does not "
			"do: put keys into the environment or a file",
			loading->name, loading->profile.provider);
	if (file)
		return reterr_set(
			loading->err, -EACCES,
			"%s has no aws_access_key_id and aws_secret_access_key for profile "
			"\"%s\"",
			file, loading->name);
	return reterr_set(
		loading->err, -EACCES,
		"there are no S3 credentials: set AWS_ACCESS_KEY_ID and "
		"AWS_SECRET_ACCESS_KEY, or write them into %s for profile \"%s\", or name "
		"a file by -o credentials=FILE",
		loading->files[0][0] ? loading->files[0] : "~/.aws/credentials", loading->name);
}

/* A daemon changes its directory: what is read again later needs the whole path. */
static int absolute(struct loading *loading, const char *path, char to[static S3_PATH_SIZE])
{
	char here[S3_PATH_SIZE] = "";
	if (path[0] != '/' && !getcwd(here, sizeof(here)))
		return reterr_set(loading->err, -EINVAL, "%s: %s", path, strerror(errno));
	int length = snprintf(to, S3_PATH_SIZE, "%s%s%s", here, here[0] ? "/" : "", path);
	if (length < 0 || length >= S3_PATH_SIZE)
		return reterr_set(loading->err, -EINVAL, "%.200s: the path is too long", path);
	return 0;
}

static int take_keys(struct loading *loading)
{
	const struct s3_options *options = loading->options;
	const char *file = given(options->credentials_file);
	char path[S3_PATH_SIZE];
	int r;

	if (file) {
		r = absolute(loading, file, path);
		if (r == 0)
			r = keys_of_file(loading, path, S3_INI_PRIVATE);
		if (r < 0)
			return r;
		return have_keys(loading->settings->credentials) ? 0 : no_keys(loading);
	}
	r = given(options->profile) ? 0 : keys_of_environment(loading);
	for (unsigned i = 0; i < ARRAY_SIZE(loading->files) && r == 0; i++) {
		if (!loading->files[i][0])
			continue;
		r = absolute(loading, loading->files[i], path);
		if (r == 0)
			r = keys_of_file(loading, path, i ? S3_INI_CONFIG : S3_INI_CREDENTIALS);
	}
	if (r < 0)
		return r;
	return have_keys(loading->settings->credentials) ? 0 : no_keys(loading);
}

/* ---- The rest ---- */

static const char *first_of(const char *a, const char *b, const char *c, const char *d)
{
	return given(a) ? a : given(b) ? b : given(c) ? c : given(d);
}

static int take_region(struct loading *loading)
{
	const char *region = first_of(loading->options->region, environment("AWS_REGION"),
				      environment("AWS_DEFAULT_REGION"), loading->profile.region);
	if (!region)
		region = "us-east-1";
	if (!s3_region_valid(region))
		return reterr_set(loading->err, -EINVAL, "\"%.80s\" is no region", region);
	return copy_text(loading->err, loading->settings->region, sizeof(loading->settings->region),
			 region, "the region");
}

static int take_endpoint(struct loading *loading)
{
	const struct s3_options *options = loading->options;
	const char *url = first_of(options->endpoint, environment("AWS_ENDPOINT_URL_S3"),
				   environment("AWS_ENDPOINT_URL"), loading->profile.endpoint);
	const char *allow = environment("PROTOFS_S3_ALLOW_HTTP");
	return s3_endpoint_parse(url, loading->settings->bucket,
				 options->virtual_host || loading->profile.virtual_host,
				 options->allow_http || (allow && strcmp(allow, "1") == 0),
				 loading->err, &loading->settings->endpoint);
}

static int take_ca_bundle(struct loading *loading)
{
	struct s3_settings *settings = loading->settings;
	const char *path = first_of(loading->options->ca_bundle, environment("AWS_CA_BUNDLE"),
				    loading->profile.ca_bundle, NULL);
	if (!path)
		return 0;
	int r = absolute(loading, path, settings->ca_bundle);
	if (r == 0 && access(settings->ca_bundle, R_OK) < 0)
		r = reterr_set(loading->err, -EINVAL, "CA bundle %s: %s", settings->ca_bundle,
			       strerror(errno));
	return r;
}

static int load(struct loading *loading)
{
	const char *name =
		first_of(loading->options->profile, environment("AWS_PROFILE"), "default", NULL);
	int r = copy_text(loading->err, loading->name, sizeof(loading->name), name,
			  "the profile's name");
	if (r == 0)
		r = take_place(loading);
	if (r == 0)
		r = find_file(loading, "AWS_SHARED_CREDENTIALS_FILE", "credentials",
			      loading->files[0]);
	if (r == 0)
		r = find_file(loading, "AWS_CONFIG_FILE", "config", loading->files[1]);
	if (r == 0)
		r = take_keys(loading);
	if (r == 0)
		r = take_region(loading);
	if (r == 0)
		r = take_endpoint(loading);
	return r < 0 ? r : take_ca_bundle(loading);
}

int s3_settings_load(const struct s3_options *options, struct reterr *err, struct s3_settings *ret)
{
	struct s3_settings settings = {0};
	struct loading loading = {.options = options, .settings = &settings, .err = err};
	int r = s3_credentials_new(&settings.credentials);
	if (r < 0)
		return reterr_set(err, r, "%s", strerror(-r));
	r = load(&loading);
	if (r < 0) {
		s3_settings_done(&settings);
		return r;
	}
	*ret = settings;
	return 0;
}

void s3_settings_done(struct s3_settings *settings)
{
	s3_credentials_unref(settings->credentials);
	settings->credentials = NULL;
}

int s3_source_read(const struct s3_source *source, struct reterr *err, struct s3_credentials **ret)
{
	struct s3_credentials *credentials = NULL;
	struct s3_profile profile = {0};
	int r = s3_credentials_new(&credentials);
	if (r < 0)
		return r;
	r = s3_ini_read(source->path, source->kind, source->profile, credentials, &profile, err);
	if (r == 0 && !have_keys(credentials))
		r = reterr_set(err, -EACCES, "%s has no keys any more", source->path);
	if (r < 0) {
		s3_credentials_unref(credentials);
		return r;
	}
	*ret = credentials;
	return 0;
}
