#include "cmd/new_place.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/io.h"
#include "cmd/store.h"

int new_place_check(const char *name, struct new_place *ret, struct reterr *err)
{
	size_t length = strlen(name);
	struct stat st;

	if (store_is_memory(name))
		return reterr_set(err, -EINVAL,
				  "nothing keeps a mem: store; mount it and copy into "
				  "wal/in");
	while (length > 1 && name[length - 1] == '/')
		length--;
	ret->name = name;
	int n = snprintf(ret->partial, sizeof(ret->partial), "%.*s.partial", (int)length, name);
	if (n < 0 || (size_t)n >= sizeof(ret->partial))
		return reterr_set(err, -ENAMETOOLONG, "the name is too long");
	if (lstat(ret->partial, &st) == 0)
		return reterr_set(
			err, -EEXIST,
			"'%.300s' is there, which an earlier attempt may have left: remove it",
			ret->partial);
	int r = io_dir_is_empty(name); /* rename(2) replaces an empty directory */
	if (r == -ENOENT || r > 0)
		return 0;
	return reterr_set(err, r ? r : -ENOTEMPTY, "the place is taken: %s",
			  strerror(r ? -r : ENOTEMPTY));
}

int new_place_take(const struct new_place *place, struct reterr *err)
{
	if (rename(place->partial, place->name) < 0)
		return reterr_set(err, -errno, "all is in '%.200s', but it cannot be renamed: %s",
				  place->partial, strerror(errno));
	int r = io_sync_parent(place->name);
	return r < 0 ? reterr_set(err, r, "%s", strerror(-r)) : 0;
}
