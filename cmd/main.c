/* The protofs program: finds the verb and lets it run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/attr.h"
#include "cmd/log.h"
#include "cmd/store.h"
#include "cmd/verb.h"

struct verb {
	const char *name;
	verb_fn *run;
	const char *arguments;
	const char *summary;
};

static const struct verb verbs[] = {
	{"init", verb_init, "STORE", "make an empty store"},
	{"mount", verb_mount, "STORE MNT", "mount a store"},
	{"umount", verb_umount, "MNT", "unmount it, and wait until it is closed"},
	{"put", verb_put, "WHERE FILE...", "append files as atoms, print their pointers"},
	{"cat", verb_cat, "WHERE POINTER", "print an atom"},
	{"ls", verb_ls, "WHERE [segments | atoms SEGMENT | roots | cloud]", "list what there is"},
	{"root", verb_root, "WHERE show | log | set POINTER | rollback SEQ",
	 "read and publish roots"},
	{"status", verb_status, "WHERE", "print the state of a store"},
	{"fsck", verb_fsck, "STORE", "check a store, and repair it"},
	{"scrub", verb_scrub, "WHERE", "read every byte on the disk against its checksum"},
	{"backup", verb_backup, "WHERE DIR", "copy a store, also while it is written to"},
	{"restore", verb_restore, "DIR STORE", "make a store of such a copy"},
	{"clone", verb_clone, "URL STORE", "make a store of what a cloud holds"},
	{"prune", verb_prune, "WHERE", "drop old roots"},
	{"bench", verb_bench, "[DIR]", "measure durable appends against the disk's own limit"},
	{"version", verb_version, "", "print versions"},
};

static void print_help(void)
{
	(void)puts("Usage: protofs VERB [ARGUMENT...]\n"
		   "A filesystem over a log of immutable atoms with one root pointer.\n");
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		char left[80];
		(void)snprintf(left, sizeof(left), "%s %s", verbs[i].name, verbs[i].arguments);
		if (strlen(left) > 26)
			(void)printf("  %s\n  %-26s  %s\n", left, "", verbs[i].summary);
		else
			(void)printf("  %-26s  %s\n", left, verbs[i].summary);
	}
	(void)puts("\nWHERE is a store directory or a mountpoint. `protofs VERB --help` says more, "
		   "protofs(1) all.\n"
		   "Exit codes: 0 done, 1 the work failed, 2 wrong use.");
}

/* mount.fuse3 calls us as it calls every FUSE filesystem: protofs STORE MNT [-o OPTIONS]. */
static bool is_bare_mount(int argc, char **argv)
{
	struct stat st;
	if (argc < 3 || argv[1][0] == '-' || argv[2][0] == '-')
		return false;
	return strchr(argv[1], '/') || store_is_memory(argv[1]) || stat(argv[1], &st) == 0;
}

static int run(const char *name, verb_fn *verb, int argc, char **argv)
{
	char full[64];
	(void)snprintf(full, sizeof(full), "protofs %s", name);
	argv[0] = full; /* what --help and argp's messages begin with */
	int code = verb(argc, argv);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		log_error("cannot write to standard output");
		code = code ? code : EXIT_CODE_FAILED;
	}
	return code;
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (strcmp(name, verbs[i].name) == 0)
			return &verbs[i];
	return NULL;
}

int main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : "";
	bool help = strcmp(word, "help") == 0;
	static char help_option[] = "--help";

	if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
		return run("version", verb_version, 1, argv);
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || (help && argc == 2)) {
		print_help();
		return EXIT_CODE_DONE;
	}
	const struct verb *verb = find_verb(help ? argv[2] : word);
	if (verb && help)
		argv[2] = help_option;
	if (verb)
		return run(verb->name, verb->run, argc - 1, argv + 1);
	if (!help && is_bare_mount(argc, argv))
		return run("mount", verb_mount, argc, argv);
	if (argc < 2)
		log_error("a verb is missing; `protofs --help` lists them");
	else
		log_error("there is no verb '%s'; `protofs --help` lists them",
			  help ? argv[2] : word);
	return EXIT_CODE_USAGE;
}
