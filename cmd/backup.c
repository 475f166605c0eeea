/*
 * protofs backup: the copy that DESIGN.md describes as file operations. The root is read first,
 * then each segment's sums, then its bytes as far as the sums go: segments only grow, so that all
 * that the root needs is in the copy, whoever writes meanwhile. The copy's root is replaced last:
 * an interrupted backup still is the older one.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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
#include "cmd/segments.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/verb.h"

struct backup {
	const char *slots[2]; /* WHERE DIR */
	bool verify;
	bool json;
	struct where *where;
	struct backup_dir dir;
	uint8_t *chunk; /* ENGINE_SUM_SIZE bytes */
	uint64_t segments, bytes, copied;
};

static const struct argp_option backup_options[] = {
	{"verify", 'V', NULL, 0,
	 "Read all of the copy back against its sums, not only what was added", 0},
	{"json", 'j', NULL, 0, "Print the summary as JSON", 0},
	{0},
};

static error_t parse_backup(int key, char *arg, struct argp_state *state)
{
	struct backup *backup = state->input;
	switch (key) {
	case 'V':
		backup->verify = true;
		return 0;
	case 'j':
		backup->json = true;
		return 0;
	default:
		return args_positional(state, key, arg, backup->slots, ARRAY_SIZE(backup->slots));
	}
}

/*
 * How many lines of the older sums still stand. -ESTALE the copy is not an earlier state of this
 * segment: what lies below a whole line never changes, and no segment becomes shorter.
 */
static int lines_in_common(const struct sum_file *old, const struct sum_file *new, size_t *ret)
{
	size_t same = 0;

	if (old->length > new->length)
		return -ESTALE;
	while (same < old->count &&
	       old->sums[same].length == new->sums[same].length &&hash_equal(&old->sums[same].hash,
									     &new->sums[same].hash))
		same++;
	/* Only the last line, of a MiB that was not full yet, may have been replaced. */
	if (same + 1 < old->count ||
	    (same < old->count && old->sums[same].length >= new->sums[same].length))
		return -ESTALE;
	*ret = same;
	return 0;
}

static int mismatch(const struct uuid *segment, uint64_t offset, const char *what,
		    struct reterr *err)
{
	char uuid[UUID_TEXT_LENGTH + 1];
	return reterr_set(err, -EBADMSG, "segment %s, byte %" PRIu64 ": %s",
			  uuid_format(segment, uuid), offset, what);
}

/* The bytes of one sum, from the store to FD. */
static int copy_line(struct backup *backup, const struct uuid *segment,
		     const struct engine_sum *sum, int fd, struct reterr *err)
{
	size_t length = (size_t)sum->length, n = 0;

	int r = backup->where->ops->read(backup->where, segment, backup->chunk, length, sum->offset,
					 false, &n, err);
	if (r < 0)
		return r;
	struct hash hash = hash_of(backup->chunk, n);
	if (n < length || !hash_equal(&hash, &sum->hash))
		return mismatch(segment, sum->offset,
				"these bytes do not match their sum; see "
				"`protofs scrub`",
				err);
	r = io_write(fd, backup->chunk, length);
	if (r < 0)
		return reterr_set(err, r, "cannot write to '%.200s': %s", backup->dir.path,
				  strerror(-r));
	backup->copied += length;
	progress_add(length);
	return 0;
}

/* What the disk of the backup gives back, for the lines from FIRST on. */
static int verify_lines(struct backup *backup, const struct uuid *segment,
			const struct sum_file *sums, size_t first, int fd, struct reterr *err)
{
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	for (size_t i = first; i < sums->count; i++) {
		const struct engine_sum *sum = &sums->sums[i];
		size_t length = (size_t)sum->length, n = 0;
		int r = io_read_at(fd, backup->chunk, length, sum->offset, &n);
		if (r < 0)
			return reterr_set(err, r, "cannot read '%.200s' back: %s", backup->dir.path,
					  strerror(-r));
		struct hash hash = hash_of(backup->chunk, n);
		if (n < length || !hash_equal(&hash, &sum->hash))
			return mismatch(segment, sum->offset,
					"the copy does not hold what was written to it", err);
	}
	return 0;
}

/* Brings the copy of SEGMENT from OLD, its sums so far, to NEW. */
static int copy_lines(struct backup *backup, const struct uuid *segment, const struct sum_file *old,
		      const struct sum_file *new, int fd, struct reterr *err)
{
	struct stat st;
	size_t first = 0;

	int r = lines_in_common(old, new, &first);
	if (r < 0) {
		char uuid[UUID_TEXT_LENGTH + 1];
		return reterr_set(
			err, r,
			"segment %s in '%.150s' is not an earlier state of this one: back up "
			"to another directory",
			uuid_format(segment, uuid), backup->dir.path);
	}
	if (fstat(fd, &st) < 0)
		return reterr_set(err, -errno, "%s", strerror(errno));
	while (first > 0 &&
	       new->sums[first - 1].offset + new->sums[first - 1].length > (uint64_t)st.st_size)
		first--;
	uint64_t start = first ? new->sums[first - 1].offset + new->sums[first - 1].length : 0;
	progress_add(start);
	bool changed = (uint64_t)st.st_size != new->length || first < new->count;
	if (changed && (ftruncate(fd, (off_t)start) < 0 || lseek(fd, (off_t)start, SEEK_SET) < 0))
		return reterr_set(err, -errno, "cannot write to '%.200s': %s", backup->dir.path,
				  strerror(errno));
	for (size_t i = first; r == 0 && i < new->count; i++)
		r = copy_line(backup, segment, &new->sums[i], fd, err);
	if (r == 0 && changed && fsync(fd) < 0)
		r = reterr_set(err, -errno, "cannot make '%.200s' durable: %s", backup->dir.path,
			       strerror(errno));
	if (r == 0)
		r = verify_lines(backup, segment, new, backup->verify ? 0 : first, fd, err);
	if (r == 0 && (changed || old->length != new->length))
		r = backup_dir_write_sums(&backup->dir, segment, new, err);
	return r;
}

static int copy_segment(struct backup *backup, const struct uuid *segment, struct reterr *err)
{
	struct sum_file old = {0}, new = {0};
	struct reterr cause = {0};
	int fd = -1;

	int r = backup->where->ops->sums(backup->where, segment, &new, err);
	if (r < 0 || new.count == 0)
		return r;
	r = backup_dir_read_sums(&backup->dir, segment, &old, &cause);
	if (r == -EBADMSG) {
		log_warning("'%s': %s; the segment is copied anew", backup->dir.path, cause.text);
		r = 0;
	}
	if (r == -ENOENT)
		r = 0;
	if (r < 0)
		(void)reterr_set(err, r, "%s", store_why(&cause, r));
	if (r == 0)
		r = fd = backup_dir_open_segment(&backup->dir, segment, true, err);
	if (r >= 0)
		r = copy_lines(backup, segment, &old, &new, fd, err);
	if (r == 0) {
		backup->segments++;
		backup->bytes += new.length;
	}
	io_close(&fd);
	sum_file_done(&old);
	sum_file_done(&new);
	return r;
}

/* The root that was read first must lie in what was copied after it. */
static int check_root(struct backup *backup, const struct engine_root *root, struct reterr *err)
{
	struct sum_file sums;
	int r = backup_dir_read_sums(&backup->dir, &root->pointer.segment, &sums, err);
	if (r < 0)
		return r;
	if (root->pointer.offset >= sums.length)
		r = reterr_set(err, -ENODATA,
			       "root %" PRIu64 " points past what is durable of its segment",
			       root->seq);
	sum_file_done(&sums);
	return r;
}

static void print_summary(const struct backup *backup, const struct engine_root *root)
{
	char bytes[TEXT_SIZE_LENGTH], copied[TEXT_SIZE_LENGTH];

	if (backup->json) {
		(void)printf("{\"root\": %" PRIu64 ", \"segments\": %" PRIu64
			     ", \"bytes\": %" PRIu64 ", \"copied\": %" PRIu64 "}\n",
			     root->seq, backup->segments, backup->bytes, backup->copied);
		return;
	}
	(void)printf("%" PRIu64 " segments, %s, of which %s were copied; ", backup->segments,
		     text_size(backup->bytes, bytes), text_size(backup->copied, copied));
	if (root->seq)
		(void)printf("root %" PRIu64 "\n", root->seq);
	else
		(void)puts("no root yet");
}

static int copy_all(struct backup *backup, struct reterr *err)
{
	struct segments segments = {0};
	struct engine_root root;

	int r = where_root_newest(backup->where, &root, err);
	if (r == 0)
		r = segments_list(backup->where, &segments, err);
	progress_begin("copying", segments.bytes);
	for (size_t i = 0; r == 0 && i < segments.count; i++) {
		r = copy_segment(backup, &segments.items[i].uuid, err);
		if (r == -ENOENT)
			r = 0; /* removed since it was listed: no root that is kept needs it */
	}
	progress_end();
	segments_done(&segments);
	if (r == 0 && root.seq) {
		r = check_root(backup, &root, err);
		if (r == 0)
			r = backup_dir_write_root(&backup->dir, &root, err);
	}
	if (r == 0)
		print_summary(backup, &root);
	return r;
}

int verb_backup(int argc, char **argv)
{
	static const struct argp argp = {
		.options = backup_options,
		.parser = parse_backup,
		.args_doc = "WHERE DIR",
		.doc = "Copy a store into the directory DIR, as plain files, also while it is written to. A "
		       "DIR that holds an older backup of it gets what is new.\v"
		       "Everything is verified on the way, and what was added is read back. `protofs "
		       "restore` makes a store of it, and so does copying into wal/in of a mount.",
	};
	struct backup backup = {0};
	struct reterr err = {0};

	args_parse(&argp, argc, argv, &backup);
	int code = where_open_for("open", backup.slots[0], WHERE_READ, &backup.where);
	if (code != EXIT_CODE_DONE)
		return code;
	int r = backup_dir_make(backup.slots[1], &backup.dir, &err);
	if (r == 0) {
		backup.chunk = io_alloc(ENGINE_SUM_SIZE);
		r = backup.chunk ? copy_all(&backup, &err) : -ENOMEM;
		backup_dir_close(&backup.dir);
	}
	if (r < 0)
		log_error("cannot back up '%s' to '%s': %s", backup.slots[0], backup.slots[1],
			  store_why(&err, r));
	free(backup.chunk);
	where_close(backup.where);
	return r < 0 ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
}
