/*
 * .ctl/: what the store says about itself, and what it can be told.
 *
 *   status, stats.json, metrics, errors   texts, made when they are opened
 *   upload  the same, of a store that has a cloud
 *   sync    write 1: all that was written is durable when write(2) returns
 *   seal    write 1: every open part is sealed when write(2) returns
 *   flush   write 1: all that was durable is in the cloud when write(2) returns
 *   prune   write the number of the oldest root to keep, or "keep N"
 *   accept  write the UUID of a segment in wal/in that has no .sum; or "space": files of space/ whose
 *           changes cannot be read are given up
 *
 * A command is one write(2); its error is what the command came to. Sizes are 0, as nobody knows
 * them before.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "fs/cloud_status.h"
#include "fs/root_prune.h"
#include "fs/space.h"
#include "fs/status.h"
#include "fs/text.h"
#include "fs/view.h"
#include "fs/wal_in.h"

struct ctl {
	pthread_mutex_t lock;          /* a leaf */
	struct status_history history; /* lock */
};

static struct ctl *ctl_of(const struct fs *fs)
{
	return fs_state(fs, FS_MODULE_CTL);
}

/* ---- Texts ---------------------------------------------------------------------------------- */

static struct status_growth growth_now(struct call *call, const struct engine_stats *stats)
{
	struct ctl *ctl = ctl_of(call->fs);
	uint64_t now_ms = clock_system()->now_ms(clock_system());
	pthread_mutex_lock(&ctl->lock);
	status_sample(&ctl->history, now_ms, stats->bytes_appended);
	struct status_growth growth = status_growth(&ctl->history, now_ms, stats->bytes_appended);
	pthread_mutex_unlock(&ctl->lock);
	return growth;
}

/* RET, filled; NULL if the store has no cloud. */
static const struct cloud_status *cloud_now(struct call *call, struct cloud_status *ret)
{
	const struct fs_cloud *cloud = fs_options(call->fs)->cloud;
	if (!cloud)
		return NULL;
	*ret = (struct cloud_status){0};
	cloud->status(cloud->arg, ret);
	return ret;
}

static int make_status(struct call *call, struct buf *out)
{
	struct engine_stats stats;
	engine_stats(call->engine, &stats);
	struct status_growth growth = growth_now(call, &stats);
	struct cloud_status cloud;
	return status_as_text(&stats, &growth, cloud_now(call, &cloud),
			      clock_system()->wall_ns(clock_system()), out);
}

static int make_stats(struct call *call, struct buf *out)
{
	struct engine_stats stats;
	engine_stats(call->engine, &stats);
	struct status_growth growth = growth_now(call, &stats);
	struct cloud_status cloud;
	return status_as_json(&stats, &growth, cloud_now(call, &cloud),
			      clock_system()->wall_ns(clock_system()), out);
}

static int make_metrics(struct call *call, struct buf *out)
{
	struct engine_stats stats;
	engine_stats(call->engine, &stats);
	struct status_growth growth = growth_now(call, &stats);
	struct cloud_status cloud;
	return status_as_metrics(&stats, &growth, cloud_now(call, &cloud), out);
}

static int make_errors(struct call *call, struct buf *out)
{
	struct cloud_status status;
	const struct cloud_status *cloud = cloud_now(call, &status);
	int r = fs_errors_text(call->fs, out);
	return r < 0 || !cloud ? r : cloud_status_as_error(cloud, out);
}

static int make_upload(struct call *call, struct buf *out)
{
	struct cloud_status status;
	const struct cloud_status *cloud = cloud_now(call, &status);
	return cloud ? cloud_status_as_text(cloud, out) : -ENOENT;
}

/* ---- Commands: TEXT is what was written, without the white space around it ------------------- */

static int do_sync(struct call *call, const char *text)
{
	return strcmp(text, "1") == 0 ? engine_sync(call->engine, &call->err) : -EINVAL;
}

static int do_seal(struct call *call, const char *text)
{
	return strcmp(text, "1") == 0 ? engine_seal(call->engine, NULL, &call->err) : -EINVAL;
}

/*
 * In slices, so that the thread of a caller who has given up is not kept for as long as the cloud
 * is away.
 */
static int do_flush(struct call *call, const char *text)
{
	enum { SLICE_MS = 200 };
	const struct fs_cloud *cloud = fs_options(call->fs)->cloud;

	if (!cloud || strcmp(text, "1") != 0)
		return -EINVAL;
	int r = engine_sync(call->engine, &call->err);
	if (r == -EROFS && !call_interrupted(call))
		r = 0; /* what was accepted before is durable: flush says why the rest is not */
	if (r < 0)
		return r;
	do {
		r = cloud->flush(cloud->arg, SLICE_MS, &call->err);
	} while (r == -ETIMEDOUT && !call_interrupted(call));
	return r;
}

static int do_accept(struct call *call, const char *text)
{
	struct uuid uuid;
	if (strcmp(text, "space") == 0)
		return space_accept_loss(call);
	return uuid_parse(text, &uuid) == 0 ? wal_in_accept(call, &uuid) : -EINVAL;
}

static int do_prune(struct call *call, const char *text)
{
	return root_prune(call, text);
}

/* ---- Files ---------------------------------------------------------------------------------- */

/* One of both functions is there. */
struct ctl_file {
	const char *name;
	int (*make)(struct call *call, struct buf *out);
	int (*command)(struct call *call, const char *text);
	bool of_cloud; /* there only if the store has one */
};

static const struct ctl_file ctl_files[] = {
	{.name = "status", .make = make_status},
	{.name = "stats.json", .make = make_stats},
	{.name = "metrics", .make = make_metrics},
	{.name = "errors", .make = make_errors},
	{.name = "sync", .command = do_sync},
	{.name = "seal", .command = do_seal},
	{.name = "accept", .command = do_accept},
	{.name = "prune", .command = do_prune},
	{.name = "upload", .make = make_upload, .of_cloud = true},
	{.name = "flush", .command = do_flush, .of_cloud = true},
};

static bool is_there(const struct fs *fs, const struct ctl_file *file)
{
	return !file->of_cloud || fs_options(fs)->cloud;
}

static enum node_fixed id_of(size_t index)
{
	return (enum node_fixed)(NODE_FIXED_FREE + index);
}

static const struct ctl_file *file_of(const struct call *call)
{
	return &ctl_files[call->id - NODE_FIXED_FREE];
}

static int file_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	ret->attr_timeout = FS_FOREVER;
	attr_file(call->fs, &ret->attr, call->id, file_of(call)->make ? 0400 : 0200, 0,
		  fs_started_ns(call->fs));
	return 0;
}

/* A shell's `>` truncates; that and a new time mean nothing. */
static int file_setattr(struct call *call, const uint64_t *handle, const struct setting *setting,
			struct entry *ret)
{
	if (!file_of(call)->command || setting->valid & (SET_MODE | SET_UID | SET_GID))
		return -EPERM;
	return file_getattr(call, handle, ret);
}

static int file_open(struct call *call, int flags, struct opened *ret)
{
	const struct ctl_file *file = file_of(call);
	CLEANUP(buf_done) struct buf text = {.max = STATUS_TEXT_MAX};

	/* Root may open anything, but a text is no command. */
	if ((flags & O_ACCMODE) != (file->make ? O_RDONLY : O_WRONLY))
		return -EACCES;
	int r = file->make ? file->make(call, &text) : 0;
	return r < 0 ? r : text_open(call, &text, ret);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static int file_write(struct call *call, uint64_t handle, int flags, const void *data, size_t size,
		      uint64_t offset)
{
	const struct ctl_file *file = file_of(call);
	char text[UUID_TEXT_LENGTH + 8];
	const char *from = data;

	(void)handle;
	(void)flags;
	(void)offset;
	while (size > 0 && is_space(from[size - 1]))
		size--;
	while (size > 0 && is_space(from[0])) {
		from++;
		size--;
	}
	if (!file->command || size == 0 || size >= sizeof(text) || memchr(from, '\0', size))
		return -EINVAL;
	memcpy(text, from, size);
	text[size] = '\0';
	call_block(call);
	return file->command(call, text);
}

static const struct view view_ctl_file = {
	.name = "file of .ctl",
	.getattr = file_getattr,
	.setattr = file_setattr,
	.open = file_open,
	.read = text_read,
	.write = file_write,
	.release = text_release,
};

/* ---- The directory -------------------------------------------------------------------------- */

static int ctl_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	ret->attr_timeout = FS_FOREVER;
	attr_directory(call->fs, &ret->attr, call->id, 0700, 0);
	return 0;
}

static int ctl_lookup(struct call *call, const char *name, struct entry *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(ctl_files); i++) {
		if (is_there(call->fs, &ctl_files[i]) && strcmp(name, ctl_files[i].name) == 0)
			return fs_entry_of(call, id_of(i), ret);
	}
	return -ENOENT;
}

static int ctl_readdir(struct call *call, uint64_t handle, uint64_t offset, struct listing *listing)
{
	(void)handle;
	for (size_t i = offset; i < ARRAY_SIZE(ctl_files); i++) {
		struct entry entry = {0};
		if (!is_there(call->fs, &ctl_files[i]))
			continue;
		int r = fs_entry_of(call, id_of(i), &entry);
		if (r < 0)
			return r;
		if (!listing_add(listing, ctl_files[i].name, &entry, i + 1))
			return 0;
	}
	return 0;
}

static const struct view view_ctl = {
	.name = ".ctl",
	.getattr = ctl_getattr,
	.lookup = ctl_lookup,
	.readdir = ctl_readdir,
};

static int module_ctl_start(struct fs *fs, struct reterr *err, void **ret_state)
{
	struct ctl *ctl = calloc(1, sizeof(*ctl));
	if (!ctl)
		return reterr_set(err, -ENOMEM, "no memory for .ctl/");
	pthread_mutex_init(&ctl->lock, NULL);
	status_sample(&ctl->history, clock_system()->now_ms(clock_system()), 0);
	fs_add_fixed(fs, NODE_CTL, &view_ctl);
	for (size_t i = 0; i < ARRAY_SIZE(ctl_files); i++)
		fs_add_fixed(fs, id_of(i), &view_ctl_file);
	*ret_state = ctl;
	return 0;
}

static void module_ctl_stop(struct fs *fs, void *state)
{
	struct ctl *ctl = state;
	(void)fs;
	pthread_mutex_destroy(&ctl->lock);
	free(ctl);
}

const struct module module_ctl = {.start = module_ctl_start, .stop = module_ctl_stop};
