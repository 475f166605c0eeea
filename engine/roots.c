/*
 * Publication of roots. One publisher at a time holds the PUBLISHING flag while it waits for the
 * disk.
 *
 * 1. The newest root is compared with the expected one.
 * 2. The bytes at the pointer must be a whole frame; otherwise the root is held (dangling) or
 *    refused.
 * 3. Everything accepted and not yet durable is collected: the barrier. What does not fit into the
 *    record is committed first.
 * 4. Segments, their tables and the record go out together; the flushes run in parallel. A record
 *    whose barrier is not met means nothing to recovery.
 * 5. Only when all flushes have returned does anybody see the root, and only then can the next one
 *    go out.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/core.h"

static void take_publishing(struct engine *e)
{
	(void)pthread_mutex_lock(&e->root_lock);
	while (e->publishing)
		(void)pthread_cond_wait(&e->root_changed, &e->root_lock);
	e->publishing = true;
	(void)pthread_mutex_unlock(&e->root_lock);
}

static void give_publishing(struct engine *e)
{
	(void)pthread_mutex_lock(&e->root_lock);
	e->publishing = false;
	(void)pthread_cond_broadcast(&e->root_changed);
	(void)pthread_mutex_unlock(&e->root_lock);
}

/* 0: a whole frame begins there; 1: its bytes have not all come; -EINVAL: it never can be one. */
static int check_pointer(struct engine *e, const struct engine_pointer *pointer, struct reterr *err)
{
	struct engine_segment *segment = engine_segment_find(e, &pointer->segment);
	uint8_t bytes[ENGINE_FRAME_HEADER_SIZE];
	struct slice header = {.data = bytes};
	uint64_t size;
	uint8_t format;

	if (!segment)
		return 1;
	int r = engine_read(e, segment, bytes, sizeof(bytes), pointer->offset, 0, &header.size,
			    err);
	if (r < 0)
		return r;
	r = frame_header_take(&header, &size, &format);
	if (r == -ENODATA)
		return 1;
	if (r < 0)
		return reterr_set(err, -EINVAL,
				  "the root points at byte %" PRIu64 ", where no frame begins",
				  pointer->offset);
	struct engine_segment_info info;
	engine_segment_info(e, segment, &info);
	return size > info.length - pointer->offset - ENGINE_FRAME_HEADER_SIZE ? 1 : 0;
}

static void hold(struct engine *e, const struct engine_root *root, uint64_t base)
{
	(void)pthread_mutex_lock(&e->root_lock);
	e->dangling = *root;
	e->dangling_base = base;
	e->has_dangling = true;
	atomic_store(&e->dangling_wakes, true);
	(void)pthread_mutex_unlock(&e->root_lock);
}

static void drop_dangling(struct engine *e)
{
	(void)pthread_mutex_lock(&e->root_lock);
	e->has_dangling = false;
	atomic_store(&e->dangling_wakes, false);
	(void)pthread_mutex_unlock(&e->root_lock);
}

/* The newest root; a zeroed one if there is none. */
static struct root_record newest(struct engine *e)
{
	struct root_record record;
	if (root_log_last(e->root_log, &record) < 0)
		record = (struct root_record){.epoch = 1};
	return record;
}

/* Steps 3 to 5. ROOT has its final content. */
static int write_root(struct engine *e, const struct engine_root *root, struct reterr *err)
{
	struct root_record record = {.root = *root, .epoch = newest(e).epoch};
	struct engine_position *positions;
	struct disk_job job;
	size_t count = commit_dirty_positions(e, &positions);

	if (count == SIZE_MAX)
		return -ENOMEM;
	int r = 0;
	while (r == 0 && count > ENGINE_ROOT_BARRIER_MAX) {
		r = commit_positions(e, &positions[count - 1], 1, err);
		count--;
	}
	for (size_t i = 0; i < count; i++)
		record.barrier[i] = (struct root_barrier){.segment = positions[i].segment->uuid,
							  .length = positions[i].length};
	record.barrier_count = (unsigned)count;
	if (r == 0)
		r = root_log_prepare(e->root_log, &record, &job);
	if (r == -ENOSPC && reserve_release(e)) {
		r = root_log_prepare(e->root_log, &record, &job);
		reserve_restore(e); /* what the root left of it, before an append takes it */
	}
	if (r < 0) {
		free(positions);
		return err && err->code
			       ? r
			       : reterr_set(err, r, "no room for a root: %s", strerror(-r));
	}
	r = commit_together(e, positions, count, &job, err);
	free(positions);
	if (r == 0 && job.result < 0)
		r = reterr_set(err, -EIO, "the disk failed to write the root log: %s",
			       strerror(-job.result));
	root_log_done(e->root_log, r);
	return r;
}

/*
 * Step 1 and 2 (WHOLE: the frame is known to be there). 0: ROOT can be published now; 1: it is held
 * until its bytes come; or why not.
 */
static int judge_owned(struct engine *e, uint64_t expected, bool whole, struct engine_root *root,
		       struct reterr *err)
{
	struct root_record last = newest(e);

	if (expected != ENGINE_ROOT_EXPECT_ANY && expected != last.root.seq) {
		*root = last.root;
		return reterr_set(err, -ESTALE,
				  "the root moved: it is number %" PRIu64 ", not %" PRIu64,
				  last.root.seq, expected);
	}
	int r = whole ? 0 : check_pointer(e, &root->pointer, err);
	if (r < 0)
		return r;
	root->time_ns = e->clock->wall_ns(e->clock);
	if (root->time_ns < last.root.time_ns)
		root->time_ns = last.root.time_ns; /* the clock went backwards: history does not */
	root->node = e->superblock.node;
	if (r == 1) {
		if (e->options.strict_root)
			return reterr_set(
				err, -ENODATA,
				"the root points at bytes that are not written yet, and strict_root "
				"is set");
		hold(e, root, last.root.seq);
	}
	return r;
}

/* Steps 3 to 5, of a root that was judged since PUBLISHING was taken. */
static int publish_judged(struct engine *e, struct engine_root *root, struct reterr *err)
{
	root->seq = newest(e).root.seq + 1;
	int r = write_root(e, root, err);
	if (r < 0) {
		root->seq = 0;
		return r;
	}
	drop_dangling(e);
	atomic_fetch_add(&e->roots_published, 1);
	return 0;
}

/*
 * What is elsewhere is looked at before the flag is taken: it may take minutes. 1: a whole frame
 * begins there, for ever; 0: that is to be judged under the flag; or why it cannot be read.
 */
static int look_elsewhere(struct engine *e, const struct engine_pointer *pointer,
			  struct reterr *err)
{
	struct engine_segment *segment = engine_segment_find(e, &pointer->segment);
	uint64_t last = pointer->offset + ENGINE_FRAME_HEADER_SIZE - 1;

	if (!segment || (!segment_is_remote_at(segment, pointer->offset) &&
			 !segment_is_remote_at(segment, last)))
		return 0;
	int r = check_pointer(e, pointer, err);
	return r < 0 ? r : !r;
}

/*
 * With a keeper a root goes out only when the bytes that it stands on are safe there. That may take
 * minutes: nobody keeps PUBLISHING meanwhile, and the root is judged once more.
 */
static int publish_in_order(struct engine *e, uint64_t expected, struct remote_keeper *keeper,
			    struct engine_root *root, struct reterr *err)
{
	bool safe = !keeper;
	int whole = look_elsewhere(e, &root->pointer, err);

	if (whole < 0)
		return whole;
	for (;;) {
		take_publishing(e);
		int r = judge_owned(e, expected, whole, root, err);
		if (r == 0 && safe)
			r = publish_judged(e, root, err);
		give_publishing(e);
		if (r != 0 || safe)
			return r;
		r = keeper_sync(e, keeper, err);
		if (r < 0)
			return r;
		safe = true;
	}
}

int engine_root_publish(struct engine *e, uint64_t expected, const struct engine_pointer *pointer,
			const void *payload, size_t payload_size, struct engine_root *ret,
			struct reterr *err)
{
	struct engine_root root = {.pointer = *pointer};
	struct remote_keeper *keeper = atomic_load(&e->keeper);

	int r = engine_check_writable(e, err);
	if (r < 0)
		return r;
	if (payload_size > ENGINE_ROOT_PAYLOAD_MAX)
		return reterr_set(err, -EINVAL, "a root's payload has at most %d bytes",
				  ENGINE_ROOT_PAYLOAD_MAX);
	root.payload_size = (uint32_t)payload_size;
	if (payload_size)
		memcpy(root.payload, payload, payload_size);

	r = publish_in_order(e, expected, keeper, &root, err);
	if (r == 0) {
		background_write(e); /* the root log may want zeros ahead */
		engine_changed(e);
	}
	if (r == 1)
		background_flush(
			e); /* its bytes may have come before anybody knew that it waits for them */
	if (r == 0 && keeper)
		r = keeper->ops->wait_root(keeper, root.seq, err);
	if (ret && (r >= 0 || r == -ESTALE || r == -EROFS || r == -ECANCELED))
		*ret = root;
	return r;
}

int roots_begin(struct engine *e, const struct engine_root *root, struct reterr *err)
{
	struct root_record record = {.root = *root, .epoch = newest(e).epoch};
	struct disk_job job;

	take_publishing(e);
	int r = root_log_begin_at(e->root_log, root->seq);
	if (r == 0)
		r = root_log_prepare(e->root_log, &record, &job);
	if (r == 0) {
		r = disk_commit(e->disk, &job, 1);
		root_log_done(e->root_log, r);
	}
	if (r == 0)
		r = root_log_prune(e->root_log, root->seq, NULL);
	give_publishing(e);
	if (r == 0)
		return 0;
	/* Half of it is no root log. */
	struct reterr reason;
	r = reterr_set(&reason, r, "the root of the clone cannot be written: %s", strerror(-r));
	engine_turn_read_only(e, &reason);
	return reterr_set(err, r, "%s", reason.text);
}

int roots_put_back(struct engine *e, const struct engine_root *root, struct reterr *err)
{
	take_publishing(e);
	bool next = root->seq == newest(e).root.seq + 1;
	int r = next ? check_pointer(e, &root->pointer, err) : 1;
	if (r == 0)
		r = write_root(e, root, err);
	else if (r == 1 || r == -EINVAL)
		r = 1; /* it is there, or its frame is not */
	give_publishing(e);
	return r < 0 ? r : !r;
}

void roots_try_dangling(struct engine *e)
{
	struct reterr err = {0};

	if (!atomic_load(&e->dangling_wakes) || atomic_load(&e->read_only))
		return;
	take_publishing(e);
	(void)pthread_mutex_lock(&e->root_lock);
	bool held = e->has_dangling;
	struct engine_root root = e->dangling;
	uint64_t base = e->dangling_base;
	(void)pthread_mutex_unlock(&e->root_lock);

	int r = held ? check_pointer(e, &root.pointer, &err) : 1;
	if (r == 0)
		r = judge_owned(e, base, true, &root, &err);
	if (r == 0)
		r = publish_judged(e, &root, &err);
	bool published = r == 0;
	/*
	 * It never will be a root: a client that reads it back must not wait for it. A full disk is
	 * no such reason.
	 */
	if (r < 0 && r != -ENOSPC)
		drop_dangling(e);
	give_publishing(e);
	if (published)
		engine_changed(e);
	if (r < 0)
		engine_report(e, &err);
}

int engine_root_current(struct engine *e, struct engine_root *ret)
{
	struct root_record record;
	int r = root_log_last(e->root_log, &record);
	if (r == 0)
		*ret = record.root;
	return r;
}

int engine_root_dangling(struct engine *e, struct engine_root *ret)
{
	(void)pthread_mutex_lock(&e->root_lock);
	int r = e->has_dangling ? 0 : -ENOENT;
	if (r == 0)
		*ret = e->dangling;
	(void)pthread_mutex_unlock(&e->root_lock);
	return r;
}

int engine_root_get(struct engine *e, uint64_t seq, struct engine_root *ret)
{
	struct root_record record;
	int r = root_log_get(e->root_log, seq, &record);
	if (r == 0)
		*ret = record.root;
	return r;
}

void engine_root_range(struct engine *e, uint64_t *ret_first, uint64_t *ret_last)
{
	root_log_range(e->root_log, ret_first, ret_last);
}

int engine_root_since(struct engine *e, uint64_t time_ns, struct engine_root *ret)
{
	struct root_record record;
	int r = root_log_since(e->root_log, time_ns, &record);
	if (r == 0)
		*ret = record.root;
	return r;
}

int engine_root_prune(struct engine *e, uint64_t keep_from, bool dry_run, uint64_t *ret_dropped,
		      struct reterr *err)
{
	uint64_t first, last;

	int r = dry_run ? 0 : engine_check_writable(e, err);
	if (r < 0)
		return r;
	take_publishing(e);
	root_log_range(e->root_log, &first, &last);
	if (keep_from > last)
		keep_from = last;
	uint64_t dropped = keep_from > first ? keep_from - first : 0;
	if (dropped && !dry_run)
		r = root_log_prune(e->root_log, keep_from, err);
	give_publishing(e);
	if (ret_dropped)
		*ret_dropped = r == 0 ? dropped : 0;
	return r;
}
