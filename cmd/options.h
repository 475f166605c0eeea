/*
 * Options of a mount. Each has one name, with which it is a flag (--flush-interval 500ms) and an
 * -o option (-o flush_interval=500ms); '-' and '_' are the same in both.
 */
#ifndef PROTOFS_CMD_OPTIONS_H
#define PROTOFS_CMD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/reterr.h"
#include "cmd/settings.h"

struct options {
	bool read_only;
	bool noprotect;
	bool strict_root;
	bool fence_root;
	bool allow_other;
	bool auto_unmount;
	bool debug;
	bool take_over;
	bool uid_set, gid_set;
	uid_t uid;
	gid_t gid;
	uint64_t flush_interval_ms; /* 0 here and below: the engine's, or the mount's, default */
	uint64_t cache_size_max;
	uint64_t segment_size_max;
	uint64_t blob_size_max;
	uint64_t read_ahead_size;
	uint64_t memory_size; /* of a mem: store */
	bool memory_size_set;
	uint64_t receivers;
	uint64_t spin_us;
	char *log_path;           /* owned; NULL: syslog */
	struct settings settings; /* of the cloud, as far as they were given */
	struct buf fuse;          /* for FUSE, comma-separated, NUL-terminated if not empty */
};

void options_init(struct options *options);
void options_done(struct options *options);

/*
 * One option. VALUE is NULL if none was given. -EINVAL there is no such option, or not with such a
 * value: ERR says which and what it takes.
 */
MUST_CHECK int options_set(struct options *options, const char *name, const char *value,
			   struct reterr *err);

/* A list as -o takes it: "ro,flush_interval=500ms"; a backslash keeps a comma. */
MUST_CHECK int options_parse(struct options *options, const char *list, struct reterr *err);

/* What --help shows: option number I, false beyond the last. ARGUMENT is NULL for those without. */
bool options_describe(size_t i, const char **ret_name, const char **ret_argument,
		      const char **ret_help);

#endif
