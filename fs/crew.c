#include "fs/crew.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/invariant.h"
#include "fs/version.h"

enum {
	CREW_STACK_SIZE = 256 << 10,
	CREW_IDLE_KEEP_S = 1,     /* how long an idle thread keeps its buffers */
	CREW_IDLE_KEEP_MAX = 8,   /* how many of them do */
	SCRATCH_ALIGNMENT = 4096, /* so that the disk can write there itself */
	CREW_LARGE_SIZE = 64 << 10,
	CREW_LARGE_MAX = 8, /* threads with more than that in their buffers that are away at once */
};

/* One thread. Its fields are its own, but for what names the crew's lock. */
struct hand {
	struct crew *crew;
	pthread_t thread;
	struct fuse_buf request;
	void *scratch;
	size_t scratch_size;
	bool is_large;          /* its operation uses more than CREW_LARGE_SIZE of its buffers */
	bool is_large_away;     /* and is counted in crew->large_away */
	bool is_large_late;     /* and is counted in crew->large_late */
	bool receiving;         /* counted in crew->receiving */
	struct hand *next;      /* crew's lock */
	struct hand *next_idle; /* crew's lock */
	sem_t called; /* posted when it is taken from the idle ones, as a receiver or for the end */
};

struct crew {
	struct crew_options options;
	struct fuse_session *session;
	sem_t ended; /* posted when there is a reason to end */
	atomic_bool spinning;
	atomic_bool is_ready;

	pthread_mutex_t lock;  /* a leaf */
	struct hand *hands;    /* all that were started; lock */
	struct hand *idle;     /* first who has buffers, and of those who worked last. lock */
	unsigned idle_count;   /* lock */
	unsigned idle_keeping; /* of them, who has buffers; lock */
	unsigned threads;      /* lock */
	unsigned large_away;   /* lock */
	unsigned large_late;   /* that asked for their buffer after they had left; lock */
	pthread_cond_t large_late_less;
	unsigned receiving; /* lock */
	bool ending;        /* lock */
	int result;         /* lock */
};

/* libfuse hands no context to operations that could lead to their thread. */
static _Thread_local struct hand *hand_self;

int crew_new(const struct crew_options *options, struct crew **ret)
{
	struct crew *crew = calloc(1, sizeof(*crew));
	if (!crew)
		return -ENOMEM;
	crew->options = *options;
	pthread_mutex_init(&crew->lock, NULL);
	pthread_cond_init(&crew->large_late_less, NULL);
	sem_init(&crew->ended, 0, 0);
	*ret = crew;
	return 0;
}

void crew_free(struct crew *crew)
{
	if (!crew)
		return;
	invariant(crew->threads == 0);
	sem_destroy(&crew->ended);
	pthread_cond_destroy(&crew->large_late_less);
	pthread_mutex_destroy(&crew->lock);
	free(crew);
}

void crew_stop(struct crew *crew)
{
	(void)sem_post(&crew->ended);
}

/* With the lock held: nobody waits for a place any more. */
static void crew_dismiss(struct crew *crew)
{
	crew->ending = true;
	(void)pthread_cond_broadcast(&crew->large_late_less);
	for (struct hand *hand = crew->idle; hand; hand = hand->next_idle)
		(void)sem_post(&hand->called);
	crew->idle = NULL;
	crew->idle_count = 0;
}

static void crew_end(struct crew *crew, int result)
{
	pthread_mutex_lock(&crew->lock);
	if (!crew->ending)
		crew->result = result;
	crew_dismiss(crew);
	pthread_mutex_unlock(&crew->lock);
	(void)sem_post(&crew->ended);
}

static void hand_free_buffers(struct hand *hand)
{
	free(hand->request.mem);
	hand->request.mem = NULL;
	free(hand->scratch);
	hand->scratch = NULL;
	hand->scratch_size = 0;
}

/*
 * A burst must not leave its buffers behind: few idle threads keep them, and not for long. KEEPS: it is
 * counted among those.
 */
static void hand_idle(struct hand *hand, bool keeps)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += keeps ? CREW_IDLE_KEEP_S : 0;
	int r;
	while ((r = sem_clockwait(&hand->called, CLOCK_MONOTONIC, &until)) < 0 && errno == EINTR)
		;
	if (keeps) {
		pthread_mutex_lock(&hand->crew->lock);
		hand->crew->idle_keeping--;
		pthread_mutex_unlock(&hand->crew->lock);
	}
	if (r == 0)
		return;
	hand_free_buffers(hand);
	while (sem_wait(&hand->called) < 0 && errno == EINTR)
		;
}

/* Waits until there is a place among the receivers and takes it. False: the end. */
static bool hand_join(struct hand *hand)
{
	struct crew *crew = hand->crew;

	pthread_mutex_lock(&crew->lock);
	bool ending = crew->ending;
	bool vacant = crew->receiving < crew->options.receivers;
	bool keeps = !ending && !vacant && crew->idle_keeping < CREW_IDLE_KEEP_MAX;
	if (hand->is_large_away)
		crew->large_away--;
	hand->is_large_away = false;
	if (hand->is_large_late) {
		crew->large_late--;
		(void)pthread_cond_signal(&crew->large_late_less);
	}
	hand->is_large_late = false;
	if (!ending && vacant) {
		crew->receiving++;
	} else if (!ending) {
		/* Whoever frees its buffers is called last. */
		struct hand **at = &crew->idle;
		while (*at && !keeps)
			at = &(*at)->next_idle;
		hand->next_idle = *at;
		*at = hand;
		crew->idle_count++;
		crew->idle_keeping += keeps;
	}
	pthread_mutex_unlock(&crew->lock);
	if (!ending && !vacant) {
		/* Whoever calls it has counted it among the receivers. */
		hand_idle(hand, keeps);
		pthread_mutex_lock(&crew->lock);
		ending = crew->ending;
		pthread_mutex_unlock(&crew->lock);
	}
	hand->receiving = !ending;
	return !ending;
}

/*
 * Polls for a request for spin_us, one thread at a time: a caller on another processor is then
 * answered without waking anybody. It costs that much of a processor after each request, so it is
 * off by default.
 */
static void hand_spin(struct hand *hand)
{
	struct crew *crew = hand->crew;
	if (crew->options.spin_us == 0 || atomic_exchange(&crew->spinning, true))
		return;
	struct pollfd device = {.fd = fuse_session_fd(crew->session), .events = POLLIN};
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	int64_t end_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec +
			 (int64_t)crew->options.spin_us * 1000;
	while (poll(&device, 1, 0) == 0) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec >= end_ns)
			break;
	}
	atomic_store(&crew->spinning, false);
}

/*
 * The frames that a cancelled thread leaves without returning: a sanitizer would keep guarding
 * their variables while the thread ends on the same stack.
 */
#define CANCELLED_FRAME __attribute__((no_sanitize("address")))

/* The only place where the thread can be cancelled, and nothing is half done there. */
CANCELLED_FRAME static int hand_receive(struct hand *hand)
{
	int state;
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
	int r = fuse_session_receive_buf(hand->crew->session, &hand->request);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	return r;
}

CANCELLED_FRAME static void *hand_run(void *arg)
{
	struct hand *hand = arg;
	struct crew *crew = hand->crew;
	hand_self = hand;

	while (hand->receiving || hand_join(hand)) {
		hand_spin(hand);
		int r = hand_receive(hand);
		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r <= 0 || fuse_session_exited(crew->session)) {
			/* 0 and ENODEV: unmounted. */
			crew_end(crew, r == -ENODEV || r > 0 ? 0 : r);
			break;
		}
		hand->is_large = r > CREW_LARGE_SIZE;
		fuse_session_process_buf(crew->session, &hand->request);
		if (!atomic_load(&crew->is_ready) && !atomic_exchange(&crew->is_ready, true))
			crew->options.ready(crew->options.arg);
	}
	return NULL;
}

/* With the lock held. A crew that cannot grow goes on with what it has. */
static int crew_add(struct crew *crew, bool receiving)
{
	if (crew->threads >= CREW_THREADS_MAX)
		return -EAGAIN;
	struct hand *hand = calloc(1, sizeof(*hand));
	if (!hand)
		return -ENOMEM;
	hand->crew = crew;
	hand->receiving = receiving;
	sem_init(&hand->called, 0, 0);

	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, CREW_STACK_SIZE);
	int r = -pthread_create(&hand->thread, &attr, hand_run, hand);
	pthread_attr_destroy(&attr);
	if (r < 0) {
		sem_destroy(&hand->called);
		free(hand);
		return r;
	}
	hand->next = crew->hands;
	crew->hands = hand;
	crew->threads++;
	if (receiving)
		crew->receiving++;
	return 0;
}

void crew_leave(void)
{
	struct hand *hand = hand_self;
	if (!hand || !hand->receiving)
		return;

	struct crew *crew = hand->crew;
	pthread_mutex_lock(&crew->lock);
	if (hand->is_large && crew->large_away >= CREW_LARGE_MAX) {
		/* It waits as a receiver: what does not fit into memory stays in the kernel. */
		pthread_mutex_unlock(&crew->lock);
		return;
	}
	hand->is_large_away = hand->is_large;
	crew->large_away += hand->is_large ? 1 : 0;
	hand->receiving = false;
	crew->receiving--;
	struct hand *called = NULL;
	if (crew->receiving == 0 && !crew->ending) {
		called = crew->idle;
		if (called) {
			crew->idle = called->next_idle;
			crew->idle_count--;
			crew->receiving++;
		} else {
			(void)crew_add(crew, true);
		}
	}
	pthread_mutex_unlock(&crew->lock);
	if (called)
		(void)sem_post(&called->called);
}

/* A hand that has left waits for its turn without a buffer, and without holding up others. */
static void hand_enter_large(struct hand *hand)
{
	struct crew *crew = hand->crew;
	if (hand->is_large_late || hand->is_large_away)
		return;
	pthread_mutex_lock(&crew->lock);
	while (crew->large_late >= CREW_LARGE_MAX && !crew->ending)
		pthread_cond_wait(&crew->large_late_less, &crew->lock);
	crew->large_late++;
	hand->is_large_late = true;
	pthread_mutex_unlock(&crew->lock);
}

void *crew_scratch(size_t size)
{
	struct hand *hand = hand_self;
	invariant(hand);
	if (size > CREW_LARGE_SIZE && hand->receiving)
		hand->is_large = true;
	else if (size > CREW_LARGE_SIZE)
		hand_enter_large(hand);
	else
		size = CREW_LARGE_SIZE;
	if (size > hand->scratch_size) {
		free(hand->scratch);
		hand->scratch = aligned_alloc(SCRATCH_ALIGNMENT, (size + SCRATCH_ALIGNMENT - 1) /
									 SCRATCH_ALIGNMENT *
									 SCRATCH_ALIGNMENT);
		hand->scratch_size = hand->scratch ? size : 0;
	}
	return hand->scratch;
}

static void crew_wait(struct crew *crew)
{
	while (sem_wait(&crew->ended) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&crew->lock);
	crew_dismiss(crew);
	/* No thread starts once it is ending, so the list is complete. */
	struct hand *hands = crew->hands;
	crew->hands = NULL;
	pthread_mutex_unlock(&crew->lock);

	if (crew->options.ending)
		crew->options.ending(crew->options.arg);
	for (struct hand *hand = hands; hand; hand = hand->next)
		pthread_cancel(hand->thread);
	while (hands) {
		struct hand *hand = hands;
		hands = hand->next;
		pthread_join(hand->thread, NULL);
		hand_free_buffers(hand);
		sem_destroy(&hand->called);
		free(hand);
	}
	crew->threads = 0;
	crew->receiving = 0;
	crew->large_away = 0;
	crew->large_late = 0;
}

int crew_run(struct crew *crew, struct fuse_session *session)
{
	int state;
	crew->session = session;
	/* Threads inherit it: cancelled only where hand_receive() says so. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);

	int r = 0;
	pthread_mutex_lock(&crew->lock);
	for (unsigned i = 0; i < crew->options.receivers && r == 0; i++)
		r = crew_add(crew, true);
	bool started = crew->receiving > 0;
	pthread_mutex_unlock(&crew->lock);

	if (!started)
		return r;
	crew_wait(crew);
	return crew->result;
}
