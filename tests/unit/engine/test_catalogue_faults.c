/*
 * The catalogue and the superblock on a disk that fails: power cut after every operation, every
 * call failing in turn, every allocation failing in turn. The rule is one: what was acknowledged is
 * there, what is there was asked for.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"
#include "engine/catalogue.h"
#include "engine/superblock.h"
#include "tests/lib/fault_alloc.h"
#include "tests/lib/sim_disk.h"

enum { NUMBERS = 8, SEEDS = 6 };

static const struct uuid store = {{1, 2, 3, 4}};

/* What may be found for each number: any length from the acknowledged one to the last one tried. */
struct model {
	uint64_t acknowledged[NUMBERS + 1]; /* 0: none */
	uint64_t tried[NUMBERS + 1];
};

static struct catalogue_record record_of(uint32_t number, uint64_t length)
{
	struct catalogue_record record = {
		.number = number,
		.state = length % 2 ? CATALOGUE_OPEN : CATALOGUE_SEALED,
		.length = length,
	};
	store_le32(record.uuid.bytes, number);
	return record;
}

struct found {
	uint64_t length[NUMBERS + 1];
};

static int see(void *arg, const struct catalogue_record *record)
{
	struct found *found = arg;
	ck_assert_uint_le(record->number, NUMBERS);
	ck_assert_uint_eq(load_le32(record->uuid.bytes), record->number);
	found->length[record->number] = record->length;
	return 0;
}

static void check_found(const struct found *found, const struct model *model)
{
	for (unsigned i = 1; i <= NUMBERS; i++) {
		ck_assert_uint_ge(found->length[i], model->acknowledged[i]);
		ck_assert_uint_le(found->length[i], model->tried[i]);
	}
}

/* Puts COUNT records; goes on after failures. Returns how many failed. */
static unsigned work(struct catalogue *c, struct model *model, uint64_t from, unsigned count)
{
	unsigned failed = 0;
	for (uint64_t i = from; i < from + count; i++) {
		if (i % 5 == 3 && catalogue_mark(c, NULL) < 0)
			failed++;
		uint32_t number = 1 + (uint32_t)(i * 7 % NUMBERS);
		struct catalogue_record record = record_of(number, i);
		model->tried[number] = i;
		if (catalogue_put(c, &record, NULL) == 0)
			model->acknowledged[number] = i;
		else
			failed++;
	}
	return failed;
}

static struct catalogue *open_it(struct disk *disk, struct found *found)
{
	struct catalogue *c;
	struct reterr err = {0};
	*found = (struct found){{0}};
	int r = catalogue_open(disk, &store, false, see, found, &err, &c);
	ck_assert_msg(r == 0, "%d %s", r, err.text);
	return c;
}

/* What every survivor must satisfy, also after it went on working and lost power once more. */
static void check_survivor(struct disk *disk, const struct model *before, uint64_t from,
			   uint64_t seed)
{
	struct model model = *before;
	struct found found;
	struct catalogue *c = open_it(disk, &found);
	check_found(&found, &model);
	for (unsigned i = 1; i <= NUMBERS; i++)
		model.acknowledged[i] = model.tried[i] = found.length[i];
	ck_assert_uint_eq(work(c, &model, from, 5), 0);

	struct disk *again = sim_disk_crash(disk, seed);
	struct catalogue *d = open_it(again, &found);
	check_found(&found, &model);
	catalogue_close(d);
	disk_free(again);
	catalogue_close(c);
}

static struct disk *new_store(uint64_t seed)
{
	struct disk *disk = sim_disk_new(seed);
	ck_assert_int_eq(catalogue_create(disk, &store), 0);
	return disk;
}

/* COUNT puts, with the power going after every STEP-th operation of them. */
static void cut_everywhere(unsigned count, unsigned step)
{
	for (uint64_t n = 0;; n += step) {
		struct disk *disk = new_store(1);
		struct model model = {{0}, {0}};
		struct found found;
		struct catalogue *c = open_it(disk, &found);
		sim_disk_cut_after(disk, n);
		unsigned failed = work(c, &model, 1, count);
		bool off = sim_disk_is_off(disk);
		ck_assert(off == (failed > 0));
		for (uint64_t seed = 0; seed < SEEDS; seed++) {
			struct disk *after = sim_disk_crash(disk, seed);
			check_survivor(after, &model, count + 1, seed + 100);
			disk_free(after);
		}
		catalogue_close(c);
		disk_free(disk);
		if (!off)
			break;
	}
}

START_TEST(power_cut_after_every_operation)
{
	cut_everywhere(60, 1);
}
END_TEST

/* Far enough that the file is compacted. */
START_TEST(power_cut_around_a_compaction)
{
	cut_everywhere(520, 13);
	for (uint64_t n = 1005; n < 1060; n++) {
		struct disk *disk = new_store(1);
		struct model model = {{0}, {0}};
		struct found found;
		struct catalogue *c = open_it(disk, &found);
		sim_disk_cut_after(disk, n);
		(void)work(c, &model, 1, 520);
		for (uint64_t seed = 0; seed < SEEDS; seed++) {
			struct disk *after = sim_disk_crash(disk, seed);
			check_survivor(after, &model, 600, seed);
			disk_free(after);
		}
		catalogue_close(c);
		disk_free(disk);
	}
}
END_TEST

/* Puts up to COUNT records, until a call of the disk has failed. Returns how many puts failed. */
static unsigned work_until_failure(struct catalogue *c, struct disk *disk, struct model *model,
				   unsigned count)
{
	unsigned failed = 0;
	for (unsigned i = 1; i <= count && sim_disk_failures(disk) == 0; i++)
		failed += work(c, model, i, 1);
	return failed;
}

/*
 * A call fails once, and the work goes on (or the process gives up and another one begins); then
 * the power goes, too.
 */
/* The NTH call of KIND fails with CODE. Returns whether there was such a call. */
static bool fail_once(enum sim_kind kind, uint64_t nth, int code, bool give_up, uint64_t seed)
{
	struct disk *disk = new_store(seed);
	struct model model = {{0}, {0}};
	struct found found;
	struct catalogue *c = open_it(disk, &found);
	sim_disk_fail(disk, kind, nth, code, false);
	unsigned failed = give_up ? work_until_failure(c, disk, &model, 530)
				  : work(c, &model, 1, 530);
	bool met = sim_disk_failures(disk) > 0;
	ck_assert_uint_le(failed, met);
	sim_disk_fail(disk, kind, 0, 0, false);
	struct disk *after = sim_disk_crash(disk, seed);
	check_survivor(after, &model, 600, seed);
	disk_free(after);
	catalogue_close(c);

	/* The next process on the same machine, without a cut in between. */
	check_survivor(disk, &model, 600, seed);
	disk_free(disk);
	return met;
}

static void fail_everywhere(bool give_up)
{
	static const enum sim_kind kinds[] = {SIM_CREATE,  SIM_WRITE,  SIM_FLUSH,
					      SIM_RESERVE, SIM_RENAME, SIM_SYNC_DIR};
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		bool met = true;
		for (uint64_t nth = 1; met; nth += nth < 10 || nth > 475 ? 1 : 37) {
			for (uint64_t seed = 0; seed < SEEDS; seed++)
				met = fail_once(kinds[k], nth, seed % 3 ? -EIO : -ENOSPC, give_up,
						nth * 100 + seed);
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

/* The first put after a failed one goes to a new file, even if that takes several attempts. */
START_TEST(a_failed_flush_is_never_built_upon)
{
	struct disk *disk = new_store(1);
	struct model model = {{0}, {0}};
	struct found found;
	struct catalogue *c = open_it(disk, &found);
	ck_assert_uint_eq(work(c, &model, 1, 10), 0);
	sim_disk_fail(disk, SIM_FLUSH, 1, -EIO, true);
	ck_assert_uint_ge(work(c, &model, 11, 5), 5);
	sim_disk_fail(disk, SIM_FLUSH, 0, 0, false);
	sim_disk_fail(disk, SIM_SYNC_DIR, 1, -EIO, false);
	ck_assert_uint_eq(work(c, &model, 16, 1), 1);
	ck_assert_uint_eq(work(c, &model, 17, 10), 0);
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct disk *after = sim_disk_crash(disk, seed);
		check_survivor(after, &model, 600, seed);
		disk_free(after);
	}
	catalogue_close(c);
	disk_free(disk);
}
END_TEST

START_TEST(every_allocation_fails_in_turn)
{
	if (!fault_alloc_available())
		return;
	bool failed;
	uint64_t n = 0;
	do {
		struct disk *disk = new_store(1);
		struct model model = {{0}, {0}};
		struct found found = {{0}};
		struct catalogue *c = NULL;
		fault_alloc_fail(++n);
		int r = catalogue_open(disk, &store, false, see, &found, NULL, &c);
		unsigned failures = c ? work(c, &model, 1, 20) : 0;
		failed = fault_alloc_stop();
		ck_assert(r == 0 || (failed && r == -ENOMEM && !c));
		ck_assert(failed ? r == -ENOMEM || failures <= 1 : failures == 0);
		catalogue_close(c);
		check_survivor(disk, &model, 100, n);
		disk_free(disk);
	} while (failed);
	ck_assert_uint_gt(n, 3);
}
END_TEST

/* ---- Superblock ---- */

START_TEST(a_superblock_is_old_or_new)
{
	for (uint64_t n = 0;; n++) {
		struct disk *disk = sim_disk_new(1);
		struct superblock old, new;
		ck_assert_int_eq(superblock_init(disk, 5 << 20, 1, 1, &old), 0);
		ck_assert_int_eq(superblock_write(disk, &old, NULL), 0);
		new = old;
		new.node = 2;
		sim_disk_cut_after(disk, n);
		int r = superblock_write(disk, &new, NULL);
		bool off = sim_disk_is_off(disk);
		for (uint64_t seed = 0; seed < 20; seed++) {
			struct disk *after = sim_disk_crash(disk, seed);
			struct superblock sb;
			ck_assert_int_eq(superblock_read(after, &sb, NULL), 0);
			ck_assert_uint_eq(sb.bad_copies, 0);
			ck_assert(sb.node == 2 || (sb.node == 1 && r < 0));
			disk_free(after);
		}
		disk_free(disk);
		if (!off)
			break;
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("catalogue_faults");
	TCase *tcase = tcase_create("faults");
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, power_cut_after_every_operation);
	tcase_add_test(tcase, power_cut_around_a_compaction);
	tcase_add_test(tcase, every_call_fails_in_turn);
	tcase_add_test(tcase, every_call_fails_and_the_process_with_it);
	tcase_add_test(tcase, a_failed_flush_is_never_built_upon);
	tcase_add_test(tcase, every_allocation_fails_in_turn);
	tcase_add_test(tcase, a_superblock_is_old_or_new);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
