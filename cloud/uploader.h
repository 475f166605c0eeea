/* The uploader's insides, shared by its threads (uploader.c) and those who ask it (uploader_ask.c). */
#ifndef PROTOFS_CLOUD_UPLOADER_H
#define PROTOFS_CLOUD_UPLOADER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cloud/cloud.h"
#include "cloud/upload_exec.h"
#include "cloud/upload_plan.h"

enum { UPLOADER_TRANSFERS_MAX = 64 };

struct uploader {
	struct remote_keeper keeper; /* first: it is cast back */

	/* Fixed. */
	struct upload_io io; /* each thread has a copy, with a buffer of its own */
	struct upload_turn turn;
	const struct clock *clock;
	uint64_t bandwidth;
	unsigned transfers;
	void (*report)(void *arg, const struct reterr *event);
	void *report_arg;
	pthread_t threads[1 + UPLOADER_TRANSFERS_MAX];
	unsigned thread_count;

	/* The source changed, and nobody has begun to look at it since: whoever says so again is not needed. */
	atomic_bool changed;

	pthread_mutex_t lock;        /* guards the rest */
	pthread_cond_t work;         /* for the transfer threads */
	pthread_cond_t planner_work; /* for the planner */
	pthread_cond_t done;         /* for those who wait until something is in the place */
	pthread_cond_t left;         /* the last of those is gone */
	bool stopping;
	bool keeper_stopped;
	bool fence_told;
	unsigned waiting; /* of those on DONE */
	uint64_t free_us; /* when the bandwidth has room again */
	struct upload_plan plan;
};

uint64_t uploader_now_ms(const struct uploader *uploader);
/* Waits for COND until AT_MS (UINT64_MAX: for ever). The lock is held; wakes for no reason, too. */
void uploader_wait(struct uploader *uploader, pthread_cond_t *cond, uint64_t at_ms);

/* uploader_ask.c */
void uploader_keeper_init(struct uploader *uploader);

#endif
