/* The command line that the programs of bench/ share: PROGRAM VERB [--OPTION VALUE]... */
#ifndef PROTOFS_BENCH_OPTIONS_H
#define PROTOFS_BENCH_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct options {
	const char *dir;                   /* scratch, on the disk to be measured */
	const char *mount;                 /* a mounted store, or a directory in it */
	const char *null;                  /* a mounted nullfs */
	const char *store;                 /* the directory beneath the mount */
	const char *path_ours, *path_base; /* for rows that compare two paths */
	const char *bucket;                /* of the S3 server in the environment */
	unsigned rounds, batch_ms, threads;
	uint64_t count, size;
	uint64_t rate; /* bytes a second; 0: no limit */
};

struct verb {
	const char *name;
	int (*run)(const struct options *options); /* 0 or -errno */
};

/* Parses and runs one of VERBS. The program's exit status: 0, 1 it failed, 2 wrong use. */
MUST_CHECK int options_main(int argc, char **argv, const struct verb *verbs, size_t count);

#endif
