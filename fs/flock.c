#include "fs/flock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/file.h>

#include "fs/version.h"

/* One lock, held or awaited. In the list of its table; in order of arrival. */
struct flock_entry {
	struct flock_entry *next;
	struct flock_table *table;
	uint64_t node;
	uint64_t owner;
	pid_t process;
	bool exclusive;
	bool waiting;
	bool interrupted; /* before it was queued */
	bool queued;
	fuse_req_t req; /* of a waiting one */
};

struct flock_table {
	pthread_mutex_t lock;
	struct flock_entry *first; /* all fields of all locks, and these: lock */
	struct flock_entry **end;
	unsigned count;
};

int flock_table_new(struct flock_table **ret)
{
	struct flock_table *table = calloc(1, sizeof(*table));
	if (!table)
		return -ENOMEM;
	pthread_mutex_init(&table->lock, NULL);
	table->end = &table->first;
	*ret = table;
	return 0;
}

/* ---- With the table's lock held -------------------------------------------------------------- */

static void table_append(struct flock_table *table, struct flock_entry *lock)
{
	lock->next = NULL;
	*table->end = lock;
	table->end = &lock->next;
	table->count++;
}

static void table_unlink(struct flock_table *table, struct flock_entry **link)
{
	struct flock_entry *lock = *link;
	*link = lock->next;
	if (table->end == &lock->next)
		table->end = link;
	table->count--;
}

static bool flock_conflicts(const struct flock_entry *a, const struct flock_entry *b)
{
	return a->node == b->node && a->owner != b->owner && (a->exclusive || b->exclusive);
}

/* Whether LOCK must wait for one that is before END, held or awaited. */
static bool table_conflicts(const struct flock_table *table, const struct flock_entry *lock,
			    const struct flock_entry *end)
{
	for (const struct flock_entry *other = table->first; other && other != end;
	     other = other->next) {
		if (flock_conflicts(other, lock))
			return true;
	}
	return false;
}

/* Takes the lock of OWNER on NODE out of the list; NULL if there is none that is held. */
static struct flock_entry *table_take_held(struct flock_table *table, uint64_t node, uint64_t owner)
{
	for (struct flock_entry **link = &table->first; *link; link = &(*link)->next) {
		struct flock_entry *lock = *link;
		if (lock->node == node && lock->owner == owner && !lock->waiting) {
			table_unlink(table, link);
			return lock;
		}
	}
	return NULL;
}

/* Marks one waiter of NODE as holder, if one can be, and returns it with its request in RET. */
static struct flock_entry *table_grant_one(struct flock_table *table, uint64_t node,
					   fuse_req_t *ret)
{
	for (struct flock_entry *lock = table->first; lock; lock = lock->next) {
		if (lock->node != node || !lock->waiting || table_conflicts(table, lock, lock))
			continue;
		lock->waiting = false;
		*ret = lock->req;
		lock->req = NULL;
		return lock;
	}
	return NULL;
}

/* ---- Without it ------------------------------------------------------------------------------ */

/* After something of NODE was given up. */
static void flock_grant(struct flock_table *table, uint64_t node)
{
	for (;;) {
		fuse_req_t req = NULL;
		pthread_mutex_lock(&table->lock);
		struct flock_entry *lock = table_grant_one(table, node, &req);
		uint64_t owner = lock ? lock->owner : 0;
		pthread_mutex_unlock(&table->lock);
		if (!lock)
			return;

		/*
		 * Ours to answer: an interrupt finds it granted. This waits for one that is
		 * looking.
		 */
		fuse_req_interrupt_func(req, NULL, NULL);
		if (fuse_reply_err(req, 0) == -ENOENT)
			flock_release(table, node, owner);
	}
}

static void flock_interrupt(fuse_req_t req, void *data)
{
	struct flock_entry *lock = data;
	struct flock_table *table = lock->table;
	bool removed = false;
	uint64_t node = lock->node;

	pthread_mutex_lock(&table->lock);
	lock->interrupted = true;
	for (struct flock_entry **link = &table->first; lock->queued && *link;
	     link = &(*link)->next) {
		if (*link != lock || !lock->waiting)
			continue;
		table_unlink(table, link);
		removed = true;
		break;
	}
	pthread_mutex_unlock(&table->lock);

	if (removed) {
		(void)fuse_reply_err(req, EINTR);
		free(lock);
		/* A shared lock may have waited behind this one. */
		flock_grant(table, node);
	}
}

void flock_release(struct flock_table *table, uint64_t node, uint64_t owner)
{
	pthread_mutex_lock(&table->lock);
	struct flock_entry *lock = table_take_held(table, node, owner);
	pthread_mutex_unlock(&table->lock);
	if (!lock)
		return;
	free(lock);
	flock_grant(table, node);
}

/* Enters LOCK, which is the table's from then on. */
static int flock_enter(struct flock_table *table, struct flock_entry *lock, bool may_wait)
{
	int r = 0;

	pthread_mutex_lock(&table->lock);
	bool conflict = table_conflicts(table, lock, NULL);
	if (table->count >= FLOCK_LOCKS_MAX)
		r = -ENOLCK;
	else if (conflict && !may_wait)
		r = -EAGAIN;
	else if (lock->interrupted)
		r = -EINTR;
	if (r == 0) {
		lock->waiting = conflict;
		lock->queued = true;
		table_append(table, lock);
		r = conflict ? FLOCK_PARKED : 0;
	}
	pthread_mutex_unlock(&table->lock);
	return r;
}

static int flock_take(struct flock_table *table, const struct flock_request *request,
		      fuse_req_t req)
{
	struct flock_entry *lock = calloc(1, sizeof(*lock));
	if (!lock)
		return -ENOMEM;
	*lock = (struct flock_entry){
		.table = table,
		.node = request->node,
		.owner = request->owner,
		.process = request->process,
		.exclusive = (request->op & LOCK_EX) != 0,
		.req = req,
	};
	bool may_wait = (request->op & LOCK_NB) == 0;

	flock_release(table, request->node, request->owner);
	int r = flock_enter(table, lock, false);
	if (r == -EAGAIN && may_wait) {
		/*
		 * Armed before it is queued: from then on another thread may grant and answer it at
		 * any time. An interrupt that comes before only leaves its mark.
		 */
		fuse_req_interrupt_func(req, flock_interrupt, lock);
		r = flock_enter(table, lock, true);
		if (r != FLOCK_PARKED)
			fuse_req_interrupt_func(req, NULL, NULL);
	}
	if (r < 0)
		free(lock);
	return r;
}

int flock_apply(struct flock_table *table, const struct flock_request *request,
		struct fuse_req *req)
{
	switch (request->op & ~LOCK_NB) {
	case LOCK_UN:
		flock_release(table, request->node, request->owner);
		return 0;
	case LOCK_SH:
	case LOCK_EX:
		return flock_take(table, request, req);
	default:
		return -EINVAL;
	}
}

bool flock_is_held(struct flock_table *table, uint64_t node, pid_t process)
{
	bool held = false;

	pthread_mutex_lock(&table->lock);
	for (const struct flock_entry *lock = table->first; lock && !held; lock = lock->next)
		held = lock->node == node && lock->process == process && lock->exclusive &&
		       !lock->waiting;
	pthread_mutex_unlock(&table->lock);
	return held;
}

void flock_table_free(struct flock_table *table)
{
	if (!table)
		return;
	while (table->first) {
		struct flock_entry *lock = table->first;
		table->first = lock->next;
		if (lock->waiting)
			(void)fuse_reply_err(lock->req, EINTR);
		free(lock);
	}
	pthread_mutex_destroy(&table->lock);
	free(table);
}
