/* The uploader's journal: what was acknowledged is there, what was torn is not, and damage is told. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"
#include "engine/disk.h"
#include "engine/engine.h"
#include "engine/journal.h"
#include "engine/journal_format.h"
#include "tests/lib/fault_alloc.h"
#include "tests/lib/sim_disk.h"

static const struct uuid store = {{1, 2, 3}};
static struct disk *disk;
static struct journal *journal;

static void open_journal(void)
{
	ck_assert_int_eq(journal_new(disk, &store, false, &journal), 0);
}

static void reopen(void)
{
	journal_free(journal);
	open_journal();
}

static void new_disk(uint64_t seed)
{
	journal_free(journal);
	disk_free(disk);
	disk = sim_disk_new(seed);
	open_journal();
}

static void setup(void)
{
	disk = sim_disk_new(1);
	open_journal();
}

static void teardown(void)
{
	journal_free(journal);
	journal = NULL;
	disk_free(disk);
}

/* What a load told, as text: records are words. */
static char told[4096];

static int tell(void *arg, const void *record, size_t size)
{
	(void)arg;
	size_t used = strlen(told);
	ck_assert_uint_lt(used + size + 2, sizeof(told));
	memcpy(told + used, record, size);
	memcpy(told + used + size, " ", 2);
	return 0;
}

static int load(struct reterr *err)
{
	told[0] = '\0';
	return journal_load(journal, tell, NULL, err);
}

static void check_loaded(const char *wanted)
{
	struct reterr err = {0};
	int r = load(&err);
	ck_assert_msg(r == 0, "%d %s", r, err.text);
	ck_assert_str_eq(told, wanted);
}

static int append(const char *word)
{
	return journal_append(journal, word, strlen(word), NULL);
}

static int replace(const char *a, const char *b)
{
	const void *records[] = {a, b};
	size_t sizes[] = {strlen(a), strlen(b)};
	return journal_replace(journal, records, sizes, 2, NULL);
}

START_TEST(records_come_back_in_order)
{
	ck_assert_int_eq(journal_is_there(disk), 0);
	check_loaded("");
	ck_assert_int_eq(append("one"), 0);
	ck_assert_int_eq(journal_is_there(disk), 1);
	ck_assert_int_eq(append(""), 0);
	ck_assert_int_eq(append("three"), 0);
	check_loaded("one  three ");
	reopen();
	check_loaded("one  three ");
	ck_assert_int_eq(append("four"), 0);
	check_loaded("one  three four ");
	reopen();
	check_loaded("one  three four ");
}
END_TEST

START_TEST(an_append_needs_no_load_before)
{
	ck_assert_int_eq(append("one"), 0);
	reopen();
	ck_assert_int_eq(append("two"), 0);
	check_loaded("one two ");
}
END_TEST

START_TEST(replace_puts_these_in_the_place_of_all)
{
	ck_assert_int_eq(append("one"), 0);
	ck_assert_int_eq(replace("a", "b"), 0);
	check_loaded("a b ");
	ck_assert_int_eq(append("c"), 0);
	reopen();
	check_loaded("a b c ");
	ck_assert_int_eq(journal_replace(journal, NULL, NULL, 0, NULL), 0);
	reopen();
	check_loaded("");
	ck_assert_int_eq(journal_is_there(disk), 1);
}
END_TEST

static int refuse(void *arg, const void *record, size_t size)
{
	(void)record;
	(void)size;
	++*(int *)arg;
	return -ECANCELED;
}

START_TEST(a_negative_return_ends_the_load)
{
	int calls = 0;
	ck_assert_int_eq(append("one"), 0);
	ck_assert_int_eq(append("two"), 0);
	ck_assert_int_eq(journal_load(journal, refuse, &calls, NULL), -ECANCELED);
	ck_assert_int_eq(calls, 1);
	reopen();
	ck_assert_int_eq(journal_load(journal, refuse, &calls, NULL), -ECANCELED);
	ck_assert_int_eq(calls, 2);
}
END_TEST

START_TEST(records_have_a_size_at_most)
{
	uint8_t *large = calloc(1, ENGINE_JOURNAL_RECORD_MAX + 1);
	const void *records[] = {large};
	size_t sizes[] = {ENGINE_JOURNAL_RECORD_MAX + 1};
	ck_assert_int_eq(journal_append(journal, large, sizes[0], NULL), -EFBIG);
	ck_assert_int_eq(journal_replace(journal, records, sizes, 1, NULL), -EFBIG);
	sizes[0]--;
	ck_assert_int_eq(journal_replace(journal, records, sizes, 1, NULL), 0);
	ck_assert_int_eq(journal_append(journal, large, sizes[0], NULL), 0);
	free(large);
}
END_TEST

static struct disk_file *open_raw(void)
{
	struct disk_file *file;
	ck_assert_int_eq(disk_open(disk, JOURNAL_PATH, DISK_WRITE, &file), 0);
	return file;
}

static void cut_at(uint64_t size)
{
	struct disk_file *file = open_raw();
	ck_assert_int_eq(disk_truncate(file, size), 0);
	disk_close(file);
}

START_TEST(a_last_record_that_is_cut_at_any_byte_is_none)
{
	uint64_t two = JOURNAL_HEADER_SIZE + 2 * journal_record_span(3);
	for (uint64_t size = two - journal_record_span(3); size < two - 5; size++) {
		new_disk(1);
		ck_assert_int_eq(append("one"), 0);
		ck_assert_int_eq(append("two"), 0);
		cut_at(size);
		reopen();
		check_loaded("one ");
		ck_assert_int_eq(append("new"), 0);
		reopen();
		check_loaded("one new ");
	}
}
END_TEST

/* The file holds "one", "two" and "three"; any flipped bit is either told, or in the last record. */
START_TEST(a_flipped_bit_anywhere_before_the_last_record_is_damage)
{
	uint64_t last = JOURNAL_HEADER_SIZE + journal_record_span(3) + journal_record_span(3);
	for (uint64_t at = 0; at < last + journal_record_span(5) - 3; at++) {
		struct reterr err = {0};
		new_disk(1);
		ck_assert_int_eq(append("one"), 0);
		ck_assert_int_eq(append("two"), 0);
		ck_assert_int_eq(append("three"), 0);
		sim_disk_flip(disk, JOURNAL_PATH, at, 0x10);
		reopen();
		int r = load(&err);
		/* Padding means nothing. */
		uint64_t inside = (at - JOURNAL_HEADER_SIZE) % journal_record_span(3);
		bool padding = at >= JOURNAL_HEADER_SIZE && at < last &&
			       inside >= JOURNAL_RECORD_HEADER_SIZE + 3;
		if (padding) {
			ck_assert_int_eq(r, 0);
			ck_assert_str_eq(told, "one two three ");
		} else if (at >= last) {
			ck_assert_int_eq(r, 0);
			ck_assert_str_eq(told, "one two ");
		} else {
			ck_assert_msg(r == -EBADMSG, "byte %u: %d", (unsigned)at, r);
			ck_assert_ptr_nonnull(strstr(err.text, "journal: "));
			ck_assert_int_eq(append("no"), -EBADMSG);
		}
	}
}
END_TEST

START_TEST(after_a_clean_stop_the_last_record_is_not_torn_but_damaged)
{
	ck_assert_int_eq(append("one"), 0);
	ck_assert_int_eq(append("two"), 0);
	ck_assert_int_eq(journal_mark(journal, NULL), 0);
	ck_assert_int_eq(journal_mark(journal, NULL), 0); /* one is enough */
	reopen();
	check_loaded("one two ");
	sim_disk_flip(disk, JOURNAL_PATH, JOURNAL_HEADER_SIZE + journal_record_span(3) + 41, 1);
	reopen();
	ck_assert_int_eq(load(NULL), -EBADMSG);
}
END_TEST

START_TEST(marks_between_records_are_told_to_nobody)
{
	ck_assert_int_eq(append("one"), 0);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(append("x"), 0);
		ck_assert_int_eq(journal_mark(journal, NULL), 0);
		reopen();
	}
	check_loaded("one x x x ");
	sim_disk_fail(disk, SIM_FLUSH, 2, -EIO, false); /* the first settles */
	ck_assert_int_eq(append("lost"), -EIO);
	ck_assert_int_eq(append("y"), 0); /* in a new file, without the marks */
	check_loaded("one x x x y ");
	reopen();
	check_loaded("one x x x y ");
}
END_TEST

START_TEST(a_payload_cannot_pass_for_a_later_record)
{
	struct journal_record record = {
		.kind = JOURNAL_RECORD, .sequence = 9, .hash = hash_of("", 0)};
	uint8_t fake[JOURNAL_RECORD_HEADER_SIZE];
	uint64_t last = JOURNAL_HEADER_SIZE + journal_record_span(3);

	ck_assert_int_eq(append("one"), 0);
	journal_encode_record(&record, 12345, fake); /* of another file */
	ck_assert_int_eq(journal_append(journal, fake, sizeof(fake), NULL), 0);
	sim_disk_flip(disk, JOURNAL_PATH, last + 20, 1);
	reopen();
	check_loaded("one ");
}
END_TEST

START_TEST(repair_keeps_what_is_before_the_damage)
{
	struct disk_file *copy;
	ck_assert_int_eq(append("one"), 0);
	ck_assert_int_eq(append("two"), 0);
	ck_assert_int_eq(append("three"), 0);
	ck_assert_int_eq(journal_repair(disk, &store, NULL), 0); /* nothing to do */
	sim_disk_flip(disk, JOURNAL_PATH, JOURNAL_HEADER_SIZE + journal_record_span(3) + 41, 1);
	ck_assert_int_eq(journal_repair(disk, &store, NULL), 0);
	reopen();
	check_loaded("one ");
	ck_assert_int_eq(append("more"), 0);
	check_loaded("one more ");
	ck_assert_int_eq(disk_open(disk, "lost+found/journal", DISK_READ, &copy), 0);
	disk_close(copy);
	sim_disk_flip(disk, JOURNAL_PATH, 3, 1);
	ck_assert_int_eq(journal_repair(disk, &store, NULL), 0);
	reopen();
	check_loaded("");
}
END_TEST

START_TEST(another_stores_journal_is_damage)
{
	const struct uuid other = {{9}};
	ck_assert_int_eq(append("one"), 0);
	journal_free(journal);
	ck_assert_int_eq(journal_new(disk, &other, false, &journal), 0);
	ck_assert_int_eq(load(NULL), -EBADMSG);
	/* Whoever replaces it knows what he does. */
	ck_assert_int_eq(replace("a", "b"), 0);
	check_loaded("a b ");
}
END_TEST

START_TEST(read_only_writes_nothing)
{
	ck_assert_int_eq(append("one"), 0);
	cut_at(JOURNAL_HEADER_SIZE + journal_record_span(3) + 8);
	journal_free(journal);
	ck_assert_int_eq(journal_new(disk, &store, true, &journal), 0);
	uint64_t before = sim_disk_operations(disk);
	check_loaded("one ");
	ck_assert_int_eq(append("two"), -EROFS);
	ck_assert_int_eq(replace("a", "b"), -EROFS);
	ck_assert_uint_eq(sim_disk_operations(disk), before);
}
END_TEST

/* ---- Faults --------------------------------------------------------------------------------- */

/* Writes and flushes fail one after the other; what was acknowledged is there, what was not is not. */
START_TEST(after_a_failure_nothing_is_appended_behind_unknown_bytes)
{
	static const enum sim_kind kinds[] = {SIM_WRITE, SIM_FLUSH, SIM_RENAME, SIM_SYNC_DIR};
	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++)
		for (unsigned nth = 1; nth < 8; nth++) {
			char wanted[256] = "";
			new_disk(nth);
			sim_disk_fail(disk, kinds[k], nth, -EIO, false);
			for (unsigned i = 0; i < 8; i++) {
				char word[3] = {'w', (char)('0' + i), '\0'};
				int r = i == 4 ? replace("a", word) : append(word);
				if (r < 0)
					continue;
				if (i == 4)
					strcpy(wanted, "a ");
				strcat(wanted, word);
				strcat(wanted, " ");
			}
			check_loaded(wanted);
			reopen();
			check_loaded(wanted);
			struct disk *crashed = sim_disk_crash(disk, nth * 31 + k);
			struct disk *whole = disk;
			disk = crashed;
			reopen();
			check_loaded(wanted);
			journal_free(journal);
			journal = NULL;
			disk_free(whole);
			open_journal();
		}
}
END_TEST

static int count(void *arg, const void *record, size_t size)
{
	(void)record;
	(void)size;
	++*(unsigned *)arg;
	return 0;
}

START_TEST(a_full_disk_changes_nothing)
{
	char big[3000];
	unsigned n = 0, found = 0;
	int r = 0;
	memset(big, 'x', sizeof(big));
	sim_disk_set_space(disk, 300 << 10);
	while (n < 1000 && (r = journal_append(journal, big, sizeof(big), NULL)) == 0)
		n++;
	ck_assert_int_eq(r, -ENOSPC);
	ck_assert_uint_gt(n, 10);
	const void *records[] = {big, big, big};
	size_t sizes[] = {sizeof(big), sizeof(big), sizeof(big)};
	ck_assert_int_eq(journal_replace(journal, records, sizes, 3, NULL), -ENOSPC);
	ck_assert_int_eq(journal_load(journal, count, &found, NULL), 0);
	ck_assert_uint_eq(found, n);
	sim_disk_set_space(disk, 340 << 10);
	ck_assert_int_eq(append("one"), 0);
	ck_assert_int_eq(replace("a", "b"), 0); /* and the old one gives its space back */
	reopen();
	check_loaded("a b ");
	sim_disk_set_space(disk, 300 << 10);
	ck_assert_int_eq(append("c"), 0);
}
END_TEST

/*
 * The power fails after every operation: acknowledged records are there, in order; at most the one
 * that was under way is there too. A replacement is there or is not.
 */
static bool is_possible(const char *found, const char *acknowledged, const char *under_way)
{
	return strcmp(found, acknowledged) == 0 || strcmp(found, under_way) == 0;
}

static void run_cut(uint64_t cut, uint64_t crash, bool *ret_done)
{
	char acknowledged[256] = "", next[300] = "";
	new_disk(crash + 1);
	sim_disk_cut_after(disk, cut);
	int r = 0;
	for (unsigned i = 0; i < 9 && r == 0; i++) {
		char word[3] = {'w', (char)('0' + i), '\0'};
		bool whole = i % 4 == 3;
		(void)snprintf(next, sizeof(next), "%s%s ", whole ? "a " : acknowledged, word);
		if (i == 6) /* another process goes on */
			reopen();
		r = whole ? replace("a", word) : append(word);
		if (r == 0)
			(void)snprintf(acknowledged, sizeof(acknowledged), "%.250s", next);
	}
	*ret_done = r == 0;
	struct disk *crashed = sim_disk_crash(disk, crash);
	journal_free(journal);
	disk_free(disk);
	disk = crashed;
	open_journal();
	struct reterr err = {0};
	r = load(&err);
	ck_assert_msg(r == 0 && is_possible(told, acknowledged, next),
		      "cut %u crash %u: %d %s: found '%s', acknowledged '%s'", (unsigned)cut,
		      (unsigned)crash, r, err.text, told, acknowledged);
	char before[256];
	strcpy(before, told);
	ck_assert_int_eq(append("end"), 0);
	strcat(before, "end ");
	reopen();
	check_loaded(before);
}

START_TEST(a_power_cut_after_any_operation_loses_nothing_acknowledged)
{
	bool done = false;
	uint64_t cut = 0;
	for (; !done; cut++)
		for (uint64_t crash = 0; crash < 12; crash++)
			run_cut(cut, crash, &done);
	ck_assert_uint_gt(cut, 30);
}
END_TEST

START_TEST(no_memory_is_an_error_and_nothing_else)
{
	ck_assert_int_eq(append("one"), 0);
	for (unsigned n = 1; n < 30; n++) {
		reopen();
		fault_alloc_fail(n);
		int r = journal_append(journal, "x", 1, NULL);
		(void)fault_alloc_stop();
		ck_assert(r == 0 || r == -ENOMEM);
		ck_assert_int_eq(load(NULL), 0);
	}
}
END_TEST

/* ---- Through the engine --------------------------------------------------------------------- */

START_TEST(the_engine_keeps_a_journal)
{
	struct engine *e;
	struct disk *memory;
	struct engine_fsck_result result;
	struct engine_fsck_options options = {.repair = true};
	ck_assert_int_eq(disk_memory_new(64 << 20, &memory), 0);
	ck_assert_int_eq(engine_format(memory, NULL, NULL), 0);
	ck_assert_int_eq(engine_open(memory, NULL, NULL, &e), 0);
	told[0] = '\0';
	ck_assert_int_eq(engine_journal_load(e, tell, NULL, NULL), 0);
	ck_assert_str_eq(told, "");
	ck_assert_int_eq(engine_journal_append(e, "one", 3, NULL), 0);
	ck_assert_int_eq(engine_journal_append(e, "two", 3, NULL), 0);
	ck_assert_int_eq(engine_close(e, NULL), 0);

	struct engine_options reader = {.read_only = true};
	ck_assert_int_eq(engine_open(memory, &reader, NULL, &e), 0);
	ck_assert_int_eq(engine_journal_load(e, tell, NULL, NULL), 0);
	ck_assert_str_eq(told, "one two ");
	ck_assert_int_eq(engine_journal_append(e, "no", 2, NULL), -EROFS);
	ck_assert_int_eq(engine_close(e, NULL), 0);

	struct disk_file *file;
	uint8_t wrong = 0xee;
	ck_assert_int_eq(disk_open(memory, JOURNAL_PATH, DISK_WRITE, &file), 0);
	ck_assert_int_eq(disk_write_flush(file, &wrong, 1,
					  JOURNAL_HEADER_SIZE + journal_record_span(3) + 40),
			 0);
	disk_close(file);
	ck_assert_int_eq(engine_fsck(memory, &options, &result, NULL), 0);
	ck_assert_uint_eq(result.problems, 1);
	ck_assert_uint_eq(result.fixed, 1);
	disk_free(memory);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("journal");
	TCase *tcase = tcase_create("journal");

	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, records_come_back_in_order);
	tcase_add_test(tcase, an_append_needs_no_load_before);
	tcase_add_test(tcase, replace_puts_these_in_the_place_of_all);
	tcase_add_test(tcase, a_negative_return_ends_the_load);
	tcase_add_test(tcase, records_have_a_size_at_most);
	tcase_add_test(tcase, a_last_record_that_is_cut_at_any_byte_is_none);
	tcase_add_test(tcase, a_flipped_bit_anywhere_before_the_last_record_is_damage);
	tcase_add_test(tcase, after_a_clean_stop_the_last_record_is_not_torn_but_damaged);
	tcase_add_test(tcase, marks_between_records_are_told_to_nobody);
	tcase_add_test(tcase, a_payload_cannot_pass_for_a_later_record);
	tcase_add_test(tcase, repair_keeps_what_is_before_the_damage);
	tcase_add_test(tcase, another_stores_journal_is_damage);
	tcase_add_test(tcase, read_only_writes_nothing);
	tcase_add_test(tcase, after_a_failure_nothing_is_appended_behind_unknown_bytes);
	tcase_add_test(tcase, a_full_disk_changes_nothing);
	tcase_add_test(tcase, a_power_cut_after_any_operation_loses_nothing_acknowledged);
	tcase_add_test(tcase, no_memory_is_an_error_and_nothing_else);
	tcase_add_test(tcase, the_engine_keeps_a_journal);
	suite_add_tcase(suite, tcase);

	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
