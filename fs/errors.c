#include "fs/errors.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/fs.h"

struct error_event {
	struct reterr what;
	uint64_t time_ns; /* of the last time */
	uint64_t count;
};

struct error_ring {
	pthread_mutex_t lock;
	struct error_event events[FS_ERRORS_MAX]; /* lock */
	uint64_t added; /* events ever; the next goes to added % MAX. lock */
};

int error_ring_new(struct error_ring **ret)
{
	struct error_ring *ring = calloc(1, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	pthread_mutex_init(&ring->lock, NULL);
	*ret = ring;
	return 0;
}

void error_ring_free(struct error_ring *ring)
{
	if (!ring)
		return;
	pthread_mutex_destroy(&ring->lock);
	free(ring);
}

bool error_ring_add(struct error_ring *ring, const struct reterr *event, uint64_t time_ns)
{
	bool is_new = true;

	pthread_mutex_lock(&ring->lock);
	struct error_event *newest =
		&ring->events[(ring->added + FS_ERRORS_MAX - 1) % FS_ERRORS_MAX];
	if (ring->added > 0 && newest->what.code == event->code &&
	    strcmp(newest->what.text, event->text) == 0) {
		newest->count++;
		newest->time_ns = time_ns;
		is_new = false;
	} else {
		ring->events[ring->added % FS_ERRORS_MAX] =
			(struct error_event){.what = *event, .time_ns = time_ns, .count = 1};
		ring->added++;
	}
	pthread_mutex_unlock(&ring->lock);
	return is_new;
}

static int event_print(const struct error_event *event, struct buf *out)
{
	time_t seconds = (time_t)(event->time_ns / 1000000000);
	struct tm utc;
	char when[32];
	if (!gmtime_r(&seconds, &utc) ||
	    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &utc) == 0)
		when[0] = '\0';

	const char *name = strerrorname_np(-event->what.code);
	int r = buf_printf(out, "%s.%03uZ %s: %s", when,
			   (unsigned)(event->time_ns / 1000000 % 1000), name ? name : "OK",
			   event->what.text);
	if (r < 0)
		return r;
	if (event->count > 1) {
		r = buf_printf(out, " (%llu times)", (unsigned long long)event->count);
		if (r < 0)
			return r;
	}
	return buf_append_text(out, "\n");
}

int error_ring_text(struct error_ring *ring, struct buf *out)
{
	/* Copied, so that no lock is held while text is made. */
	struct error_event *events = malloc(sizeof(ring->events));
	if (!events)
		return -ENOMEM;
	pthread_mutex_lock(&ring->lock);
	memcpy(events, ring->events, sizeof(ring->events));
	uint64_t added = ring->added;
	pthread_mutex_unlock(&ring->lock);

	int r = 0;
	for (uint64_t i = added > FS_ERRORS_MAX ? added - FS_ERRORS_MAX : 0; i < added && r == 0;
	     i++)
		r = event_print(&events[i % FS_ERRORS_MAX], out);
	free(events);
	return r;
}
