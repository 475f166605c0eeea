#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "cloud/block_key.h"
#include "cloud/manifest.h"

/* Where in the text the parser is. Whatever lies in an unknown member is passed over by depth. */
enum where { AT_START, AT_TOP, AT_ROOT, AT_LIST, AT_SEGMENT, AT_END };

enum kind { KIND_NUMBER, KIND_STRING, KIND_TRUE, KIND_MAP, KIND_LIST };

enum member {
	MEMBER_VERSION,
	MEMBER_N,
	MEMBER_PREVIOUS,
	MEMBER_OWNER,
	MEMBER_HOST,
	MEMBER_EPOCH,
	MEMBER_SESSION,
	MEMBER_BLOCK_SIZE,
	MEMBER_FULL,
	MEMBER_SINCE,
	MEMBER_SINCE_HASH,
	MEMBER_ROOT,
	MEMBER_SEGMENTS,
	MEMBER_ROOT_SEQ,
	MEMBER_ROOT_SEGMENT,
	MEMBER_ROOT_OFFSET,
	MEMBER_ROOT_TIME,
	MEMBER_ROOT_NODE,
	MEMBER_ROOT_PAYLOAD,
	MEMBER_SEGMENT_UUID,
	MEMBER_SEGMENT_CLASS,
	MEMBER_SEGMENT_LENGTH,
	MEMBER_SEGMENT_ENDED,
	MEMBER_SEGMENT_SUM,
	MEMBER_UNKNOWN,
};

struct member_rule {
	const char *name;
	enum where where;
	enum kind kind;
	uint64_t max; /* of a number */
	bool needed;
};

static const struct member_rule rules[MEMBER_UNKNOWN] = {
	[MEMBER_VERSION] = {"version", AT_TOP, KIND_NUMBER, UINT32_MAX, true},
	[MEMBER_N] = {"n", AT_TOP, KIND_NUMBER, BLOCK_KEY_POSITION_MAX, true},
	[MEMBER_PREVIOUS] = {"previous", AT_TOP, KIND_STRING, 0, true},
	[MEMBER_OWNER] = {"owner", AT_TOP, KIND_STRING, 0, true},
	[MEMBER_HOST] = {"host", AT_TOP, KIND_STRING, 0, true},
	[MEMBER_EPOCH] = {"epoch", AT_TOP, KIND_NUMBER, BLOCK_KEY_POSITION_MAX, true},
	[MEMBER_SESSION] = {"session", AT_TOP, KIND_STRING, 0, true},
	[MEMBER_BLOCK_SIZE] = {"block_size", AT_TOP, KIND_NUMBER, BLOCK_STORE_SIZE_MAX, true},
	[MEMBER_FULL] = {"full", AT_TOP, KIND_TRUE, 0, false},
	[MEMBER_SINCE] = {"since", AT_TOP, KIND_NUMBER, BLOCK_KEY_POSITION_MAX, false},
	[MEMBER_SINCE_HASH] = {"since_hash", AT_TOP, KIND_STRING, 0, false},
	[MEMBER_ROOT] = {"root", AT_TOP, KIND_MAP, 0, false},
	[MEMBER_SEGMENTS] = {"segments", AT_TOP, KIND_LIST, 0, true},
	[MEMBER_ROOT_SEQ] = {"seq", AT_ROOT, KIND_NUMBER, UINT64_MAX, true},
	[MEMBER_ROOT_SEGMENT] = {"transaction_id", AT_ROOT, KIND_STRING, 0, true},
	[MEMBER_ROOT_OFFSET] = {"offset", AT_ROOT, KIND_NUMBER, BLOCK_KEY_POSITION_MAX, true},
	[MEMBER_ROOT_TIME] = {"time", AT_ROOT, KIND_NUMBER, UINT64_MAX, true},
	[MEMBER_ROOT_NODE] = {"node", AT_ROOT, KIND_NUMBER, UINT32_MAX, true},
	[MEMBER_ROOT_PAYLOAD] = {"payload", AT_ROOT, KIND_STRING, 0, false},
	[MEMBER_SEGMENT_UUID] = {"uuid", AT_SEGMENT, KIND_STRING, 0, true},
	[MEMBER_SEGMENT_CLASS] = {"class", AT_SEGMENT, KIND_NUMBER, UINT8_MAX, true},
	[MEMBER_SEGMENT_LENGTH] = {"length", AT_SEGMENT, KIND_NUMBER, BLOCK_KEY_POSITION_MAX, true},
	[MEMBER_SEGMENT_ENDED] = {"ended", AT_SEGMENT, KIND_TRUE, 0, false},
	[MEMBER_SEGMENT_SUM] = {"sum", AT_SEGMENT, KIND_STRING, 0, false},
};

struct parse {
	struct manifest *m;
	struct reterr *err;
	int error; /* 0, or why the parse ends */
	enum where where;
	enum member member; /* whose value comes next */
	unsigned skipping;  /* open maps and lists of an unknown member */
	uint32_t seen;      /* bits of enum member */
	size_t capacity;    /* of m->segments; its last one is under way */
};

/* Ends the parse, as yajl wants it. */
static int bad(struct parse *p, const char *problem)
{
	p->error = reterr_set(p->err, -EBADMSG, "it is no manifest: %s", problem);
	return 0;
}

static int bad_member(struct parse *p, const char *problem)
{
	p->error = reterr_set(p->err, -EBADMSG, "it is no manifest: \"%s\" %s",
			      rules[p->member].name, problem);
	return 0;
}

static struct manifest_segment *last_segment(struct parse *p)
{
	return &p->m->segments[p->m->segment_count - 1];
}

/* Whether a value of KIND is to be taken now: 1 take it, 0 pass over it, negative: the parse ends. */
static int expect(struct parse *p, enum kind kind)
{
	if (p->skipping > 0)
		return 0;
	if (p->where == AT_START || p->where == AT_LIST || p->where == AT_END) {
		(void)bad(p, "a value stands where none may");
		return -1;
	}
	if (p->member == MEMBER_UNKNOWN)
		return 0;
	if (rules[p->member].kind != kind) {
		(void)bad_member(p, "has another type");
		return -1;
	}
	return 1;
}

static int on_null(void *arg)
{
	struct parse *p = arg;
	int r = expect(p, KIND_TRUE);
	return r > 0 ? bad_member(p, "is null") : r == 0;
}

static int on_boolean(void *arg, int value)
{
	struct parse *p = arg;
	int r = expect(p, KIND_TRUE);
	if (r <= 0)
		return r == 0;
	if (!value)
		p->seen &= ~(UINT32_C(1) << p->member); /* as if it were not there */
	else if (p->member == MEMBER_SEGMENT_ENDED)
		last_segment(p)->ended = true;
	return 1;
}

static uint64_t *number_of(struct parse *p, uint64_t *other)
{
	struct manifest *m = p->m;
	switch ((int)p->member) { /* the rest are no numbers of 64 bits */
	case MEMBER_N:
		return &m->n;
	case MEMBER_EPOCH:
		return &m->epoch;
	case MEMBER_BLOCK_SIZE:
		return &m->block_size;
	case MEMBER_SINCE:
		return &m->since;
	case MEMBER_ROOT_SEQ:
		return &m->root.seq;
	case MEMBER_ROOT_OFFSET:
		return &m->root.offset;
	case MEMBER_ROOT_TIME:
		return &m->root.time_ns;
	case MEMBER_SEGMENT_LENGTH:
		return &last_segment(p)->length;
	default:
		return other;
	}
}

static int on_number(void *arg, const char *text, size_t size)
{
	struct parse *p = arg;
	int r = expect(p, KIND_NUMBER);
	if (r <= 0)
		return r == 0;

	const uint64_t max = rules[p->member].max;
	uint64_t value = 0;
	for (size_t i = 0; i < size; i++) {
		if (text[i] < '0' || text[i] > '9')
			return bad_member(p, "is no whole number");
		uint64_t digit = (uint64_t)(text[i] - '0');
		if (digit > max || value > (max - digit) / 10)
			return bad_member(p, "is too large");
		value = value * 10 + digit;
	}
	uint64_t other;
	*number_of(p, &other) = value;
	if (p->member == MEMBER_VERSION && value != 1)
		return bad_member(p, "is one of a later program");
	if (p->member == MEMBER_ROOT_NODE)
		p->m->root.node = (uint32_t)value;
	if (p->member == MEMBER_SEGMENT_CLASS)
		last_segment(p)->class = (uint8_t)value;
	return 1;
}

static int hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* SIZE_MAX bytes at most. */
static bool take_hex(const unsigned char *text, size_t size, uint8_t *data, size_t size_max)
{
	if (size % 2 != 0 || size / 2 > size_max)
		return false;
	for (size_t i = 0; i < size / 2; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		data[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool take_uuid(const unsigned char *text, size_t size, struct uuid *ret)
{
	char copy[UUID_TEXT_LENGTH + 1];
	if (size != UUID_TEXT_LENGTH)
		return false;
	memcpy(copy, text, size);
	copy[size] = '\0';
	return uuid_parse(copy, ret) == 0;
}

static bool take_hash(const unsigned char *text, size_t size, struct hash *ret)
{
	return size == HASH_TEXT_LENGTH && take_hex(text, size, ret->bytes, HASH_SIZE);
}

static bool take_session(const unsigned char *text, size_t size, uint64_t *ret)
{
	uint8_t bytes[8];
	if (size != 16 || !take_hex(text, size, bytes, sizeof(bytes)))
		return false;
	*ret = 0;
	for (unsigned i = 0; i < 8; i++)
		*ret = *ret << 8 | bytes[i];
	return true;
}

/* It reaches messages and terminals: nothing but text stays of it. */
static bool take_host(const unsigned char *text, size_t size, char *host)
{
	if (size > MANIFEST_HOST_MAX)
		return false;
	for (size_t i = 0; i < size; i++)
		host[i] = text[i] > 32 && text[i] < 127 ? (char)text[i] : '?';
	host[size] = '\0';
	return true;
}

static bool take_payload(const unsigned char *text, size_t size, struct source_root *root)
{
	root->payload_size = (uint32_t)(size / 2);
	return take_hex(text, size, root->payload, sizeof(root->payload));
}

static bool take_string(struct parse *p, const unsigned char *text, size_t size)
{
	struct manifest *m = p->m;
	switch ((int)p->member) { /* the rest are no strings */
	case MEMBER_PREVIOUS:
		return take_hash(text, size, &m->previous);
	case MEMBER_OWNER:
		return take_uuid(text, size, &m->owner);
	case MEMBER_HOST:
		return take_host(text, size, m->host);
	case MEMBER_SESSION:
		return take_session(text, size, &m->session);
	case MEMBER_SINCE_HASH:
		return take_hash(text, size, &m->since_hash);
	case MEMBER_ROOT_SEGMENT:
		return take_uuid(text, size, &m->root.segment);
	case MEMBER_ROOT_PAYLOAD:
		return take_payload(text, size, &m->root);
	case MEMBER_SEGMENT_UUID:
		return take_uuid(text, size, &last_segment(p)->uuid);
	case MEMBER_SEGMENT_SUM:
		last_segment(p)->summed = true;
		return take_hash(text, size, &last_segment(p)->sum);
	default:
		return false;
	}
}

static int on_string(void *arg, const unsigned char *text, size_t size)
{
	struct parse *p = arg;
	int r = expect(p, KIND_STRING);
	if (r <= 0)
		return r == 0;
	return take_string(p, text, size) ? 1 : bad_member(p, "is not of its form");
}

static int on_key(void *arg, const unsigned char *text, size_t size)
{
	struct parse *p = arg;
	if (p->skipping > 0)
		return 1;
	p->member = MEMBER_UNKNOWN;
	for (unsigned i = 0; i < MEMBER_UNKNOWN; i++)
		if (rules[i].where == p->where && strlen(rules[i].name) == size &&
		    memcmp(rules[i].name, text, size) == 0)
			p->member = (enum member)i;
	if (p->member == MEMBER_UNKNOWN)
		return 1;
	if (p->seen >> p->member & 1)
		return bad_member(p, "is there twice");
	p->seen |= UINT32_C(1) << p->member;
	return 1;
}

/* Every member that WHERE needs was there. They are forgotten, for the next of its kind. */
static int complete(struct parse *p, enum where where)
{
	for (unsigned i = 0; i < MEMBER_UNKNOWN; i++) {
		if (rules[i].where != where)
			continue;
		if (rules[i].needed && !(p->seen >> i & 1)) {
			p->member = (enum member)i;
			return bad_member(p, "is missing");
		}
		if (where != AT_TOP)
			p->seen &= ~(UINT32_C(1) << i);
	}
	return 1;
}

static int begin_segment(struct parse *p)
{
	struct manifest *m = p->m;
	if (m->segment_count == MANIFEST_SEGMENTS_MAX)
		return bad(p, "it lists too many segments");
	if (m->segment_count == p->capacity) {
		size_t capacity = p->capacity > 0 ? 2 * p->capacity : 4;
		void *segments = realloc(m->segments, capacity * sizeof(*m->segments));
		if (!segments) {
			p->error = reterr_set(p->err, -ENOMEM, "no memory for a manifest");
			return 0;
		}
		m->segments = segments;
		p->capacity = capacity;
	}
	m->segments[m->segment_count++] = (struct manifest_segment){.length = 0};
	p->where = AT_SEGMENT;
	return 1;
}

static int skip_deeper(struct parse *p)
{
	if (++p->skipping > MANIFEST_DEPTH_MAX)
		return bad(p, "it is nested too deep");
	return 1;
}

static int on_map(void *arg)
{
	struct parse *p = arg;
	if (p->skipping == 0 && p->where == AT_START) {
		p->where = AT_TOP;
		return 1;
	}
	if (p->skipping == 0 && p->where == AT_LIST)
		return begin_segment(p);
	int r = expect(p, KIND_MAP);
	if (r < 0)
		return 0;
	if (r == 0)
		return skip_deeper(p);
	p->where = AT_ROOT;
	return 1;
}

static int on_map_end(void *arg)
{
	struct parse *p = arg;
	if (p->skipping > 0) {
		p->skipping--;
		return 1;
	}
	enum where was = p->where;
	if (was == AT_SEGMENT)
		p->where = AT_LIST;
	else
		p->where = was == AT_ROOT ? AT_TOP : AT_END;
	return complete(p, was);
}

static int on_list(void *arg)
{
	struct parse *p = arg;
	int r = expect(p, KIND_LIST);
	if (r < 0)
		return 0;
	if (r == 0)
		return skip_deeper(p);
	p->where = AT_LIST;
	return 1;
}

static int on_list_end(void *arg)
{
	struct parse *p = arg;
	if (p->skipping > 0)
		p->skipping--;
	else
		p->where = AT_TOP;
	return 1;
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_boolean,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_map,
	.yajl_map_key = on_key,
	.yajl_end_map = on_map_end,
	.yajl_start_array = on_list,
	.yajl_end_array = on_list_end,
};

/* What no single member can tell. */
static int judge(struct parse *p)
{
	struct manifest *m = p->m;
	bool full = p->seen >> MEMBER_FULL & 1;
	bool since = p->seen >> MEMBER_SINCE & 1;

	if (p->where != AT_END)
		return bad(p, "it is no object");
	if (m->n == 0)
		return bad(p, "its number is 0");
	if (m->block_size == 0 || m->block_size % 65536 != 0)
		return bad(p, "its block size is no multiple of 64 KiB");
	if (since != (p->seen >> MEMBER_SINCE_HASH & 1) || (full && since))
		return bad(p, "\"full\", \"since\" and \"since_hash\" contradict each other");
	if (since && (m->since == 0 || m->since >= m->n))
		return bad(p, "\"since\" names no earlier one");
	if (!full && m->n == 1)
		return bad(p, "the first one must be full");
	if (!full && !since) {
		m->since = m->n - 1;
		m->since_hash = m->previous;
	}
	for (size_t i = 1; i < m->segment_count; i++)
		if (memcmp(m->segments[i - 1].uuid.bytes, m->segments[i].uuid.bytes, 16) >= 0)
			return bad(p, "its segments are not in order");
	return 1;
}

int manifest_parse(struct slice text, struct manifest *ret, struct reterr *err)
{
	struct manifest m = {.n = 0};
	struct parse p = {.m = &m, .err = err, .where = AT_START, .member = MEMBER_UNKNOWN};
	if (text.size > MANIFEST_SIZE_MAX)
		return reterr_set(err, -EBADMSG, "it is no manifest: it has too many bytes");

	yajl_handle handle = yajl_alloc(&callbacks, NULL, &p);
	if (!handle)
		return reterr_set(err, -ENOMEM, "no memory for a manifest");
	yajl_status status = yajl_parse(handle, text.data, text.size);
	if (status == yajl_status_ok)
		status = yajl_complete_parse(handle);
	yajl_free(handle);

	if (p.error == 0 && status != yajl_status_ok)
		(void)bad(&p, "it is no JSON");
	if (p.error == 0)
		(void)judge(&p);
	if (p.error < 0) {
		manifest_done(&m);
		return p.error;
	}
	*ret = m;
	return 0;
}
