#include "cloud/block_cache_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/invariant.h"
#include "cloud/block_key.h"

static const uint8_t magic[8] = {'p', 'r', 'o', 't', 'o', 'b', 'l', 'k'};

enum {
	VERSION = 1,
	FLAG_RECORDED = 1,
	OFFSET_VERSION = 8,
	OFFSET_FLAGS = 12,
	OFFSET_SIZE = 16,
	OFFSET_FIRST_FRAME = 24,
	OFFSET_MODIFIED = 32,
	OFFSET_HASH = 40,
	OFFSET_KEY_LENGTH = 56,
	OFFSET_ETAG = 60,
	OFFSET_KEY = OFFSET_ETAG + BLOCK_ETAG_SIZE,
	OFFSET_SUM = 4080,
	DISK_UNIT = 4096,
	CHUNK_SIZE = 256 << 10,
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

static uint64_t pages_of(uint64_t size)
{
	return (size + DISK_UNIT - 1) / DISK_UNIT * DISK_UNIT;
}

char *cache_file_name(const char *key, char name[static CACHE_FILE_NAME_SIZE])
{
	struct hash hash = hash_of(key, strlen(key));
	return hash_format(&hash, name);
}

uint64_t cache_file_disk(uint64_t size)
{
	return CACHE_FILE_HEADER_SIZE + pages_of(size);
}

/* ---- The header ---- */

void cache_file_encode(const struct cache_file *file, uint8_t bytes[static CACHE_FILE_HEADER_SIZE])
{
	size_t length = strlen(file->key);
	invariant(length <= BLOCK_KEY_MAX);
	memset(bytes, 0, CACHE_FILE_HEADER_SIZE);
	memcpy(bytes, magic, sizeof(magic));
	store_le32(bytes + OFFSET_VERSION, VERSION);
	store_le32(bytes + OFFSET_FLAGS, file->head.recorded ? FLAG_RECORDED : 0);
	store_le64(bytes + OFFSET_SIZE, file->head.size);
	store_le64(bytes + OFFSET_FIRST_FRAME, file->head.first_frame);
	store_le64(bytes + OFFSET_MODIFIED, file->head.modified_ns);
	memcpy(bytes + OFFSET_HASH, file->head.hash.bytes, HASH_SIZE);
	store_le32(bytes + OFFSET_KEY_LENGTH, (uint32_t)length);
	memcpy(bytes + OFFSET_ETAG, file->head.etag, strnlen(file->head.etag, BLOCK_ETAG_SIZE - 1));
	memcpy(bytes + OFFSET_KEY, file->key, length);
	struct hash sum = hash_of(bytes, OFFSET_SUM);
	memcpy(bytes + OFFSET_SUM, sum.bytes, HASH_SIZE);
}

int cache_file_decode(struct slice bytes, struct cache_file *ret)
{
	struct slice header;
	int r = slice_take(&bytes, CACHE_FILE_HEADER_SIZE, &header);
	if (r < 0)
		return r;
	const uint8_t *data = header.data;
	struct hash sum = hash_of(data, OFFSET_SUM);
	if (memcmp(data, magic, sizeof(magic)) != 0 ||
	    memcmp(data + OFFSET_SUM, sum.bytes, HASH_SIZE) != 0 ||
	    load_le32(data + OFFSET_VERSION) != VERSION)
		return -EBADMSG;

	struct cache_file file = {
		.head = {.size = load_le64(data + OFFSET_SIZE),
			 .first_frame = load_le64(data + OFFSET_FIRST_FRAME),
			 .modified_ns = load_le64(data + OFFSET_MODIFIED),
			 .recorded = load_le32(data + OFFSET_FLAGS) & FLAG_RECORDED},
	};
	uint32_t length = load_le32(data + OFFSET_KEY_LENGTH);
	if (length > BLOCK_KEY_MAX || file.head.size > BLOCK_STORE_SIZE_MAX)
		return -EBADMSG;
	if (file.head.first_frame != BLOCK_NO_FRAME && file.head.first_frame >= file.head.size)
		return -EBADMSG;
	memcpy(file.head.hash.bytes, data + OFFSET_HASH, HASH_SIZE);
	memcpy(file.head.etag, data + OFFSET_ETAG, BLOCK_ETAG_SIZE);
	memcpy(file.key, data + OFFSET_KEY, length);
	if (file.head.etag[BLOCK_ETAG_SIZE - 1] || strlen(file.key) != length ||
	    block_key_parse(file.key, NULL) < 0)
		return -EBADMSG;
	*ret = file;
	return 0;
}

/* ---- Writing ---- */

static int write_all(int fd, struct iovec *parts, int count)
{
	while (count > 0) {
		ssize_t n = writev(fd, parts, count);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		size_t done = (size_t)n;
		while (count > 0 && done >= parts->iov_len) {
			done -= parts->iov_len;
			parts++;
			count--;
		}
		if (count > 0) {
			parts->iov_base = (uint8_t *)parts->iov_base + done;
			parts->iov_len -= done;
		}
	}
	return 0;
}

/* -EINVAL, among others: the filesystem takes nothing past the page cache. */
static int write_direct(int fd, uint8_t *header, uint8_t *data, size_t size)
{
	size_t whole = (size_t)pages_of(size);
	struct iovec parts[] = {
		{.iov_base = header, .iov_len = CACHE_FILE_HEADER_SIZE},
		{.iov_base = data, .iov_len = whole},
	};
	memset(data + size, 0, whole - size);
	if (fcntl(fd, F_SETFL, O_DIRECT) < 0)
		return -errno;
	int r = write_all(fd, parts, ARRAY_SIZE(parts));
	if (r == 0 && whole > size && ftruncate(fd, (off_t)(CACHE_FILE_HEADER_SIZE + size)) < 0)
		r = -errno;
	return r;
}

static int write_buffered(int fd, uint8_t *header, uint8_t *data, size_t size)
{
	struct iovec parts[] = {
		{.iov_base = header, .iov_len = CACHE_FILE_HEADER_SIZE},
		{.iov_base = data, .iov_len = size},
	};
	if (fcntl(fd, F_SETFL, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	return write_all(fd, parts, ARRAY_SIZE(parts));
}

int cache_file_write(int dir_fd, uint64_t number, const struct cache_file *file, void *data,
		     size_t capacity)
{
	char temporary[64], name[CACHE_FILE_NAME_SIZE];
	_Alignas(DISK_UNIT) uint8_t header[CACHE_FILE_HEADER_SIZE];
	size_t size = (size_t)file->head.size;
	(void)snprintf(temporary, sizeof(temporary), CACHE_FILE_TEMPORARY "%" PRIu64, number);
	(void)cache_file_name(file->key, name);
	cache_file_encode(file, header);

	int fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
			0600);
	if (fd < 0)
		return -errno;
	bool direct = size >= CACHE_FILE_DIRECT_MIN && pages_of(size) <= capacity &&
		      (uintptr_t)data % DISK_UNIT == 0;
	int r = direct ? write_direct(fd, header, data, size) : -EINVAL;
	if (r == -EINVAL)
		r = write_buffered(fd, header, data, size);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && renameat(dir_fd, temporary, dir_fd, name) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dir_fd, temporary, 0);
	return r;
}

/* ---- Reading ---- */

static int open_file(int dir_fd, const char *name, int *ret_fd)
{
	/* Not blocking: a fifo of that name must not hang us. */
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP ? -EINVAL : -errno;
	*ret_fd = fd;
	return 0;
}

/* Fewer than SIZE only at the end of the file. */
static int read_all(int fd, void *data, size_t size, uint64_t offset, size_t *ret)
{
	size_t done = 0;
	while (done < size) {
		ssize_t n = pread(fd, (uint8_t *)data + done, size - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	*ret = done;
	return 0;
}

static int load(int fd, const char *name, struct cache_file *ret, uint64_t *ret_used_ns)
{
	struct stat st;
	uint8_t bytes[CACHE_FILE_HEADER_SIZE];
	char own_name[CACHE_FILE_NAME_SIZE];
	struct cache_file file;
	size_t size;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	int r = read_all(fd, bytes, sizeof(bytes), 0, &size);
	if (r < 0)
		return r;
	r = cache_file_decode((struct slice){.data = bytes, .size = size}, &file);
	if (r < 0)
		return -EBADMSG;
	if ((uint64_t)st.st_size != CACHE_FILE_HEADER_SIZE + file.head.size ||
	    strcmp(cache_file_name(file.key, own_name), name) != 0)
		return -EBADMSG;
	*ret = file;
	*ret_used_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000U + (uint64_t)st.st_mtim.tv_nsec;
	return 0;
}

int cache_file_load(int dir_fd, const char *name, struct cache_file *ret, uint64_t *ret_used_ns)
{
	CLEANUP(close_fd) int fd = -1;
	int r = open_file(dir_fd, name, &fd);
	return r < 0 ? r : load(fd, name, ret, ret_used_ns);
}

static int hash_rest(int fd, uint64_t size, struct hash *ret)
{
	struct hash_stream *stream = NULL;
	uint8_t *chunk = malloc(CHUNK_SIZE);
	int r = chunk ? hash_stream_new(&stream) : -ENOMEM;
	for (uint64_t at = 0; r == 0 && at < size;) {
		size_t got, want = size - at < CHUNK_SIZE ? (size_t)(size - at) : CHUNK_SIZE;
		r = read_all(fd, chunk, want, CACHE_FILE_HEADER_SIZE + at, &got);
		if (r == 0 && got < want)
			r = -EBADMSG;
		if (r == 0)
			hash_stream_update(stream, chunk, got);
		at += want;
	}
	if (r == 0)
		*ret = hash_stream_sum(stream);
	hash_stream_free(stream);
	free(chunk);
	return r;
}

int cache_file_verify(int dir_fd, const struct cache_file *file)
{
	CLEANUP(close_fd) int fd = -1;
	char name[CACHE_FILE_NAME_SIZE];
	struct cache_file found = {0};
	struct hash hash = {0};
	uint64_t used_ns;
	int r = open_file(dir_fd, cache_file_name(file->key, name), &fd);
	if (r == 0)
		r = load(fd, name, &found, &used_ns);
	if (r == 0)
		r = hash_rest(fd, found.head.size, &hash);
	if (r < 0)
		return r;
	bool same = found.head.size == file->head.size && hash_equal(&hash, &file->head.hash);
	return same ? 0 : -EBADMSG;
}

int cache_file_read(int dir_fd, const struct cache_file *file, void *data, size_t size,
		    uint64_t offset, size_t *ret)
{
	CLEANUP(close_fd) int fd = -1;
	char name[CACHE_FILE_NAME_SIZE];
	*ret = 0;
	if (offset >= file->head.size)
		return 0;
	if (size > file->head.size - offset)
		size = (size_t)(file->head.size - offset);
	int r = open_file(dir_fd, cache_file_name(file->key, name), &fd);
	if (r == 0)
		r = read_all(fd, data, size, CACHE_FILE_HEADER_SIZE + offset, ret);
	return r == 0 && *ret < size ? -EBADMSG : r;
}
