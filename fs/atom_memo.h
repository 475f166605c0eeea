/*
 * The payload sizes of a few atoms that were asked for lately, so that the next open or stat need not ask the
 * engine: that may wait for the disk, hence costs a change of threads (crew.h), which is more than all the rest.
 *
 * An atom never changes. Whether its segment is still there is the caller's to ask. Any thread.
 */
#ifndef PROTOFS_FS_ATOM_MEMO_H
#define PROTOFS_FS_ATOM_MEMO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct atom_memo;

MUST_CHECK int atom_memo_new(struct atom_memo **ret); /* -ENOMEM */
void atom_memo_free(struct atom_memo *memo);          /* accepts NULL */

/* SIZE is the payload's of the atom with node id ID. Another one may be forgotten for it. */
void atom_memo_put(struct atom_memo *memo, uint64_t id, uint64_t size);
bool atom_memo_get(struct atom_memo *memo, uint64_t id, uint64_t *ret_size);

#endif
