/*
 * Giving up the files of sealed parts whose bytes can be had elsewhere; what there is to give up.
 *
 * The order, and what a crash leaves behind each step:
 *   1. the superblock's and the catalogue's flags   a store that may have such parts, and has none
 *   2. sealed/<uuid>/<start>.remote, and its name   the part is here: it is read here
 *   3. unlink of the part                           it is here or elsewhere; the note is there
 *
 * So a part that is missing without a note is damage, as it always was. Table and index stay: what
 * comes from elsewhere is verified by the one, atoms are found by the other.
 *
 * The engine itself never waits for the place: not to append, to seal or to recover. Of a segment
 * that can grow it may have to read the bytes from the last MiB boundary before the end of its
 * sealed parts on, for the next part's sums, and the last few before that end, for a frame header
 * that goes on there. The note of a part holds what it has of these, from the page on in which they
 * begin; that of others is empty. The note's size says where it begins, the table's sums verify it.
 *
 * The SEALING flag is held meanwhile: a segment's sealed parts change under it alone.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/core.h"

/* L: bytes below this are never read by the engine itself. */
static uint64_t needed_from(const struct engine_segment *segment, bool final)
{
	uint64_t end = segment->sealed;
	uint64_t mib = end - end % ENGINE_SUM_SIZE;
	uint64_t header = end > INDEX_BIAS ? end - INDEX_BIAS : 0;

	if (final)
		return end;
	return header < mib ? header : mib;
}

/* L: from where on the bytes of PART stay here, in its note. Its start: all of them. */
static uint64_t kept_from(const struct engine_segment *segment, const struct part *part, bool final)
{
	uint64_t needed = needed_from(segment, final);

	if (part->end <= needed)
		return part->end;
	uint64_t inside = needed > part->start ? needed - part->start : 0;
	return part->start + inside - inside % PART_PAGE_SIZE;
}

/* L */
static struct part *find_part(struct engine_segment *segment, uint64_t start)
{
	for (size_t i = 0; i < segment->part_count; i++)
		if (segment->parts[i]->start == start)
			return segment->parts[i];
	return NULL;
}

/* L: 0 if PART may be given up. */
static int check_part(struct engine_segment *segment, const struct part *part, bool final,
		      struct reterr *err)
{
	char text[UUID_TEXT_LENGTH + 1];
	(void)uuid_format(&segment->uuid, text);

	if (segment->state == ENGINE_SEGMENT_REMOVED || !part || part->bare ||
	    atomic_load(&part->remote))
		return reterr_set(err, -ENOENT, "segment %s: no such part is on this disk", text);
	if (part->wal)
		return reterr_set(err, -EBUSY, "segment %s: the part is not sealed yet", text);
	if (kept_from(segment, part, final) == part->start)
		return reterr_set(err, -EBUSY,
				  "segment %s: the part is needed to append to its segment", text);
	return 0;
}

/*
 * L, owns SEALING: the catalogue says that parts of the segment may be elsewhere. An OPEN record
 * needs no flag, recovery looks at all parts; the SEALED one that follows has it. Drops the lock.
 */
static int flag_segment(struct engine_segment *segment, struct reterr *err)
{
	int r = 0;

	if (segment->has_remote)
		return 0;
	segment->has_remote = true;
	if (segment->state != ENGINE_SEGMENT_SEALED)
		return 0;
	segment->appending = true; /* the next part's record comes after this one */
	segment_unlock(segment);
	r = segment_record(segment, CATALOGUE_SEALED, err);
	segment_lock(segment);
	segment->appending = false;
	segment->has_remote = r == 0;
	(void)pthread_cond_broadcast(&segment->changed);
	return r;
}

/* The note, with the bytes of the part from KEPT on. */
static int write_note(struct engine_segment *segment, const struct part *part, uint64_t kept,
		      struct reterr *err)
{
	struct engine *e = segment->engine;
	char path[DISK_PATH_MAX], dir[DISK_PATH_MAX];
	size_t size = (size_t)(part->end - kept), got = 0;
	uint8_t *bytes = malloc(size + 1);

	if (!bytes)
		return -ENOMEM;
	int r = size ? engine_read(e, segment, bytes, size, kept, ENGINE_READ_DISK, &got, err) : 0;
	if (r < 0 || got != size) {
		free(bytes);
		return r < 0 ? r : -EIO;
	}
	part_path(PART_NOTE, &segment->uuid, part->start, path);
	part_dir(PART_NOTE, &segment->uuid, dir);
	r = disk_replace_file(e->disk, dir, path, bytes, size);
	if (r == -ENOSPC && reserve_release(e)) {
		r = disk_replace_file(e->disk, dir, path, bytes, size);
		reserve_restore(e);
	}
	free(bytes);
	return r < 0 ? reterr_set(err, r, "%s: cannot be written: %s", path, strerror(-r)) : 0;
}

static int unlink_part(struct engine *e, const struct uuid *segment, uint64_t start,
		       struct reterr *err)
{
	char path[DISK_PATH_MAX], dir[DISK_PATH_MAX];

	part_path(PART_DATA, segment, start, path);
	part_dir(PART_DATA, segment, dir);
	int r = disk_unlink(e->disk, path);
	if (r < 0)
		return reterr_set(err, r, "%s: cannot be removed: %s", path, strerror(-r));
	/* If its name comes back after a crash, the part is here again: no harm. */
	(void)!disk_sync_dir(e->disk, dir);
	return 0;
}

/* Owns SEALING, no lock held. */
static int give_up(struct engine_segment *segment, struct part *part, uint64_t kept,
		   struct reterr *err)
{
	struct engine *e = segment->engine;
	struct sealed *sealed;

	/* Without a good table and index here nobody could judge what comes back. */
	int r = part_acquire_sealed(e, &segment->uuid, part, err, &sealed);
	if (r < 0)
		return r;
	part_release_sealed(e, part, sealed);
	r = write_note(segment, part, kept, err);
	if (r == 0)
		r = unlink_part(e, &segment->uuid, part->start, err);
	if (r < 0)
		return r;
	part_files_evicted(e, part);
	atomic_store(&part->beside_size, 0); /* the note came to it */
	segment_lock(segment);
	segment->remote += part->end - part->start;
	segment_unlock(segment);
	atomic_fetch_add(&e->parts_evicted, 1);
	return 0;
}

/* L: SEALING, when nobody is about to record the state of a sealed segment. */
static void take_sealing(struct engine_segment *segment)
{
	while (segment->sealing || (segment->state == ENGINE_SEGMENT_SEALED && segment->appending))
		(void)pthread_cond_wait(&segment->changed, &segment->lock);
	segment->sealing = true;
}

static bool is_final(struct engine *e, struct engine_segment *segment)
{
	struct engine_segment_info info;
	engine_segment_info(e, segment, &info);
	return info.final;
}

int engine_evict(struct engine *e, struct engine_segment *segment, uint64_t start,
		 struct reterr *err)
{
	int r = engine_check_writable(e, err);
	if (r == 0)
		r = segment_load_parts(segment, err);
	if (r == 0)
		r = superblock_require(e, SUPERBLOCK_INCOMPAT_REMOTE, 0, err);
	if (r < 0)
		return r;

	bool final = is_final(e, segment); /* it stays so */
	segment_lock(segment);
	take_sealing(segment);
	struct part *part = find_part(segment, start);
	r = check_part(segment, part, final, err);
	if (r == 0) {
		uint64_t kept = kept_from(segment, part, final);
		part_ref(part);
		r = flag_segment(segment, err);
		segment_unlock(segment);
		if (r == 0)
			r = give_up(segment, part, kept, err);
		part_unref(part);
		segment_lock(segment);
	}
	segment->sealing = false;
	(void)pthread_cond_broadcast(&segment->changed);
	segment_unlock(segment);
	return r;
}

/* ---- What there is to give up --------------------------------------------------------------- */

/* PARTS are sorted by used_ns; the most recently used one goes when there are more than COUNT. */
static size_t insert_part(struct engine_part *parts, size_t n, size_t count,
			  const struct engine_part *part)
{
	size_t at = n;

	while (at > 0 && parts[at - 1].used_ns > part->used_ns)
		at--;
	if (at == count)
		return n;
	size_t kept = n < count ? n : count - 1;
	memmove(&parts[at + 1], &parts[at], (kept - at) * sizeof(*parts));
	parts[at] = *part;
	return kept + 1;
}

size_t engine_parts(struct engine *e, struct engine_part *parts, size_t count)
{
	struct engine_segment *segment;
	size_t n = 0;

	for (uint32_t number = 0; count && (segment = engine_segment_next(e, number));
	     number = segment->number) {
		if (segment_load_parts(segment, NULL) < 0)
			continue; /* damage, which whoever reads it is told of */
		bool final = is_final(e, segment);
		segment_lock(segment);
		for (size_t i = 0; i < segment->part_count; i++) {
			const struct part *part = segment->parts[i];
			if (check_part(segment, part, final, NULL) < 0)
				continue;
			struct engine_part found = {.segment = segment,
						    .start = part->start,
						    .end = part->end,
						    .size = kept_from(segment, part, final) -
							    part->start,
						    .used_ns = atomic_load(&part->used_ns)};
			n = insert_part(parts, n, count, &found);
		}
		segment_unlock(segment);
	}
	return n;
}

/* ---- What is used --------------------------------------------------------------------------- */

static uint64_t file_size(struct engine *e, const char *path)
{
	struct disk_file *file;
	uint64_t size = 0;

	if (disk_open(e->disk, path, DISK_READ, &file) < 0)
		return 0;
	if (disk_size(file, &size) < 0)
		size = 0;
	disk_close(file);
	return size;
}

/* Table, index and note, looked at once. */
static uint64_t beside_size(struct engine *e, const struct uuid *segment, struct part *part)
{
	char path[DISK_PATH_MAX];
	uint64_t size = atomic_load(&part->beside_size);

	if (size || part->bare || part->wal)
		return size;
	part_path(PART_TABLE, segment, part->start, path);
	size = file_size(e, path);
	part_path(PART_INDEX, segment, part->start, path);
	size += file_size(e, path);
	part_path(PART_NOTE, segment, part->start, path);
	size += atomic_load(&part->remote) ? file_size(e, path) : 0;
	atomic_store(&part->beside_size, (unsigned)size);
	return size;
}

/* The part with number AT, referenced, and the bytes of its own file; NULL at the end. */
static struct part *part_at(struct engine_segment *segment, size_t at, uint64_t *ret_size)
{
	segment_lock(segment);
	struct part *part = at < segment->part_count ? segment->parts[at] : NULL;
	if (part) {
		part_ref(part);
		*ret_size = part->wal ? part->wal->reserved +
						PART_TABLE_COPIES * part->wal->table_reserved
			    : atomic_load(&part->remote) ? 0
							 : part->end - part->start;
	}
	segment_unlock(segment);
	return part;
}

static uint64_t segment_used(struct engine *e, struct engine_segment *segment)
{
	uint64_t used = 0, size;
	struct part *part;

	(void)!segment_load_parts(segment, NULL);
	for (size_t i = 0; (part = part_at(segment, i, &size)); i++) {
		used += size + beside_size(e, &segment->uuid, part);
		part_unref(part);
	}
	return used;
}

uint64_t engine_disk_used(struct engine *e)
{
	struct engine_segment *segment;
	uint64_t used = root_log_disk_size(e->root_log) + file_size(e, CATALOGUE_PATH) +
			journal_size(e->journal);

	for (uint32_t number = 0; (segment = engine_segment_next(e, number));
	     number = segment->number)
		used += segment_used(e, segment);
	return used;
}
