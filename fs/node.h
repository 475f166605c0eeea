/*
 * Node ids: the 64-bit inode numbers of the mount.
 *
 * Those of segments, atoms and roots are computed from what they name, so that millions of them
 * cost no memory; the others are allocated and bounded.
 *
 *   63      61 60                36 35                        0
 *   |  view   | segment number     | offset                    |
 *
 *   0  allocated: see "The table" below; segment number 0. Id 1 is the top directory.
 *   1  files of a segment: offset is an enum node_face
 *   2  atom, 3 atom as JSON, 4 atom as frame: the frame's address
 *   5  root: (seq << 1 | by-time) in the lower 61 bits
 *   6  snapshots, 7 the POSIX tree: reserved
 *
 * Segment numbers are the engine's: never reused while it is open, so an id never changes its
 * meaning within a mount.
 */
#ifndef PROTOFS_FS_NODE_H
#define PROTOFS_FS_NODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct view;

enum node_kind {
	NODE_ALLOCATED = 0,
	NODE_SEGMENT = 1,
	NODE_ATOM = 2,
	NODE_ATOM_JSON = 3,
	NODE_ATOM_FRAME = 4,
	NODE_ROOT = 5,
	NODE_SNAP = 6,
	NODE_TREE = 7,
	NODE_KINDS = 8,
};

/* The files that one segment appears as. */
enum node_face {
	NODE_FACE_SPACE = 0, /* space/<uuid> */
	NODE_FACE_WAL = 1,   /* wal/<uuid> */
	NODE_FACE_SUM = 2,   /* wal/<uuid>.sum */
	NODE_FACE_ATOMS = 3, /* the directory atoms/<uuid>/ */
	NODE_FACES = 4,
};

enum {
	NODE_OFFSET_BITS = 36,
	NODE_NUMBER_BITS = 25,
	NODE_KIND_SHIFT = 61,
	NODE_TABLE_MAX = 1 << 16, /* allocated nodes at once: -ENOSPC beyond */
};

#define NODE_OFFSET_MAX (((uint64_t)1 << NODE_OFFSET_BITS) - 1)
#define NODE_NUMBER_MAX (((uint32_t)1 << NODE_NUMBER_BITS) - 1)
#define NODE_ROOT_SEQ_MAX (((uint64_t)1 << (NODE_KIND_SHIFT - 1)) - 1)

/* The directories that are always there. Their ids, and their places in the table. */
enum node_fixed {
	NODE_TOP = 1,
	NODE_SPACE,
	NODE_WAL,
	NODE_WAL_IN,
	NODE_ATOMS,
	NODE_ATOMS_IN,
	NODE_ROOTS,
	NODE_ROOTS_BY_TIME,
	NODE_CTL,
	NODE_ROOT_LOCK,      /* space/space_root.lock */
	NODE_FIXED_FREE,     /* and up: for the files of .ctl/ */
	NODE_FIXED_MAX = 32, /* ids below are fixed */
};

/*
 * NUMBER and OFFSET within their bounds, which the caller has checked where they come from input.
 */
uint64_t node_make(enum node_kind kind, uint32_t number, uint64_t offset);

static inline enum node_kind node_kind(uint64_t id)
{
	return (enum node_kind)(id >> NODE_KIND_SHIFT);
}

static inline uint32_t node_number(uint64_t id)
{
	return (uint32_t)(id >> NODE_OFFSET_BITS) & NODE_NUMBER_MAX;
}

static inline uint64_t node_offset(uint64_t id)
{
	return id & NODE_OFFSET_MAX;
}

uint64_t node_of_root(uint64_t seq, bool by_time);
uint64_t node_root_seq(uint64_t id);
bool node_root_by_time(uint64_t id);

/* ---- The table ------------------------------------------------------------------------------ */

/*
 * An allocated node; a view puts it first in its own struct. It lives while somebody holds a
 * reference: the directory that lists it (one, dropped when the name goes), the kernel (its
 * lookups), a call under way.
 */
struct node {
	uint64_t id;
	const struct view *view;
	atomic_uint_least64_t refs;
	void (*free)(struct node *node); /* after the last reference; no lock held */
	struct node *next;               /* of the same hash chain; the table's lock */
};

struct node_table;
MUST_CHECK int node_table_new(struct node_table **ret);
/* Accepts NULL. Every node that is left is freed, whatever its references. */
void node_table_free(struct node_table *table);

/*
 * Enters NODE with one reference, the caller's, and gives it an id that no node of this mount had
 * before. -ENOSPC the table is full.
 */
MUST_CHECK int node_add(struct node_table *table, struct node *node, const struct view *view,
			void (*free_node)(struct node *node));
/*
 * The same under a fixed id, for good: before the mount only. Such nodes are found without a lock.
 */
void node_add_fixed(struct node_table *table, enum node_fixed id, struct node *node,
		    const struct view *view);

/* The node with a new reference, or NULL. */
struct node *node_get(struct node_table *table, uint64_t id);
void node_ref(struct node *node, uint64_t count);
void node_unref(struct node_table *table, struct node *node, uint64_t count);

#endif
