#include "fs/status.h"

#include "engine/engine.h"

enum { MS_PER_MINUTE = 60 * 1000, MS_PER_HOUR = 60 * MS_PER_MINUTE, MS_PER_DAY = 24 * MS_PER_HOUR };

static const struct status_sample *sample_at(const struct status_history *history, uint64_t n)
{
	return &history->samples[n % STATUS_SAMPLES_MAX];
}

void status_sample(struct status_history *history, uint64_t now_ms, uint64_t bytes)
{
	if (history->count > 0 &&
	    now_ms < sample_at(history, history->count - 1)->time_ms + MS_PER_HOUR)
		return;
	history->samples[history->count % STATUS_SAMPLES_MAX] =
		(struct status_sample){.time_ms = now_ms, .bytes = bytes};
	history->count++;
}

struct status_growth status_growth(const struct status_history *history, uint64_t now_ms,
				   uint64_t bytes)
{
	uint64_t oldest = history->count > STATUS_SAMPLES_MAX ? history->count - STATUS_SAMPLES_MAX
							      : 0;
	uint64_t from = oldest;

	for (uint64_t n = oldest; n < history->count; n++) {
		if (sample_at(history, n)->time_ms + MS_PER_DAY > now_ms)
			break;
		from = n;
	}
	if (history->count == 0 || now_ms < sample_at(history, from)->time_ms + MS_PER_MINUTE)
		return (struct status_growth){0};
	return (struct status_growth){
		.bytes = bytes - sample_at(history, from)->bytes,
		.interval_ms = now_ms - sample_at(history, from)->time_ms,
	};
}

bool status_days_left(const struct engine_stats *stats, const struct status_growth *growth,
		      double *ret_days)
{
	if (growth->interval_ms == 0 || growth->bytes == 0 || stats->disk_total == 0)
		return false;
	double bytes_per_day = (double)growth->bytes / (double)growth->interval_ms * MS_PER_DAY;
	*ret_days = (double)stats->disk_available / bytes_per_day;
	return true;
}
