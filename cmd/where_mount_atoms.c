/* Atoms of a mounted store: atoms/in takes them, atoms/<uuid>/<offset> shows them. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/io.h"
#include "cmd/log.h"
#include "cmd/progress.h"
#include "cmd/source.h"
#include "cmd/text.h"
#include "cmd/where_mount.h"
#include "fs/render.h"

/* ---- Put ------------------------------------------------------------------------------------ */

static int copy_source(struct mounted *mounted, struct source *source, int fd, struct reterr *err)
{
	size_t n = 1;
	while (n > 0) {
		int r = source_next(source, mounted->chunk, WHERE_MOUNT_CHUNK_SIZE, &n, err);
		if (r < 0)
			return r;
		r = io_write(fd, mounted->chunk, n);
		if (r < 0)
			return where_mount_failed(mounted, r, "cannot write to atoms/in", err);
		progress_add(n);
	}
	if (source->at == 0)
		return reterr_set(err, -EINVAL, "it is empty, and an atom has at least one byte");
	return 0;
}

/* The name in atoms/in has become a link to ../<uuid>/<offset>. */
static int read_address(struct mounted *mounted, const char *path, struct engine_pointer *ret,
			struct reterr *err)
{
	char target[TEXT_POINTER_LENGTH + 16];
	ssize_t n = readlinkat(mounted->top, path, target, sizeof(target) - 1);
	if (n < 0)
		return where_mount_failed(mounted, -errno,
					  "cannot read the address of the new atom", err);
	target[n] = '\0';
	int r = text_parse_pointer(target, ret);
	if (r < 0)
		return reterr_set(err, -EIO, "the new atom's address '%s' is no pointer", target);
	return 0;
}

/*
 * The mount tells the format by the name, and only where it can check it: else the atom is a raw
 * one.
 */
static int check_format(struct mounted *mounted, const struct source *source,
			const struct engine_pointer *pointer, struct reterr *err)
{
	char path[PATH_MAX], text[TEXT_POINTER_LENGTH], format[32];

	if (source->format == ENGINE_FORMAT_RAW)
		return 0;
	(void)text_pointer(pointer, text);
	int length = snprintf(path, sizeof(path), "%s/atoms/%s", mounted->mountpoint, text);
	if (length < 0 || (size_t)length >= sizeof(path))
		return reterr_set(err, -ENAMETOOLONG, "the mountpoint's path is too long");
	where_mount_attribute(path, "user.protofs.format", format, sizeof(format));
	if (strcmp(format, render_format_name(source->format)) == 0)
		return 0;
	return reterr_set(err, -EINVAL,
			  "it is no %s, or nested deeper than 128: it became the %s atom %s",
			  render_format_name(source->format), format, text);
}

static const char *name_suffix(uint8_t format)
{
	return format == ENGINE_FORMAT_JSON      ? ".json"
	       : format == ENGINE_FORMAT_MSGPACK ? ".msgpack"
						 : "";
}

int where_mount_put(struct where *where, struct source *source, struct engine_pointer *ret,
		    struct reterr *err)
{
	struct mounted *mounted = where_mount_of(where);
	char name[WHERE_MOUNT_NAME_SIZE], path[96];

	if (source->format != ENGINE_FORMAT_RAW && source->size > RENDER_PAYLOAD_MAX)
		return reterr_set(
			err, -EFBIG,
			"a mount takes JSON and MessagePack of up to %zu MiB; as raw, or into "
			"the store while it is not mounted, it can be larger",
			RENDER_PAYLOAD_MAX >> 20);
	(void)snprintf(path, sizeof(path), "atoms/in/%s%s", where_mount_name(mounted, name),
		       name_suffix(source->format));
	CLEANUP(io_close)
	int fd = openat(mounted->top, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return where_mount_failed(mounted, -errno, "cannot create a file in atoms/in", err);
	int r = copy_source(mounted, source, fd, err);
	if (r == 0 && fsync(fd) < 0)
		r = where_mount_failed(mounted, -errno, "it is not durable", err);
	if (r == 0)
		r = read_address(mounted, path, ret, err);
	if (r == 0)
		r = check_format(mounted, source, ret, err);
	/* What is incomplete must not become an atom when it is closed. */
	if (r < 0 && ftruncate(fd, 0) < 0)
		log_warning("cannot take back what was written to atoms/in: %s", strerror(errno));
	(void)unlinkat(mounted->top, path, 0);
	return r;
}

/* ---- Atoms ---------------------------------------------------------------------------------- */

int where_mount_cat(struct where *where, const struct engine_pointer *pointer, enum where_form form,
		    int out, struct reterr *err)
{
	static const char *const suffixes[] = {
		[WHERE_PAYLOAD] = "",
		[WHERE_JSON] = ".json",
		[WHERE_FRAME] = ".frame",
	};
	struct mounted *mounted = where_mount_of(where);
	char path[TEXT_POINTER_LENGTH + 16], text[TEXT_POINTER_LENGTH];
	uint64_t offset = 0;

	(void)snprintf(path, sizeof(path), "atoms/%s%s", text_pointer(pointer, text),
		       suffixes[form]);
	CLEANUP(io_close) int fd = openat(mounted->top, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return where_mount_no_atom(mounted, pointer, err);
	if (fd < 0 && errno == EFBIG)
		return reterr_set(err, -EFBIG, "it is too large, or too deep, for --json");
	if (fd < 0)
		return where_mount_failed(mounted, -errno, path, err);
	for (size_t n = WHERE_MOUNT_CHUNK_SIZE; n == WHERE_MOUNT_CHUNK_SIZE; offset += n) {
		int r = io_read_at(fd, mounted->chunk, WHERE_MOUNT_CHUNK_SIZE, offset, &n);
		if (r < 0)
			return where_mount_failed(mounted, r, path, err);
		r = io_write(out, mounted->chunk, n);
		if (r < 0)
			return reterr_set(err, r, "cannot write it out: %s", strerror(-r));
	}
	return 0;
}

int where_mount_atoms(struct where *where, const struct uuid *segment, where_atom_fn *fn, void *arg,
		      struct reterr *err)
{
	struct mounted *mounted = where_mount_of(where);
	char path[64], uuid[UUID_TEXT_LENGTH + 1];
	const struct dirent *entry;

	(void)snprintf(path, sizeof(path), "atoms/%s", uuid_format(segment, uuid));
	CLEANUP(where_mount_directory_close) DIR *directory = where_mount_directory(mounted, path);
	if (!directory && errno == ENOENT)
		return where_mount_no_segment(segment, err);
	if (!directory)
		return where_mount_failed(mounted, -errno, path, err);
	for (errno = 0; (entry = readdir(directory)); errno = 0) {
		uint64_t offset;
		struct stat st;
		if (text_parse_u64(entry->d_name, &offset) < 0)
			continue;
		if (fstatat(dirfd(directory), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return where_mount_failed(mounted, -errno, entry->d_name, err);
		int r = fn(arg, offset, (uint64_t)st.st_size);
		if (r < 0)
			return r;
	}
	return errno ? where_mount_failed(mounted, -errno, path, err) : 0;
}
