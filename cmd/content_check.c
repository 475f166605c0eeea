#include "cmd/content_check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "fs/msgpack_reader.h"

struct json_check {
	yajl_handle parser;
	uint64_t fed; /* bytes of earlier pieces */
};

int json_check_new(struct json_check **ret)
{
	struct json_check *check = calloc(1, sizeof(*check));
	if (!check)
		return -ENOMEM;
	check->parser = yajl_alloc(NULL, NULL, NULL);
	if (!check->parser) {
		free(check);
		return -ENOMEM;
	}
	*ret = check;
	return 0;
}

void json_check_free(struct json_check *check)
{
	if (!check)
		return;
	yajl_free(check->parser);
	free(check);
}

static int refuse(struct json_check *check, uint64_t at, struct reterr *err)
{
	unsigned char *why = yajl_get_error(check->parser, 0, NULL, 0);
	size_t length = why ? strcspn((const char *)why, "\n") : 0;
	int r = reterr_set(err, -EINVAL, "invalid JSON at byte %" PRIu64 ": %.*s", at, (int)length,
			   why ? (const char *)why : "");
	if (why)
		yajl_free_error(check->parser, why);
	return r;
}

int json_check_feed(struct json_check *check, const void *data, size_t size, struct reterr *err)
{
	if (yajl_parse(check->parser, data, size) != yajl_status_ok) {
		/* yajl has consumed the byte that it complains of. */
		uint64_t end = check->fed + yajl_get_bytes_consumed(check->parser);
		return refuse(check, end ? end - 1 : 0, err);
	}
	check->fed += size;
	return 0;
}

int json_check_end(struct json_check *check, struct reterr *err)
{
	if (yajl_complete_parse(check->parser) != yajl_status_ok)
		return refuse(check, check->fed, err);
	return 0;
}

int msgpack_check(struct slice whole, struct reterr *err)
{
	struct slice rest = whole;
	uint64_t missing =
		1; /* values; each takes a byte at least, so that it cannot exceed what is left */

	while (missing > 0) {
		struct msgpack_item item;
		size_t at = whole.size - rest.size;
		int r = msgpack_take(&rest, &item);
		if (r == -ENODATA)
			return reterr_set(
				err, -EINVAL,
				"invalid MessagePack: it ends within the value at byte %zu", at);
		if (r < 0)
			return reterr_set(err, -EINVAL, "invalid MessagePack at byte %zu", at);
		missing--;
		if (item.kind == MSGPACK_KIND_ARRAY)
			missing += item.count;
		if (item.kind == MSGPACK_KIND_MAP)
			missing += 2 * (uint64_t)item.count;
		if (missing > rest.size)
			return reterr_set(
				err, -EINVAL,
				"invalid MessagePack: it ends within the value at byte %zu", at);
	}
	if (rest.size > 0)
		return reterr_set(
			err, -EINVAL,
			"invalid MessagePack: the value ends before byte %zu, and more follows",
			whole.size - rest.size);
	return 0;
}
