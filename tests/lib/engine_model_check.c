#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/invariant.h"
#include "tests/lib/engine_model_internal.h"
#include "tests/lib/sim_alloc.h"

/* ---- Segments ---- */

static void compare_bytes(struct engine_model *model, const struct model_segment *segment,
			  const char *name, size_t length)
{
	struct reterr err = {0};
	size_t got = 0;
	uint8_t *data = sim_malloc(length);
	int r = engine_read(model->engine, segment->segment, data, length, 0, ENGINE_READ_DISK,
			    &got, &err);
	if (r == -EIO && model->lenient)
		model->errors++;
	else if (r < 0 || got != length)
		model_problem(model, "segment %s: read of %zu bytes: %d, %zu bytes (%s)", name,
			      length, r, got, err.text);
	for (size_t i = 0; i < length && r == 0 && got == length; i++) {
		if (data[i] == segment->bytes.data[i])
			continue;
		model_problem(model, "segment %s: wrong byte at %zu of %zu", name, i, length);
		break;
	}
	sim_free(data);
}

static void forget_tail(struct engine_model *model, unsigned index, size_t length)
{
	struct model_segment *segment = &model->segments[index];
	unsigned kept = 0;

	segment->bytes.size = length;
	segment->unframed = length > 0;
	for (unsigned i = 0; i < model->frame_count; i++) {
		const struct model_frame frame = model->frames[i];
		if (frame.segment == index && frame.end > length)
			continue;
		if (frame.segment == index && frame.end == length)
			segment->unframed = false;
		model->frames[kept++] = frame;
	}
	model->frame_count = kept;
}

/*
 * Of an append that failed, or was under way when the power did: a part of its bytes may be there. An atom of our
 * own is not, unless it is whole.
 */
static void accept_leftovers(struct engine_model *model, struct model_segment *segment,
			     const struct engine_segment_info *info)
{
	if (info->length <= segment->bytes.size)
		return;
	size_t more = (size_t)info->length - segment->bytes.size;
	size_t end = segment->bytes.size;
	int r = 0;
	if (segment->foreign && more <= segment->maybe.size) {
		if (info->class == ENGINE_CLASS_RESTORED && more < segment->maybe.size)
			model_problem(model, "a segment that was copied in is there in part");
		r = buf_append(&segment->bytes, segment->maybe.data, more);
		segment->unframed = true;
	} else if (!segment->foreign && model->own_append_failed && info->frames_end <= end) {
		/* Nobody knows these bytes: what was read is what is compared from now on. */
		size_t got = 0;
		r = buf_append_zeros(&segment->bytes, more);
		if (r == 0)
			r = engine_read(model->engine, segment->segment, segment->bytes.data + end,
					more, end, 0, &got, NULL);
	}
	if (r < 0)
		model_problem(model, "what a failed append left cannot be read: %d", r);
}

/* What was lost, though never acknowledged, is no longer there for the model either. */
static void compare_segment(struct engine_model *model, struct model_segment *segment)
{
	char name[UUID_TEXT_LENGTH + 1];
	struct engine_segment_info info = {0};

	(void)uuid_format(&segment->uuid, name);
	if (segment->segment)
		engine_segment_info(model->engine, segment->segment, &info);
	if (info.length < segment->acknowledged) {
		model_problem(model, "segment %s: %llu bytes, but %zu were acknowledged", name,
			      (unsigned long long)info.length, segment->acknowledged);
		return;
	}
	accept_leftovers(model, segment, &info);
	if (info.length > segment->bytes.size) {
		model_problem(model, "segment %s: %llu bytes, but only %zu were accepted", name,
			      (unsigned long long)info.length, segment->bytes.size);
		return;
	}
	if (info.length && info.state == ENGINE_SEGMENT_DAMAGED)
		model_problem(model, "segment %s is damaged", name);
	if (info.length)
		compare_bytes(model, segment, name, (size_t)info.length);
	if (segment->bytes.size > info.length)
		forget_tail(model, (unsigned)(segment - model->segments), (size_t)info.length);
}

/* Nothing is there that was never made, but what failed appends of our own began. */
static void compare_list(struct engine_model *model)
{
	char name[UUID_TEXT_LENGTH + 1];
	struct engine_segment *segment;

	for (uint32_t number = 0; (segment = engine_segment_next(model->engine, number));
	     number = engine_segment_number(segment)) {
		const struct uuid *uuid = engine_segment_uuid(segment);
		struct engine_segment_info info;
		unsigned count = model->segment_count;
		(void)model_segment_of(model, uuid, false);
		if (model->segment_count == count)
			continue;
		model->segment_count = count;
		engine_segment_info(model->engine, segment, &info);
		if (!model->own_append_failed || info.frames_end > 0)
			model_problem(model, "segment %s, with %llu bytes: nobody made it",
				      uuid_format(uuid, name), (unsigned long long)info.length);
	}
}

/* ---- Roots ---- */

static bool root_equal(const struct model_root *root, const struct engine_root *found)
{
	return root->seq == found->seq &&
	       uuid_equal(&root->pointer.segment, &found->pointer.segment) &&
	       root->pointer.offset == found->pointer.offset &&
	       found->payload_size == sizeof(root->payload) &&
	       memcmp(root->payload, found->payload, sizeof(root->payload)) == 0;
}

static struct model_root *find_root(struct engine_model *model, const struct engine_root *found)
{
	for (unsigned i = 0; i < model->root_count; i++) {
		if (root_equal(&model->roots[i], found))
			return &model->roots[i];
	}
	return NULL;
}

/* Rule 3. */
static void compare_barrier(struct engine_model *model, const struct model_root *root)
{
	struct engine_frame frame;
	unsigned long long seq = root->seq;

	for (unsigned i = 0; i < model->segment_count; i++) {
		const struct model_segment *segment = &model->segments[i];
		if (!segment->removed && segment->bytes.size < root->lengths[i])
			model_problem(
				model,
				"root %llu is there, but segment %u ends at %zu, not at %zu or later",
				seq, i, segment->bytes.size, root->lengths[i]);
	}
	unsigned index = model_segment_of(model, &root->pointer.segment, false);
	if (!model->segments[index].segment) {
		model_problem(model, "root %llu points into a segment that is not there", seq);
		return;
	}
	int r = engine_frame_at(model->engine, model->segments[index].segment, root->pointer.offset,
				&frame);
	if (r == -EIO && model->lenient)
		model->errors++;
	else if (r < 0)
		model_problem(model, "root %llu points at no frame: %d", seq, r);
}

static void compare_root(struct engine_model *model, uint64_t seq)
{
	struct engine_root found;
	int r = engine_root_get(model->engine, seq, &found);
	if (r == -EIO && model->lenient) {
		model->errors++;
		return;
	}
	if (r < 0) {
		model_problem(model, "root %llu: %d", (unsigned long long)seq, r);
		return;
	}
	struct model_root *root = find_root(model, &found);
	if (!root)
		model_problem(model, "root %llu was never published as it is",
			      (unsigned long long)seq);
	else
		compare_barrier(model, root);
}

static void compare_roots(struct engine_model *model)
{
	struct engine_root current = {0};
	uint64_t first = 0;
	uint64_t last = 0;
	uint64_t acknowledged = 0;

	engine_root_range(model->engine, &first, &last);
	int r = engine_root_current(model->engine, &current);
	if ((r < 0 && r != -ENOENT) || current.seq != last)
		model_problem(model, "the newest root is %llu (%d), the range ends at %llu",
			      (unsigned long long)current.seq, r, (unsigned long long)last);
	for (unsigned i = 0; i < model->root_count; i++) {
		if (model->roots[i].acknowledged)
			acknowledged = model->roots[i].seq;
	}
	if (last < acknowledged)
		model_problem(model, "root %llu was acknowledged, but the newest one is %llu",
			      (unsigned long long)acknowledged, (unsigned long long)last);
	uint64_t oldest = model->pruned_to > 1 ? model->pruned_to : 1;
	if (last && first > oldest)
		model_problem(model, "the oldest root is %llu, but %llu was kept",
			      (unsigned long long)first, (unsigned long long)oldest);
	for (uint64_t seq = last ? first : 1; seq <= last; seq++)
		compare_root(model, seq);

	/* An attempt that did not make it never will. */
	unsigned kept = 0;
	for (unsigned i = 0; i < model->root_count; i++) {
		if (model->roots[i].seq <= last)
			model->roots[kept++] = model->roots[i];
	}
	model->root_count = kept;
}

/* ---- The whole ---- */

void model_compare(struct engine_model *model)
{
	for (unsigned i = 0; i < model->segment_count; i++) {
		if (!model->segments[i].removed)
			compare_segment(model, &model->segments[i]);
	}
	compare_list(model);
	compare_roots(model);
}

static int open_and_compare(struct engine_model *model, struct disk *disk)
{
	struct reterr err = {0};
	struct engine_stats stats;

	model->disk = disk;
	int r = model_open(model, &err);
	if (r < 0) {
		model_problem(model, "the store cannot be opened: %d %s", r, err.text);
		return r;
	}
	engine_stats(model->engine, &stats);
	if (stats.read_only || stats.damaged)
		model_problem(model, "the store is read-only or damaged: %s",
			      stats.read_only_reason);
	for (unsigned i = 0; i < model->segment_count; i++)
		model->segments[i].segment =
			engine_segment_find(model->engine, &model->segments[i].uuid);
	model_compare(model);
	return 0;
}

static void note_finding(void *arg, const struct reterr *finding, bool fixed)
{
	(void)fixed;
	model_problem(arg, "fsck: %s", finding->text);
}

static void fsck(struct engine_model *model, struct disk *disk)
{
	const struct engine_fsck_options options = {
		.deep = true, .found = note_finding, .arg = model};
	struct engine_fsck_result result = {0};
	struct reterr err = {0};

	int r = engine_fsck(disk, &options, &result, &err);
	if (r < 0 || result.problems)
		model_problem(model, "fsck: %d, %llu problems %s", r,
			      (unsigned long long)result.problems, err.text);
}

/* The lengths and the newest root, in one number. */
static uint64_t fingerprint(struct engine_model *model)
{
	uint64_t first = 0;
	uint64_t print = 0;

	engine_root_range(model->engine, &first, &print);
	for (unsigned i = 0; i < model->segment_count; i++)
		print = print * 1000003 + model->segments[i].bytes.size;
	return print;
}

int engine_model_open_only(struct engine_model *model, struct disk *disk)
{
	struct reterr err = {0};
	model->disk = disk;
	int r = model_open(model, &err);
	if (r == 0)
		engine_abandon(model->engine);
	model->engine = NULL;
	return r;
}

void engine_model_check(struct engine_model *model, struct disk *disk)
{
	model->step = 0;
	model->lenient = false;
	fsck(model, disk);
	if (*model->problem || open_and_compare(model, disk) < 0)
		return;
	uint64_t print = fingerprint(model);
	engine_abandon(model->engine);
	model->engine = NULL;
	if (*model->problem || open_and_compare(model, disk) < 0)
		return;
	if (fingerprint(model) != print)
		model_problem(model, "a second open finds something else");
	engine_abandon(model->engine);
	model->engine = NULL;
}

/* ---- A stopped store ---- */

struct part_names {
	char names[64][64];
	size_t count;
};

static int add_part_name(void *arg, const char *name, bool is_dir)
{
	struct part_names *parts = arg;
	(void)is_dir;
	invariant(parts->count < 64);
	(void)snprintf(parts->names[parts->count++], sizeof(parts->names[0]), "%s", name);
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

/*
 * A part that was being made when the power failed, of a segment that recovery has no reason to look at. The next append
 * to it replaces the file.
 */
static bool is_leftover(const struct engine_model *model, const char *name, size_t length)
{
	return model->leftovers && strtoull(name, NULL, 10) >= length;
}

/* `cat segments/UUID/` followed by a star is the segment. */
static void cat_segment(struct engine_model *model, const struct model_segment *segment)
{
	char uuid[UUID_TEXT_LENGTH + 1];
	char path[DISK_PATH_MAX];
	struct part_names parts = {.count = 0};
	size_t at = 0;

	(void)uuid_format(&segment->uuid, uuid);
	(void)snprintf(path, sizeof(path), "segments/%s", uuid);
	if (disk_list(model->disk, path, add_part_name, &parts) < 0 && segment->bytes.size)
		model_problem(model, "%s cannot be listed", path);
	qsort(parts.names, parts.count, sizeof(parts.names[0]), compare_names);
	for (size_t i = 0; i < parts.count; i++) {
		if (is_leftover(model, parts.names[i], segment->bytes.size))
			continue;
		void *data = NULL;
		size_t size = 0;
		(void)snprintf(path, sizeof(path), "segments/%s/%s", uuid, parts.names[i]);
		int r = disk_read_file(model->disk, path, SIZE_MAX, &data, &size);
		bool fits = r == 0 && at + size <= segment->bytes.size;
		if (!fits || (size && memcmp(data, segment->bytes.data + at, size) != 0))
			model_problem(model, "%s: %zu bytes, but not those from %zu of %zu: %d",
				      path, size, at, segment->bytes.size, r);
		free(data);
		at += size;
	}
	if (at != segment->bytes.size)
		model_problem(model, "segments/%s has %zu bytes instead of %zu", uuid, at,
			      segment->bytes.size);
}

void engine_model_go_on(struct engine_model *model, struct disk *disk, bool leftovers)
{
	static const uint8_t text[] = "and life goes on";
	struct reterr err = {0};
	struct engine_pointer pointer;
	struct iovec iov = {(void *)(uintptr_t)text, sizeof(text)};

	model->leftovers = leftovers;
	if (*model->problem || open_and_compare(model, disk) < 0)
		return;
	const char *what = "append";
	int r = engine_append(model->engine, ENGINE_CLASS_LOG, 0, &iov, 1, &pointer);
	if (r == 0) {
		what = "publish";
		r = engine_root_publish(model->engine, ENGINE_ROOT_EXPECT_ANY, &pointer, NULL, 0,
					NULL, &err);
	}
	if (r == 0 && model->segments[0].segment) {
		what = "append to a foreign segment";
		r = engine_segment_append(model->engine, model->segments[0].segment, &iov, 1, NULL);
	}
	if (r == 0) {
		unsigned index = model_segment_of(model, &pointer.segment, false);
		uint8_t header[ENGINE_FRAME_HEADER_SIZE] = {sizeof(text)};
		model_accepted(model, index, header, sizeof(header), pointer.offset);
		model_accepted(model, index, text, sizeof(text), pointer.offset + sizeof(header));
	}
	if (r == 0 && model->segments[0].segment)
		model_accepted(model, 0, text, sizeof(text), model->segments[0].bytes.size);
	if (r < 0)
		model_problem(model, "the store does not go on: %s: %d %s", what, r, err.text);
	r = engine_close(model->engine, &err);
	model->engine = NULL;
	if (r < 0)
		model_problem(model, "the store cannot be closed: %d %s", r, err.text);
	for (unsigned i = 0; i < model->segment_count && !*model->problem; i++) {
		if (!model->segments[i].removed)
			cat_segment(model, &model->segments[i]);
	}
	fsck(model, disk);
}
