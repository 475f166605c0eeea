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

/* L: all or none. */
static int push_listed(struct engine_segment *segment, const struct starts *list)
{
	int r = 0;

	for (size_t i = 0; i < list->count && r == 0; i++) {
		struct part *part = NULL;
		uint64_t end = i + 1 < list->count ? list->starts[i + 1] : segment->sealed;
		r = part_new(list->starts[i], end, NULL, &part);
		if (r == 0)
			r = segment_push_part(segment, part);
		if (r < 0)
			part_unref(part);
	}
	while (r < 0 && segment->part_count)
		part_unref(segment->parts[--segment->part_count]);
	return r;
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
	/*
	 * A crash before the first commit leaves a segment without bytes, hence without that
	 * directory.
	 */
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

/*
 * Takes the part at AT out of the set; its reference and its files are the caller's, to be closed
 * without the lock.
 */
static struct part *take_out_locked(struct engine *e, size_t at, struct sealed **ret_sealed)
{
	struct part *part = e->files[at];

	e->files[at] = e->files[--e->file_count];
	*ret_sealed = part->sealed;
	part->sealed = NULL;
	return part;
}

/* Makes room for one more: the longest unused part goes. NULL if all are in use. */
static struct part *evict_locked(struct engine *e, struct sealed **ret_sealed)
{
	size_t at = e->file_count;

	for (size_t i = 0; i < e->file_count; i++)
		if (e->files[i]->sealed_users == 0 &&
		    (at == e->file_count || e->files[i]->sealed_used < e->files[at]->sealed_used))
			at = i;
	return at < e->file_count ? take_out_locked(e, at, ret_sealed) : NULL;
}

/* Takes PART out of the set if it is there, of a removed segment, and nobody's any more. */
static struct part *drop_removed_locked(struct engine *e, struct part *part,
					struct sealed **ret_sealed)
{
	if (!part->removed || !part->sealed || part->sealed_users)
		return NULL;
	size_t at = 0;
	while (e->files[at] != part)
		at++;
	return take_out_locked(e, at, ret_sealed);
}

static int open_files(struct engine *e, const struct uuid *segment, struct part *part,
		      struct reterr *err, struct sealed **ret)
{
	char text[UUID_TEXT_LENGTH + 1];

	int r = sealed_open(e->disk, segment, part->start, true, err, ret);
	if (r != -ENOENT)
		return r;
	return reterr_set(err, -EBADMSG,
			  "segment %s: the table of its part at byte %" PRIu64 " is missing",
			  uuid_format(segment, text), part->start);
}

/* Whether PART's files are open, and its user's now. */
static bool use_locked(struct engine *e, struct part *part, struct sealed **ret)
{
	if (!part->sealed)
		return false;
	part->sealed_users++;
	part->sealed_used = ++e->files_tick;
	*ret = part->sealed;
	return true;
}

int part_acquire_sealed(struct engine *e, const struct uuid *segment, struct part *part,
			struct reterr *err, struct sealed **ret)
{
	struct part *evicted_part = NULL;
	struct sealed *evicted = NULL, *mine, *unused = NULL;

	(void)pthread_mutex_lock(&e->files_lock);
	bool open = use_locked(e, part, ret);
	(void)pthread_mutex_unlock(&e->files_lock);
	if (open)
		return 0;
	int r = open_files(e, segment, part, err, &mine);
	if (r < 0)
		return r;

	(void)pthread_mutex_lock(&e->files_lock);
	if (!part->sealed && !part->removed) {
		if (e->file_count == SEALED_OPEN_MAX)
			evicted_part = evict_locked(e, &evicted);
		if (e->file_count < SEALED_OPEN_MAX) {
			part_ref(part);
			e->files[e->file_count++] = part;
			part->sealed = mine;
			mine = NULL;
		}
	}
	if (use_locked(e, part, ret))
		unused = mine; /* another reader was faster */
	else
		*ret = mine; /* for this user alone, and closed by its release */
	(void)pthread_mutex_unlock(&e->files_lock);

	sealed_close(unused);
	sealed_close(evicted);
	part_unref(evicted_part);
	return 0;
}

void part_release_sealed(struct engine *e, struct part *part, struct sealed *sealed)
{
	struct part *dropped = NULL;

	(void)pthread_mutex_lock(&e->files_lock);
	if (sealed == part->sealed) {
		invariant(part->sealed_users > 0);
		part->sealed_users--;
		sealed = NULL;
		dropped = drop_removed_locked(e, part, &sealed);
	}
	(void)pthread_mutex_unlock(&e->files_lock);
	sealed_close(sealed);
	part_unref(dropped);
}

void part_files_removed(struct engine *e, struct part *part)
{
	struct sealed *sealed = NULL;

	(void)pthread_mutex_lock(&e->files_lock);
	part->removed = true;
	struct part *dropped = drop_removed_locked(e, part, &sealed);
	(void)pthread_mutex_unlock(&e->files_lock);
	sealed_close(sealed);
	part_unref(dropped);
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
