/*
 * A commit: the writes of all jobs in parallel, then one flush for each file, in parallel.
 *
 * 1. Every write is handed out. With a ring: all but the longest are submitted, that one the caller makes
 *    itself, then it collects the others (measured against one submission that waits for all: 4-10 % faster;
 *    linked and drained operations are slower, registered files and buffers gain nothing). Without one: the caller and
 *    the helper threads take one after the other.
 * 2. A job that is a single direct write to a file with nothing else to flush is written RWF_DSYNC, which saves
 *    its flush a round (measured with a part and the root log: 14 % of the commit).
 * 3. When all other writes are over, the remaining files are flushed in the same way. One file: by the caller itself,
 *    since io_uring would only pass it on to a worker thread.
 *
 * A job whose write failed gets no flush. Nothing is allocated on the way: a commit never fails for want of memory.
 */
#include <errno.h>

#include "engine/disk_path.h"
#include "engine/disk_posix.h"

enum {
	PARTS_MAX = DISK_RING_OPS_MAX,
	JOBS_MAX = PARTS_MAX / (DISK_WRITES_MAX + 1), /* of one round: all writes and all flushes */
	JOB_DURABLE = 1, /* a result while we work: nothing is left to do */
};

/* What can run in parallel: one write, or the flush of a job's file. */
struct part {
	struct disk_job *job;           /* NULL: its result was handed over */
	const struct disk_write *write; /* NULL: the flush */
	struct posix_write progress;
	bool durable; /* the write brings its own flush, so that nobody waits for it before the end */
	bool over;
	int result; /* POSIX_WRITE_..., 0 for a flush, or -errno */
};

struct round {
	struct posix_disk *disk;
	struct disk_ring *ring; /* NULL: helper threads */
	size_t count;
	struct part parts[PARTS_MAX];
};

/* ---- One part ---- */

static struct posix_file *part_file(const struct part *part)
{
	return posix_file_of(part->job->file);
}

static void part_run(struct part *part)
{
	part->result = part->write ? posix_write_run(&part->progress)
				   : posix_file_flush(part_file(part));
	part->over = true;
}

static void part_task(void *parts, size_t index)
{
	part_run((struct part *)parts + index);
}

static void part_prepare(const struct part *part, struct disk_ring_op *ret)
{
	if (!part->write) {
		posix_flush_begin(part_file(part));
		*ret = (struct disk_ring_op){.fd = part_file(part)->fd};
		return;
	}
	*ret = (struct disk_ring_op){
		.fd = posix_write_fd(&part->progress),
		.iov = part->write->iov,
		.iov_count = posix_write_iov_count(&part->progress),
		.offset = part->write->offset,
		.flags = posix_write_flags(&part->progress),
	};
}

/* The ring's answer to PART. What it leaves to do is done here. */
static void part_conclude(struct part *part, int result)
{
	int r = part->write ? posix_write_account(&part->progress, result)
			    : posix_flush_account(part_file(part), result);
	if (r == POSIX_WRITE_GO_ON) {
		part_run(part);
		return;
	}
	part->result = r;
	part->over = true;
}

/* ---- Several parts ---- */

/* Submits the parts FIRST to LAST, LAST not included; those that the kernel does not take are made here. */
static void ring_submit(struct round *round, size_t first, size_t last)
{
	struct disk_ring_op ops[PARTS_MAX];

	for (size_t i = first; i < last; i++)
		part_prepare(&round->parts[i], &ops[i]);
	size_t submitted = disk_ring_submit(round->ring, ops, first, last);
	for (size_t i = first + submitted; i < last; i++)
		part_run(&round->parts[i]);
}

/* Waits for the parts, or for those that somebody has to follow. */
static void ring_wait(struct round *round, bool durable_too)
{
	for (size_t i = 0; i < round->count; i++) {
		struct part *part = &round->parts[i];
		while (!part->over && (durable_too || !part->durable)) {
			int result;
			size_t index = disk_ring_wait(round->ring, &result);
			part_conclude(&round->parts[index], result);
		}
	}
}

/*
 * The part at the end is the caller's own system call: the longest of the writes that a flush waits for, so that the
 * others are over when it is, and are seen without another call.
 */
static void own_part_last(struct round *round)
{
	struct part *last = &round->parts[round->count - 1];
	struct part *own = last;
	for (struct part *part = round->parts; part < last; part++) {
		if (part->durable == own->durable ? part->progress.size > own->progress.size
						  : own->durable)
			own = part;
	}
	struct part copy = *last;
	*last = *own;
	*own = copy;
}

/* Runs the parts from FIRST on. Those that bring their own flush may still be under way at the end. */
static void run_parts(struct round *round, size_t first)
{
	size_t count = round->count - first;
	if (count == 0)
		return;
	if (count > 1 && !round->ring && round->disk->rings)
		round->ring = disk_ring_take(round->disk->rings);
	if (!round->ring) {
		disk_helpers_run(round->disk->helpers, part_task, &round->parts[first], count);
		return;
	}
	ring_submit(round, first, round->count - 1);
	part_run(&round->parts[round->count - 1]);
	ring_wait(round, false);
}

/* ---- A round ---- */

/* Whether a write can make JOB durable by itself: nothing else of its file waits for a flush. */
static bool job_is_single(const struct disk_job *job)
{
	const struct posix_file *file = posix_file_of(job->file);
	return job->write_count == 1 && !job->no_flush && posix_file_is_direct(file) &&
	       disk_write_size(&job->writes[0]) > 0 && !atomic_load(&file->unflushed);
}

/* A misaligned caller fails everywhere, not only where the disk would refuse it. */
static int job_check(const struct disk_job *job)
{
	if (!posix_file_of(job->file)->direct)
		return 0;
	for (unsigned i = 0; i < job->write_count; i++) {
		if (!disk_write_is_aligned(&job->writes[i]))
			return -EINVAL;
	}
	return 0;
}

static void add_writes(struct round *round, struct disk_job *job)
{
	job->result = job_check(job);
	if (job->result < 0)
		return;
	bool durable = job_is_single(job);
	if (durable)
		job->result = JOB_DURABLE;
	for (unsigned i = 0; i < job->write_count; i++) {
		if (disk_write_size(&job->writes[i]) == 0)
			continue;
		struct part *part = &round->parts[round->count++];
		*part = (struct part){.job = job, .write = &job->writes[i], .durable = durable};
		posix_write_begin(&part->progress, posix_file_of(job->file), part->write, durable);
	}
}

/* Hands the results of finished parts to their jobs; the first failure of a job stays. */
static void settle(struct round *round)
{
	for (size_t i = 0; i < round->count; i++) {
		struct part *part = &round->parts[i];
		struct disk_job *job = part->job;
		if (!part->over || !job)
			continue;
		part->job = NULL;
		if (job->result < 0)
			continue;
		if (part->result < 0)
			job->result = part->result;
		else if (!part->write)
			job->result = JOB_DURABLE;
		else if (part->durable && part->result != POSIX_WRITE_DURABLE)
			job->result = 0; /* it had to be continued without */
	}
}

static void run_round(struct posix_disk *disk, struct disk_job *jobs, size_t count)
{
	struct round round = {.disk = disk};

	for (size_t i = 0; i < count; i++)
		add_writes(&round, &jobs[i]);
	if (round.count > 1)
		own_part_last(&round);
	run_parts(&round, 0);
	settle(&round);

	size_t first = round.count;
	for (size_t i = 0; i < count; i++) {
		if (jobs[i].result == 0 && !jobs[i].no_flush)
			round.parts[round.count++] = (struct part){.job = &jobs[i]};
	}
	run_parts(&round, first);
	if (round.ring) {
		ring_wait(&round, true);
		disk_ring_put(disk->rings, round.ring);
	}
	settle(&round);

	for (size_t i = 0; i < count; i++) {
		/* Only what was to bring its own flush and could not. */
		if (jobs[i].result == 0 && !jobs[i].no_flush)
			jobs[i].result = posix_file_flush(posix_file_of(jobs[i].file));
		else if (jobs[i].result == JOB_DURABLE)
			jobs[i].result = 0;
	}
}

int posix_commit(struct disk *disk, struct disk_job *jobs, size_t count)
{
	int first = 0;
	for (size_t done = 0; done < count;) {
		size_t some = count - done < JOBS_MAX ? count - done : JOBS_MAX;
		run_round(posix_disk_of(disk), jobs + done, some);
		done += some;
	}
	for (size_t i = 0; i < count && first == 0; i++)
		first = jobs[i].result;
	return first;
}

int posix_flush(struct disk_file *file)
{
	return posix_file_flush(posix_file_of(file));
}
