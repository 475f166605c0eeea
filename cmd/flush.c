#include "cmd/flush.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <yajl/yajl_tree.h>

#include "base/buf.h"
#include "cmd/io.h"
#include "cmd/log.h"
#include "cmd/progress.h"
#include "cmd/verb.h"

enum { STATS_SIZE_MAX = 1 << 20, POLL_MS = 100, REASON_SIZE = 512 };

struct flush {
	const char *mountpoint;
	int top;          /* the mountpoint */
	int fd;           /* .ctl/flush */
	atomic_bool done; /* the write has returned */
	int result;       /* what it returned; valid once `done` */
	bool warned;      /* that the cloud is away */
	bool started;     /* progress is shown */
	uint64_t total;   /* bytes that were behind first */
};

/* The daemon answers when all is there. A thread of its own, so that progress can be shown. */
static void *run_flush(void *arg)
{
	struct flush *flush = arg;
	ssize_t n = write(flush->fd, "1", 1);
	flush->result = n == 1 ? 0 : -errno;
	atomic_store(&flush->done, true);
	return NULL;
}

static const char *string_at(yajl_val stats, const char *a, const char *b, const char *c)
{
	const char *path[] = {a, b, c, NULL};
	yajl_val value = yajl_tree_get(stats, path, yajl_t_string);
	return value ? YAJL_GET_STRING(value) : "";
}

/* What the cloud says now, as a tree to be freed; NULL: nobody can tell. */
static yajl_val read_stats(const struct flush *flush)
{
	CLEANUP(buf_done) struct buf text = {.max = STATS_SIZE_MAX};
	char why[REASON_SIZE];

	if (io_read_file(flush->top, ".ctl/stats.json", &text) < 0 || buf_append(&text, "", 1) < 0)
		return NULL;
	return yajl_tree_parse((const char *)text.data, why, sizeof(why));
}

static void show(struct flush *flush)
{
	const char *behind_path[] = {"cloud", "bytes_behind", NULL};
	yajl_val stats = read_stats(flush);
	yajl_val behind = stats ? yajl_tree_get(stats, behind_path, yajl_t_number) : NULL;
	const char *state = stats ? string_at(stats, "cloud", "state", NULL) : "";
	const char *why = stats ? string_at(stats, "cloud", "error", "text") : "";

	if (behind && YAJL_IS_INTEGER(behind) && YAJL_GET_INTEGER(behind) >= 0) {
		uint64_t bytes = (uint64_t)YAJL_GET_INTEGER(behind);
		if (!flush->started)
			progress_begin("uploading", flush->total = bytes);
		flush->started = true;
		if (bytes > flush->total)
			progress_total(flush->total = bytes);
		progress_at(flush->total - bytes);
	}
	bool away = strcmp(state, "waiting") == 0 || strcmp(state, "paused") == 0;
	if (away && *why && !flush->warned) {
		log_warning("'%s': the upload is held up: %s; waiting (interrupt it to go on "
			    "without: the next mount uploads the rest)",
			    flush->mountpoint, why);
		flush->warned = true;
	}
	yajl_tree_free(stats);
}

/* Why the daemon refused, as it shows it itself. */
static void log_failure(const struct flush *flush)
{
	yajl_val stats = read_stats(flush);
	const char *why = stats ? string_at(stats, "cloud", "error", "text") : "";
	const char *reason = stats ? string_at(stats, "read_only_reason", NULL, NULL) : "";

	if (!*why)
		why = *reason                   ? reason
		      : flush->result == -EROFS ? "the mount is read-only and uploads nothing"
						: strerror(-flush->result);
	log_error("cannot flush '%s' to its cloud: %s; it is still mounted", flush->mountpoint,
		  why);
	yajl_tree_free(stats);
}

static int flush_opened(struct flush *flush)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
	pthread_t thread;

	int r = -pthread_create(&thread, NULL, run_flush, flush);
	if (r < 0) {
		log_error("cannot flush '%s': %s", flush->mountpoint, strerror(-r));
		return EXIT_CODE_FAILED;
	}
	while (!atomic_load(&flush->done)) {
		show(flush);
		(void)nanosleep(&pause, NULL);
	}
	(void)pthread_join(thread, NULL);
	progress_end();
	if (flush->result < 0)
		log_failure(flush);
	else
		log_info("all of '%s' is in its cloud", flush->mountpoint);
	return flush->result < 0 ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
}

int flush_mount(const char *mountpoint)
{
	struct flush flush = {.mountpoint = mountpoint};
	CLEANUP(io_close) int top = open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(io_close)
	int fd = top < 0 ? -errno : openat(top, ".ctl/flush", O_WRONLY | O_CLOEXEC);
	int r = fd < 0 ? -errno : 0;

	if (r == -ENOENT) {
		log_error("cannot unmount '%s' with --flush: its store has no cloud to flush to",
			  mountpoint);
		return EXIT_CODE_USAGE;
	}
	if (r < 0) {
		log_error("cannot flush '%s': %s", mountpoint, strerror(-r));
		return EXIT_CODE_FAILED;
	}
	flush.top = top;
	flush.fd = fd;
	return flush_opened(&flush);
}
