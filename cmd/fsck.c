/* protofs fsck: checks a store, and repairs it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/cloud_fsck.h"
#include "cmd/cloud_witness.h"
#include "cmd/log.h"
#include "cmd/mountinfo.h"
#include "cmd/progress.h"
#include "cmd/store.h"
#include "cmd/text.h"
#include "cmd/verb.h"
#include "engine/disk.h"
#include "engine/engine.h"

struct fsck {
	const char *store;
	bool deep;
	bool repair;
	bool cloud;
	bool json;
};

static const struct argp_option fsck_options[] = {
	{"cloud", 'c', NULL, 0,
	 "Then compare what is in its cloud, too; with --deep byte by byte, with --repair what is "
	 "missing there is uploaded again",
	 0},
	{"deep", 'd', NULL, 0, "Read and verify every byte, not only the structures", 0},
	{"repair", 'r', NULL, 0,
	 "Mend what can be mended; what is cut off is kept in lost+found/ of the store", 0},
	{"json", 'j', NULL, 0, "Print the summary as JSON", 0},
	{0},
};

static error_t parse_fsck(int key, char *arg, struct argp_state *state)
{
	struct fsck *fsck = state->input;
	switch (key) {
	case 'd':
		fsck->deep = true;
		return 0;
	case 'r':
		fsck->repair = true;
		return 0;
	case 'c':
		fsck->cloud = true;
		return 0;
	case 'j':
		fsck->json = true;
		return 0;
	default:
		return args_positional(state, key, arg, &fsck->store, 1);
	}
}

static void on_finding(void *arg, const struct reterr *finding, bool fixed)
{
	const struct fsck *fsck = arg;
	log_error("'%s': %s%s", fsck->store, finding->text, fixed ? " (mended)" : "");
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	progress_total(total);
	progress_at(done);
}

static void print_result(const struct fsck *fsck, const struct engine_fsck_result *result)
{
	char verified[TEXT_SIZE_LENGTH];

	if (fsck->json) {
		(void)printf("{\"segments\": %" PRIu64 ", \"parts\": %" PRIu64
			     ", \"frames\": %" PRIu64 ", \"roots\": %" PRIu64
			     ", \"bytes_verified\": %" PRIu64 ", \"problems\": %" PRIu64
			     ", \"fixed\": %" PRIu64 ", \"torn_bytes\": %" PRIu64 "}\n",
			     result->segments, result->parts, result->frames, result->roots,
			     result->bytes_verified, result->problems, result->fixed,
			     result->torn_bytes);
		return;
	}
	(void)printf("%" PRIu64 " segments, %" PRIu64 " parts, %" PRIu64 " frames, %" PRIu64
		     " roots, %s verified\n",
		     result->segments, result->parts, result->frames, result->roots,
		     text_size(result->bytes_verified, verified));
	if (result->torn_bytes)
		(void)printf("%" PRIu64
			     " bytes behind the end were never acknowledged: what a crash "
			     "leaves, no problem\n",
			     result->torn_bytes);
	if (result->problems == 0)
		(void)puts("clean");
	else
		(void)printf("%" PRIu64 " problems, %" PRIu64 " mended\n", result->problems,
			     result->fixed);
}

/* What the structures cannot show: that there was more. Only of a sound store. */
static int check_witness(struct fsck *fsck, struct engine_fsck_result *result, struct reterr *err)
{
	struct cloud_witness_fsck witness = {
		.store = fsck->store, .repair = fsck->repair, .found = on_finding, .arg = fsck};

	if (result->problems > result->fixed)
		return 0;
	int r = cloud_witness_fsck(&witness, err);
	result->problems += witness.problems;
	result->fixed += witness.fixed;
	return r;
}

/* A mountpoint is no store; the store that is mounted there can be checked when it is not. */
static int refuse_mountpoint(const char *path)
{
	struct mountinfo mount;
	char *real;

	if (mountinfo_resolve(path, &real) < 0)
		return EXIT_CODE_DONE;
	int r = mountinfo_at(real, &mount);
	free(real);
	if (r < 0)
		return EXIT_CODE_DONE;
	log_error(
		"cannot check '%s': it is a mountpoint; unmount it and check its store, '%s', or let "
		"`protofs scrub` read it",
		path, mount.source);
	mountinfo_done(&mount);
	return EXIT_CODE_USAGE;
}

static int check(struct fsck *fsck, struct engine_fsck_result *result, struct reterr *err)
{
	const struct engine_fsck_options options = {
		.deep = fsck->deep,
		.repair = fsck->repair,
		.found = on_finding,
		.progress = on_progress,
		.arg = fsck,
	};
	struct store store;
	struct reterr cause = {0};

	int r = store_disk(fsck->store, 0, err, &store);
	if (r < 0)
		return r;
	progress_begin("checking", 0);
	r = engine_fsck(store.disk, &options, result, &cause);
	progress_end();
	disk_free(store.disk);
	if (r == -ENOENT)
		return reterr_set(err, r, "it is not a store");
	if (r == -EBUSY)
		return reterr_set(err, r, "%.400s; unmount it first", store_why(&cause, r));
	return r < 0 ? reterr_set(err, r, "%s", store_why(&cause, r)) : 0;
}

static int check_cloud(const struct fsck *fsck)
{
	struct cloud_fsck options = {
		.store = fsck->store,
		.deep = fsck->deep,
		.repair = fsck->repair,
		.json = fsck->json,
	};
	struct reterr err = {0};
	uint64_t left = 0;

	int r = cloud_fsck(&options, &left, &err);
	if (r < 0) {
		log_error("cannot check the cloud of '%s': %s", fsck->store, store_why(&err, r));
		return r == -EINVAL ? EXIT_CODE_USAGE : EXIT_CODE_FAILED;
	}
	if (left && !fsck->repair)
		log_error("the cloud of '%s' has problems; `protofs fsck --cloud --repair` uploads "
			  "again what is missing",
			  fsck->store);
	return left ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
}

int verb_fsck(int argc, char **argv)
{
	static const struct argp argp = {
		.options = fsck_options,
		.parser = parse_fsck,
		.args_doc = "STORE",
		.doc = "Check the store in the directory STORE: its superblock, catalogue, root log, parts "
		       "and their tables.\v"
		       "Exit code 0: it is clean, or everything was mended; 1: problems are left.",
	};
	struct fsck fsck = {0};
	struct engine_fsck_result result = {0};
	struct reterr err = {0};

	args_parse(&argp, argc, argv, &fsck);
	if (store_is_memory(fsck.store)) {
		log_error("cannot check 'mem:': such a store lives in its mount alone");
		return EXIT_CODE_USAGE;
	}
	int code = refuse_mountpoint(fsck.store);
	if (code != EXIT_CODE_DONE)
		return code;
	int r = check(&fsck, &result, &err);
	if (r == 0)
		r = check_witness(&fsck, &result, &err);
	if (r < 0) {
		log_error("cannot check '%s': %s", fsck.store, store_why(&err, r));
		return EXIT_CODE_FAILED;
	}
	print_result(&fsck, &result);
	if (result.problems > result.fixed && !fsck.repair)
		log_error(
			"'%s' has problems; `protofs fsck --repair` mends them and keeps a copy of what "
			"it cuts off",
			fsck.store);
	code = result.problems > result.fixed ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
	/* What is damaged here says nothing about what is there. */
	if (fsck.cloud && code == EXIT_CODE_DONE)
		code = check_cloud(&fsck);
	return code;
}
