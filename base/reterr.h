/*
 * Where the details of an error leave a function: the code that it returns says what the caller
 * can do, this says what happened, where, and what the user can do. Never global, never
 * thread-local. Every setter accepts NULL for a caller who does not care.
 */
#ifndef PROTOFS_BASE_RETERR_H
#define PROTOFS_BASE_RETERR_H

#include <stdint.h>

#include "base/attr.h"

enum { RETERR_TEXT_SIZE = 480 };

struct reterr {
	int code; /* -errno, 0 when nothing was set */
	/* How long whoever refused wants to be left alone; 0: it did not say. Set after the text. */
	uint64_t retry_after_ms;
	char text[RETERR_TEXT_SIZE];
};

/* Sets ERR and returns CODE, so that a failing function can end with `return reterr_set(...)`. */
int reterr_set(struct reterr *err, int code, const char *format, ...) PRINTF_LIKE(3, 4);

#endif
