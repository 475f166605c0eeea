#include "cloud/upload_journal.h"

#include <errno.h>
#include <string.h>

#include "base/le.h"
#include "cloud/block_key.h"
#include "cloud/manifest.h"

enum item { ITEM_CHAIN = 1, ITEM_SEGMENT = 2, ITEM_MANIFEST = 3, ITEM_FENCED = 4 };

enum {
	RECORD_MAGIC = 0x314a5550, /* "PUJ1" */
	ITEM_HEADER_SIZE = 8,
	SUM_SIZE = 8,
	SEGMENT_SIZE = 104,
};

enum { FLAG_ENDED = 1, FLAG_SUMMED = 2, FLAG_LOST = 4, LOST_AT_SIZE = 6 };

/* ---- Writing -------------------------------------------------------------------------------- */

static int put_le32(struct buf *buf, uint32_t value)
{
	uint8_t bytes[4];
	store_le32(bytes, value);
	return buf_append(buf, bytes, sizeof(bytes));
}

static int put_le64(struct buf *buf, uint64_t value)
{
	uint8_t bytes[8];
	store_le64(bytes, value);
	return buf_append(buf, bytes, sizeof(bytes));
}

static int put_le64s(struct buf *buf, const uint64_t *values, size_t count)
{
	int r = 0;
	for (size_t i = 0; i < count && r == 0; i++)
		r = put_le64(buf, values[i]);
	return r;
}

/* Memory for the whole item is taken here: what follows cannot fail half-way. */
static int put_header(struct buf *buf, enum item item, size_t size)
{
	int r = buf_reserve(buf, ITEM_HEADER_SIZE + size);
	if (r == 0)
		r = put_le32(buf, (uint32_t)item);
	return r < 0 ? r : put_le32(buf, (uint32_t)size);
}

int upload_record_begin(struct buf *record)
{
	record->max = SOURCE_RECORD_MAX;
	buf_clear(record);
	return put_le32(record, RECORD_MAGIC);
}

int upload_record_end(struct buf *record)
{
	return put_le64(record, hash64_of(record->data, record->size));
}

static int put_root(struct buf *buf, const struct source_root *root)
{
	int r = put_le64(buf, root->seq);
	if (r == 0)
		r = buf_append(buf, root->segment.bytes, sizeof(root->segment.bytes));
	if (r == 0)
		r = put_le64s(buf, (const uint64_t[]){root->offset, root->time_ns}, 2);
	if (r == 0)
		r = put_le32(buf, root->node);
	if (r == 0)
		r = put_le32(buf, root->payload_size);
	return r < 0 ? r : buf_append(buf, root->payload, root->payload_size);
}

int upload_record_chain(struct buf *record, const struct upload_chain *chain)
{
	size_t size = 16 + 8 + 8 + 16 + 8 + 48 + chain->root.payload_size + 4 +
		      (size_t)chain->run_count * 32;
	int r = put_header(record, ITEM_CHAIN, size);
	if (r == 0)
		r = buf_append(record, chain->owner.bytes, sizeof(chain->owner.bytes));
	if (r == 0)
		r = put_le64s(record, (const uint64_t[]){chain->block_size, chain->n}, 2);
	if (r == 0)
		r = buf_append(record, chain->hash.bytes, HASH_SIZE);
	if (r == 0)
		r = put_le64(record, chain->epoch);
	if (r == 0)
		r = put_root(record, &chain->root);
	if (r == 0)
		r = put_le32(record, chain->run_count);
	for (unsigned i = 0; i < chain->run_count && r == 0; i++) {
		const struct manifest_run *run = &chain->runs[i];
		r = put_le64s(record, (const uint64_t[]){run->n, run->entries}, 2);
		if (r == 0)
			r = buf_append(record, run->hash.bytes, HASH_SIZE);
	}
	return r;
}

int upload_record_segment(struct buf *record, const struct upload_segment *s)
{
	/* What is being deleted may be left if we are killed now. */
	uint64_t trash = s->trash < s->trash_sent ? s->trash : s->trash_sent;
	const uint64_t values[] = {s->full,      s->tail_at, s->tail_to, s->intent_from,
				   s->intent_to, trash,      s->listed,  s->listed_n};
	uint8_t last[8] = {s->class,
			   (uint8_t)((s->listed_ended ? FLAG_ENDED : 0) |
				     (s->summed ? FLAG_SUMMED : 0) | (s->lost ? FLAG_LOST : 0))};
	for (unsigned i = 0; i < LOST_AT_SIZE; i++)
		last[2 + i] = (uint8_t)(s->lost_at >> 8 * i);
	int r = put_header(record, ITEM_SEGMENT, SEGMENT_SIZE);
	if (r == 0)
		r = buf_append(record, s->uuid.bytes, sizeof(s->uuid.bytes));
	if (r == 0)
		r = put_le64s(record, values, ARRAY_SIZE(values));
	if (r == 0)
		r = buf_append(record, s->sum.bytes, HASH_SIZE);
	return r < 0 ? r : buf_append(record, last, sizeof(last));
}

int upload_record_manifest(struct buf *record, uint64_t n, struct slice text)
{
	int r = put_header(record, ITEM_MANIFEST, 8 + text.size);
	if (r == 0)
		r = put_le64(record, n);
	return r < 0 ? r : buf_append(record, text.data, text.size);
}

int upload_record_fenced(struct buf *record, const char *why)
{
	int r = put_header(record, ITEM_FENCED, strlen(why));
	return r < 0 ? r : buf_append(record, why, strlen(why));
}

/* ---- Reading -------------------------------------------------------------------------------- */

static int take_bytes(struct slice *in, void *ret, size_t size)
{
	struct slice bytes;
	int r = slice_take(in, size, &bytes);
	if (r == 0 && size > 0)
		memcpy(ret, bytes.data, size);
	return r;
}

static int take_le64s(struct slice *in, uint64_t *const *values, size_t count)
{
	int r = 0;
	for (size_t i = 0; i < count && r == 0; i++)
		r = slice_take_le64(in, values[i]);
	return r;
}

static int take_root(struct slice *in, struct source_root *root)
{
	int r = slice_take_le64(in, &root->seq);
	if (r == 0)
		r = take_bytes(in, root->segment.bytes, sizeof(root->segment.bytes));
	if (r == 0)
		r = take_le64s(in, (uint64_t *const[]){&root->offset, &root->time_ns}, 2);
	if (r == 0)
		r = slice_take_le32(in, &root->node);
	if (r == 0)
		r = slice_take_le32(in, &root->payload_size);
	if (r == 0 && root->payload_size > SOURCE_ROOT_PAYLOAD_MAX)
		return -EBADMSG;
	return r < 0 ? r : take_bytes(in, root->payload, root->payload_size);
}

static int take_chain(struct slice *in, struct upload_chain *chain)
{
	uint32_t runs = 0;
	int r = take_bytes(in, chain->owner.bytes, sizeof(chain->owner.bytes));
	if (r == 0)
		r = take_le64s(in, (uint64_t *const[]){&chain->block_size, &chain->n}, 2);
	if (r == 0)
		r = take_bytes(in, chain->hash.bytes, HASH_SIZE);
	if (r == 0)
		r = slice_take_le64(in, &chain->epoch);
	if (r == 0)
		r = take_root(in, &chain->root);
	if (r == 0)
		r = slice_take_le32(in, &runs);
	if (r == 0 && runs > MANIFEST_RUNS_MAX)
		return -EBADMSG;
	chain->run_count = runs;
	for (unsigned i = 0; i < runs && r == 0; i++) {
		struct manifest_run *run = &chain->runs[i];
		r = take_le64s(in, (uint64_t *const[]){&run->n, &run->entries}, 2);
		if (r == 0)
			r = take_bytes(in, run->hash.bytes, HASH_SIZE);
	}
	return r == 0 && chain->n > BLOCK_KEY_POSITION_MAX ? -EBADMSG : r;
}

/* What no arithmetic may rely on is refused here, however it came into the journal. */
static bool possible(const struct upload_segment *s)
{
	const uint64_t max = BLOCK_KEY_POSITION_MAX;
	return s->full <= max && s->tail_at <= max && s->tail_to <= max && s->intent_to <= max &&
	       (s->intent_to == 0 || s->intent_from < s->intent_to) && s->listed <= max &&
	       (s->trash <= max || s->trash == UPLOAD_NONE);
}

static int take_segment(struct slice *in, struct upload_segment *s)
{
	uint8_t last[8] = {0};
	uint64_t *const values[] = {&s->full,      &s->tail_at, &s->tail_to, &s->intent_from,
				    &s->intent_to, &s->trash,   &s->listed,  &s->listed_n};
	int r = take_bytes(in, s->uuid.bytes, sizeof(s->uuid.bytes));
	if (r == 0)
		r = take_le64s(in, values, ARRAY_SIZE(values));
	if (r == 0)
		r = take_bytes(in, s->sum.bytes, HASH_SIZE);
	if (r == 0)
		r = take_bytes(in, last, sizeof(last));
	if (r < 0)
		return r;
	s->class = last[0];
	s->listed_ended = last[1] & FLAG_ENDED;
	s->summed = last[1] & FLAG_SUMMED;
	s->lost = last[1] & FLAG_LOST;
	for (unsigned i = 0; i < LOST_AT_SIZE; i++)
		s->lost_at |= (uint64_t)last[2 + i] << 8 * i;
	return possible(s) ? 0 : -EBADMSG;
}

static int visit_chain(struct slice in, const struct upload_record_visitor *visitor)
{
	struct upload_chain chain = {.n = 0};
	int r = take_chain(&in, &chain);
	if (r < 0 || in.size > 0)
		return -EBADMSG;
	return visitor->chain(visitor->arg, &chain);
}

static int visit_segment(struct slice in, const struct upload_record_visitor *visitor)
{
	struct upload_segment segment = {.trash_sent = UPLOAD_NONE};
	int r = take_segment(&in, &segment);
	if (r < 0 || in.size > 0)
		return -EBADMSG;
	return visitor->segment(visitor->arg, &segment);
}

static int visit(uint32_t item, struct slice in, const struct upload_record_visitor *visitor)
{
	uint64_t n;
	switch (item) {
	case ITEM_CHAIN:
		return visit_chain(in, visitor);
	case ITEM_SEGMENT:
		return visit_segment(in, visitor);
	case ITEM_MANIFEST:
		if (slice_take_le64(&in, &n) < 0 || in.size > MANIFEST_SIZE_MAX)
			return -EBADMSG;
		return visitor->manifest(visitor->arg, n, in);
	case ITEM_FENCED:
		return visitor->fenced(visitor->arg, in);
	default:
		return -EBADMSG; /* a later program's: to pass over it would be a guess */
	}
}

int upload_record_read(struct slice record, const struct upload_record_visitor *visitor)
{
	struct slice body;
	uint32_t magic, item, size;
	if (record.size < SUM_SIZE || slice_take(&record, record.size - SUM_SIZE, &body) < 0 ||
	    load_le64(record.data) != hash64_of(body.data, body.size))
		return -EBADMSG;
	if (slice_take_le32(&body, &magic) < 0 || magic != RECORD_MAGIC)
		return -EBADMSG;
	while (body.size > 0) {
		struct slice in;
		if (slice_take_le32(&body, &item) < 0 || slice_take_le32(&body, &size) < 0 ||
		    slice_take(&body, size, &in) < 0)
			return -EBADMSG;
		int r = visit(item, in, visitor);
		if (r < 0)
			return r;
	}
	return 0;
}
