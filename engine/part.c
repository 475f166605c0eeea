/* The parts of a segment in memory, and the bounded set of sealed parts whose files are open. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/core.h"

int part_new(uint64_t start, uint64_t end, struct wal *wal, struct part **ret)
{
	struct part *part = calloc(1, sizeof(*part));
	if (!part)
		return -ENOMEM;
	atomic_store(&part->refs, 1);
	part->start = start;
	part->end = end;
	part->wal = wal;
	*ret = part;
	return 0;
}

void part_ref(struct part *part)
{
	(void)atomic_fetch_add(&part->refs, 1);
}

void part_unref(struct part *part)
{
	if (!part || atomic_fetch_sub(&part->refs, 1) != 1)
		return;
	wal_free(part->wal);
	invariant(!part->sealed);
	free(part);
}

int segment_push_part(struct engine_segment *segment, struct part *part)
{
	if (segment->part_count == segment->part_capacity) {
		size_t capacity = segment->part_capacity ? segment->part_capacity * 2 : 4;
		struct part **parts = realloc(segment->parts, capacity * sizeof(struct part *));
		if (!parts)
			return -ENOMEM;
		segment->parts = parts;
		segment->part_capacity = capacity;
	}
	segment->parts[segment->part_count++] = part;
	return 0;
}

/* ---- The list of a segment that was clean at start ------------------------------------------ */

struct starts {
	uint64_t *starts;
	size_t count, capacity;
	uint64_t below;
};

static int collect_start(void *arg, const char *name, bool is_dir)
{
	struct starts *list = arg;
	uint64_t start;

	/* Other names are of a seal that a crash cut short, or of parts that never held a byte. */
	if (is_dir || part_name_parse(name, ".table", &start) < 0 || start >= list->below)
		return 0;
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 16;
		uint64_t *starts = realloc(list->starts, capacity * sizeof(*starts));
		if (!starts)
			return -ENOMEM;
		list->starts = starts;
		list->capacity = capacity;
	}
	list->starts[list->count++] = start;
	return 0;
}

static int compare_u64(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

static int push_listed(struct engine_segment *segment, const struct starts *list)
{
	for (size_t i = 0; i < list->count; i++) {
		struct part *part;
		uint64_t end = i + 1 < list->count ? list->starts[i + 1] : segment->sealed;
		int r = part_new(list->starts[i], end, NULL, &part);
		if (r < 0)
			return r;
		r = segment_push_part(segment, part);
		if (r < 0) {
			part_unref(part);
			return r;
		}
	}
	return 0;
}

int segment_load_parts(struct engine_segment *segment, struct reterr *err)
{
	char path[DISK_PATH_MAX];

	segment_lock(segment);
	bool loaded = segment->parts_loaded;
	struct starts list = {.below = segment->sealed};
	segment_unlock(segment);
	if (loaded)
		return 0;

	part_dir(PART_TABLE, &segment->uuid, path);
	int r = disk_list(segment->engine->disk, path, collect_start, &list);
	/* A crash before the first commit leaves a segment without bytes, hence without that directory. */
	if (r == -ENOENT && list.below == 0)
		r = 0;
	if (r < 0) {
		free(list.starts);
		return reterr_set(err, r == -ENOENT ? -EBADMSG : r,
				  "%s: the tables of the segment's sealed parts are missing: %s",
				  path, strerror(-r));
	}
	if (list.count)
		qsort(list.starts, list.count, sizeof(*list.starts), compare_u64);

	segment_lock(segment);
	if (!segment->parts_loaded) {
		r = push_listed(segment, &list);
		segment->parts_loaded = r == 0;
	}
	segment_unlock(segment);
	free(list.starts);
	return r;
}

struct part *segment_part_at(struct engine_segment *segment, uint64_t offset)
{
	size_t low = 0, high = segment->part_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (segment->parts[middle]->start <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return NULL;
	struct part *part = segment->parts[low - 1];
	if (part->wal != segment->wal || !part->wal) {
		if (offset >= part->end)
			return NULL;
	}
	part_ref(part);
	return part;
}

/* ---- Files of sealed parts ------------------------------------------------------------------ */

/* The longest unused part with open files goes; its files are returned for closing without the lock. */
static struct sealed *evict_locked(struct engine *e, struct part **ret_part)
{
	struct part *oldest = NULL;
	size_t at = 0;

	for (size_t i = 0; i < e->file_count; i++) {
		struct part *part = e->files[i];
		if (part->sealed_users == 0 &&
		    (!oldest || part->sealed_used < oldest->sealed_used)) {
			oldest = part;
			at = i;
		}
	}
	if (!oldest)
		return NULL;
	e->files[at] = e->files[--e->file_count];
	struct sealed *sealed = oldest->sealed;
	oldest->sealed = NULL;
	*ret_part = oldest;
	return sealed;
}

int part_acquire_sealed(struct engine *e, const struct uuid *segment, struct part *part,
			struct reterr *err, struct sealed **ret)
{
	struct sealed *mine = NULL;

	(void)pthread_mutex_lock(&e->files_lock);
	if (!part->sealed) {
		(void)pthread_mutex_unlock(&e->files_lock);
		int r = sealed_open(e->disk, segment, part->start, true, err, &mine);
		if (r < 0) {
			char text[UUID_TEXT_LENGTH + 1];
			return r == -ENOENT
				       ? reterr_set(
						 err, -EBADMSG,
						 "segment %s: the table of its part at byte %" PRIu64
						 " is missing",
						 uuid_format(segment, text), part->start)
				       : r;
		}
		(void)pthread_mutex_lock(&e->files_lock);
	}

	struct part *evicted_part = NULL;
	struct sealed *evicted = NULL;
	if (!part->sealed) {
		if (e->file_count == SEALED_OPEN_MAX)
			evicted = evict_locked(e, &evicted_part);
		invariant(e->file_count < SEALED_OPEN_MAX);
		part_ref(part);
		e->files[e->file_count++] = part;
		part->sealed = mine;
		mine = NULL;
	}
	part->sealed_users++;
	part->sealed_used = ++e->files_tick;
	*ret = part->sealed;
	(void)pthread_mutex_unlock(&e->files_lock);

	sealed_close(mine); /* another reader was faster */
	sealed_close(evicted);
	part_unref(evicted_part);
	return 0;
}

void part_release_sealed(struct engine *e, struct part *part)
{
	(void)pthread_mutex_lock(&e->files_lock);
	invariant(part->sealed_users > 0);
	part->sealed_users--;
	(void)pthread_mutex_unlock(&e->files_lock);
}

void part_close_files(struct engine *e)
{
	while (e->file_count) {
		struct part *part = e->files[--e->file_count];
		sealed_close(part->sealed);
		part->sealed = NULL;
		part_unref(part);
	}
}
