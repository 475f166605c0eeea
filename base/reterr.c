#include "base/reterr.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

int reterr_set(struct reterr *err, int code, const char *format, ...)
{
	if (!err)
		return code;
	err->code = code;
	err->retry_after_ms = 0;
	va_list args;
	va_start(args, format);
	(void)vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return code;
}
