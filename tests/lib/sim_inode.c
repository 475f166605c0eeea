#include <string.h>

#include "base/invariant.h"
#include "tests/lib/sim_alloc.h"
#include "tests/lib/sim_disk_internal.h"

uint64_t sim_random_next(struct sim_random *random)
{
	/* splitmix64 */
	uint64_t z = random->state += 0x9e3779b97f4a7c15;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

uint64_t sim_random_below(struct sim_random *random, uint64_t bound)
{
	return sim_random_next(random) % bound;
}

bool sim_random_chance(struct sim_random *random, unsigned percent)
{
	return sim_random_below(random, 100) < percent;
}

struct sim_inode *sim_inode_new(struct sim_disk *disk, bool is_dir)
{
	struct sim_inode *inode = sim_calloc(sizeof(*inode));
	inode->is_dir = is_dir;
	inode->next = disk->inodes;
	disk->inodes = inode;
	return inode;
}

static void events_forget(struct sim_inode *inode)
{
	for (size_t i = 0; i < inode->event_count; i++)
		sim_free(inode->events[i].data);
	inode->event_count = 0;
}

void sim_inode_free(struct sim_inode *inode)
{
	events_forget(inode);
	sim_free(inode->events);
	sim_image_done(&inode->live);
	sim_image_done(&inode->stable);
	sim_names_done(&inode->names);
	sim_names_done(&inode->stable_names);
	sim_names_done(&inode->crash_names);
	sim_free(inode);
}

static struct sim_event *event_add(struct sim_inode *inode)
{
	if (inode->event_count == inode->event_capacity) {
		inode->event_capacity = inode->event_capacity ? inode->event_capacity * 2 : 8;
		inode->events =
			sim_realloc(inode->events, inode->event_capacity * sizeof(*inode->events));
	}
	struct sim_event *event = &inode->events[inode->event_count++];
	*event = (struct sim_event){.size = inode->live.size};
	return event;
}

static bool is_zero(const uint8_t *data, size_t size)
{
	return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

void sim_inode_note_write(struct sim_inode *inode, const void *data, size_t length, uint64_t offset)
{
	struct sim_event *event = event_add(inode);
	event->kind = SIM_EVENT_WRITE;
	event->offset = offset;
	event->length = length;
	if (!is_zero(data, length)) {
		event->data = sim_malloc(length);
		memcpy(event->data, data, length);
	}
}

void sim_inode_note_size(struct sim_inode *inode, uint64_t old_size)
{
	struct sim_event *event = event_add(inode);
	event->kind = inode->live.size < old_size ? SIM_EVENT_TRUNCATE : SIM_EVENT_EXTEND;
}

/* The sectors of a write that survive. */
static void write_survive(const struct sim_event *event, struct sim_image *image, unsigned percent,
			  struct sim_random *random)
{
	uint64_t end = event->offset + event->length;
	uint64_t at = event->offset;
	while (at < end) {
		uint64_t next = (at / DISK_SECTOR_SIZE + 1) * DISK_SECTOR_SIZE;
		if (next > end)
			next = end;
		const uint8_t *data = event->data ? event->data + (at - event->offset) : NULL;
		if (sim_random_chance(random, percent))
			sim_image_write(image, data, (size_t)(next - at), at);
		at = next;
	}
}

void sim_inode_survive(const struct sim_inode *inode, struct sim_image *stable,
		       const struct sim_luck *luck, struct sim_random *random)
{
	size_t sizes = inode->event_count; /* how many changes of the size survive */
	if (luck->sizes_percent == 0)
		sizes = 0;
	else if (luck->sizes_percent < 100)
		sizes = (size_t)sim_random_below(random, inode->event_count + 1);

	uint64_t size = stable->size;
	for (size_t i = 0; i < inode->event_count; i++) {
		const struct sim_event *event = &inode->events[i];
		if (event->kind == SIM_EVENT_WRITE)
			write_survive(event, stable, luck->sectors_percent, random);
		if (i >= sizes)
			continue;
		size = event->size;
		if (event->kind == SIM_EVENT_TRUNCATE)
			sim_image_resize(stable, size);
	}
	sim_image_resize(stable, size);
}

void sim_inode_flush(struct sim_inode *inode)
{
	const struct sim_luck all = {.sectors_percent = 100, .sizes_percent = 100};
	sim_inode_survive(inode, &inode->stable, &all, &(struct sim_random){0});
	events_forget(inode);
}

void sim_inode_flush_failed(struct sim_inode *inode, struct sim_random *random)
{
	size_t kept = 0;
	for (size_t i = 0; i < inode->event_count; i++) {
		struct sim_event event = inode->events[i];
		if (event.kind == SIM_EVENT_WRITE) {
			write_survive(&event, &inode->stable, 50, random);
			sim_free(event.data);
			event.data = NULL;
			event.kind = SIM_EVENT_EXTEND;
		}
		inode->events[kept++] = event;
	}
	inode->event_count = kept;
}
