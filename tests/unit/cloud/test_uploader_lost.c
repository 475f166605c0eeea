/* The uploader's journal as a witness, and segments that are shorter here than there. */
#include <unistd.h>

#include "tests/unit/cloud/upload_driver.h"

static struct source_model source;
static struct block_store *place;
static struct uploader *uploader;
static uint32_t log_number, foreign_number;
static struct uuid store, log_uuid, foreign_uuid;

static void setup(void)
{
	source_model_init(&source, 2 * BLOCK);
	ck_assert_int_eq(block_store_memory_new((uint64_t)1 << 30, &place), 0);
	store = source_model_uuid(9);
	log_uuid = source_model_uuid(1);
	foreign_uuid = source_model_uuid(2);
	log_number = source_model_add(&source, &log_uuid, 1, false);
	foreign_number = source_model_add(&source, &foreign_uuid, 2, true);
}

static void start(void)
{
	const struct uploader_options options = {
		.block_size = BLOCK, .upload_interval_ms = 10, .store = store, .host = "here"};
	struct reterr err = {0};
	int r = uploader_start(&source.source, place, &options, &err, &uploader);
	ck_assert_msg(r == 0, "%s", err.text);
}

static void stop(void)
{
	uploader_free(uploader);
	uploader = NULL;
}

static void teardown(void)
{
	if (uploader)
		stop();
	block_store_free(place);
	source_model_done(&source);
}

static void flush(void)
{
	struct reterr err = {0};
	int r = uploader_flush(uploader, 20000, &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

static struct uploader_status wait_state(enum uploader_state state)
{
	struct uploader_status status;
	for (unsigned i = 0; i < 20000; i++) {
		uploader_status(uploader, &status);
		if (status.state == state)
			return status;
		(void)usleep(1000);
	}
	ck_abort_msg("state %d: %s", (int)status.state, status.error.text);
	return status;
}

/* ---- What the witness says ---- */

struct told {
	unsigned count;
	struct uuid uuids[8];
	uint64_t lengths[8];
};

static int tell(void *arg, const struct uuid *segment, uint64_t length)
{
	struct told *told = arg;
	ck_assert_uint_lt(told->count, 8);
	told->uuids[told->count] = *segment;
	told->lengths[told->count++] = length;
	return 0;
}

static struct told ask(void)
{
	struct told told = {0};
	struct reterr err = {0};
	uint64_t writes = source.journal_writes;
	int r = upload_witness(&source.source, &store, BLOCK, tell, &told, NULL, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	ck_assert_uint_eq(source.journal_writes, writes);
	return told;
}

/* 0: nothing was told of it. */
static uint64_t told_of(const struct uuid *uuid)
{
	struct told told = ask();
	uint64_t length = 0;
	for (unsigned i = 0; i < told.count; i++)
		if (uuid_equal(&told.uuids[i], uuid) && told.lengths[i] > length)
			length = told.lengths[i];
	return length;
}

START_TEST(the_journal_tells_what_was_put)
{
	ck_assert_uint_eq(ask().count, 0);
	source_model_append(&source, log_number, 3 * BLOCK + 100);
	source_model_append(&source, foreign_number, 40045);
	source_model_publish(&source, log_number);
	source_model_publish(&source, foreign_number);
	start();
	flush();
	stop();
	struct told told = {0};
	struct source_root root;
	ck_assert_int_eq(upload_witness(&source.source, &store, BLOCK, tell, &told, &root, NULL),
			 0);
	ck_assert_uint_eq(root.seq, 2);
	ck_assert(uuid_equal(&root.segment, &foreign_uuid));
	ck_assert_uint_eq(told_of(&log_uuid), 3 * BLOCK + 100);
	ck_assert_uint_eq(told_of(&foreign_uuid), 40045);

	/* What was given up is not told, whoever asks how often. */
	ck_assert_int_eq(upload_give_up(&source.source, &store, BLOCK, &foreign_uuid, NULL), 0);
	ck_assert_uint_eq(told_of(&foreign_uuid), 0);
	ck_assert_uint_eq(told_of(&log_uuid), 3 * BLOCK + 100);
}
END_TEST

/* A delta that may be there, of which the place has not said yes. */
START_TEST(the_journal_tells_what_was_about_to_be_put)
{
	source_model_append(&source, foreign_number, 1000);
	start();
	flush();
	stop();
	struct upload_segment segment = {.uuid = foreign_uuid,
					 .tail_to = 1000,
					 .listed = 1000,
					 .listed_n = 2,
					 .intent_from = 1000,
					 .intent_to = 1500,
					 .trash = UPLOAD_NONE,
					 .trash_sent = UPLOAD_NONE};
	struct buf record = {.data = NULL};
	ck_assert_int_eq(upload_record_begin(&record), 0);
	ck_assert_int_eq(upload_record_segment(&record, &segment), 0);
	ck_assert_int_eq(upload_record_end(&record), 0);
	ck_assert_int_eq(
		source.source.ops->journal_append(&source.source, record.data, record.size, NULL),
		0);
	buf_done(&record);
	ck_assert_uint_eq(told_of(&foreign_uuid), 1500);
}
END_TEST

START_TEST(a_damaged_or_strange_journal_is_no_witness)
{
	struct told told = {0};
	struct reterr err = {0};
	source_model_append(&source, log_number, 100);
	start();
	flush();
	stop();
	/* Another store's: nothing of it was ever here. */
	const struct uuid other = source_model_uuid(10);
	ck_assert_int_eq(upload_witness(&source.source, &other, BLOCK, tell, &told, NULL, &err), 0);
	ck_assert_uint_eq(told.count, 0);
	source.journal[0].data[20] ^= 1;
	ck_assert_int_eq(upload_witness(&source.source, &store, BLOCK, tell, &told, NULL, &err),
			 -EBADMSG);
	ck_assert_uint_eq(told.count, 0);
}
END_TEST

/* ---- What the uploader does without one ---- */

static int count_key(void *arg, const char *key, uint64_t size)
{
	unsigned *count = arg;
	(void)key;
	(void)size;
	++*count;
	return 0;
}

static unsigned objects_of(const struct uuid *uuid)
{
	char text[UUID_TEXT_LENGTH + 1], prefix[64];
	unsigned count = 0;
	(void)snprintf(prefix, sizeof(prefix), "wal/%s/", uuid_format(uuid, text));
	ck_assert_int_eq(block_store_list(place, prefix, "", count_key, &count, NULL), 0);
	return count;
}

static struct source_model_segment *model_of(uint32_t number)
{
	for (unsigned i = 0; i < source.count; i++)
		if (source.segments[i].info.number == number)
			return &source.segments[i];
	ck_abort_msg("no segment %u", number);
	return NULL;
}

/* The disk loses all from LENGTH on, and others come in their place. */
static void lose(uint32_t number, uint64_t length)
{
	struct source_model_segment *segment = model_of(number);
	segment->info.durable = length;
	segment->fork_at = length - length % 8;
	segment->fork_salt = 77;
}

static void wait_safe(const struct uuid *uuid, uint64_t length)
{
	struct remote_keeper *keeper = uploader_keeper(uploader);
	for (unsigned i = 0; i < 20000 && keeper->ops->safe_length(keeper, uuid) != length; i++)
		(void)usleep(1000);
	ck_assert_uint_eq(keeper->ops->safe_length(keeper, uuid), length);
}

static void check_lost(const struct uuid *uuid, const char *at)
{
	char text[UUID_TEXT_LENGTH + 1];
	struct uploader_status status = wait_state(UPLOADER_FAILED);
	ck_assert_ptr_nonnull(strstr(status.error.text, uuid_format(uuid, text)));
	ck_assert_msg(strstr(status.error.text, at), "%s", status.error.text);
}

START_TEST(nothing_is_put_behind_what_was_lost_here)
{
	source_model_append(&source, foreign_number, 40045);
	source_model_append(&source, log_number, 100);
	start();
	flush();
	stop();
	unsigned objects = objects_of(&foreign_uuid);
	lose(foreign_number, 32036);
	start();
	check_lost(&foreign_uuid, "32036");
	/* It grows beyond what is there; the other one is uploaded all the same. */
	source_model_append(&source, foreign_number, 3 * BLOCK);
	source_model_append(&source, log_number, 5000);
	wait_safe(&log_uuid, 5100);
	wait_safe(&foreign_uuid, 32036);
	ck_assert_uint_eq(objects_of(&foreign_uuid), objects);
	ck_assert_int_eq(uploader_flush(uploader, 50, NULL), -ETIMEDOUT);
	stop();

	/* Now that it is longer here than there, only the journal knows. */
	ck_assert_uint_eq(told_of(&foreign_uuid), 0);
	start();
	check_lost(&foreign_uuid, "32036");
	source_model_append(&source, log_number, 5000);
	wait_safe(&log_uuid, 10100);
	wait_safe(&foreign_uuid, 32036);
	ck_assert_uint_eq(objects_of(&foreign_uuid), objects);

	/* Nor a root, which may rely on it; what waits for that waits in peace. */
	source_model_publish(&source, log_number);
	ck_assert_int_eq(uploader_flush(uploader, 100, NULL), -ETIMEDOUT);
	struct uploader_status status;
	uploader_status(uploader, &status);
	ck_assert_uint_eq(status.root_seq, 0);

	/* Once it is removed nothing is in the way any more. */
	(void)pthread_mutex_lock(&source.lock);
	model_of(foreign_number)->removed = true;
	(void)pthread_mutex_unlock(&source.lock);
	source_model_append(&source, log_number, 1);
	flush();
	status = wait_state(UPLOADER_IDLE);
	ck_assert_uint_eq(status.root_seq, 1);
}
END_TEST

/* The same when the journal is lost, too: the place says what it has. */
START_TEST(what_only_the_place_knows_is_not_overwritten)
{
	source_model_append(&source, log_number, 5 * BLOCK);
	source_model_finish(&source, log_number);
	start();
	flush();
	stop();
	unsigned objects = objects_of(&log_uuid);
	lose(log_number, 2 * BLOCK + 10);
	for (size_t i = 0; i < source.journal_count; i++)
		free(source.journal[i].data);
	source.journal_count = 0;
	start();
	char text[UUID_TEXT_LENGTH + 1];
	struct uploader_status status = wait_state(UPLOADER_FENCED);
	ck_assert_ptr_nonnull(strstr(status.error.text, uuid_format(&log_uuid, text)));
	ck_assert_uint_eq(objects_of(&log_uuid), objects);
}
END_TEST

/* What was given up goes up to a place that has nothing of it. */
START_TEST(an_empty_place_gets_all_of_it)
{
	source_model_append(&source, foreign_number, 40045);
	start();
	flush();
	stop();
	lose(foreign_number, 32036);
	ck_assert_int_eq(upload_give_up(&source.source, &store, BLOCK, &foreign_uuid, NULL), 0);
	block_store_free(place);
	ck_assert_int_eq(block_store_memory_new((uint64_t)1 << 30, &place), 0);
	source_model_append(&source, foreign_number, 1);
	start();
	flush();
	wait_state(UPLOADER_IDLE);
	check_bytes(place, &source, &foreign_uuid, 32037);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("uploader lost");
	TCase *tcase = tcase_create("uploader lost");
	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, the_journal_tells_what_was_put);
	tcase_add_test(tcase, the_journal_tells_what_was_about_to_be_put);
	tcase_add_test(tcase, a_damaged_or_strange_journal_is_no_witness);
	tcase_add_test(tcase, nothing_is_put_behind_what_was_lost_here);
	tcase_add_test(tcase, what_only_the_place_knows_is_not_overwritten);
	tcase_add_test(tcase, an_empty_place_gets_all_of_it);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
