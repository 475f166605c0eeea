/*
 * protofs restore: makes a store of a backup. It is built beside its place, under STORE.partial,
 * and takes its name when it is whole, so that no half of a store can be mistaken for one.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "cmd/args.h"
#include "cmd/backup_dir.h"
#include "cmd/io.h"
#include "cmd/log.h"
#include "cmd/progress.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/verb.h"
#include "engine/engine.h"

struct restore {
	const char *slots[2]; /* DIR STORE */
	bool accept;
	bool json;
	struct backup_dir dir;
	char partial[PATH_MAX];
	struct engine *engine;
	uint8_t *chunk; /* ENGINE_SUM_SIZE bytes */
	uint64_t total, segments, bytes, unverified;
	struct reterr *err; /* where the listing's callback leaves its own */
};

static const struct argp_option restore_options[] = {
	{"accept", 'a', NULL, 0,
	 "Take segments also without a .sum, or shorter than it: nobody can tell whether they are whole",
	 0},
	{"json", 'j', NULL, 0, "Print the summary as JSON", 0},
	{0},
};

static error_t parse_restore(int key, char *arg, struct argp_state *state)
{
	struct restore *restore = state->input;
	switch (key) {
	case 'a':
		restore->accept = true;
		return 0;
	case 'j':
		restore->json = true;
		return 0;
	default:
		return args_positional(state, key, arg, restore->slots, ARRAY_SIZE(restore->slots));
	}
}

/* ---- One segment ---------------------------------------------------------------------------- */

/* The bytes from OFFSET on, LENGTH at most, go from FD to the stage. */
static int stage_range(struct restore *restore, int fd, struct engine_stage *stage, uint64_t offset,
		       uint64_t length, size_t *ret, struct reterr *err)
{
	size_t n = 0;
	int r = io_read_at(fd, restore->chunk, (size_t)length, offset, &n);
	if (r < 0)
		return reterr_set(err, r, "cannot read byte %" PRIu64 ": %s", offset, strerror(-r));
	r = n ? engine_stage_write(stage, restore->chunk, n, offset) : 0;
	if (r < 0)
		return reterr_set(err, r, "cannot write byte %" PRIu64 " to the new store: %s",
				  offset, strerror(-r));
	progress_add(n);
	*ret = n;
	return 0;
}

/* Copies what the sums cover, checking it. RET_OFFSET is where they, or the file, end. */
static int stage_summed(struct restore *restore, int fd, struct engine_stage *stage,
			const struct sum_file *sums, uint64_t *ret_offset, struct reterr *err)
{
	uint64_t offset = 0;
	for (size_t i = 0; i < sums->count; i++) {
		const struct engine_sum *sum = &sums->sums[i];
		size_t n = 0;
		if (sum->length > ENGINE_SUM_SIZE)
			return reterr_set(err, -EBADMSG, "its .sum has a line of more than a MiB");
		int r = stage_range(restore, fd, stage, sum->offset, sum->length, &n, err);
		if (r < 0)
			return r;
		offset += n;
		if (n < sum->length && !restore->accept)
			return reterr_set(err, -ENODATA,
					  "the copy has %" PRIu64
					  " bytes, its .sum speaks of %" PRIu64
					  "; --accept takes what is there",
					  offset, sums->length);
		if (n < sum->length) {
			log_warning("the copy of a segment ends at byte %" PRIu64
				    ", its .sum at %" PRIu64,
				    offset, sums->length);
			restore->unverified += n;
			break;
		}
		struct hash hash = hash_of(restore->chunk, n);
		if (!hash_equal(&hash, &sum->hash))
			return reterr_set(err, -EBADMSG,
					  "the %" PRIu64 " bytes from byte %" PRIu64
					  " on do not match their sum: the copy is damaged",
					  sum->length, sum->offset);
	}
	*ret_offset = offset;
	return 0;
}

static int stage_segment(struct restore *restore, const struct uuid *segment, int fd,
			 struct engine_stage *stage, struct reterr *err)
{
	struct sum_file sums = {0};
	struct reterr cause = {0};
	uint64_t offset = 0;
	size_t n = 1;

	int r = backup_dir_read_sums(&restore->dir, segment, &sums, &cause);
	if (r == -ENOENT && !restore->accept)
		return reterr_set(err, r,
				  "%s, so nobody can tell whether it is whole; --accept takes it "
				  "nevertheless",
				  cause.text);
	if (r < 0 && r != -ENOENT)
		return reterr_set(err, r, "%s", store_why(&cause, r));
	r = stage_summed(restore, fd, stage, &sums, &offset, err);
	/* A copy that was taken while somebody wrote goes on behind its sums. */
	while (r == 0 && n > 0 && offset >= sums.length) {
		r = stage_range(restore, fd, stage, offset, ENGINE_SUM_SIZE, &n, err);
		offset += n;
		restore->unverified += n;
	}
	sum_file_done(&sums);
	return r;
}

static int restore_segment(struct restore *restore, const struct uuid *segment, struct reterr *err)
{
	struct engine_stage *stage = NULL;
	CLEANUP(io_close) int fd = backup_dir_open_segment(&restore->dir, segment, false, err);
	if (fd < 0)
		return fd;

	int r = engine_stage_new(restore->engine, &stage);
	if (r < 0)
		return reterr_set(err, r, "no place for it in the new store: %s", strerror(-r));
	r = stage_segment(restore, segment, fd, stage, err);
	if (r == 0 && engine_stage_size(stage) > 0) {
		struct reterr cause = {0};
		uint64_t size = engine_stage_size(stage);
		r = engine_import(restore->engine, segment, stage, &cause);
		if (r < 0)
			(void)reterr_set(err, r, "%s", store_why(&cause, r));
		restore->segments++;
		restore->bytes += size;
	}
	engine_stage_free(stage);
	return r;
}

static int on_segment(void *arg, const struct uuid *segment, uint64_t size)
{
	struct restore *restore = arg;
	char uuid[UUID_TEXT_LENGTH + 1];
	struct reterr cause = {0};

	(void)size;
	int r = restore_segment(restore, segment, &cause);
	return r < 0 ? reterr_set(restore->err, r, "segment %s: %.400s", uuid_format(segment, uuid),
				  store_why(&cause, r))
		     : 0;
}

static int add_size(void *arg, const struct uuid *segment, uint64_t size)
{
	struct restore *restore = arg;
	(void)segment;
	restore->total += size;
	return 0;
}

/* ---- All of it ------------------------------------------------------------------------------ */

static int set_root(struct restore *restore, const struct engine_root *root, struct reterr *err)
{
	char pointer[TEXT_POINTER_LENGTH];
	struct reterr cause = {0};

	int r = engine_root_publish(restore->engine, ENGINE_ROOT_EXPECT_ANY, &root->pointer, NULL,
				    0, NULL, &cause);
	if (r > 0 || r == -ENODATA)
		return reterr_set(err, -ENODATA,
				  "its root points at %s, and the copy has no whole atom there",
				  text_pointer(&root->pointer, pointer));
	return r < 0 ? reterr_set(err, r, "its root: %s", store_why(&cause, r)) : 0;
}

static int fill(struct restore *restore, bool has_root, const struct engine_root *root,
		struct reterr *err)
{
	const struct engine_options options = {.strict_root = true};
	struct store store;

	int r = store_make(restore->partial, &(struct engine_format_options){0}, err);
	if (r == 0)
		r = store_disk(restore->partial, 0, err, &store);
	if (r < 0)
		return r;
	r = store_open(&store, &options, err);
	if (r < 0) {
		store_abandon(&store);
		return r;
	}
	restore->engine = store.engine;
	restore->err = err;
	r = backup_dir_list(&restore->dir, add_size, restore, err);
	progress_begin("restoring", restore->total);
	if (r == 0)
		r = backup_dir_list(&restore->dir, on_segment, restore, err);
	progress_end();
	if (r == 0 && restore->segments == 0)
		r = reterr_set(err, -ENOENT, "it holds no segment");
	if (r == 0 && has_root)
		r = set_root(restore, root, err);
	struct reterr cause = {0};
	int closed = store_close(&store, &cause);
	if (r == 0 && closed < 0)
		r = reterr_set(err, closed, "%s", store_why(&cause, closed));
	return r;
}

static int take_name(const struct restore *restore, struct reterr *err)
{
	if (rename(restore->partial, restore->slots[1]) < 0)
		return reterr_set(err, -errno, "all is in '%.200s', but it cannot be renamed: %s",
				  restore->partial, strerror(errno));
	int r = io_sync_parent(restore->slots[1]);
	return r < 0 ? reterr_set(err, r, "%s", strerror(-r)) : 0;
}

/* Before anything is copied: the place must be free. */
static int check_place(struct restore *restore, struct reterr *err)
{
	const char *store = restore->slots[1];
	size_t length = strlen(store);
	struct stat st;

	if (store_is_memory(store))
		return reterr_set(err, -EINVAL,
				  "nothing keeps a mem: store; mount it and copy into "
				  "wal/in");
	while (length > 1 && store[length - 1] == '/')
		length--;
	int n = snprintf(restore->partial, sizeof(restore->partial), "%.*s.partial", (int)length,
			 store);
	if (n < 0 || (size_t)n >= sizeof(restore->partial))
		return reterr_set(err, -ENAMETOOLONG, "the name is too long");
	int r;
	if (lstat(restore->partial, &st) == 0)
		return reterr_set(
			err, -EEXIST,
			"'%.300s' is there, which an earlier attempt may have left: remove it",
			restore->partial);
	r = io_dir_is_empty(store); /* rename(2) replaces an empty directory */
	if (r == -ENOENT || r > 0)
		return 0;
	return reterr_set(err, r ? r : -ENOTEMPTY, "the place is taken: %s",
			  strerror(r ? -r : ENOTEMPTY));
}

static void print_summary(const struct restore *restore, bool has_root)
{
	char bytes[TEXT_SIZE_LENGTH];

	if (restore->json) {
		(void)printf("{\"segments\": %" PRIu64 ", \"bytes\": %" PRIu64
			     ", \"unverified\": %" PRIu64 ", \"root\": %s}\n",
			     restore->segments, restore->bytes, restore->unverified,
			     has_root ? "true" : "false");
		return;
	}
	(void)printf("%" PRIu64 " segments, %s%s\n", restore->segments,
		     text_size(restore->bytes, bytes), has_root ? ", and their root" : "");
	if (restore->unverified)
		(void)printf("%" PRIu64 " bytes lie beyond the sums of the copy: nobody can tell "
			     "whether they are whole\n",
			     restore->unverified);
}

static int restore_all(struct restore *restore, struct reterr *err)
{
	struct engine_root root;
	int has_root = backup_dir_read_root(&restore->dir, &root, err);

	if (has_root < 0 && has_root != -ENOENT)
		return has_root;
	int r = check_place(restore, err);
	if (r < 0)
		return r;
	r = fill(restore, has_root == 0, &root, err);
	if (r < 0) {
		log_warning("'%s' holds what was restored so far: remove it", restore->partial);
		return r;
	}
	r = take_name(restore, err);
	if (r < 0)
		return r;
	if (has_root < 0)
		log_warning(
			"'%s' holds no root, so '%s' has none yet: `protofs root ... set` publishes "
			"one",
			restore->slots[0], restore->slots[1]);
	print_summary(restore, has_root == 0);
	return 0;
}

int verb_restore(int argc, char **argv)
{
	static const struct argp argp = {
		.options = restore_options,
		.parser = parse_restore,
		.args_doc = "DIR STORE",
		.doc = "Make the store STORE of the backup in DIR, or of any copy of the files of a mount, "
		       "and verify all of it. STORE must not be there yet, or be an empty directory.",
	};
	struct restore restore = {0};
	struct reterr err = {0};

	args_parse(&argp, argc, argv, &restore);
	int r = backup_dir_open(restore.slots[0], &restore.dir, &err);
	if (r == 0) {
		restore.chunk = io_alloc(ENGINE_SUM_SIZE);
		r = restore.chunk ? restore_all(&restore, &err) : -ENOMEM;
		backup_dir_close(&restore.dir);
	}
	free(restore.chunk);
	if (r == 0)
		return EXIT_CODE_DONE;
	log_error("cannot restore '%s' to '%s': %s", restore.slots[0], restore.slots[1],
		  store_why(&err, r));
	return EXIT_CODE_FAILED;
}
