/* The parts of a segment in memory, and the bounded set of sealed parts whose files are open. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/core.h"
#include "engine/part_list.h"

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

/* The next sealed part in LIST from AT on, below END; LIST->count if there is none. */
static size_t next_sealed(const struct part_list *list, size_t at, uint64_t end)
{
	while (at < list->count && !list->items[at].table)
		at++; /* a part that never held a byte */
	return at < list->count && list->items[at].start < end ? at : list->count;
}

/* L: all or none. */
static int push_listed(struct engine_segment *segment, const struct part_list *list)
{
	uint64_t remote = 0;
	int r = 0;

	for (size_t i = next_sealed(list, 0, segment->sealed); i < list->count && r == 0;) {
		const struct part_found *found = &list->items[i];
		struct part *part = NULL;
		i = next_sealed(list, i + 1, segment->sealed);
		uint64_t end = i < list->count ? list->items[i].start : segment->sealed;
		r = part_new(found->start, end, NULL, &part);
		if (r == 0) {
			atomic_store(&part->remote, part_is_remote(found));
			atomic_store(&part->used_ns, segment->modified_ns);
			remote += part_is_remote(found) ? end - found->start : 0;
			r = segment_push_part(segment, part);
		}
		if (r < 0)
			part_unref(part);
	}
	while (r < 0 && segment->part_count)
		part_unref(segment->parts[--segment->part_count]);
	if (r == 0)
		segment->remote = remote;
	return r;
}

int segment_load_parts(struct engine_segment *segment, struct reterr *err)
{
	char path[DISK_PATH_MAX];
	struct part_list list = {0};

	segment_lock(segment);
	bool loaded = segment->parts_loaded;
	uint64_t below = segment->sealed;
	segment_unlock(segment);
	if (loaded)
		return 0;

	int r = part_list_load(segment->engine->disk, &segment->uuid, &list);
	/*
	 * A crash before the first commit leaves a segment without bytes, hence without tables.
	 */
	if (r == 0 && below > 0 && next_sealed(&list, 0, below) == list.count)
		r = -EBADMSG;
	if (r < 0) {
		part_list_done(&list);
		part_dir(PART_TABLE, &segment->uuid, path);
		return reterr_set(err, r,
				  r == -EBADMSG
					  ? "%s: the tables of the segment's sealed parts are "
					    "missing"
					  : "%s: the segment's parts cannot be listed",
				  path);
	}
	segment_lock(segment);
	if (!segment->parts_loaded) {
		r = push_listed(segment, &list);
		segment->parts_loaded = r == 0;
	}
	segment_unlock(segment);
	part_list_done(&list);
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

/* Takes PART out of the set if it is there, is not to stay, and is nobody's any more. */
static struct part *drop_unwanted_locked(struct engine *e, struct part *part,
					 struct sealed **ret_sealed)
{
	if (!(part->removed || part->retiring) || !part->sealed || part->sealed_users)
		return NULL;
	part->retiring = false;
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
	if (!part->sealed || part->retiring)
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
	/* A file that was opened just before the part was given up would keep its space. */
	bool outdated = mine->data && atomic_load(&part->remote);
	if (!part->sealed && !part->removed && !outdated) {
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
		dropped = drop_unwanted_locked(e, part, &sealed);
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
	struct part *dropped = drop_unwanted_locked(e, part, &sealed);
	(void)pthread_mutex_unlock(&e->files_lock);
	sealed_close(sealed);
	part_unref(dropped);
}

void part_files_evicted(struct engine *e, struct part *part)
{
	struct sealed *sealed = NULL;

	(void)pthread_mutex_lock(&e->files_lock);
	atomic_store(&part->remote, true);
	part->retiring = part->sealed != NULL;
	struct part *dropped = drop_unwanted_locked(e, part, &sealed);
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
