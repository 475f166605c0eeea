#include "batch.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SETTLE_MS = 3 }; /* what a side left behind shall not run in the next one's time */

struct crew {
	const struct batch_side *side;
	const struct batch_plan *plan;
	pthread_barrier_t start;
	atomic_bool stop;
	atomic_int error; /* the first one */
};

struct worker {
	struct crew *crew;
	unsigned number;
	uint64_t done;
};

double batch_now_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void sleep_ms(unsigned ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	(void)nanosleep(&t, NULL);
}

void batch_value(const char *row, const char *side, double value, const char *unit)
{
	(void)printf("{\"row\": \"%s\", \"side\": \"%s\", \"value\": %.9g, \"unit\": \"%s\"}\n",
		     row, side, value, unit);
	(void)fflush(stdout);
}

/* Until DEADLINE, or plan->ops times. */
static int work_alone(const struct batch_plan *plan, const struct batch_side *side, double deadline,
		      uint64_t *ret_done)
{
	unsigned stride = plan->stride ? plan->stride : 1;
	uint64_t done = 0;

	do {
		for (unsigned i = 0; i < stride; i++) {
			int r = side->op(side->arg, 0);
			if (r < 0)
				return r;
			done++;
		}
	} while (plan->ops ? done < plan->ops : batch_now_s() < deadline);
	*ret_done = done;
	return 0;
}

static void *work_in_crew(void *arg)
{
	struct worker *worker = arg;
	struct crew *crew = worker->crew;
	uint64_t ops = crew->plan->ops;

	(void)pthread_barrier_wait(&crew->start);
	while (ops ? worker->done < ops
		   : !atomic_load_explicit(&crew->stop, memory_order_relaxed)) {
		int r = crew->side->op(crew->side->arg, worker->number), none = 0;
		if (r < 0) {
			(void)atomic_compare_exchange_strong(&crew->error, &none, r);
			break;
		}
		worker->done++;
	}
	return NULL;
}

static int run_crew(const struct batch_plan *plan, const struct batch_side *side, double *ret_start,
		    uint64_t *ret_done)
{
	struct crew crew = {.side = side, .plan = plan};
	struct worker workers[BATCH_THREADS_MAX];
	pthread_t threads[BATCH_THREADS_MAX];
	uint64_t done = 0;

	if (side->threads > BATCH_THREADS_MAX)
		return -EINVAL;
	int r = pthread_barrier_init(&crew.start, NULL, side->threads + 1);
	if (r != 0)
		return -r;
	for (unsigned i = 0; i < side->threads; i++) {
		workers[i] = (struct worker){.crew = &crew, .number = i};
		r = pthread_create(&threads[i], NULL, work_in_crew, &workers[i]);
		if (r != 0)
			return -r; /* the others wait forever; the program ends */
	}
	*ret_start = batch_now_s();
	(void)pthread_barrier_wait(&crew.start);
	if (!plan->ops)
		sleep_ms(plan->batch_ms);
	atomic_store(&crew.stop, true);
	for (unsigned i = 0; i < side->threads; i++) {
		(void)pthread_join(threads[i], NULL);
		done += workers[i].done;
	}
	(void)pthread_barrier_destroy(&crew.start);
	*ret_done = done;
	return atomic_load(&crew.error);
}

/* One batch of one side. */
static int run_batch(const struct batch_plan *plan, const struct batch_side *side,
		     double *ret_seconds, uint64_t *ret_done)
{
	int r = side->before ? side->before(side->arg) : 0;
	if (r < 0)
		return r;
	sleep_ms(SETTLE_MS);
	double start = batch_now_s();
	r = side->threads > 1 ? run_crew(plan, side, &start, ret_done)
			      : work_alone(plan, side, start + plan->batch_ms / 1e3, ret_done);
	if (r == 0 && side->finish)
		r = side->finish(side->arg);
	*ret_seconds = batch_now_s() - start;
	if (r == 0 && side->after)
		r = side->after(side->arg);
	return r;
}

int batch_run(const struct batch_plan *plan, const struct batch_side *sides, unsigned count)
{
	for (unsigned round = 0; round < plan->rounds + plan->warmup; round++) {
		for (unsigned turn = 0; turn < count; turn++) {
			const struct batch_side *side = &sides[(turn + round) % count];
			double seconds = 0;
			uint64_t done = 0;

			int r = run_batch(plan, side, &seconds, &done);
			if (r < 0) {
				(void)fprintf(stderr, "%s: %s: %s\n", plan->row, side->name,
					      strerror(-r));
				return r;
			}
			if (round < plan->warmup)
				continue;
			(void)printf("{\"row\": \"%s\", \"side\": \"%s\", \"round\": %u, "
				     "\"ops\": %llu, \"seconds\": %.9f}\n",
				     plan->row, side->name, round - plan->warmup,
				     (unsigned long long)done, seconds);
			(void)fflush(stdout);
		}
	}
	return 0;
}
