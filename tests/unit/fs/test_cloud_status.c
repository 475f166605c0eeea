/* What a mount says of its cloud: text, JSON, metrics, the line of .ctl/errors. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"
#include "fs/cloud_status.h"
#include "fs/render.h"
#include "fs/status.h"

static struct cloud_status sample(void)
{
	struct cloud_status status = {
		.url = "s3://bucket/a \"b\"",
		.durability = "local",
		.state = CLOUD_BUSY,
		.bytes_behind = 12 << 20,
		.ms_behind = 4200,
		.bytes_uploaded = 3ULL << 30,
		.blocks_uploaded = 600,
		.deltas_uploaded = 4,
		.manifests = 12,
		.manifest = 40,
		.root_seq = 17,
		.in_flight = 8,
		.conditional = true,
		.place = {.place = "s3",
			  .requests = {[BLOCK_REQUEST_PUT] = 616, [BLOCK_REQUEST_LIST] = 1}},
		.cache_hits = 75,
		.cache_misses = 25,
		.cache_size_max = 500 << 20,
	};
	return status;
}

static const char *text_of(struct buf *out)
{
	ck_assert_int_eq(buf_append(out, "", 1), 0);
	return (const char *)out->data;
}

static void has(const char *text, const char *part)
{
	ck_assert_msg(strstr(text, part) != NULL, "\"%s\" is not in:\n%s", part, text);
}

START_TEST(a_lag_is_said_in_bytes_and_seconds)
{
	struct cloud_status status = sample();
	struct buf out = {.max = STATUS_TEXT_MAX};

	ck_assert_int_eq(cloud_status_as_text(&status, &out), 0);
	const char *text = text_of(&out);
	has(text, "cloud      s3://bucket/a \"b\" (s3)\n");
	has(text, "state      busy");
	has(text, "behind     12.0 MiB, 4.2 s\n");
	has(text, "3.0 GiB in 600 blocks and 4 deltas, 12 manifests");
	has(text, "newest     manifest 40, root 17\n");
	has(text, "fsync      waits for the local disk\n");
	has(text, "refused by the place itself");
	has(text, "requests   616 put, 0 get, 0 head, 1 list, 0 delete;");
	has(text, "cache      75.0 % of 100 reads");
	has(text, "error      none\n");
	buf_done(&out);
}
END_TEST

START_TEST(trouble_says_why_and_when_it_is_tried_again)
{
	struct cloud_status status = sample();
	struct buf out = {.max = STATUS_TEXT_MAX};

	ck_assert_int_eq(cloud_status_as_error(&status, &out), 0);
	ck_assert_uint_eq(out.size, 0); /* nothing is wrong */

	status.state = CLOUD_PAUSED;
	status.durability = "cloud";
	status.conditional = false;
	status.retry_ms = 12500;
	(void)reterr_set(&status.error, -EACCES, "403 AccessDenied for \"wal/x\"");
	ck_assert_int_eq(cloud_status_as_text(&status, &out), 0);
	const char *text = text_of(&out);
	has(text, "state      PAUSED");
	has(text, "fsync      waits for the cloud\n");
	has(text, "noticed before each round, but not refused");
	has(text, "error      EACCES: 403 AccessDenied for \"wal/x\"; next attempt in 12.5 s\n");

	buf_clear(&out);
	ck_assert_int_eq(cloud_status_as_error(&status, &out), 0);
	ck_assert_str_eq(text_of(&out),
			 "now, cloud paused: EACCES: 403 AccessDenied for \"wal/x\"; "
			 "next attempt in 12.5 s\n");

	/* A read that failed, while the upload has nothing to complain of. */
	status.error = (struct reterr){0};
	(void)reterr_set(&status.place.last_error, -EAGAIN, "503 SlowDown");
	buf_clear(&out);
	ck_assert_int_eq(cloud_status_as_error(&status, &out), 0);
	has(text_of(&out), "EAGAIN: 503 SlowDown");
	buf_done(&out);
}
END_TEST

START_TEST(a_read_only_mount_is_behind_nothing)
{
	struct cloud_status status = sample();
	struct buf out = {.max = STATUS_TEXT_MAX};

	status.state = CLOUD_READING;
	ck_assert_int_eq(cloud_status_as_text(&status, &out), 0);
	const char *text = text_of(&out);
	has(text, "reading only");
	ck_assert_ptr_null(strstr(text, "behind"));
	ck_assert_ptr_null(strstr(text, "manifest"));

	status.state = CLOUD_BUSY;
	status.manifest = 0;
	buf_clear(&out);
	ck_assert_int_eq(cloud_status_as_text(&status, &out), 0);
	has(text_of(&out), "newest     no manifest\n");
	buf_done(&out);
}
END_TEST

/* As a part of stats.json, which must stay JSON whatever the strings hold. */
START_TEST(the_json_is_json)
{
	struct engine_stats stats = {.disk_path = "io_uring"};
	struct status_growth growth = {0};
	struct cloud_status status = sample();
	struct buf out = {.max = STATUS_TEXT_MAX};

	(void)reterr_set(&status.error, -EIO, "it \"said\" \\ no");
	ck_assert_int_eq(status_as_json(&stats, &growth, &status, 1, &out), 0);
	struct slice json = {.data = out.data, .size = out.size};
	ck_assert_int_eq(render_atom(ENGINE_FORMAT_JSON, json, NULL, NULL), 0);
	const char *text = text_of(&out);
	has(text, "\"url\": \"s3://bucket/a \\\"b\\\"\"");
	has(text, "\"state\": \"busy\"");
	has(text, "\"seconds_behind\": 4.200");
	has(text, "\"bytes_behind\": 12582912");
	has(text, "\"put\": 616");
	has(text, "\"text\": \"it \\\"said\\\" \\\\ no\"");
	has(text, "\"conditional\": true");

	size_t size = out.size - 1;
	for (size_t max = 0; max < size; max++) {
		struct buf small = {.max = max};
		ck_assert_int_eq(status_as_json(&stats, &growth, &status, 1, &small), -EFBIG);
		buf_done(&small);
	}
	buf_clear(&out);
	ck_assert_int_eq(status_as_json(&stats, &growth, NULL, 1, &out), 0);
	has(text_of(&out), "\"cloud\": null");
	buf_done(&out);
}
END_TEST

START_TEST(the_metrics_have_one_head_each)
{
	struct cloud_status status = sample();
	struct buf out = {.max = STATUS_TEXT_MAX};

	ck_assert_int_eq(cloud_status_as_metrics(&status, &out), 0);
	const char *text = text_of(&out);
	has(text,
	    "# TYPE protofs_cloud_seconds_behind gauge\nprotofs_cloud_seconds_behind 4.200\n");
	has(text, "# TYPE protofs_cloud_bytes_uploaded_total counter\n"
		  "protofs_cloud_bytes_uploaded_total 3221225472\n");
	has(text, "protofs_cloud_requests_total{kind=\"put\"} 616\n");
	has(text, "protofs_cloud_state{state=\"busy\"} 1\n");
	has(text, "protofs_cloud_state{state=\"idle\"} 0\n");
	const char *head = strstr(text, "# TYPE protofs_cloud_requests_total");
	ck_assert_ptr_nonnull(head);
	ck_assert_ptr_null(strstr(head + 1, "# TYPE protofs_cloud_requests_total"));
	buf_done(&out);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("all");
	tcase_add_test(tcase, a_lag_is_said_in_bytes_and_seconds);
	tcase_add_test(tcase, trouble_says_why_and_when_it_is_tried_again);
	tcase_add_test(tcase, a_read_only_mount_is_behind_nothing);
	tcase_add_test(tcase, the_json_is_json);
	tcase_add_test(tcase, the_metrics_have_one_head_each);
	Suite *suite = suite_create("fs/cloud_status");
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
