#include <errno.h>

#include "engine/core.h"

#define RESERVE_PATH "reserve"
/* A sealed table and index of one part and a window of the root log, with room to spare. */
#define RESERVE_SIZE ((uint64_t)8 << 20)
#define RESERVE_SIZE_MIN ((uint64_t)64 << 10)

void reserve_open(struct engine *e)
{
	if (disk_open(e->disk, RESERVE_PATH, DISK_WRITE | DISK_CREATE | DISK_REPLACE, &e->reserve) <
	    0)
		return; /* the store works without; ENOSPC is then met earlier */
	reserve_restore(e);
}

bool reserve_release(struct engine *e)
{
	(void)pthread_mutex_lock(&e->state_lock);
	struct disk_file *file = e->reserve;
	e->reserve_whole = false;
	(void)pthread_mutex_unlock(&e->state_lock);
	/* Also when it is not whole: a full disk may have left it a part. */
	return file && disk_truncate(file, 0) == 0;
}

void reserve_restore(struct engine *e)
{
	(void)pthread_mutex_lock(&e->state_lock);
	bool needed = e->reserve && !e->reserve_whole;
	(void)pthread_mutex_unlock(&e->state_lock);
	if (!needed)
		return;
	/* Half of it, or a quarter, is better than nothing: a little is what a root and a seal need. */
	uint64_t size = RESERVE_SIZE;
	while (disk_reserve(e->reserve, 0, size) < 0 && size > RESERVE_SIZE_MIN)
		size /= 2;
	bool whole = size == RESERVE_SIZE;
	(void)pthread_mutex_lock(&e->state_lock);
	e->reserve_whole = whole;
	(void)pthread_mutex_unlock(&e->state_lock);
}

void reserve_close(struct engine *e)
{
	disk_close(e->reserve);
	e->reserve = NULL;
}
