/* protofs umount: unmounts, and returns when the next command can have the store. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <protofs/clock.h>

#include "cmd/args.h"
#include "cmd/flush.h"
#include "cmd/log.h"
#include "cmd/mountinfo.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/verb.h"

enum {
	OPTION_FLUSH = 256,
	WAIT_DEFAULT_MS = 60000,
	WAIT_SILENT_MS = 2000, /* a message then says what takes so long */
	POLL_MIN_MS = 1,
	POLL_MAX_MS = 50,
};

struct umount {
	const char *mountpoint;
	bool flush;
	bool lazy;
	uint64_t wait_ms;
};

static const struct argp_option umount_options[] = {
	{"flush", OPTION_FLUSH, NULL, 0, "Wait until everything is in the cloud, then unmount", 0},
	{"lazy", 'l', NULL, 0,
	 "Unmount also if files are open: they are served until they are closed", 0},
	{"wait", 'w', "TIME", 0, "How long to wait for the daemon (default 60s; 0: not at all)", 0},
	{0},
};

static error_t parse_umount(int key, char *arg, struct argp_state *state)
{
	struct umount *umount = state->input;
	switch (key) {
	case OPTION_FLUSH:
		umount->flush = true;
		return 0;
	case 'l':
		umount->lazy = true;
		return 0;
	case 'w':
		if (text_parse_duration(arg, 1000, &umount->wait_ms) < 0)
			argp_error(state, "'%s' is no time such as 30s or 5m", arg);
		return 0;
	default:
		return args_positional(state, key, arg, &umount->mountpoint, 1);
	}
}

static void sleep_ms(unsigned ms)
{
	const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
	(void)nanosleep(&pause, NULL);
}

/* The daemon commits and seals after the mount is gone, and holds the store until it is done. */
static int wait_closed(const char *store, uint64_t wait_ms)
{
	const struct clock *clock = clock_system();
	uint64_t start_ms = clock->now_ms(clock);
	unsigned pause_ms = POLL_MIN_MS;
	bool told = false;

	for (;;) {
		struct reterr err = {0};
		uint64_t waited_ms = clock->now_ms(clock) - start_ms;
		if (store_is_free(store, &err) != -EBUSY)
			return EXIT_CODE_DONE;
		if (waited_ms >= wait_ms) {
			log_error("'%s' is unmounted, but its store is not closed after %" PRIu64
				  " s: %s; it goes on by itself",
				  store, waited_ms / 1000, err.text);
			return EXIT_CODE_FAILED;
		}
		if (waited_ms >= WAIT_SILENT_MS && !told) {
			log_warning("unmounted; waiting until the daemon has closed '%s'", store);
			told = true;
		}
		sleep_ms(pause_ms);
		pause_ms = pause_ms * 2 < POLL_MAX_MS ? pause_ms * 2 : POLL_MAX_MS;
	}
}

/* The mount at PATH, or, as users also name it, the one of the store at PATH. */
static int find_mount(const char *path, struct mountinfo *ret)
{
	char *real;
	if (store_is_memory(path))
		return mountinfo_of(path, ret);
	int r = mountinfo_resolve(path, &real);
	if (r < 0)
		return r;
	r = mountinfo_at(real, ret);
	if (r == -ENOENT)
		r = mountinfo_of(real, ret);
	free(real);
	return r == -ENOENT ? -EINVAL : r;
}

static int unmount(const struct umount *umount, const struct mountinfo *mount)
{
	bool dead = mountinfo_is_dead(mount);
	int r = mountinfo_unmount(mount->mountpoint, umount->lazy || dead);

	if (r == -EBUSY)
		log_error(
			"cannot unmount '%s': it is busy: files in it are open, or somebody works "
			"there; `fuser -vm '%s'` shows who, --lazy unmounts nevertheless",
			mount->mountpoint, mount->mountpoint);
	else if (r == -EPERM)
		log_error("cannot unmount '%s': it belongs to another user", mount->mountpoint);
	else if (r == -EIO)
		log_error(
			"cannot unmount '%s': fusermount3 refuses; if it is busy, `fuser -vm '%s'` shows who has "
			"files open",
			mount->mountpoint, mount->mountpoint);
	else if (r < 0)
		log_error("cannot unmount '%s': %s", mount->mountpoint, strerror(-r));
	if (r < 0)
		return EXIT_CODE_FAILED;
	if (dead)
		log_info("'%s' was left by a daemon that is gone", mount->mountpoint);
	if (store_is_memory(mount->source) || umount->wait_ms == 0)
		return EXIT_CODE_DONE;
	return wait_closed(mount->source, umount->wait_ms);
}

int verb_umount(int argc, char **argv)
{
	static const struct argp argp = {
		.options = umount_options,
		.parser = parse_umount,
		.args_doc = "MNT",
		.doc = "Unmount the store that is mounted at MNT, and wait until its daemon has made "
		       "everything durable and closed it.\v"
		       "MNT may also be the store's own directory.",
	};
	struct umount umount = {.wait_ms = WAIT_DEFAULT_MS};
	struct mountinfo mount;

	args_parse(&argp, argc, argv, &umount);
	int r = find_mount(umount.mountpoint, &mount);
	if (r < 0) {
		log_error("cannot unmount '%s': %s", umount.mountpoint,
			  r == -EINVAL ? "no store is mounted there" : strerror(-r));
		return EXIT_CODE_FAILED;
	}
	int code = umount.flush ? flush_mount(mount.mountpoint) : EXIT_CODE_DONE;
	if (code == EXIT_CODE_DONE)
		code = unmount(&umount, &mount);
	mountinfo_done(&mount);
	return code;
}
