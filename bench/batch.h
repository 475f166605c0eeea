/*
 * Measuring sides against each other in one run.
 *
 * A machine's speed drifts by more than the differences that we look for, so that two runs, one after the
 * other, compare nothing. Here the sides take turns in small batches, in an order that rotates with each
 * round (A B C, B C A, C A B ...), and only batches of one round are compared. The program prints the raw
 * samples, a JSON object a line; run.py makes ratios, medians and spreads of them.
 */
#ifndef PROTOFS_BENCH_BATCH_H
#define PROTOFS_BENCH_BATCH_H

#include <stdint.h>

#include "base/attr.h"

enum { BATCH_THREADS_MAX = 64, BATCH_SIDES_MAX = 8 };

struct batch_side {
	const char *name;
	unsigned threads; /* that call OP in parallel; 0 is 1 */
	/* Before and after each batch, not timed. May be NULL. */
	int (*before)(void *arg);
	int (*after)(void *arg);
	/* One operation of thread THREAD; 0 or -errno, which ends the program's run. */
	int (*op)(void *arg, unsigned thread);
	/* After the last operation of a batch, timed; NULL if there is nothing to wait for. */
	int (*finish)(void *arg);
	void *arg;
};

struct batch_plan {
	const char *row;
	unsigned rounds;
	unsigned batch_ms; /* of each side in each round ... */
	uint64_t ops;      /* ... or so many operations of each thread, if not 0 */
	unsigned stride;   /* operations between two looks at the clock; 0 is 1 */
	unsigned warmup;   /* rounds that are not printed */
};

/* Runs the plan and prints a sample a line. -errno of the side that failed, whose name is on stderr. */
MUST_CHECK int batch_run(const struct batch_plan *plan, const struct batch_side *sides,
			 unsigned count);

/* A figure that is not a rate: {"row": ROW, "side": SIDE, "value": VALUE, "unit": UNIT}. */
void batch_value(const char *row, const char *side, double value, const char *unit);

double batch_now_s(void); /* monotonic */

#endif
