#include <errno.h>
#include <string.h>

#include "base/invariant.h"
#include "engine/disk_path.h"
#include "tests/lib/sim_alloc.h"
#include "tests/lib/sim_disk_internal.h"

static struct sim_entry *entry_find(const struct sim_names *names, const char *name, size_t length)
{
	for (size_t i = 0; i < names->count; i++) {
		struct sim_entry *entry = &names->entries[i];
		if (strncmp(entry->name, name, length) == 0 && !entry->name[length])
			return entry;
	}
	return NULL;
}

struct sim_inode *sim_names_find(const struct sim_names *names, const char *name, size_t length)
{
	const struct sim_entry *entry = entry_find(names, name, length);
	return entry ? entry->inode : NULL;
}

void sim_names_set(struct sim_names *names, const char *name, struct sim_inode *inode)
{
	struct sim_entry *entry = entry_find(names, name, strlen(name));
	if (entry && inode) {
		entry->inode = inode;
	} else if (entry) {
		sim_free(entry->name);
		*entry = names->entries[--names->count];
	} else if (inode) {
		if (names->count == names->capacity) {
			names->capacity = names->capacity ? names->capacity * 2 : 8;
			names->entries = sim_realloc(names->entries,
						     names->capacity * sizeof(*names->entries));
		}
		names->entries[names->count++] =
			(struct sim_entry){.name = sim_strdup(name), .inode = inode};
	}
}

void sim_names_done(struct sim_names *names)
{
	for (size_t i = 0; i < names->count; i++)
		sim_free(names->entries[i].name);
	sim_free(names->entries);
	*names = (struct sim_names){0};
}

void sim_names_copy(struct sim_names *to, const struct sim_names *from)
{
	sim_names_done(to);
	for (size_t i = 0; i < from->count; i++)
		sim_names_set(to, from->entries[i].name, from->entries[i].inode);
}

static void links_drop(struct sim_inode *inode)
{
	if (inode) {
		invariant(inode->links > 0);
		inode->links--;
	}
}

void sim_change_make(struct sim_disk *disk, struct sim_inode *dir, const char *name,
		     struct sim_inode *inode, struct sim_inode *from_dir, const char *from_name)
{
	if (disk->change_count == disk->change_capacity) {
		disk->change_capacity = disk->change_capacity ? disk->change_capacity * 2 : 16;
		disk->changes =
			sim_realloc(disk->changes, disk->change_capacity * sizeof(*disk->changes));
	}
	disk->changes[disk->change_count++] = (struct sim_change){
		.dir = dir,
		.name = sim_strdup(name),
		.inode = inode,
		.from_dir = from_dir,
		.from_name = from_name ? sim_strdup(from_name) : NULL,
	};

	links_drop(sim_names_find(&dir->names, name, strlen(name)));
	if (inode)
		inode->links++;
	sim_names_set(&dir->names, name, inode);
	if (from_dir) {
		links_drop(sim_names_find(&from_dir->names, from_name, strlen(from_name)));
		sim_names_set(&from_dir->names, from_name, NULL);
	}
}

static bool touches(const struct sim_change *change, const struct sim_inode *dir, const char *name)
{
	if (change->dir == dir && strcmp(change->name, name) == 0)
		return true;
	return change->from_dir == dir && strcmp(change->from_name, name) == 0;
}

/*
 * A change that becomes stable takes along what happened to its names before: one that came later must not be
 * undone by one that came earlier.
 */
static bool depends_on(const struct sim_change *late, const struct sim_change *early)
{
	return touches(early, late->dir, late->name) ||
	       (late->from_dir && touches(early, late->from_dir, late->from_name));
}

static void change_apply(const struct sim_change *change)
{
	sim_names_set(&change->dir->stable_names, change->name, change->inode);
	if (change->from_dir)
		sim_names_set(&change->from_dir->stable_names, change->from_name, NULL);
}

void sim_changes_sync(struct sim_disk *disk, const struct sim_inode *dir)
{
	size_t count = disk->change_count;
	bool *wanted = sim_calloc(count);

	for (size_t i = count; i-- > 0;) {
		const struct sim_change *change = &disk->changes[i];
		if (change->dir == dir || change->from_dir == dir)
			wanted[i] = true;
		for (size_t j = 0; j < i && wanted[i]; j++)
			wanted[j] = wanted[j] || depends_on(change, &disk->changes[j]);
	}
	size_t kept = 0;
	for (size_t i = 0; i < count; i++) {
		if (!wanted[i]) {
			disk->changes[kept++] = disk->changes[i];
			continue;
		}
		change_apply(&disk->changes[i]);
		sim_free(disk->changes[i].name);
		sim_free(disk->changes[i].from_name);
	}
	disk->change_count = kept;
	sim_free(wanted);
}

int sim_place_find(struct sim_disk *disk, const char *path, struct sim_place *ret)
{
	int r = disk_path_check(path);
	if (r < 0)
		return r;
	struct sim_place place = {.name = path, .inode = disk->root};
	while (*place.name) {
		size_t length = strcspn(place.name, "/");
		if (!place.inode)
			return -ENOENT;
		if (!place.inode->is_dir)
			return -ENOTDIR;
		place.dir = place.inode;
		place.inode = sim_names_find(&place.dir->names, place.name, length);
		if (!place.name[length])
			break;
		place.name += length + 1;
	}
	*ret = place;
	return 0;
}
