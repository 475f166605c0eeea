/*
 * Links in roots/ that were made and not yet renamed over `current`: in memory only, bounded, all
 * functions from any thread.
 */
#ifndef PROTOFS_FS_ROOTS_PENDING_H
#define PROTOFS_FS_ROOTS_PENDING_H

#include "engine/engine.h"
#include "fs/view.h"

enum { PENDING_MAX = 64, PENDING_NAME_SIZE = 256 };

/* What a link asks to be published. */
struct wish {
	uint64_t seq; /* of the old root; 0: POINTER */
	struct engine_pointer pointer;
};

/* `<seq>` or `../atoms/<uuid>/<offset>`; -EINVAL anything else. */
MUST_CHECK int wish_parse(const char *target, struct wish *ret);

/* Opaque; all but its name never changes. */
struct pending;
struct pendings;

MUST_CHECK int pendings_new(struct fs *fs, struct pendings **ret);
void pendings_free(struct pendings *pendings); /* accepts NULL */

/*
 * BASE is the seq of the newest root, 0 if there is none. RET is the new link's entry. -EEXIST the
 * name is taken;
 * -ENOSPC there are PENDING_MAX.
 */
MUST_CHECK int pending_make(struct call *call, struct pendings *pendings, const char *name,
			    const struct wish *wish, const char *target, uint64_t base,
			    struct entry *ret);

/* The link called NAME, with a reference that pending_put() gives back; NULL if there is none. */
struct pending *pending_get(struct pendings *pendings, const char *name);
void pending_put(struct pendings *pendings, struct pending *pending);

const struct wish *pending_wish(const struct pending *pending);
uint64_t pending_base(const struct pending *pending);

/* Takes PENDING off the list, if it is still on it. */
void pending_drop(struct pendings *pendings, struct pending *pending);

/* Another name for it; the link that has it goes, or -EEXIST if it must STAY. */
MUST_CHECK int pending_rename(struct pendings *pendings, struct pending *pending, const char *to,
			      bool stay);

MUST_CHECK int pending_entry(struct call *call, const struct pending *pending, struct entry *ret);
void pending_list(struct call *call, struct pendings *pendings, uint64_t offset,
		  struct listing *listing);

/* Positions in listings are above it. */
#define PENDING_POSITION ((uint64_t)1 << 61)

#endif
