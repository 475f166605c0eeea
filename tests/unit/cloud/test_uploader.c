/* The uploader with its threads, on the real clock with short intervals. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/cloud/upload_driver.h"

static struct source_model source;
static struct block_store *below, *net;
static struct uploader *uploader;
static uint32_t log_number;
static atomic_uint reports;
static struct reterr last_report;
static pthread_mutex_t report_lock = PTHREAD_MUTEX_INITIALIZER;

static void on_report(void *arg, const struct reterr *event)
{
	(void)arg;
	pthread_mutex_lock(&report_lock);
	last_report = *event;
	pthread_mutex_unlock(&report_lock);
	atomic_fetch_add(&reports, 1);
}

static void setup(void)
{
	const struct faulty_options none = {.seed = 1};
	source_model_init(&source, 2 * BLOCK);
	ck_assert_int_eq(block_store_memory_new((uint64_t)1 << 30, &below), 0);
	ck_assert_int_eq(faulty_store_new(below, &none, &net), 0);
	struct uuid uuid = source_model_uuid(1);
	log_number = source_model_add(&source, &uuid, 1, false);
}

static void start_with(struct uploader_options options)
{
	struct reterr err = {0};
	options.block_size = BLOCK;
	options.host = "here";
	options.report = on_report;
	if (uuid_is_zero(&options.store))
		options.store = source_model_uuid(9);
	if (options.upload_interval_ms == 0)
		options.upload_interval_ms = 20;
	int r = uploader_start(&source.source, net, &options, &err, &uploader);
	ck_assert_msg(r == 0, "%s", err.text);
}

static void start(void)
{
	start_with((struct uploader_options){.transfers = 4});
}

static void stop(void)
{
	block_store_stop(net);
	uploader_free(uploader);
	uploader = NULL;
}

static void teardown(void)
{
	if (uploader)
		stop();
	block_store_free(net);
	block_store_free(below);
	source_model_done(&source);
}

static void flush(void)
{
	struct reterr err = {0};
	int r = uploader_flush(uploader, 20000, &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

static uint64_t real_ms(void)
{
	return clock_system()->now_ms(clock_system());
}

/* Until the uploader is in STATE. */
static struct uploader_status wait_state(enum uploader_state state)
{
	struct uploader_status status;
	uint64_t until_ms = real_ms() + 20000;
	do {
		uploader_status(uploader, &status);
		if (status.state == state)
			return status;
		(void)usleep(1000);
	} while (real_ms() < until_ms);
	ck_abort_msg("state %d: %s", (int)status.state, status.error.text);
	return status;
}

START_TEST(test_flush)
{
	struct uploader_status status;
	source_model_append(&source, log_number, 20 * BLOCK + 7);
	source_model_publish(&source, log_number);
	start();
	flush();
	uploader_status(uploader, &status);
	ck_assert_uint_eq(status.bytes_behind, 0);
	ck_assert_uint_eq(status.ms_behind, 0);
	ck_assert_uint_eq(status.root_seq, 1);
	ck_assert_uint_eq(status.blocks_uploaded, 20);
	ck_assert_uint_ge(status.deltas_uploaded, 1);
	ck_assert(status.conditional);
	check_bytes(below, &source, &source.segments[0].info.uuid, 20 * BLOCK + 7);
	/* At rest a flush asks nobody. */
	flush();
}
END_TEST

/* A flush of a store that never wrote returns. */
START_TEST(test_flush_empty)
{
	start();
	flush();
	wait_state(UPLOADER_IDLE);
}
END_TEST

START_TEST(test_behind)
{
	struct uploader_status status;
	start();
	flush();
	faulty_store_set_down(net, -EAGAIN);
	source_model_append(&source, log_number, 12345);
	(void)usleep(30000);
	/* What is not looked at yet counts, too. */
	source_model_append(&source, log_number, 5);
	uploader_status(uploader, &status);
	ck_assert_uint_eq(status.bytes_behind, 12350);
	ck_assert_uint_ge(status.ms_behind, 25);
	status = wait_state(UPLOADER_WAITING);
	ck_assert_uint_le(status.retry_ms, 60000);
	ck_assert_int_eq(status.error.code, -EAGAIN);
	ck_assert_int_eq(uploader_flush(uploader, 10, NULL), -ETIMEDOUT);
	faulty_store_set_down(net, 0);
	flush();
	uploader_status(uploader, &status);
	ck_assert_uint_eq(status.bytes_behind, 0);
	/* Told when it began, and when it was over. */
	ck_assert_uint_ge(atomic_load(&reports), 2);
	ck_assert_int_eq(last_report.code, 0);
}
END_TEST

struct waiter {
	pthread_t thread;
	struct remote_length length;
	uint64_t root;
	atomic_int result;
};

static void *wait_thread(void *arg)
{
	struct waiter *w = arg;
	struct remote_keeper *keeper = uploader_keeper(uploader);
	struct reterr err = {0};
	int r = w->root > 0 ? keeper->ops->wait_root(keeper, w->root, &err)
			    : keeper->ops->wait_bytes(keeper, &w->length, 1, &err);
	atomic_store(&w->result, r);
	return NULL;
}

static void wait_begin(struct waiter *w, uint64_t length, uint64_t root)
{
	w->length = (struct remote_length){source.segments[0].info.uuid, length};
	w->root = root;
	atomic_store(&w->result, 1);
	ck_assert_int_eq(pthread_create(&w->thread, NULL, wait_thread, w), 0);
}

static int wait_end(struct waiter *w)
{
	(void)pthread_join(w->thread, NULL);
	return atomic_load(&w->result);
}

/* With an interval of an hour: a waiter does not wait for it. */
START_TEST(test_keeper)
{
	struct waiter bytes, root;
	start_with((struct uploader_options){.upload_interval_ms = 3600000});
	source_model_append(&source, log_number, 100);
	flush();
	for (unsigned i = 0; i < 20; i++) {
		source_model_append(&source, log_number, 1000);
		source_model_publish(&source, log_number);
		wait_begin(&bytes, source.segments[0].info.durable, 0);
		wait_begin(&root, 0, source.root.seq);
		ck_assert_int_eq(wait_end(&bytes), 0);
		ck_assert_int_eq(wait_end(&root), 0);
		struct restore_point point;
		ck_assert_int_eq(restore_point_find(below, true, NULL, &point), 0);
		ck_assert_uint_eq(point.root.seq, source.root.seq);
		ck_assert_uint_ge(point.segments[0].length_manifest,
				  source.segments[0].info.durable);
		restore_point_done(&point);
	}
	struct remote_keeper *keeper = uploader_keeper(uploader);
	ck_assert_uint_eq(keeper->ops->safe_length(keeper, &source.segments[0].info.uuid), 20100);
	ck_assert_uint_eq(keeper->ops->safe_root(keeper), 20);
}
END_TEST

START_TEST(test_keeper_stop)
{
	struct waiter waiter;
	start();
	flush();
	faulty_store_set_down(net, -EAGAIN);
	source_model_append(&source, log_number, 100);
	wait_begin(&waiter, 100, 0);
	(void)usleep(20000);
	ck_assert_int_eq(atomic_load(&waiter.result), 1);
	uploader_keeper(uploader)->ops->stop(uploader_keeper(uploader));
	ck_assert_int_eq(wait_end(&waiter), -ECANCELED);
}
END_TEST

START_TEST(test_fenced)
{
	struct waiter waiter;
	start();
	source_model_append(&source, log_number, 100);
	flush();
	/* Another one, of the same store, puts the next manifest. */
	struct uploader_status status;
	uploader_status(uploader, &status);
	struct manifest other = {.n = status.manifest + 1,
				 .since = status.manifest,
				 .owner = source_model_uuid(9),
				 .host = "there",
				 .block_size = BLOCK};
	struct buf text = {.max = 65536};
	char key[64];
	ck_assert_int_eq(manifest_print(&other, &text), 0);
	(void)snprintf(key, sizeof(key), "roots/%020llu", (unsigned long long)other.n);
	ck_assert_int_eq(block_store_put(below, key, text.data, text.size, BLOCK_NO_FRAME, NULL),
			 0);
	buf_done(&text);
	source_model_append(&source, log_number, 100);
	wait_begin(&waiter, 200, 0);
	ck_assert_int_eq(wait_end(&waiter), -EROFS);
	status = wait_state(UPLOADER_FENCED);
	ck_assert_ptr_nonnull(strstr(status.error.text, "there"));
	ck_assert_int_eq(uploader_flush(uploader, 1000, NULL), -EROFS);
	for (unsigned i = 0; i < 1000 && source.fences == 0; i++)
		(void)usleep(1000);
	ck_assert_uint_eq(source.fences, 1);
	stop();

	/* The next start knows it without asking. */
	faulty_store_set_down(net, -EAGAIN);
	struct uploader_options options = {.transfers = 1};
	start_with(options);
	(void)wait_state(UPLOADER_FENCED);
}
END_TEST

static atomic_int in_puts, in_puts_max;

static void count_puts(void *arg, enum block_request kind, const char *key, bool before)
{
	(void)arg;
	if (kind != BLOCK_REQUEST_PUT || strncmp(key, "wal/", 4) != 0)
		return;
	int now = atomic_fetch_add(&in_puts, before ? 1 : -1) + 1;
	int max = atomic_load(&in_puts_max);
	while (before && now > max && !atomic_compare_exchange_weak(&in_puts_max, &max, now))
		;
}

/* While the place is stalled nothing is queued: each thread has one block, and stop is prompt. */
START_TEST(test_stalled)
{
	struct uploader_status status;
	start();
	flush();
	const struct faulty_options stalled = {.seed = 1, .hang = 1000};
	faulty_store_set(net, &stalled);
	for (unsigned i = 0; i < 200; i++)
		source_model_append(&source, log_number, BLOCK);
	(void)usleep(100000);
	uploader_status(uploader, &status);
	ck_assert_uint_le(status.in_flight, 4);
	ck_assert_uint_eq(status.bytes_behind, 200 * BLOCK);
	uint64_t began_ms = real_ms();
	stop();
	ck_assert_uint_lt(real_ms() - began_ms, 5000);
}
END_TEST

START_TEST(test_transfers)
{
	const struct faulty_options counted = {.seed = 1, .step = count_puts};
	faulty_store_set(net, &counted);
	source_model_append(&source, log_number, 100 * BLOCK);
	start_with((struct uploader_options){.transfers = 3});
	flush();
	ck_assert_int_le(atomic_load(&in_puts_max), 3);
	ck_assert_int_ge(atomic_load(&in_puts_max), 1);
	check_bytes(below, &source, &source.segments[0].info.uuid, 100 * BLOCK);
}
END_TEST

START_TEST(test_bandwidth)
{
	uint64_t began_ms = real_ms();
	source_model_append(&source, log_number, 10 * BLOCK);
	start_with((struct uploader_options){.bandwidth = 20 * BLOCK});
	flush();
	/* The first one goes at once. */
	ck_assert_uint_ge(real_ms() - began_ms, 400);
}
END_TEST

START_TEST(test_evict)
{
	struct uuid uuid = source_model_uuid(2);
	source_model_append(&source, log_number, 7 * BLOCK + 10);
	uint32_t other = source_model_add(&source, &uuid, 2, true);
	source_model_append(&source, other, 3 * BLOCK);
	start_with((struct uploader_options){.disk_max = BLOCK});
	flush();
	for (unsigned i = 0; i < 2000 && source.evictions < 4; i++)
		(void)usleep(1000);
	/* Sealed parts whose blocks are all whole: three of the log, one of the other. */
	pthread_mutex_lock(&source.lock);
	ck_assert_uint_eq(source.segments[0].evicted, 6 * BLOCK);
	ck_assert_uint_eq(source.segments[1].evicted, 2 * BLOCK);
	pthread_mutex_unlock(&source.lock);
	/* It does not fit nevertheless: that is told. */
	for (unsigned i = 0; i < 2000 && atomic_load(&reports) == 0; i++)
		(void)usleep(1000);
	pthread_mutex_lock(&report_lock);
	ck_assert_int_eq(last_report.code, -ENOSPC);
	pthread_mutex_unlock(&report_lock);
}
END_TEST

static atomic_uint requests;

static void count_requests(void *arg, enum block_request kind, const char *key, bool before)
{
	(void)arg;
	(void)kind;
	(void)key;
	atomic_fetch_add(&requests, before);
}

START_TEST(test_idle)
{
	const struct faulty_options counted = {.seed = 1, .step = count_requests};
	source_model_append(&source, log_number, 3 * BLOCK + 1);
	source_model_publish(&source, log_number);
	faulty_store_set(net, &counted);
	start_with((struct uploader_options){.upload_interval_ms = 5});
	flush();
	(void)wait_state(UPLOADER_IDLE);
	unsigned before = atomic_load(&requests);
	(void)usleep(300000);
	ck_assert_uint_eq(atomic_load(&requests), before);
	ck_assert_uint_gt(before, 0);
}
END_TEST

/* A place that cannot refuse a second put: the owner object, and a warning. */
START_TEST(test_unconditional)
{
	const struct faulty_options weak = {.seed = 1, .unconditional = true};
	block_store_free(net);
	ck_assert_int_eq(faulty_store_new(below, &weak, &net), 0);
	source_model_append(&source, log_number, BLOCK + 1);
	start();
	flush();
	struct uploader_status status;
	uploader_status(uploader, &status);
	ck_assert(!status.conditional);
	ck_assert_uint_ge(atomic_load(&reports), 1);
	struct block_head head;
	ck_assert_int_eq(block_store_head(below, "owner", &head, NULL), 0);
	stop();

	/* A stranger stops before it puts anything. */
	source_model_append(&source, log_number, 1);
	for (size_t i = 0; i < source.journal_count; i++)
		free(source.journal[i].data);
	source.journal_count = 0;
	block_store_free(net);
	ck_assert_int_eq(faulty_store_new(below, &weak, &net), 0);
	start_with((struct uploader_options){.store = source_model_uuid(10)});
	(void)wait_state(UPLOADER_FENCED);
}
END_TEST

START_TEST(test_bad_journal)
{
	const struct uploader_options options = {.block_size = BLOCK,
						 .store = source_model_uuid(9)};
	struct reterr err = {0};
	start();
	source_model_append(&source, log_number, 100);
	flush();
	stop();
	block_store_free(net);
	const struct faulty_options none = {.seed = 1};
	ck_assert_int_eq(faulty_store_new(below, &none, &net), 0);
	source.journal[source.journal_count - 1].data[9] ^= 1;
	ck_assert_int_eq(uploader_start(&source.source, net, &options, &err, &uploader), -EBADMSG);
	ck_assert_int_eq(err.code, -EBADMSG);
	source.journal[source.journal_count - 1].data[9] ^= 1;
	struct uploader_options other = options;
	other.block_size = 2 * BLOCK;
	ck_assert_int_eq(uploader_start(&source.source, net, &other, &err, &uploader), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(err.text, "blocks of"));
	uploader = NULL;
}
END_TEST

/* ---- What is there -------------------------------------------------------------------------- */

static unsigned findings, fixes;
static struct reterr last_finding;

static void on_found(void *arg, const struct reterr *finding, bool fixed)
{
	(void)arg;
	findings++;
	fixes += fixed;
	last_finding = *finding;
}

static struct cloud_check_result check(bool deep, bool repair)
{
	const struct cloud_check_options options = {
		.deep = deep, .repair = repair, .found = on_found};
	struct cloud_check_result result;
	struct reterr err = {0};
	findings = fixes = 0;
	int r = cloud_check(&source.source, below, BLOCK, &options, &result, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	ck_assert_uint_eq(result.problems, findings);
	return result;
}

START_TEST(test_check)
{
	char uuid[UUID_TEXT_LENGTH + 1], key[BLOCK_KEY_MAX + 1];
	source_model_append(&source, log_number, 5 * BLOCK + 100);
	source_model_publish(&source, log_number);
	start();
	flush();
	source_model_append(&source, log_number, 50);
	flush();
	stop();
	(void)uuid_format(&source.segments[0].info.uuid, uuid);
	for (unsigned deep = 0; deep < 2; deep++) {
		struct cloud_check_result result = check(deep, false);
		ck_assert_uint_eq(result.problems, 0);
		ck_assert_uint_eq(result.orphans, 0);
		ck_assert_uint_eq(result.bytes, 5 * BLOCK + 150);
	}
	/* Gone: found, named, put again. */
	(void)snprintf(key, sizeof(key), "wal/%s/%020d", uuid, 2 * BLOCK);
	ck_assert_int_eq(block_store_delete(below, key, NULL), 0);
	(void)check(false, false);
	ck_assert_uint_eq(findings, 1);
	ck_assert_ptr_nonnull(strstr(last_finding.text, key));
	struct restore_point point;
	struct reterr err = {0};
	ck_assert_int_eq(restore_point_find(below, false, &err, &point), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(err.text, key));
	(void)check(false, true);
	ck_assert_uint_eq(fixes, 1);
	ck_assert_uint_eq(check(true, false).problems, 0);
	/* A delta of the tail. */
	(void)snprintf(key, sizeof(key), "wal/%s/%020d+%010d-%010d", uuid, 5 * BLOCK, 100, 150);
	ck_assert_int_eq(block_store_delete(below, key, NULL), 0);
	(void)check(false, true);
	ck_assert_uint_eq(fixes, 1);
	ck_assert_uint_eq(check(true, false).problems, 0);
	/* Other bytes: told, not overwritten. */
	ck_assert_int_eq(block_store_delete(below, key, NULL), 0);
	ck_assert_int_eq(block_store_put(below, key,
					 "12345678901234567890123456789012345678901234567890", 50,
					 BLOCK_NO_FRAME, NULL),
			 0);
	(void)check(false, true);
	ck_assert_uint_eq(findings, 1);
	ck_assert_uint_eq(fixes, 0);
	ck_assert_ptr_nonnull(strstr(last_finding.text, "delete that object"));
	/* What nobody needs. */
	ck_assert_int_eq(block_store_put(below,
					 "wal/00000000-0000-0000-0000-000000000001/"
					 "00000000000000000000",
					 "x", 1, BLOCK_NO_FRAME, NULL),
			 0);
	ck_assert_uint_eq(check(false, false).orphans, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("uploader");
	TCase *tcase = tcase_create("uploader");
	tcase_set_timeout(tcase, 30);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, test_flush);
	tcase_add_test(tcase, test_flush_empty);
	tcase_add_test(tcase, test_behind);
	tcase_add_test(tcase, test_keeper);
	tcase_add_test(tcase, test_keeper_stop);
	tcase_add_test(tcase, test_fenced);
	tcase_add_test(tcase, test_stalled);
	tcase_add_test(tcase, test_transfers);
	tcase_add_test(tcase, test_bandwidth);
	tcase_add_test(tcase, test_evict);
	tcase_add_test(tcase, test_idle);
	tcase_add_test(tcase, test_unconditional);
	tcase_add_test(tcase, test_bad_journal);
	tcase_add_test(tcase, test_check);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
