/*
 * invariant(): what must hold whatever the input. On in release builds too: a filesystem that has
 * lost track of itself must stop before it writes. Never used on input, which gets an error.
 */
#ifndef PROTOFS_BASE_INVARIANT_H
#define PROTOFS_BASE_INVARIANT_H

#include "base/attr.h"

NORETURN void invariant_failed(const char *expression, const char *file, int line);

#define invariant(expression)                                                                      \
	((expression) ? (void)0 : invariant_failed(#expression, __FILE__, __LINE__))

#endif
