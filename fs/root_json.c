#include "fs/root_json.h"

#include <errno.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "fs/node.h"

enum { ROOT_JSON_DEPTH_MAX = 16 };

enum root_member { MEMBER_OTHER, MEMBER_SEGMENT, MEMBER_OFFSET };

/* The state of one parse; yajl calls the functions below in the order of the text. */
struct root_parse {
	struct engine_pointer pointer;
	enum root_member member; /* whose value comes next, at depth 1 */
	unsigned depth;
	bool has_segment, has_offset;
	const char *problem; /* NULL: none so far */
};

/* yajl's way to end a parse. */
static int root_fail(struct root_parse *parse, const char *problem)
{
	parse->problem = problem;
	return 0;
}

/* A value that is neither the string nor the number that is asked for. */
static int root_other(struct root_parse *parse)
{
	if (parse->depth == 0)
		return root_fail(parse, "it is no object");
	if (parse->depth == 1 && parse->member == MEMBER_SEGMENT)
		return root_fail(parse, "\"transaction_id\" is no string");
	if (parse->depth == 1 && parse->member == MEMBER_OFFSET)
		return root_fail(parse, "\"offset\" is no number");
	return 1;
}

static int root_null(void *arg)
{
	return root_other(arg);
}

static int root_boolean(void *arg, int value)
{
	(void)value;
	return root_other(arg);
}

/* TEXT is a JSON number: an optional minus sign, digits, and perhaps a fraction or an exponent. */
static int root_number(void *arg, const char *text, size_t size)
{
	struct root_parse *parse = arg;
	uint64_t value = 0;

	if (parse->depth != 1 || parse->member != MEMBER_OFFSET)
		return root_other(parse);
	for (size_t i = 0; i < size; i++) {
		if (text[i] < '0' || text[i] > '9')
			return root_fail(parse,
					 "\"offset\" is no whole number above or equal to 0");
		value = value * 10 + (uint64_t)(text[i] - '0');
		if (value > NODE_OFFSET_MAX)
			return root_fail(parse, "\"offset\" is beyond what a segment can hold");
	}
	parse->pointer.offset = value;
	parse->has_offset = true;
	return 1;
}

static int root_string(void *arg, const unsigned char *text, size_t size)
{
	struct root_parse *parse = arg;
	char uuid[UUID_TEXT_LENGTH + 1] = {0};

	if (parse->depth != 1 || parse->member != MEMBER_SEGMENT)
		return root_other(parse);
	if (size == UUID_TEXT_LENGTH)
		memcpy(uuid, text, size);
	if (size != UUID_TEXT_LENGTH || uuid_parse(uuid, &parse->pointer.segment) < 0)
		return root_fail(parse,
				 "\"transaction_id\" is no UUID of 36 lower-case characters");
	parse->has_segment = true;
	return 1;
}

static bool key_is(const unsigned char *text, size_t size, const char *key)
{
	return size == strlen(key) && memcmp(text, key, size) == 0;
}

static int root_key(void *arg, const unsigned char *text, size_t size)
{
	struct root_parse *parse = arg;

	if (parse->depth != 1)
		return 1;
	parse->member = MEMBER_OTHER;
	if (key_is(text, size, "transaction_id"))
		parse->member = MEMBER_SEGMENT;
	else if (key_is(text, size, "offset"))
		parse->member = MEMBER_OFFSET;
	if ((parse->member == MEMBER_SEGMENT && parse->has_segment) ||
	    (parse->member == MEMBER_OFFSET && parse->has_offset))
		return root_fail(parse, "a member is there twice");
	return 1;
}

static int root_deeper(struct root_parse *parse)
{
	if (parse->depth == ROOT_JSON_DEPTH_MAX)
		return root_fail(parse, "it is nested too deep");
	parse->depth++;
	return 1;
}

static int root_map(void *arg)
{
	struct root_parse *parse = arg;
	if (parse->depth > 0 && !root_other(parse))
		return 0;
	return root_deeper(parse);
}

static int root_array(void *arg)
{
	struct root_parse *parse = arg;
	return root_other(parse) ? root_deeper(parse) : 0;
}

static int root_end(void *arg)
{
	struct root_parse *parse = arg;
	parse->depth--;
	return 1;
}

static const yajl_callbacks root_callbacks = {
	.yajl_null = root_null,
	.yajl_boolean = root_boolean,
	.yajl_number = root_number,
	.yajl_string = root_string,
	.yajl_start_map = root_map,
	.yajl_map_key = root_key,
	.yajl_end_map = root_end,
	.yajl_start_array = root_array,
	.yajl_end_array = root_end,
};

int root_json_parse(struct slice text, struct engine_pointer *ret, struct reterr *err)
{
	struct root_parse parse = {.problem = NULL};

	if (text.size > ROOT_JSON_SIZE_MAX)
		return reterr_set(err, -EINVAL, "a root of %zu bytes: the limit is %d", text.size,
				  ROOT_JSON_SIZE_MAX);
	yajl_handle handle = yajl_alloc(&root_callbacks, NULL, &parse);
	if (!handle)
		return -ENOMEM;
	yajl_status status = yajl_parse(handle, text.data, text.size);
	if (status == yajl_status_ok)
		status = yajl_complete_parse(handle);
	yajl_free(handle);

	if (!parse.problem && status != yajl_status_ok)
		parse.problem = "it is not JSON";
	if (!parse.problem && !parse.has_segment)
		parse.problem = "\"transaction_id\" is missing";
	if (!parse.problem && !parse.has_offset)
		parse.problem = "\"offset\" is missing";
	if (parse.problem)
		return reterr_set(err, -EINVAL, "the text is no root: %s", parse.problem);
	*ret = parse.pointer;
	return 0;
}

int root_json_print(const struct engine_pointer *pointer, struct buf *out)
{
	char uuid[UUID_TEXT_LENGTH + 1];
	return buf_printf(out, "{\"transaction_id\": \"%s\", \"offset\": %llu}",
			  uuid_format(&pointer->segment, uuid),
			  (unsigned long long)pointer->offset);
}
