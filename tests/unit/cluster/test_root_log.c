/* The shared root: every implementation moves it exactly once per seq, whoever competes. */
#include <protofs/root_log.h>

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/le.h"
#include "cluster/cluster.h"
#include "cluster/root_log_codec.h"

enum kind { MEMORY, FILES, KINDS };
enum { THREADS = 8 };

static struct shared_root_log *root_log;
static char dir[64];

static struct shared_root_log *open_again(void)
{
	struct shared_root_log *log;
	struct reterr err = {0};
	int r = shared_root_log_file_open(dir, &err, &log);
	ck_assert_msg(r == 0, "%s", err.text);
	return log;
}

static void setup_kind(int kind)
{
	dir[0] = '\0';
	if (kind == MEMORY) {
		ck_assert_int_eq(shared_root_log_memory_new(&root_log), 0);
		return;
	}
	(void)snprintf(dir, sizeof(dir), "/tmp/protofs-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	root_log = open_again();
}

static void teardown_kind(void)
{
	static const char *const names[] = {"root", "root.mutex", "root.lock", "root.epoch",
					    "root.tmp"};
	shared_root_log_free(root_log);
	for (size_t i = 0; dir[0] && i < ARRAY_SIZE(names); i++) {
		char path[128];
		(void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		(void)unlink(path);
	}
	if (dir[0])
		ck_assert_int_eq(rmdir(dir), 0); /* no leftovers */
}

static struct shared_root root_of(uint64_t seq, unsigned by)
{
	struct shared_root root = {
		.seq = seq,
		.offset = seq * 9,
		.time_ns = seq * 1000,
		.node = by,
		.acked_count = (unsigned)(seq % (SHARED_ROOT_ACKED_MAX + 1)),
	};
	memset(root.segment.bytes, (int)(seq & 0x7f), sizeof(root.segment.bytes));
	memset(root.nonce, (int)by + 1, sizeof(root.nonce));
	for (unsigned i = 0; i < root.acked_count; i++) {
		root.acked[i].segment.bytes[0] = (uint8_t)i;
		root.acked[i].length = seq + i;
	}
	return root;
}

static void check_same(const struct shared_root *a, const struct shared_root *b)
{
	ck_assert_uint_eq(a->seq, b->seq);
	ck_assert_uint_eq(a->offset, b->offset);
	ck_assert_uint_eq(a->time_ns, b->time_ns);
	ck_assert_uint_eq(a->node, b->node);
	ck_assert(uuid_equal(&a->segment, &b->segment));
	ck_assert_mem_eq(a->nonce, b->nonce, sizeof(a->nonce));
	ck_assert_uint_eq(a->acked_count, b->acked_count);
	for (unsigned i = 0; i < a->acked_count; i++) {
		ck_assert(uuid_equal(&a->acked[i].segment, &b->acked[i].segment));
		ck_assert_uint_eq(a->acked[i].length, b->acked[i].length);
	}
}

static int publish(struct shared_root_log *log, uint64_t seq, uint64_t epoch)
{
	struct shared_root root = root_of(seq, 1);
	return shared_root_log_publish(log, seq - 1, &root, epoch, NULL, NULL);
}

START_TEST(compare_and_swap)
{
	setup_kind(_i);
	struct shared_root got, next = root_of(1, 1);
	ck_assert_int_eq(shared_root_log_read(root_log, &got, NULL), -ENOENT);
	for (uint64_t seq = 1; seq <= 40; seq++) {
		next = root_of(seq, 1);
		ck_assert_int_eq(shared_root_log_publish(root_log, seq - 1, &next, 0, &got, NULL),
				 0);
		ck_assert_int_eq(shared_root_log_read(root_log, &got, NULL), 0);
		check_same(&got, &next);
		/* The same again: moved, and the nonce tells that it was ours. */
		struct shared_root newest = {.seq = 0};
		ck_assert_int_eq(
			shared_root_log_publish(root_log, seq - 1, &next, 0, &newest, NULL),
			-ESTALE);
		check_same(&newest, &next);
	}
	/* Wrong numbers, and one from the future. */
	next = root_of(43, 1);
	ck_assert_int_eq(shared_root_log_publish(root_log, 40, &next, 0, NULL, NULL), -EINVAL);
	ck_assert_int_eq(shared_root_log_publish(root_log, 42, &next, 0, NULL, NULL), -ESTALE);
	next = root_of(41, 1);
	next.acked_count = SHARED_ROOT_ACKED_MAX + 1;
	ck_assert_int_eq(shared_root_log_publish(root_log, 40, &next, 0, NULL, NULL), -EINVAL);
	next.seq = 0;
	ck_assert_int_eq(shared_root_log_publish(root_log, UINT64_MAX, &next, 0, NULL, NULL),
			 -EINVAL);
	ck_assert_int_eq(shared_root_log_read(root_log, &got, NULL), 0);
	ck_assert_uint_eq(got.seq, 40);
	teardown_kind();
}
END_TEST

/* ---- Races ---- */

enum { SEQS = 60 };

struct racer {
	pthread_t thread;
	struct shared_root_log *log;
	unsigned id;
	bool won[SEQS + 1];
};

/* Everybody tries every seq until somebody has it. */
static void *race(void *arg)
{
	struct racer *racer = arg;
	for (uint64_t seq = 1; seq <= SEQS;) {
		struct shared_root next = root_of(seq, racer->id), got = {.seq = 0};
		int r = shared_root_log_publish(racer->log, seq - 1, &next, 0, &got, NULL);
		if (r == 0) {
			racer->won[seq++] = true;
			continue;
		}
		ck_assert_int_eq(r, -ESTALE);
		ck_assert_uint_ge(got.seq, seq); /* it never goes backwards */
		seq = got.seq + 1;
	}
	return NULL;
}

static void race_all(bool own_logs)
{
	struct racer racers[THREADS] = {{0}};
	for (unsigned i = 0; i < THREADS; i++) {
		racers[i].id = i;
		racers[i].log = own_logs ? open_again() : root_log;
		ck_assert_int_eq(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(racers[i].thread, NULL), 0);
		if (own_logs)
			shared_root_log_free(racers[i].log);
	}
	for (unsigned seq = 1; seq <= SEQS; seq++) {
		unsigned winners = 0;
		for (unsigned i = 0; i < THREADS; i++)
			winners += racers[i].won[seq];
		ck_assert_uint_eq(winners, 1);
	}
	struct shared_root got;
	ck_assert_int_eq(shared_root_log_read(root_log, &got, NULL), 0);
	ck_assert_uint_eq(got.seq, SEQS);
	ck_assert(racers[got.node].won[SEQS]);
}

START_TEST(of_many_publishers_one_wins_each_seq)
{
	setup_kind(_i);
	race_all(false);
	teardown_kind();
}
END_TEST

START_TEST(of_many_handles_one_wins_each_seq)
{
	setup_kind(FILES);
	race_all(true);
	teardown_kind();
}
END_TEST

/* ---- Watch ---- */

struct watcher {
	pthread_t thread;
	struct shared_root_log *log;
	uint64_t seen;
};

static void *watch_all(void *arg)
{
	struct watcher *watcher = arg;
	while (watcher->seen < 20) {
		struct shared_root root;
		int r = shared_root_log_watch(watcher->log, watcher->seen, 20000, &root, NULL);
		ck_assert_int_eq(r, 0);
		ck_assert_uint_gt(root.seq, watcher->seen);
		watcher->seen = root.seq;
	}
	return NULL;
}

START_TEST(watchers_see_the_newest)
{
	setup_kind(_i);
	struct watcher watchers[3] = {{0}};
	struct shared_root root;
	ck_assert_int_eq(shared_root_log_watch(root_log, 0, 0, &root, NULL), -ETIMEDOUT);
	ck_assert_int_eq(shared_root_log_watch(root_log, 0, 20, &root, NULL), -ETIMEDOUT);
	for (unsigned i = 0; i < ARRAY_SIZE(watchers); i++) {
		watchers[i].log = root_log;
		ck_assert_int_eq(pthread_create(&watchers[i].thread, NULL, watch_all, &watchers[i]),
				 0);
	}
	for (uint64_t seq = 1; seq <= 20; seq++) {
		ck_assert_int_eq(publish(root_log, seq, 0), 0);
		(void)usleep(1000);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(watchers); i++) {
		ck_assert_int_eq(pthread_join(watchers[i].thread, NULL), 0);
		ck_assert_uint_eq(watchers[i].seen, 20);
	}
	ck_assert_int_eq(shared_root_log_watch(root_log, 7, 0, &root, NULL), 0);
	ck_assert_uint_eq(root.seq, 20);
	ck_assert_int_eq(shared_root_log_watch(root_log, 20, 0, &root, NULL), -ETIMEDOUT);
	teardown_kind();
}
END_TEST

static void *watch_for_ever(void *arg)
{
	struct shared_root root;
	int *result = arg;
	*result = shared_root_log_watch(root_log, 0, UINT64_MAX, &root, NULL);
	return NULL;
}

static void *lock_for_ever(void *arg)
{
	uint64_t epoch;
	int *result = arg;
	*result = shared_root_log_lock(root_log, UINT64_MAX, &epoch, NULL);
	return NULL;
}

START_TEST(stop_ends_every_wait)
{
	setup_kind(_i);
	pthread_t watcher, locker;
	int watched = 1, locked = 1;
	uint64_t epoch;
	ck_assert_int_eq(shared_root_log_lock(root_log, 0, &epoch, NULL), 0);
	ck_assert_int_eq(pthread_create(&watcher, NULL, watch_for_ever, &watched), 0);
	ck_assert_int_eq(pthread_create(&locker, NULL, lock_for_ever, &locked), 0);
	(void)usleep(30000);
	shared_root_log_stop(root_log);
	ck_assert_int_eq(pthread_join(watcher, NULL), 0);
	ck_assert_int_eq(pthread_join(locker, NULL), 0);
	ck_assert_int_eq(watched, -ECANCELED);
	ck_assert_int_eq(locked, -ECANCELED);
	ck_assert_int_eq(shared_root_log_lock(root_log, 0, &epoch, NULL), -ECANCELED);
	teardown_kind();
}
END_TEST

/* ---- Lock ---- */

START_TEST(the_lock_orders_publishers)
{
	setup_kind(_i);
	uint64_t a = 0, b = 0;
	ck_assert_int_eq(shared_root_log_lock(root_log, 0, &a, NULL), 0);
	ck_assert_uint_gt(a, 0);
	ck_assert_int_eq(shared_root_log_lock(root_log, 0, &b, NULL), -ETIMEDOUT);
	ck_assert_int_eq(shared_root_log_lock(root_log, 30, &b, NULL), -ETIMEDOUT);
	ck_assert_int_eq(publish(root_log, 1, 0), -EPERM);
	ck_assert_int_eq(publish(root_log, 1, a + 1), -ENOLCK);
	ck_assert_int_eq(publish(root_log, 1, a), 0);
	ck_assert_int_eq(shared_root_log_unlock(root_log, a + 1, NULL), -ENOLCK);
	ck_assert_int_eq(shared_root_log_unlock(root_log, a, NULL), 0);
	ck_assert_int_eq(shared_root_log_unlock(root_log, a, NULL), -ENOLCK);
	ck_assert_int_eq(shared_root_log_unlock(root_log, 0, NULL), -ENOLCK);
	ck_assert_int_eq(publish(root_log, 2, a), -ENOLCK);
	ck_assert_int_eq(publish(root_log, 2, 0), 0);
	ck_assert_int_eq(shared_root_log_lock(root_log, 0, &b, NULL), 0);
	ck_assert_uint_gt(b, a);
	ck_assert_int_eq(publish(root_log, 3, a), -ENOLCK);
	ck_assert_int_eq(publish(root_log, 3, b), 0);
	teardown_kind();
}
END_TEST

static atomic_uint inside;
static atomic_uint_fast64_t newest_epoch;

static void *lock_and_publish(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 25; i++) {
		struct shared_root root = {.seq = 0};
		uint64_t epoch;
		ck_assert_int_eq(shared_root_log_lock(root_log, 60000, &epoch, NULL), 0);
		ck_assert_uint_eq(atomic_fetch_add(&inside, 1), 0);
		ck_assert_uint_gt(epoch, atomic_exchange(&newest_epoch, epoch));
		int r = shared_root_log_read(root_log, &root, NULL);
		ck_assert(r == 0 || r == -ENOENT);
		/* Under the lock nobody moves it: the first attempt succeeds. */
		ck_assert_int_eq(publish(root_log, root.seq + 1, epoch), 0);
		ck_assert_uint_eq(atomic_fetch_sub(&inside, 1), 1);
		ck_assert_int_eq(shared_root_log_unlock(root_log, epoch, NULL), 0);
	}
	return NULL;
}

START_TEST(under_the_lock_every_publication_succeeds)
{
	setup_kind(_i);
	pthread_t threads[4];
	struct shared_root root;
	atomic_store(&inside, 0);
	atomic_store(&newest_epoch, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, lock_and_publish, NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	ck_assert_int_eq(shared_root_log_read(root_log, &root, NULL), 0);
	ck_assert_uint_eq(root.seq, 25 * ARRAY_SIZE(threads));
	teardown_kind();
}
END_TEST

/* ---- Files only ---- */

START_TEST(a_dead_process_holds_no_lock)
{
	setup_kind(FILES);
	uint64_t epoch;
	pid_t pid = fork();
	if (pid == 0) {
		struct shared_root_log *log = open_again();
		_exit(shared_root_log_lock(log, 0, &epoch, NULL) == 0 && publish(log, 1, epoch) == 0
			      ? 0
			      : 1);
	}
	int status = 1;
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(shared_root_log_lock(root_log, 0, &epoch, NULL), 0);
	ck_assert_uint_eq(epoch, 2);
	ck_assert_int_eq(publish(root_log, 2, epoch), 0);
	teardown_kind();
}
END_TEST

static void flip(const char *name, off_t offset)
{
	char path[128];
	uint8_t byte;
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	int fd = open(path, O_RDWR);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
	byte ^= (uint8_t)(1u << offset % 8);
	ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
	(void)close(fd);
}

START_TEST(every_flipped_byte_is_seen)
{
	setup_kind(FILES);
	struct shared_root root = {.seq = 99};
	uint64_t epoch;
	ck_assert_int_eq(publish(root_log, 1, 0), 0);
	for (off_t i = 0; i < SHARED_ROOT_SIZE; i++) {
		flip("root", i);
		ck_assert_int_eq(shared_root_log_read(root_log, &root, NULL), -EBADMSG);
		ck_assert_int_eq(publish(root_log, 2, 0), -EBADMSG);
		ck_assert_uint_eq(root.seq, 99);
		flip("root", i);
	}
	ck_assert_int_eq(publish(root_log, 2, 0), 0);

	ck_assert_int_eq(shared_root_log_lock(root_log, 0, &epoch, NULL), 0);
	ck_assert_int_eq(shared_root_log_unlock(root_log, epoch, NULL), 0);
	for (off_t i = 0; i < 64; i++) {
		flip("root.epoch", i);
		ck_assert_int_eq(shared_root_log_lock(root_log, 0, &epoch, NULL), -EBADMSG);
		flip("root.epoch", i);
	}
	ck_assert_int_eq(shared_root_log_lock(root_log, 0, &epoch, NULL), 0);
	ck_assert_uint_eq(epoch, 2);
	teardown_kind();
}
END_TEST

START_TEST(what_was_published_is_there_after_a_restart)
{
	setup_kind(FILES);
	struct shared_root root;
	struct reterr err = {0};
	ck_assert_int_eq(publish(root_log, 1, 0), 0);
	shared_root_log_free(root_log);
	root_log = open_again();
	ck_assert_int_eq(shared_root_log_read(root_log, &root, NULL), 0);
	struct shared_root want = root_of(1, 1);
	check_same(&root, &want);
	teardown_kind();
	ck_assert_int_eq(shared_root_log_file_open("/nonexistent/x", &err, &root_log), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/x"));
}
END_TEST

START_TEST(every_prefix_is_short_and_hostile_counts_are_refused)
{
	uint8_t bytes[SHARED_ROOT_SIZE];
	struct shared_root root = root_of(16, 3), got = {.seq = 99};
	shared_root_encode(&root, bytes);
	for (size_t i = 0; i < sizeof(bytes); i++)
		ck_assert_int_eq(shared_root_decode((struct slice){bytes, i}, &got), -ENODATA);
	ck_assert_uint_eq(got.seq, 99);
	ck_assert_int_eq(shared_root_decode((struct slice){bytes, sizeof(bytes)}, &got), 0);
	check_same(&root, &got);

	store_le32(bytes + 72, SHARED_ROOT_ACKED_MAX + 1);
	struct hash sum = hash_of(bytes, SHARED_ROOT_SIZE - HASH_SIZE);
	memcpy(bytes + SHARED_ROOT_SIZE - HASH_SIZE, sum.bytes, HASH_SIZE);
	ck_assert_int_eq(shared_root_decode((struct slice){bytes, sizeof(bytes)}, &got), -EBADMSG);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("root_log");
	TCase *tcase = tcase_create("root_log");
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, compare_and_swap, 0, KINDS);
	tcase_add_loop_test(tcase, of_many_publishers_one_wins_each_seq, 0, KINDS);
	tcase_add_test(tcase, of_many_handles_one_wins_each_seq);
	tcase_add_loop_test(tcase, watchers_see_the_newest, 0, KINDS);
	tcase_add_loop_test(tcase, stop_ends_every_wait, 0, KINDS);
	tcase_add_loop_test(tcase, the_lock_orders_publishers, 0, KINDS);
	tcase_add_loop_test(tcase, under_the_lock_every_publication_succeeds, 0, KINDS);
	tcase_add_test(tcase, a_dead_process_holds_no_lock);
	tcase_add_test(tcase, every_flipped_byte_is_seen);
	tcase_add_test(tcase, what_was_published_is_there_after_a_restart);
	tcase_add_test(tcase, every_prefix_is_short_and_hostile_counts_are_refused);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
