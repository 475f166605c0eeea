/*
 * The file cloud.conf of a store: `name = value` lines, the names those of the options. The binary
 * superblock says what the store is, this what it is told; only protofs writes it, people may.
 */
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/slice.h"
#include "cmd/io.h"
#include "cmd/settings.h"

enum {
	FILE_SIZE_MAX = 16 << 10,
	LINE_MAX_SIZE = 199, /* what inih takes of a line; it drops the rest without a word */
};

static int open_store(const char *store, struct reterr *err)
{
	int fd = open(store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? reterr_set(err, -errno, "cannot open the directory '%.300s': %s", store,
				   strerror(errno))
		      : fd;
}

/* ---- Reading -------------------------------------------------------------------------------- */

struct reading {
	struct settings *settings;
	struct slice rest;
	struct reterr err; /* why the handler refused */
	bool too_long;
};

/* As fgets(3). */
static char *next_line(char *line, int size, void *arg)
{
	struct reading *reading = arg;
	struct slice *rest = &reading->rest;
	const uint8_t *end = rest->size ? memchr(rest->data, '\n', rest->size) : NULL;
	size_t length = end ? (size_t)(end - rest->data) + 1 : rest->size;

	if (length == 0)
		return NULL;
	if (length > LINE_MAX_SIZE - 1 || length >= (size_t)size) {
		reading->too_long = true;
		return NULL;
	}
	memcpy(line, rest->data, length);
	line[length] = '\0';
	rest->data += length;
	rest->size -= length;
	return line;
}

static int on_value(void *arg, const char *section, const char *name, const char *value)
{
	struct reading *reading = arg;
	/* A flag is written as "yes": a line without a value is no INI. */
	const char *given = strcmp(value, "yes") == 0 ? NULL : value;

	if (reading->err.code)
		return 0; /* inih goes on behind the first error, which is the one to tell */
	if (*section) {
		(void)reterr_set(&reading->err, -EINVAL, "it has no sections such as [%.100s]",
				 section);
		return 0;
	}
	int r = settings_set(reading->settings, name, given, &reading->err);
	if (r > 0)
		(void)reterr_set(&reading->err, -EINVAL, "there is no setting '%.100s'", name);
	return r == 0;
}

int settings_parse(struct slice text, struct settings *ret, struct reterr *err)
{
	struct settings settings = {0};
	struct reading reading = {.settings = &settings, .rest = text};

	int line = ini_parse_stream(next_line, &reading, on_value, &reading);
	if (line == 0 && !reading.too_long) {
		*ret = settings;
		return 0;
	}
	settings_done(&settings);
	if (line < 0 || reading.err.code == -ENOMEM)
		return reterr_set(err, -ENOMEM, "out of memory");
	if (line == 0)
		return reterr_set(err, -EINVAL, "%s has a line of more than %d bytes",
				  SETTINGS_FILE, LINE_MAX_SIZE - 1);
	return reterr_set(err, -EINVAL, "%s, line %d: %.300s", SETTINGS_FILE, line,
			  reading.err.code ? reading.err.text : "it is not `name = value`");
}

int settings_load(const char *store, struct settings *ret, struct reterr *err)
{
	CLEANUP(buf_done) struct buf text = {.max = FILE_SIZE_MAX};

	CLEANUP(io_close) int fd = open_store(store, err);
	if (fd < 0)
		return fd;
	int r = io_read_file(fd, SETTINGS_FILE, &text);
	if (r < 0 && r != -ENOENT)
		return reterr_set(err, r, "cannot read %s: %s", SETTINGS_FILE, strerror(-r));
	return settings_parse((struct slice){.data = text.data, .size = text.size}, ret, err);
}

/* ---- Writing -------------------------------------------------------------------------------- */

MUST_CHECK static int put_text(struct buf *text, const char *name, const char *value)
{
	return value ? buf_printf(text, "%s = %s\n", name, value) : 0;
}

MUST_CHECK static int put_number(struct buf *text, const char *name, uint64_t value,
				 const char *unit)
{
	return value ? buf_printf(text, "%s = %" PRIu64 "%s\n", name, value, unit) : 0;
}

int settings_print(const struct settings *s, struct buf *text)
{
	static const char *const levels[] = {
		[DURABILITY_UNSET] = NULL,
		[DURABILITY_LOCAL] = "local",
		[DURABILITY_CLOUD] = "cloud",
	};
	int r = buf_append_text(
		text,
		"# What this store was told about its cloud: options of `protofs mount`, which count\n"
		"# before these. No secrets belong here.\n");
	if (r == 0)
		r = put_text(text, "cloud", s->cloud);
	if (r == 0)
		r = put_text(text, "durability", levels[s->durability]);
	if (r == 0)
		r = put_number(text, "upload_interval", s->upload_interval_ms, "ms");
	if (r == 0)
		r = put_number(text, "transfers", s->transfers, "");
	if (r == 0)
		r = put_number(text, "bandwidth", s->bandwidth, "");
	if (r == 0)
		r = put_number(text, "disk_max", s->disk_max, "");
	if (r == 0)
		r = put_number(text, "cache_max", s->cache_max, "");
	if (r == 0)
		r = put_text(text, "endpoint", s->endpoint);
	if (r == 0)
		r = put_text(text, "region", s->region);
	if (r == 0)
		r = put_text(text, "virtual_host", s->virtual_host ? "yes" : NULL);
	if (r == 0)
		r = put_text(text, "profile", s->profile);
	if (r == 0)
		r = put_text(text, "credentials", s->credentials);
	if (r == 0)
		r = put_text(text, "ca_bundle", s->ca_bundle);
	return r < 0 ? r : put_number(text, "server_id", s->server_id, "");
}

int settings_save(const char *store, const struct settings *settings, struct reterr *err)
{
	CLEANUP(buf_done) struct buf text = {.max = FILE_SIZE_MAX};

	CLEANUP(io_close) int fd = open_store(store, err);
	if (fd < 0)
		return fd;
	int r = settings_print(settings, &text);
	if (r == 0)
		r = io_replace_file(fd, SETTINGS_FILE, text.data, text.size, 0600);
	return r < 0 ? reterr_set(err, r, "cannot write %s: %s", SETTINGS_FILE, strerror(-r)) : 0;
}

/* ---- Both together -------------------------------------------------------------------------- */

static int check_place(const char *store, const struct settings *stored,
		       const struct settings *given, struct reterr *err)
{
	if (stored->cloud && given->cloud && strcmp(stored->cloud, given->cloud) != 0)
		return reterr_set(err, -EINVAL,
				  "its cloud is '%s', and what was uploaded there is not at '%s': "
				  "copy all objects there, then change the line in %s",
				  stored->cloud, given->cloud, SETTINGS_FILE);
	const char *cloud = given->cloud ? given->cloud : stored->cloud;
	if (store && cloud && strcmp(cloud, "mem:") == 0)
		return reterr_set(
			err, -EINVAL,
			"nothing keeps what is uploaded to mem:, and the store would "
			"believe that it is there: only a mem: store can have such a cloud");
	return 0;
}

int settings_resolve(const char *store, struct settings *given, struct reterr *err)
{
	struct settings stored = {0};
	int r = store ? settings_load(store, &stored, err) : 0;

	if (r == 0)
		r = check_place(store, &stored, given, err);
	if (r == 0) {
		r = settings_override(&stored, given);
		if (r < 0)
			(void)reterr_set(err, r, "out of memory");
	}
	if (r == 0)
		r = settings_check(&stored, err);
	if (r < 0) {
		settings_done(&stored);
		return r;
	}
	settings_done(given);
	*given = stored;
	return 0;
}

int settings_remember(const char *store, const struct settings *settings, struct reterr *err)
{
	struct settings stored = {0};
	const struct settings place = {
		.cloud = settings->cloud,
		.endpoint = settings->endpoint,
		.region = settings->region,
		.profile = settings->profile,
		.credentials = settings->credentials,
		.ca_bundle = settings->ca_bundle,
		.virtual_host = settings->virtual_host,
	};

	int r = settings_load(store, &stored, err);
	if (r == 0 && !stored.cloud) {
		r = settings_override(&stored, &place);
		r = r < 0 ? reterr_set(err, r, "out of memory")
			  : settings_save(store, &stored, err);
	}
	settings_done(&stored);
	return r;
}
