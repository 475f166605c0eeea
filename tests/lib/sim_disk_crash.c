/* What a power cut leaves of a simulated disk, and damage to what is stored. */
#include <string.h>

#include "base/invariant.h"
#include "tests/lib/sim_alloc.h"
#include "tests/lib/sim_disk_internal.h"

/* One power cut's fate. */
struct crash {
	struct sim_random random;
	struct sim_disk *to;
	unsigned names_percent;
	bool names_in_order; /* like a journal: a prefix of the changes survives */
};

/* The extremes often, since that is where order matters most; else anything between. */
static unsigned any_percent(struct sim_random *random)
{
	static const unsigned choices[] = {0, 10, 50, 90, 100};
	return choices[sim_random_below(random, sizeof(choices) / sizeof(choices[0]))];
}

static void crash_names_begin(struct sim_disk *disk)
{
	for (struct sim_inode *inode = disk->inodes; inode; inode = inode->next) {
		inode->crash_copy = NULL;
		if (inode->is_dir)
			sim_names_copy(&inode->crash_names, &inode->stable_names);
	}
}

/* Which of the changes of names survive. */
static void crash_names_decide(struct sim_disk *disk, struct crash *crash)
{
	size_t prefix = disk->change_count;
	if (crash->names_in_order)
		prefix = sim_random_below(&crash->random, disk->change_count + 1);
	for (size_t i = 0; i < prefix; i++) {
		const struct sim_change *change = &disk->changes[i];
		if (!crash->names_in_order &&
		    !sim_random_chance(&crash->random, crash->names_percent))
			continue;
		sim_names_set(&change->dir->crash_names, change->name, change->inode);
		if (change->from_dir)
			sim_names_set(&change->from_dir->crash_names, change->from_name, NULL);
	}
}

/* A file has luck of its own: one may be wholly there, the next one not at all. */
static void copy_file(const struct sim_inode *from, struct sim_inode *to, struct crash *crash)
{
	const struct sim_luck luck = {
		.sectors_percent = any_percent(&crash->random),
		.sizes_percent = any_percent(&crash->random),
	};
	sim_image_copy(&to->stable, &from->stable);
	sim_inode_survive(from, &to->stable, &luck, &crash->random);
	sim_image_copy(&to->live, &to->stable);
	crash->to->used += to->live.allocated;
}

/*
 * The trees are shallow; directories are never renamed, so there is no cycle. A file that has lost one of two
 * renames may be left with two names.
 */
static struct sim_inode *copy_inode(struct sim_inode *from, struct crash *crash)
{
	if (from->crash_copy) {
		from->crash_copy->links++;
		return from->crash_copy;
	}
	struct sim_inode *to = sim_inode_new(crash->to, from->is_dir);
	to->links = 1;
	from->crash_copy = to;
	crash->to->used += SIM_PAGE_SIZE;
	if (!from->is_dir)
		copy_file(from, to, crash);
	for (size_t i = 0; i < from->crash_names.count; i++) {
		const struct sim_entry *entry = &from->crash_names.entries[i];
		struct sim_inode *inode = copy_inode(entry->inode, crash);
		sim_names_set(&to->names, entry->name, inode);
		sim_names_set(&to->stable_names, entry->name, inode);
	}
	return to;
}

struct disk *sim_disk_crash(struct disk *base, uint64_t seed)
{
	struct sim_disk *disk = sim_disk_of(base);
	struct crash crash = {.random.state = seed};

	crash.to = sim_disk_of(sim_disk_new(sim_random_next(&crash.random)));
	crash.names_percent = any_percent(&crash.random);
	crash.names_in_order = sim_random_chance(&crash.random, 33);
	(void)pthread_mutex_lock(&disk->mutex);
	crash_names_begin(disk);
	crash_names_decide(disk, &crash);
	disk->root->crash_copy = NULL;
	crash.to->root = copy_inode(disk->root, &crash);
	crash.to->space = disk->space;
	(void)pthread_mutex_unlock(&disk->mutex);
	return &crash.to->base;
}

/* ---- Damage ---- */

typedef void edit_fn(struct sim_image *image, uint64_t a, uint64_t b, uint64_t size);

/* Whatever is still to be flushed is flushed first, so that it does not heal the damage. All below END is there. */
static void edit(struct disk *base, const char *path, uint64_t end, edit_fn *fn, uint64_t a,
		 uint64_t b, uint64_t size)
{
	struct sim_disk *disk = sim_disk_of(base);
	struct sim_place place;

	(void)pthread_mutex_lock(&disk->mutex);
	int r = sim_place_find(disk, path, &place);
	invariant(r == 0 && place.inode && !place.inode->is_dir);
	sim_inode_flush(place.inode);
	invariant(end <= place.inode->live.size);
	uint64_t allocated = place.inode->live.allocated;
	fn(&place.inode->live, a, b, size);
	fn(&place.inode->stable, a, b, size);
	disk->used += place.inode->live.allocated - allocated;
	(void)pthread_mutex_unlock(&disk->mutex);
}

/* B is the mask. */
static void edit_flip(struct sim_image *image, uint64_t offset, uint64_t mask, uint64_t size)
{
	(void)size;
	uint8_t byte;
	sim_image_read(image, &byte, 1, offset);
	byte ^= (uint8_t)mask;
	sim_image_write(image, &byte, 1, offset);
}

static void edit_zero(struct sim_image *image, uint64_t offset, uint64_t b, uint64_t size)
{
	(void)b;
	sim_image_write(image, NULL, (size_t)size, offset);
}

static void edit_swap(struct sim_image *image, uint64_t a, uint64_t b, uint64_t size)
{
	uint8_t *data = sim_malloc(2 * (size_t)size);
	sim_image_read(image, data, (size_t)size, a);
	sim_image_read(image, data + size, (size_t)size, b);
	sim_image_write(image, data, (size_t)size, b);
	sim_image_write(image, data + size, (size_t)size, a);
	sim_free(data);
}

void sim_disk_flip(struct disk *disk, const char *path, uint64_t offset, uint8_t mask)
{
	edit(disk, path, offset + 1, edit_flip, offset, mask, 1);
}

void sim_disk_zero(struct disk *disk, const char *path, uint64_t offset, uint64_t size)
{
	edit(disk, path, offset + size, edit_zero, offset, 0, size);
}

void sim_disk_swap(struct disk *disk, const char *path, uint64_t a, uint64_t b, uint64_t size)
{
	edit(disk, path, (a > b ? a : b) + size, edit_swap, a, b, size);
}
