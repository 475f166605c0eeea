/*
 * The libfuse that this module is written for: the only place, with version.c, that asks for
 * versions.
 */
#ifndef PROTOFS_FS_VERSION_H
#define PROTOFS_FS_VERSION_H

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 14)

#include <fuse_lowlevel.h>

#include "base/attr.h"
#include "base/reterr.h"

/*
 * The library that runs must be one that the headers fit: 3.14 or later of the 3 series. Later ones
 * than 3.14 are untested.
 * -ENOTSUP.
 */
MUST_CHECK int version_check(struct reterr *err);

/* "libfuse 3.14.0" */
const char *version_text(void);

#endif
