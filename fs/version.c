#include "fs/version.h"

#include <errno.h>

#if FUSE_MAJOR_VERSION != 3 || FUSE_VERSION < FUSE_MAKE_VERSION(3, 14)
#error "protofs needs libfuse 3.14 or later of the 3 series"
#endif

int version_check(struct reterr *err)
{
	/* The symbols' versions rule out older libraries but for what the linker cannot see. */
	if (fuse_version() < FUSE_MAKE_VERSION(3, 14) || fuse_version() >= FUSE_MAKE_VERSION(4, 0))
		return reterr_set(err, -ENOTSUP,
				  "protofs needs libfuse 3.14 or later of the 3 series, "
				  "this is %s",
				  fuse_pkgversion());
	return 0;
}

const char *version_text(void)
{
	return fuse_pkgversion();
}
