/* A program of somebody else, built against the installed library: an atom in, an atom out. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <engine/disk.h>
#include <engine/engine.h>

int main(void)
{
	static char text[] = "an immutable atom";
	char back[sizeof(text)];
	const struct iovec iov = {.iov_base = text, .iov_len = sizeof(text)};
	struct disk *disk = NULL;
	struct engine *engine = NULL;
	struct engine_pointer pointer;
	struct engine_root root;
	struct reterr err = {0};
	size_t count = 0;

	int r = disk_memory_new((uint64_t)1 << 30, &disk);
	if (r == 0)
		r = engine_format(disk, NULL, &err);
	if (r == 0)
		r = engine_open(disk, NULL, &err, &engine);
	if (r == 0)
		r = engine_append(engine, ENGINE_CLASS_LOG, ENGINE_FORMAT_RAW, &iov, 1, &pointer);
	if (r == 0)
		r = engine_root_publish(engine, 0, &pointer, NULL, 0, &root, &err);
	if (r == 0)
		r = engine_read(engine, engine_segment_find(engine, &pointer.segment), back,
				sizeof(back), pointer.offset + ENGINE_FRAME_HEADER_SIZE, 0, &count,
				&err);
	if (r == 0 && (root.seq != 1 || count != sizeof(text) || memcmp(text, back, count) != 0))
		r = -EBADMSG;
	if (engine != NULL && engine_close(engine, &err) < 0 && r == 0)
		r = -EIO;
	disk_free(disk);
	if (r < 0)
		fprintf(stderr, "consumer: %s\n", strerror(-r));
	return r == 0 ? 0 : 1;
}
