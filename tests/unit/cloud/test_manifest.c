#include "cloud/manifest.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/manifest_chain.h"
#include "cloud/upload_journal.h"
#include "tests/lib/fault_alloc.h"

#define U1 "01234567-89ab-cdef-0123-456789abcdef"
#define U2 "11234567-89ab-cdef-0123-456789abcdef"

static struct manifest_segment segments[2];

/* A round of a trickle: one segment, numbers as large as in years of use. */
static struct manifest trickle(void)
{
	struct manifest m = {
		.n = 6300000,
		.since = 6299999,
		.epoch = 1234,
		.session = UINT64_C(0x0123456789abcdef),
		.host = "storage-07",
		.block_size = 5242880,
		.root = {.seq = 123456789,
			 .offset = 1073741823,
			 .time_ns = 1763654400000000000,
			 .node = 1},
		.segments = segments,
		.segment_count = 1,
	};
	ck_assert_int_eq(uuid_parse(U1, &m.owner), 0);
	ck_assert_int_eq(uuid_parse(U2, &m.root.segment), 0);
	memset(m.previous.bytes, 0xab, sizeof(m.previous.bytes));
	m.since_hash = m.previous;
	segments[0] = (struct manifest_segment){.length = 1073741824, .summed = true};
	ck_assert_int_eq(uuid_parse(U1, &segments[0].uuid), 0);
	segments[1] = (struct manifest_segment){.length = 7, .class = 2, .ended = true};
	ck_assert_int_eq(uuid_parse(U2, &segments[1].uuid), 0);
	return m;
}

static struct buf print(const struct manifest *m)
{
	struct buf text = {.max = MANIFEST_SIZE_MAX};
	ck_assert_int_eq(manifest_print(m, &text), 0);
	return text;
}

static int parse(const char *text, struct manifest *ret, struct reterr *err)
{
	return manifest_parse((struct slice){.data = (const uint8_t *)text, .size = strlen(text)},
			      ret, err);
}

static void check_same_root(const struct source_root *a, const struct source_root *b)
{
	ck_assert_uint_eq(a->seq, b->seq);
	ck_assert(uuid_equal(&a->segment, &b->segment));
	ck_assert_uint_eq(a->offset, b->offset);
	ck_assert_uint_eq(a->time_ns, b->time_ns);
	ck_assert_uint_eq(a->node, b->node);
	ck_assert_uint_eq(a->payload_size, b->payload_size);
	ck_assert(memcmp(a->payload, b->payload, a->payload_size) == 0);
}

static void check_same_segment(const struct manifest_segment *a, const struct manifest_segment *b)
{
	ck_assert(uuid_equal(&a->uuid, &b->uuid));
	ck_assert_uint_eq(a->length, b->length);
	ck_assert_uint_eq(a->class, b->class);
	ck_assert_int_eq(a->ended, b->ended);
	ck_assert_int_eq(a->summed, b->summed);
	ck_assert(!a->summed || hash_equal(&a->sum, &b->sum));
}

static void check_equal(const struct manifest *a, const struct manifest *b)
{
	ck_assert_uint_eq(a->n, b->n);
	ck_assert(hash_equal(&a->previous, &b->previous));
	ck_assert_uint_eq(a->since, b->since);
	ck_assert(a->since == 0 || hash_equal(&a->since_hash, &b->since_hash));
	ck_assert(uuid_equal(&a->owner, &b->owner));
	ck_assert_str_eq(a->host, b->host);
	ck_assert_uint_eq(a->epoch, b->epoch);
	ck_assert_uint_eq(a->session, b->session);
	ck_assert_uint_eq(a->block_size, b->block_size);
	check_same_root(&a->root, &b->root);
	ck_assert_uint_eq(a->segment_count, b->segment_count);
	for (size_t i = 0; i < a->segment_count; i++)
		check_same_segment(&a->segments[i], &b->segments[i]);
}

START_TEST(test_round_trip)
{
	struct manifest m = trickle(), got;
	m.segment_count = 2;
	for (unsigned variant = 0; variant < 6; variant++) {
		if (variant == 1)
			m.since = 0;
		if (variant == 2)
			m.since = 17;
		if (variant == 3)
			m.root.payload_size = SOURCE_ROOT_PAYLOAD_MAX;
		if (variant == 4)
			m.root = (struct source_root){.seq = 0};
		if (variant == 5)
			m.segment_count = 0;
		struct buf text = print(&m);
		struct reterr err = {0};
		int r = manifest_parse((struct slice){text.data, text.size}, &got, &err);
		ck_assert_msg(r == 0, "%s", err.text);
		check_equal(&m, &got);
		manifest_done(&got);
		buf_done(&text);
	}
}
END_TEST

/* So that a trickle's manifests stay below a tenth of what it writes in an interval. */
START_TEST(test_small)
{
	struct manifest m = trickle();
	struct buf text = print(&m);
	ck_assert_uint_lt(text.size, 500);
	buf_done(&text);
}
END_TEST

START_TEST(test_every_prefix)
{
	struct manifest m = trickle(), got;
	m.segment_count = 2;
	struct buf text = print(&m);
	for (size_t size = 0; size < text.size; size++) {
		struct reterr err = {0};
		uint8_t *copy = malloc(size + 1);
		memcpy(copy, text.data, size);
		ck_assert_int_eq(manifest_parse((struct slice){copy, size}, &got, &err), -EBADMSG);
		ck_assert_int_ne(err.text[0], '\0');
		free(copy);
	}
	buf_done(&text);
}
END_TEST

#define HEAD                                                                                       \
	"\"version\":1,\"n\":9,\"previous\":\"00000000000000000000000000000000\",\"owner\":\"" U1  \
	"\",\"host\":\"h\",\"epoch\":1,\"session\":\"0000000000000001\",\"block_size\":65536"
#define SEGMENT(uuid) "{\"uuid\":\"" uuid "\",\"class\":0,\"length\":5}"

static const struct {
	const char *text, *why;
} refused[] = {
	{"[]", "where none may"},
	{"{}", "\"version\" is missing"},
	{"{" HEAD "}", "\"segments\" is missing"},
	{"{" HEAD ",\"segments\":{}}", "another type"},
	{"{" HEAD ",\"n\":10,\"segments\":[]}", "twice"},
	{"{" HEAD ",\"segments\":[1]}", "where none may"},
	{"{" HEAD ",\"segments\":[{}]}", "\"uuid\" is missing"},
	{"{" HEAD ",\"segments\":[" SEGMENT(U2) "," SEGMENT(U1) "]}", "order"},
	{"{" HEAD ",\"segments\":[" SEGMENT(U1) "," SEGMENT(U1) "]}", "order"},
	{"{" HEAD ",\"segments\":[{\"uuid\":\"../../etc/passwd\"}]}", "form"},
	{"{" HEAD
	 ",\"segments\":[],\"since\":9,\"since_hash\":\"00000000000000000000000000000000\"}",
	 "earlier"},
	{"{" HEAD ",\"segments\":[],\"since\":3}", "contradict"},
	{"{" HEAD ",\"segments\":[],\"full\":1}", "type"},
	{"{" HEAD ",\"segments\":[],\"root\":{\"seq\":1}}", "\"transaction_id\" is missing"},
	{"{" HEAD ",\"segments\":[],\"root\":{\"seq\":-1}}", "whole number"},
	{"{" HEAD ",\"segments\":[],\"root\":{\"seq\":18446744073709551616}}", "too large"},
	{"{" HEAD ",\"segments\":[],\"x\":[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}", "deep"},
	{"{" HEAD ",\"segments\":[]} x", "no JSON"},
	{"{\"version\":2}", "later program"},
};

START_TEST(test_refused)
{
	struct manifest got;
	struct reterr err = {0};
	ck_assert_int_eq(parse(refused[_i].text, &got, &err), -EBADMSG);
	ck_assert_msg(strstr(err.text, refused[_i].why) != NULL, "%s: %s", refused[_i].text,
		      err.text);
}
END_TEST

START_TEST(test_taken)
{
	struct manifest got;
	struct reterr err = {0};
	ck_assert_int_eq(parse("{" HEAD ",\"segments\":[],\"new\":{\"n\":[1,null,{\"n\":2}]},"
			       "\"newer\":-1.5e3,\"full\":false}",
			       &got, &err),
			 0);
	ck_assert_uint_eq(got.n, 9);
	ck_assert_uint_eq(got.since, 8);
	manifest_done(&got);
	/* What reaches a terminal is text. */
	ck_assert_int_eq(
		parse("{\"version\":1,\"n\":1,\"previous\":\"00000000000000000000000000000000\","
		      "\"owner\":\"" U1 "\",\"host\":\"a\\u001b[31m b\",\"epoch\":1,"
		      "\"session\":\"0000000000000001\",\"block_size\":65536,\"full\":true,"
		      "\"segments\":[]}",
		      &got, &err),
		0);
	ck_assert_str_eq(got.host, "a?[31m?b");
	manifest_done(&got);
}
END_TEST

START_TEST(test_no_memory)
{
	struct manifest m = trickle(), got;
	m.segment_count = 2;
	struct buf text = print(&m);
	bool failed;
	uint64_t n = 0;
	do {
		fault_alloc_fail(++n);
		int r = manifest_parse((struct slice){text.data, text.size}, &got, NULL);
		failed = fault_alloc_stop();
		ck_assert_int_eq(r, failed ? -ENOMEM : 0);
	} while (failed);
	manifest_done(&got);
	buf_done(&text);
}
END_TEST

/* ---- The journal's records ------------------------------------------------------------------- */

struct seen {
	struct upload_chain chain;
	struct upload_segment segment;
	uint64_t n;
	size_t text_size;
	unsigned items;
};

static int see_chain(void *arg, const struct upload_chain *chain)
{
	struct seen *seen = arg;
	seen->chain = *chain;
	seen->items++;
	return 0;
}

static int see_segment(void *arg, const struct upload_segment *segment)
{
	struct seen *seen = arg;
	seen->segment = *segment;
	seen->items++;
	return 0;
}

static int see_manifest(void *arg, uint64_t n, struct slice text)
{
	struct seen *seen = arg;
	seen->n = n;
	seen->text_size = text.size;
	seen->items++;
	return 0;
}

static int see_fenced(void *arg, struct slice why)
{
	struct seen *seen = arg;
	ck_assert_uint_eq(why.size, 3);
	seen->items++;
	return 0;
}

START_TEST(test_record)
{
	struct seen seen = {.items = 0};
	const struct upload_record_visitor visitor = {see_chain, see_segment, see_manifest,
						      see_fenced, &seen};
	struct upload_chain chain = {.block_size = 65536, .n = 5, .epoch = 2, .run_count = 2};
	chain.root = (struct source_root){.seq = 8, .payload_size = 3};
	chain.runs[1] = (struct manifest_run){.n = 4, .entries = 9};
	const struct upload_segment segment = {.full = 65536,
					       .tail_at = 65536,
					       .tail_to = 65540,
					       .intent_from = 65540,
					       .intent_to = 65541,
					       .trash = UPLOAD_NONE,
					       .trash_sent = 0,
					       .listed = 65539,
					       .listed_n = 5,
					       .class = 2,
					       .summed = true};
	CLEANUP(buf_done) struct buf record = {.max = 0};
	ck_assert_int_eq(upload_record_begin(&record), 0);
	ck_assert_int_eq(upload_record_chain(&record, &chain), 0);
	ck_assert_int_eq(upload_record_segment(&record, &segment), 0);
	ck_assert_int_eq(
		upload_record_manifest(&record, 6, (struct slice){(const uint8_t *)"{}", 2}), 0);
	ck_assert_int_eq(upload_record_fenced(&record, "why"), 0);
	ck_assert_int_eq(upload_record_end(&record), 0);
	ck_assert_int_eq(upload_record_read((struct slice){record.data, record.size}, &visitor), 0);
	ck_assert_uint_eq(seen.items, 4);
	ck_assert_uint_eq(seen.chain.n, 5);
	ck_assert_uint_eq(seen.chain.root.seq, 8);
	ck_assert_uint_eq(seen.chain.runs[1].entries, 9);
	ck_assert_uint_eq(seen.segment.tail_to, 65540);
	ck_assert_uint_eq(seen.segment.intent_to, 65541);
	/* What was being deleted is to be deleted. */
	ck_assert_uint_eq(seen.segment.trash, 0);
	ck_assert_uint_eq(seen.segment.trash_sent, UPLOAD_NONE);
	ck_assert(seen.segment.summed && !seen.segment.listed_ended);
	ck_assert_uint_eq(seen.n, 6);
	ck_assert_uint_eq(seen.text_size, 2);

	/* No part of a record counts unless all of it does. */
	seen.items = 0;
	for (size_t size = 0; size < record.size; size++)
		ck_assert_int_eq(upload_record_read((struct slice){record.data, size}, &visitor),
				 -EBADMSG);
	for (size_t i = 0; i < record.size; i++) {
		record.data[i] ^= 1;
		ck_assert_int_eq(
			upload_record_read((struct slice){record.data, record.size}, &visitor),
			-EBADMSG);
		record.data[i] ^= 1;
	}
	ck_assert_uint_eq(seen.items, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("manifest");
	TCase *tcase = tcase_create("manifest");
	tcase_add_test(tcase, test_round_trip);
	tcase_add_test(tcase, test_small);
	tcase_add_test(tcase, test_every_prefix);
	tcase_add_loop_test(tcase, test_refused, 0, (int)ARRAY_SIZE(refused));
	tcase_add_test(tcase, test_taken);
	tcase_add_test(tcase, test_no_memory);
	tcase_add_test(tcase, test_record);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
