/* Between view_roots.c, which has the directory, and view_root.c, which has what is in it. */
#ifndef PROTOFS_FS_VIEW_ROOTS_H
#define PROTOFS_FS_VIEW_ROOTS_H

#include "fs/view.h"

struct engine_root;

extern const struct view view_root, view_roots_by_time;

/* ID is that of ROOT's file or of its link. */
MUST_CHECK int root_entry(struct call *call, uint64_t id, const struct engine_root *root,
			  struct entry *ret);

/* Lists the kept roots behind seq AFTER, by their seq or as in by-time/, each at position seq + BASE. */
MUST_CHECK int root_list(struct call *call, bool by_time, uint64_t after, uint64_t base,
			 struct listing *listing, bool *ret_full);

#endif
