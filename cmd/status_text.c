#include "cmd/status_text.h"

#include <inttypes.h>

#include "base/buf.h"
#include "base/uuid.h"
#include "engine/engine.h"

int status_text(const struct engine_stats *stats, bool json, struct buf *ret)
{
	char store[UUID_TEXT_LENGTH + 1];
	(void)uuid_format(&stats->store, store);
	const char *format = json ? "{\"store\": \"%s\", \"segments\": %" PRIu64
				    ", \"bytes_stored\": %" PRIu64 ", \"roots_last\": %" PRIu64
				    "}\n"
				  : "store %s\nsegments %" PRIu64 "\nbytes stored %" PRIu64
				    "\nnewest root %" PRIu64 "\n";
	_Pragma("GCC diagnostic push")
		_Pragma("GCC diagnostic ignored \"-Wformat-nonliteral\"") int r =
			buf_printf(ret, format, store, stats->segments, stats->bytes_stored,
				   stats->roots_last);
	_Pragma("GCC diagnostic pop") return r;
}
