/*
 * The uploader with threads: a planner, which does the serial steps of the plan and reports, and
 * transfer threads, each of which holds at most one block in memory. Nothing is queued: whoever is
 * free asks the plan what is next. See upload_plan.h for the protocol.
 *
 * One lock guards the plan. It is never held across I/O or a callback.
 */
#include "cloud/uploader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/invariant.h"

enum {
	TRANSFERS_DEFAULT = 8,
	INTERVAL_DEFAULT_MS = 5000,
	SCAN_PAUSE_MS = 10,   /* between looks at the source, at least ... */
	SCAN_SHARE = 20,      /* ... and so many times what one takes */
	STRANGE_CLOCK_MS = 2, /* how often a clock that is not the system's is looked at */
};

/* ---- Time ----------------------------------------------------------------------------------- */

uint64_t uploader_now_ms(const struct uploader *u)
{
	return u->clock->now_ms(u->clock);
}

void uploader_wait(struct uploader *u, pthread_cond_t *cond, uint64_t at_ms)
{
	if (at_ms == UINT64_MAX) {
		(void)pthread_cond_wait(cond, &u->lock);
		return;
	}
	uint64_t now_ms = uploader_now_ms(u);
	if (at_ms <= now_ms)
		return;
	uint64_t wait_ms = at_ms - now_ms;
	/* Nobody wakes us when a test moves its clock. */
	if (u->clock != clock_system() && wait_ms > STRANGE_CLOCK_MS)
		wait_ms = STRANGE_CLOCK_MS;
	struct timespec until;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(wait_ms / 1000);
	until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)pthread_cond_timedwait(cond, &u->lock, &until);
}

/* ---- Threads -------------------------------------------------------------------------------- */

static void report(struct uploader *u, const struct reterr *event)
{
	pthread_mutex_unlock(&u->lock);
	if (u->report)
		u->report(u->report_arg, event);
	pthread_mutex_lock(&u->lock);
}

/* What changed is told once. The lock is held, and given up meanwhile. */
static void tell(struct uploader *u)
{
	struct upload_plan *plan = &u->plan;
	if (plan->sticky && !u->fence_told) {
		struct reterr why = plan->error;
		u->fence_told = true;
		pthread_mutex_unlock(&u->lock);
		u->io.source->ops->fence(u->io.source, &why);
		pthread_mutex_lock(&u->lock);
	}
	if (plan->notice.code != 0) {
		struct reterr notice = plan->notice;
		plan->notice.code = 0;
		report(u, &notice);
	}
	if (plan->news) {
		struct reterr event = plan->error;
		plan->news = false;
		if (event.code == 0)
			(void)reterr_set(&event, 0, "uploading again");
		report(u, &event);
	}
}

static void say_unconditional(struct upload_plan *plan)
{
	(void)reterr_set(&plan->notice, -EOPNOTSUPP,
			 "the place does not refuse a second writer by itself: an object \"owner\" "
			 "is looked at before each round, but two stores that write at the same "
			 "moment can still overwrite each other's bytes there. Never let two write "
			 "to it");
}

/* A place tells only when it is first written to that it cannot refuse. The lock is held. */
static void look_at_condition(struct uploader *u)
{
	struct block_store_status status;
	if (!u->plan.conditional)
		return;
	block_store_status(u->io.store, &status);
	if (status.conditional)
		return;
	u->plan.conditional = false;
	say_unconditional(&u->plan);
}

static void planner_step(struct uploader *u, struct upload_io *io, const struct upload_step *step)
{
	struct upload_result result;
	uint64_t began_ms = uploader_now_ms(u);
	if (step->kind == UPLOAD_SCAN)
		atomic_store(&u->changed, false); /* before it looks */
	pthread_mutex_unlock(&u->lock);
	upload_exec(io, &u->plan, step, &result);
	pthread_mutex_lock(&u->lock);
	uint64_t now_ms = uploader_now_ms(u);
	upload_plan_done_step(&u->plan, now_ms, step, &result);
	if (step->kind == UPLOAD_MANIFEST)
		look_at_condition(u);
	if (step->kind == UPLOAD_SCAN) {
		uint64_t pause_ms = SCAN_SHARE * (now_ms - began_ms);
		u->plan.scan_after_ms =
			now_ms + (pause_ms > SCAN_PAUSE_MS ? pause_ms : SCAN_PAUSE_MS);
	}
	(void)pthread_cond_broadcast(&u->work);
	(void)pthread_cond_broadcast(&u->done);
}

static void *planner(void *arg)
{
	struct uploader *u = arg;
	struct upload_io io = u->io;
	struct upload_step step;
	pthread_mutex_lock(&u->lock);
	while (!u->stopping) {
		tell(u);
		if (u->stopping)
			break;
		uint64_t closed = u->plan.closed;
		if (upload_plan_serial(&u->plan, uploader_now_ms(u), &step)) {
			planner_step(u, &io, &step);
			continue;
		}
		if (closed != u->plan.closed)
			(void)pthread_cond_broadcast(&u->done);
		if (u->plan.news || u->plan.notice.code != 0)
			continue;
		uint64_t now_ms = uploader_now_ms(u);
		uint64_t wake_ms = upload_plan_wake_ms(&u->plan, now_ms);
		uploader_wait(u, &u->planner_work, wake_ms);
		/* What waits for a time waits for it here. */
		if (wake_ms <= uploader_now_ms(u))
			(void)pthread_cond_broadcast(&u->work);
	}
	pthread_mutex_unlock(&u->lock);
	upload_io_done(&io);
	return NULL;
}

/* Waits until SIZE more bytes may go. The lock is held, and given up meanwhile. */
static void wait_bandwidth(struct uploader *u, uint64_t size)
{
	if (u->bandwidth == 0)
		return;
	uint64_t now_us = 1000 * uploader_now_ms(u);
	uint64_t at_us = u->free_us > now_us ? u->free_us : now_us;
	u->free_us = at_us + (uint64_t)((double)size * 1e6 / (double)u->bandwidth);
	while (!u->stopping && uploader_now_ms(u) < at_us / 1000)
		uploader_wait(u, &u->work, at_us / 1000);
}

static void transfer(struct uploader *u, struct upload_io *io, const struct upload_step *step)
{
	struct upload_result result = {.r = -ECANCELED};
	if (step->kind != UPLOAD_DELETE)
		wait_bandwidth(u, step->to - step->from);
	if (!u->stopping) {
		pthread_mutex_unlock(&u->lock);
		upload_exec(io, &u->plan, step, &result);
		pthread_mutex_lock(&u->lock);
	}
	upload_plan_done_step(&u->plan, uploader_now_ms(u), step, &result);
	(void)pthread_cond_signal(&u->planner_work);
	(void)pthread_cond_broadcast(&u->work);
}

static void *transferrer(void *arg)
{
	struct uploader *u = arg;
	struct upload_io io = u->io;
	struct upload_step step;
	pthread_mutex_lock(&u->lock);
	while (!u->stopping) {
		if (upload_plan_transfer(&u->plan, uploader_now_ms(u), &step))
			transfer(u, &io, &step);
		else
			uploader_wait(u, &u->work, UINT64_MAX);
	}
	pthread_mutex_unlock(&u->lock);
	upload_io_done(&io);
	return NULL;
}

static void source_changed(void *arg)
{
	struct uploader *u = arg;
	/* By each commit: those who make them do not wait for each other here. */
	if (atomic_exchange(&u->changed, true))
		return;
	pthread_mutex_lock(&u->lock);
	upload_plan_changed(&u->plan, uploader_now_ms(u));
	(void)pthread_cond_signal(&u->planner_work);
	pthread_mutex_unlock(&u->lock);
}

/* ---- Starting and stopping ------------------------------------------------------------------- */

static int make_plan(struct uploader *u, const struct uploader_options *options)
{
	struct block_store_status status;
	struct uuid random;
	struct upload_plan_options plan = {
		.store = options->store,
		.host = options->host,
		.block_size = options->block_size,
		.interval_ms = options->upload_interval_ms > 0 ? options->upload_interval_ms
							       : INTERVAL_DEFAULT_MS,
		.disk_max = options->disk_max,
		.take_over = options->take_over,
	};
	block_store_status(u->io.store, &status);
	plan.conditional = status.conditional;
	int r = uuid_random(&random);
	if (r < 0)
		return r;
	memcpy(&plan.session, random.bytes, sizeof(plan.session));
	return upload_plan_init(&u->plan, &plan);
}

static void stop_threads(struct uploader *u)
{
	pthread_mutex_lock(&u->lock);
	u->stopping = true;
	(void)pthread_cond_broadcast(&u->work);
	(void)pthread_cond_broadcast(&u->planner_work);
	(void)pthread_cond_broadcast(&u->done);
	pthread_mutex_unlock(&u->lock);
	for (unsigned i = 0; i < u->thread_count; i++)
		(void)pthread_join(u->threads[i], NULL);
	u->thread_count = 0;
	/* Those who wait for us are on their way out. */
	pthread_mutex_lock(&u->lock);
	while (u->waiting > 0)
		(void)pthread_cond_wait(&u->left, &u->lock);
	pthread_mutex_unlock(&u->lock);
}

static int start_threads(struct uploader *u)
{
	int r = pthread_create(&u->threads[0], NULL, planner, u);
	u->thread_count = r == 0;
	while (r == 0 && u->thread_count <= u->transfers) {
		r = pthread_create(&u->threads[u->thread_count], NULL, transferrer, u);
		u->thread_count += r == 0;
	}
	return -r;
}

static void init_sync(struct uploader *u)
{
	pthread_condattr_t attr;
	(void)pthread_mutex_init(&u->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&u->work, &attr);
	(void)pthread_cond_init(&u->planner_work, &attr);
	(void)pthread_cond_init(&u->done, &attr);
	(void)pthread_cond_init(&u->left, &attr);
	(void)pthread_mutex_init(&u->turn.lock, NULL);
	(void)pthread_cond_init(&u->turn.given, NULL);
	(void)pthread_condattr_destroy(&attr);
}

static void destroy(struct uploader *u)
{
	upload_plan_done(&u->plan);
	(void)pthread_cond_destroy(&u->turn.given);
	(void)pthread_mutex_destroy(&u->turn.lock);
	(void)pthread_cond_destroy(&u->left);
	(void)pthread_cond_destroy(&u->done);
	(void)pthread_cond_destroy(&u->planner_work);
	(void)pthread_cond_destroy(&u->work);
	(void)pthread_mutex_destroy(&u->lock);
	free(u);
}

static bool possible(const struct uploader_options *options)
{
	return options->block_size > 0 && options->block_size % 65536 == 0 &&
	       options->block_size <= BLOCK_STORE_SIZE_MAX &&
	       options->transfers <= UPLOADER_TRANSFERS_MAX;
}

int uploader_start(struct segment_source *source, struct block_store *store,
		   const struct uploader_options *options, struct reterr *err,
		   struct uploader **ret)
{
	if (!possible(options))
		return reterr_set(err, -EINVAL, "the uploader cannot work with these options");
	struct uploader *u = calloc(1, sizeof(*u));
	if (!u)
		return reterr_set(err, -ENOMEM, "no memory for the uploader");
	u->clock = options->clock ? options->clock : clock_system();
	u->io = (struct upload_io){.source = source,
				   .store = store,
				   .clock = u->clock,
				   .block_size = options->block_size};
	u->io.turn = &u->turn;
	u->transfers = options->transfers > 0 ? options->transfers : TRANSFERS_DEFAULT;
	u->bandwidth = options->bandwidth;
	u->report = options->report;
	u->report_arg = options->report_arg;
	init_sync(u);
	uploader_keeper_init(u);

	int r = make_plan(u, options);
	if (r == 0)
		r = upload_load_journal(source, &u->plan, err);
	if (r == 0) {
		source->ops->listen(source, source_changed, u);
		r = start_threads(u);
		if (r < 0) {
			source->ops->listen(source, NULL, NULL);
			stop_threads(u);
		}
	}
	if (r < 0) {
		destroy(u);
		if (err && err->code == 0)
			(void)reterr_set(err, r, "the uploader cannot start: %s", strerror(-r));
		return r;
	}
	*ret = u;
	return 0;
}

void uploader_free(struct uploader *u)
{
	if (!u)
		return;
	u->io.source->ops->listen(u->io.source, NULL, NULL);
	stop_threads(u);
	destroy(u);
}
