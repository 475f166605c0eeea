/*
 * Makes the Nth allocation of the code under test fail.
 *
 * Programs that link protofs_testlib are linked with --wrap for malloc, calloc, realloc, aligned_alloc,
 * posix_memalign, strdup and strndup, so that calls from our own objects come here; calls inside shared
 * libraries do not. A test runs what it tests with each N in turn until nothing failed any more:
 *
 *	bool failed;
 *	uint64_t n = 0;
 *	do {
 *		fault_alloc_fail(++n);
 *		int r = thing_open(&thing);
 *		failed = fault_alloc_stop();
 *		ck_assert(failed ? r == -ENOMEM : r == 0);
 *		...
 *	} while (failed);
 *
 * Counts the allocations of all threads. fault_alloc_available() says whether the program was linked so.
 */
#ifndef PROTOFS_TESTS_LIB_FAULT_ALLOC_H
#define PROTOFS_TESTS_LIB_FAULT_ALLOC_H

#include <stdbool.h>
#include <stdint.h>

bool fault_alloc_available(void);
/* The Nth allocation from now on (1 is the next) fails, once. */
void fault_alloc_fail(uint64_t n);
/* Ends it. Returns whether an allocation failed. */
bool fault_alloc_stop(void);

/* For the test library: allocations of this thread in between neither count nor fail. They nest. */
void fault_alloc_pause(void);
void fault_alloc_resume(void);

#endif
