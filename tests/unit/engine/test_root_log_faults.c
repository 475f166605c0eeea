/*
 * The root log on a disk that fails: power cut after every operation, every call failing in turn,
 * every allocation failing in turn. The rule is one: each root that was acknowledged is there,
 * whole, and at most one more.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/root_log.h"
#include "tests/lib/fault_alloc.h"
#include "tests/lib/sim_disk.h"

enum { SEEDS = 6 };

/* What one run of a store did. */
struct run {
	struct disk *disk;
	struct root_log *log;
	uint64_t acknowledged; /* the last seq that was */
	uint64_t tried;        /* and the last one that was submitted */
	uint64_t pruned;       /* the last prune that was tried keeps from here */
	bool cut;              /* the next seq may be there in another version */
};

static struct root_record record_of(uint64_t seq)
{
	struct root_record record = {.root = {.seq = seq, .time_ns = seq}};
	record.root.pointer.offset = seq * 11;
	record.root.payload_size = ENGINE_ROOT_PAYLOAD_MAX;
	memset(record.root.payload, (int)(seq & 0xff), ENGINE_ROOT_PAYLOAD_MAX);
	return record;
}

static int publish(struct run *run, uint64_t seq)
{
	struct root_record record = record_of(seq);
	struct disk_job job;
	int r = root_log_prepare(run->log, &record, &job);
	if (r < 0)
		return r;
	run->tried = seq;
	r = disk_commit(run->disk, &job, 1);
	root_log_done(run->log, r);
	if (r == 0)
		run->acknowledged = seq;
	return r;
}

/* One step of work, number I: mostly publications. */
static int step(struct run *run, unsigned i)
{
	int r;
	if (i % 16 == 7)
		return root_log_prepare_ahead(run->log);
	if (i % 16 == 11) {
		uint64_t keep = run->acknowledged > 6 ? run->acknowledged - 6 : 1;
		run->pruned = keep > run->pruned ? keep : run->pruned;
		return root_log_prune(run->log, keep, NULL);
	}
	if (i % 16 == 13)
		return root_log_mark(run->log, NULL);
	if (i % 40 == 38) {
		/* As if the flush had failed: the log moves on to a new file. */
		struct root_record record = record_of(run->acknowledged + 1);
		struct disk_job job;
		r = root_log_prepare(run->log, &record, &job);
		if (r == 0)
			root_log_done(run->log, -EIO);
		return r;
	}
	return publish(run, run->acknowledged + 1);
}

/* Returns how many steps failed; with GIVE_UP it ends when a call of the disk has. */
static unsigned work(struct run *run, unsigned steps, bool give_up)
{
	unsigned failed = 0;
	for (unsigned i = 1; i <= steps; i++) {
		failed += step(run, i) < 0;
		if (give_up && sim_disk_failures(run->disk) > 0)
			break;
	}
	return failed;
}

static void check_roots(struct run *run)
{
	struct root_record record;
	uint64_t first, last;
	root_log_range(run->log, &first, &last);
	ck_assert_uint_ge(last, run->acknowledged);
	ck_assert_uint_le(last, run->tried > run->acknowledged ? run->tried : run->acknowledged);
	if (last == 0)
		return;
	ck_assert_uint_ge(first, 1);
	ck_assert_uint_le(first, run->pruned ? run->pruned : 1);
	for (uint64_t seq = first; seq <= last; seq++) {
		struct root_record want = record_of(seq);
		ck_assert_int_eq(root_log_get(run->log, seq, &record), 0);
		ck_assert_uint_eq(record.root.pointer.offset, want.root.pointer.offset);
		ck_assert_mem_eq(record.root.payload, want.root.payload, ENGINE_ROOT_PAYLOAD_MAX);
	}
	struct root_log_checked checked;
	ck_assert_int_eq(root_log_check(run->log, true, NULL, NULL, &checked), 0);
	ck_assert_uint_eq(checked.problems, 0);
}

static void open_run(struct run *run)
{
	struct reterr err = {0};
	int r = root_log_open(run->disk, false, &err, &run->log);
	ck_assert_msg(r == 0, "%d %s", r, err.text);
}

/* A new process on DISK after BEFORE: it finds what it must, goes on, and is cut off once more. */
static void check_survivor(struct disk *disk, const struct run *before, bool cut, uint64_t seed)
{
	struct run run = *before;
	struct root_record record;
	run.disk = disk;
	open_run(&run);
	check_roots(&run);

	/* The engine may find the barrier of an unacknowledged last root unmet. */
	if (cut && root_log_last(run.log, &record) == 0 && record.root.seq > run.acknowledged) {
		int r = root_log_cut_last(run.log, NULL);
		ck_assert(r == 0 || r == -EBADMSG);
		ck_assert_int_eq(r, 0);
	}
	run.acknowledged = root_log_last(run.log, &record) == 0 ? record.root.seq : 0;
	run.tried = run.acknowledged;
	/* A short life may end before it has flushed by chance what the one before it left. */
	ck_assert_uint_eq(work(&run, seed % 3 ? 1 + (unsigned)(seed % 5) : 45, false), 0);

	struct run again = run;
	again.disk = sim_disk_crash(disk, seed);
	open_run(&again);
	check_roots(&again);
	root_log_close(again.log);
	disk_free(again.disk);
	root_log_close(run.log);
}

static void begin(struct run *run, uint64_t seed)
{
	*run = (struct run){.disk = sim_disk_new(seed)};
	ck_assert_int_eq(root_log_create(run->disk), 0);
	open_run(run);
}

START_TEST(power_cut_after_every_operation)
{
	for (uint64_t n = 0;; n++) {
		struct run run;
		begin(&run, 1);
		sim_disk_cut_after(run.disk, n);
		(void)work(&run, 100, false);
		bool off = sim_disk_is_off(run.disk);
		for (uint64_t seed = 0; seed < SEEDS; seed++) {
			struct disk *after = sim_disk_crash(run.disk, seed);
			check_survivor(after, &run, seed % 2, seed + 100);
			disk_free(after);
		}
		root_log_close(run.log);
		disk_free(run.disk);
		if (!off)
			break;
	}
}
END_TEST

/* Also while the log is made: either there is none, or a whole one. */
START_TEST(power_cut_during_create)
{
	for (uint64_t n = 0;; n++) {
		struct disk *disk = sim_disk_new(1);
		sim_disk_cut_after(disk, n);
		int r = root_log_create(disk);
		bool off = sim_disk_is_off(disk);
		ck_assert(off || r == 0);
		for (uint64_t seed = 0; seed < 10 && r == 0; seed++) {
			struct disk *after = sim_disk_crash(disk, seed);
			struct run run = {.disk = after};
			check_survivor(after, &run, false, seed);
			disk_free(after);
		}
		disk_free(disk);
		if (!off)
			break;
	}
}
END_TEST

/* The NTH call of KIND fails. Returns whether there was such a call. */
static bool fail_once(enum sim_kind kind, uint64_t nth, bool give_up, uint64_t seed)
{
	struct run run;
	begin(&run, seed);
	sim_disk_fail(run.disk, kind, nth, -EIO, false);
	(void)work(&run, 100, give_up);
	bool met = sim_disk_failures(run.disk) > 0;
	sim_disk_fail(run.disk, kind, 0, 0, false);
	struct disk *after = sim_disk_crash(run.disk, seed);
	check_survivor(after, &run, nth % 2, seed);
	disk_free(after);
	root_log_close(run.log);

	/* The next process on the same machine, without a cut in between. */
	check_survivor(run.disk, &run, (nth + seed) % 2, seed);
	disk_free(run.disk);
	return met;
}

static void fail_everywhere(bool give_up)
{
	static const enum sim_kind kinds[] = {SIM_OPEN,    SIM_CREATE, SIM_WRITE,
					      SIM_FLUSH,   SIM_RENAME, SIM_SYNC_DIR,
					      SIM_RESERVE, SIM_UNLINK, SIM_READ};
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		bool met = true;
		for (uint64_t nth = 1; met; nth++) {
			for (uint64_t seed = 0; seed < SEEDS; seed++)
				met = fail_once(kinds[k], nth, give_up, nth * 100 + seed);
		}
	}
}

START_TEST(every_call_fails_in_turn)
{
	fail_everywhere(false);
}
END_TEST

START_TEST(every_call_fails_and_the_process_with_it)
{
	fail_everywhere(true);
}
END_TEST

/* Publications are refused before they begin, never half-way, and go on when there is space. */
START_TEST(a_full_disk_refuses_in_time)
{
	struct run run;
	begin(&run, 1);
	ck_assert_int_eq(root_log_prepare_ahead(run.log), 0);
	sim_disk_set_space(run.disk, 1);
	unsigned published = 0;
	while (publish(&run, run.acknowledged + 1) == 0)
		published++;
	ck_assert_uint_eq(run.tried, run.acknowledged);
	/* The reserve: half a window at the least. */
	ck_assert_uint_ge(published, 512);
	ck_assert_int_eq(publish(&run, run.acknowledged + 1), -ENOSPC);
	sim_disk_set_space(run.disk, UINT64_MAX);
	ck_assert_int_eq(publish(&run, run.acknowledged + 1), 0);
	struct disk *after = sim_disk_crash(run.disk, 3);
	check_survivor(after, &run, false, 3);
	disk_free(after);
	root_log_close(run.log);
	disk_free(run.disk);
}
END_TEST

/* A full disk, and then a failed flush: the spare file is there for that. */
START_TEST(a_spare_file_outlives_a_full_disk)
{
	struct run run;
	begin(&run, 1);
	ck_assert_int_eq(root_log_prepare_ahead(run.log), 0);
	sim_disk_set_space(run.disk, 1);
	ck_assert_int_eq(publish(&run, 1), 0);
	sim_disk_fail(run.disk, SIM_FLUSH, 1, -EIO, false);
	ck_assert_int_eq(publish(&run, 2), -EIO);
	ck_assert_int_eq(publish(&run, 2), 0);
	struct disk *after = sim_disk_crash(run.disk, 3);
	sim_disk_set_space(after, UINT64_MAX);
	check_survivor(after, &run, false, 3);
	disk_free(after);
	root_log_close(run.log);
	disk_free(run.disk);
}
END_TEST

START_TEST(every_allocation_fails_in_turn)
{
	if (!fault_alloc_available())
		return;
	bool failed;
	uint64_t n = 0;
	do {
		struct run run;
		begin(&run, 1);
		ck_assert_uint_eq(work(&run, 60, false), 0);
		root_log_close(run.log);
		run.log = NULL;
		fault_alloc_fail(++n);
		int r = root_log_open(run.disk, false, NULL, &run.log);
		unsigned failures = run.log ? work(&run, 60, false) : 0;
		failed = fault_alloc_stop();
		ck_assert(r == 0 || (failed && r == -ENOMEM && !run.log));
		ck_assert(failed ? r == -ENOMEM || failures <= 1 : failures == 0);
		root_log_close(run.log);
		check_survivor(run.disk, &run, false, n);
		disk_free(run.disk);
	} while (failed);
	ck_assert_uint_gt(n, 3);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("root_log_faults");
	TCase *tcase = tcase_create("faults");
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, power_cut_after_every_operation);
	tcase_add_test(tcase, power_cut_during_create);
	tcase_add_test(tcase, every_call_fails_in_turn);
	tcase_add_test(tcase, every_call_fails_and_the_process_with_it);
	tcase_add_test(tcase, a_full_disk_refuses_in_time);
	tcase_add_test(tcase, a_spare_file_outlives_a_full_disk);
	tcase_add_test(tcase, every_allocation_fails_in_turn);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
