#include "cloud/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_gen.h>

/* One text under way. yajl remembers its first failure, so that only the end is judged. */
struct print {
	yajl_gen gen;
	bool failed;
};

static void check(struct print *p, yajl_gen_status status)
{
	if (status != yajl_gen_status_ok)
		p->failed = true;
}

static void put_text(struct print *p, const char *text)
{
	check(p, yajl_gen_string(p->gen, (const unsigned char *)text, strlen(text)));
}

/* Numbers beyond 2^53 survive verbatim. */
static void put_number(struct print *p, const char *name, uint64_t value)
{
	char text[24];
	int length = snprintf(text, sizeof(text), "%" PRIu64, value);
	put_text(p, name);
	check(p, yajl_gen_number(p->gen, text, (size_t)length));
}

static void put_string(struct print *p, const char *name, const char *value)
{
	put_text(p, name);
	put_text(p, value);
}

static void put_true(struct print *p, const char *name)
{
	put_text(p, name);
	check(p, yajl_gen_bool(p->gen, 1));
}

static void put_uuid(struct print *p, const char *name, const struct uuid *uuid)
{
	char text[UUID_TEXT_LENGTH + 1];
	put_string(p, name, uuid_format(uuid, text));
}

static void put_hash(struct print *p, const char *name, const struct hash *hash)
{
	char text[HASH_TEXT_LENGTH + 1];
	put_string(p, name, hash_format(hash, text));
}

static void put_hex(struct print *p, const char *name, const uint8_t *data, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	char text[2 * SOURCE_ROOT_PAYLOAD_MAX + 1];
	for (size_t i = 0; i < size; i++) {
		text[2 * i] = digits[data[i] >> 4];
		text[2 * i + 1] = digits[data[i] & 15];
	}
	text[2 * size] = '\0';
	put_string(p, name, text);
}

/* The members of roots/<seq> in a mount, and the payload. */
static void put_root(struct print *p, const struct source_root *root)
{
	put_text(p, "root");
	check(p, yajl_gen_map_open(p->gen));
	put_number(p, "seq", root->seq);
	put_uuid(p, "transaction_id", &root->segment);
	put_number(p, "offset", root->offset);
	put_number(p, "time", root->time_ns);
	put_number(p, "node", root->node);
	if (root->payload_size > 0)
		put_hex(p, "payload", root->payload, root->payload_size);
	check(p, yajl_gen_map_close(p->gen));
}

static void put_segment(struct print *p, const struct manifest_segment *segment)
{
	check(p, yajl_gen_map_open(p->gen));
	put_uuid(p, "uuid", &segment->uuid);
	put_number(p, "class", segment->class);
	put_number(p, "length", segment->length);
	if (segment->ended)
		put_true(p, "ended");
	if (segment->summed)
		put_hash(p, "sum", &segment->sum);
	check(p, yajl_gen_map_close(p->gen));
}

static void put_session(struct print *p, uint64_t session)
{
	uint8_t bytes[8];
	for (unsigned i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(session >> (56 - 8 * i));
	put_hex(p, "session", bytes, sizeof(bytes));
}

static void put_manifest(struct print *p, const struct manifest *m)
{
	check(p, yajl_gen_map_open(p->gen));
	put_number(p, "version", 1);
	put_number(p, "n", m->n);
	put_hash(p, "previous", &m->previous);
	put_uuid(p, "owner", &m->owner);
	put_string(p, "host", m->host);
	put_number(p, "epoch", m->epoch);
	put_session(p, m->session);
	put_number(p, "block_size", m->block_size);
	if (m->since == 0) {
		put_true(p, "full");
	} else if (m->since != m->n - 1) {
		put_number(p, "since", m->since);
		put_hash(p, "since_hash", &m->since_hash);
	}
	if (m->root.seq > 0)
		put_root(p, &m->root);
	put_text(p, "segments");
	check(p, yajl_gen_array_open(p->gen));
	for (size_t i = 0; i < m->segment_count; i++)
		put_segment(p, &m->segments[i]);
	check(p, yajl_gen_array_close(p->gen));
	check(p, yajl_gen_map_close(p->gen));
}

int manifest_print(const struct manifest *manifest, struct buf *ret)
{
	struct print p = {.gen = yajl_gen_alloc(NULL)};
	if (!p.gen)
		return -ENOMEM;
	put_manifest(&p, manifest);

	const unsigned char *text = NULL;
	size_t size = 0;
	check(&p, yajl_gen_get_buf(p.gen, &text, &size));
	int r = p.failed ? -ENOMEM : buf_append(ret, text, size);
	yajl_gen_free(p.gen);
	return r;
}

void manifest_done(struct manifest *manifest)
{
	free(manifest->segments);
	manifest->segments = NULL;
	manifest->segment_count = 0;
}
