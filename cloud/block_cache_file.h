/*
 * A file of the cache: one object and what is known of it. Its name is the XXH3-128 of the object's
 * key, 32 hex digits, so that no key ever becomes a path.
 *
 *    0  8    "protoblk"
 *    8  u32  version, 1
 *   12  u32  flags: 1 the place knew the sum (RECORDED)
 *   16  u64  size of the object
 *   24  u64  its first frame, 2^64-1 none or unknown
 *   32  u64  when it was stored, by the place's clock; 0 unknown
 *   40  16   XXH3-128 of the object
 *   56  u32  length of the key
 *   60  72   the place's mark of the bytes (etag), NUL-padded; the last byte is NUL
 *  132  128  the key, NUL-padded
 *  260       zeros
 * 4080  16   XXH3-128 of [0, 4080)
 * 4096       the object
 *
 * It is valid if and only if magic, version and the header's sum match, the key is one, is this name's
 * and this length, the file has 4096 + size bytes, and their sum matches. Nothing is flushed: what a
 * crash leaves is judged by this rule at the first use after a start, and what fails it is dropped,
 * since it can be fetched again.
 *
 * All functions work in DIR_FD, follow no symlink, and return -errno of the system besides what they name.
 */
#ifndef PROTOFS_CLOUD_BLOCK_CACHE_FILE_H
#define PROTOFS_CLOUD_BLOCK_CACHE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include <protofs/block_store.h>

#include "base/attr.h"
#include "base/hash.h"
#include "base/slice.h"

enum {
	CACHE_FILE_HEADER_SIZE = 4096,
	CACHE_FILE_NAME_SIZE = HASH_TEXT_LENGTH + 1,
};

#define CACHE_FILE_TEMPORARY ".tmp-"
/* The smallest object that goes past the page cache. */
#define CACHE_FILE_DIRECT_MIN ((uint64_t)1 << 20)

struct cache_file {
	char key[BLOCK_KEY_MAX + 1];
	struct block_head head;
};

void cache_file_encode(const struct cache_file *file, uint8_t bytes[static CACHE_FILE_HEADER_SIZE]);
/* -ENODATA shorter than a header; -EBADMSG not valid, as far as the header tells. */
MUST_CHECK int cache_file_decode(struct slice bytes, struct cache_file *ret);

/* The name of KEY's file. Returns NAME. */
char *cache_file_name(const char *key, char name[static CACHE_FILE_NAME_SIZE]);
/* The bytes of disk that a file with an object of SIZE takes. */
uint64_t cache_file_disk(uint64_t size);

/*
 * Writes DATA of FILE->head.size bytes under a temporary name made of NUMBER, and renames it. DATA has
 * room for CAPACITY bytes. A large object in memory that begins and may end at a page goes past the
 * page cache: whoever wants it soon has it from the flight, and a copy less is a third of the work. What
 * is behind it in its last page is overwritten with zeros then.
 */
MUST_CHECK int cache_file_write(int dir_fd, uint64_t number, const struct cache_file *file,
				void *data, size_t capacity);
/*
 * What the header says. -EBADMSG header, name or length are not valid; -EINVAL no regular file:
 * not ours.
 */
MUST_CHECK int cache_file_load(int dir_fd, const char *name, struct cache_file *ret,
			       uint64_t *ret_used_ns);
/* The whole rule. -EBADMSG; -ENOMEM. */
MUST_CHECK int cache_file_verify(int dir_fd, const struct cache_file *file);
/* Bytes of the object; fewer only at its end. -EBADMSG the file is shorter than it. */
MUST_CHECK int cache_file_read(int dir_fd, const struct cache_file *file, void *data, size_t size,
			       uint64_t offset, size_t *ret);

#endif
