/* The state of a store as text, JSON and metrics; the rate at which it grows. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"
#include "fs/render.h"
#include "fs/status.h"

enum { HOUR_MS = 3600 * 1000, DAY_MS = 24 * HOUR_MS };

static struct engine_stats sample(void)
{
	struct engine_stats stats = {
		.block_size = 5 << 20,
		.node = 3,
		.disk_path = "io_uring",
		.opened_ns = 1714564800123456789,
		.segments = 4,
		.bytes_stored = 3ULL << 30,
		.roots_first = 2,
		.roots_last = 17,
		.disk_total = 100ULL << 30,
		.disk_available = 10ULL << 30,
	};
	return stats;
}

static const uint64_t now_ns = 1714564800123456789 + 90061ULL * 1000000000;

static const char *text_of(struct buf *buf)
{
	ck_assert_int_eq(buf_append(buf, "", 1), 0);
	return (const char *)buf->data;
}

START_TEST(test_text)
{
	struct engine_stats stats = sample();
	struct status_growth growth = {.bytes = 1ULL << 30, .interval_ms = DAY_MS};
	struct buf out = {.max = STATUS_TEXT_MAX};

	ck_assert_int_eq(status_as_text(&stats, &growth, NULL, now_ns, &out), 0);
	const char *text = text_of(&out);
	ck_assert_ptr_nonnull(strstr(text, "00000000-0000-0000-0000-000000000000, node 3\n"));
	ck_assert_ptr_nonnull(strstr(text, "state      read-write\n"));
	ck_assert_ptr_nonnull(strstr(text, "2024-05-01T12:00:00.123456789Z (1 d 1 h ago)\n"));
	ck_assert_ptr_nonnull(strstr(text, "roots      17, kept from 2\n"));
	ck_assert_ptr_nonnull(strstr(text, "10.0 GiB free of 100.0 GiB: full in 10 days"));
	buf_done(&out);
}
END_TEST

START_TEST(test_text_of_trouble)
{
	struct engine_stats stats = sample();
	struct status_growth growth = {.bytes = 8ULL << 30, .interval_ms = DAY_MS};
	struct buf out = {.max = STATUS_TEXT_MAX};

	stats.read_only = true;
	stats.recovered = true;
	stats.errors = 2;
	(void)snprintf(stats.read_only_reason, sizeof(stats.read_only_reason),
		       "the disk \"failed\"");
	ck_assert_int_eq(status_as_text(&stats, &growth, NULL, now_ns, &out), 0);
	const char *text = text_of(&out);
	ck_assert_ptr_nonnull(strstr(text, "state      READ-ONLY: the disk \"failed\"\n"));
	ck_assert_ptr_nonnull(strstr(text, "after a crash: recovered"));
	ck_assert_ptr_nonnull(strstr(text, "FULL IN 1.2 DAYS"));
	ck_assert_ptr_nonnull(strstr(text, "errors     2 (see .ctl/errors)"));

	buf_clear(&out);
	ck_assert_int_eq(status_as_json(&stats, &growth, NULL, now_ns, &out), 0);
	struct slice json = {.data = out.data, .size = out.size};
	ck_assert_int_eq(render_atom(ENGINE_FORMAT_JSON, json, NULL, NULL), 0);
	text = text_of(&out);
	ck_assert_ptr_nonnull(strstr(text, "\"read_only\": true,\n"));
	ck_assert_ptr_nonnull(strstr(text, "\"read_only_reason\": \"the disk \\\"failed\\\"\",\n"));
	ck_assert_ptr_nonnull(strstr(text, "\"disk_full_days\": 1.2,\n"));
	buf_done(&out);
}
END_TEST

START_TEST(test_no_rate)
{
	struct engine_stats stats = sample();
	struct status_growth none = {0}, idle = {.interval_ms = DAY_MS};
	struct buf out = {.max = STATUS_TEXT_MAX};
	double days;

	ck_assert(!status_days_left(&stats, &none, &days));
	ck_assert(!status_days_left(&stats, &idle, &days));
	ck_assert_int_eq(status_as_json(&stats, &none, NULL, now_ns, &out), 0);
	ck_assert_ptr_nonnull(strstr(text_of(&out), "\"disk_full_days\": null,\n"));
	buf_clear(&out);
	ck_assert_int_eq(status_as_metrics(&stats, &none, NULL, &out), 0);
	const char *text = text_of(&out);
	ck_assert_ptr_nonnull(strstr(text, "\nprotofs_segments 4\n"));
	ck_assert_ptr_nonnull(
		strstr(text, "# TYPE protofs_appends_total counter\nprotofs_appends_total 0\n"));
	ck_assert_ptr_null(strstr(text, "disk_full_days"));
	stats.disk_total = 0; /* in memory */
	ck_assert(!status_days_left(&stats, &(struct status_growth){1, 1}, &days));
	buf_done(&out);
}
END_TEST

START_TEST(test_every_size_of_buffer)
{
	struct engine_stats stats = sample();
	struct status_growth growth = {.bytes = 1, .interval_ms = DAY_MS};
	struct buf whole = {.max = STATUS_TEXT_MAX};
	ck_assert_int_eq(status_as_json(&stats, &growth, NULL, now_ns, &whole), 0);
	for (size_t max = 0; max < whole.size; max++) {
		struct buf out = {.max = max};
		ck_assert_int_eq(status_as_json(&stats, &growth, NULL, now_ns, &out), -EFBIG);
		buf_done(&out);
	}
	buf_done(&whole);
}
END_TEST

START_TEST(test_growth)
{
	struct status_history history = {0};
	struct status_growth growth = status_growth(&history, 1000, 5);
	ck_assert_uint_eq(growth.interval_ms, 0);

	status_sample(&history, 1000, 0);
	growth = status_growth(&history, 1000 + 59 * 1000, 500);
	ck_assert_uint_eq(growth.interval_ms, 0); /* too early to tell */
	growth = status_growth(&history, 1000 + HOUR_MS, 500);
	ck_assert_uint_eq(growth.interval_ms, HOUR_MS);
	ck_assert_uint_eq(growth.bytes, 500);

	/* A hundred hours, 10 bytes each, asked every 10 minutes. */
	for (uint64_t at = 1000; at <= 1000 + 100ULL * HOUR_MS; at += HOUR_MS / 6)
		status_sample(&history, at, (at - 1000) / HOUR_MS * 10);
	growth = status_growth(&history, 1000 + 100ULL * HOUR_MS, 1000);
	ck_assert_uint_ge(growth.interval_ms, DAY_MS);
	ck_assert_uint_le(growth.interval_ms, DAY_MS + HOUR_MS);
	ck_assert_uint_ge(growth.bytes, 240);
	ck_assert_uint_le(growth.bytes, 250);

	/* Nobody asked for a month: the average since then. */
	uint64_t later = 1000 + 100ULL * HOUR_MS + 30ULL * DAY_MS;
	growth = status_growth(&history, later, 4000);
	ck_assert_uint_eq(growth.interval_ms, 30ULL * DAY_MS);
	ck_assert_uint_eq(growth.bytes, 3000);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("status");
	TCase *tests = tcase_create("all");
	tcase_add_test(tests, test_text);
	tcase_add_test(tests, test_text_of_trouble);
	tcase_add_test(tests, test_no_rate);
	tcase_add_test(tests, test_every_size_of_buffer);
	tcase_add_test(tests, test_growth);
	suite_add_tcase(suite, tests);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
