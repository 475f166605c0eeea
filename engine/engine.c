/* Format, open, close and the numbers. */
#include "engine/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/core.h"

#define FLUSH_INTERVAL_MS_DEFAULT ((uint64_t)1000)
#define SEGMENT_SIZE_DEFAULT ((uint64_t)1 << 30)
#define IDLE_SEAL_MS_DEFAULT ((uint64_t)60 * 1000)
#define CACHE_SIZE_DEFAULT ((uint64_t)8 << 20)

/* ---- Format --------------------------------------------------------------------------------- */

/* A store is told from other files wherever the listing shows its superblock. */
static int check_empty(void *arg, const char *name, bool is_dir)
{
	int *found = arg;

	/* An ext4 of its own has lost+found from the start; repair uses it, too. */
	if (!is_dir && strcmp(name, "lock") == 0)
		return 0;
	if (is_dir && strcmp(name, "lost+found") == 0)
		return 0;
	if (strcmp(name, SUPERBLOCK_PATH) == 0)
		*found = -EEXIST;
	else if (*found == 0)
		*found = -ENOTEMPTY;
	return 0;
}

static int make_directories(struct disk *disk)
{
	static const char *const dirs[] = {"segments", "sealed", "staging"};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(dirs) && r == 0; i++)
		r = disk_mkdir(disk, dirs[i]);
	return r;
}

static int fill_superblock(struct disk *disk, const struct engine_format_options *options,
			   struct superblock *sb)
{
	struct uuid seed;

	*sb = (struct superblock){.version = SUPERBLOCK_VERSION,
				  .block_size = options->block_size ? options->block_size
								    : ENGINE_BLOCK_SIZE_DEFAULT,
				  .node = options->node ? options->node : 1,
				  .created_ns = clock_system()->wall_ns(clock_system())};
	int r = uuid_random(&sb->store);
	if (r == 0)
		r = uuid_random(&seed);
	if (r == 0)
		r = disk->ops->identity(disk, &sb->identity);
	if (r == 0)
		memcpy(sb->seed, seed.bytes, sizeof(sb->seed));
	return r;
}

/* The disk's tree must be empty. */
static int check_unused(struct disk *disk, struct reterr *err)
{
	int found = 0;
	int r = disk_list(disk, "", check_empty, &found);
	if (r == 0)
		r = found;
	if (r == -EEXIST)
		return reterr_set(err, r, "there is a store already");
	if (r == -ENOTEMPTY)
		return reterr_set(err, r, "the directory is not empty");
	return r;
}

int engine_format(struct disk *disk, const struct engine_format_options *options,
		  struct reterr *err)
{
	struct engine_format_options defaults = {0};
	struct superblock sb;

	if (!options)
		options = &defaults;
	uint64_t block = options->block_size ? options->block_size : ENGINE_BLOCK_SIZE_DEFAULT;
	if (block < ENGINE_BLOCK_SIZE_MIN || block > ENGINE_BLOCK_SIZE_MAX ||
	    block % ENGINE_BLOCK_SIZE_MIN)
		return reterr_set(err, -EINVAL,
				  "a block has 64 KiB to 64 MiB, in steps of 64 KiB, not %" PRIu64
				  " bytes",
				  block);
	/* Before the lock, whose file would be left among others, and again under it. */
	int r = check_unused(disk, err);
	if (r == 0)
		r = disk->ops->lock(disk, true, err);
	if (r == 0)
		r = check_unused(disk, err);
	if (r == 0)
		r = fill_superblock(disk, options, &sb);
	if (r == 0)
		r = make_directories(disk);
	if (r == 0)
		r = catalogue_create(disk, &sb.store);
	if (r == 0)
		r = root_log_create(disk);
	if (r == 0)
		r = disk_sync_dir(disk, "");
	/* The superblock last: without it there is no store. */
	if (r == 0)
		r = superblock_write(disk, &sb, err);
	if (r == 0)
		r = disk_sync_dir(disk, "");
	if (r < 0 && !(err && err->code))
		(void)reterr_set(err, r, "the store cannot be made: %s", strerror(-r));
	return r;
}

/* ---- Open ----------------------------------------------------------------------------------- */

static void init_locks(struct engine *e)
{
	pthread_condattr_t monotonic;

	(void)pthread_mutex_init(&e->lock, NULL);
	(void)pthread_mutex_init(&e->roll_lock, NULL);
	(void)pthread_mutex_init(&e->files_lock, NULL);
	(void)pthread_mutex_init(&e->root_lock, NULL);
	(void)pthread_mutex_init(&e->background_lock, NULL);
	(void)pthread_mutex_init(&e->state_lock, NULL);
	(void)pthread_mutex_init(&e->listen_lock, NULL);
	(void)pthread_cond_init(&e->listen_idle, NULL);
	(void)pthread_cond_init(&e->state_changed, NULL);
	(void)pthread_cond_init(&e->root_changed, NULL);
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&e->flusher_wake, &monotonic);
	(void)pthread_cond_init(&e->sealer_wake, &monotonic);
	(void)pthread_cond_init(&e->writer_wake, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
}

static void destroy(struct engine *e)
{
	part_close_files(e);
	segment_free_all(e);
	free(e->files);
	catalogue_close(e->catalogue);
	root_log_close(e->root_log);
	journal_free(e->journal);
	reserve_close(e);
	page_cache_free(e->cache);
	pool_free(e->pool);
	(void)pthread_mutex_destroy(&e->lock);
	(void)pthread_mutex_destroy(&e->roll_lock);
	(void)pthread_mutex_destroy(&e->files_lock);
	(void)pthread_mutex_destroy(&e->root_lock);
	(void)pthread_mutex_destroy(&e->background_lock);
	(void)pthread_mutex_destroy(&e->state_lock);
	(void)pthread_mutex_destroy(&e->listen_lock);
	(void)pthread_cond_destroy(&e->listen_idle);
	(void)pthread_cond_destroy(&e->state_changed);
	(void)pthread_cond_destroy(&e->root_changed);
	(void)pthread_cond_destroy(&e->flusher_wake);
	(void)pthread_cond_destroy(&e->sealer_wake);
	(void)pthread_cond_destroy(&e->writer_wake);
	free(e);
}

static int engine_new(struct disk *disk, const struct engine_options *options, struct engine **ret)
{
	struct engine *e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->disk = disk;
	if (options)
		e->options = *options;
	struct engine_options *o = &e->options;
	o->flush_interval_ms = o->flush_interval_ms ? o->flush_interval_ms
						    : FLUSH_INTERVAL_MS_DEFAULT;
	o->segment_size_max = o->segment_size_max ? o->segment_size_max : SEGMENT_SIZE_DEFAULT;
	o->idle_seal_ms = o->idle_seal_ms ? o->idle_seal_ms : IDLE_SEAL_MS_DEFAULT;
	o->cache_size_max = o->cache_size_max ? o->cache_size_max : CACHE_SIZE_DEFAULT;
	e->clock = o->clock ? o->clock : clock_system();
	e->opened_ns = e->clock->wall_ns(e->clock);
	init_locks(e);
	e->files = calloc(SEALED_OPEN_MAX, sizeof(struct part *));
	if (!e->files || pool_new(&e->pool) < 0 ||
	    page_cache_new(o->cache_size_max, &e->cache) < 0) {
		destroy(e);
		return -ENOMEM;
	}
	*ret = e;
	return 0;
}

static int apply_record(struct engine_segment *segment, const struct catalogue_record *record)
{
	segment->node = record->node;
	segment->epoch = record->epoch;
	segment->created_ns = record->created_ns;
	segment->modified_ns = record->modified_ns;
	segment->born_root = record->born_root;
	segment->registered = true;
	segment->has_remote = record->flags & CATALOGUE_REMOTE;
	if (record->flags & CATALOGUE_INHERITED && record->state <= CATALOGUE_SEALED)
		return segment_set_inherited(segment, record->length);
	switch ((enum catalogue_state)record->state) {
	case CATALOGUE_OPEN:
		segment->state = ENGINE_SEGMENT_OPEN; /* recovery looks at it */
		segment->length = record->length;
		break;
	case CATALOGUE_SEALED:
		segment->state = ENGINE_SEGMENT_SEALED;
		segment->length = segment->durable = segment->sealed = record->length;
		segment->frames_end = record->frames_next;
		segment->frames_known = false;
		segment->parts_loaded = false;
		break;
	case CATALOGUE_REMOVED:
	case CATALOGUE_FORGOTTEN: /* no open tells of one */
		segment->state = ENGINE_SEGMENT_REMOVED;
		break;
	}
	return 0;
}

static int load_record(void *arg, const struct catalogue_record *record)
{
	struct engine *e = arg;
	struct engine_segment *segment;

	if (record->class > ENGINE_CLASS_RESTORED)
		return -EBADMSG;
	int r = segment_add(e, &record->uuid, record->number, (enum engine_class)record->class,
			    &segment);
	if (r < 0)
		return r == -EEXIST ? -EBADMSG : r;
	return apply_record(segment, record);
}

/* What the superblock says about it: whether this process may write. */
static int load_superblock(struct engine *e, struct reterr *err)
{
	struct reterr reason = {0};

	int r = superblock_read(e->disk, &e->superblock, err);
	if (r == 0)
		r = identity_check(e, &reason, err);
	if (r < 0)
		return r;
	e->geometry = part_geometry_of(e->superblock.block_size);
	if (e->superblock.read_only)
		(void)reterr_set(&reason, -EROFS,
				 "it has a feature that this version can only read");
	if (e->options.read_only)
		(void)reterr_set(&reason, -EROFS, "it was opened so");
	if (reason.code) {
		memcpy(e->read_only_reason, reason.text, sizeof(e->read_only_reason));
		atomic_store(&e->read_only, true);
	}
	return journal_new(e->disk, &e->superblock.store, reason.code != 0, &e->journal);
}

/*
 * The parts of other segments are listed when they are needed. What cannot be listed now is damage
 * that whoever reads it is told of.
 */
static void load_remote(struct engine *e)
{
	struct engine_segment *segment;

	for (uint32_t number = 0; (segment = engine_segment_next(e, number));
	     number = segment->number)
		if (segment->has_remote)
			(void)!segment_load_parts(segment, NULL);
}

static int load(struct engine *e, struct reterr *err)
{
	struct reterr damage = {0};

	int r = load_superblock(e, err);
	if (r < 0)
		return r;
	bool read_only = atomic_load(&e->read_only);
	r = catalogue_open(e->disk, &e->superblock.store, read_only, load_record, e, &damage,
			   &e->catalogue);
	if (r == -EBADMSG || r == -ENOENT) {
		engine_note_damage(e, &damage);
		read_only = true;
	} else if (r < 0) {
		return reterr_set(err, r, "%s", damage.text);
	}
	r = root_log_open(e->disk, read_only, &damage, &e->root_log);
	if (r == -EBADMSG && e->root_log)
		engine_note_damage(e, &damage);
	else if (r < 0)
		return reterr_set(err, r, "%s", damage.text);
	/* Before recovery, which may need the room: a crash may have left a full disk. */
	if (!atomic_load(&e->read_only)) {
		stage_clear(e);
		reserve_open(e);
	}
	r = engine_recover(e, err);
	if (r == 0)
		load_remote(e);
	return r;
}

int engine_open(struct disk *disk, const struct engine_options *options, struct reterr *err,
		struct engine **ret)
{
	struct engine *e;

	int r = superblock_is_there(disk, err);
	if (r == 0)
		r = disk->ops->lock(disk, !(options && options->read_only), err);
	if (r < 0)
		return r;
	r = engine_new(disk, options, &e);
	if (r < 0)
		return r;
	r = load(e, err);
	if (r == 0 && !atomic_load(&e->read_only)) {
		e->opened_writable = true;
		r = background_start(e);
	}
	if (r < 0) {
		destroy(e);
		return r;
	}
	*ret = e;
	return 0;
}

void engine_abandon(struct engine *e)
{
	if (!e)
		return;
	background_stop(e);
	destroy(e);
}

int engine_close(struct engine *e, struct reterr *err)
{
	int r = 0;

	if (!e)
		return 0;
	background_stop(e);
	if (e->opened_writable)
		r = commit_all(e, err); /* here: nobody waits for a keeper any more */
	if (e->opened_writable && !atomic_load(&e->read_only)) {
		int sealed = engine_seal(e, NULL, r == 0 ? err : NULL);
		if (r == 0)
			r = sealed;
		/* Marks: from now on an unreadable last record is damage, not a torn end. */
		if (r == 0)
			r = root_log_mark(e->root_log, err);
		if (r == 0)
			r = catalogue_mark(e->catalogue, err);
		if (r == 0)
			r = journal_mark(e->journal, err);
	}
	destroy(e);
	return r;
}

/* ---- Numbers -------------------------------------------------------------------------------- */

static void sum_segments(struct engine *e, struct engine_stats *stats)
{
	struct engine_segment *segment;

	for (uint32_t number = 0; (segment = engine_segment_next(e, number));
	     number = segment->number) {
		segment_lock(segment);
		if (segment->state != ENGINE_SEGMENT_VOLATILE) {
			stats->segments++;
			stats->bytes_stored += segment->length;
			stats->bytes_pending += segment->length - segment->durable;
			stats->bytes_remote += segment->remote;
			stats->open_parts += segment->wal != NULL;
		}
		segment_unlock(segment);
	}
}

void engine_stats(struct engine *e, struct engine_stats *ret)
{
	struct disk_space space = {0};

	*ret = (struct engine_stats){
		.store = e->superblock.store,
		.block_size = e->superblock.block_size,
		.node = e->superblock.node,
		.disk_path = e->disk->ops->name,
		.opened_ns = e->opened_ns,
		.appends = atomic_load(&e->appends),
		.bytes_appended = atomic_load(&e->bytes_appended),
		.commits = atomic_load(&e->commits),
		.commit_waiters = atomic_load(&e->commit_waiters),
		.roots_published = atomic_load(&e->roots_published),
		.parts_sealed = atomic_load(&e->parts_sealed),
		.parts_poisoned = atomic_load(&e->parts_poisoned),
		.parts_evicted = atomic_load(&e->parts_evicted),
		.errors = atomic_load(&e->errors),
		.buffer_bytes = pool_bytes(e->pool),
	};
	sum_segments(e, ret);
	engine_root_range(e, &ret->roots_first, &ret->roots_last);
	page_cache_stats(e->cache, &ret->cache_hits, &ret->cache_misses, &ret->cache_bytes);
	if (e->disk->ops->space(e->disk, &space) == 0) {
		ret->disk_total = space.total;
		ret->disk_available = space.available;
	}
	(void)pthread_mutex_lock(&e->state_lock);
	ret->recovered = e->recovered;
	ret->clone = e->clone;
	ret->copied = e->copied;
	ret->damaged = e->damaged;
	ret->read_only = atomic_load(&e->read_only);
	memcpy(ret->read_only_reason, e->read_only_reason, sizeof(ret->read_only_reason));
	(void)pthread_mutex_unlock(&e->state_lock);
}
