#include "base/invariant.h"

#include <stdio.h>
#include <stdlib.h>

void invariant_failed(const char *expression, const char *file, int line)
{
	(void)fprintf(stderr, "protofs: invariant broken at %s:%d: %s\n", file, line, expression);
	abort();
}
