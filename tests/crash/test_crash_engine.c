/*
 * The power fails after every single operation of random work; what the next start finds is compared with what was
 * promised (tests/lib/engine_model.h).
 *
 *	test_crash_engine                    seeds from 1 on, for PROTOFS_CRASH_SECONDS (40)
 *	test_crash_engine SEED               one seed, every operation
 *	test_crash_engine SEED CUT [CRASH]   one power cut; with a trace of the disk in crash-engine.trace
 *
 * The cuts of a seed are tried in rising order, so that the first one that fails is the smallest.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/invariant.h"
#include "tests/lib/engine_model.h"
#include "tests/lib/sim_disk.h"

enum { STEPS = 40, CRASHES = 3, SECONDS_DEFAULT = 40 };

struct trial {
	uint64_t seed;  /* of the work */
	uint64_t cut;   /* operations until the power fails; UINT64_MAX: never */
	uint64_t crash; /* what of the unflushed bytes survives */
};

static unsigned long long cuts_done;
static unsigned long long crashes_done;

static bool report(const struct trial *trial, const char *when, const struct engine_model *model)
{
	const char *problem = engine_model_problem(model);
	if (!problem)
		return true;
	(void)printf("FAILED: seed %llu, power cut after operation %llu, crash %llu, %s: %s\n"
		     "  again: test_crash_engine %llu %llu %llu\n",
		     (unsigned long long)trial->seed, (unsigned long long)trial->cut,
		     (unsigned long long)trial->crash, when, problem,
		     (unsigned long long)trial->seed, (unsigned long long)trial->cut,
		     (unsigned long long)trial->crash);
	return false;
}

/* The power fails again while the store recovers; what survives that must be as good. */
static bool check_second_cut(const struct trial *trial, const struct engine_model *model,
			     struct disk *crashed)
{
	struct engine_model *copy = engine_model_clone(model);
	sim_disk_cut_after(crashed, trial->crash * 7 % 12);
	(void)engine_model_open_only(copy, crashed);
	struct disk *again = sim_disk_crash(crashed, trial->crash + 100);
	engine_model_check(copy, again);
	bool good = report(trial, "after a second cut", copy);
	disk_free(again);
	engine_model_free(copy);
	return good;
}

static bool check_crash(const struct trial *trial, const struct engine_model *model,
			struct disk *disk)
{
	struct engine_model *copy = engine_model_clone(model);
	struct disk *crashed = sim_disk_crash(disk, trial->crash);
	engine_model_check(copy, crashed);
	if (!engine_model_problem(copy))
		engine_model_go_on(copy, crashed, false);
	bool good = report(trial, "after it", copy);
	disk_free(crashed);
	engine_model_free(copy);

	if (good && trial->crash % 2) {
		crashed = sim_disk_crash(disk, trial->crash);
		good = check_second_cut(trial, model, crashed);
		disk_free(crashed);
	}
	crashes_done++;
	return good;
}

/* RET_OPERATIONS: how many the work needed. CRASH 0: several of them. */
static bool run(struct trial trial, FILE *trace, uint64_t *ret_operations)
{
	struct engine_model *model = engine_model_new(trial.seed);
	struct disk *disk = sim_disk_new(trial.seed);
	int r = engine_model_format(model, disk);
	invariant(r == 0);

	sim_disk_set_trace(disk, trace);
	uint64_t before = sim_disk_operations(disk);
	if (trial.cut != UINT64_MAX)
		sim_disk_cut_after(disk, trial.cut);
	r = engine_model_run(model, disk, STEPS, trial.seed % 2 ? ENGINE_MODEL_CLOSE : 0);
	bool good = report(&trial, "before it", model);
	if (good && r < 0 && !sim_disk_is_off(disk)) {
		(void)printf("FAILED: seed %llu: error %d with the power on\n",
			     (unsigned long long)trial.seed, r);
		good = false;
	}
	*ret_operations = sim_disk_operations(disk) - before;
	if (trial.crash) {
		good = good && check_crash(&trial, model, disk);
	} else {
		for (trial.crash = 1; trial.crash <= CRASHES && good; trial.crash++) {
			struct trial one = trial;
			one.crash = trial.crash + trial.cut % 1000 * CRASHES;
			good = check_crash(&one, model, disk);
		}
	}
	disk_free(disk);
	engine_model_free(model);
	cuts_done++;
	return good;
}

static bool past(const struct timespec *end)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > end->tv_sec ||
	       (now.tv_sec == end->tv_sec && now.tv_nsec > end->tv_nsec);
}

/* END NULL: to the last operation. */
static bool sweep(uint64_t seed, const struct timespec *end)
{
	uint64_t total;
	uint64_t ignored;
	if (!run((struct trial){.seed = seed, .cut = UINT64_MAX}, NULL, &total))
		return false;
	for (uint64_t cut = 0; cut <= total; cut++) {
		if (end && past(end))
			return true;
		if (!run((struct trial){.seed = seed, .cut = cut}, NULL, &ignored))
			return false;
	}
	return true;
}

static bool run_one(struct trial trial)
{
	uint64_t operations;
	FILE *trace = fopen("crash-engine.trace", "w");
	bool good = run(trial, trace, &operations);
	if (trace)
		(void)fclose(trace);
	return good;
}

int main(int argc, char **argv)
{
	if (argc > 2) {
		struct trial trial = {.seed = strtoull(argv[1], NULL, 10),
				      .cut = strtoull(argv[2], NULL, 10)};
		if (argc > 3)
			trial.crash = strtoull(argv[3], NULL, 10);
		return !run_one(trial);
	}
	if (argc > 1)
		return !sweep(strtoull(argv[1], NULL, 10), NULL);

	const char *text = getenv("PROTOFS_CRASH_SECONDS");
	struct timespec end;
	(void)clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += text ? strtol(text, NULL, 10) : SECONDS_DEFAULT;
	bool good = true;
	uint64_t seed = 1;
	for (; good && !past(&end); seed++)
		good = sweep(seed, seed == 1 ? NULL : &end);
	(void)printf("%llu power cuts in the work of %llu seeds, %llu crashes compared\n",
		     cuts_done, (unsigned long long)seed - 1, crashes_done);
	return !good;
}
