/*
 * Whose store this is.
 *
 * A store that uploads must not do so twice: a copy of its directory, opened beside the original,
 * would write to the same place in the cloud. The superblock says in which directory (inode) of
 * which machine (machine-id) the store lives; one that has a journal, the sign of an uploader, and
 * lies elsewhere is read-only until it is taken over. A store without a journal may be copied,
 * moved and unpacked at will: nobody else can be harmed, and it is at home where it is opened. So its
 * identity is written again just before its first journal.
 *
 * What the disk or the machine has no number for (zeros) is never different.
 *
 * A clone is another store's until it is taken over: a bit of the superblock, ro_compat, so that a
 * program that does not know of clones does not write to one either.
 */
#include <errno.h>
#include <string.h>

#include "engine/core.h"

static bool inode_differs(const struct disk_identity *a, const struct disk_identity *b)
{
	return a->inode && b->inode && a->inode != b->inode;
}

static bool machine_differs(const struct disk_identity *a, const struct disk_identity *b)
{
	static const uint8_t none[sizeof(a->machine)];
	return memcmp(a->machine, none, sizeof(none)) != 0 &&
	       memcmp(b->machine, none, sizeof(none)) != 0 &&
	       memcmp(a->machine, b->machine, sizeof(none)) != 0;
}

static bool differs(const struct disk_identity *a, const struct disk_identity *b)
{
	return inode_differs(a, b) || machine_differs(a, b);
}

/* ---- Changing the superblock ---------------------------------------------------------------- */

/* Waits for its turn; the superblock as it is. Until change_end nobody else changes it. */
static void change_begin(struct engine *e, struct superblock *ret)
{
	(void)pthread_mutex_lock(&e->state_lock);
	while (e->superblock_busy)
		(void)pthread_cond_wait(&e->state_changed, &e->state_lock);
	e->superblock_busy = true;
	*ret = e->superblock;
	(void)pthread_mutex_unlock(&e->state_lock);
}

/* NEXT is written if it is not what there is. */
static int change_end(struct engine *e, const struct superblock *next, struct reterr *err)
{
	bool same = next->incompat == e->superblock.incompat &&
		    next->ro_compat == e->superblock.ro_compat &&
		    memcmp(&next->identity, &e->superblock.identity, sizeof(next->identity)) == 0;
	int r = same ? 0 : superblock_write(e->disk, next, err);

	(void)pthread_mutex_lock(&e->state_lock);
	if (r == 0) {
		/* The rest never changes and is read without the lock. */
		e->superblock.incompat = next->incompat;
		e->superblock.ro_compat = next->ro_compat;
		e->superblock.identity = next->identity;
	}
	e->superblock_busy = false;
	(void)pthread_cond_broadcast(&e->state_changed);
	(void)pthread_mutex_unlock(&e->state_lock);
	return r;
}

static int require(struct engine *e, uint64_t incompat, uint64_t ro_compat, struct reterr *err)
{
	struct superblock next;

	change_begin(e, &next);
	next.incompat |= incompat;
	next.ro_compat |= ro_compat;
	return change_end(e, &next, err);
}

int superblock_require(struct engine *e, uint64_t incompat, uint64_t ro_compat, struct reterr *err)
{
	int r = require(e, incompat, ro_compat, err);

	/* A full disk is the best reason to give up parts, which needs this first. */
	if (r == -ENOSPC && reserve_release(e)) {
		r = require(e, incompat, ro_compat, err);
		reserve_restore(e);
	}
	return r;
}

/* The store is at home here, and has these bits no more. */
static int settle(struct engine *e, const struct disk_identity *here, uint64_t ro_compat_clear,
		  struct reterr *err)
{
	struct superblock next;

	change_begin(e, &next);
	next.identity = *here;
	next.ro_compat &= ~ro_compat_clear;
	return change_end(e, &next, err);
}

/* ---- At open and before the first journal --------------------------------------------------- */

int identity_check(struct engine *e, struct reterr *reason, struct reterr *err)
{
	const struct superblock *sb = &e->superblock;
	struct disk_identity here = {0};

	int r = e->disk->ops->identity(e->disk, &here);
	if (r < 0)
		return reterr_set(err, r, "the store's directory cannot be identified: %s",
				  strerror(-r));
	bool clone = sb->ro_compat & SUPERBLOCK_RO_COMPAT_CLONE;
	bool elsewhere = differs(&sb->identity, &here);
	if (e->options.take_over && !e->options.read_only && !sb->read_only)
		return clone || elsewhere ? settle(e, &here, SUPERBLOCK_RO_COMPAT_CLONE, err) : 0;

	int journal = elsewhere ? journal_is_there(e->disk) : 0;
	if (journal < 0)
		return reterr_set(err, journal, "the store's journal cannot be opened: %s",
				  strerror(-journal));
	e->clone = clone;
	e->copied = journal > 0;
	if (e->copied)
		(void)reterr_set(
			reason, -EROFS,
			"it was copied or moved: the store was %s; if the original is not in "
			"use any more, --take-over makes this one its successor",
			machine_differs(&sb->identity, &here) ? "on another machine"
							      : "in another directory");
	if (e->clone)
		(void)reterr_set(
			reason, -EROFS,
			"it is a clone and read-only until --take-over makes it the successor "
			"of the original, which must not be in use any more");
	return 0;
}

int identity_settle(struct engine *e, struct reterr *err)
{
	struct disk_identity here = {0};

	int r = e->disk->ops->identity(e->disk, &here);
	if (r < 0)
		return reterr_set(err, r, "the store's directory cannot be identified: %s",
				  strerror(-r));
	return differs(&e->superblock.identity, &here) ? settle(e, &here, 0, err) : 0;
}
