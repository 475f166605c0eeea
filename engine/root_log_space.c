/*
 * Room for the root log: files, the space ahead of the publisher, the file "kept". Bytes and
 * invariants: root_log_format.c.
 *
 * Two threads make room: the publisher, when it finds none, and prepare_ahead before that happens.
 * They meet at two flags, so that no block is ever written by both:
 *   zeroing    prepare_ahead writes zeros from `ready` on; the publisher waits before it goes there
 *   spare BUSY one of them works with the spare file; the other one waits (publisher) or leaves
 *   (prepare_ahead)
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "engine/root_log.h"
#include "engine/root_log_state.h"

enum { ZEROS_SIZE = 64 << 10 };

/* Not const, so that it takes no room in the program's file. */
static _Alignas(DISK_BLOCK_SIZE) uint8_t zeros[ZEROS_SIZE];

int root_log_write_zeros(struct disk_file *file, uint64_t from, uint64_t to)
{
	while (from < to) {
		uint64_t size = to - from < ZEROS_SIZE ? to - from : ZEROS_SIZE;
		struct iovec iov = {.iov_base = zeros, .iov_len = (size_t)size};
		struct disk_job job = {
			.file = file,
			.writes = {{.iov = &iov, .iov_count = 1, .offset = from}},
			.write_count = 1,
			.no_flush = true, /* in slices, so that no publication waits for a window */
		};
		int r = disk_commit(file->disk, &job, 1);
		if (r < 0)
			return r;
		from += size;
	}
	return disk_flush(file);
}

int root_log_write_kept(struct disk *disk, const struct root_log_kept *kept)
{
	uint8_t bytes[ROOT_LOG_KEPT_SIZE];
	root_log_encode_kept(kept, bytes);
	return disk_replace_file(disk, ROOT_LOG_DIR, ROOT_LOG_KEPT_PATH, bytes, sizeof(bytes));
}

int root_log_add_file(struct root_log *log, uint64_t first)
{
	if (log->file_count == log->file_capacity) {
		size_t capacity = log->file_capacity ? log->file_capacity * 2 : 16;
		if (capacity > ROOT_LOG_FILES_MAX)
			return -ENFILE;
		uint64_t *firsts = realloc(log->firsts, capacity * sizeof(*firsts));
		if (!firsts)
			return -ENOMEM;
		log->firsts = firsts;
		log->file_capacity = capacity;
	}
	log->firsts[log->file_count++] = first;
	return 0;
}

/* ---- The spare file ---- */

/*
 * A file of zeros at PATH with SIZE bytes of space. ZEROED: written, so that an overwrite allocates
 * nothing.
 */
static int make_file(struct disk *disk, const char *path, uint64_t size, bool zeroed)
{
	struct disk_file *file;
	int r = disk_open(disk, path, DISK_WRITE | DISK_CREATE | DISK_REPLACE | DISK_DIRECT, &file);
	if (r < 0)
		return r;
	r = disk_reserve(file, 0, size);
	if (r == 0)
		r = zeroed ? root_log_write_zeros(file, 0, size) : disk_flush(file);
	disk_close(file);
	return r;
}

/* Takes the spare file for this thread. WAIT for another one that has it, or -EAGAIN. */
static int spare_take(struct root_log *log, bool wait, enum root_log_spare *ret_was)
{
	int r = 0;
	pthread_mutex_lock(&log->lock);
	while (wait && log->spare == ROOT_LOG_SPARE_BUSY)
		pthread_cond_wait(&log->changed, &log->lock);
	if (log->spare == ROOT_LOG_SPARE_BUSY) {
		r = -EAGAIN;
	} else {
		*ret_was = log->spare;
		log->spare = ROOT_LOG_SPARE_BUSY;
	}
	pthread_mutex_unlock(&log->lock);
	return r;
}

static void spare_give(struct root_log *log, enum root_log_spare state)
{
	pthread_mutex_lock(&log->lock);
	log->spare = state;
	pthread_cond_broadcast(&log->changed);
	pthread_mutex_unlock(&log->lock);
}

/* ---- A new current file ---- */

/* The spare file, or one made now, gets its name. RET_READY is the space that it has. */
static int name_spare(struct root_log *log, const char *path, uint64_t *ret_ready)
{
	enum root_log_spare was;
	int r = spare_take(log, true, &was);
	if (r < 0)
		return r;
	*ret_ready = was == ROOT_LOG_SPARE_READY ? ROOT_LOG_WINDOW_SIZE : ROOT_LOG_STEP_SIZE;
	if (was != ROOT_LOG_SPARE_READY)
		r = make_file(log->disk, ROOT_LOG_SPARE_PATH, *ret_ready, false);
	if (r == 0)
		r = disk_rename(log->disk, ROOT_LOG_SPARE_PATH, path);
	if (r == 0)
		r = disk_sync_dir(log->disk, ROOT_LOG_DIR);
	spare_give(log, ROOT_LOG_SPARE_NONE);
	return r;
}

int root_log_roll(struct root_log *log, uint64_t seq)
{
	char path[ROOT_LOG_PATH_SIZE];
	struct disk_file *file;
	uint64_t ready;
	int r = name_spare(log, root_log_path(seq, path), &ready);
	if (r == 0)
		r = disk_open(log->disk, path, DISK_WRITE | DISK_DIRECT, &file);
	if (r < 0)
		return r;

	pthread_mutex_lock(&log->lock);
	/* It is there already when the very first record of that file had failed. */
	if (log->firsts[log->file_count - 1] != seq)
		r = root_log_add_file(log, seq);
	if (r == 0) {
		log->ready = ready;
		log->generation++;
		log->poisoned = false;
		log->block_seq = seq;
		memset(log->block, 0, DISK_BLOCK_SIZE);
	}
	pthread_mutex_unlock(&log->lock);
	if (r < 0) {
		disk_close(file);
		return r;
	}
	disk_close(log->file);
	log->file = file;
	log->first = seq;
	return 0;
}

int root_log_make_room(struct root_log *log, uint64_t size)
{
	invariant(size <= ROOT_LOG_FILE_SIZE);
	pthread_mutex_lock(&log->lock);
	while (size > log->ready && log->zeroing)
		pthread_cond_wait(&log->changed, &log->lock);
	uint64_t ready = log->ready;
	/* From here on prepare_ahead must not claim what we are about to use. */
	log->zeroing |= size > ready;
	pthread_mutex_unlock(&log->lock);
	if (size <= ready)
		return 0;

	uint64_t to = ready + ROOT_LOG_STEP_SIZE;
	if (to < size)
		to = size;
	if (to > ROOT_LOG_FILE_SIZE)
		to = ROOT_LOG_FILE_SIZE;
	int r = disk_reserve(log->file, ready, to - ready);

	pthread_mutex_lock(&log->lock);
	if (r == 0)
		log->ready = to;
	log->zeroing = false;
	pthread_cond_broadcast(&log->changed);
	pthread_mutex_unlock(&log->lock);
	return r;
}

/* ---- Ahead of the publisher ---- */

/* What prepare_ahead is to write; taken and given back under the lock. */
struct window {
	uint64_t first;
	uint64_t generation;
	uint64_t from, to;
};

static bool window_claim(struct root_log *log, struct window *ret)
{
	pthread_mutex_lock(&log->lock);
	uint64_t first = log->firsts[log->file_count - 1];
	uint64_t next = log->last.record.root.seq + 1;
	uint64_t used = next > first ? (next - first) * ROOT_LOG_RECORD_SIZE : 0;
	bool needed = !log->poisoned && !log->zeroing && log->ready < ROOT_LOG_FILE_SIZE &&
		      log->ready < used + ROOT_LOG_WINDOW_SIZE / 2;
	if (needed) {
		uint64_t to = log->ready + ROOT_LOG_WINDOW_SIZE;
		*ret = (struct window){
			.first = first,
			.generation = log->generation,
			.from = log->ready,
			.to = to < ROOT_LOG_FILE_SIZE ? to : ROOT_LOG_FILE_SIZE,
		};
		log->zeroing = true;
	}
	pthread_mutex_unlock(&log->lock);
	return needed;
}

static void window_give(struct root_log *log, const struct window *window, bool done)
{
	pthread_mutex_lock(&log->lock);
	if (done && log->generation == window->generation)
		log->ready = window->to;
	log->zeroing = false;
	pthread_cond_broadcast(&log->changed);
	pthread_mutex_unlock(&log->lock);
}

/*
 * Through a descriptor of its own: a failed flush is reported once to each descriptor, and the
 * publisher must not miss what was told to us.
 */
static int write_window(struct root_log *log, const struct window *window)
{
	char path[ROOT_LOG_PATH_SIZE];
	struct disk_file *file;
	int r = disk_open(log->disk, root_log_path(window->first, path), DISK_WRITE | DISK_DIRECT,
			  &file);
	if (r < 0)
		return r;
	r = disk_reserve(file, window->from, window->to - window->from);
	if (r == 0)
		r = root_log_write_zeros(file, window->from, window->to);
	disk_close(file);
	return r;
}

static int make_spare(struct root_log *log)
{
	enum root_log_spare was;
	int r = spare_take(log, false, &was);
	if (r < 0)
		return 0; /* the publisher has it */
	if (was == ROOT_LOG_SPARE_NONE)
		r = make_file(log->disk, ROOT_LOG_SPARE_PATH, ROOT_LOG_WINDOW_SIZE, true);
	spare_give(log, r == 0 ? ROOT_LOG_SPARE_READY : ROOT_LOG_SPARE_NONE);
	return r;
}

int root_log_prepare_ahead(struct root_log *log)
{
	struct window window;
	int r = 0;
	if (log->read_only)
		return 0;
	if (window_claim(log, &window)) {
		r = write_window(log, &window);
		window_give(log, &window, r == 0);
	}
	int spare = make_spare(log);
	return r < 0 ? r : spare;
}
