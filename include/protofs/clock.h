/*
 * Time as an input, so that tests run a 30 s outage without waiting for it.
 *
 * now_ms is monotonic and only for intervals and deadlines; wall_ns is the wall clock, which may
 * jump backwards and is only ever stored or shown. All methods may be called from any thread.
 */
#ifndef PROTOFS_CLOCK_H
#define PROTOFS_CLOCK_H

#include <stdint.h>

struct clock {
	uint64_t (*now_ms)(const struct clock *clock);
	uint64_t (*wall_ns)(const struct clock *clock); /* since 1970-01-01 UTC */
};

/* The system's clocks (CLOCK_MONOTONIC and CLOCK_REALTIME); never freed. In base/clock.c. */
const struct clock *clock_system(void);

#endif
