/* A check of what comes in pieces and calls itself JSON or MessagePack. */
#ifndef PROTOFS_CMD_CONTENT_CHECK_H
#define PROTOFS_CMD_CONTENT_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "base/slice.h"

struct json_check;

MUST_CHECK int json_check_new(struct json_check **ret); /* -ENOMEM */
void json_check_free(struct json_check *check);         /* accepts NULL */

/* -EINVAL: no JSON; ERR says why and at which byte, counted from 0. Nothing may follow an error. */
MUST_CHECK int json_check_feed(struct json_check *check, const void *data, size_t size,
			       struct reterr *err);
/* After the last piece: the text must be complete. */
MUST_CHECK int json_check_end(struct json_check *check, struct reterr *err);

/*
 * MessagePack needs all of it at once: exactly one value. -EINVAL as above. Nothing is allocated.
 */
MUST_CHECK int msgpack_check(struct slice whole, struct reterr *err);

#endif
