/* The names of small files: creating, unlinking and renaming them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/space.h"

/* Gives FILE the name, and the name's reference. */
static int file_link(struct space *space, struct small_file *file, const char *name,
		     struct reterr *err)
{
	bool temporary = small_file_name_is_temporary(name);
	unsigned limit = temporary ? SPACE_TEMPORARIES_MAX : SPACE_FILES_MAX;
	int r = 0;

	pthread_mutex_lock(&space->lock);
	unsigned *names = space_names_of(space, temporary);
	if (small_file_find(space, name)) {
		r = -EEXIST;
	} else if (*names >= limit) {
		r = -ENOSPC;
	} else {
		strcpy(file->name, name);
		file->linked = true;
		file->temporary = temporary;
		*names += 1;
		node_ref(&file->node, 1);
	}
	pthread_mutex_unlock(&space->lock);
	if (r == -ENOSPC)
		reterr_set(err, r, "space/ holds %u %s files, which is the limit", limit,
			   temporary ? "temporary" : "small");
	return r;
}

static int file_add(struct call *call, const char *name, mode_t mode, struct small_file **ret)
{
	struct space *space = space_of(call);
	struct small_file *file;
	int r = small_file_new(space, mode, &file);
	if (r < 0)
		return r;
	r = file_link(space, file, name, &call->err);
	if (r < 0) {
		small_file_put(space, file);
		return r;
	}
	r = space_log_set(space, file, name, &call->err);
	if (r < 0) {
		struct small_file *unref = NULL;
		pthread_mutex_lock(&space->lock);
		small_file_unlink_locked(space, file, &unref);
		pthread_mutex_unlock(&space->lock);
		small_file_put(space, unref);
		small_file_put(space, file);
		return r;
	}
	*ret = file;
	return 0;
}

int small_file_create(struct call *call, const char *name, mode_t mode, struct entry *ret,
		      struct opened *ret_opened)
{
	struct space *space = space_of(call);
	struct small_file *file = NULL;
	/* A temporary one is in no frame, so its order among changes does not matter. */
	bool is_change = !small_file_name_is_temporary(name);

	if (is_change) {
		call_leave(call);
		pthread_mutex_lock(&space->change);
	}
	int r = file_add(call, name, mode, &file);
	if (is_change)
		pthread_mutex_unlock(&space->change);
	if (r < 0)
		return r;
	small_file_entry(call, file, ret);
	if (ret_opened) {
		pthread_mutex_lock(&space->lock);
		file->opens++;
		pthread_mutex_unlock(&space->lock);
		ret_opened->keep_cache = true;
	}
	/* The name has its own reference, and the kernel gets one with the reply. */
	small_file_put(space, file);
	return 0;
}

int small_file_unlink(struct call *call, const char *name)
{
	struct space *space = space_of(call);
	struct small_file *unref = NULL;
	int r = 0;

	call_leave(call);
	pthread_mutex_lock(&space->change);
	struct small_file *file = small_file_get(space, name);
	if (!file)
		r = -ENOENT;
	else if (small_file_is_open(file))
		r = small_file_load(file, &call->err); /* it outlives its frame */
	if (r == 0 && !file->temporary)
		r = space_log_unlink(space, name, &call->err);
	if (r == 0) {
		pthread_mutex_lock(&space->lock);
		small_file_unlink_locked(space, file, &unref);
		pthread_mutex_unlock(&space->lock);
	}
	pthread_mutex_unlock(&space->change);
	small_file_put(space, unref);
	small_file_put(space, file);
	return r;
}

/* With change held. The frames of a rename: what is temporary is in none. */
static int rename_log(struct space *space, struct small_file *file, const char *to,
		      struct reterr *err)
{
	bool from_kept = !file->temporary, to_kept = !small_file_name_is_temporary(to);

	if (!from_kept)
		return to_kept ? space_log_set(space, file, to, err) : 0;
	int r = space_log_flush(space, file, err);
	if (r == 0 && to_kept)
		return space_log_rename(space, file->name, to, err);
	/* It becomes a temporary one, whose content is nowhere but in memory. */
	if (r == 0)
		r = small_file_load(file, err);
	return r < 0 ? r : space_log_unlink(space, file->name, err);
}

/* With change held. */
static int rename_table(struct space *space, struct small_file *file, struct small_file *target,
			const char *to, struct reterr *err)
{
	struct small_file *unref = NULL;
	int r = 0;

	if (file->temporary && !small_file_name_is_temporary(to) && !target &&
	    space->linked >= SPACE_FILES_MAX)
		r = reterr_set(err, -ENOSPC, "space/ holds %d small files, which is the limit",
			       SPACE_FILES_MAX);
	if (r == 0 && target && small_file_is_open(target))
		r = small_file_load(target, err);
	if (r == 0)
		r = rename_log(space, file, to, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&space->lock);
	if (target)
		small_file_unlink_locked(space, target, &unref);
	strcpy(file->name, to);
	*space_names_of(space, file->temporary) -= 1;
	file->temporary = small_file_name_is_temporary(to);
	*space_names_of(space, file->temporary) += 1;
	pthread_mutex_unlock(&space->lock);
	small_file_put(space, unref);
	return 0;
}

int small_file_rename(struct call *call, const char *from, const char *to, unsigned flags)
{
	struct space *space = space_of(call);

	call_leave(call);
	pthread_mutex_lock(&space->change);
	struct small_file *file = small_file_get(space, from);
	struct small_file *target = small_file_get(space, to);
	int r = 0;
	if (!file)
		r = -ENOENT;
	else if (target && (flags & RENAME_NOREPLACE))
		r = -EEXIST;
	else if (file != target)
		r = rename_table(space, file, target, to, &call->err);
	pthread_mutex_unlock(&space->change);
	small_file_put(space, file);
	small_file_put(space, target);
	return r;
}
