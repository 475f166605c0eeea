#include "tests/lib/fake_clock.h"

static const struct fake_clock *fake_of(const struct clock *clock)
{
	return (const struct fake_clock *)clock;
}

static uint64_t fake_now_ms(const struct clock *clock)
{
	return atomic_load(&fake_of(clock)->now_ms);
}

static uint64_t fake_wall_ns(const struct clock *clock)
{
	return atomic_load(&fake_of(clock)->wall_ns);
}

void fake_clock_init(struct fake_clock *fake)
{
	fake->clock = (struct clock){.now_ms = fake_now_ms, .wall_ns = fake_wall_ns};
	atomic_init(&fake->now_ms, 1000);
	atomic_init(&fake->wall_ns, 1700000000000000000);
}

void fake_clock_advance_ms(struct fake_clock *fake, uint64_t ms)
{
	atomic_fetch_add(&fake->now_ms, ms);
	atomic_fetch_add(&fake->wall_ns, ms * 1000000);
}

void fake_clock_set_wall_ns(struct fake_clock *fake, uint64_t wall_ns)
{
	atomic_store(&fake->wall_ns, wall_ns);
}
