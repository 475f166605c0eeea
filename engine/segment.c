/*
 * The tables of segments: by number (read without a lock), by UUID, and the list of those with open
 * parts.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/core.h"

enum { HASH_SIZE_FIRST = 256 };

/* ---- Tables --------------------------------------------------------------------------------- */

static struct engine_segment **bucket_of(struct engine *e, const struct uuid *uuid)
{
	/* Clients choose UUIDs: the store's secret seed keeps them from choosing buckets. */
	uint8_t keyed[SUPERBLOCK_SEED_SIZE + sizeof(uuid->bytes)];
	memcpy(keyed, e->superblock.seed, SUPERBLOCK_SEED_SIZE);
	memcpy(keyed + SUPERBLOCK_SEED_SIZE, uuid->bytes, sizeof(uuid->bytes));
	return &e->hash[hash64_of(keyed, sizeof(keyed)) % e->hash_size];
}

static int hash_grow(struct engine *e)
{
	size_t old_size = e->hash_size;
	struct engine_segment **old = e->hash;
	size_t size = old_size ? old_size * 2 : HASH_SIZE_FIRST;
	struct engine_segment **hash = calloc(size, sizeof(struct engine_segment *));
	if (!hash)
		return -ENOMEM;

	e->hash = hash;
	e->hash_size = size;
	for (size_t i = 0; i < old_size; i++) {
		for (struct engine_segment *s = old[i], *next; s; s = next) {
			next = s->hash_next;
			struct engine_segment **bucket = bucket_of(e, &s->uuid);
			s->hash_next = *bucket;
			*bucket = s;
		}
	}
	free(old);
	return 0;
}

static struct engine_segment *find_locked(struct engine *e, const struct uuid *uuid)
{
	if (!e->hash_size)
		return NULL;
	for (struct engine_segment *s = *bucket_of(e, uuid); s; s = s->hash_next)
		if (uuid_equal(&s->uuid, uuid))
			return s;
	return NULL;
}

static bool is_visible(struct engine_segment *segment)
{
	segment_lock(segment);
	bool visible = segment->state != ENGINE_SEGMENT_REMOVED;
	segment_unlock(segment);
	return visible;
}

static int leaf_for(struct engine *e, uint32_t number, _Atomic(struct engine_segment *) **ret_slot)
{
	struct segment_leaf *leaf = atomic_load(&e->leaves[number / SEGMENT_LEAF_SIZE]);
	if (!leaf) {
		leaf = calloc(1, sizeof(*leaf));
		if (!leaf)
			return -ENOMEM;
		atomic_store(&e->leaves[number / SEGMENT_LEAF_SIZE], leaf);
	}
	*ret_slot = &leaf->slots[number % SEGMENT_LEAF_SIZE];
	return 0;
}

static struct engine_segment *segment_new(struct engine *e, const struct uuid *uuid,
					  uint32_t number, enum engine_class class)
{
	struct engine_segment *segment = calloc(1, sizeof(*segment));
	if (!segment)
		return NULL;
	segment->engine = e;
	segment->uuid = *uuid;
	segment->number = number;
	segment->node = e->superblock.node;
	segment->class = class;
	segment->state = ENGINE_SEGMENT_VOLATILE;
	segment->parts_loaded = true;
	segment->frames_known = true;
	(void)pthread_mutex_init(&segment->lock, NULL);
	(void)pthread_cond_init(&segment->changed, NULL);
	return segment;
}

static void segment_free(struct engine_segment *segment)
{
	for (size_t i = 0; i < segment->part_count; i++)
		part_unref(segment->parts[i]);
	free(segment->parts);
	(void)pthread_mutex_destroy(&segment->lock);
	(void)pthread_cond_destroy(&segment->changed);
	free(segment);
}

static int add_locked(struct engine *e, const struct uuid *uuid, uint32_t number,
		      enum engine_class class, struct engine_segment **ret)
{
	struct engine_segment *segment = find_locked(e, uuid);
	/* A removed one keeps its number and struct; its UUID may be used again. */
	if (segment && is_visible(segment)) {
		*ret = segment;
		return -EEXIST;
	}
	if (number == 0)
		number = atomic_load(&e->number_last) + 1;
	if (number > SEGMENT_NUMBER_MAX)
		return -EMFILE;

	_Atomic(struct engine_segment *) *slot;
	int r = leaf_for(e, number, &slot);
	if (r == 0 && e->hash_count >= e->hash_size)
		r = hash_grow(e);
	if (r < 0)
		return r;
	segment = segment_new(e, uuid, number, class);
	if (!segment)
		return -ENOMEM;
	struct engine_segment **bucket = bucket_of(e, uuid);
	segment->hash_next = *bucket;
	*bucket = segment;
	e->hash_count++;
	atomic_store(slot, segment);
	if (number > atomic_load(&e->number_last))
		atomic_store(&e->number_last, number);
	*ret = segment;
	return 0;
}

int segment_add(struct engine *e, const struct uuid *uuid, uint32_t number, enum engine_class class,
		struct engine_segment **ret)
{
	(void)pthread_mutex_lock(&e->lock);
	int r = add_locked(e, uuid, number, class, ret);
	(void)pthread_mutex_unlock(&e->lock);
	return r;
}

int segment_add_inherited(struct engine *e, const struct engine_inherited *inherited,
			  struct engine_segment **ret)
{
	struct engine_segment *segment;

	(void)pthread_mutex_lock(&e->lock);
	int r = add_locked(e, &inherited->uuid, 0, inherited->class, &segment);
	if (r == 0) {
		segment_lock(segment);
		segment->node = inherited->node;
		segment->epoch = inherited->epoch;
		segment->created_ns = segment->modified_ns = e->clock->wall_ns(e->clock);
		r = segment_set_inherited(segment, inherited->length);
		if (r < 0)
			segment->state = ENGINE_SEGMENT_REMOVED;
		segment_unlock(segment);
		*ret = segment;
	}
	(void)pthread_mutex_unlock(&e->lock);
	return r;
}

void segment_free_all(struct engine *e)
{
	for (unsigned i = 0; i < SEGMENT_LEAVES; i++) {
		struct segment_leaf *leaf = atomic_load(&e->leaves[i]);
		for (unsigned j = 0; leaf && j < SEGMENT_LEAF_SIZE; j++) {
			struct engine_segment *segment = atomic_load(&leaf->slots[j]);
			if (segment)
				segment_free(segment);
		}
		free(leaf);
	}
	free(e->hash);
}

void segment_list_open(struct engine_segment *segment)
{
	struct engine *e = segment->engine;

	(void)pthread_mutex_lock(&e->lock);
	if (!segment->in_open_list) {
		segment->in_open_list = true;
		segment->open_prev = NULL;
		segment->open_next = e->open_list;
		if (e->open_list)
			e->open_list->open_prev = segment;
		e->open_list = segment;
		e->open_count++;
	}
	(void)pthread_mutex_unlock(&e->lock);
}

void segment_unlist_open(struct engine_segment *segment)
{
	struct engine *e = segment->engine;

	(void)pthread_mutex_lock(&e->lock);
	if (segment->in_open_list) {
		segment->in_open_list = false;
		if (segment->open_prev)
			segment->open_prev->open_next = segment->open_next;
		else
			e->open_list = segment->open_next;
		if (segment->open_next)
			segment->open_next->open_prev = segment->open_prev;
		e->open_count--;
	}
	(void)pthread_mutex_unlock(&e->lock);
}

size_t segment_open_list(struct engine *e, struct engine_segment ***ret)
{
	size_t n = 0;

	(void)pthread_mutex_lock(&e->lock);
	struct engine_segment **list =
		malloc((e->open_count + 1) * sizeof(struct engine_segment *));
	for (struct engine_segment *s = e->open_list; s && list; s = s->open_next)
		list[n++] = s;
	(void)pthread_mutex_unlock(&e->lock);
	*ret = list;
	return n;
}

int segment_record(struct engine_segment *segment, enum catalogue_state state, struct reterr *err)
{
	segment_lock(segment);
	struct part *last = segment->part_count ? segment->parts[segment->part_count - 1] : NULL;
	/* Without an open part an OPEN record announces the next one. */
	bool announced = state == CATALOGUE_OPEN && !segment->wal;
	struct catalogue_record record = {
		.uuid = segment->uuid,
		.number = segment->number,
		.node = segment->node,
		.epoch = segment->epoch,
		.class = (uint8_t)segment->class,
		.state = (uint8_t)state,
		.flags = (uint8_t)((segment->inherited ? CATALOGUE_INHERITED : 0) |
				   (segment->has_remote ? CATALOGUE_REMOTE : 0)),
		.part_start = announced ? segment->length
			      : last    ? last->start
					: 0,
		.created_ns = segment->created_ns,
		.modified_ns = segment->modified_ns,
		.born_root = segment->born_root,
		.frames_next = segment->frames_known ? frame_scan_end(&segment->frames)
						     : segment->frames_end,
	};
	record.length = state == CATALOGUE_OPEN ? record.part_start : segment->durable;
	segment_unlock(segment);
	return catalogue_put(segment->engine->catalogue, &record, err);
}

/* ---- The public part ------------------------------------------------------------------------ */

struct engine_segment *engine_segment_find(struct engine *e, const struct uuid *uuid)
{
	(void)pthread_mutex_lock(&e->lock);
	struct engine_segment *segment = find_locked(e, uuid);
	(void)pthread_mutex_unlock(&e->lock);
	return segment && is_visible(segment) ? segment : NULL;
}

struct engine_segment *segment_at_number(struct engine *e, uint32_t number)
{
	if (number == 0 || number > SEGMENT_NUMBER_MAX)
		return NULL;
	struct segment_leaf *leaf = atomic_load(&e->leaves[number / SEGMENT_LEAF_SIZE]);
	return leaf ? atomic_load(&leaf->slots[number % SEGMENT_LEAF_SIZE]) : NULL;
}

struct engine_segment *engine_segment_at(struct engine *e, uint32_t number)
{
	struct engine_segment *segment = segment_at_number(e, number);
	return segment && is_visible(segment) ? segment : NULL;
}

struct engine_segment *engine_segment_next(struct engine *e, uint32_t after)
{
	uint32_t last = atomic_load(&e->number_last);

	for (uint32_t number = after + 1; number <= last; number++) {
		struct engine_segment *segment = segment_at_number(e, number);
		if (segment && is_visible(segment))
			return segment;
	}
	return NULL;
}

uint32_t engine_segment_number(const struct engine_segment *segment)
{
	return segment->number;
}

const struct uuid *engine_segment_uuid(const struct engine_segment *segment)
{
	return &segment->uuid;
}

static uint64_t physical_size(const struct engine_segment *segment)
{
	uint64_t size = segment->sealed;
	if (segment->wal)
		size += segment->wal->reserved + PART_TABLE_COPIES * segment->wal->table_reserved;
	else
		size = segment->length;
	return size - segment->remote;
}

/* L: own segments grow after they were sealed too, but only the one where atoms go. */
static bool is_final(struct engine *e, const struct engine_segment *segment)
{
	if (segment->state != ENGINE_SEGMENT_SEALED)
		return false;
	if (segment->inherited)
		return true;
	if (segment->class == ENGINE_CLASS_FOREIGN)
		return false;
	return segment->class == ENGINE_CLASS_RESTORED || segment->ended ||
	       atomic_load(&e->current[segment->class]) != segment;
}

void engine_segment_info(struct engine *e, struct engine_segment *segment,
			 struct engine_segment_info *ret)
{
	segment_lock(segment);
	*ret = (struct engine_segment_info){
		.uuid = segment->uuid,
		.number = segment->number,
		.node = segment->node,
		.epoch = segment->epoch,
		.class = segment->class,
		.state = segment->state,
		.length = segment->length,
		.durable = segment->durable,
		.sealed = segment->sealed,
		.frames_end = segment->frames_known ? frame_scan_end(&segment->frames)
						    : segment->frames_end,
		.physical = physical_size(segment),
		.created_ns = segment->created_ns,
		.modified_ns = segment->modified_ns,
		.born_root = segment->born_root,
		.frames_bad = segment->frames_known && segment->frames.bad,
		.final = is_final(e, segment),
		.inherited = segment->inherited,
		.remote = segment->remote,
	};
	segment_unlock(segment);
}

int engine_segment_create(struct engine *e, const struct uuid *uuid, struct engine_segment **ret)
{
	int r = engine_check_writable(e, NULL);
	if (r < 0)
		return r;
	return segment_add(e, uuid, 0, ENGINE_CLASS_FOREIGN, ret);
}

void engine_segment_forget(struct engine *e, struct engine_segment *segment)
{
	(void)e;
	segment_lock(segment);
	if (segment->state == ENGINE_SEGMENT_VOLATILE && !segment->appending &&
	    segment->writers == 0 && !segment->emptied)
		segment->state = ENGINE_SEGMENT_REMOVED;
	segment_unlock(segment);
}

void engine_writer_add(struct engine *e, struct engine_segment *segment)
{
	(void)e;
	segment_lock(segment);
	segment->writers++;
	segment_unlock(segment);
}

void engine_writer_drop(struct engine *e, struct engine_segment *segment)
{
	segment_lock(segment);
	invariant(segment->writers > 0);
	segment->writers--;
	segment->writers_gone_ms = e->clock->now_ms(e->clock);
	segment_unlock(segment);
}

struct removing {
	struct disk *disk;
	char dir[DISK_PATH_MAX];
};

static int remove_name(void *arg, const char *name, bool is_dir)
{
	const struct removing *removing = arg;
	char path[DISK_PATH_MAX];

	if (is_dir ||
	    snprintf(path, sizeof(path), "%.80s/%.80s", removing->dir, name) >= DISK_PATH_MAX)
		return 0;
	return disk_unlink(removing->disk, path);
}

static int remove_dir(struct disk *disk, enum part_file file, const struct uuid *uuid)
{
	struct removing removing = {.disk = disk};

	part_dir(file, uuid, removing.dir);
	int r = disk_list(disk, removing.dir, remove_name, &removing);
	if (r == 0)
		r = disk->ops->rmdir(disk, removing.dir);
	return r == -ENOENT ? 0 : r;
}

int segment_remove_files(struct engine_segment *segment)
{
	struct disk *disk = segment->engine->disk;

	int r = remove_dir(disk, PART_DATA, &segment->uuid);
	if (r == 0)
		r = remove_dir(disk, PART_TABLE, &segment->uuid);
	if (r == 0)
		r = disk_sync_dir(disk, "segments");
	if (r == 0)
		r = disk_sync_dir(disk, "sealed");
	if (r == 0)
		r = segment_record(segment, CATALOGUE_FORGOTTEN, NULL);
	segment_lock(segment);
	segment->files_left = r < 0;
	segment_unlock(segment);
	return r;
}

/* A removed segment of UUID whose files are not all gone, locked; NULL if there is none. */
static struct engine_segment *lock_leftover(struct engine *e, const struct uuid *uuid)
{
	struct engine_segment *s;

	(void)pthread_mutex_lock(&e->lock);
	for (s = *bucket_of(e, uuid); s; s = s->hash_next) {
		if (!uuid_equal(&s->uuid, uuid))
			continue;
		segment_lock(s);
		if (s->files_left)
			break;
		segment_unlock(s);
	}
	(void)pthread_mutex_unlock(&e->lock);
	return s;
}

int segment_clear_way(struct engine_segment *segment, struct reterr *err)
{
	struct engine_segment *old;
	char text[UUID_TEXT_LENGTH + 1];
	int r = 0;

	while (r == 0 && (old = lock_leftover(segment->engine, &segment->uuid))) {
		while (old->appending)
			(void)pthread_cond_wait(&old->changed, &old->lock);
		bool left = old->files_left;
		old->appending = left;
		segment_unlock(old);
		if (!left)
			continue;
		r = segment_remove_files(old);
		segment_lock(old);
		old->appending = false;
		(void)pthread_cond_broadcast(&old->changed);
		segment_unlock(old);
	}
	if (r < 0)
		return reterr_set(
			err, r, "segment %s: the files of a removed segment of that name stay: %s",
			uuid_format(&segment->uuid, text), strerror(-r));
	return 0;
}

/*
 * Takes all flags: nobody writes, seals or commits. -EBUSY it has writers; -ENOENT it was removed.
 */
static int take_for_removal(struct engine_segment *segment)
{
	int r = 0;

	segment_lock(segment);
	while (segment->appending || segment->committing || segment->sealing)
		(void)pthread_cond_wait(&segment->changed, &segment->lock);
	if (segment->state == ENGINE_SEGMENT_REMOVED)
		r = -ENOENT;
	else if (segment->writers)
		r = -EBUSY;
	if (r == 0)
		segment->appending = segment->committing = segment->sealing = true;
	segment_unlock(segment);
	return r;
}

/* Gives all flags back. */
static void give_after_removal(struct engine_segment *segment)
{
	segment_lock(segment);
	segment->appending = segment->committing = segment->sealing = false;
	(void)pthread_cond_broadcast(&segment->changed);
	segment_unlock(segment);
}

/* Owns all flags: the parts are nobody's from now on but their readers'. */
static void forget_parts(struct engine_segment *segment)
{
	struct engine *e = segment->engine;

	segment_lock(segment);
	struct part **parts = segment->parts;
	size_t count = segment->part_count;
	segment->state = ENGINE_SEGMENT_REMOVED;
	segment->files_left = segment->registered;
	segment->wal = NULL;
	segment->parts = NULL;
	segment->part_count = segment->part_capacity = 0;
	segment_unlock(segment);

	segment_unlist_open(segment);
	page_cache_drop(e->cache, segment->number);
	for (size_t i = 0; i < count; i++) {
		part_files_removed(e, parts[i]);
		part_unref(parts[i]);
	}
	free(parts);
}

int engine_segment_remove(struct engine *e, struct engine_segment *segment)
{
	int r = engine_check_writable(e, NULL);
	if (r == 0)
		r = segment_load_parts(segment, NULL);
	if (r == 0)
		r = take_for_removal(segment);
	if (r < 0)
		return r;
	if (segment->registered) /* the flags are ours */
		r = segment_record(segment, CATALOGUE_REMOVED, NULL);
	if (r == 0) {
		forget_parts(segment);
		/*
		 * It is gone in any case: a segment of the same UUID, or the next open, tries
		 * again.
		 */
		if (segment->files_left)
			(void)!segment_remove_files(segment);
	}
	give_after_removal(segment);
	if (r == 0)
		engine_changed(e);
	return r;
}
