#include "fs/small_file.h"

#include <errno.h>
#include <string.h>

#include <msgpack.h>

#include "fs/msgpack_reader.h"

static const char *const small_file_ops[] = {
	[SMALL_FILE_SET] = "set",
	[SMALL_FILE_UNLINK] = "unlink",
	[SMALL_FILE_RENAME] = "rename",
	[SMALL_FILE_RESET] = "reset",
};

enum small_file_key { KEY_OP, KEY_SEQ, KEY_NAME, KEY_MODE, KEY_MTIME, KEY_CONTENT, KEYS };

static const char *const small_file_keys[KEYS] = {
	[KEY_OP] = "op",     [KEY_SEQ] = "seq",     [KEY_NAME] = "name",
	[KEY_MODE] = "mode", [KEY_MTIME] = "mtime", [KEY_CONTENT] = "content",
};

bool small_file_name_ok(const char *name, size_t length)
{
	if (length == 0 || length > SMALL_FILE_NAME_MAX || memchr(name, '\0', length) ||
	    memchr(name, '/', length))
		return false;
	return !(name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')));
}

/* ---- Encoding -------------------------------------------------------------------------------- */

static int pack_write(void *arg, const char *data, size_t size)
{
	return buf_append(arg, data, size);
}

static int pack_text(msgpack_packer *packer, const char *text)
{
	size_t length = strlen(text);
	int r = msgpack_pack_str(packer, length);
	return r < 0 ? r : msgpack_pack_str_body(packer, text, length);
}

static int pack_key(msgpack_packer *packer, enum small_file_key key, int r)
{
	return r < 0 ? r : pack_text(packer, small_file_keys[key]);
}

int small_file_encode(const struct small_file_change *change, struct buf *prefix)
{
	if (change->content.size > SMALL_FILE_SIZE_MAX ||
	    !small_file_name_ok(change->name, strnlen(change->name, sizeof(change->name))))
		return -EINVAL;

	msgpack_packer packer;
	msgpack_packer_init(&packer, prefix, pack_write);
	int r = msgpack_pack_map(&packer, KEYS);
	r = pack_key(&packer, KEY_OP, r);
	r = r < 0 ? r : pack_text(&packer, small_file_ops[change->op]);
	r = pack_key(&packer, KEY_SEQ, r);
	r = r < 0 ? r : msgpack_pack_uint64(&packer, change->seq);
	r = pack_key(&packer, KEY_NAME, r);
	r = r < 0 ? r : pack_text(&packer, change->name);
	r = pack_key(&packer, KEY_MODE, r);
	r = r < 0 ? r : msgpack_pack_uint32(&packer, change->mode);
	r = pack_key(&packer, KEY_MTIME, r);
	r = r < 0 ? r : msgpack_pack_int64(&packer, change->mtime_ns);
	r = pack_key(&packer, KEY_CONTENT, r);
	return r < 0 ? r : msgpack_pack_bin(&packer, change->content.size);
}

/* ---- Decoding -------------------------------------------------------------------------------- */

static bool item_is_text(const struct msgpack_item *item, const char *text)
{
	return item->kind == MSGPACK_KIND_STRING && item->data.size == strlen(text) &&
	       memcmp(item->data.data, text, strlen(text)) == 0;
}

static int take_op(const struct msgpack_item *value, struct small_file_change *change)
{
	for (size_t i = 0; i < ARRAY_SIZE(small_file_ops); i++) {
		if (item_is_text(value, small_file_ops[i])) {
			change->op = (enum small_file_op)i;
			return 0;
		}
	}
	return -EBADMSG;
}

static int take_name(const struct msgpack_item *value, struct small_file_change *change)
{
	if (value->kind != MSGPACK_KIND_STRING ||
	    !small_file_name_ok((const char *)value->data.data, value->data.size))
		return -EBADMSG;
	memcpy(change->name, value->data.data, value->data.size);
	change->name[value->data.size] = '\0';
	return 0;
}

static int take_time(const struct msgpack_item *value, struct small_file_change *change)
{
	if (value->kind == MSGPACK_KIND_INT)
		change->mtime_ns = value->signed_value;
	else if (value->kind == MSGPACK_KIND_UINT && value->unsigned_value <= INT64_MAX)
		change->mtime_ns = (int64_t)value->unsigned_value;
	else
		return -EBADMSG;
	return 0;
}

static int take_content(const struct msgpack_item *value, struct small_file_change *change)
{
	if (value->kind != MSGPACK_KIND_BINARY || value->data.size > SMALL_FILE_SIZE_MAX)
		return -EBADMSG;
	change->content = value->data;
	if (change->op == SMALL_FILE_RENAME &&
	    !small_file_name_ok((const char *)value->data.data, value->data.size))
		return -EBADMSG;
	return change->op == SMALL_FILE_RESET && value->data.size != sizeof(uint64_t) ? -EBADMSG
										      : 0;
}

static int take_value(enum small_file_key key, const struct msgpack_item *value,
		      struct small_file_change *change)
{
	bool is_uint = value->kind == MSGPACK_KIND_UINT;
	switch (key) {
	case KEY_OP:
		return take_op(value, change);
	case KEY_SEQ:
		change->seq = value->unsigned_value;
		return is_uint ? 0 : -EBADMSG;
	case KEY_NAME:
		return take_name(value, change);
	case KEY_MODE:
		if (!is_uint || value->unsigned_value > 0777)
			return -EBADMSG;
		change->mode = (uint32_t)value->unsigned_value;
		return 0;
	case KEY_MTIME:
		return take_time(value, change);
	case KEY_CONTENT:
		return take_content(value, change);
	case KEYS:
		break;
	}
	return -EBADMSG;
}

static int take_pair(struct slice *in, enum small_file_key key, struct small_file_change *change)
{
	struct msgpack_item item;
	if (msgpack_take(in, &item) < 0 || !item_is_text(&item, small_file_keys[key]))
		return -EBADMSG;
	if (msgpack_take(in, &item) < 0)
		return -EBADMSG;
	return take_value(key, &item, change);
}

int small_file_decode(struct slice payload, struct small_file_change *ret, struct reterr *err)
{
	struct small_file_change change = {0};
	struct msgpack_item map;

	if (payload.size > SMALL_FILE_PAYLOAD_MAX)
		return reterr_set(err, -EBADMSG, "a change of a small file has %zu bytes",
				  payload.size);
	if (msgpack_take(&payload, &map) < 0 || map.kind != MSGPACK_KIND_MAP || map.count != KEYS)
		return reterr_set(err, -EBADMSG, "a change of a small file is no map of %d keys",
				  KEYS);
	for (enum small_file_key key = 0; key < KEYS; key++) {
		if (take_pair(&payload, key, &change) < 0)
			return reterr_set(err, -EBADMSG,
					  "a change of a small file has no valid \"%s\"",
					  small_file_keys[key]);
	}
	if (payload.size > 0)
		return reterr_set(err, -EBADMSG, "%zu bytes follow a change of a small file",
				  payload.size);
	*ret = change;
	return 0;
}
