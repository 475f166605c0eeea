/* The journal as the engine's users see it. One caller at a time. */
#include <errno.h>
#include <string.h>

#include "engine/core.h"

int engine_journal_load(struct engine *e, engine_journal_fn *fn, void *arg, struct reterr *err)
{
	return journal_load(e->journal, fn, arg, err);
}

/* A store that has a journal is known by its directory from now on. */
static int check_first(struct engine *e, struct reterr *err)
{
	int r = engine_check_writable(e, err);
	if (r < 0 || journal_size(e->journal))
		return r;
	r = journal_is_there(e->disk);
	if (r < 0)
		return reterr_set(err, r, "the journal cannot be opened: %s", strerror(-r));
	return r > 0 ? 0 : identity_settle(e, err);
}

int engine_journal_append(struct engine *e, const void *record, size_t size, struct reterr *err)
{
	int r = check_first(e, err);
	if (r < 0)
		return r;
	r = journal_append(e->journal, record, size, err);
	/* Only what is noted here can be carried away, and give room on a full disk. */
	if (r == -ENOSPC && reserve_release(e)) {
		r = journal_append(e->journal, record, size, err);
		reserve_restore(e);
	}
	return r;
}

int engine_journal_replace(struct engine *e, const void *const *records, const size_t *sizes,
			   size_t count, struct reterr *err)
{
	int r = check_first(e, err);
	if (r < 0)
		return r;
	r = journal_replace(e->journal, records, sizes, count, err);
	if (r == -ENOSPC && reserve_release(e)) {
		r = journal_replace(e->journal, records, sizes, count, err);
		reserve_restore(e);
	}
	return r;
}
