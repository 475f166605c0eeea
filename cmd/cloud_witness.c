#include "cmd/cloud_witness.h"

#include <errno.h>

#include "cloud/cloud.h"
#include "cmd/cloud_source.h"
#include "engine/engine.h"

struct restoring {
	struct engine *engine;
	struct reterr why; /* is in engine_stats, too */
};

static int restore(void *arg, const struct uuid *segment, uint64_t length)
{
	struct restoring *restoring = arg;
	return engine_restore_tail(restoring->engine, segment, length, &restoring->why);
}

int cloud_witness_restore(struct engine *engine, struct reterr *err)
{
	struct restoring restoring = {.engine = engine};
	struct cloud_source source;
	struct engine_stats stats;

	engine_stats(engine, &stats);
	if (stats.read_only)
		return 0;
	cloud_source_init(&source, engine);
	int r = upload_witness(&source.source, &stats.store, stats.block_size, restore, &restoring,
			       err);
	if (r < 0 && engine_check_writable(engine, NULL) < 0)
		return 0;
	/* A damaged journal is no witness; who uploads says what is to be done about it. */
	if (r == -EBADMSG)
		return 0;
	return r < 0 ? r : engine_tails_restored(engine, err);
}
