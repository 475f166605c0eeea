#include "fs/root_text.h"

#include <inttypes.h>

#include "engine/engine.h"
#include "fs/utc.h"

int root_text_print(const struct engine_root *root, struct buf *out)
{
	char uuid[UUID_TEXT_LENGTH + 1], time[UTC_TEXT_SIZE];
	return buf_printf(out,
			  "{\"transaction_id\": \"%s\", \"offset\": %" PRIu64 ", \"seq\": %" PRIu64
			  ", \"time\": \"%s\", \"node\": %" PRIu32 "}\n",
			  uuid_format(&root->pointer.segment, uuid), root->pointer.offset,
			  root->seq, utc_format(root->time_ns, time), root->node);
}
