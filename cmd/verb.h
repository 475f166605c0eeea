/*
 * The verbs of the program, and what each answers the shell with.
 *
 * A verb parses its own arguments (--help included) and returns an exit code; argv[0] is "protofs
 * VERB". It logs what went wrong once, with what to do about it, and prints its result to stdout.
 */
#ifndef PROTOFS_CMD_VERB_H
#define PROTOFS_CMD_VERB_H

enum exit_code {
	EXIT_CODE_DONE = 0,
	EXIT_CODE_FAILED = 1, /* the work failed */
	EXIT_CODE_USAGE = 2,  /* wrong use: repeating it cannot help */
};

typedef int verb_fn(int argc, char **argv);

verb_fn verb_backup;
verb_fn verb_bench;
verb_fn verb_cat;
verb_fn verb_clone;
verb_fn verb_fsck;
verb_fn verb_init;
verb_fn verb_ls;
verb_fn verb_mount;
verb_fn verb_prune;
verb_fn verb_put;
verb_fn verb_restore;
verb_fn verb_root;
verb_fn verb_scrub;
verb_fn verb_status;
verb_fn verb_umount;
verb_fn verb_version;

#endif
