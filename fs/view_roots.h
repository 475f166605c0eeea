/* Between view_roots.c, which has the directory, and view_root.c, which has what is in it. */
#ifndef PROTOFS_FS_VIEW_ROOTS_H
#define PROTOFS_FS_VIEW_ROOTS_H

#include "fs/view.h"

struct engine_root;

extern const struct view view_root, view_roots_by_time;

/*
 * The id of roots/current while it leads to SEQ: another one for each root, as the kernel remembers
 * where a link leads.
 */
uint64_t root_current_id(uint64_t seq);

/* ID is that of ROOT's file, of its link by time, or of roots/current. */
MUST_CHECK int root_entry(struct call *call, uint64_t id, const struct engine_root *root,
			  struct entry *ret);

/*
 * Lists the kept roots behind seq AFTER, by their seq or as in by-time/, each at position seq +
 * BASE.
 */
MUST_CHECK int root_list(struct call *call, bool by_time, uint64_t after, uint64_t base,
			 struct listing *listing, bool *ret_full);

#endif
