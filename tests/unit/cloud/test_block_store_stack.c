/* What stands on a place for blocks: counting, retrying, verifying; and the faulty one of tests/lib. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cloud/cloud.h"
#include "tests/lib/fake_clock.h"
#include "tests/lib/fault_alloc.h"
#include "tests/lib/faulty_store.h"

#define KEY "wal/01234567-89ab-cdef-0123-456789abcdef/00000000000000000000"

/* ---- A place that answers as a script says ---- */

enum { SCRIPT_MAX = 64 };

struct answer {
	int r;
	bool effect; /* of a put, also when it fails */
	uint64_t retry_after_ms;
};

struct scripted {
	struct block_store base;
	struct block_store *place;
	struct answer answers[SCRIPT_MAX]; /* of puts and gets; then 0 */
	unsigned count, at;
	unsigned calls, heads;
	unsigned list_fails; /* listings that break after their first key */
};

static struct answer next_answer(struct scripted *s)
{
	s->calls++;
	return s->at < s->count ? s->answers[s->at++] : (struct answer){.effect = true};
}

static int fail_as(const struct answer *answer, struct reterr *err)
{
	int r = reterr_set(err, answer->r, "the script says %d", answer->r);
	if (err)
		err->retry_after_ms = answer->retry_after_ms;
	return r;
}

static int scripted_put(struct block_store *base, const char *key, const void *data, size_t size,
			uint64_t first_frame, struct reterr *err)
{
	struct scripted *s = (struct scripted *)base;
	struct answer answer = next_answer(s);
	int r = 0;
	if (answer.effect)
		r = block_store_put(s->place, key, data, size, first_frame, err);
	return answer.r ? fail_as(&answer, err) : r;
}

static int scripted_replace(struct block_store *base, const char *key, const void *data,
			    size_t size, struct reterr *err)
{
	struct scripted *s = (struct scripted *)base;
	struct answer answer = next_answer(s);
	return answer.r ? fail_as(&answer, err)
			: block_store_replace(s->place, key, data, size, err);
}

static int scripted_get(struct block_store *base, const char *key, void *data, size_t size_max,
			struct block_head *ret, struct reterr *err)
{
	struct scripted *s = (struct scripted *)base;
	struct answer answer = next_answer(s);
	return answer.r ? fail_as(&answer, err)
			: block_store_get(s->place, key, data, size_max, ret, err);
}

static int scripted_get_range(struct block_store *base, const char *key, void *data, size_t size,
			      uint64_t offset, size_t *ret, struct reterr *err)
{
	struct scripted *s = (struct scripted *)base;
	struct answer answer = next_answer(s);
	return answer.r ? fail_as(&answer, err)
			: block_store_get_range(s->place, key, data, size, offset, ret, err);
}

static int scripted_head(struct block_store *base, const char *key, struct block_head *ret,
			 struct reterr *err)
{
	struct scripted *s = (struct scripted *)base;
	s->heads++;
	return block_store_head(s->place, key, ret, err);
}

struct broken {
	block_store_list_fn *fn;
	void *arg;
	bool breaks;
	unsigned told;
};

static int tell_one(void *arg, const char *key, uint64_t size)
{
	struct broken *broken = arg;
	if (broken->breaks && broken->told++)
		return -EAGAIN;
	return broken->fn(broken->arg, key, size);
}

static int scripted_list(struct block_store *base, const char *prefix, const char *after,
			 block_store_list_fn *fn, void *arg, struct reterr *err)
{
	struct scripted *s = (struct scripted *)base;
	struct broken broken = {.fn = fn, .arg = arg, .breaks = s->list_fails > 0};
	s->calls++;
	s->list_fails -= broken.breaks;
	return block_store_list(s->place, prefix, after, tell_one, &broken, err);
}

static int scripted_delete(struct block_store *base, const char *key, struct reterr *err)
{
	struct scripted *s = (struct scripted *)base;
	struct answer answer = next_answer(s);
	return answer.r ? fail_as(&answer, err) : block_store_delete(s->place, key, err);
}

static void scripted_status(struct block_store *base, struct block_store_status *ret)
{
	block_store_status(((struct scripted *)base)->place, ret);
}

static void scripted_stop(struct block_store *base)
{
	(void)base;
}

static void scripted_free(struct block_store *base)
{
	block_store_free(((struct scripted *)base)->place);
}

static const struct block_store_ops scripted_ops = {
	.name = "scripted",
	.put = scripted_put,
	.replace = scripted_replace,
	.get = scripted_get,
	.get_range = scripted_get_range,
	.head = scripted_head,
	.list = scripted_list,
	.delete = scripted_delete,
	.status = scripted_status,
	.stop = scripted_stop,
	.free = scripted_free,
};

static struct scripted script;
static struct fake_clock clock_;
static struct block_store *store;
static uint64_t slept[SCRIPT_MAX];
static unsigned sleeps;
static struct block_store_status seen; /* while it slept last */

static void fake_sleep(void *arg, uint64_t ms)
{
	(void)arg;
	ck_assert_uint_lt(sleeps, SCRIPT_MAX);
	slept[sleeps++] = ms;
	block_store_status(store, &seen);
	fake_clock_advance_ms(&clock_, ms);
}

static void setup_retrying(uint64_t seed, uint64_t deadline_ms)
{
	struct retry_options options = {.deadline_ms = deadline_ms,
					.clock = &clock_.clock,
					.sleep = fake_sleep,
					.seed = seed};
	fake_clock_init(&clock_);
	sleeps = 0;
	script = (struct scripted){.base = {.ops = &scripted_ops}};
	ck_assert_int_eq(block_store_memory_new(1 << 20, &script.place), 0);
	ck_assert_int_eq(block_store_retrying_new(&script.base, &options, &store), 0);
}

static void say(int r, bool effect, uint64_t retry_after_ms)
{
	ck_assert_uint_lt(script.count, SCRIPT_MAX);
	script.answers[script.count++] =
		(struct answer){.r = r, .effect = effect, .retry_after_ms = retry_after_ms};
}

static int put(const char *text, struct reterr *err)
{
	return block_store_put(store, KEY, text, strlen(text), 1, err);
}

/* ---- Retrying ---- */

START_TEST(what_may_work_later_is_tried_again)
{
	setup_retrying(1, 0);
	say(-EAGAIN, false, 0);
	say(-EAGAIN, false, 0);
	ck_assert_int_eq(put("x", NULL), 0);
	ck_assert_uint_eq(script.calls, 3);
	ck_assert_uint_eq(sleeps, 2);
	struct block_store_status status;
	block_store_status(store, &status);
	ck_assert_uint_eq(status.retries, 2);
	ck_assert_uint_eq(status.retrying, 0);
	ck_assert_uint_eq(status.next_retry_ms, 0);
	ck_assert_uint_eq(seen.retrying, 1);
	ck_assert_uint_gt(seen.next_retry_ms, 0);
	block_store_free(store);
}
END_TEST

START_TEST(an_answer_is_not_tried_again)
{
	static const int answers[] = {-EACCES, -EIO,    -ENOENT, -EBADMSG,  -EINVAL,
				      -ENOSPC, -ENOMEM, -EEXIST, -ECANCELED};
	struct reterr err = {0};
	setup_retrying(1, 0);
	say(answers[_i], false, 0);
	ck_assert_int_eq(put("x", &err), answers[_i]);
	ck_assert_int_eq(err.code, answers[_i]);
	ck_assert_uint_eq(script.calls, 1);
	ck_assert_uint_eq(sleeps, 0);
	ck_assert_uint_eq(script.heads, 0);
	block_store_free(store);
}
END_TEST

/* Over many seeds each delay fills its range, and never leaves it. */
START_TEST(the_delays_are_full_jitter)
{
	static const uint64_t most[] = {1000, 2000, 4000, 8000, 16000, 20000, 20000};
	uint64_t least_seen[ARRAY_SIZE(most)], most_seen[ARRAY_SIZE(most)] = {0};
	memset(least_seen, 0xff, sizeof(least_seen));
	for (uint64_t seed = 1; seed <= 300; seed++) {
		setup_retrying(seed, 3600000);
		for (size_t i = 0; i < ARRAY_SIZE(most); i++)
			say(-EAGAIN, false, 0);
		ck_assert_int_eq(put("x", NULL), 0);
		ck_assert_uint_eq(sleeps, ARRAY_SIZE(most));
		for (size_t i = 0; i < ARRAY_SIZE(most); i++) {
			ck_assert_uint_le(slept[i], most[i]);
			if (slept[i] < least_seen[i])
				least_seen[i] = slept[i];
			if (slept[i] > most_seen[i])
				most_seen[i] = slept[i];
		}
		block_store_free(store);
	}
	for (size_t i = 0; i < ARRAY_SIZE(most); i++) {
		ck_assert_uint_lt(least_seen[i], most[i] / 20);
		ck_assert_uint_gt(most_seen[i], most[i] - most[i] / 20);
	}
}
END_TEST

START_TEST(the_place_may_ask_to_be_left_alone)
{
	setup_retrying(3, 0);
	say(-EAGAIN, false, 7000);
	say(-EAGAIN, false, 0);
	ck_assert_int_eq(put("x", NULL), 0);
	ck_assert_uint_ge(slept[0], 7000);
	ck_assert_uint_le(slept[0], 8000);
	ck_assert_uint_le(slept[1], 2000);
	block_store_free(store);

	/* For longer than there is time: it ends at once. */
	struct reterr err = {0};
	setup_retrying(3, 0);
	say(-EAGAIN, false, UINT64_MAX);
	ck_assert_int_eq(put("x", &err), -ETIMEDOUT);
	ck_assert_uint_eq(sleeps, 0);
	block_store_free(store);
}
END_TEST

START_TEST(the_deadline_is_kept)
{
	struct reterr err = {0};
	setup_retrying(1, 30000);
	uint64_t start = clock_.now_ms;
	for (unsigned i = 0; i < SCRIPT_MAX - 1; i++)
		say(-EAGAIN, false, 0);
	ck_assert_int_eq(put("x", &err), -ETIMEDOUT);
	ck_assert_int_eq(err.code, -ETIMEDOUT);
	ck_assert_uint_le(clock_.now_ms - start, 30000);
	ck_assert_uint_ge(clock_.now_ms - start, 10000);
	ck_assert_ptr_nonnull(strstr(err.text, "the script says"));
	ck_assert_ptr_nonnull(strstr(err.text, "attempts: "));
	block_store_free(store);
}
END_TEST

START_TEST(an_own_put_that_took_effect_is_done)
{
	setup_retrying(1, 0);
	say(-EAGAIN, true, 0); /* it is stored, but the answer was lost */
	ck_assert_int_eq(put("mine", NULL), 0);
	ck_assert_uint_eq(script.calls, 2);
	ck_assert_uint_eq(script.heads, 1);
	block_store_free(store);
}
END_TEST

START_TEST(the_put_of_another_is_not_ours)
{
	static const char *const others[] = {"yours", "mind"}; /* another size; another sum */
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		struct reterr err = {0};
		setup_retrying(1, 0);
		ck_assert_int_eq(block_store_put(script.place, KEY, others[i], strlen(others[i]),
						 BLOCK_NO_FRAME, NULL),
				 0);
		say(-EAGAIN, false, 0);
		ck_assert_int_eq(put("mine", &err), -EEXIST);
		ck_assert_int_eq(err.code, -EEXIST);
		ck_assert_uint_eq(script.heads, 1);
		/* At the first attempt it is the caller who compares. */
		ck_assert_int_eq(put(others[i], NULL), -EEXIST);
		ck_assert_uint_eq(script.heads, 1);
		block_store_free(store);
	}
}
END_TEST

START_TEST(without_tokens_it_knocks_rarely)
{
	setup_retrying(1, UINT64_MAX / 2);
	/* 500 tokens are 100 retries. */
	for (unsigned i = 0; i < 20; i++) {
		script.count = script.at = 0;
		for (unsigned k = 0; k < 5; k++)
			say(-EAGAIN, false, 0);
		say(-EACCES, false, 0); /* not a success: nothing comes back */
		sleeps = 0;
		ck_assert_int_eq(put("x", NULL), -EACCES);
	}
	script.count = script.at = 0;
	sleeps = 0;
	say(-EAGAIN, false, 0);
	say(-EAGAIN, false, 0);
	say(-EAGAIN, false, 0);
	ck_assert_int_eq(put("x", NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_ge(slept[i], 10000);
		ck_assert_uint_le(slept[i], 20000);
	}
	/* Five successes are worth a retry. */
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(block_store_delete(store, KEY, NULL), 0);
	script.count = script.at = 0;
	sleeps = 0;
	say(-EAGAIN, false, 0);
	ck_assert_int_eq(put("x", NULL), 0);
	ck_assert_uint_le(slept[0], 1000);
	block_store_free(store);
}
END_TEST

struct told {
	unsigned count;
	int r; /* returned for the second */
};

static int count_keys(void *arg, const char *key, uint64_t size)
{
	struct told *told = arg;
	char want[64];
	(void)size;
	(void)snprintf(want, sizeof(want), "roots/%020u", told->count++);
	ck_assert_str_eq(key, want);
	return told->count == 2 ? told->r : 0;
}

START_TEST(a_listing_goes_on_where_it_broke)
{
	setup_retrying(1, 0);
	for (unsigned i = 0; i < 10; i++) {
		char key[64];
		(void)snprintf(key, sizeof(key), "roots/%020u", i);
		ck_assert_int_eq(block_store_put(store, key, "", 0, BLOCK_NO_FRAME, NULL), 0);
	}
	script.list_fails = 5;
	script.calls = 0;
	struct told told = {0};
	ck_assert_int_eq(block_store_list(store, "roots/", "", count_keys, &told, NULL), 0);
	ck_assert_uint_eq(told.count, 10);
	ck_assert_uint_eq(script.calls, 6);

	/* The caller's own end is not tried again, whatever it returns. */
	told = (struct told){.r = -EAGAIN};
	script.calls = 0;
	ck_assert_int_eq(block_store_list(store, "roots/", "", count_keys, &told, NULL), -EAGAIN);
	ck_assert_uint_eq(script.calls, 1);
	block_store_free(store);
}
END_TEST

START_TEST(every_call_is_tried_again)
{
	char data[8];
	size_t size;
	struct block_head head;
	setup_retrying(1, 0);
	say(-EAGAIN, false, 0);
	ck_assert_int_eq(put("x", NULL), 0);
	say(0, true, 0);
	script.at = script.count = 0;
	say(-EAGAIN, false, 0);
	ck_assert_int_eq(block_store_get(store, KEY, data, 8, &head, NULL), 0);
	say(-EAGAIN, false, 0);
	ck_assert_int_eq(block_store_get_range(store, KEY, data, 8, 0, &size, NULL), 0);
	say(-EAGAIN, false, 0);
	ck_assert_int_eq(block_store_replace(store, "owner", "x", 1, NULL), 0);
	say(-EAGAIN, false, 0);
	ck_assert_int_eq(block_store_delete(store, KEY, NULL), 0);
	ck_assert_uint_eq(sleeps, 5);
	block_store_free(store);
}
END_TEST

static void *put_it(void *arg)
{
	int *r = arg;
	*r = put("x", NULL);
	return NULL;
}

START_TEST(stop_ends_a_sleep)
{
	const struct retry_options options = {.deadline_ms = 3600000, .seed = 1};
	script = (struct scripted){.base = {.ops = &scripted_ops}};
	ck_assert_int_eq(block_store_memory_new(1 << 20, &script.place), 0);
	ck_assert_int_eq(block_store_retrying_new(&script.base, &options, &store), 0);
	say(-EAGAIN, false, 3000000);
	int r = 1;
	pthread_t thread;
	ck_assert_int_eq(pthread_create(&thread, NULL, put_it, &r), 0);
	struct block_store_status status = {0};
	while (!status.retrying) {
		(void)usleep(1000);
		block_store_status(store, &status);
	}
	block_store_stop(store);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(r, -ECANCELED);
	ck_assert_int_eq(put("x", NULL), -ECANCELED);
	block_store_free(store);
}
END_TEST

/* ---- Counting ---- */

static int nothing(void *arg, const char *key, uint64_t size)
{
	(void)arg;
	(void)key;
	(void)size;
	return 0;
}

START_TEST(requests_are_counted)
{
	char data[8];
	size_t size;
	struct block_head head;
	struct block_store_status s;
	script = (struct scripted){.base = {.ops = &scripted_ops}};
	ck_assert_int_eq(block_store_memory_new(1 << 20, &script.place), 0);
	ck_assert_int_eq(block_store_counting_new(&script.base, &store), 0);
	ck_assert_int_eq(put("12345", NULL), 0);
	ck_assert_int_eq(put("12345", NULL), -EEXIST);
	ck_assert_int_eq(block_store_replace(store, "owner", "123", 3, NULL), 0);
	ck_assert_int_eq(block_store_get(store, KEY, data, 8, &head, NULL), 0);
	ck_assert_int_eq(block_store_get_range(store, KEY, data, 2, 0, &size, NULL), 0);
	ck_assert_int_eq(block_store_get(store, "roots/00000000000000000001", data, 8, &head, NULL),
			 -ENOENT);
	ck_assert_int_eq(block_store_head(store, KEY, &head, NULL), 0);
	ck_assert_int_eq(block_store_list(store, "", "", nothing, NULL, NULL), 0);
	ck_assert_int_eq(block_store_delete(store, KEY, NULL), 0);
	ck_assert_int_eq(block_store_head(store, "../x", &head, NULL), -EINVAL);
	block_store_status(store, &s);
	ck_assert_str_eq(s.place, "memory");
	ck_assert(s.conditional);
	ck_assert_uint_eq(s.requests[BLOCK_REQUEST_PUT], 3);
	ck_assert_uint_eq(s.requests[BLOCK_REQUEST_GET], 3);
	ck_assert_uint_eq(s.requests[BLOCK_REQUEST_HEAD], 1);
	ck_assert_uint_eq(s.requests[BLOCK_REQUEST_LIST], 1);
	ck_assert_uint_eq(s.requests[BLOCK_REQUEST_DELETE], 1);
	ck_assert_uint_eq(s.bytes_sent, 8);
	ck_assert_uint_eq(s.bytes_received, 7);
	ck_assert_uint_eq(s.failures, 0);
	ck_assert_int_eq(s.last_error.code, 0);

	script.at = script.count = 0;
	say(-EAGAIN, false, 0);
	say(-EACCES, false, 0);
	ck_assert_int_eq(put("x", NULL), -EAGAIN);
	ck_assert_int_eq(put("x", NULL), -EACCES);
	block_store_status(store, &s);
	ck_assert_uint_eq(s.failures, 2);
	ck_assert_int_eq(s.last_error.code, -EACCES);
	ck_assert_str_eq(s.last_error.text, "the script says -13");
	ck_assert_int_eq(put("x", NULL), 0);
	block_store_status(store, &s);
	ck_assert_uint_eq(s.failures, 2);
	ck_assert_int_eq(s.last_error.code, 0);
	block_store_free(store);
}
END_TEST

/* ---- Verifying ---- */

static struct block_store *place;

static void setup_verifying(const struct faulty_options *options)
{
	ck_assert_int_eq(block_store_memory_new(1 << 20, &place), 0);
	ck_assert_int_eq(faulty_store_new(place, options, &store), 0);
	ck_assert_int_eq(block_store_verifying_new(store, &store), 0);
}

static void teardown_verifying(void)
{
	block_store_free(store);
	block_store_free(place);
}

START_TEST(a_flipped_bit_is_found)
{
	const struct faulty_options options = {.seed = (uint64_t)_i, .corrupt = 1000};
	char data[16];
	struct block_head head = {.size = 77};
	struct reterr err = {0};
	setup_verifying(&options);
	ck_assert_int_eq(put("0123456789", NULL), 0);
	ck_assert_int_eq(block_store_get(store, KEY, data, sizeof(data), &head, &err), -EBADMSG);
	ck_assert_uint_eq(head.size, 77);
	ck_assert_ptr_nonnull(strstr(err.text, KEY));
	teardown_verifying();
}
END_TEST

START_TEST(what_was_damaged_on_the_way_is_got_again)
{
	/* One in four comes damaged or cut: both attempts of a get are rarely so. */
	const struct faulty_options options = {.seed = 5, .corrupt = 125, .cut = 125};
	unsigned failed = 0;
	setup_verifying(&options);
	ck_assert_int_eq(put("0123456789", NULL), 0);
	for (unsigned i = 0; i < 1000; i++) {
		char data[16];
		struct block_head head;
		int r = block_store_get(store, KEY, data, sizeof(data), &head, NULL);
		ck_assert(r == 0 || r == -EBADMSG);
		failed += r < 0;
		if (r == 0)
			ck_assert_mem_eq(data, "0123456789", 10);
	}
	ck_assert_uint_gt(failed, 20);
	ck_assert_uint_lt(failed, 120);
	teardown_verifying();
}
END_TEST

START_TEST(without_a_sum_that_of_the_bytes_is_told)
{
	const struct faulty_options options = {.seed = 5, .forget = 1000};
	char data[16];
	struct block_head head;
	struct hash hash = hash_of("0123456789", 10);
	setup_verifying(&options);
	ck_assert_int_eq(put("0123456789", NULL), 0);
	ck_assert_int_eq(block_store_get(store, KEY, data, sizeof(data), &head, NULL), 0);
	ck_assert(!head.recorded);
	ck_assert(hash_equal(&head.hash, &hash));
	teardown_verifying();
}
END_TEST

/* ---- The faulty one ---- */

/* Whatever goes wrong on the way: in the end there is what was put, once, and no liar is believed. */
START_TEST(a_retried_put_is_done_once)
{
	const struct faulty_options faults = {
		.seed = (uint64_t)_i, .before = 200, .after = 200, .late = 200};
	const struct retry_options retry = {.deadline_ms = UINT64_MAX / 2,
					    .sleep = fake_sleep,
					    .clock = &clock_.clock,
					    .seed = 1};
	fake_clock_init(&clock_);
	ck_assert_int_eq(block_store_memory_new(1 << 20, &place), 0);
	ck_assert_int_eq(faulty_store_new(place, &faults, &store), 0);
	struct block_store *faulty = store;
	ck_assert_int_eq(block_store_retrying_new(store, &retry, &store), 0);
	for (unsigned i = 0; i < 50; i++) {
		char key[64], text[32];
		sleeps = 0;
		(void)snprintf(key, sizeof(key), "roots/%020u", i);
		int length = snprintf(text, sizeof(text), "text %u", i);
		ck_assert_int_eq(
			block_store_put(store, key, text, (size_t)length, BLOCK_NO_FRAME, NULL), 0);
	}
	ck_assert_uint_gt(faulty_store_faults(faulty), 0);
	(void)faulty_store_settle(faulty, true);
	for (unsigned i = 0; i < 50; i++) {
		char key[64], text[32], data[32];
		struct block_head head;
		(void)snprintf(key, sizeof(key), "roots/%020u", i);
		(void)snprintf(text, sizeof(text), "text %u", i);
		ck_assert_int_eq(block_store_get(place, key, data, sizeof(data), &head, NULL), 0);
		ck_assert_uint_eq(head.size, strlen(text));
		ck_assert_mem_eq(data, text, head.size);
	}
	block_store_free(store);
	block_store_free(place);
}
END_TEST

START_TEST(down_and_cut_off)
{
	const struct faulty_options none = {.seed = 1};
	struct block_head head;
	ck_assert_int_eq(block_store_memory_new(1 << 20, &place), 0);
	ck_assert_int_eq(faulty_store_new(place, &none, &store), 0);
	faulty_store_set_down(store, -EACCES);
	ck_assert_int_eq(put("x", NULL), -EACCES);
	faulty_store_set_down(store, 0);
	faulty_store_cut_after(store, 1);
	ck_assert_int_eq(put("x", NULL), 0);
	ck_assert_int_eq(block_store_delete(store, KEY, NULL), -ECANCELED);
	ck_assert_int_eq(block_store_head(place, KEY, &head, NULL), 0);
	block_store_free(store);
	block_store_free(place);
}
END_TEST

/* ---- Memory ---- */

typedef int constructor(struct block_store *below, struct block_store **ret);

static int retrying_new(struct block_store *below, struct block_store **ret)
{
	const struct retry_options options = {.seed = 1};
	return block_store_retrying_new(below, &options, ret);
}

START_TEST(without_memory_the_one_below_is_freed)
{
	static constructor *const constructors[] = {block_store_counting_new, retrying_new,
						    block_store_verifying_new};
	if (!fault_alloc_available())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(constructors); i++) {
		struct block_store *below, *none = NULL;
		ck_assert_int_eq(block_store_memory_new(1, &below), 0);
		fault_alloc_fail(1);
		int r = constructors[i](below, &none);
		ck_assert(fault_alloc_stop());
		ck_assert_int_eq(r, -ENOMEM);
		ck_assert_ptr_null(none);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("block_store_stack");
	TCase *tcase = tcase_create("block_store_stack");
	tcase_add_test(tcase, what_may_work_later_is_tried_again);
	tcase_add_loop_test(tcase, an_answer_is_not_tried_again, 0, 9);
	tcase_add_test(tcase, the_delays_are_full_jitter);
	tcase_add_test(tcase, the_place_may_ask_to_be_left_alone);
	tcase_add_test(tcase, the_deadline_is_kept);
	tcase_add_test(tcase, an_own_put_that_took_effect_is_done);
	tcase_add_test(tcase, the_put_of_another_is_not_ours);
	tcase_add_test(tcase, without_tokens_it_knocks_rarely);
	tcase_add_test(tcase, a_listing_goes_on_where_it_broke);
	tcase_add_test(tcase, every_call_is_tried_again);
	tcase_add_test(tcase, stop_ends_a_sleep);
	tcase_add_test(tcase, requests_are_counted);
	tcase_add_loop_test(tcase, a_flipped_bit_is_found, 0, 20);
	tcase_add_test(tcase, what_was_damaged_on_the_way_is_got_again);
	tcase_add_test(tcase, without_a_sum_that_of_the_bytes_is_told);
	tcase_add_loop_test(tcase, a_retried_put_is_done_once, 0, 20);
	tcase_add_test(tcase, down_and_cut_off);
	tcase_add_test(tcase, without_memory_the_one_below_is_freed);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
