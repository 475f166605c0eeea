/*
 * A few threads that take parts of a task from its caller, so that its system calls run in parallel.
 *
 * A task lies on its caller's stack and in the list until its last part is handed out. Whoever runs a part took
 * its index under the mutex and reports back under it, hence nobody touches a task whose parts are all
 * done, and the caller may return. With no helper at all the caller does every part itself.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "engine/disk_posix.h"

enum { HELPERS_MAX = 4 };

struct task {
	disk_task_fn *fn;
	void *arg;
	size_t count;
	size_t next; /* the first part that nobody has taken */
	size_t done;
	struct task *later;
};

struct disk_helpers {
	pthread_mutex_t mutex;   /* guards the rest, and every task in the list */
	pthread_cond_t wanted;   /* a task with parts to take, or stopping */
	pthread_cond_t finished; /* a task's last part is done */
	struct task *tasks;      /* that have parts to take, the oldest first */
	unsigned idle;
	unsigned count;
	bool stopping;
	pthread_t threads[HELPERS_MAX];
};

/* Takes the next part of TASK; the last one takes TASK off the list. The mutex is held. */
static size_t part_take(struct disk_helpers *helpers, struct task *task)
{
	size_t index = task->next++;
	if (task->next < task->count)
		return index;
	struct task **link = &helpers->tasks;
	while (*link != task)
		link = &(*link)->later;
	*link = task->later;
	return index;
}

/* The mutex is held, but not while the part runs. */
static void part_run(struct disk_helpers *helpers, struct task *task)
{
	size_t index = part_take(helpers, task);
	pthread_mutex_unlock(&helpers->mutex);
	task->fn(task->arg, index);
	pthread_mutex_lock(&helpers->mutex);
	if (++task->done == task->count)
		pthread_cond_broadcast(&helpers->finished);
}

static void *helper_main(void *arg)
{
	struct disk_helpers *helpers = arg;

	pthread_mutex_lock(&helpers->mutex);
	while (!helpers->stopping) {
		if (helpers->tasks) {
			part_run(helpers, helpers->tasks);
			continue;
		}
		helpers->idle++;
		pthread_cond_wait(&helpers->wanted, &helpers->mutex);
		helpers->idle--;
	}
	pthread_mutex_unlock(&helpers->mutex);
	return NULL;
}

/* Signals are for the program's own threads. The mutex is held. */
static void helper_start(struct disk_helpers *helpers)
{
	sigset_t all;
	sigset_t old;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&helpers->threads[helpers->count], NULL, helper_main, helpers) == 0)
		helpers->count++;
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void disk_helpers_run(struct disk_helpers *helpers, disk_task_fn *fn, void *arg, size_t count)
{
	if (count == 0)
		return;
	if (count == 1) {
		fn(arg, 0);
		return;
	}
	struct task task = {.fn = fn, .arg = arg, .count = count};

	pthread_mutex_lock(&helpers->mutex);
	struct task **link = &helpers->tasks;
	while (*link)
		link = &(*link)->later;
	*link = &task;
	if (!helpers->idle && helpers->count < HELPERS_MAX)
		helper_start(helpers);
	for (size_t i = 1; i < count && i <= helpers->idle; i++)
		pthread_cond_signal(&helpers->wanted);
	while (task.next < task.count)
		part_run(helpers, &task);
	while (task.done < task.count)
		pthread_cond_wait(&helpers->finished, &helpers->mutex);
	pthread_mutex_unlock(&helpers->mutex);
}

int disk_helpers_new(struct disk_helpers **ret)
{
	struct disk_helpers *helpers = calloc(1, sizeof(*helpers));
	if (!helpers)
		return -ENOMEM;
	if (pthread_mutex_init(&helpers->mutex, NULL) != 0 ||
	    pthread_cond_init(&helpers->wanted, NULL) != 0 ||
	    pthread_cond_init(&helpers->finished, NULL) != 0) {
		free(helpers);
		return -ENOMEM;
	}
	*ret = helpers;
	return 0;
}

void disk_helpers_free(struct disk_helpers *helpers)
{
	if (!helpers)
		return;
	pthread_mutex_lock(&helpers->mutex);
	helpers->stopping = true;
	pthread_cond_broadcast(&helpers->wanted);
	pthread_mutex_unlock(&helpers->mutex);
	for (unsigned i = 0; i < helpers->count; i++)
		(void)pthread_join(helpers->threads[i], NULL);
	(void)pthread_cond_destroy(&helpers->finished);
	(void)pthread_cond_destroy(&helpers->wanted);
	(void)pthread_mutex_destroy(&helpers->mutex);
	free(helpers);
}
