/*
 * A client that makes ProtoDB's system calls on a space directory, call by call: 8 reads, 7 opens, 2 fsyncs
 * and 1 rename for a commit.
 *
 *   lock      open space_root.lock O_RDWR|O_CREAT 0777, flock LOCK_EX|LOCK_NB
 *   read      four times: open space_root, read 8192 until 0, close. Or twice that and the page of the segment that
 *             the root points into: open, seek, read 1 MiB, read again as it was short, close. ProtoDB keeps pages
 *             that it has read, so that it does the former as a rule and the latter when it begins.
 *   publish   space_root.<segment>.<32 hex>.tmp O_WRONLY|O_CREAT|O_TRUNC, write JSON, fsync, close, rename over
 *             space_root, open the directory, fsync it, close
 *   unlock    flock LOCK_UN, close
 */
#ifndef PROTOFS_BENCH_CLIENT_H
#define PROTOFS_BENCH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/uuid.h"

enum { CLIENT_PATH_MAX = 512, CLIENT_FRAME_HEADER_SIZE = 9, CLIENT_ATOM_SIZE = 503 };

struct client {
	char dir[CLIENT_PATH_MAX];
	char segment[UUID_TEXT_LENGTH + 1];
	uint64_t length; /* of the segment */
	uint64_t last;   /* offset of the newest frame */
	uint64_t commits;
	bool reads_pages; /* set by the caller: keeps no page */
	uint8_t frame[CLIENT_FRAME_HEADER_SIZE + CLIENT_ATOM_SIZE];
};

/* All: 0 or -errno. Begins a segment in DIR with one atom and publishes it. */
MUST_CHECK int client_open(struct client *client, const char *dir);
/* Flushes one atom of 503 bytes: open 'ab+', seek, write, close. Never an fsync: ProtoDB has none. */
MUST_CHECK int client_append(struct client *client);
/* Publishes the newest atom. -EAGAIN the lock was held; -ESTALE another root was there. */
MUST_CHECK int client_publish(struct client *client);

/* Makes FRAME, of 9 + SIZE bytes, a raw atom. */
void client_frame(uint8_t *frame, uint64_t size);

#endif
