#include "engine/disk_path.h"

#include <errno.h>
#include <string.h>

static bool component_is_good(const char *name, size_t length)
{
	return length > 0 && !(length == 1 && name[0] == '.') &&
	       !(length == 2 && name[0] == '.' && name[1] == '.');
}

int disk_path_check(const char *path)
{
	if (!*path)
		return 0;
	for (const char *name = path;;) {
		size_t length = strcspn(name, "/");
		if (!component_is_good(name, length))
			return -EINVAL;
		name += length;
		if (name - path > DISK_PATH_MAX)
			return -ENAMETOOLONG;
		if (!*name)
			return 0;
		name++;
	}
}

bool disk_write_is_aligned(const struct disk_write *write)
{
	uint64_t bits = write->offset;
	for (int i = 0; i < write->iov_count; i++)
		bits |= (uintptr_t)write->iov[i].iov_base | write->iov[i].iov_len;
	return bits % DISK_BLOCK_SIZE == 0;
}

size_t disk_write_size(const struct disk_write *write)
{
	size_t size = 0;
	for (int i = 0; i < write->iov_count; i++)
		size += write->iov[i].iov_len;
	return size;
}
