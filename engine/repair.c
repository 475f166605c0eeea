/* What `fsck --repair` does about what fsck.c found. */
#include <errno.h>
#include <stdlib.h>

#include "engine/fsck.h"

static int repair_superblock(struct fsck *f, struct reterr *err)
{
	struct reterr finding;

	if (!f->superblock.bad_copies)
		return 0;
	int r = superblock_write(f->disk, &f->superblock, err);
	if (r < 0)
		return r;
	f->result.fixed++;
	(void)reterr_set(&finding, 0, "superblock: both copies are good again");
	if (f->options.found)
		f->options.found(f->options.arg, &finding, true);
	return 0;
}

int fsck_repair(struct fsck *f, struct reterr *err)
{
	return repair_superblock(f, err);
}
