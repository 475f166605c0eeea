#include "cmd/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/content_check.h"
#include "engine/engine.h"

enum {
	CHECK_CHUNK_SIZE = 1 << 18,
	MSGPACK_SIZE_MAX = 256 << 20, /* its check wants all of it in memory */
};

int source_open(const char *name, uint8_t format, struct source *ret, struct reterr *err)
{
	struct source source = {.name = name, .format = format, .fd = STDIN_FILENO};
	struct stat st;

	if (strcmp(name, "-") != 0)
		source.fd = open(name, O_RDONLY | O_CLOEXEC);
	if (source.fd < 0)
		return reterr_set(err, -errno, "%s", strerror(errno));
	int r = fstat(source.fd, &st) < 0 ? -errno : 0;
	if (r == 0 && S_ISDIR(st.st_mode))
		r = -EISDIR;
	if (r < 0) {
		(void)reterr_set(err, r, "%s", strerror(-r));
		goto fail;
	}
	/* A file of /proc calls itself regular and empty: only reading tells. */
	if (S_ISREG(st.st_mode) && st.st_size > 0 && lseek(source.fd, 0, SEEK_CUR) == 0) {
		source.sized = true;
		source.size = (uint64_t)st.st_size;
		(void)posix_fadvise(source.fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	}
	if (source.format == ENGINE_FORMAT_JSON) {
		r = json_check_new(&source.json);
		if (r < 0) {
			(void)reterr_set(err, r, "out of memory");
			goto fail;
		}
	}
	source.seen.max = MSGPACK_SIZE_MAX;
	*ret = source;
	return 0;
fail:
	source_close(&source);
	return r;
}

void source_close(struct source *source)
{
	json_check_free(source->json);
	buf_done(&source->seen);
	if (source->fd > STDIN_FILENO)
		(void)close(source->fd);
	*source = (struct source){0};
}

static int gather(struct source *source, const void *data, size_t size, struct reterr *err)
{
	int r = buf_append(&source->seen, data, size);
	if (r == -EFBIG)
		return reterr_set(
			err, r,
			"it has more than the %zu MiB up to which MessagePack can be checked; "
			"put it as raw",
			source->seen.max >> 20);
	return r < 0 ? reterr_set(err, r, "out of memory") : 0;
}

static int check(struct source *source, const void *data, size_t size, struct reterr *err)
{
	if (source->checked || source->format == ENGINE_FORMAT_RAW)
		return 0;
	if (source->format == ENGINE_FORMAT_JSON)
		return size ? json_check_feed(source->json, data, size, err)
			    : json_check_end(source->json, err);
	if (size > 0)
		return gather(source, data, size, err);
	return msgpack_check((struct slice){.data = source->seen.data, .size = source->seen.size},
			     err);
}

int source_next(struct source *source, void *data, size_t size, size_t *ret, struct reterr *err)
{
	ssize_t n = read(source->fd, data, size);
	if (n < 0)
		return reterr_set(err, -errno, "cannot read its byte %" PRIu64 ": %s", source->at,
				  strerror(errno));
	source->at += (uint64_t)n;
	int r = check(source, data, (size_t)n, err);
	if (r < 0)
		return r;
	*ret = (size_t)n;
	return 0;
}

int source_check(struct source *source, struct reterr *err)
{
	if (source->format == ENGINE_FORMAT_RAW)
		return 0;
	uint8_t *chunk = malloc(CHECK_CHUNK_SIZE);
	size_t n = 1;
	int r = chunk ? 0 : reterr_set(err, -ENOMEM, "out of memory");

	while (r == 0 && n > 0)
		r = source_next(source, chunk, CHECK_CHUNK_SIZE, &n, err);
	free(chunk);
	buf_done(&source->seen);
	if (r == 0 && lseek(source->fd, 0, SEEK_SET) < 0)
		r = reterr_set(err, -errno, "cannot go back to its first byte: %s",
			       strerror(errno));
	source->at = 0;
	source->checked = r == 0;
	return r;
}

int source_read_at(struct source *source, void *data, size_t size, uint64_t offset)
{
	uint8_t *to = data;
	while (size > 0) {
		ssize_t n = pread(source->fd, to, size, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		to += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}
