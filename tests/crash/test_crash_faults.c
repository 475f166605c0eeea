/*
 * The disk fails the Nth call of each kind, once or from then on, while random work goes on as far as it can. Nothing that was
 * acknowledged may be lost, every error has a reason, and when the disk is well again (after a restart, with and
 * without a power cut) the store is too. The same with a disk that is full.
 *
 *	test_crash_faults                          seeds from 1 on, for PROTOFS_CRASH_SECONDS (40)
 *	test_crash_faults SEED                     one seed, every call
 *	test_crash_faults SEED KIND NTH MODE       one fault; with a trace of the disk in crash-faults.trace
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/invariant.h"
#include "tests/lib/engine_model.h"
#include "tests/lib/sim_disk.h"

enum { STEPS = 40, SECONDS_DEFAULT = 40 };

struct mode {
	const char *name;
	int code;
	bool forever;
};

static const struct mode modes[] = {
	{"eio-once", -EIO, false},
	{"eio-forever", -EIO, true},
	{"enospc-once", -ENOSPC, false},
	{"enospc-forever", -ENOSPC, true},
};

struct trial {
	uint64_t seed;
	enum sim_kind kind; /* SIM_KINDS: no fault, but NTH KiB of space */
	uint64_t nth;
	const struct mode *mode;
};

static unsigned long long trials_done;
static unsigned long long errors_seen;

static const char *kind_name(enum sim_kind kind)
{
	return kind == SIM_KINDS ? "space" : sim_kind_name(kind);
}

/* What a full disk refuses. */
static bool can_be_full(enum sim_kind kind)
{
	return kind == SIM_CREATE || kind == SIM_WRITE || kind == SIM_RESERVE || kind == SIM_MKDIR;
}

static bool report(const struct trial *trial, const char *when, const struct engine_model *model)
{
	const char *problem = engine_model_problem(model);
	if (!problem)
		return true;
	(void)printf("FAILED %s: %s\n  again: test_crash_faults %llu %s %llu %s\n", when, problem,
		     (unsigned long long)trial->seed, kind_name(trial->kind),
		     (unsigned long long)trial->nth, trial->mode->name);
	return false;
}

/* A restart finds the disk well. */
static bool check(const struct trial *trial, const struct engine_model *model, struct disk *disk,
		  bool power_cut)
{
	struct engine_model *copy = engine_model_clone(model);
	engine_model_check(copy, disk);
	if (!engine_model_problem(copy))
		engine_model_go_on(copy, disk, power_cut);
	bool good = report(trial, power_cut ? "after a power cut" : "after a restart", copy);
	engine_model_free(copy);
	return good;
}

static void set_fault(const struct trial *trial, struct disk *disk)
{
	if (trial->kind == SIM_KINDS)
		sim_disk_set_space(disk, trial->nth << 10);
	else if (trial->nth)
		sim_disk_fail(disk, trial->kind, trial->nth, trial->mode->code,
			      trial->mode->forever);
}

static void clear_fault(const struct trial *trial, struct disk *disk)
{
	sim_disk_set_space(disk, (uint64_t)1 << 40);
	if (trial->kind != SIM_KINDS)
		sim_disk_fail(disk, trial->kind, 0, 0, false);
}

/* RET_CALLS: of the kind, within the work. */
static bool run(const struct trial *trial, FILE *trace, uint64_t *ret_calls)
{
	struct engine_model *model = engine_model_new(trial->seed);
	struct disk *disk = sim_disk_new(trial->seed);
	int r = engine_model_format(model, disk);
	invariant(r == 0);

	sim_disk_set_trace(disk, trace);
	uint64_t before = trial->kind < SIM_KINDS ? sim_disk_calls(disk, trial->kind) : 0;
	set_fault(trial, disk);
	r = engine_model_run(model, disk, STEPS,
			     ENGINE_MODEL_GO_ON | (trial->seed % 2 ? ENGINE_MODEL_CLOSE : 0));
	clear_fault(trial, disk);
	if (trial->kind < SIM_KINDS)
		*ret_calls = sim_disk_calls(disk, trial->kind) - before;
	bool good = report(trial, "while it fails", model);
	if (good && r < 0 && trial->nth == 0) {
		(void)printf("FAILED: seed %llu: error %d without a fault\n",
			     (unsigned long long)trial->seed, r);
		good = false;
	}
	errors_seen += engine_model_errors(model);

	struct disk *crashed = sim_disk_crash(disk, trial->seed + trial->nth);
	good = good && check(trial, model, crashed, true);
	good = good && check(trial, model, disk, false);
	disk_free(crashed);
	disk_free(disk);
	engine_model_free(model);
	trials_done++;
	return good;
}

static bool past(const struct timespec *end)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > end->tv_sec;
}

/* Every call of KIND, failing in each way. END NULL: all of them. */
static bool sweep_kind(uint64_t seed, enum sim_kind kind, const struct timespec *end)
{
	struct trial trial = {.seed = seed, .kind = kind, .mode = &modes[0]};
	uint64_t calls = 0;
	uint64_t ignored;

	if (!run(&trial, NULL, &calls))
		return false;
	for (size_t m = 0; m < sizeof(modes) / sizeof(modes[0]); m++) {
		trial.mode = &modes[m];
		if (trial.mode->code == -ENOSPC && !can_be_full(kind))
			continue;
		for (trial.nth = 1; trial.nth <= calls; trial.nth++) {
			if (end && past(end))
				return true;
			if (!run(&trial, NULL, &ignored))
				return false;
		}
	}
	return true;
}

/* From almost nothing to more than enough. */
static bool sweep_space(uint64_t seed, const struct timespec *end)
{
	struct trial trial = {.seed = seed, .kind = SIM_KINDS, .mode = &modes[3]};
	uint64_t ignored;

	for (trial.nth = 512; trial.nth < 40 << 10; trial.nth += 256) {
		if (end && past(end))
			return true;
		if (!run(&trial, NULL, &ignored))
			return false;
	}
	return true;
}

static bool sweep(uint64_t seed, const struct timespec *end)
{
	for (enum sim_kind kind = 0; kind < SIM_KINDS; kind++) {
		if (kind != SIM_LOCK && !sweep_kind(seed, kind, end))
			return false;
	}
	return sweep_space(seed, end);
}

static int run_one(char **argv)
{
	struct trial trial = {.seed = strtoull(argv[1], NULL, 10),
			      .kind = SIM_KINDS,
			      .nth = strtoull(argv[3], NULL, 10),
			      .mode = &modes[0]};
	uint64_t ignored;
	for (enum sim_kind kind = 0; kind < SIM_KINDS; kind++) {
		if (strcmp(argv[2], sim_kind_name(kind)) == 0)
			trial.kind = kind;
	}
	for (size_t m = 0; m < sizeof(modes) / sizeof(modes[0]); m++) {
		if (strcmp(argv[4], modes[m].name) == 0)
			trial.mode = &modes[m];
	}
	FILE *trace = fopen("crash-faults.trace", "w");
	bool good = run(&trial, trace, &ignored);
	if (trace)
		(void)fclose(trace);
	return !good;
}

int main(int argc, char **argv)
{
	if (argc > 4)
		return run_one(argv);
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
	(void)printf("%llu faults in the work of %llu seeds, %llu errors seen\n", trials_done,
		     (unsigned long long)seed - 1, errors_seen);
	return !good;
}
