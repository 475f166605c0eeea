/*
 * The journal of whoever carries a store's segments away: records that it appends, and replaces as
 * a whole. Internal to the engine; bytes: journal_format.c.
 *
 * Threads: one caller at a time, but for journal_size.
 */
#ifndef PROTOFS_ENGINE_JOURNAL_H
#define PROTOFS_ENGINE_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "base/uuid.h"
#include "engine/disk.h"
#include "engine/engine.h"

struct journal;

/* 1 there is one, 0 there is none; the disk's error. */
MUST_CHECK int journal_is_there(struct disk *disk);

/* Does no I/O. READ_ONLY: nothing is written, nor is cut what a crash tore off. -ENOMEM. */
MUST_CHECK int journal_new(struct disk *disk, const struct uuid *store, bool read_only,
			   struct journal **ret);
void journal_free(struct journal *journal); /* accepts NULL; writes nothing */

/*
 * As engine_journal_load, _append and _replace; ERR is set. APPEND and REPLACE: -EBADMSG the file
 * is damaged (REPLACE does not look: it makes a damaged one good); -ENOSPC nothing changed.
 */
MUST_CHECK int journal_load(struct journal *journal, engine_journal_fn *fn, void *arg,
			    struct reterr *err);
MUST_CHECK int journal_append(struct journal *journal, const void *record, size_t size,
			      struct reterr *err);
MUST_CHECK int journal_replace(struct journal *journal, const void *const *records,
			       const size_t *sizes, size_t count, struct reterr *err);

/*
 * For a clean stop: if the last record cannot be read any more, that is damage from now on, not a
 * torn end. Nothing if nothing was appended since it was opened.
 */
MUST_CHECK int journal_mark(struct journal *journal, struct reterr *err);

/* Bytes of disk. */
uint64_t journal_size(struct journal *journal);

/*
 * For `fsck --repair`, with no journal of this store open: keeps a copy of a damaged one in
 * lost+found/, and the records before the damage.
 */
MUST_CHECK int journal_repair(struct disk *disk, const struct uuid *store, struct reterr *err);

#endif
