/*
 * What one would do without protofs, on the file system below: the baselines.
 *
 *   raw_limit   overwrites of a zero-written file, O_DIRECT and O_DSYNC: the device's limit for durable
 *               writes. Each thread has a region of its own.
 *   raw_append  write at the end, then fdatasync: all threads on one file, or each on its own.
 */
#ifndef PROTOFS_BENCH_RAW_H
#define PROTOFS_BENCH_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "batch.h"

enum { RAW_WRITE_SIZE = 4096 };

struct raw_limit {
	int fd;
	void *data; /* aligned */
	uint64_t region;
	uint64_t at[BATCH_THREADS_MAX]; /* in the thread's region */
};

struct raw_append {
	int fds[BATCH_THREADS_MAX];
	unsigned count; /* of files; thread i uses i % count */
	bool full_sync; /* fsync, not fdatasync */
	uint8_t data[RAW_WRITE_SIZE];
};

/* All return 0 or -errno. The files are made in DIR, which the caller removes. */
MUST_CHECK int raw_limit_open(struct raw_limit *raw, const char *dir, unsigned threads);
int raw_limit_write(void *raw, unsigned thread); /* a batch_side's op */
void raw_limit_close(struct raw_limit *raw);

MUST_CHECK int raw_append_open(struct raw_append *raw, const char *dir, const char *name,
			       unsigned files);
int raw_append_write(void *raw, unsigned thread);
void raw_append_close(struct raw_append *raw);

/* Everything of FD is out of the page cache afterwards. */
MUST_CHECK int raw_evict(int fd);
/* The same for every regular file below DIR. */
MUST_CHECK int raw_evict_tree(const char *dir);

/* Bytes that nobody can compress or recognise as zeros. */
void raw_fill(void *data, size_t size, uint64_t seed);
/* Writes all or fails; the offset is the file's own. */
MUST_CHECK int raw_write_all(int fd, const void *data, size_t size);

#endif
