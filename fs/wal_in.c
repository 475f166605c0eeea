/*
 * wal/in/: copy a segment and its .sum in, and the segment is there again.
 *
 * Both are staged under their names, in either order, with temporary names and renames if the tool
 * likes it so. When both are complete, the lines of the .sum that lie wholly inside the copy are
 * checked against it; if they match the copy becomes a restored segment and the names go, else it
 * stays here and .ctl/errors says which bytes differ. A copy without .sum waits for its UUID in
 * .ctl/accept.
 *
 * A file is complete when the process that opened it closes it, not when a process that inherited
 * the descriptor does (a shell's `(cat a; cat b) > f`), nor when the closing process was killed in
 * the middle, nor after a write failed; whatever remains open after that is complete when its last
 * descriptor goes, and then only .ctl/errors can tell what came of it. The call that completes the
 * pair (close or rename) does the work and returns its errors.
 *
 * Locks, in this order: entering, the turn of a segment's file, the turn of its .sum, those of
 * inbox.h.
 */
#include "fs/wal_in.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/inbox.h"
#include "fs/space.h"
#include "fs/sum_file.h"
#include "fs/view.h"

enum { NAMES_MAX = 8192 };

static const char sum_suffix[] = ".sum";

struct wal_in {
	struct inbox *box;
	pthread_mutex_t entering; /* one segment enters at a time; held while the engine works */
};

static struct wal_in *wal_in_of(const struct fs *fs)
{
	return fs_state(fs, FS_MODULE_WAL_IN);
}

/* ---- Names ---------------------------------------------------------------------------------- */

/* NAME is `<uuid>` or `<uuid>.sum`; -EINVAL any other, which is only staged. */
MUST_CHECK static int name_parse(const char *name, struct uuid *ret)
{
	char text[UUID_TEXT_LENGTH + 1] = {0};
	if (strnlen(name, UUID_TEXT_LENGTH) < UUID_TEXT_LENGTH)
		return -EINVAL;
	memcpy(text, name, UUID_TEXT_LENGTH);
	name += UUID_TEXT_LENGTH;
	if (*name != '\0' && strcmp(name, sum_suffix) != 0)
		return -EINVAL;
	return uuid_parse(text, ret);
}

enum { SUM_NAME_SIZE = UUID_TEXT_LENGTH + sizeof(sum_suffix) };

static char *sum_name(const struct uuid *uuid, char name[static SUM_NAME_SIZE])
{
	uuid_format(uuid, name);
	memcpy(name + UUID_TEXT_LENGTH, sum_suffix, sizeof(sum_suffix));
	return name;
}

/* A segment is never replaced. */
static int allow(struct call *call, const char *name)
{
	struct uuid uuid;
	if (name_parse(name, &uuid) == 0 && engine_segment_find(call->engine, &uuid))
		return reterr_set(&call->err, -EEXIST, "wal/in/%s: the segment is there already",
				  name);
	return 0;
}

/* ---- The check ------------------------------------------------------------------------------ */

/* How far a copy was compared with its sums. */
struct verdict {
	uint64_t checked;   /* bytes from 0 */
	uint64_t unchecked; /* lines that reach beyond the copy */
};

MUST_CHECK static int check_line(struct blob *copy, const struct engine_sum *sum, uint8_t *data)
{
	size_t size = (size_t)sum->length;
	for (size_t done = 0, n; done < size; done += n) {
		int r = blob_read(copy, data + done, size - done, sum->offset + done, &n);
		if (r < 0)
			return r;
		if (n == 0)
			return -EIO;
	}
	struct hash hash = hash_of(data, size);
	return hash_equal(&hash, &sum->hash) ? 0 : -EBADMSG;
}

/* With the copy's turn held. */
MUST_CHECK static int check_copy(struct call *call, const struct uuid *uuid, struct blob *copy,
				 const struct sum_file *sums, struct verdict *ret)
{
	char text[UUID_TEXT_LENGTH + 1];
	uint8_t *data = malloc(ENGINE_SUM_SIZE);
	int r = data ? 0 : -ENOMEM;

	*ret = (struct verdict){0};
	for (size_t i = 0; r == 0 && i < sums->count; i++) {
		const struct engine_sum *sum = &sums->sums[i];
		if (sum->offset + sum->length > copy->size) {
			ret->unchecked = sums->count - i;
			break;
		}
		r = check_line(copy, sum, data);
		if (r == -EBADMSG)
			reterr_set(
				&call->err, r,
				"wal/in/%s: bytes %" PRIu64 " to %" PRIu64
				" are not those of line %zu of its .sum: it stays out; copy it again",
				uuid_format(uuid, text), sum->offset, sum->offset + sum->length - 1,
				i + 1);
		ret->checked = sum->offset + sum->length;
	}
	free(data);
	return r;
}

/* With the turn of the .sum held. */
MUST_CHECK static int read_sums(struct call *call, const struct uuid *uuid, struct blob *content,
				struct sum_file *ret)
{
	char name[SUM_NAME_SIZE];
	struct reterr why = {0};
	size_t n = 0;

	if (content->size > SUM_FILE_SIZE_MAX)
		return reterr_set(&call->err, -EFBIG, "wal/in/%s is no .sum: %" PRIu64 " bytes",
				  sum_name(uuid, name), content->size);
	uint8_t *text = malloc((size_t)content->size + 1);
	int r = text ? blob_read(content, text, (size_t)content->size, 0, &n) : -ENOMEM;
	if (r == 0)
		r = sum_file_parse((struct slice){.data = text, .size = n}, ret, &why);
	if (why.code < 0)
		reterr_set(&call->err, why.code, "wal/in/%s: %s", sum_name(uuid, name), why.text);
	free(text);
	return r;
}

/* ---- Entering ------------------------------------------------------------------------------- */

static void say_what_was_not_checked(struct call *call, const struct uuid *uuid, uint64_t length,
				     const struct verdict *verdict)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct reterr event;

	if (verdict->unchecked > 0)
		reterr_set(
			&event, -ENODATA,
			"wal/in/%s is restored, but is shorter than its .sum: it ends at byte %" PRIu64
			", %" PRIu64 " lines reach beyond and were not checked",
			uuid_format(uuid, text), length, verdict->unchecked);
	else if (verdict->checked < length)
		reterr_set(&event, -ENODATA,
			   "wal/in/%s is restored; its .sum covers %" PRIu64 " bytes, the %" PRIu64
			   " behind them were not checked",
			   uuid_format(uuid, text), verdict->checked, length - verdict->checked);
	else
		return;
	fs_report(call->fs, &event);
}

/* A pair, found and referenced; either may be NULL. */
struct pair {
	struct uuid uuid;
	struct inbox_file *segment;
	struct inbox_file *sum;
};

/* Whether FILE is there as a whole. With its turn held. */
static bool is_complete(const struct inbox_file *file)
{
	return file->settled == file->changes && file->content.size > 0 && !file->failed &&
	       !file->entered;
}

/*
 * A copy that was refused before and is still the same: whoever copies its .sum once more, perhaps
 * before a better copy, did nothing wrong.
 */
static int say_again(struct call *call)
{
	fs_report(call->fs, &call->err);
	call->err.code = 0;
	return 0;
}

/* With both turns held. */
MUST_CHECK static int check_pair(struct call *call, struct pair *pair, struct verdict *ret)
{
	struct sum_file sums = {0};

	*ret = (struct verdict){.checked = pair->segment->content.size};
	if (!pair->sum)
		return 0;
	int r = read_sums(call, &pair->uuid, &pair->sum->content, &sums);
	if (r < 0)
		return r;
	r = check_copy(call, &pair->uuid, &pair->segment->content, &sums, ret);
	sum_file_done(&sums);
	return r;
}

/* The copy becomes a segment. With both turns held. */
MUST_CHECK static int take_in(struct call *call, struct pair *pair, const struct verdict *verdict)
{
	struct blob *copy = &pair->segment->content;
	struct engine_stage *stage;
	int r = blob_to_stage(copy, &stage);
	if (r == 0)
		r = engine_import(call->engine, &pair->uuid, stage, &call->err);
	if (r < 0)
		return r;

	say_what_was_not_checked(call, &pair->uuid, copy->size, verdict);
	/* It is in: small files that cannot be shown now are there after the next mount. */
	struct reterr why = {0};
	if (space_restored(call->fs, &pair->uuid, &why) < 0)
		fs_report(call->fs, &why);
	pair->segment->entered = true;
	blob_done(copy);
	if (pair->sum) {
		pair->sum->entered = true;
		blob_done(&pair->sum->content);
	}
	return 0;
}

/* With both turns held. ACCEPT: whoever asked for it takes it as it is. */
MUST_CHECK static int enter_if_complete(struct call *call, struct pair *pair, bool accept)
{
	bool sum_complete = pair->sum && is_complete(pair->sum);
	bool sum_missing = pair->sum ? !sum_complete : !accept;
	struct verdict verdict;

	if (pair->segment->entered)
		return accept ? -EEXIST : 0;
	if (sum_missing || (!accept && !is_complete(pair->segment)))
		return accept ? -EBUSY : 0; /* the other one is still to come */
	int r = check_pair(call, pair, &verdict);
	if (r == -EBADMSG) {
		bool known = pair->segment->rejected == pair->segment->changes;
		pair->segment->rejected = pair->segment->changes;
		return known && !accept ? say_again(call) : r;
	}
	return r < 0 ? r : take_in(call, pair, &verdict);
}

static void drop(struct call *call, struct inbox_file *file)
{
	struct wal_in *in = wal_in_of(call->fs);
	char name[INBOX_NAME_SIZE];
	if (file && file->entered && inbox_file_name(file, name) == 0)
		inbox_drop(in->box, name, &file->node);
}

static struct inbox_file *find(struct call *call, const char *name)
{
	struct node *node = inbox_find(wal_in_of(call->fs)->box, name);
	return node ? inbox_file_of(node) : NULL;
}

static void put(struct call *call, struct inbox_file *file)
{
	if (file)
		node_unref(fs_nodes(call->fs), &file->node, 1);
}

static void turn_lock(struct inbox_file *file)
{
	if (file)
		pthread_mutex_lock(&file->turn);
}

static void turn_unlock(struct inbox_file *file)
{
	if (file)
		pthread_mutex_unlock(&file->turn);
}

/* Lets the segment UUID in if its copy and its .sum are complete. 0 also if they are not. */
MUST_CHECK static int enter(struct call *call, const struct uuid *uuid, bool accept)
{
	struct wal_in *in = wal_in_of(call->fs);
	char name[UUID_TEXT_LENGTH + 1], with_suffix[SUM_NAME_SIZE];
	int r = accept ? -ENOENT : 0;

	call_block(call);
	pthread_mutex_lock(&in->entering);
	struct pair pair = {
		.uuid = *uuid,
		.segment = find(call, uuid_format(uuid, name)),
		.sum = find(call, sum_name(uuid, with_suffix)),
	};
	if (pair.segment && accept && inbox_file_writers(pair.segment) > 0) {
		r = -EBUSY;
	} else if (pair.segment) {
		turn_lock(pair.segment);
		turn_lock(pair.sum);
		r = enter_if_complete(call, &pair, accept);
		turn_unlock(pair.sum);
		turn_unlock(pair.segment);
		drop(call, pair.segment);
		drop(call, pair.sum);
	}
	pthread_mutex_unlock(&in->entering);
	put(call, pair.segment);
	put(call, pair.sum);
	return r;
}

int wal_in_accept(struct call *call, const struct uuid *uuid)
{
	char text[UUID_TEXT_LENGTH + 1];
	int r = enter(call, uuid, true);
	if (r == -ENOENT)
		reterr_set(&call->err, r, "wal/in has no copy of segment %s",
			   uuid_format(uuid, text));
	if (r == -EBUSY)
		reterr_set(&call->err, r, "wal/in/%s or its .sum is still being written",
			   uuid_format(uuid, text));
	return r;
}

/* ---- Files ---------------------------------------------------------------------------------- */

/*
 * Whether the caller is on its way out after a deadly signal: what it closes is not what it wanted
 * to write.
 */
static bool caller_was_killed(const struct call *call)
{
	enum { FIELDS_BEFORE_FLAGS = 6, SIGNALED = 0x400 /* PF_SIGNALED */ };
	char path[32], text[512];

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)call->pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t size = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	text[size > 0 ? size : 0] = '\0';
	/* The name before may hold anything, so fields are counted from its end. */
	const char *at = strrchr(text, ')');
	for (int i = 0; at && i <= FIELDS_BEFORE_FLAGS; i++)
		at = strchr(at + 1, ' ');
	return at && strtoul(at + 1, NULL, 10) & SIGNALED;
}

/* What to do when FILE, complete as it is, bears its final name: 0 if that is none. */
MUST_CHECK static int named(struct call *call, struct inbox_file *file)
{
	char name[INBOX_NAME_SIZE];
	struct uuid uuid;
	if (inbox_file_name(file, name) < 0 || name_parse(name, &uuid) < 0)
		return 0;
	if (name[UUID_TEXT_LENGTH] == '\0')
		return enter(call, &uuid, false);

	/* A bad .sum is refused at its own close, not at the segment's. */
	struct sum_file sums = {0};
	pthread_mutex_lock(&file->turn);
	int r = file->content.size > 0 && !file->entered
			? read_sums(call, &uuid, &file->content, &sums)
			: 1;
	pthread_mutex_unlock(&file->turn);
	if (r == 0) {
		sum_file_done(&sums);
		r = enter(call, &uuid, false);
	}
	return r < 0 ? r : 0;
}

static int file_flush(struct call *call, uint64_t handle)
{
	struct inbox_file *file = inbox_file_of(call->node);
	pid_t process, opener = inbox_file_opener(file);
	bool killed = caller_was_killed(call);

	(void)handle;
	bool inherited = opener != 0 && call_process(call, &process) == 0 && process != opener;
	call_block(call);
	pthread_mutex_lock(&file->turn);
	bool changed = file->settled != file->changes && file->content.size > 0;
	if (killed && changed)
		file->failed = true;
	bool complete = changed && !inherited && !file->failed;
	if (complete)
		file->settled = file->changes;
	pthread_mutex_unlock(&file->turn);
	return complete ? named(call, file) : 0;
}

static int file_write(struct call *call, uint64_t handle, int flags, const void *data, size_t size,
		      uint64_t offset)
{
	struct inbox_file *file = inbox_file_of(call->node);
	call_block(call);
	pthread_mutex_lock(&file->turn);
	bool entered = file->entered;
	pthread_mutex_unlock(&file->turn);
	if (entered)
		return -EROFS;
	return inbox_file_write(call, handle, flags, data, size, offset);
}

/* For descriptors that outlived the process that opened the file. */
static void file_release(struct call *call, uint64_t handle, int flags)
{
	struct inbox_file *file = inbox_file_of(call->node);
	(void)handle;
	(void)inbox_file_release(file, flags);
	if (inbox_file_writers(file) > 0)
		return;
	call_block(call);
	pthread_mutex_lock(&file->turn);
	bool complete = file->settled != file->changes && file->content.size > 0 && !file->failed &&
			!file->entered;
	if (complete)
		file->settled = file->changes;
	pthread_mutex_unlock(&file->turn);
	/* Nobody waits for the result. */
	if (complete && named(call, file) < 0 && call->err.code < 0)
		fs_report(call->fs, &call->err);
}

static const struct view view_file = {
	.name = "segment to be restored",
	.getattr = inbox_file_getattr,
	.setattr = inbox_file_setattr,
	.open = inbox_file_open,
	.read = inbox_file_read,
	.write = file_write,
	.flush = file_flush,
	.release = file_release,
};

/* ---- The directory -------------------------------------------------------------------------- */

static int in_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	return inbox_getattr(call, wal_in_of(call->fs)->box, ret);
}

static int in_setattr(struct call *call, const uint64_t *handle, const struct setting *setting,
		      struct entry *ret)
{
	(void)handle;
	return inbox_setattr(call, wal_in_of(call->fs)->box, setting, ret);
}

static int in_lookup(struct call *call, const char *name, struct entry *ret)
{
	return inbox_lookup(call, wal_in_of(call->fs)->box, name, ret);
}

static int in_readdir(struct call *call, uint64_t handle, uint64_t offset, struct listing *listing)
{
	(void)handle;
	return inbox_readdir(call, wal_in_of(call->fs)->box, offset, listing);
}

static int in_create(struct call *call, const char *name, mode_t mode, int flags, struct entry *ret,
		     struct opened *ret_opened)
{
	return inbox_create(call, wal_in_of(call->fs)->box, name, mode, flags, ret, ret_opened);
}

static int in_unlink(struct call *call, const char *name)
{
	return inbox_unlink(call, wal_in_of(call->fs)->box, name);
}

/* The renaming stands even if what it completes is refused: the copy stays here under its name. */
static int in_rename(struct call *call, const char *from, const char *to, unsigned flags)
{
	int r = inbox_rename(call, wal_in_of(call->fs)->box, from, to, flags);
	struct inbox_file *file = r == 0 ? find(call, to) : NULL;
	if (!file)
		return r;
	call_block(call);
	pthread_mutex_lock(&file->turn);
	bool complete = is_complete(file);
	pthread_mutex_unlock(&file->turn);
	if (complete)
		r = named(call, file);
	put(call, file);
	return r;
}

static const struct view view_in = {
	.name = "wal/in",
	.getattr = in_getattr,
	.setattr = in_setattr,
	.lookup = in_lookup,
	.readdir = in_readdir,
	.create = in_create,
	.unlink = in_unlink,
	.rename = in_rename,
};

static int module_wal_in_start(struct fs *fs, struct reterr *err, void **ret_state)
{
	const struct inbox_options options = {
		.file = &view_file,
		.names_max = NAMES_MAX,
		.size_max = ENGINE_FOREIGN_LENGTH_MAX + ENGINE_FRAME_HEADER_SIZE,
		.mode = 0700,
		.allow = allow,
	};
	struct wal_in *in = calloc(1, sizeof(*in));
	int r = in ? inbox_new(fs, &options, &in->box) : -ENOMEM;
	if (r < 0) {
		free(in);
		return reterr_set(err, r, "cannot make wal/in");
	}
	pthread_mutex_init(&in->entering, NULL);
	fs_add_fixed(fs, NODE_WAL_IN, &view_in);
	*ret_state = in;
	return 0;
}

static void module_wal_in_stop(struct fs *fs, void *state)
{
	struct wal_in *in = state;
	(void)fs;
	inbox_free(in->box);
	pthread_mutex_destroy(&in->entering);
	free(in);
}

const struct module module_wal_in = {.start = module_wal_in_start, .stop = module_wal_in_stop};
