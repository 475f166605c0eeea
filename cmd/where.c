#include "cmd/where.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/log.h"
#include "cmd/mountinfo.h"
#include "cmd/store.h"
#include "cmd/verb.h"

/* PATH is absolute and lies in a mount, but is not its root. */
static int refuse_inside(const char *path, const char *mountpoint, struct reterr *err)
{
	if (strcmp(path, mountpoint) == 0)
		return 0;
	return reterr_set(err, -EINVAL, "it lies inside a mounted store: name '%s' instead",
			  mountpoint);
}

/* 1: the store PATH, if it is one, is not mounted here. */
static int open_mounted(const char *path, struct reterr *err, struct where **ret)
{
	struct mountinfo mount;
	int r = mountinfo_holding(path, &mount);

	if (r == 0) {
		r = refuse_inside(path, mount.mountpoint, err);
		if (r == 0 && mountinfo_is_dead(&mount))
			r = reterr_set(
				err, -ENOTCONN,
				"its daemon is gone; `protofs umount` removes the mount, then "
				"the store is at '%.200s'",
				mount.source);
		if (r == 0)
			r = where_mount_open(mount.mountpoint, err, ret);
		mountinfo_done(&mount);
		return r;
	}
	if (r != -ENOENT)
		return reterr_set(err, r, "cannot read /proc/self/mountinfo: %s", strerror(-r));

	r = mountinfo_of(path, &mount);
	if (r < 0)
		return 1;
	if (mountinfo_is_dead(&mount)) {
		r = 1;
	} else {
		log_info("'%s' is mounted: going through '%s'", path, mount.mountpoint);
		r = where_mount_open(mount.mountpoint, err, ret);
	}
	mountinfo_done(&mount);
	return r;
}

int where_open(const char *path, enum where_access access, struct reterr *err, struct where **ret)
{
	char *real;

	if (store_is_memory(path))
		return reterr_set(err, -EINVAL,
				  "a mem: store lives in its mount alone: name the mountpoint");
	int r = mountinfo_resolve(path, &real);
	if (r < 0)
		return reterr_set(err, r, "%s", strerror(-r));
	r = open_mounted(real, err, ret);
	if (r > 0) {
		log_info("'%s' is not mounted: opening the store itself", path);
		r = where_direct_open(real, access, err, ret);
	}
	free(real);
	if (r == 0)
		(*ret)->path = path;
	return r;
}

int where_open_for(const char *what, const char *path, enum where_access access, struct where **ret)
{
	struct reterr err = {0};
	int r = where_open(path, access, &err, ret);

	if (r == 0)
		return EXIT_CODE_DONE;
	log_error("cannot %s '%s': %s", what, path, store_why(&err, r));
	return r == -EINVAL ? EXIT_CODE_USAGE : EXIT_CODE_FAILED;
}

int where_store(const char *path, char **ret, struct reterr *err)
{
	struct mountinfo mount;
	char *real;

	int r = mountinfo_resolve(path, &real);
	if (r < 0)
		return reterr_set(err, r, "%s", strerror(-r));
	r = mountinfo_at(real, &mount);
	if (r == 0) {
		free(real);
		real = strdup(mount.source);
		mountinfo_done(&mount);
		if (!real)
			return reterr_set(err, -ENOMEM, "out of memory");
	}
	if (store_is_memory(real)) {
		free(real);
		return reterr_set(err, -EINVAL, "a mem: store remembers no cloud");
	}
	*ret = real;
	return 0;
}

void where_close(struct where *where)
{
	struct reterr err = {0};
	if (!where)
		return;
	const char *path = where->path;
	int r = where->ops->close(where, &err);
	if (r < 0)
		log_warning("'%s' was not closed cleanly: %s", path, store_why(&err, r));
}

int where_root_newest(struct where *where, struct engine_root *ret, struct reterr *err)
{
	uint64_t first, last;
	int r = where->ops->roots(where, &first, &last, err);

	if (r < 0)
		return r;
	if (last == 0) {
		memset(ret, 0, sizeof(*ret));
		return 0;
	}
	return where->ops->root(where, last, ret, err);
}
