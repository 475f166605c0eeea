/*
 * The name of a store that is yet to be built: it is built beside it, under NAME.partial, and takes
 * the name when it is whole, so that no half of a store can be mistaken for one.
 */
#ifndef PROTOFS_CMD_NEW_PLACE_H
#define PROTOFS_CMD_NEW_PLACE_H

#include <limits.h>

#include "base/attr.h"
#include "base/reterr.h"

struct new_place {
	const char *name; /* as given; borrowed */
	char partial[PATH_MAX];
};

/*
 * Before anything is built: NAME must be free, or an empty directory. -EINVAL it can never be a
 * store's; -ENOTEMPTY it is taken; -EEXIST an earlier attempt lies in the way.
 */
MUST_CHECK int new_place_check(const char *name, struct new_place *ret, struct reterr *err);
/* The last step, durable. */
MUST_CHECK int new_place_take(const struct new_place *place, struct reterr *err);

#endif
