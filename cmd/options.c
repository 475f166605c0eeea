#include "cmd/options.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/store.h"
#include "cmd/text.h"

enum { FUSE_OPTIONS_SIZE_MAX = 4096, NAME_SIZE = 32 };

enum kind {
	KIND_FLAG,  /* bool */
	KIND_SIZE,  /* uint64_t, bytes */
	KIND_MS,    /* uint64_t, milliseconds */
	KIND_COUNT, /* uint64_t */
	KIND_USER,  /* options->uid */
	KIND_GROUP, /* options->gid */
	KIND_LOG,   /* options->log_path */
};

struct option {
	const char *name;
	enum kind kind;
	size_t field; /* offset in struct options */
	uint64_t min, max;
	const char *argument;
	const char *help;
};

#define FIELD(name) offsetof(struct options, name)

static const struct option table[] = {
	{"ro", KIND_FLAG, FIELD(read_only), 0, 0, NULL,
	 "Every change is refused; nothing is written"},
	{"flush_interval", KIND_MS, FIELD(flush_interval_ms), 1, 3600000, "TIME",
	 "Bytes that nobody waits for are durable after it: 500ms, 1s (default)"},
	{"noprotect", KIND_FLAG, FIELD(noprotect), 0, 0, NULL,
	 "Segments that a kept root may need can be removed"},
	{"strict_root", KIND_FLAG, FIELD(strict_root), 0, 0, NULL,
	 "A root whose bytes are not there is refused, not held until they come"},
	{"fence_root", KIND_FLAG, FIELD(fence_root), 0, 0, NULL,
	 "Only the process that holds space_root.lock may publish through space/"},
	{"uid", KIND_USER, FIELD(uid), 0, UINT32_MAX - 1, "USER",
	 "Owner of all files (default: you)"},
	{"gid", KIND_GROUP, FIELD(gid), 0, UINT32_MAX - 1, "GROUP", "Group of all files"},
	{"allow_other", KIND_FLAG, FIELD(allow_other), 0, 0, NULL,
	 "Other users may come in, as far as the modes of files let them"},
	{"auto_unmount", KIND_FLAG, FIELD(auto_unmount), 0, 0, NULL,
	 "A mount whose daemon died is removed at once"},
	{"size", KIND_SIZE, FIELD(memory_size), 1 << 20, UINT64_MAX, "SIZE",
	 "Memory that a mem: store may take (default 1G)"},
	{"cache_size", KIND_SIZE, FIELD(cache_size_max), 1 << 20, UINT64_MAX, "SIZE",
	 "Memory for verified pages (default 8M)"},
	{"segment_size", KIND_SIZE, FIELD(segment_size_max), 1 << 20, UINT64_MAX, "SIZE",
	 "Our own segments end there, and a new one begins (default 1G)"},
	{"blob_max", KIND_SIZE, FIELD(blob_size_max), 1, UINT64_MAX, "SIZE",
	 "The largest atom through atoms/in (default 2G)"},
	{"read_ahead", KIND_SIZE, FIELD(read_ahead_size), 4096, UINT32_MAX, "SIZE",
	 "What the kernel reads ahead (default 8M)"},
	{"receivers", KIND_COUNT, FIELD(receivers), 1, 64, "N",
	 "Threads that wait for requests (default: one for two processors)"},
	{"spin", KIND_COUNT, FIELD(spin_us), 0, 1000, "MICROSECONDS",
	 "How long a receiver polls before it sleeps (default 0)"},
	{"take_over", KIND_FLAG, FIELD(take_over), 0, 0, NULL,
	 "A clone or a copied store becomes writable: the other one must not go on"},
	{"log", KIND_LOG, 0, 0, 0, "FILE", "The daemon's messages go to FILE, not to syslog"},
	{"debug", KIND_FLAG, FIELD(debug), 0, 0, NULL, "Show every request; implies -f"},
};

/* Of mount(8) and fstab: they mean nothing to us, or what holds anyway. */
static const char *const ignored[] = {
	"rw",
	"dev",
	"nodev",
	"suid",
	"nosuid",
	"exec",
	"async",
	"auto",
	"noauto",
	"nofail",
	"user",
	"nouser",
	"users",
	"owner",
	"group",
	"_netdev",
	"defaults",
	"relatime",
	"norelatime",
	"strictatime",
	"nostrictatime",
	"lazytime",
	"nolazytime",
	"silent",
	"loud",
	"default_permissions",
};

/* FUSE's and the kernel's own; a name that ends in '=' takes a value. */
static const char *const passed_on[] = {
	"noexec",   "sync",       "dirsync",     "atime",        "noatime",
	"diratime", "nodiratime", "max_read=",   "clone_fd",     "allow_root",
	"context=", "fscontext=", "defcontext=", "rootcontext=",
};

void options_init(struct options *options)
{
	*options = (struct options){
		.memory_size = STORE_MEMORY_SIZE_DEFAULT,
		.fuse = {.max = FUSE_OPTIONS_SIZE_MAX},
	};
}

void options_done(struct options *options)
{
	free(options->log_path);
	settings_done(&options->settings);
	buf_done(&options->fuse);
	options_init(options);
}

bool options_describe(size_t i, const char **ret_name, const char **ret_argument,
		      const char **ret_help)
{
	if (i >= ARRAY_SIZE(table))
		return settings_describe(i - ARRAY_SIZE(table), ret_name, ret_argument, ret_help);
	*ret_name = table[i].name;
	*ret_argument = table[i].argument;
	*ret_help = table[i].help;
	return true;
}

static int parse_user(const char *text, uint64_t *ret)
{
	if (text_parse_u64(text, ret) == 0)
		return 0;
	const struct passwd *user = getpwnam(text);
	if (!user)
		return -EINVAL;
	*ret = user->pw_uid;
	return 0;
}

static int parse_group(const char *text, uint64_t *ret)
{
	if (text_parse_u64(text, ret) == 0)
		return 0;
	const struct group *group = getgrnam(text);
	if (!group)
		return -EINVAL;
	*ret = group->gr_gid;
	return 0;
}

static int parse_number(const struct option *option, const char *value, uint64_t *ret)
{
	switch (option->kind) {
	case KIND_SIZE:
		return text_parse_size(value, ret);
	case KIND_MS:
		return text_parse_duration(value, 1, ret);
	case KIND_USER:
		return parse_user(value, ret);
	case KIND_GROUP:
		return parse_group(value, ret);
	case KIND_COUNT:
		return text_parse_u64(value, ret);
	case KIND_FLAG:
	case KIND_LOG:
		break;
	}
	return -EINVAL;
}

static int set_log_path(struct options *options, const char *path, struct reterr *err)
{
	free(options->log_path);
	options->log_path = strdup(path);
	return options->log_path ? 0 : reterr_set(err, -ENOMEM, "out of memory");
}

static int set_known(struct options *options, const struct option *option, const char *value,
		     struct reterr *err)
{
	char *field = (char *)options + option->field;
	uint64_t number = 0;

	if (option->kind == KIND_FLAG) {
		if (value)
			return reterr_set(err, -EINVAL, "option %s takes no value", option->name);
		*(bool *)(void *)field = true;
		return 0;
	}
	if (!value || !*value)
		return reterr_set(err, -EINVAL, "option %s needs a value: %s=%s", option->name,
				  option->name, option->argument);
	if (option->kind == KIND_LOG)
		return set_log_path(options, value, err);

	int r = parse_number(option, value, &number);
	if (r < 0 || number < option->min || number > option->max)
		return reterr_set(err, -EINVAL, "option %s: '%s' is no %s that it can have",
				  option->name, value, option->argument);
	if (option->kind == KIND_USER) {
		options->uid = (uid_t)number;
		options->uid_set = true;
	} else if (option->kind == KIND_GROUP) {
		options->gid = (gid_t)number;
		options->gid_set = true;
	} else {
		*(uint64_t *)(void *)field = number;
	}
	if (option->field == FIELD(memory_size))
		options->memory_size_set = true;
	return 0;
}

static bool is_ignored(const char *name)
{
	if (strncmp(name, "x-", 2) == 0 || strncmp(name, "X-", 2) == 0 ||
	    strcmp(name, "comment") == 0 || strcmp(name, "uhelper") == 0 ||
	    strcmp(name, "helper") == 0)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		if (strcmp(name, ignored[i]) == 0)
			return true;
	return false;
}

/* 1: it was for FUSE, and is on its list now. */
static int pass_on(struct options *options, const char *name, const char *value, struct reterr *err)
{
	size_t length = strlen(name);
	bool found = false;

	for (size_t i = 0; i < ARRAY_SIZE(passed_on); i++)
		found = found || (strncmp(passed_on[i], name, length) == 0 &&
				  strcmp(passed_on[i] + length, value ? "=" : "") == 0);
	if (!found)
		return 0;
	struct buf *fuse = &options->fuse;
	if (fuse->size > 0)
		fuse->data[fuse->size - 1] = ','; /* in place of the NUL */
	int r = buf_printf(fuse, "%s%s%s", name, value ? "=" : "", value ? value : "");
	if (r == 0)
		r = buf_append(fuse, "", 1);
	return r < 0 ? reterr_set(err, r, "too many options: %s", strerror(-r)) : 1;
}

int options_set(struct options *options, const char *name, const char *value, struct reterr *err)
{
	char plain[NAME_SIZE];
	size_t length = strlen(name);

	if (length < sizeof(plain)) {
		for (size_t i = 0; i <= length; i++)
			plain[i] = name[i] == '-' ? '_' : name[i];
		for (size_t i = 0; i < ARRAY_SIZE(table); i++)
			if (strcmp(plain, table[i].name) == 0)
				return set_known(options, &table[i], value, err);
		int r = settings_set(&options->settings, plain, value, err);
		if (r <= 0)
			return r;
	}
	if (is_ignored(name))
		return 0;
	int r = pass_on(options, name, value, err);
	if (r == 0)
		return reterr_set(err, -EINVAL, "there is no option '%.100s'", name);
	return r < 0 ? r : 0;
}

/* Moves *REST behind the next item, which is copied without its backslashes. */
static void next_item(const char **rest, char *item)
{
	const char *at = *rest;
	while (*at && *at != ',') {
		if (at[0] == '\\' && at[1])
			at++;
		*item++ = *at++;
	}
	*item = '\0';
	*rest = *at ? at + 1 : at;
}

int options_parse(struct options *options, const char *list, struct reterr *err)
{
	char *item = calloc(1, strlen(list) + 1);
	int r = 0;

	if (!item)
		return reterr_set(err, -ENOMEM, "out of memory");
	while (r == 0 && *list) {
		next_item(&list, item);
		char *value = strchr(item, '=');
		if (value)
			*value++ = '\0';
		if (*item || value)
			r = options_set(options, item, value, err);
	}
	free(item);
	return r;
}
