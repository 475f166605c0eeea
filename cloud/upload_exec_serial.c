/* The steps that come one at a time: journal, chain, owner, manifests, eviction. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/invariant.h"
#include "cloud/block_key.h"
#include "cloud/upload_exec.h"
#include "cloud/upload_owner.h"

enum { SUMS_AT_ONCE = 256 };

static char *key_of(uint64_t n, char text[static BLOCK_KEY_MAX + 1])
{
	return block_key_format(&(struct block_key){.kind = BLOCK_KEY_ROOT, .position = n}, text);
}

/* ---- Who is there --------------------------------------------------------------------------- */

static void format_time(uint64_t ns, char *text, size_t size)
{
	time_t seconds = (time_t)(ns / 1000000000);
	struct tm tm;
	if (ns == 0 || !gmtime_r(&seconds, &tm) ||
	    strftime(text, size, "at %Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		(void)snprintf(text, size, "at an unknown time");
}

int upload_tell_owner(struct block_store *store, uint64_t n, const char *what, struct reterr *err)
{
	struct manifest manifest;
	struct block_head head;
	struct hash hash;
	char uuid[UUID_TEXT_LENGTH + 1], when[64];
	int r = manifest_get(store, n, NULL, &manifest, &hash, &head);
	if (r < 0)
		return reterr_set(err, -EROFS,
				  "another owner writes to this place: %s. This store uploads "
				  "nothing more and is read-only",
				  what);
	format_time(head.modified_ns, when, sizeof(when));
	manifest_done(&manifest);
	return reterr_set(err, -EROFS,
			  "another owner writes to this place: store %s on host %s put manifest "
			  "%" PRIu64 " %s (%s). This store uploads nothing more and is read-only",
			  uuid_format(&manifest.owner, uuid), manifest.host, n, when, what);
}

/* ---- The chain ------------------------------------------------------------------------------ */

/* 1 it is there and is HASH; 0 it is not there; -EEXIST it is another one. */
static int look_at(struct block_store *store, uint64_t n, const struct hash *hash,
		   struct reterr *err)
{
	char key[BLOCK_KEY_MAX + 1];
	struct block_head head;
	int r = block_store_head(store, key_of(n, key), &head, err);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	return hash && hash_equal(&head.hash, hash) ? 1 : -EEXIST;
}

static void verify(struct upload_io *io, const struct upload_step *step, struct upload_result *ret)
{
	int r = step->n > 0 ? look_at(io->store, step->n, &step->hash, &ret->err) : 1;
	uint64_t newest;
	if (r == -EEXIST) {
		ret->fenced = true;
		ret->r = upload_tell_owner(io->store, step->n, "it is not ours", &ret->err);
		return;
	}
	if (r == 0) {
		r = manifest_find_newest(io->store, &ret->err, &newest);
		ret->empty = r == -ENOENT;
		if (ret->empty)
			(void)reterr_set(&ret->err, -ENOENT,
					 "the place has lost everything: all is uploaded anew");
		else if (r == 0)
			r = reterr_set(&ret->err, -EBADMSG,
				       "manifest %" PRIu64
				       ", the newest of this store, is missing in the place",
				       step->n);
		ret->r = ret->empty ? 0 : r;
		return;
	}
	if (r > 0)
		r = look_at(io->store, step->n + 1, step->has_pending ? &step->pending : NULL,
			    &ret->err);
	if (r == -EEXIST) {
		ret->fenced = true;
		r = upload_tell_owner(io->store, step->n + 1, "it was not there before", &ret->err);
	}
	ret->r = r < 0 ? r : 0;
}

static void put_manifest(struct upload_io *io, struct upload_plan *plan,
			 const struct upload_step *step, struct upload_result *ret)
{
	char key[BLOCK_KEY_MAX + 1];
	int r = block_store_put(io->store, key_of(step->n, key), plan->text.data, plan->text.size,
				BLOCK_NO_FRAME, &ret->err);
	if (r == 0)
		ret->bytes = plan->text.size;
	if (r == -EEXIST) {
		r = look_at(io->store, step->n, &plan->text_hash, &ret->err);
		if (r == 0)
			r = -EAGAIN; /* it went away again: whoever did that may be done now */
	}
	if (r == -EEXIST) {
		ret->fenced = true;
		r = upload_tell_owner(io->store, step->n, "ours came later", &ret->err);
	}
	ret->r = r < 0 ? r : 0;
	/* Some places answer it only when they are asked to. */
	struct block_store_status status;
	block_store_status(io->store, &status);
	ret->weak = !status.conditional;
}

/* ---- Learning without a journal ------------------------------------------------------------- */

static int refuse(struct upload_result *ret, const char *format, const struct uuid *segment,
		  uint64_t there, uint64_t here)
{
	char uuid[UUID_TEXT_LENGTH + 1];
	char text[RETERR_TEXT_SIZE];
	(void)snprintf(text, sizeof(text),
		       "segment %s has %" PRIu64 " bytes in the place and %" PRIu64 " here: %s",
		       uuid_format(segment, uuid), there, here, format);
	ret->fenced = true;
	return reterr_set(&ret->err, -EROFS, "%s", text);
}

/* The bytes that a manifest counts are those that are here. */
static int same_bytes(struct upload_io *io, const struct manifest_segment *entry,
		      struct upload_result *ret)
{
	struct hash sum;
	if (!entry->summed || entry->length == 0)
		return 0;
	int r = upload_sum(io->source, &entry->uuid, entry->length, io->buffer,
			   (size_t)io->block_size, &sum, &ret->err);
	if (r < 0) {
		ret->local = true;
		return r;
	}
	if (hash_equal(&sum, &entry->sum))
		return 0;
	return refuse(ret, "they differ. The place is of another history of this store",
		      &entry->uuid, entry->length, entry->length);
}

static int compare_segment(struct upload_io *io, const struct manifest_chain *chain, size_t i,
			   struct restore_coverage *coverage, bool mine, struct upload_result *ret)
{
	const struct manifest_segment *entry = &chain->segments[i].segment;
	struct source_segment here;
	if (!io->source->ops->find(io->source, &entry->uuid, &here)) {
		if (mine)
			return 0; /* removed here; the place keeps it */
		return refuse(ret, "it came after this clone was made. Clone again", &entry->uuid,
			      entry->length, 0);
	}
	if (here.durable < entry->length)
		return refuse(ret,
			      mine ? "this directory is an older copy of the store. Clone the place"
				   : "it went on after this clone was made. Clone again",
			      &entry->uuid, entry->length, here.durable);
	if (mine)
		return here.inherited ? 0 : same_bytes(io, entry, ret);

	if (here.durable > coverage->length)
		return reterr_set(&ret->err, -EBADMSG,
				  "segment %s: the place has lost bytes that this clone counts on",
				  uuid_format(&entry->uuid, (char[UUID_TEXT_LENGTH + 1]){0}));
	coverage->length = here.durable;
	if (coverage->blocks > here.durable)
		coverage->blocks = here.durable - here.durable % io->block_size;
	return 0;
}

/* Whether this store may go on with the chain that lies there. */
static int compare_chain(struct upload_io *io, struct upload_plan *plan, bool take_over,
			 struct upload_result *ret)
{
	struct manifest_chain *chain = &plan->chain_read;
	const struct manifest *newest = &chain->newest;
	bool mine = uuid_equal(&newest->owner, &plan->store);
	struct source_root root;
	if (newest->block_size != io->block_size)
		return reterr_set(&ret->err, -EBADMSG,
				  "the place has blocks of %" PRIu64
				  " bytes, this store of %" PRIu64,
				  newest->block_size, io->block_size);
	if (!mine && !take_over) {
		ret->fenced = true;
		return upload_tell_owner(io->store, newest->n, "it belongs to that store",
					 &ret->err);
	}
	io->source->ops->root(io->source, &root);
	if (newest->root.seq > root.seq) {
		ret->fenced = true;
		return reterr_set(&ret->err, -EROFS,
				  "the place has root %" PRIu64 ", this store only %" PRIu64
				  ": it is an older copy. Clone the place",
				  newest->root.seq, root.seq);
	}
	int r = 0;
	for (size_t i = 0; i < chain->count && r == 0; i++)
		r = compare_segment(io, chain, i, &plan->coverage[i], mine, ret);
	return r;
}

static void recover(struct upload_io *io, struct upload_plan *plan, const struct upload_step *step,
		    struct upload_result *ret)
{
	int r = manifest_chain_read(io->store, &ret->err, &plan->chain_read);
	if (r == -ENOENT) {
		ret->r = 0; /* nobody wrote here yet */
		return;
	}
	if (r == 0)
		r = restore_cover(io->store, &plan->chain_read, false, &ret->err, &plan->coverage);
	if (r == 0 && !io->buffer)
		io->buffer = malloc((size_t)io->block_size);
	if (r == 0 && !io->buffer)
		r = -ENOMEM;
	if (r == 0)
		r = compare_chain(io, plan, step->claiming, ret);
	ret->r = r;
}

/* ---- The source ----------------------------------------------------------------------------- */

/* Room for one more new segment. */
static int grow_scan(struct upload_scan *scan)
{
	if (scan->count < scan->capacity)
		return 0;
	if (scan->count >= UPLOAD_SEGMENTS_MAX)
		return -E2BIG;
	void *segments = realloc(scan->segments, 2 * scan->capacity * sizeof(*scan->segments));
	if (!segments)
		return -ENOMEM;
	scan->segments = segments;
	scan->capacity *= 2;
	return 0;
}

static void run_scan(struct upload_io *io, struct upload_plan *plan, struct upload_result *ret)
{
	struct segment_source *source = io->source;
	struct upload_scan *scan = &plan->scan;
	struct source_segment segment;
	uint32_t after = scan->after;
	/* The root first: what it relies on is in the lengths that follow. */
	source->ops->root(source, &scan->root);
	for (size_t i = 0; i < scan->asked; i++) {
		struct uuid uuid = scan->segments[i].uuid;
		scan->gone[i] = !source->ops->find(source, &uuid, &scan->segments[i]);
		scan->segments[i].uuid = uuid;
	}
	while (source->ops->next(source, after, &segment)) {
		ret->r = grow_scan(scan);
		if (ret->r < 0) {
			ret->local = true;
			return;
		}
		scan->segments[scan->count++] = segment;
		after = segment.number;
	}
}

/* XXH3-128 of [FROM, TO) of SEGMENT. */
static int sum_range(struct segment_source *source, const struct uuid *segment, uint64_t from,
		     uint64_t to, uint8_t *buffer, size_t size, struct hash *ret,
		     struct reterr *err)
{
	struct hash_stream *stream;
	int r = hash_stream_new(&stream);
	if (r < 0)
		return r;
	hash_stream_reset(stream);
	for (uint64_t at = from; r == 0 && at < to;) {
		uint64_t end = to - at < size ? to : at + size;
		r = upload_read(source, segment, at, end, buffer, err);
		if (r == 0)
			hash_stream_update(stream, buffer, (size_t)(end - at));
		at = end;
	}
	if (r == 0)
		*ret = hash_stream_sum(stream);
	hash_stream_free(stream);
	return r;
}

/* Feeds STREAM with the sums of the whole MiB below WHOLE. */
static int feed_sums(struct segment_source *source, const struct uuid *segment, uint64_t whole,
		     struct hash_stream *stream)
{
	struct hash sums[SUMS_AT_ONCE];
	int r = 0;
	for (uint64_t at = 0; r == 0 && at < whole;) {
		size_t got = 0;
		r = source->ops->sums(source, segment, at, whole, sums, SUMS_AT_ONCE, &got);
		if (r == 0 && got == 0)
			r = -EIO;
		if (r == 0)
			hash_stream_update(stream, sums, got * HASH_SIZE);
		at += got * SOURCE_SUM_SIZE;
	}
	return r;
}

int upload_sum(struct segment_source *source, const struct uuid *segment, uint64_t length,
	       uint8_t *buffer, size_t size, struct hash *ret, struct reterr *err)
{
	struct hash_stream *stream;
	uint64_t whole = length - length % SOURCE_SUM_SIZE;
	int r = hash_stream_new(&stream);
	if (r < 0)
		return r;
	hash_stream_reset(stream);
	r = feed_sums(source, segment, whole, stream);
	if (r == 0 && whole < length) { /* the last one is short */
		struct hash last;
		r = sum_range(source, segment, whole, length, buffer, size, &last, err);
		if (r == 0)
			hash_stream_update(stream, &last, sizeof(last));
	}
	if (r == 0)
		*ret = hash_stream_sum(stream);
	hash_stream_free(stream);
	return r < 0 && err && err->code == 0
		       ? reterr_set(err, r, "the sums of a segment cannot be had: %s", strerror(-r))
		       : r;
}

/* Where one cannot be had, the manifest goes without it: bytes that cannot be read are told of later. */
static void make_sums(struct upload_io *io, struct upload_plan *plan, struct upload_result *ret)
{
	if (!io->buffer)
		io->buffer = malloc((size_t)io->block_size);
	if (!io->buffer) {
		ret->r = -ENOMEM;
		ret->local = true;
		return;
	}
	for (size_t i = 0; i < plan->draft.segment_count; i++) {
		struct manifest_segment *entry = &plan->draft.segments[i];
		if (plan->draft_sum[i])
			entry->summed = upload_sum(io->source, &entry->uuid, entry->length,
						   io->buffer, (size_t)io->block_size, &entry->sum,
						   NULL) == 0;
	}
}

/* ---- The disk ------------------------------------------------------------------------------- */

static void save(struct upload_io *io, struct upload_plan *plan, struct upload_result *ret)
{
	ret->r = io->source->ops->journal_append(io->source, plan->record.data, plan->record.size,
						 &ret->err);
	ret->local = ret->r < 0;
}

static void compact(struct upload_io *io, struct upload_plan *plan, struct upload_result *ret)
{
	const size_t count = plan->record_count;
	const void **records = calloc(count, sizeof(*records));
	size_t *sizes = calloc(count, sizeof(*sizes));
	ret->r = records && sizes ? 0 : -ENOMEM;
	if (ret->r == 0) {
		for (size_t i = 0; i < count; i++) {
			records[i] = plan->records[i].data;
			sizes[i] = plan->records[i].size;
		}
		ret->r = io->source->ops->journal_replace(io->source, records, sizes, count,
							  &ret->err);
	}
	free((void *)records);
	free(sizes);
	ret->local = ret->r < 0;
}

/* Room is made before it is needed: who writes waits at DISK_MAX. */
static bool too_large(struct upload_io *io, const struct upload_plan *plan)
{
	return io->source->ops->disk_used(io->source) > plan->disk_max - plan->disk_max / 8;
}

static void list_parts(struct upload_io *io, struct upload_plan *plan)
{
	plan->part_count = 0;
	if (too_large(io, plan))
		plan->part_count =
			io->source->ops->parts(io->source, plan->parts, ARRAY_SIZE(plan->parts));
	plan->over = io->source->ops->disk_used(io->source) > plan->disk_max;
}

static void evict(struct upload_io *io, struct upload_plan *plan, struct upload_result *ret)
{
	struct reterr ignored;
	/* One that is in use, gone or fails is passed over: others are there, and it comes again. */
	for (size_t i = 0; i < plan->part_count && too_large(io, plan); i++)
		(void)!io->source->ops->evict(io->source, &plan->parts[i].segment,
					      plan->parts[i].start, &ignored);
	uint64_t used = io->source->ops->disk_used(io->source);
	plan->over = used > plan->disk_max;
	if (plan->over)
		(void)reterr_set(&ret->err, -ENOSPC,
				 "the store takes %" PRIu64
				 " bytes of disk, more than disk_max (%" PRIu64
				 "): what could go is gone, the rest is not uploaded or still open",
				 used, plan->disk_max);
}

void upload_exec_serial(struct upload_io *io, struct upload_plan *plan,
			const struct upload_step *step, struct upload_result *ret)
{
	switch ((int)step->kind) {
	case UPLOAD_SCAN:
		run_scan(io, plan, ret);
		break;
	case UPLOAD_SAVE:
		save(io, plan, ret);
		break;
	case UPLOAD_COMPACT:
		compact(io, plan, ret);
		break;
	case UPLOAD_RECOVER:
		recover(io, plan, step, ret);
		break;
	case UPLOAD_VERIFY:
		verify(io, step, ret);
		break;
	case UPLOAD_OWNER:
		upload_check_owner(io, plan, step->claiming, ret);
		break;
	case UPLOAD_SUM:
		make_sums(io, plan, ret);
		break;
	case UPLOAD_MANIFEST:
		put_manifest(io, plan, step, ret);
		break;
	case UPLOAD_PARTS:
		list_parts(io, plan);
		break;
	case UPLOAD_EVICT:
		evict(io, plan, ret);
		break;
	default:
		invariant(false);
	}
}
