/* A filesystem from its start to its end; session.c mounts it. */
#include "fs/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <protofs/clock.h>

#include "fs/core.h"
#include "fs/crew.h"
#include "fs/errors.h"
#include "fs/flock.h"
#include "fs/text.h"

#define READ_AHEAD_SIZE_DEFAULT ((uint64_t)8 << 20)

/*
 * On two processors one receiver was faster than two with 1, 4 and 8 clients: what waits leaves the
 * role, so the rest is shorter than waking a second thread.
 */
static unsigned receivers_default(void)
{
	enum { RECEIVERS_MAX = 4 };
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	if (processors < 4)
		return 1;
	return processors / 2 < RECEIVERS_MAX ? (unsigned)(processors / 2) : RECEIVERS_MAX;
}

static void options_fill(struct fs *fs, const struct fs_options *options)
{
	fs->options = *options;
	if (fs->options.receivers == 0)
		fs->options.receivers = receivers_default();
	if (fs->options.blob_size_max == 0)
		fs->options.blob_size_max = FS_BLOB_SIZE_MAX_DEFAULT;
	if (fs->options.read_ahead_size == 0)
		fs->options.read_ahead_size = READ_AHEAD_SIZE_DEFAULT;
	fs->uid = options->uid_set ? options->uid : getuid();
	fs->gid = options->gid_set ? options->gid : getgid();
}

static void stop_waiting_for_cloud(void *arg)
{
	const struct fs *fs = arg;
	if (fs->options.cloud)
		fs->options.cloud->stop(fs->options.cloud->arg);
}

static int parts_new(struct fs *fs)
{
	struct crew_options crew = {.receivers = fs->options.receivers,
				    .spin_us = fs->options.spin_us,
				    .ready = session_ready,
				    .ending = stop_waiting_for_cloud,
				    .arg = fs};
	int r = error_ring_new(&fs->errors);
	if (r == 0)
		r = node_table_new(&fs->nodes);
	if (r == 0)
		r = text_table_new(&fs->texts);
	if (r == 0)
		r = flock_table_new(&fs->flocks);
	if (r == 0)
		r = crew_new(&crew, &fs->crew);
	return r;
}

static int modules_start(struct fs *fs, struct reterr *err)
{
	int r = 0;
	for (size_t i = 0; i < FS_MODULES && r == 0; i++) {
		if (fs_modules[i])
			r = fs_modules[i]->start(fs, err, &fs->states[i]);
	}
	return r;
}

int fs_new(struct engine *e, const struct fs_options *options, struct reterr *err, struct fs **ret)
{
	struct fs *fs = calloc(1, sizeof(*fs));
	if (!fs)
		return -ENOMEM;
	fs->engine = e;
	fs->started_ns = clock_system()->wall_ns(clock_system());
	options_fill(fs, options);

	int r = parts_new(fs);
	if (r == 0)
		r = modules_start(fs, err);
	if (r < 0) {
		fs_free(fs);
		return r;
	}
	*ret = fs;
	return 0;
}

void fs_free(struct fs *fs)
{
	if (!fs)
		return;
	fs_unmount(fs);
	for (size_t i = FS_MODULES; i-- > 0;) {
		if (fs_modules[i] && fs_modules[i]->stop && fs->states[i])
			fs_modules[i]->stop(fs, fs->states[i]);
	}
	node_table_free(fs->nodes);
	text_table_free(fs->texts);
	crew_free(fs->crew);
	flock_table_free(fs->flocks);
	error_ring_free(fs->errors);
	free(fs);
}

void fs_stop(struct fs *fs)
{
	crew_stop(fs->crew);
}

void fs_report(struct fs *fs, const struct reterr *event)
{
	const struct clock *clock = clock_system();
	bool is_new = error_ring_add(fs->errors, event, clock->wall_ns(clock));
	if (is_new && fs->options.log)
		fs->options.log(fs->options.log_arg, event);
}

int fs_errors_text(struct fs *fs, struct buf *out)
{
	return error_ring_text(fs->errors, out);
}
