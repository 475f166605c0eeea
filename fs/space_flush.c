/*
 * Small files whose writer neither closes nor syncs them: a thread records what they hold, so that
 * a crash costs an interval. The same thread compacts.
 */
#include <errno.h>
#include <time.h>

#include "fs/space.h"

/* A dirty file with a reference, or NULL. */
static struct small_file *flusher_next(struct space *space)
{
	pthread_mutex_lock(&space->lock);
	struct small_file *file = space->files;
	while (file && !(file->dirty && file->linked))
		file = file->next;
	if (file)
		node_ref(&file->node, 1);
	pthread_mutex_unlock(&space->lock);
	return file;
}

static void flusher_flush(struct space *space)
{
	struct small_file *file;
	while ((file = flusher_next(space)) != NULL) {
		struct reterr why = {0};
		pthread_mutex_lock(&space->change);
		int r = space_log_flush(space, file, &why);
		pthread_mutex_unlock(&space->change);
		node_unref(fs_nodes(space->fs), &file->node, 1);
		if (r < 0) {
			fs_report(space->fs, &why);
			return; /* it stays dirty: its writer hears of it at its close */
		}
	}
}

/* With the lock held: sleeps for the interval or until the end. */
static void flusher_pause(struct space *space)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += SPACE_FLUSH_INTERVAL_MS / 1000;
	until.tv_nsec += SPACE_FLUSH_INTERVAL_MS % 1000 * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	while (!space->flusher_ends &&
	       pthread_cond_timedwait(&space->flusher_wake, &space->lock, &until) != ETIMEDOUT)
		;
}

static void flusher_compact(struct space *space)
{
	/* Most of the time it is not, and nobody need wait for that. */
	if (!space_compact_due(space, SPACE_COMPACT_MIN))
		return;
	pthread_mutex_lock(&space->change);
	space_compact(space, SPACE_COMPACT_MIN);
	pthread_mutex_unlock(&space->change);
}

static void *flusher_run(void *arg)
{
	struct space *space = arg;
	bool ends = false;

	while (!ends) {
		pthread_mutex_lock(&space->lock);
		while (!space->flusher_needed && !space->flusher_ends)
			pthread_cond_wait(&space->flusher_wake, &space->lock);
		flusher_pause(space);
		space->flusher_needed = false;
		ends = space->flusher_ends;
		pthread_mutex_unlock(&space->lock);
		flusher_flush(space);
		if (!ends) /* else the next start does it */
			flusher_compact(space);
	}
	return NULL;
}

void space_flusher_wake_locked(struct space *space)
{
	if (space->flusher_needed)
		return;
	space->flusher_needed = true;
	pthread_cond_signal(&space->flusher_wake);
}

int space_flusher_start(struct space *space)
{
	int r = -pthread_create(&space->flusher, NULL, flusher_run, space);
	space->flusher_runs = r == 0;
	return r;
}

void space_flusher_stop(struct space *space)
{
	if (!space->flusher_runs)
		return;
	pthread_mutex_lock(&space->lock);
	space->flusher_ends = true;
	pthread_cond_signal(&space->flusher_wake);
	pthread_mutex_unlock(&space->lock);
	pthread_join(space->flusher, NULL);
	space->flusher_runs = false;
}
