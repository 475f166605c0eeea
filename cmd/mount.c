/* protofs mount: arguments, and what must be true before a store is mounted. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/args.h"
#include "cmd/daemon.h"
#include "cmd/log.h"
#include "cmd/mountinfo.h"
#include "cmd/options.h"
#include "cmd/serve.h"
#include "cmd/store.h"
#include "cmd/verb.h"

enum {
	OPTION_FIRST = 256, /* + the option's number */
	OPTIONS_MAX = 64,
	OPTION_NAME_SIZE = 32,
};

struct mount {
	const char *slots[2]; /* STORE and MNT as they were given */
	char *store;          /* absolute, without symlinks; "mem:" */
	char *mountpoint;
	bool foreground;
	struct options options;
};

/* argp's table, made of the options' own: each once with '-', once more, hidden, with '_'. */
struct flags {
	char names[OPTIONS_MAX][OPTION_NAME_SIZE];
	struct argp_option argp[2 * OPTIONS_MAX + 8];
};

static void make_flags(struct flags *flags)
{
	static const struct argp_option own[] = {
		{NULL, 'o', "OPTION,...", 0, "Options, as below without the dashes", 0},
		{"foreground", 'f', NULL, 0, "Stay in the foreground; messages go to stderr", 0},
	};
	const char *name, *argument, *help;
	size_t n = 0;

	for (; n < ARRAY_SIZE(own); n++)
		flags->argp[n] = own[n];
	for (size_t i = 0; i < OPTIONS_MAX && options_describe(i, &name, &argument, &help); i++) {
		char *dashed = flags->names[i];
		(void)strncpy(dashed, name, OPTION_NAME_SIZE - 1);
		for (char *c = dashed; *c; c++)
			if (*c == '_')
				*c = '-';
		int key = OPTION_FIRST + (int)i;
		flags->argp[n++] = (struct argp_option){dashed, key, argument, 0, help, 1};
		if (strcmp(dashed, name) != 0)
			flags->argp[n++] = (struct argp_option){
				name, 0, NULL, OPTION_ALIAS | OPTION_HIDDEN, NULL, 1};
	}
	flags->argp[n] = (struct argp_option){0};
}

static error_t parse_mount(int key, char *arg, struct argp_state *state)
{
	struct mount *mount = state->input;
	const char *name, *argument, *help;
	struct reterr err = {0};

	if (key == 'f') {
		mount->foreground = true;
		return 0;
	}
	if (key == 'o') {
		if (options_parse(&mount->options, arg, &err) < 0)
			argp_error(state, "%s", err.text);
		return 0;
	}
	if (key >= OPTION_FIRST && key < OPTION_FIRST + OPTIONS_MAX &&
	    options_describe((size_t)(key - OPTION_FIRST), &name, &argument, &help)) {
		if (options_set(&mount->options, name, arg, &err) < 0)
			argp_error(state, "%s", err.text);
		return 0;
	}
	if (key == ARGP_KEY_ARG && *arg == '\0')
		argp_error(state, "an argument is empty");
	return args_positional(state, key, arg, mount->slots, 2);
}

/* ---- Checks --------------------------------------------------------------------------------- */

static bool is_below(const char *path, const char *directory)
{
	size_t length = strlen(directory);
	if (strcmp(directory, "/") == 0)
		return true;
	return strncmp(path, directory, length) == 0 &&
	       (path[length] == '/' || path[length] == '\0');
}

static int resolve_store(struct mount *mount, struct reterr *err)
{
	const char *given = mount->slots[0];

	if (store_is_memory(given)) {
		mount->store = strdup(given);
		return mount->store ? 0 : -ENOMEM;
	}
	if (mount->options.memory_size_set)
		return reterr_set(err, -EINVAL, "option size is for a mem: store");
	int r = mountinfo_resolve(given, &mount->store);
	if (r == -ENOENT)
		return reterr_set(err, r,
				  "there is no such directory; `protofs init` makes a store");
	return r;
}

/* A directory that is no store is told so later. */
static int resolve_settings(struct mount *mount, struct reterr *err)
{
	const char *store = store_is_memory(mount->store) ? NULL : mount->store;
	return settings_resolve(store, &mount->options.settings, err);
}

/* A dead daemon's mount is removed; a living one's is in the way. */
static int clear_mountpoint(const struct mount *mount, struct reterr *err)
{
	struct mountinfo there;
	int r = mountinfo_at(mount->mountpoint, &there);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return reterr_set(err, r, "cannot read /proc/self/mountinfo: %s", strerror(-r));
	if (!mountinfo_is_dead(&there)) {
		r = reterr_set(err, -EBUSY,
			       "'%.150s' is mounted at '%.150s' already; unmount it first",
			       there.source, there.mountpoint);
	} else {
		r = mountinfo_unmount(there.mountpoint, true);
		if (r == 0)
			log_info("removed the mount that a dead daemon has left at '%s'",
				 there.mountpoint);
		else
			(void)reterr_set(
				err, r,
				"'%.200s' is the mount of a dead daemon and cannot be removed: "
				"%s",
				there.mountpoint, strerror(-r));
	}
	mountinfo_done(&there);
	return r;
}

static int resolve_mountpoint(struct mount *mount, struct reterr *err)
{
	const char *given = mount->slots[1];
	struct stat st;

	int r = mountinfo_resolve(given, &mount->mountpoint);
	if (r == -ENOENT)
		return reterr_set(err, r,
				  "the mountpoint '%.300s' does not exist; make it with mkdir",
				  given);
	if (r < 0)
		return reterr_set(err, r, "the mountpoint '%.300s': %s", given, strerror(-r));
	r = clear_mountpoint(mount, err);
	if (r < 0)
		return r;
	if (stat(mount->mountpoint, &st) < 0)
		return reterr_set(err, -errno, "the mountpoint '%.300s': %s", given,
				  strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return reterr_set(err, -ENOTDIR, "the mountpoint '%.300s' is not a directory",
				  given);
	if (store_is_memory(mount->store))
		return 0;
	if (is_below(mount->store, mount->mountpoint))
		return reterr_set(err, -EINVAL, "the mount at '%.300s' would hide its own store",
				  given);
	if (is_below(mount->mountpoint, mount->store))
		return reterr_set(err, -EINVAL, "the mountpoint '%.300s' lies inside the store",
				  given);
	return 0;
}

/* ---- The verb ------------------------------------------------------------------------------- */

static int check(struct mount *mount)
{
	struct reterr err = {0};
	int r = resolve_store(mount, &err);
	if (r == 0 && mount->options.take_over && mount->options.read_only)
		r = reterr_set(&err, -EINVAL, "options ro and take_over exclude each other");
	if (r == 0)
		r = resolve_settings(mount, &err);
	if (r == 0)
		r = resolve_mountpoint(mount, &err);
	if (r == 0)
		return EXIT_CODE_DONE;
	log_error("cannot mount '%s': %s", mount->slots[0], store_why(&err, r));
	return r == -EINVAL ? EXIT_CODE_USAGE : EXIT_CODE_FAILED;
}

static int run(struct mount *mount)
{
	struct daemon daemon = {.pipe_fd = -1};
	int code = check(mount);
	if (code != EXIT_CODE_DONE)
		return code;

	struct serve serve = {
		.store = mount->store,
		.mountpoint = mount->mountpoint,
		.options = &mount->options,
		.daemon = mount->foreground || mount->options.debug ? NULL : &daemon,
	};
	if (serve.daemon) {
		int r = daemon_fork(serve.daemon);
		if (r < 0) {
			log_error("cannot mount '%s': cannot fork: %s", mount->store, strerror(-r));
			return EXIT_CODE_FAILED;
		}
	}
	code = serve_run(&serve);
	daemon_fail(&daemon, code);
	return code;
}

int verb_mount(int argc, char **argv)
{
	static struct flags flags;
	const struct argp argp = {
		.options = flags.argp,
		.parser = parse_mount,
		.args_doc = "STORE MNT",
		.doc = "Mount the store in the directory STORE at MNT. STORE may be mem:, which nothing "
		       "keeps.\v"
		       "Other options of -o go to FUSE (max_read=, noexec, noatime, ...). `mount -t "
		       "fuse.protofs STORE MNT -o ...` and fstab do the same.",
	};
	struct mount mount = {0};

	make_flags(&flags);
	options_init(&mount.options);
	args_parse(&argp, argc, argv, &mount);
	int code = run(&mount);
	free(mount.store);
	free(mount.mountpoint);
	options_done(&mount.options);
	return code;
}
