/* A reply to READDIR or READDIRPLUS while a view fills it. */
#ifndef PROTOFS_FS_LISTING_H
#define PROTOFS_FS_LISTING_H

#include "fs/core.h"

/*
 * Allocated nodes that one reply may name: their references are taken back if it does not arrive.
 */
enum { LISTING_NODES_MAX = 128 };

struct listing {
	fuse_req_t req;
	struct fs *fs;
	char *data;
	size_t size; /* of the room at DATA */
	size_t used;
	bool plus;
	struct node *nodes[LISTING_NODES_MAX]; /* referenced for the kernel */
	size_t node_count;
};

/* Adds "." and ".." as far as OFFSET, the kernel's, wants them. Returns the view's offset. */
uint64_t listing_begin(struct listing *listing, uint64_t id, uint64_t offset);

/* The reply did not arrive. */
void listing_undo(struct listing *listing);

#endif
