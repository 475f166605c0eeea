/*
 * kill -9 of the uploader at every write of its journal and at every request: what it put is never
 * put twice, and in the end the place holds the segments byte for byte.
 */
#include "tests/unit/cloud/upload_driver.h"

struct story {
	struct source_model source;
	struct watch_store *place;
	struct block_store *net;
	struct uuid store;
	uint64_t random;
	uint64_t session;
	unsigned chapter;
	uint32_t log, foreign;
};

static void story_begin(struct story *s, uint64_t seed)
{
	now_ms = 1000000;
	*s = (struct story){.random = seed, .session = seed << 8, .store = source_model_uuid(99)};
	source_model_init(&s->source, 2 * BLOCK);
	s->place = watch_new();
	const struct faulty_options none = {.seed = seed};
	ck_assert_int_eq(faulty_store_new(&s->place->base, &none, &s->net), 0);
}

static void story_end(struct story *s)
{
	block_store_free(s->net);
	block_store_free(&s->place->base);
	source_model_done(&s->source);
}

/* What the store's users do. */
static void chapter(struct story *s)
{
	struct source_model *m = &s->source;
	struct uuid uuid;
	switch (s->chapter++) {
	case 0:
		uuid = source_model_uuid(1);
		s->log = source_model_add(m, &uuid, 1, false);
		source_model_append(m, s->log, 1000);
		source_model_publish(m, s->log);
		break;
	case 1:
		source_model_append(m, s->log, 3 * BLOCK + 77);
		break;
	case 2:
		uuid = source_model_uuid(2);
		s->foreign = source_model_add(m, &uuid, 2, true);
		source_model_append(m, s->foreign, BLOCK / 2);
		source_model_publish(m, s->log);
		break;
	case 3:
		source_model_append(m, s->log, 500);
		source_model_finish(m, s->log);
		source_model_append(m, s->foreign, BLOCK);
		break;
	case 4:
		uuid = source_model_uuid(3);
		s->log = source_model_add(m, &uuid, 3, false);
		source_model_append(m, s->log, 2 * BLOCK);
		source_model_publish(m, s->log);
		break;
	default:
		break;
	}
}

enum { CHAPTERS = 5 };

/* Lives until it is dead, or all is told. True: it died. */
static bool live(struct story *s, struct writer *w)
{
	while (s->chapter < CHAPTERS) {
		chapter(s);
		upload_plan_changed(w->plan, now_ms);
		for (unsigned i = 0; i < 400; i++) {
			/* Nothing answers any more: it is dead, whatever it believes. */
			if (s->source.journal_left == 0)
				return true;
			if (!writer_step(w, &s->random))
				now_ms += INTERVAL_MS / 2;
			if (!upload_dirty(w->plan) && w->plan->phase == PHASE_RUN)
				break;
		}
	}
	return false;
}

static void check_whole(struct story *s, bool journal_lost)
{
	struct restore_point point;
	struct reterr err = {0};
	int r = restore_point_find(&s->place->base, true, &err, &point);
	ck_assert_msg(r == 0, "%s", err.text);
	ck_assert_uint_eq(point.root.seq, s->source.root.seq);
	ck_assert_uint_eq(point.segment_count, s->source.count);
	for (size_t i = 0; i < point.segment_count; i++) {
		const struct restore_segment *got = &point.segments[i];
		const struct source_model_segment *m = source_model_find(&s->source, &got->uuid);
		ck_assert_ptr_nonnull(m);
		ck_assert_uint_eq(got->length, m->info.durable);
		ck_assert_uint_eq(got->length_manifest, m->info.durable);
		ck_assert_int_eq(got->ended, m->info.final);
		check_bytes(&s->place->base, &s->source, &got->uuid, got->length);
		/* Blocks, and deltas of the last one alone. */
		struct assembly a = assemble(&s->place->base, &got->uuid);
		uint64_t blocks = m->info.durable / BLOCK;
		if (m->info.final)
			ck_assert_uint_eq(a.objects, blocks + (m->info.durable % BLOCK > 0));
		/* A delta that may be there is put again as it was. */
		if (!journal_lost)
			ck_assert_uint_eq(a.overlaps, 0);
		free(a.data);
	}
	restore_point_done(&point);
	for (size_t i = 0; i < s->place->count; i++)
		ck_assert_uint_eq(s->place->keys[i].puts, 1);
}

/* The next life: no faults. */
static void live_on(struct story *s, bool journal_lost)
{
	struct writer *w = calloc(1, sizeof(*w));
	const struct faulty_options none = {.seed = 1};
	block_store_free(s->net);
	ck_assert_int_eq(faulty_store_new(&s->place->base, &none, &s->net), 0);
	s->source.journal_left = UINT64_MAX;
	/* Each start begins a new segment and ends the old one. */
	for (unsigned i = 0; i < s->source.count; i++)
		if (!s->source.segments[i].info.foreign)
			s->source.segments[i].info.final = true;
	if (s->chapter > 0 && s->chapter < 4) {
		struct uuid uuid = source_model_uuid(50);
		s->log = source_model_add(&s->source, &uuid, 50, false);
		source_model_append(&s->source, s->log, 10);
	}
	/* A delta that was on its way is not the one that would be made now. */
	if (s->foreign > 0)
		source_model_append(&s->source, s->foreign, 33);
	writer_start(w, &s->source, s->net, s->store, ++s->session, false);
	ck_assert(!live(s, w));
	writer_settle(w, &s->random);
	ck_assert(!writer_fenced(w));
	check_whole(s, journal_lost);
	/* Nothing to do means no request. */
	uint64_t requests = s->place->requests;
	for (unsigned i = 0; i < 100; i++) {
		now_ms += 60000;
		while (writer_step(w, &s->random))
			;
	}
	ck_assert_uint_eq(s->place->requests, requests);
	writer_kill(w);
	free(w);
}

/* Dies after N writes of the journal or N requests that took effect. False: it did not die. */
static bool die_after(uint64_t n, bool journal, uint64_t seed)
{
	struct story s;
	struct writer *w = calloc(1, sizeof(*w));
	story_begin(&s, seed);
	writer_start(w, &s.source, s.net, s.store, ++s.session, false);
	if (journal)
		s.source.journal_left = n;
	else
		faulty_store_cut_after(s.net, n);
	bool died = live(&s, w);
	if (!journal) {
		died = upload_dirty(w->plan) || w->plan->phase != PHASE_RUN;
	}
	writer_kill(w);
	free(w);
	live_on(&s, false);
	/* Only what was on its way is sent again; what an answer came for never is. */
	ck_assert_uint_le(s.place->put_again, 1);
	story_end(&s);
	return died;
}

START_TEST(test_no_crash)
{
	struct story s;
	story_begin(&s, 1);
	live_on(&s, false);
	ck_assert_uint_eq(s.place->put_again, 0);
	story_end(&s);
}
END_TEST

START_TEST(test_journal)
{
	uint64_t n = 0;
	while (die_after(n, true, 1000 + n))
		n++;
	ck_assert_uint_gt(n, 10);
}
END_TEST

START_TEST(test_requests)
{
	uint64_t n = 0;
	while (die_after(n, false, 2000 + n))
		n++;
	ck_assert_uint_ge(n, 20);
}
END_TEST

/* The journal is lost, the store is not: it goes on where the place says. */
START_TEST(test_journal_lost)
{
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct story s;
		struct writer *w = calloc(1, sizeof(*w));
		story_begin(&s, seed);
		writer_start(w, &s.source, s.net, s.store, ++s.session, false);
		faulty_store_cut_after(s.net, seed);
		(void)live(&s, w);
		writer_kill(w);
		free(w);
		for (size_t i = 0; i < s.source.journal_count; i++)
			free(s.source.journal[i].data);
		s.source.journal_count = 0;
		live_on(&s, true);
		story_end(&s);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("uploader crashes");
	TCase *tcase = tcase_create("crash");
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, test_no_crash);
	tcase_add_test(tcase, test_journal);
	tcase_add_test(tcase, test_requests);
	tcase_add_test(tcase, test_journal_lost);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
