/*
 * A simulated disk: struct disk in memory, which remembers what a power cut could still take away.
 *
 * What is lost. A file keeps every write, truncation and extension since its last flush; sim_disk_crash() decides for each
 * 512-byte sector of each of those writes whether it reached the medium, and up to which of them the file's size
 * did. A directory keeps every creation, rename and removal since its last sync_dir; each of them survives or not. So
 * that order is tested too, some seeds let everything, nothing or only a prefix of the names survive.
 *
 *  - A rename is atomic: both names change or none. Syncing either directory makes it stable.
 *  - A directory whose own name is lost is lost with all that was synced in it.
 *  - A flush that fails forgets: its sectors may or may not be on the medium, and no later flush changes that,
 *    while reads go on showing them (as Linux does). Changes of the size are metadata: they go on waiting.
 *
 * Operations are counted, so that a test can cut the power after each of them in turn: the writes of one
 * disk_commit are one operation, each of its flushes is one, and so is every other call that changes something. Reads
 * are none. After the cut every call fails with -EIO, and sim_disk_crash() gives what the next start finds.
 *
 * Deterministic for one seed and one order of calls. Thread-safe.
 */
#ifndef PROTOFS_TESTS_LIB_SIM_DISK_H
#define PROTOFS_TESTS_LIB_SIM_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "engine/disk.h"

enum sim_kind {
	SIM_OPEN, /* of what exists */
	SIM_CREATE,
	SIM_READ,
	SIM_WRITE, /* each write of each job of a commit */
	SIM_FLUSH,
	SIM_TRUNCATE,
	SIM_RESERVE,
	SIM_MKDIR,
	SIM_RMDIR,
	SIM_UNLINK,
	SIM_RENAME,
	SIM_SYNC_DIR,
	SIM_LIST,
	SIM_LOCK,
	SIM_KINDS,
};

const char *sim_kind_name(enum sim_kind kind);

/* An empty disk. Never fails: a test without memory stops. Freed by disk_free(). All files must be closed by then. */
struct disk *sim_disk_new(uint64_t seed);

/* What a power cut now would leave, on a new disk with its power on. DISK stays as it is, for other seeds. */
struct disk *sim_disk_crash(struct disk *disk, uint64_t seed);

/* ---- Power ---- */

uint64_t sim_disk_operations(struct disk *disk);
/* The power goes off after N more operations (0: at once): the next one after those fails and has no effect. */
void sim_disk_cut_after(struct disk *disk, uint64_t n);
bool sim_disk_is_off(struct disk *disk);

/* ---- Faults ---- */

/* How many calls of KIND there were. */
uint64_t sim_disk_calls(struct disk *disk, enum sim_kind kind);
/*
 * The NTH call of KIND from now on (1 is the next) fails with CODE (-errno), and if FOREVER all that follow. One fault
 * of each kind at a time; NTH 0 takes it back. A failed write leaves some of its sectors.
 */
void sim_disk_fail(struct disk *disk, enum sim_kind kind, uint64_t nth, int code, bool forever);
/* How many calls failed by that. */
uint64_t sim_disk_failures(struct disk *disk);
/* Files and directories may take SIZE bytes, then -ENOSPC. Unbounded at first. */
void sim_disk_set_space(struct disk *disk, uint64_t size);
/* A line for each call to OUT; NULL ends it. */
void sim_disk_set_trace(struct disk *disk, FILE *out);

/* ---- Damage: on the medium and in what reads show. The file must be that long. ---- */

void sim_disk_flip(struct disk *disk, const char *path, uint64_t offset, uint8_t mask);
void sim_disk_zero(struct disk *disk, const char *path, uint64_t offset, uint64_t size);
void sim_disk_swap(struct disk *disk, const char *path, uint64_t a, uint64_t b, uint64_t size);

#endif
