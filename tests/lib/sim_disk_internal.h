/*
 * Inside the simulated disk.
 *
 *   sim_disk.c        struct disk's methods, counting, faults
 *   sim_disk_crash.c  what a power cut leaves; damage
 *   sim_names.c       directories: what they show, what is stable, what is not yet
 *   sim_inode.c       files: likewise
 *
 * One mutex, the disk's, guards everything. Inodes live as long as their disk.
 */
#ifndef PROTOFS_TESTS_LIB_SIM_DISK_INTERNAL_H
#define PROTOFS_TESTS_LIB_SIM_DISK_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "engine/disk.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/sim_image.h"

/* ---- Chance ---- */

struct sim_random {
	uint64_t state;
};

uint64_t sim_random_next(struct sim_random *random);
/* Below BOUND, which is not 0. */
uint64_t sim_random_below(struct sim_random *random, uint64_t bound);
/* True in PERCENT of 100 cases. */
bool sim_random_chance(struct sim_random *random, unsigned percent);

/* ---- Files ---- */

enum sim_event_kind { SIM_EVENT_WRITE, SIM_EVENT_EXTEND, SIM_EVENT_TRUNCATE };

/* What happened to a file since its last flush. */
struct sim_event {
	enum sim_event_kind kind;
	uint64_t offset; /* of a write */
	size_t length;   /* of a write */
	uint8_t *data;   /* NULL: zeros */
	uint64_t size;   /* of the file afterwards */
};

struct sim_entry {
	char *name;
	struct sim_inode *inode;
};

/* Unordered. */
struct sim_names {
	struct sim_entry *entries;
	size_t count;
	size_t capacity;
};

struct sim_inode {
	struct sim_inode *next; /* of all inodes of the disk */
	bool is_dir;
	unsigned links; /* names that show it, open files */

	/* A file. */
	struct sim_image live;   /* what reads see */
	struct sim_image stable; /* what the last flush has secured */
	struct sim_event *events;
	size_t event_count;
	size_t event_capacity;

	/* A directory. */
	struct sim_names names;        /* what is seen */
	struct sim_names stable_names; /* what the last sync_dir has secured */
	/* While a crash is computed. */
	struct sim_names crash_names;
	struct sim_inode *crash_copy;
};

/* The live image is changed by the caller; these remember what that means. */
void sim_inode_note_write(struct sim_inode *inode, const void *data, size_t length,
			  uint64_t offset);
void sim_inode_note_size(struct sim_inode *inode, uint64_t old_size);
/* How much of what was not flushed reaches the medium. */
struct sim_luck {
	unsigned sectors_percent;
	unsigned sizes_percent; /* 0: the stable size, 100: the newest, else any of those it had */
};
/* Makes of STABLE, a copy of INODE's stable image, what luck and RANDOM let survive of its events. */
void sim_inode_survive(const struct sim_inode *inode, struct sim_image *stable,
		       const struct sim_luck *luck, struct sim_random *random);
/* All of the events are stable. */
void sim_inode_flush(struct sim_inode *inode);
/* Some sectors are stable, the others never will be; changes of the size still wait for a flush. */
void sim_inode_flush_failed(struct sim_inode *inode, struct sim_random *random);
void sim_inode_free(struct sim_inode *inode);

/* ---- Names ---- */

struct sim_change {
	struct sim_inode *dir;
	char *name;
	struct sim_inode *inode; /* NULL: the name goes */
	/* A rename also takes this name away. */
	struct sim_inode *from_dir;
	char *from_name;
};

/* NULL if there is none. */
struct sim_inode *sim_names_find(const struct sim_names *names, const char *name, size_t length);
void sim_names_set(struct sim_names *names, const char *name, struct sim_inode *inode);
void sim_names_copy(struct sim_names *to, const struct sim_names *from);
void sim_names_done(struct sim_names *names);

/* ---- The disk ---- */

struct sim_fault {
	uint64_t countdown; /* 0: none */
	int code;
	bool forever;
};

struct sim_disk {
	struct disk base;
	pthread_mutex_t mutex; /* guards the rest */
	struct sim_inode *root;
	struct sim_inode *inodes;
	struct sim_change *changes; /* of names, not yet stable, oldest first */
	size_t change_count;
	size_t change_capacity;

	struct sim_random random;
	uint64_t operations;
	uint64_t cut_at; /* operations after which the power is off */
	bool off;
	uint64_t used;
	uint64_t space;
	uint64_t calls[SIM_KINDS];
	struct sim_fault faults[SIM_KINDS];
	uint64_t failures;
	FILE *trace;
};

static inline struct sim_disk *sim_disk_of(struct disk *disk)
{
	return (struct sim_disk *)disk;
}

struct sim_inode *sim_inode_new(struct sim_disk *disk, bool is_dir);

/* Shows the change, and remembers that it is not stable. FROM_DIR and FROM_NAME may be NULL. */
void sim_change_make(struct sim_disk *disk, struct sim_inode *dir, const char *name,
		     struct sim_inode *inode, struct sim_inode *from_dir, const char *from_name);
/* Makes the changes of DIR stable, and what they depend on. */
void sim_changes_sync(struct sim_disk *disk, const struct sim_inode *dir);
/* A place in the tree: the directory that PATH's last component is in. -errno. */
struct sim_place {
	struct sim_inode *dir; /* NULL: the path is the store's own directory */
	const char *name;
	struct sim_inode *inode; /* NULL if there is none */
};
MUST_CHECK int sim_place_find(struct sim_disk *disk, const char *path, struct sim_place *ret);

#endif
