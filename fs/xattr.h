/*
 * The extended attributes of segments, atoms and roots. All are read-only text:
 *
 *   user.protofs.format   atoms and roots: raw, json, msgpack, small-file, unknown
 *   user.protofs.pointer  atoms and roots: <uuid>/<offset>; segments: <uuid>
 *   user.protofs.xxh3     XXH3-128 as 32 hex digits: of an atom's payload, of a root's text; of a segment, the sum of its
 *                         per-MiB sums (16 bytes each, in order), as far as it is durable
 *   user.protofs.durable  "local=N quorum=N cloud=N": how many bytes, counted from the first one, have reached this
 *                         disk, a majority of the peers' disks, the cloud. Of an atom and the atom of a root the
 *                         frame's bytes count; of a root they are in the cloud when the root itself is
 *   user.protofs.state    segments: volatile, open, sealed, damaged; atoms: open, sealed; roots: published, dangling
 *
 * Any other name is -ENODATA at once: the kernel asks for security.capability at every write.
 */
#ifndef PROTOFS_FS_XATTR_H
#define PROTOFS_FS_XATTR_H

#include "fs/view.h"

struct engine_root;

/* For struct view's getxattr and listxattr. They may block. */
MUST_CHECK int xattr_segment(struct call *call, struct engine_segment *segment, const char *name,
			     struct buf *ret);
MUST_CHECK int xattr_segment_list(struct buf *ret);

/* Of the frame at exactly OFFSET. */
MUST_CHECK int xattr_atom(struct call *call, struct engine_segment *segment, uint64_t offset,
			  const char *name, struct buf *ret);
MUST_CHECK int xattr_atom_list(struct buf *ret);

/* TEXT is what the root's file holds. */
MUST_CHECK int xattr_root(struct call *call, const struct engine_root *root, struct slice text,
			  const char *name, struct buf *ret);
MUST_CHECK int xattr_root_list(struct buf *ret);

#endif
