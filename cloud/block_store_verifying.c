/*
 * Compares what comes with what was put: XXH3-128 and size of the head. Bytes that differ are got
 * once more, since a network can damage what the place still has; then they are damage. Where the
 * place has lost the sum, that of the bytes is told, as with every head that is not RECORDED.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/hash.h"
#include "cloud/cloud.h"

enum { ATTEMPTS = 2 };

struct verifying {
	struct block_store base;
	struct block_store *below;
};

static struct block_store *below_of(struct block_store *base)
{
	return ((struct verifying *)base)->below;
}

static int verifying_put(struct block_store *base, const char *key, const void *data, size_t size,
			 uint64_t first_frame, struct reterr *err)
{
	return block_store_put(below_of(base), key, data, size, first_frame, err);
}

static int verifying_replace(struct block_store *base, const char *key, const void *data,
			     size_t size, struct reterr *err)
{
	return block_store_replace(below_of(base), key, data, size, err);
}

static int verify(const char *key, const void *data, size_t size_max, struct block_head *head,
		  struct reterr *err)
{
	if (head->size > size_max)
		return reterr_set(err, -EBADMSG, "%s: %" PRIu64 " bytes came, but %zu fit", key,
				  head->size, size_max);
	struct hash hash = hash_of(data, (size_t)head->size);
	if (!head->recorded) {
		head->hash = hash;
		return 0;
	}
	if (hash_equal(&hash, &head->hash))
		return 0;
	char want[HASH_TEXT_LENGTH + 1], have[HASH_TEXT_LENGTH + 1];
	return reterr_set(err, -EBADMSG,
			  "%s is damaged: XXH3-128 of its %" PRIu64 " bytes is %s, that of the "
			  "bytes that were stored was %s",
			  key, head->size, hash_format(&hash, have),
			  hash_format(&head->hash, want));
}

static int verifying_get(struct block_store *base, const char *key, void *data, size_t size_max,
			 struct block_head *ret, struct reterr *err)
{
	struct block_head head;
	int r = 0;
	for (unsigned i = 0; i < ATTEMPTS; i++) {
		r = block_store_get(below_of(base), key, data, size_max, &head, err);
		if (r == 0)
			r = verify(key, data, size_max, &head, err);
		if (r != -EBADMSG)
			break;
	}
	if (r == 0)
		*ret = head;
	return r;
}

static int verifying_get_range(struct block_store *base, const char *key, void *data, size_t size,
			       uint64_t offset, size_t *ret, struct reterr *err)
{
	return block_store_get_range(below_of(base), key, data, size, offset, ret, err);
}

static int verifying_head(struct block_store *base, const char *key, struct block_head *ret,
			  struct reterr *err)
{
	return block_store_head(below_of(base), key, ret, err);
}

static int verifying_list(struct block_store *base, const char *prefix, const char *after,
			  block_store_list_fn *fn, void *arg, struct reterr *err)
{
	return block_store_list(below_of(base), prefix, after, fn, arg, err);
}

static int verifying_delete(struct block_store *base, const char *key, struct reterr *err)
{
	return block_store_delete(below_of(base), key, err);
}

static void verifying_status(struct block_store *base, struct block_store_status *ret)
{
	block_store_status(below_of(base), ret);
}

static void verifying_stop(struct block_store *base)
{
	block_store_stop(below_of(base));
}

static void verifying_free(struct block_store *base)
{
	block_store_free(below_of(base));
	free(base);
}

static const struct block_store_ops verifying_ops = {
	.name = "verifying",
	.put = verifying_put,
	.replace = verifying_replace,
	.get = verifying_get,
	.get_range = verifying_get_range,
	.head = verifying_head,
	.list = verifying_list,
	.delete = verifying_delete,
	.status = verifying_status,
	.stop = verifying_stop,
	.free = verifying_free,
};

int block_store_verifying_new(struct block_store *below, struct block_store **ret)
{
	struct verifying *verifying = calloc(1, sizeof(*verifying));
	if (!verifying) {
		block_store_free(below);
		return -ENOMEM;
	}
	verifying->base.ops = &verifying_ops;
	verifying->below = below;
	*ret = &verifying->base;
	return 0;
}
