#include "cmd/serve.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <protofs/clock.h>

#include "cmd/daemon.h"
#include "cmd/log.h"
#include "cmd/mountinfo.h"
#include "cmd/options.h"
#include "cmd/store.h"
#include "cmd/store_cloud.h"
#include "cmd/text.h"
#include "cmd/verb.h"
#include "engine/engine.h"
#include "fs/cloud_status.h"
#include "fs/fs.h"

enum {
	BUSY_WAIT_MS = 5000, /* for a daemon that has just been unmounted and still commits */
	BUSY_POLL_MS = 20,
	DESCRIPTORS = 16384,
	BUFFERS_MMAPPED = 128 << 10, /* larger ones go back to the kernel when they are freed */
};

/*
 * The filesystem that a signal stops and the engine reports to; NULL before and after. `reporting`
 * keeps it alive while a thread of the engine is in it. The signal handler needs no lock: the
 * engine's threads block its signals, and the filesystem's own threads have ended before it is
 * freed.
 */
static _Atomic(struct fs *) serving;
static pthread_mutex_t reporting = PTHREAD_MUTEX_INITIALIZER;

static const int stop_signals[] = {SIGTERM, SIGINT, SIGHUP};

static void on_stop_signal(int number)
{
	int saved_errno = errno;
	struct fs *fs = atomic_load(&serving);
	(void)number;
	if (fs)
		fs_stop(fs);
	errno = saved_errno;
}

static void handle_stops(void (*handler)(int number))
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
	(void)sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < ARRAY_SIZE(stop_signals); i++)
		(void)sigaction(stop_signals[i], &action, NULL);
}

/* HOW is SIG_BLOCK or SIG_UNBLOCK: for this thread, and for those that it will start. */
static void mask_stops(int how)
{
	sigset_t set;
	(void)sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(stop_signals); i++)
		(void)sigaddset(&set, stop_signals[i]);
	(void)pthread_sigmask(how, &set, NULL);
}

/* What the filesystem has entered in .ctl/errors. */
static void log_event(void *arg, const struct reterr *event)
{
	(void)arg;
	log_warning("%s", event->text);
}

/*
 * What the engine did that nobody waited for. The filesystem, once there is one, passes it on to
 * log_event.
 */
static void report(void *arg, const struct reterr *event)
{
	(void)pthread_mutex_lock(&reporting);
	struct fs *fs = atomic_load(&serving);
	if (fs)
		fs_report(fs, event);
	(void)pthread_mutex_unlock(&reporting);
	if (!fs)
		log_event(arg, event);
}

static void set_serving(struct fs *fs)
{
	(void)pthread_mutex_lock(&reporting);
	atomic_store(&serving, fs);
	(void)pthread_mutex_unlock(&reporting);
}

static int open_once(const struct serve *serve, struct store *ret, struct reterr *err)
{
	const struct options *options = serve->options;
	const struct engine_options engine_options = {
		.read_only = options->read_only,
		.strict_root = options->strict_root,
		.flush_interval_ms = options->flush_interval_ms,
		.segment_size_max = options->segment_size_max,
		.cache_size_max = options->cache_size_max,
		.report = report,
		.take_over = options->take_over,
	};
	int r = store_disk(serve->store, options->memory_size, err, ret);
	if (r < 0)
		return r;
	r = store_open_with_cloud(ret, serve->store, &options->settings, STORE_CLOUD_UPLOAD,
				  &engine_options, err);
	if (r == 0 && ret->cloud && !options->read_only && !store_is_memory(serve->store))
		r = settings_remember(serve->store, &options->settings, err);
	if (r < 0)
		store_abandon(ret);
	return r;
}

/* Who holds the store and has no mount of it is about to let it go: wait a little. */
static int open_store(const struct serve *serve, struct store *ret, struct reterr *err)
{
	const struct clock *clock = clock_system();
	const struct timespec pause = {.tv_nsec = BUSY_POLL_MS * 1000000L};
	uint64_t start_ms = clock->now_ms(clock);

	for (;;) {
		struct mountinfo mount;
		int r = open_once(serve, ret, err);
		if (r != -EBUSY)
			return r;
		if (mountinfo_of(serve->store, &mount) == 0) {
			const struct reterr cause = *err;
			(void)reterr_set(err, r, "it is mounted at '%.200s' already: %.200s",
					 mount.mountpoint, cause.text);
			mountinfo_done(&mount);
			return r;
		}
		if (clock->now_ms(clock) - start_ms >= BUSY_WAIT_MS)
			return r;
		(void)nanosleep(&pause, NULL);
	}
}

static void tell_state(const struct serve *serve, struct engine *engine)
{
	struct engine_stats stats;
	engine_stats(engine, &stats);
	if (stats.recovered)
		log_info("'%s' was not closed cleanly: recovered", serve->store);
	if (stats.clone && stats.read_only)
		log_warning(
			"'%s' is a clone and read-only: `protofs mount -o take_over` makes it the "
			"one that goes on, when the store that it was made of no longer does",
			serve->store);
	else if (stats.copied && stats.read_only)
		log_warning(
			"'%s' was copied or moved and is read-only: `protofs mount -o take_over` "
			"makes it the one that goes on, if no other copy does",
			serve->store);
	else if (stats.read_only && !serve->options->read_only)
		log_warning("'%s' is mounted read-only: %s%s", serve->store, stats.read_only_reason,
			    stats.damaged ? "; unmount it and see `protofs fsck`" : "");
}

/* From here on nobody looks at the terminal. */
static int leave_terminal(struct serve *serve, struct reterr *err)
{
	const char *path = serve->options->log_path;
	int r = path ? log_to_file(path) : 0;
	if (r < 0)
		return reterr_set(err, r, "cannot write the log '%.300s': %s", path, strerror(-r));
	if (!serve->daemon)
		return 0;
	if (!path)
		log_to_syslog();
	daemon_ready(serve->daemon);
	return 0;
}

static int serve_mounted(struct serve *serve, struct fs *fs, struct engine *engine)
{
	struct reterr err = {0};
	int r = fs_mount(fs, &err);
	if (r == 0) {
		tell_state(serve, engine);
		r = leave_terminal(serve, &err);
	}
	if (r < 0) {
		log_error("cannot mount '%s' at '%s': %s", serve->store, serve->mountpoint,
			  store_why(&err, r));
		return EXIT_CODE_FAILED;
	}
	log_info("'%s' is mounted at '%s'", serve->store, serve->mountpoint);
	r = fs_run(fs, &err);
	if (r < 0)
		log_error("'%s' ends: %s", serve->mountpoint, store_why(&err, r));
	return r < 0 ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
}

static int serve_engine(struct serve *serve, struct store *store)
{
	const struct options *options = serve->options;
	const struct fs_options fs_options = {
		.mountpoint = serve->mountpoint,
		.store = serve->store,
		.fuse_options = options->fuse.size ? (const char *)options->fuse.data : NULL,
		.read_only = options->read_only,
		.noprotect = options->noprotect,
		.strict_root = options->strict_root,
		.fence_root = options->fence_root,
		.allow_other = options->allow_other,
		.auto_unmount = options->auto_unmount,
		.debug = options->debug,
		.uid_set = options->uid_set,
		.gid_set = options->gid_set,
		.uid = options->uid,
		.gid = options->gid,
		.receivers = (unsigned)options->receivers,
		.spin_us = (unsigned)options->spin_us,
		.blob_size_max = options->blob_size_max,
		.read_ahead_size = options->read_ahead_size,
		.appends_wait = options->settings.disk_max > 0,
		.cloud = store->cloud ? store_cloud_fs(store->cloud) : NULL,
		.log = log_event,
	};
	struct engine *engine = store->engine;
	struct reterr err = {0};
	struct fs *fs;

	int r = fs_new(engine, &fs_options, &err, &fs);
	if (r < 0) {
		log_error("cannot mount '%s': %s", serve->store, store_why(&err, r));
		return EXIT_CODE_FAILED;
	}
	set_serving(fs);
	handle_stops(on_stop_signal);
	mask_stops(SIG_UNBLOCK);
	int code = serve_mounted(serve, fs, engine);
	/* A second signal must not end the commit that the first one asked for. */
	handle_stops(SIG_IGN);
	fs_unmount(fs);
	set_serving(NULL); /* from here on the engine reports to the log */
	fs_free(fs);
	return code;
}

/*
 * Each open part takes a descriptor, each sealed one in use three: with many segments, more than
 * the 1,024 that a shell gives. What cannot be had is found when it is missed.
 */
static void raise_descriptors(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= DESCRIPTORS)
		return;
	limit.rlim_cur = limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* What is on this disk only is worth a line: the machine may not come back. */
static void tell_behind(const struct serve *serve, struct store *store)
{
	char bytes[TEXT_SIZE_LENGTH];
	struct cloud_status status;

	if (!store->cloud)
		return;
	const struct fs_cloud *cloud = store_cloud_fs(store->cloud);
	cloud->status(cloud->arg, &status);
	if (status.bytes_behind)
		log_warning(
			"'%s' ends with %s that are not in its cloud yet: the next mount uploads "
			"them (`protofs umount --flush` waits for it)",
			serve->store, text_size(status.bytes_behind, bytes));
}

int serve_run(struct serve *serve)
{
	struct reterr err = {0};
	struct store store;

	(void)signal(SIGPIPE, SIG_IGN);
	mask_stops(SIG_BLOCK);
	raise_descriptors();
	/*
	 * Set, so that it does not grow with the first large buffer that is freed: from then on
	 * such buffers would stay in each thread's heap, 170 MB of them after a GiB.
	 */
	(void)mallopt(M_MMAP_THRESHOLD, BUFFERS_MMAPPED);
	int r = open_store(serve, &store, &err);
	if (r < 0) {
		log_error("cannot mount '%s': %s", serve->store, store_why(&err, r));
		return r == -EINVAL ? EXIT_CODE_USAGE : EXIT_CODE_FAILED;
	}
	int code = serve_engine(serve, &store);
	tell_behind(serve, &store);
	r = store_close(&store, &err);
	if (r < 0) {
		log_error("'%s' was not closed cleanly: %s", serve->store, store_why(&err, r));
		return EXIT_CODE_FAILED;
	}
	log_info("'%s' is unmounted and closed", serve->store);
	return code;
}
