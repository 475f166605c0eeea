/*
 * Which stores are mounted where, from /proc/self/mountinfo: reading that never asks the daemon,
 * hence never hangs on a dead one.
 */
#ifndef PROTOFS_CMD_MOUNTINFO_H
#define PROTOFS_CMD_MOUNTINFO_H

#include <stdbool.h>

#include "base/attr.h"

#define MOUNTINFO_TYPE "fuse.protofs"

struct mountinfo {
	char *mountpoint;
	char *source; /* the store's path as it was mounted, or "mem:" */
};

void mountinfo_done(struct mountinfo *mount);

/*
 * Parses one LINE, in place: RET points into it (no mountinfo_done). -ENOENT a mount of another
 * type, -EINVAL no such line.
 */
MUST_CHECK int mountinfo_parse_line(char *line, struct mountinfo *ret);

/*
 * The protofs mount whose mountpoint is exactly PATH, or whose source is exactly PATH (absolute,
 * without symlinks). The newest one if several are stacked. -ENOENT if there is none; -errno of
 * reading mountinfo.
 */
MUST_CHECK int mountinfo_at(const char *path, struct mountinfo *ret);
MUST_CHECK int mountinfo_of(const char *source, struct mountinfo *ret);

/* The protofs mount that PATH is the root of or lies in. -ENOENT if there is none. */
MUST_CHECK int mountinfo_holding(const char *path, struct mountinfo *ret);

/*
 * True if the daemon of a mount is gone: every access answers ENOTCONN. Asks the daemon if there
 * is one.
 */
bool mountinfo_is_dead(const struct mountinfo *mount);

/*
 * Absolute and without symlinks, also when PATH is a dead mount, which realpath(3) may refuse.
 * malloc'ed;
 * -ENOENT and the like.
 */
MUST_CHECK int mountinfo_resolve(const char *path, char **ret);

/* Unmounts PATH; LAZY detaches a dead or busy one. -EBUSY, -EPERM, -EIO if fusermount3 failed. */
MUST_CHECK int mountinfo_unmount(const char *path, bool lazy);

#endif
