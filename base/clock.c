#include <protofs/clock.h>

#include <time.h>

static uint64_t system_now_ms(const struct clock *clock)
{
	(void)clock;
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint64_t system_wall_ns(const struct clock *clock)
{
	(void)clock;
	struct timespec ts;
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

const struct clock *clock_system(void)
{
	static const struct clock system = {.now_ms = system_now_ms, .wall_ns = system_wall_ns};
	return &system;
}
