/*
 * Group commit. Whoever needs bytes durable first leads: it takes the segment's COMMITTING flag,
 * writes all that has been accepted so far, and wakes the others, whose bytes it has flushed along;
 * the next of them leads on.
 *
 * When a write or flush fails (DESIGN 4.3): the part is poisoned at its last acknowledged byte, and
 * never written to again. The bytes that are not acknowledged are still in memory: they move to a
 * new part that begins there (repair). If that one fails too, before any commit has succeeded, the
 * segment has failed and the store turns read-only.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/core.h"

/* ---- One commit ----------------------------------------------------------------------------- */

/* L: the segment is this thread's to commit. The WAL stays the same until commit_end. */
static void commit_begin(struct engine_segment *segment, struct disk_job *job)
{
	segment->committing = true;
	wal_commit_prepare(segment->wal);
	struct wal *wal = segment->wal;
	segment_unlock(segment);
	wal_commit_build(wal, job);
}

static void commit_succeeded(struct engine_segment *segment, struct wal *wal)
{
	wal_commit_sum(wal);
	segment_lock(segment);
	wal_commit_done(wal);
	segment->durable = wal->start + wal->durable;
	segment->poisoned_in_a_row = 0;
	bool wants_writer = wal_zero_wanted(wal) || wal_data_ahead_wanted(wal, false);
	segment->committing = false;
	(void)pthread_cond_broadcast(&segment->changed);
	segment_unlock(segment);
	atomic_fetch_add_explicit(&segment->engine->commits, 1, memory_order_relaxed);
	if (wants_writer)
		background_write(segment->engine);
	engine_changed(segment->engine);
}

/* L: nothing is written to the open part any more. The caller broadcasts, and then reports. */
static void poison(struct engine_segment *segment)
{
	/* A commit and the slice written ahead of the next one fail together: once. */
	if (!segment->poisoned)
		segment->poisoned_in_a_row++;
	segment->poisoned = true;
	segment->failed |= segment->poisoned_in_a_row > 1;
}

static void report_poisoned(struct engine_segment *segment, int result)
{
	struct engine *e = segment->engine;
	char text[UUID_TEXT_LENGTH + 1];
	struct reterr event;

	segment_lock(segment);
	bool failed = segment->failed;
	uint64_t durable = segment->durable;
	segment_unlock(segment);
	atomic_fetch_add(&e->parts_poisoned, 1);
	(void)reterr_set(&event, -EIO,
			 "segment %s: the disk failed to write at byte %" PRIu64
			 " (%s); acknowledged bytes are safe, %s",
			 uuid_format(&segment->uuid, text), durable, strerror(-result),
			 failed ? "later ones are lost" : "the segment goes on in a new part");
	if (failed)
		engine_turn_read_only(e, &event);
	else
		engine_report(e, &event);
}

static void commit_failed(struct engine_segment *segment, int result)
{
	segment_lock(segment);
	poison(segment);
	segment->committing = false;
	(void)pthread_cond_broadcast(&segment->changed);
	segment_unlock(segment);
	report_poisoned(segment, result);
}

static void commit_end(struct engine_segment *segment, struct wal *wal, int result)
{
	if (result < 0)
		commit_failed(segment, result);
	else
		commit_succeeded(segment, wal);
}

bool segment_write_ahead(struct engine_segment *segment)
{
	struct disk_job job;

	segment_lock(segment);
	struct wal *wal = segment->wal;
	bool wanted = wal && !segment->poisoned && !segment->failed &&
		      segment->commits_waiting == 0 &&
		      wal_data_ahead_wanted(wal, segment->committing);
	if (!wanted) {
		segment_unlock(segment);
		return false;
	}
	struct part *part = segment->parts[segment->part_count - 1]; /* keeps the WAL */
	part_ref(part);
	wal_data_ahead_claim(wal, segment->committing, &job);
	segment_unlock(segment);

	int r = disk_commit(segment->engine->disk, &job, 1);

	segment_lock(segment);
	wal_data_ahead_done(wal, &job, r);
	/* At once: a commit that waits for this slice must not go on as if it had been written. */
	bool poisons = r < 0 && segment->wal == wal;
	if (poisons)
		poison(segment);
	(void)pthread_cond_broadcast(&segment->changed);
	segment_unlock(segment);
	if (poisons)
		report_poisoned(segment, r);
	part_unref(part);
	return r == 0;
}

static int failed_error(const struct engine_segment *segment, struct reterr *err)
{
	char text[UUID_TEXT_LENGTH + 1];
	return reterr_set(err, -EIO,
			  "segment %s: the disk failed; bytes from %" PRIu64 " on are not durable",
			  uuid_format(&segment->uuid, text), segment->durable);
}

/* ---- Repair --------------------------------------------------------------------------------- */

/* L: copies what is not acknowledged from the poisoned WAL to the new one. */
static int move_pending(struct engine_segment *segment, struct wal *from, struct wal *to)
{
	uint64_t size = from->accepted - from->durable;
	uint64_t done = 0;

	while (done < size) {
		uint64_t piece = size - done < POOL_CHUNK_SIZE ? size - done : POOL_CHUNK_SIZE;
		uint8_t *chunk;
		int r = pool_take_reserve(segment->engine->pool, &chunk);
		if (r < 0)
			return r;
		invariant(to->chunk_count < WAL_CHUNKS_MAX);
		to->chunks[to->chunk_count++] = chunk;
		wal_copy(from, chunk, (size_t)piece, from->durable + done);
		done += piece;
	}
	to->accepted = size;
	return 0;
}

/* L */
static int swap_part(struct engine_segment *segment, struct wal *fresh)
{
	struct wal *old = segment->wal;
	struct part *part;

	int r = part_new(fresh->start, UINT64_MAX, fresh, &part);
	if (r < 0)
		return r;
	r = move_pending(segment, old, fresh);
	if (r == 0)
		r = segment_push_part(segment, part);
	if (r < 0) {
		part->wal = NULL; /* stays the caller's */
		part_unref(part);
		return r;
	}
	struct part **ended = &segment->parts[segment->part_count - 2];
	if ((*ended)->start == fresh->start) {
		/* It never held a durable byte: it is no part of the segment any more. */
		part_unref(*ended);
		*ended = part;
		segment->part_count--;
	} else {
		(*ended)->end = fresh->start;
	}
	segment->wal = fresh;
	segment->poisoned = false;
	return 0;
}

/*
 * Bytes of the segment from the last MiB boundary to END, which must be durable. For part_sums_new.
 */
int segment_read_head(struct engine_segment *segment, uint64_t end, uint8_t **ret,
		      struct reterr *err)
{
	size_t size = (size_t)(end % ENGINE_SUM_SIZE);
	size_t got;

	*ret = NULL;
	if (size == 0)
		return 0;
	uint8_t *head = malloc(size);
	if (!head)
		return -ENOMEM;
	int r = engine_read(segment->engine, segment, head, size, end - size, 0, &got, err);
	if (r == 0 && got != size)
		r = -EIO;
	if (r < 0) {
		free(head);
		return r;
	}
	*ret = head;
	return 0;
}

/* Owns APPENDING and COMMITTING; no lock held. OLD is the poisoned part. */
static int replace_poisoned(struct engine_segment *segment, struct part *old, struct reterr *err)
{
	struct engine *e = segment->engine;
	struct wal *fresh = NULL;
	uint8_t *head;

	segment_lock(segment);
	uint64_t start = segment->durable;
	uint64_t pending = old->wal->accepted - old->wal->durable;
	uint32_t epoch = segment->epoch;
	segment_unlock(segment);

	int r = segment_read_head(segment, start, &head, err);
	const struct wal_origin origin = {.geometry = &e->geometry,
					  .segment = &segment->uuid,
					  .start = start,
					  .epoch = epoch,
					  .head = head};
	if (r == 0)
		r = wal_open(e->disk, e->pool, &origin, err, &fresh);
	free(head);
	if (r < 0)
		return r;

	struct wal_reservation space = wal_reservation_for(fresh, pending);
	r = wal_reserve(fresh, &space);
	if (r == 0) {
		segment_lock(segment);
		wal_reserved(fresh, &space);
		r = swap_part(segment, fresh);
		segment_unlock(segment);
	}
	if (r < 0) {
		wal_free(fresh);
		return reterr_set(err, r, "no room for the bytes of a part that failed: %s",
				  strerror(-r));
	}
	segment_note_frames(segment, old->wal);
	segment_lock(segment);
	wal_forget_pending(old->wal);
	segment_unlock(segment);
	return segment_record(segment, CATALOGUE_OPEN, err);
}

int segment_repair(struct engine_segment *segment, struct reterr *err)
{
	struct reterr cause = {0};
	struct part *old = segment->parts[segment->part_count - 1];

	part_ref(old);
	segment->committing = true;
	segment_unlock(segment);
	int r = replace_poisoned(segment, old, &cause);
	part_unref(old);
	segment_lock(segment);
	segment->committing = false;
	if (r < 0)
		segment->failed = true;
	(void)pthread_cond_broadcast(&segment->changed);
	if (r < 0) {
		segment_unlock(segment);
		engine_turn_read_only(segment->engine, &cause);
		segment_lock(segment);
		return failed_error(segment, err);
	}
	return 0;
}

/* ---- Waiting and leading -------------------------------------------------------------------- */

/*
 * L: brings SEGMENT to where this thread may begin a commit of it. 1: it may; 0: LENGTH bytes are
 * durable; negative: they never will be. OWNS_APPENDING: the caller has that flag.
 */
static int await_turn(struct engine_segment *segment, uint64_t length, bool owns_appending,
		      struct reterr *err)
{
	for (;;) {
		/* A removed one: like fsync of a file without a name, whose bytes nobody misses. */
		if (segment->durable >= length || segment->state == ENGINE_SEGMENT_REMOVED)
			return 0;
		if (segment->failed)
			return failed_error(segment, err);
		invariant(segment->wal);
		if (!segment->committing && wal_ahead_in_the_way(segment->wal)) {
			segment->commits_waiting++;
			(void)pthread_cond_wait(&segment->changed, &segment->lock);
			segment->commits_waiting--;
			continue;
		}
		/*
		 * Slices on their way read the poisoned part's memory, and write behind what is
		 * sealed of it.
		 */
		if (segment->committing ||
		    (segment->poisoned &&
		     (wal_ahead_busy(segment->wal) || (segment->appending && !owns_appending)))) {
			(void)pthread_cond_wait(&segment->changed, &segment->lock);
			continue;
		}
		if (!segment->poisoned)
			return 1;
		segment->appending = true;
		int r = segment_repair(segment, err);
		if (!owns_appending) {
			segment->appending = false;
			(void)pthread_cond_broadcast(&segment->changed);
		}
		if (r < 0)
			return r;
	}
}

int segment_commit(struct engine_segment *segment, uint64_t length, bool owns_appending,
		   struct reterr *err)
{
	for (;;) {
		int r = await_turn(segment, length, owns_appending, err);
		if (r <= 0)
			return r;
		struct wal *wal = segment->wal;
		struct disk_job job;
		commit_begin(segment, &job);
		r = disk_commit(segment->engine->disk, &job, 1);
		commit_end(segment, wal, r);
		segment_lock(segment);
	}
}

int commit_together(struct engine *e, struct engine_position *positions, size_t count,
		    struct disk_job *root_job, struct reterr *err)
{
	struct disk_job jobs[ENGINE_ROOT_BARRIER_MAX + 1];
	struct engine_segment *led[ENGINE_ROOT_BARRIER_MAX];
	struct wal *wals[ENGINE_ROOT_BARRIER_MAX];
	size_t n = 0;
	int r = 0;

	invariant(count <= ENGINE_ROOT_BARRIER_MAX);
	for (size_t i = 0; i < count && r >= 0; i++) {
		struct engine_segment *segment = positions[i].segment;
		segment_lock(segment);
		r = await_turn(segment, positions[i].length, false, err);
		if (r != 1) {
			segment_unlock(segment);
			continue;
		}
		wals[n] = segment->wal;
		led[n] = segment;
		commit_begin(segment, &jobs[n]);
		n++;
	}

	/* Without all its segments the root must not go out; what is led goes out in any case. */
	bool with_root = root_job && r >= 0;
	if (with_root)
		jobs[n] = *root_job;
	if (n + with_root > 0) {
		int result = disk_commit(e->disk, jobs, n + with_root);
		if (r >= 0)
			r = result;
	}
	for (size_t i = 0; i < n; i++)
		commit_end(led[i], wals[i], jobs[i].result);
	if (root_job)
		root_job->result = with_root ? jobs[n].result : -ECANCELED;
	if (r < 0 && err && err->code == 0)
		(void)reterr_set(err, -EIO, "the disk failed to commit: %s", strerror(-r));
	return r < 0 ? -EIO : 0;
}

/* ---- Several segments ------------------------------------------------------------------------ */

static int compare_positions(const void *a, const void *b)
{
	const struct engine_position *x = a, *y = b;
	if (x->segment->number != y->segment->number)
		return x->segment->number < y->segment->number ? -1 : 1;
	return 0;
}

static int commit_one(const struct engine_position *position, struct reterr *err)
{
	struct engine_segment *segment = position->segment;

	segment_lock(segment);
	uint64_t length = position->length == UINT64_MAX ? segment->length : position->length;
	int r = length > segment->length
			? reterr_set(err, -EINVAL, "commit beyond the end of the segment")
			: segment_commit(segment, length, false, err);
	segment_unlock(segment);
	return r;
}

/* Of several positions of one segment the furthest stays: nobody can lead a segment twice. */
static size_t merge_positions(struct engine_position *sorted, size_t count)
{
	size_t kept = 0;
	for (size_t i = 0; i < count; i++) {
		struct engine_position *last = kept ? &sorted[kept - 1] : NULL;
		if (!last || last->segment != sorted[i].segment)
			sorted[kept++] = sorted[i];
		else if (last->length < sorted[i].length)
			last->length = sorted[i].length;
	}
	return kept;
}

/* A batch in one submission; whatever that could not do is done one by one, which repairs. */
static int commit_batch(struct engine *e, const struct engine_position *positions, size_t count,
			struct reterr *err)
{
	struct engine_position sorted[ENGINE_ROOT_BARRIER_MAX];

	for (size_t i = 0; i < count; i++) {
		sorted[i] = positions[i];
		segment_lock(sorted[i].segment);
		if (sorted[i].length > sorted[i].segment->length)
			sorted[i].length = sorted[i].segment->length;
		segment_unlock(sorted[i].segment);
	}
	qsort(sorted, count, sizeof(*sorted), compare_positions);
	(void)!commit_together(e, sorted, merge_positions(sorted, count), NULL, NULL);

	int result = 0;
	for (size_t i = 0; i < count; i++) {
		int r = commit_one(&positions[i], err);
		if (r < 0 && result == 0)
			result = r;
	}
	return result;
}

int commit_positions(struct engine *e, const struct engine_position *positions, size_t count,
		     struct reterr *err)
{
	int result = 0;

	atomic_fetch_add_explicit(&e->commit_waiters, 1, memory_order_relaxed);
	if (count == 1)
		return commit_one(positions, err);
	for (size_t done = 0; done < count; done += ENGINE_ROOT_BARRIER_MAX) {
		size_t n = count - done < ENGINE_ROOT_BARRIER_MAX ? count - done
								  : ENGINE_ROOT_BARRIER_MAX;
		int r = commit_batch(e, positions + done, n, err);
		if (r < 0 && result == 0)
			result = r;
	}
	return result;
}

size_t commit_dirty_positions(struct engine *e, struct engine_position **ret)
{
	struct engine_segment **list;
	size_t count = segment_open_list(e, &list);
	size_t n = 0;

	struct engine_position *positions = malloc((count + 1) * sizeof(*positions));
	if (!list || !positions) {
		free(list);
		free(positions);
		*ret = NULL;
		return SIZE_MAX;
	}
	for (size_t i = 0; i < count; i++) {
		segment_lock(list[i]);
		if (list[i]->durable < list[i]->length)
			positions[n++] = (struct engine_position){.segment = list[i],
								  .length = list[i]->length};
		segment_unlock(list[i]);
	}
	free(list);
	qsort(positions, n, sizeof(*positions), compare_positions);
	*ret = positions;
	return n;
}

int commit_all(struct engine *e, struct reterr *err)
{
	struct engine_position *positions;
	size_t count = commit_dirty_positions(e, &positions);

	if (count == SIZE_MAX)
		return -ENOMEM;
	int r = commit_positions(e, positions, count, err);
	free(positions);
	return r;
}
