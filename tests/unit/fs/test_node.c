/* Node ids are what they were made of; the table finds what was added until its last reference goes. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "fs/node.h"
#include "fs/view.h"

static const struct view view = {.name = "a test"};

START_TEST(test_round_trip)
{
	static const uint32_t numbers[] = {0, 1, 2, 1000, NODE_NUMBER_MAX - 1, NODE_NUMBER_MAX};
	const uint64_t offsets[] = {
		0, 1, 9, (uint64_t)1 << 32, NODE_OFFSET_MAX - 1, NODE_OFFSET_MAX};

	for (enum node_kind kind = 0; kind < NODE_KINDS; kind++) {
		for (size_t n = 0; n < ARRAY_SIZE(numbers); n++) {
			for (size_t o = 0; o < ARRAY_SIZE(offsets); o++) {
				uint64_t id = node_make(kind, numbers[n], offsets[o]);
				ck_assert_int_eq(node_kind(id), kind);
				ck_assert_uint_eq(node_number(id), numbers[n]);
				ck_assert_uint_eq(node_offset(id), offsets[o]);
			}
		}
	}
}
END_TEST

/* The bits are part of the contract: an id in a log can be read. */
START_TEST(test_bits)
{
	ck_assert_uint_eq(node_make(NODE_ALLOCATED, 0, NODE_TOP), 1);
	ck_assert_uint_eq(node_make(NODE_ATOM, 1, 0x10),
			  (uint64_t)2 << 61 | (uint64_t)1 << 36 | 0x10);
	ck_assert_uint_eq(node_of_root(5, true), (uint64_t)5 << 61 | 11);
}
END_TEST

START_TEST(test_roots)
{
	const uint64_t seqs[] = {1, 2, NODE_NUMBER_MAX, (uint64_t)1 << 40, NODE_ROOT_SEQ_MAX};
	for (size_t i = 0; i < ARRAY_SIZE(seqs); i++) {
		for (int by_time = 0; by_time < 2; by_time++) {
			uint64_t id = node_of_root(seqs[i], by_time);
			ck_assert_int_eq(node_kind(id), NODE_ROOT);
			ck_assert_uint_eq(node_root_seq(id), seqs[i]);
			ck_assert_int_eq(node_root_by_time(id), by_time);
		}
	}
}
END_TEST

struct counted {
	struct node node;
	int *freed;
};

static void counted_free(struct node *node)
{
	struct counted *counted = (struct counted *)node;
	(*counted->freed)++;
	free(counted);
}

static struct counted *counted_add(struct node_table *table, int *freed, int want)
{
	struct counted *counted = calloc(1, sizeof(*counted));
	ck_assert_ptr_nonnull(counted);
	counted->freed = freed;
	ck_assert_int_eq(node_add(table, &counted->node, &view, counted_free), want);
	return counted;
}

START_TEST(test_references)
{
	struct node_table *table;
	int freed = 0;
	ck_assert_int_eq(node_table_new(&table), 0);
	struct counted *counted = counted_add(table, &freed, 0);
	uint64_t id = counted->node.id;
	ck_assert_uint_ge(id, NODE_FIXED_MAX);
	ck_assert_int_eq(node_kind(id), NODE_ALLOCATED);

	ck_assert_ptr_eq(node_get(table, id), &counted->node);
	node_ref(&counted->node, 3);
	node_unref(table, &counted->node, 4);
	ck_assert_int_eq(freed, 0);
	ck_assert_ptr_nonnull(node_get(table, id));
	node_unref(table, &counted->node, 2);
	ck_assert_int_eq(freed, 1);
	ck_assert_ptr_null(node_get(table, id));

	/* An id never comes back. */
	counted = counted_add(table, &freed, 0);
	ck_assert_uint_ne(counted->node.id, id);
	node_table_free(table);
	ck_assert_int_eq(freed, 2);
}
END_TEST

START_TEST(test_full)
{
	struct node_table *table;
	int freed = 0;
	ck_assert_int_eq(node_table_new(&table), 0);
	struct counted *first = counted_add(table, &freed, 0);
	for (int i = 1; i < NODE_TABLE_MAX; i++)
		(void)counted_add(table, &freed, 0);
	free(counted_add(table, &freed, -ENOSPC));
	node_unref(table, &first->node, 1);
	(void)counted_add(table, &freed, 0);
	node_table_free(table);
	ck_assert_int_eq(freed, NODE_TABLE_MAX + 1);
}
END_TEST

START_TEST(test_fixed)
{
	struct node_table *table;
	struct node node = {0};
	ck_assert_int_eq(node_table_new(&table), 0);
	ck_assert_ptr_null(node_get(table, NODE_SPACE));
	node_add_fixed(table, NODE_SPACE, &node, &view);
	ck_assert_ptr_eq(node_get(table, NODE_SPACE), &node);
	/* References do not count: it is there for good. */
	node_unref(table, &node, 7);
	ck_assert_ptr_eq(node_get(table, NODE_SPACE), &node);
	node_table_free(table);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("node");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, test_round_trip);
	tcase_add_test(tests, test_bits);
	tcase_add_test(tests, test_roots);
	tcase_add_test(tests, test_references);
	tcase_add_test(tests, test_full);
	tcase_add_test(tests, test_fixed);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
