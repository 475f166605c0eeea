/*
 * The uploader's protocol as a step machine: what is known -> what to do next -> what came of it.
 * Pure: it does no I/O, reads no clock and takes no lock. Whoever drives it (uploader.c with
 * threads, a simulation with two of them and a seed) asks for steps, has them done by upload_exec,
 * and tells the results; it guards the plan by one lock and calls without I/O in between.
 *
 * Serial steps come one at a time: the owner of the one under way alone touches scan, draft, text,
 * record, chain_read, parts and evict. Transfers come as many at a time as there are threads.
 *
 * A session, which is the time from start to stop or kill:
 *   RECOVER  no journal: learn from the place who we are there
 *   VERIFY   the place still ends with the manifest that the journal says
 *   CLAIM    put a manifest of this session before any object: another session of the same store,
 *            which may run in a copy of it, cannot put its next one
 *   RUN      blocks as they fill up; each interval a snapshot (root, then lengths), its deltas, and
 *            when all of it is there, a manifest
 */
#ifndef PROTOFS_CLOUD_UPLOAD_PLAN_H
#define PROTOFS_CLOUD_UPLOAD_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protofs/segment_source.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/reterr.h"
#include "base/slice.h"
#include "cloud/cloud.h"
#include "cloud/manifest.h"
#include "cloud/manifest_chain.h"
#include "cloud/restore_point.h"
#include "cloud/upload_journal.h"
#include "cloud/upload_table.h"

enum {
	UPLOAD_CHANGES_MAX = 8192, /* segments that one round's manifest lists */
	UPLOAD_RUN_EVERY = 64,     /* manifests from one longer list to the next */
	UPLOAD_INTENTS_MAX = 4096, /* deltas in one record */
	UPLOAD_PARTS_MAX = 1024,
	UPLOAD_VERIFY_MS = 30000, /* without a manifest so long, the place is looked at first */
	UPLOAD_PROBE_MS = 60000,
	UPLOAD_BACKOFF_MS = 1000,
	UPLOAD_DELETE_MS = 600000, /* until deletions that were refused are tried again */
	UPLOAD_EVICT_MS = 1000,    /* between looks for parts that may go */
};

enum upload_kind {
	/* Serial. */
	UPLOAD_SCAN,    /* ask the source */
	UPLOAD_SAVE,    /* append the record to the journal */
	UPLOAD_COMPACT, /* put the records in the place of the journal */
	UPLOAD_RECOVER,
	UPLOAD_VERIFY,
	UPLOAD_OWNER, /* only where the place does not refuse second puts */
	UPLOAD_SUM,   /* sums of the draft's segments */
	UPLOAD_MANIFEST,
	UPLOAD_PARTS,
	UPLOAD_EVICT,
	/* Transfers. */
	UPLOAD_BLOCK,
	UPLOAD_DELTA,
	UPLOAD_DELETE,
};

struct upload_step {
	enum upload_kind kind;
	/* Transfers: bytes [from, to) of the stream; of DELETE: blocks that begin there. */
	uint32_t index;
	struct uuid segment;
	uint64_t position, from, to;
	bool look_first;  /* it may be there already */
	bool last;        /* a block of a segment that ended: a longer one that begins so will do */
	uint64_t n;       /* of MANIFEST and VERIFY */
	struct hash hash; /* of VERIFY: of n, and PENDING: of n + 1 which may be ours */
	struct hash pending;
	bool has_pending;
	bool claiming; /* OWNER, RECOVER */
};

struct upload_result {
	int r;          /* 0 or why not */
	bool local;     /* ... and it is this machine that failed */
	bool fenced;    /* ... and it is another owner */
	bool weak;      /* the place does not refuse second puts by itself */
	bool empty;     /* VERIFY: there is nothing at all in the place */
	uint64_t bytes; /* of bodies that were sent */
	struct reterr err;
};

struct upload_scan {
	struct source_root root;
	uint32_t after;                  /* segments above it are new */
	struct source_segment *segments; /* those asked for; then those new */
	bool *gone;
	size_t asked, count, capacity;
	uint64_t began_ms;
	uint64_t since_ms; /* what is new came at this time at the earliest */
};

enum upload_phase { PHASE_RECOVER, PHASE_VERIFY, PHASE_CLAIM, PHASE_RUN };

/* What becomes true when the record is in the journal. */
enum upload_saving { SAVING_NOTHING, SAVING_INTENTS, SAVING_DRAFT, SAVING_CONFIRM, SAVING_SOME };

struct upload_plan {
	/* Options. */
	struct uuid store;
	char host[MANIFEST_HOST_MAX + 1];
	uint64_t interval_ms, session, disk_max;
	bool take_over, conditional;

	enum upload_phase phase;
	struct upload_table table;
	struct upload_chain chain;
	uint64_t since_run;   /* entries of the manifests behind the newest run */
	uint64_t verified_ms; /* when the chain was last seen to end with ours */
	bool place_empty;     /* there was nothing in it when this session began */
	bool recovered;       /* this session began without a journal */
	bool owner_fresh;     /* the owner object was ours after the last manifest */
	bool owner_mine;      /* ... and of this session */

	/* The source. */
	bool changed;        /* since the last scan began */
	uint64_t changed_ms; /* when it first did */
	uint64_t scan_after_ms;
	uint64_t scans; /* begun so far */
	struct upload_scan scan;
	struct source_root root; /* the newest known */
	uint64_t root_behind_ms; /* since when it is newer than the chain's; 0: it is not */

	/* The snapshot under way. */
	bool open;
	uint64_t snapshot; /* the scan that it is of */
	uint64_t snapshot_ms;
	struct source_root snapshot_root;
	size_t left;    /* segments that have not reached their target */
	bool intents;   /* deltas are to be looked for */
	bool lacks;     /* ... of those that can: bytes of a lost one, and so the root, stay here */
	uint64_t ended; /* the newest scan whose snapshot is over */
	uint64_t closed;  /* the newest one whose snapshot is in a manifest, all of it */
	uint64_t wanted;  /* the scan whose snapshot somebody waits for */
	uint64_t tick_ms; /* when the last one began */

	/* The manifest under way. */
	struct manifest draft;
	bool *draft_sum;   /* its i-th sum is to be made */
	bool draft_closes; /* it completes the snapshot */
	bool draft_ready;  /* sums are made */
	struct buf text;   /* as it is in the journal; empty: none is under way */
	struct hash text_hash;
	bool text_saved;
	uint64_t manifest_ms; /* when the last one was confirmed */

	/* The journal. */
	struct buf record;
	enum upload_saving saving;
	bool compact;
	uint64_t journal_bytes; /* appended since it was compact */
	struct buf *records;
	size_t record_count;

	struct manifest_chain chain_read; /* RECOVER */
	struct restore_coverage *coverage;
	bool evict_due, evict_ready;
	uint64_t evict_after_ms;
	bool over; /* the store takes more than DISK_MAX, and nothing more can go */
	bool over_told;
	struct source_part parts[UPLOAD_PARTS_MAX];
	size_t part_count;

	/* Steps that are out. */
	bool serial_out;
	unsigned transfers_out;
	size_t cursor;
	bool no_transfer; /* none was found since the last change */

	/* Trouble: one step at a time is tried, from retry_ms on. */
	enum uploader_state state; /* WAITING, PAUSED, FENCED, FAILED; IDLE: none */
	unsigned failures;
	uint64_t retry_ms;
	struct reterr error;
	bool trouble_local; /* it is the journal or the memory of this machine */
	bool sticky;        /* never again */
	bool fence_unsaved; /* the journal is to know that */
	bool was_fenced;    /* the journal does */
	bool news;          /* state or error changed: to be reported */
	bool verify_alone;  /* the place seems empty: to be looked at without transfers */
	bool keeps_deltas; /* the place refuses deletions: asked again at the next change after ... */
	uint64_t delete_ms; /* ... this */
	size_t broken;      /* segments that cannot be read here; BROKEN_WHY is of the last one */
	struct reterr broken_why;
	struct reterr notice; /* to be reported once; code 0: none */

	uint64_t bytes_uploaded, blocks_uploaded, deltas_uploaded, manifests;
};

struct upload_plan_options {
	struct uuid store;
	const char *host;
	uint64_t block_size, interval_ms, session, disk_max;
	bool take_over, conditional;
};

/* -ENOMEM. Done accepts one that init failed for, or a zeroed one. */
MUST_CHECK int upload_plan_init(struct upload_plan *plan,
				const struct upload_plan_options *options);
void upload_plan_done(struct upload_plan *plan);

/*
 * Takes a record of the journal, in order; then LOADED once. -EBADMSG it is none, or of another
 * store or block size.
 */
MUST_CHECK int upload_plan_load(struct upload_plan *plan, struct slice record, struct reterr *err);
MUST_CHECK int upload_plan_loaded(struct upload_plan *plan, struct reterr *err);

/* The source changed. */
void upload_plan_changed(struct upload_plan *plan, uint64_t now_ms);
/* The number of a snapshot that has all that is durable now; done when plan->closed reaches it. */
uint64_t upload_plan_want(struct upload_plan *plan, uint64_t now_ms);

/* True: RET is to be done, and told. False: nothing to do before upload_plan_wake_ms or an event. */
bool upload_plan_serial(struct upload_plan *plan, uint64_t now_ms, struct upload_step *ret);
bool upload_plan_transfer(struct upload_plan *plan, uint64_t now_ms, struct upload_step *ret);
void upload_plan_done_step(struct upload_plan *plan, uint64_t now_ms,
			   const struct upload_step *step, const struct upload_result *result);
/* When to ask again without an event; UINT64_MAX never. */
uint64_t upload_plan_wake_ms(const struct upload_plan *plan, uint64_t now_ms);

/* ---- Between the files of the plan ---------------------------------------------------------- */

/* upload_trouble.c */
bool upload_in_trouble(const struct upload_plan *plan);
void upload_retry_later(struct upload_plan *plan, uint64_t now_ms,
			const struct upload_result *result);
void upload_trouble_over(struct upload_plan *plan);
void upload_stop_for_good(struct upload_plan *plan, const struct upload_result *result);
/* Nothing of SEGMENT is put any more, while it is here. Told once. */
void upload_note_lost(struct upload_plan *plan, struct upload_segment *segment);
/* It can be read here again, or is gone. */
void upload_note_mended(struct upload_plan *plan, struct upload_segment *segment);
/* While there is trouble, one step at a time speaks to the place. */
bool upload_may_speak(const struct upload_plan *plan, uint64_t now_ms);
/* The place turned out not to refuse second puts. */
void upload_note_weak(struct upload_plan *plan);

/* upload_snapshot.c */
bool upload_dirty(const struct upload_plan *plan);
bool upload_tick_due(const struct upload_plan *plan, uint64_t now_ms);
MUST_CHECK int upload_scan_prepare(struct upload_plan *plan, uint64_t now_ms);
MUST_CHECK int upload_scan_take(struct upload_plan *plan, uint64_t now_ms);
void upload_note_progress(struct upload_plan *plan, struct upload_segment *segment);
void upload_snapshot_close(struct upload_plan *plan);
/* Marks intents and puts them into the record. 0: there are none; 1. */
MUST_CHECK int upload_intents_prepare(struct upload_plan *plan);

/* upload_draft.c */
bool upload_manifest_due(const struct upload_plan *plan, uint64_t now_ms);
MUST_CHECK int upload_draft_prepare(struct upload_plan *plan, bool claim);
/* Makes text and record of the draft. */
MUST_CHECK int upload_draft_print(struct upload_plan *plan);
/* Takes the draft from a text of the journal. */
MUST_CHECK int upload_draft_parse(struct upload_plan *plan, struct reterr *err);
/* The manifest is there: notes what it says, and makes the record. */
MUST_CHECK int upload_draft_confirmed(struct upload_plan *plan, uint64_t now_ms);
void upload_draft_done(struct upload_plan *plan);

/* upload_memory.c: the journal, and what is learnt without it */
MUST_CHECK int upload_plan_record(struct upload_plan *plan, struct upload_segment *segment);
bool upload_some_due(const struct upload_plan *plan);
bool upload_compact_due(const struct upload_plan *plan);
MUST_CHECK int upload_some_prepare(struct upload_plan *plan);
MUST_CHECK int upload_compact_prepare(struct upload_plan *plan);
void upload_records_done(struct upload_plan *plan);
void upload_saved(struct upload_plan *plan);
MUST_CHECK int upload_recovered(struct upload_plan *plan);
void upload_forget_place(struct upload_plan *plan);
/* Keeps of the parts that the source told of those that may go. */
void upload_evict_prepare(struct upload_plan *plan);

#endif
