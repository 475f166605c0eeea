#include "cloud/s3_credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ini.h>

#include "base/invariant.h"
#include "cloud/s3_secret.h"

enum { LINE_MAX_SIZE = 8192 }; /* a session token has some thousand bytes */

/* ---- Credentials ---- */

int s3_credentials_new(struct s3_credentials **ret)
{
	struct s3_credentials *credentials = s3_secret_alloc(sizeof(*credentials));
	if (!credentials)
		return -ENOMEM;
	atomic_init(&credentials->refs, 1);
	*ret = credentials;
	return 0;
}

struct s3_credentials *s3_credentials_ref(struct s3_credentials *credentials)
{
	(void)atomic_fetch_add(&credentials->refs, 1);
	return credentials;
}

void s3_credentials_unref(struct s3_credentials *credentials)
{
	if (credentials && atomic_fetch_sub(&credentials->refs, 1) == 1)
		s3_secret_free(credentials, sizeof(*credentials));
}

bool s3_credentials_equal(const struct s3_credentials *a, const struct s3_credentials *b)
{
	return strcmp(a->key_id, b->key_id) == 0 && strcmp(a->secret, b->secret) == 0 &&
	       strcmp(a->token, b->token) == 0;
}

/* ---- Parsing ---- */

struct parse {
	struct slice rest;
	enum s3_ini_kind kind;
	const char *name;
	struct s3_credentials *credentials;
	struct s3_profile *profile;
	unsigned line;     /* that is being read */
	unsigned bad_line; /* the first that we refuse */
};

/* inih's fgets. A line that is longer than it can take is refused, and its rest passed over. */
static char *read_line(char *buffer, int size, void *arg)
{
	struct parse *parse = arg;
	if (parse->rest.size == 0 || size < 2)
		return NULL;
	const uint8_t *end = memchr(parse->rest.data, '\n', parse->rest.size);
	size_t length = end ? (size_t)(end - parse->rest.data) + 1 : parse->rest.size;
	size_t taken = length < (size_t)size ? length : (size_t)size - 1;
	struct slice line;

	parse->line++;
	if (taken < length && parse->bad_line == 0)
		parse->bad_line = parse->line;
	int r = slice_take(&parse->rest, length, &line);
	invariant(r == 0);
	memcpy(buffer, line.data, taken);
	buffer[taken] = '\0';
	return buffer;
}

static bool is_ours(const struct parse *parse, const char *section)
{
	bool bare = strcmp(section, parse->name) == 0;
	bool prefixed = strncmp(section, "profile ", 8) == 0 &&
			strcmp(section + 8 + strspn(section + 8, " \t"), parse->name) == 0;
	switch (parse->kind) {
	case S3_INI_CREDENTIALS:
		return bare;
	case S3_INI_CONFIG:
		return prefixed || (bare && strcmp(section, "default") == 0);
	case S3_INI_PRIVATE:
		return bare || prefixed || section[0] == '\0';
	}
	return false;
}

/* The lines below "s3 =", which inih hands over as further values of it. */
static void take_nested(struct s3_profile *profile, const char *value)
{
	static const char name[] = "addressing_style";
	if (strncmp(value, name, sizeof(name) - 1) != 0)
		return;
	value += sizeof(name) - 1;
	value += strspn(value, " \t=");
	profile->virtual_host = strcmp(value, "virtual") == 0;
}

static bool is_foreign_provider(const char *name)
{
	return strcmp(name, "role_arn") == 0 || strncmp(name, "sso_", 4) == 0 ||
	       strcmp(name, "credential_process") == 0 ||
	       strcmp(name, "web_identity_token_file") == 0 ||
	       strcmp(name, "credential_source") == 0;
}

static int take_value(void *arg, const char *section, const char *name, const char *value)
{
	struct parse *parse = arg;
	struct s3_credentials *credentials = parse->credentials;
	struct s3_profile *profile = parse->profile;
	const struct {
		const char *name;
		char *to;
		size_t size;
	} values[] = {
		{"aws_access_key_id", credentials->key_id, sizeof(credentials->key_id)},
		{"aws_secret_access_key", credentials->secret, sizeof(credentials->secret)},
		{"aws_session_token", credentials->token, sizeof(credentials->token)},
		{"region", profile->region, sizeof(profile->region)},
		{"endpoint_url", profile->endpoint, sizeof(profile->endpoint)},
		{"ca_bundle", profile->ca_bundle, sizeof(profile->ca_bundle)},
	};
	if (!is_ours(parse, section))
		return 1;
	profile->found = true;
	if (strcmp(name, "s3") == 0)
		take_nested(profile, value);
	else if (is_foreign_provider(name))
		(void)snprintf(profile->provider, sizeof(profile->provider), "%.31s", name);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		if (strcmp(name, values[i].name) != 0)
			continue;
		size_t length = strlen(value);
		if (length >= values[i].size) {
			if (parse->bad_line == 0)
				parse->bad_line = parse->line;
			return 0;
		}
		memcpy(values[i].to, value, length + 1);
	}
	return 1;
}

/* inih's default is 200 bytes a line. Where it can be told otherwise at run time, it is. */
static void inih_init(void)
{
#ifdef PROTOFS_INIH_MAX_LINE
	ini_max_line = LINE_MAX_SIZE;
#endif
}

int s3_ini_parse(struct slice text, enum s3_ini_kind kind, const char *name,
		 struct s3_credentials *credentials, struct s3_profile *ret, unsigned *ret_line)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct parse parse = {
		.rest = text,
		.kind = kind,
		.name = name,
		.credentials = credentials,
		.profile = ret,
	};
	(void)pthread_once(&once, inih_init);
	int r = ini_parse_stream(read_line, &parse, take_value, &parse);
	s3_secret_wipe_stack();
	if (r == -2)
		return -ENOMEM;
	/* Other tools' files may hold what only they understand. */
	if (r > 0 && kind == S3_INI_PRIVATE && parse.bad_line == 0)
		parse.bad_line = (unsigned)r;
	*ret_line = parse.bad_line;
	return parse.bad_line ? -EINVAL : 0;
}

/* ---- Reading ---- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

/* Whoever can write it can make us send our data elsewhere; whoever can read it can be us. */
static int check_private(int fd, const char *path, struct reterr *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return reterr_set(err, -EACCES, "cannot look at %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return reterr_set(err, -EACCES, "%s is no file", path);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return reterr_set(
			err, -EACCES,
			"%s belongs to user %u, not to the one that runs protofs: chown it", path,
			(unsigned)st.st_uid);
	if (st.st_mode & (S_IRWXG | S_IRWXO))
		return reterr_set(err, -EACCES, "%s has mode %04o and holds secrets: chmod 600 %s",
				  path, (unsigned)st.st_mode & 07777, path);
	return 0;
}

static int read_all(int fd, const char *path, uint8_t *to, size_t size_max, size_t *ret,
		    struct reterr *err)
{
	size_t size = 0;
	while (size <= size_max) {
		ssize_t got = read(fd, to + size, size_max + 1 - size);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return reterr_set(err, -EACCES, "cannot read %s: %s", path,
					  strerror(errno));
		if (got == 0) {
			*ret = size;
			return 0;
		}
		size += (size_t)got;
	}
	return reterr_set(err, -EINVAL, "%s has more than %zu bytes", path, size_max);
}

int s3_ini_read(const char *path, enum s3_ini_kind kind, const char *name,
		struct s3_credentials *credentials, struct s3_profile *ret, struct reterr *err)
{
	CLEANUP(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && kind != S3_INI_PRIVATE && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (fd < 0)
		return reterr_set(err, -EACCES, "cannot open %s: %s", path, strerror(errno));
	int r = kind == S3_INI_PRIVATE ? check_private(fd, path, err) : 0;
	if (r < 0)
		return r;

	const size_t room = S3_INI_SIZE_MAX + 1;
	uint8_t *text = s3_secret_alloc(room);
	size_t size = 0;
	unsigned line = 0;
	if (!text)
		return reterr_set(err, -ENOMEM, "%s: %s", path, strerror(ENOMEM));
	r = read_all(fd, path, text, S3_INI_SIZE_MAX, &size, err);
	if (r == 0) {
		r = s3_ini_parse((struct slice){.data = text, .size = size}, kind, name,
				 credentials, ret, &line);
		if (r == -EINVAL)
			(void)reterr_set(
				err, r,
				"%s, line %u: neither a [section] nor name = value, or too long",
				path, line);
		else if (r < 0)
			(void)reterr_set(err, r, "%s: %s", path, strerror(-r));
	}
	s3_secret_free(text, room);
	return r;
}
