/*
 * The segment may grow between the stat, the open and the reads of a copying program, which
 * believes the size that it was told. So all who have a .sum open share one text, and while it is
 * open its size is what stat shows: what is copied is whole, and what the segment gained is in the
 * next copy.
 */
#include "fs/wal_sum.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "fs/sum_file.h"

enum { SUM_BATCH = 64, SUMS_OPEN_MAX = 256 };

/* One open text, in the list of its module. */
struct sum_text {
	struct sum_text *next; /* the list's lock */
	uint32_t number;       /* of the segment */
	unsigned users;        /* the list's lock */
	struct buf text;       /* immutable */
};

struct wal_sums {
	pthread_mutex_t lock;  /* a leaf */
	struct sum_text *open; /* lock */
	unsigned count;        /* lock */
};

int wal_sums_new(struct wal_sums **ret)
{
	struct wal_sums *sums = calloc(1, sizeof(*sums));
	if (!sums)
		return -ENOMEM;
	pthread_mutex_init(&sums->lock, NULL);
	*ret = sums;
	return 0;
}

static void sum_text_free(struct sum_text *text)
{
	if (!text)
		return;
	buf_done(&text->text);
	free(text);
}

void wal_sums_free(struct wal_sums *sums)
{
	if (!sums)
		return;
	while (sums->open) {
		struct sum_text *text = sums->open;
		sums->open = text->next;
		sum_text_free(text);
	}
	pthread_mutex_destroy(&sums->lock);
	free(sums);
}

static struct wal_sums *sums_of(const struct call *call)
{
	return fs_state(call->fs, FS_MODULE_WAL);
}

/* With the lock held. */
static struct sum_text *sums_find(struct wal_sums *sums, uint32_t number)
{
	struct sum_text *text = sums->open;
	while (text && text->number != number)
		text = text->next;
	return text;
}

void wal_sum_attr(struct call *call, const struct engine_segment_info *info, struct entry *entry)
{
	struct wal_sums *sums = sums_of(call);
	bool final = segment_file_is_final(info);
	uint64_t size = sum_file_size(info->durable);

	if (!final) {
		pthread_mutex_lock(&sums->lock);
		const struct sum_text *text = sums_find(sums, info->number);
		if (text)
			size = text->text.size;
		pthread_mutex_unlock(&sums->lock);
	}
	attr_file(call->fs, &entry->attr, entry->id, 0444, size, info->modified_ns);
	entry->entry_timeout = segment_file_entry_timeout(info);
	entry->attr_timeout = final ? FS_FOREVER : FS_NEVER;
}

static int sum_getattr(struct call *call, const uint64_t *handle, struct entry *ret)
{
	(void)handle;
	struct engine_segment *segment = call_segment(call);
	struct engine_segment_info info;
	if (!segment)
		return -ESTALE;
	engine_segment_info(call->engine, segment, &info);
	wal_sum_attr(call, &info, ret);
	return 0;
}

/* The lines of the first LENGTH bytes of SEGMENT. */
static int sum_print(struct call *call, struct engine_segment *segment, uint64_t length,
		     struct buf *out)
{
	struct engine_sum batch[SUM_BATCH];
	uint64_t from = 0;

	while (from < length) {
		size_t count = 0;
		int r = engine_sums(call->engine, segment, from, length, batch, SUM_BATCH, &count);
		if (r == 0 && count == 0)
			r = -EIO;
		for (size_t i = 0; i < count && r == 0; i++) {
			char line[SUM_FILE_LINE_SIZE];
			sum_file_line(&batch[i], line);
			r = buf_append(out, line, sizeof(line));
			from = batch[i].offset + batch[i].length;
		}
		if (r < 0)
			return reterr_set(&call->err, r,
					  "the sums of segment %u from byte %llu on "
					  "cannot be had",
					  node_number(call->id), (unsigned long long)from);
	}
	return 0;
}

static int sum_text_new(struct call *call, struct sum_text **ret)
{
	struct engine_segment *segment = call_segment(call);
	struct engine_segment_info info;
	if (!segment)
		return -ESTALE;
	engine_segment_info(call->engine, segment, &info);

	struct sum_text *text = calloc(1, sizeof(*text));
	if (!text)
		return -ENOMEM;
	text->number = node_number(call->id);
	text->users = 1;
	text->text.max = SUM_FILE_SIZE_MAX;
	int r = sum_print(call, segment, info.durable, &text->text);
	if (r < 0) {
		sum_text_free(text);
		return r;
	}
	*ret = text;
	return 0;
}

/* The text that is open already, with one more user. */
static struct sum_text *sums_share(struct wal_sums *sums, uint32_t number)
{
	pthread_mutex_lock(&sums->lock);
	struct sum_text *text = sums_find(sums, number);
	if (text)
		text->users++;
	pthread_mutex_unlock(&sums->lock);
	return text;
}

static int sum_open(struct call *call, int flags, struct opened *ret)
{
	(void)flags;
	struct wal_sums *sums = sums_of(call);
	struct sum_text *text = sums_share(sums, node_number(call->id));

	if (!text) {
		call_block(call);
		int r = sum_text_new(call, &text);
		if (r < 0)
			return r;
		/* Somebody else may have been faster: then all use theirs. */
		struct sum_text *unused = NULL;
		pthread_mutex_lock(&sums->lock);
		struct sum_text *theirs = sums_find(sums, text->number);
		if (theirs) {
			theirs->users++;
			unused = text;
			text = theirs;
		} else if (sums->count < SUMS_OPEN_MAX) {
			text->next = sums->open;
			sums->open = text;
			sums->count++;
		} else {
			unused = text;
			text = NULL;
		}
		pthread_mutex_unlock(&sums->lock);
		sum_text_free(unused);
	}
	if (!text)
		return -ENFILE;
	ret->handle = (uintptr_t)text;
	ret->direct_io = true;
	ret->flushless = true;
	return 0;
}

static int sum_read(struct call *call, uint64_t handle, int flags, void *data, size_t size,
		    uint64_t offset, struct slice *ret)
{
	(void)call;
	(void)flags;
	(void)data;
	const struct sum_text *text = (const struct sum_text *)(uintptr_t)handle;
	uint64_t rest = offset < text->text.size ? text->text.size - offset : 0;
	*ret = (struct slice){.data = rest > 0 ? text->text.data + offset : NULL,
			      .size = size < rest ? size : (size_t)rest};
	return 0;
}

static void sum_release(struct call *call, uint64_t handle, int flags)
{
	(void)flags;
	struct wal_sums *sums = sums_of(call);
	struct sum_text *text = (struct sum_text *)(uintptr_t)handle;

	pthread_mutex_lock(&sums->lock);
	bool last = --text->users == 0;
	if (last) {
		struct sum_text **link = &sums->open;
		while (*link != text)
			link = &(*link)->next;
		*link = text->next;
		sums->count--;
	}
	pthread_mutex_unlock(&sums->lock);
	if (last)
		sum_text_free(text);
}

const struct view view_wal_sum = {
	.name = "wal/<uuid>.sum",
	.getattr = sum_getattr,
	.open = sum_open,
	.read = sum_read,
	.release = sum_release,
	.read_only = true,
};
