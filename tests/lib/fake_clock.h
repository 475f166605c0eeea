/* A clock that stands still until a test moves it. Thread-safe. */
#ifndef PROTOFS_TESTS_LIB_FAKE_CLOCK_H
#define PROTOFS_TESTS_LIB_FAKE_CLOCK_H

#include <protofs/clock.h>
#include <stdatomic.h>
#include <stdint.h>

struct fake_clock {
	struct clock clock; /* to be passed on */
	_Atomic uint64_t now_ms;
	_Atomic uint64_t wall_ns;
};

/* Both start at a time that is not zero. */
void fake_clock_init(struct fake_clock *fake);
/* Moves both. */
void fake_clock_advance_ms(struct fake_clock *fake, uint64_t ms);
/* The wall clock alone, backwards too. */
void fake_clock_set_wall_ns(struct fake_clock *fake, uint64_t wall_ns);

#endif
