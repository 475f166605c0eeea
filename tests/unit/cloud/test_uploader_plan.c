/* What uploading costs, on a clock that is a number; and what the plan does when things go wrong. */
#include "tests/lib/fault_alloc.h"
#include "tests/unit/cloud/upload_driver.h"

enum { MIB = 1 << 20, BLOCK_5M = 5 * MIB };

struct rig {
	struct source_model source;
	struct watch_store *place;
	struct block_store *net;
	struct writer writer;
	uint64_t random;
	uint32_t log;
};

static void rig_up(struct rig *rig, uint64_t block_size)
{
	const struct faulty_options none = {.seed = 1};
	now_ms = 1000000;
	*rig = (struct rig){.random = 1};
	source_model_init(&rig->source, 2 * block_size);
	rig->place = watch_new();
	ck_assert_int_eq(faulty_store_new(&rig->place->base, &none, &rig->net), 0);
	struct uuid uuid = source_model_uuid(1);
	rig->log = source_model_add(&rig->source, &uuid, 1, false);
	writer_start_as(&rig->writer, &rig->source, rig->net, source_model_uuid(9), 1, false,
			block_size);
}

static void rig_down(struct rig *rig)
{
	writer_kill(&rig->writer);
	block_store_free(rig->net);
	block_store_free(&rig->place->base);
	source_model_done(&rig->source);
}

static void run(struct rig *rig)
{
	upload_plan_changed(rig->writer.plan, now_ms);
	while (writer_step(&rig->writer, &rig->random))
		;
}

/* 1 KiB a second over two full blocks, a root each second. */
START_TEST(test_trickle)
{
	struct rig rig;
	rig_up(&rig, BLOCK_5M);
	uint64_t written = 0;
	while (written < 2 * (uint64_t)BLOCK_5M) {
		source_model_append(&rig.source, rig.log, 1024);
		written += 1024;
		if (rig.source.barrier_count < SOURCE_MODEL_ROOTS_MAX)
			source_model_publish(&rig.source, rig.log);
		now_ms += 1000;
		run(&rig);
	}
	writer_settle(&rig.writer, &rig.random);
	double amplification = (double)rig.place->bytes / (double)written;
	printf("trickle: %.3f\n", amplification);
	ck_assert(amplification <= 2.1);
	ck_assert_uint_eq(upload_covered(&rig.writer.plan->table.segments[0]), written);
	rig_down(&rig);
}
END_TEST

/* 100 MB a second. */
START_TEST(test_load)
{
	struct rig rig;
	rig_up(&rig, BLOCK_5M);
	uint64_t written = 0;
	while (written < (uint64_t)640 * MIB) {
		source_model_append(&rig.source, rig.log, 3 * MIB + 12345);
		written += 3 * MIB + 12345;
		now_ms += 32;
		run(&rig);
	}
	writer_settle(&rig.writer, &rig.random);
	double amplification = (double)rig.place->bytes / (double)written;
	printf("load: %.3f\n", amplification);
	ck_assert(amplification <= 1.05);
	rig_down(&rig);
}
END_TEST

/* An hour with nothing to do costs nothing, and nobody is woken for it. */
START_TEST(test_idle)
{
	struct rig rig;
	rig_up(&rig, BLOCK);
	source_model_append(&rig.source, rig.log, 100);
	source_model_publish(&rig.source, rig.log);
	run(&rig);
	writer_settle(&rig.writer, &rig.random);
	uint64_t requests = rig.place->requests, scans = rig.writer.plan->scans;
	for (unsigned i = 0; i < 3600; i++) {
		now_ms += 1000;
		while (writer_step(&rig.writer, &rig.random))
			;
	}
	ck_assert_uint_eq(rig.place->requests, requests);
	ck_assert_uint_eq(rig.writer.plan->scans, scans);
	ck_assert_uint_eq(upload_plan_wake_ms(rig.writer.plan, now_ms), UINT64_MAX);
	/* A look that finds nothing new asks nobody either. */
	run(&rig);
	ck_assert_uint_eq(rig.place->requests, requests);
	rig_down(&rig);
}
END_TEST

/* Fewer and fewer attempts while the place is away; then all goes on. */
START_TEST(test_away)
{
	struct rig rig;
	rig_up(&rig, BLOCK);
	source_model_append(&rig.source, rig.log, 10 * BLOCK);
	faulty_store_set_down(rig.net, -EAGAIN);
	for (unsigned i = 0; i < 600; i++) {
		now_ms += 1000;
		run(&rig);
	}
	ck_assert_int_eq(rig.writer.plan->state, UPLOADER_WAITING);
	uint64_t before = faulty_store_faults(rig.net);
	ck_assert_uint_le(before, 20);
	faulty_store_set_down(rig.net, 0);
	writer_settle(&rig.writer, &rig.random);
	ck_assert_int_eq(rig.writer.plan->state, UPLOADER_IDLE);
	ck_assert_int_eq(rig.writer.plan->error.code, 0);
	check_bytes(&rig.place->base, &rig.source, &rig.source.segments[0].info.uuid, 10 * BLOCK);
	rig_down(&rig);
}
END_TEST

START_TEST(test_refused)
{
	struct rig rig;
	rig_up(&rig, BLOCK);
	source_model_append(&rig.source, rig.log, 3 * BLOCK);
	faulty_store_set_down(rig.net, -EACCES);
	for (unsigned i = 0; i < 600; i++) {
		now_ms += 1000;
		run(&rig);
	}
	ck_assert_int_eq(rig.writer.plan->state, UPLOADER_PAUSED);
	ck_assert_uint_le(faulty_store_faults(rig.net), 12);
	faulty_store_set_down(rig.net, 0);
	writer_settle(&rig.writer, &rig.random);
	ck_assert_int_eq(rig.writer.plan->state, UPLOADER_IDLE);
	rig_down(&rig);
}
END_TEST

/* A full disk: the journal cannot be written, so nothing is put that it does not know. */
START_TEST(test_journal_full)
{
	struct rig rig;
	rig_up(&rig, BLOCK);
	source_model_append(&rig.source, rig.log, 100);
	rig.source.journal_error = -ENOSPC;
	for (unsigned i = 0; i < 100; i++) {
		now_ms += 1000;
		run(&rig);
	}
	ck_assert_int_eq(rig.writer.plan->state, UPLOADER_WAITING);
	ck_assert_uint_eq(rig.place->bytes, 0);
	rig.source.journal_error = 0;
	writer_settle(&rig.writer, &rig.random);
	ck_assert_int_eq(rig.writer.plan->state, UPLOADER_IDLE);
	ck_assert_uint_eq(rig.writer.plan->table.segments[0].listed, 100);
	rig_down(&rig);
}
END_TEST

/* One segment that cannot be read stops no other one. */
START_TEST(test_unreadable)
{
	struct rig rig;
	struct uuid uuid = source_model_uuid(2);
	rig_up(&rig, BLOCK);
	uint32_t other = source_model_add(&rig.source, &uuid, 2, false);
	source_model_append(&rig.source, rig.log, 2 * BLOCK);
	source_model_append(&rig.source, other, 2 * BLOCK);
	rig.source.segments[0].unreadable = true;
	for (unsigned i = 0; i < 300; i++) {
		now_ms += 1000;
		run(&rig);
	}
	const struct upload_table *table = &rig.writer.plan->table;
	ck_assert_uint_eq(upload_table_find(table, &uuid)->listed, 2 * BLOCK);
	ck_assert_uint_eq(table->segments[0].listed, 0);
	ck_assert_uint_eq(rig.writer.plan->broken, 1);
	rig.source.segments[0].unreadable = false;
	now_ms += UPLOAD_PROBE_MS;
	writer_settle(&rig.writer, &rig.random);
	ck_assert_uint_eq(rig.writer.plan->broken, 0);
	ck_assert_uint_eq(table->segments[0].listed, 2 * BLOCK);
	rig_down(&rig);
}
END_TEST

/* mem: forgets between two runs; so does a directory that somebody emptied. */
START_TEST(test_place_emptied)
{
	struct rig rig;
	rig_up(&rig, BLOCK);
	source_model_append(&rig.source, rig.log, 3 * BLOCK + 5);
	source_model_publish(&rig.source, rig.log);
	run(&rig);
	writer_settle(&rig.writer, &rig.random);
	writer_kill(&rig.writer);
	block_store_free(rig.net);
	block_store_free(&rig.place->base);
	rig.place = watch_new();
	const struct faulty_options none = {.seed = 1};
	ck_assert_int_eq(faulty_store_new(&rig.place->base, &none, &rig.net), 0);
	writer_start(&rig.writer, &rig.source, rig.net, source_model_uuid(9), 2, false);
	source_model_append(&rig.source, rig.log, 1);
	run(&rig);
	writer_settle(&rig.writer, &rig.random);
	struct restore_point point;
	ck_assert_int_eq(restore_point_find(&rig.place->base, true, NULL, &point), 0);
	ck_assert_uint_eq(point.segments[0].length, 3 * BLOCK + 6);
	ck_assert_uint_eq(point.root.seq, 1);
	restore_point_done(&point);
	rig_down(&rig);
}
END_TEST

/* Transfers that take minutes keep nobody else from going on. */
START_TEST(test_slow)
{
	struct rig rig;
	struct upload_step step[2], serial;
	struct upload_result result;
	rig_up(&rig, BLOCK);
	source_model_append(&rig.source, rig.log, 1);
	run(&rig);
	writer_settle(&rig.writer, &rig.random);
	source_model_append(&rig.source, rig.log, 8 * BLOCK);
	upload_plan_changed(rig.writer.plan, now_ms);
	ck_assert(upload_plan_serial(rig.writer.plan, now_ms, &serial));
	upload_exec(&rig.writer.io, rig.writer.plan, &serial, &result);
	upload_plan_done_step(rig.writer.plan, now_ms, &serial, &result);
	now_ms += 2 * UPLOAD_VERIFY_MS;
	while (upload_plan_serial(rig.writer.plan, now_ms, &serial)) {
		upload_exec(&rig.writer.io, rig.writer.plan, &serial, &result);
		upload_plan_done_step(rig.writer.plan, now_ms, &serial, &result);
	}
	ck_assert(upload_plan_transfer(rig.writer.plan, now_ms, &step[0]));
	now_ms += 2 * UPLOAD_VERIFY_MS;
	/* Nobody knows any more who is there: nothing is put before that is seen. */
	ck_assert(!upload_plan_transfer(rig.writer.plan, now_ms, &step[1]));
	bool looked = false;
	while (upload_plan_serial(rig.writer.plan, now_ms, &serial)) {
		looked = looked || serial.kind == UPLOAD_VERIFY;
		upload_exec(&rig.writer.io, rig.writer.plan, &serial, &result);
		upload_plan_done_step(rig.writer.plan, now_ms, &serial, &result);
	}
	ck_assert(looked);
	ck_assert(upload_plan_transfer(rig.writer.plan, now_ms, &step[1]));
	for (unsigned i = 0; i < 2; i++) {
		upload_exec(&rig.writer.io, rig.writer.plan, &step[i], &result);
		upload_plan_done_step(rig.writer.plan, now_ms, &step[i], &result);
	}
	writer_settle(&rig.writer, &rig.random);
	check_bytes(&rig.place->base, &rig.source, &rig.source.segments[0].info.uuid,
		    8 * BLOCK + 1);
	rig_down(&rig);
}
END_TEST

/* Many segments: longer lists are rare, and a restore reads few manifests. */
START_TEST(test_lists)
{
	struct rig rig;
	rig_up(&rig, BLOCK);
	for (unsigned i = 0; i < 200; i++) {
		struct uuid uuid = source_model_uuid(100 + i);
		uint32_t number = source_model_add(&rig.source, &uuid, i, false);
		source_model_append(&rig.source, number, 10);
		source_model_finish(&rig.source, number);
		now_ms += INTERVAL_MS;
		run(&rig);
		if (i % 3 == 0) {
			source_model_append(&rig.source, rig.log, 1);
			now_ms += INTERVAL_MS;
			run(&rig);
		}
	}
	writer_settle(&rig.writer, &rig.random);
	struct manifest_chain chain;
	struct reterr err = {0};
	uint64_t requests = rig.place->requests;
	int r = manifest_chain_read(&rig.place->base, &err, &chain);
	ck_assert_msg(r == 0, "%s", err.text);
	ck_assert_uint_eq(chain.count, 201);
	ck_assert_uint_gt(chain.newest.n, 260);
	/* At most a round of single ones, the lists, and the search for the newest. */
	ck_assert_uint_le(rig.place->requests - requests, 64 + 8 + 30);
	ck_assert_uint_eq(chain.run_count, rig.writer.plan->chain.run_count);
	for (unsigned i = 0; i < chain.run_count; i++)
		ck_assert_uint_eq(chain.runs[i].n, rig.writer.plan->chain.runs[i].n);
	for (size_t i = 0; i < chain.count; i++) {
		const struct upload_segment *s =
			upload_table_find(&rig.writer.plan->table, &chain.segments[i].segment.uuid);
		ck_assert_ptr_nonnull(s);
		ck_assert_uint_eq(s->listed, chain.segments[i].segment.length);
		ck_assert_int_eq(s->listed_ended, chain.segments[i].segment.ended);
	}
	manifest_chain_done(&chain);
	rig_down(&rig);
}
END_TEST

/* A place that lets nobody delete: uploading goes on, and idle is idle. */
START_TEST(test_no_deletion)
{
	struct rig rig;
	rig_up(&rig, BLOCK);
	rig.place->refuse_deletes = true;
	for (unsigned i = 0; i < 50; i++) {
		source_model_append(&rig.source, rig.log, BLOCK / 3);
		now_ms += INTERVAL_MS;
		run(&rig);
	}
	writer_settle(&rig.writer, &rig.random);
	ck_assert_uint_eq(rig.writer.plan->table.segments[0].listed, 50 * (BLOCK / 3));
	ck_assert_uint_le(rig.place->deletes, 2);
	uint64_t requests = rig.place->requests;
	for (unsigned i = 0; i < 100; i++) {
		now_ms += 60000;
		while (writer_step(&rig.writer, &rig.random))
			;
	}
	ck_assert_uint_eq(rig.place->requests, requests);
	/* Allowed again: the next round takes them with it. */
	rig.place->refuse_deletes = false;
	source_model_append(&rig.source, rig.log, 1);
	run(&rig);
	writer_settle(&rig.writer, &rig.random);
	struct assembly a = assemble(&rig.place->base, &rig.source.segments[0].info.uuid);
	ck_assert_uint_le(a.objects, 17 + 3);
	free(a.data);
	rig_down(&rig);
}
END_TEST

/* Whichever allocation fails, it is tried again, and all comes to the place. */
START_TEST(test_no_memory)
{
	bool failed = true;
	for (uint64_t n = 1; failed; n++) {
		struct rig rig;
		rig_up(&rig, BLOCK);
		source_model_append(&rig.source, rig.log, 2 * BLOCK + 100);
		source_model_publish(&rig.source, rig.log);
		fault_alloc_fail(n);
		run(&rig);
		now_ms += INTERVAL_MS;
		run(&rig);
		failed = fault_alloc_stop();
		now_ms += 10 * UPLOAD_PROBE_MS;
		writer_settle(&rig.writer, &rig.random);
		ck_assert_uint_eq(rig.writer.plan->chain.root.seq, 1);
		check_bytes(&rig.place->base, &rig.source, &rig.source.segments[0].info.uuid,
			    2 * BLOCK + 100);
		rig_down(&rig);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("uploader plan");
	TCase *tcase = tcase_create("plan");
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, test_trickle);
	tcase_add_test(tcase, test_load);
	tcase_add_test(tcase, test_idle);
	tcase_add_test(tcase, test_away);
	tcase_add_test(tcase, test_refused);
	tcase_add_test(tcase, test_journal_full);
	tcase_add_test(tcase, test_unreadable);
	tcase_add_test(tcase, test_place_emptied);
	tcase_add_test(tcase, test_slow);
	tcase_add_test(tcase, test_lists);
	tcase_add_test(tcase, test_no_deletion);
	tcase_add_test(tcase, test_no_memory);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
