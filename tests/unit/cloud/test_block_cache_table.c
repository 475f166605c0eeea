/* What goes first: a scan must not push out what is wanted again and again. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/block_cache_table.h"
#include "tests/lib/fault_alloc.h"

enum { BLOCK = 4096, DISK = 2 * BLOCK, ROOM = 40 };

static struct cache_table table;
static uint64_t now_ms;
static uint64_t used, hits, misses;

static void setup(void)
{
	ck_assert_int_eq(cache_table_init(&table, ROOM * DISK, DISK), 0);
	now_ms = 1000;
	used = hits = misses = 0;
}

static void teardown(void)
{
	cache_table_done(&table);
}

static struct hash id_of(unsigned number)
{
	return hash_of(&number, sizeof(number));
}

static bool has(unsigned number)
{
	struct hash id = id_of(number);
	return cache_table_find(&table, &id) != NULL;
}

static void make_room(void)
{
	while (used + DISK > table.size_max) {
		struct cache_entry *victim = cache_table_victim(&table);
		ck_assert_ptr_nonnull(victim);
		used -= victim->disk;
		cache_table_remove(&table, victim, true);
		free(victim);
	}
}

/* As the cache does: reads SIZE bytes of a block, which comes in if it is not there. */
static void use(unsigned number, uint64_t size)
{
	struct hash id = id_of(number);
	struct cache_entry *entry = cache_table_find(&table, &id);
	hits += entry != NULL;
	misses += entry == NULL;
	if (!entry) {
		make_room();
		entry = calloc(1, sizeof(*entry));
		entry->id = id;
		entry->disk = DISK;
		entry->file.head.size = BLOCK;
		cache_table_insert(&table, entry, now_ms);
		used += DISK;
	}
	cache_table_touch(&table, entry, size, now_ms);
	ck_assert_uint_eq(table.probation.bytes + table.main.bytes, used);
}

/* From its beginning to its end, in pieces. */
static void scan(unsigned number)
{
	for (unsigned i = 0; i < 8; i++)
		use(number, BLOCK / 8);
	now_ms += 10;
}

START_TEST(the_oldest_goes_first)
{
	for (unsigned i = 0; i < 2 * ROOM; i++)
		scan(i);
	for (unsigned i = 0; i < 2 * ROOM; i++)
		ck_assert(has(i) == (i >= ROOM));
	ck_assert_uint_eq(table.count, ROOM);
	ck_assert_uint_eq(table.main.bytes, 0);
}
END_TEST

START_TEST(a_scan_does_not_flush_what_is_used_again)
{
	/* Three quarters of the room, twice, with time in between. */
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < ROOM * 3 / 4; i++)
			scan(i);
		now_ms += 10000;
	}
	for (unsigned i = 1000; i < 1000 + 100 * ROOM; i++)
		scan(i);
	hits = misses = 0;
	for (unsigned i = 0; i < ROOM * 3 / 4; i++)
		use(i, 1);
	ck_assert_uint_eq(misses, 0);
}
END_TEST

START_TEST(what_is_read_twice_as_a_whole_stays)
{
	for (unsigned i = 0; i < 10; i++) {
		scan(i);
		scan(i);
	}
	for (unsigned i = 1000; i < 1000 + 10 * ROOM; i++)
		scan(i);
	for (unsigned i = 0; i < 10; i++)
		ck_assert(has(i));
}
END_TEST

START_TEST(what_comes_back_soon_stays)
{
	for (unsigned i = 0; i < ROOM + 5; i++)
		scan(i);
	for (unsigned i = 0; i < 5; i++) {
		ck_assert(!has(i));
		scan(i);
	}
	for (unsigned i = 1000; i < 1000 + 10 * ROOM; i++)
		scan(i);
	for (unsigned i = 0; i < 5; i++)
		ck_assert(has(i));
}
END_TEST

START_TEST(what_is_pinned_or_busy_stays)
{
	for (unsigned i = 0; i < ROOM; i++)
		scan(i);
	struct hash first = id_of(0), second = id_of(1);
	cache_table_find(&table, &first)->pins = 1;
	cache_table_find(&table, &second)->busy = true;
	for (unsigned i = 1000; i < 1000 + 10 * ROOM; i++)
		scan(i);
	ck_assert(has(0) && has(1));
	struct cache_entry *entry = NULL;
	size_t count = 0;
	while ((entry = cache_table_next(&table, entry)) != NULL) {
		entry->pins = 1;
		count++;
	}
	ck_assert_uint_eq(count, table.count);
	ck_assert_ptr_null(cache_table_victim(&table));
}
END_TEST

/* Half of the reads go to a tenth of the blocks: those must be there nearly always. */
START_TEST(a_hot_set_among_random_reads)
{
	uint64_t random = 1;
	uint64_t hot = 0, hot_hits = 0;
	for (unsigned i = 0; i < 50000; i++) {
		random = random * UINT64_C(6364136223846793005) + 1442695040888963407U;
		unsigned draw = (unsigned)(random >> 40);
		bool is_hot = draw % 2 == 0;
		uint64_t before = hits;
		use(is_hot ? draw / 2 % 30 : 100 + draw / 2 % 10000, 100);
		now_ms += 100;
		if (i > 10000 && is_hot) {
			hot++;
			hot_hits += hits - before;
		}
	}
	ck_assert_uint_gt(hot_hits * 100, hot * 95);
}
END_TEST

START_TEST(no_memory)
{
	struct cache_table none;
	if (!fault_alloc_available())
		return;
	for (unsigned n = 1; n <= 2; n++) {
		fault_alloc_fail(n);
		int r = cache_table_init(&none, 1 << 20, 1 << 16);
		ck_assert(fault_alloc_stop());
		ck_assert_int_lt(r, 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("block_cache_table");
	TCase *tcase = tcase_create("block_cache_table");
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, the_oldest_goes_first);
	tcase_add_test(tcase, a_scan_does_not_flush_what_is_used_again);
	tcase_add_test(tcase, what_is_read_twice_as_a_whole_stays);
	tcase_add_test(tcase, what_comes_back_soon_stays);
	tcase_add_test(tcase, what_is_pinned_or_busy_stays);
	tcase_add_test(tcase, a_hot_set_among_random_reads);
	tcase_add_test(tcase, no_memory);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
