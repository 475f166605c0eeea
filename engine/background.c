/*
 * The three threads that work for nobody in particular:
 *
 *   flusher  commits what nobody waits for, within flush_interval of its acceptance or at once when
 *            much is pending; publishes a dangling root whose bytes have come; gives memory back
 *            when all is quiet
 *   writer   writes ahead: zeros before small commits and roots, data before large ones, so that the
 *            disk writes while it flushes
 *   sealer   seals ended parts, and ends those that nobody writes to any more
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "engine/core.h"

enum { SEALER_TICK_MS = 1000 };

/* ---- Waking --------------------------------------------------------------------------------- */

static void wake(struct engine *e, bool *flag, pthread_cond_t *thread)
{
	(void)pthread_mutex_lock(&e->background_lock);
	if (!*flag) {
		*flag = true;
		(void)pthread_cond_signal(thread);
	}
	(void)pthread_mutex_unlock(&e->background_lock);
}

void background_flush(struct engine *e)
{
	wake(e, &e->flush_now, &e->flusher_wake);
}

void background_seal(struct engine *e)
{
	wake(e, &e->seal_now, &e->sealer_wake);
}

void background_write(struct engine *e)
{
	wake(e, &e->write_now, &e->writer_wake);
}

void background_dirty(struct engine *e)
{
	(void)pthread_mutex_lock(&e->background_lock);
	if (!atomic_exchange(&e->dirty, true))
		(void)pthread_cond_signal(&e->flusher_wake);
	(void)pthread_mutex_unlock(&e->background_lock);
}

/* Holds background_lock. TIMEOUT_MS 0: without end. */
static void sleep_locked(struct engine *e, pthread_cond_t *thread, uint64_t timeout_ms)
{
	if (timeout_ms == 0) {
		(void)pthread_cond_wait(thread, &e->background_lock);
		return;
	}
	struct timespec until;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(timeout_ms / 1000);
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)pthread_cond_timedwait(thread, &e->background_lock, &until);
}

/* ---- Flusher -------------------------------------------------------------------------------- */

static void shrink_idle(struct engine *e)
{
	struct engine_segment **list;
	size_t count = segment_open_list(e, &list);

	for (size_t i = 0; i < count; i++) {
		segment_lock(list[i]);
		if (list[i]->wal && !list[i]->appending && !list[i]->committing)
			wal_shrink(list[i]->wal);
		segment_unlock(list[i]);
	}
	free(list);
}

static void flush_all(struct engine *e)
{
	/* Failures were reported where they happened; whoever waits for the bytes is told again. */
	(void)!commit_all(e, NULL);
}

static void *flusher_main(void *arg)
{
	struct engine *e = arg;
	bool quiet = true;

	(void)pthread_mutex_lock(&e->background_lock);
	while (!e->stop) {
		bool dirty = atomic_load(&e->dirty);
		if (!e->flush_now && !dirty) {
			/* One more round after the last work, to give memory back. */
			sleep_locked(e, &e->flusher_wake, quiet ? 0 : e->options.flush_interval_ms);
			if (!quiet && !e->flush_now && !atomic_load(&e->dirty)) {
				quiet = true;
				(void)pthread_mutex_unlock(&e->background_lock);
				shrink_idle(e);
				pool_trim(e->pool);
				(void)pthread_mutex_lock(&e->background_lock);
			}
			continue;
		}
		if (!e->flush_now)
			sleep_locked(e, &e->flusher_wake, e->options.flush_interval_ms / 2 + 1);
		if (e->stop)
			break;
		e->flush_now = false;
		atomic_store(&e->dirty, false);
		quiet = false;
		(void)pthread_mutex_unlock(&e->background_lock);
		flush_all(e);
		if (pool_bytes(e->pool) > (uint64_t)POOL_CHUNKS_MAX * POOL_CHUNK_SIZE * 3 / 4)
			shrink_idle(e);
		roots_try_dangling(e);
		(void)pthread_mutex_lock(&e->background_lock);
	}
	(void)pthread_mutex_unlock(&e->background_lock);
	return NULL;
}

/* ---- Writer --------------------------------------------------------------------------------- */

/* One slice for SEGMENT. Whether there was one. */
static bool zero_slice(struct engine_segment *segment)
{
	uint64_t offset = 0, size = 0;
	bool table = false;

	segment_lock(segment);
	struct wal *wal = segment->wal;
	bool claimed = wal && !segment->poisoned && !segment->failed &&
		       wal_zero_claim(wal, &offset, &size, &table);
	if (claimed)
		part_ref(segment->parts[segment->part_count - 1]);
	struct part *part = claimed ? segment->parts[segment->part_count - 1] : NULL;
	segment_unlock(segment);
	if (!claimed)
		return false;

	int r = wal_zero_write(wal, offset, size, table);
	segment_lock(segment);
	wal_zero_done(wal, offset, size, table, r);
	(void)pthread_cond_broadcast(&segment->changed);
	segment_unlock(segment);
	part_unref(part);
	return r == 0;
}

static void *writer_main(void *arg)
{
	struct engine *e = arg;

	(void)pthread_mutex_lock(&e->background_lock);
	while (!e->stop) {
		if (!e->write_now) {
			sleep_locked(e, &e->writer_wake, 0);
			continue;
		}
		e->write_now = false;
		(void)pthread_mutex_unlock(&e->background_lock);
		bool more = false;
		struct engine_segment **list;
		size_t count = segment_open_list(e, &list);
		for (size_t i = 0; i < count; i++)
			more |= segment_write_ahead(list[i]) || zero_slice(list[i]);
		free(list);
		/* What cannot be prepared now is prepared when it is needed. */
		(void)!root_log_prepare_ahead(e->root_log);
		(void)pthread_mutex_lock(&e->background_lock);
		e->write_now |= more;
	}
	(void)pthread_mutex_unlock(&e->background_lock);
	return NULL;
}

/* ---- Sealer --------------------------------------------------------------------------------- */

/* L: whether nobody has written for long enough. */
static bool is_idle(struct engine_segment *segment, uint64_t now_ms)
{
	struct wal *wal = segment->wal;

	if (wal->accepted != wal->seen_accepted || wal->seen_ms == 0) {
		wal->seen_accepted = wal->accepted;
		wal->seen_ms = now_ms;
		return false;
	}
	uint64_t since = wal->seen_ms > segment->writers_gone_ms ? wal->seen_ms
								 : segment->writers_gone_ms;
	return segment->writers == 0 && now_ms - since >= segment->engine->options.idle_seal_ms;
}

/* L: nobody has APPENDING. */
static void end_part(struct engine_segment *segment)
{
	segment->appending = true;
	(void)!segment_end_part(segment, NULL);
	segment->appending = false;
	(void)pthread_cond_broadcast(&segment->changed);
}

static void end_idle(struct engine_segment *segment, uint64_t now_ms)
{
	segment_lock(segment);
	if (segment->wal && !segment->appending && !segment->failed &&
	    (is_idle(segment, now_ms) || segment->ended))
		end_part(segment);
	segment_unlock(segment);
}

static void seal_ended(struct engine_segment *segment)
{
	struct reterr err = {0};
	if (segment_seal_ended(segment, &err) < 0 && err.code != 0)
		engine_report(segment->engine, &err);
}

/*
 * Of more than MAX open parts the one that has been unused for longest; NULL if there are no more.
 */
static struct engine_segment *find_surplus(struct engine_segment **list, size_t count, size_t max)
{
	struct engine_segment *oldest = NULL;
	uint64_t oldest_ms = UINT64_MAX;
	size_t open = 0;

	for (size_t i = 0; i < count; i++) {
		segment_lock(list[i]);
		const struct wal *wal = list[i]->failed ? NULL : list[i]->wal;
		open += wal != NULL;
		/*
		 * One that the sealer has not seen yet is young. The list begins with the youngest.
		 */
		uint64_t seen_ms = wal && wal->seen_ms ? wal->seen_ms : UINT64_MAX;
		if (wal && seen_ms <= oldest_ms && !list[i]->appending &&
		    wal->accepted == wal->durable) {
			oldest = list[i];
			oldest_ms = seen_ms;
		}
		segment_unlock(list[i]);
	}
	return open > max ? oldest : NULL;
}

static void end_surplus(struct engine_segment **list, size_t count, size_t max)
{
	struct engine_segment *segment;

	for (size_t i = 0; i < count && (segment = find_surplus(list, count, max)); i++) {
		segment_lock(segment);
		if (segment->wal && !segment->appending)
			end_part(segment);
		segment_unlock(segment);
		seal_ended(segment);
	}
}

void background_relieve(struct engine *e)
{
	struct engine_segment **list;

	(void)pthread_mutex_lock(&e->lock);
	bool too_many = e->open_count > OPEN_PARTS_HARD_MAX;
	(void)pthread_mutex_unlock(&e->lock);
	if (!too_many)
		return;
	size_t count = segment_open_list(e, &list);
	end_surplus(list, count, OPEN_PARTS_HARD_MAX);
	free(list);
}

static void seal_round(struct engine *e)
{
	struct engine_segment **list;
	uint64_t now_ms = e->clock->now_ms(e->clock);
	size_t count = segment_open_list(e, &list);

	end_surplus(list, count, OPEN_PARTS_MAX);
	for (size_t i = 0; i < count; i++) {
		end_idle(list[i], now_ms);
		seal_ended(list[i]);
	}
	free(list);
}

static void *sealer_main(void *arg)
{
	struct engine *e = arg;

	(void)pthread_mutex_lock(&e->background_lock);
	while (!e->stop) {
		(void)pthread_mutex_unlock(&e->background_lock);
		(void)pthread_mutex_lock(&e->lock);
		bool any_open = e->open_count > 0;
		(void)pthread_mutex_unlock(&e->lock);
		if (any_open && !atomic_load(&e->read_only))
			seal_round(e);
		(void)pthread_mutex_lock(&e->background_lock);
		if (!e->stop && !e->seal_now)
			sleep_locked(e, &e->sealer_wake, any_open ? SEALER_TICK_MS : 0);
		e->seal_now = false;
	}
	(void)pthread_mutex_unlock(&e->background_lock);
	return NULL;
}

/* ---- Start and stop ------------------------------------------------------------------------- */

static void stop_threads(struct engine *e)
{
	(void)pthread_mutex_lock(&e->background_lock);
	e->stop = true;
	(void)pthread_cond_signal(&e->flusher_wake);
	(void)pthread_cond_signal(&e->sealer_wake);
	(void)pthread_cond_signal(&e->writer_wake);
	(void)pthread_mutex_unlock(&e->background_lock);
	for (unsigned i = 0; i < e->thread_count; i++)
		(void)pthread_join(e->threads[i], NULL);
	e->thread_count = 0;
}

int background_start(struct engine *e)
{
	void *(*const mains[])(void *) = {flusher_main, sealer_main, writer_main};

	for (unsigned i = 0; i < ARRAY_SIZE(mains); i++) {
		if (pthread_create(&e->threads[i], NULL, mains[i], e) != 0) {
			stop_threads(e);
			return -ENOMEM;
		}
		e->thread_count++;
	}
	return 0;
}

void background_stop(struct engine *e)
{
	stop_threads(e);
}
