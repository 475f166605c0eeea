/*
 * The state of a store as text for people, as JSON and for Prometheus: .ctl/status,
 * .ctl/stats.json, .ctl/metrics and `protofs status`.
 */
#ifndef PROTOFS_FS_STATUS_H
#define PROTOFS_FS_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"

struct cloud_status;
struct engine_stats;

enum { STATUS_TEXT_MAX = 64 << 10 };

/* How fast the store grows. A zeroed one: not known. */
struct status_growth {
	uint64_t bytes;
	uint64_t interval_ms; /* in which it grew by them */
};

/* In how many days what is free will be used up. False: not known, or it does not grow. */
bool status_days_left(const struct engine_stats *stats, const struct status_growth *growth,
		      double *ret_days);

/*
 * All append to OUT: 0; -ENOMEM; -EFBIG. NOW_NS is the wall clock's. CLOUD is NULL for a store
 * without one.
 */
MUST_CHECK int status_as_text(const struct engine_stats *stats, const struct status_growth *growth,
			      const struct cloud_status *cloud, uint64_t now_ns, struct buf *out);
MUST_CHECK int status_as_json(const struct engine_stats *stats, const struct status_growth *growth,
			      const struct cloud_status *cloud, uint64_t now_ns, struct buf *out);
MUST_CHECK int status_as_metrics(const struct engine_stats *stats,
				 const struct status_growth *growth,
				 const struct cloud_status *cloud, struct buf *out);

/*
 * What a daemon remembers to know today's rate: bytes appended, sampled at most once an hour,
 * whenever somebody asks. Not thread-safe. A zeroed one is empty; begin it with a sample of 0
 * bytes.
 */
enum { STATUS_SAMPLES_MAX = 25 };

struct status_history {
	struct status_sample {
		uint64_t time_ms;
		uint64_t bytes;
	} samples[STATUS_SAMPLES_MAX]; /* a ring: sample n is at n % MAX */
	uint64_t count;                /* taken so far */
};

/* BYTES are those appended so far, at NOW_MS of the monotonic clock. */
void status_sample(struct status_history *history, uint64_t now_ms, uint64_t bytes);

/*
 * The growth from the youngest sample that is at least a day old, or else from the oldest one,
 * until now. Not known within the first minute.
 */
struct status_growth status_growth(const struct status_history *history, uint64_t now_ms,
				   uint64_t bytes);

#endif
