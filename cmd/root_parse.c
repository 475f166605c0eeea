#include "cmd/root_parse.h"

#include <errno.h>
#include <string.h>

#include <yajl/yajl_tree.h>

#include "cmd/text.h"
#include "engine/engine.h"

static const char *string_of(yajl_val tree, const char *name)
{
	const char *path[] = {name, NULL};
	return YAJL_GET_STRING(yajl_tree_get(tree, path, yajl_t_string));
}

/* Whole numbers from 0 on, as they were written: a double would lose digits. */
static int number_of(yajl_val tree, const char *name, uint64_t *ret)
{
	const char *path[] = {name, NULL};
	yajl_val value = yajl_tree_get(tree, path, yajl_t_number);
	return value ? text_parse_u64(YAJL_GET_NUMBER(value), ret) : -ENOENT;
}

static int fill(yajl_val tree, struct engine_root *root)
{
	uint64_t node = 0;
	const char *uuid = string_of(tree, "transaction_id");

	if (!uuid || uuid_parse(uuid, &root->pointer.segment) < 0 ||
	    number_of(tree, "offset", &root->pointer.offset) < 0)
		return -EINVAL;
	if (number_of(tree, "seq", &root->seq) == -EINVAL)
		return -EINVAL;
	if (number_of(tree, "node", &node) == -EINVAL || node > UINT32_MAX)
		return -EINVAL;
	root->node = (uint32_t)node;
	const char *time = string_of(tree, "time");
	if (time)
		return text_parse_time(time, &root->time_ns);
	return number_of(tree, "time", &root->time_ns) == -EINVAL ? -EINVAL : 0;
}

int root_parse(struct slice text, struct engine_root *ret)
{
	char copy[ROOT_PARSE_SIZE_MAX + 1], why[128];
	struct engine_root root;

	if (text.size > ROOT_PARSE_SIZE_MAX || memchr(text.data, '\0', text.size))
		return -EINVAL;
	memcpy(copy, text.data, text.size);
	copy[text.size] = '\0';
	yajl_val tree = yajl_tree_parse(copy, why, sizeof(why));
	if (!tree)
		return -EINVAL;
	memset(&root, 0, sizeof(root));
	int r = fill(tree, &root);
	yajl_tree_free(tree);
	if (r == 0)
		*ret = root;
	return r;
}
