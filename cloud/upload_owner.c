#include "cloud/upload_owner.h"

#include <errno.h>
#include <string.h>

enum { OWNER_SIZE_MAX = 4096 };

/* It has the form of a manifest without segments. */
static int read_owner(struct block_store *store, struct manifest *ret, struct reterr *err)
{
	uint8_t text[OWNER_SIZE_MAX];
	struct block_head head;
	struct reterr why = {0};
	int r = block_store_get(store, "owner", text, sizeof(text), &head, err);
	if (r == -EFBIG)
		return reterr_set(err, -EBADMSG, "the object \"owner\" is none of ours");
	if (r < 0)
		return r;
	r = manifest_parse((struct slice){.data = text, .size = (size_t)head.size}, ret, &why);
	if (r < 0)
		return reterr_set(err, r, "the object \"owner\": %.300s", why.text);
	manifest_done(ret);
	return 0;
}

static int write_owner(struct block_store *store, const struct upload_plan *plan,
		       struct reterr *err)
{
	CLEANUP(buf_done) struct buf text = {.max = OWNER_SIZE_MAX};
	struct manifest owner = {
		.n = plan->chain.n + 1,
		.previous = plan->chain.hash,
		.owner = plan->store,
		.epoch = plan->chain.epoch + 1,
		.session = plan->session,
		.block_size = plan->table.block_size,
	};
	memcpy(owner.host, plan->host, sizeof(plan->host));
	int r = manifest_print(&owner, &text);
	return r < 0 ? r : block_store_replace(store, "owner", text.data, text.size, err);
}

static void refuse(const struct manifest *owner, struct upload_result *ret)
{
	char uuid[UUID_TEXT_LENGTH + 1];
	ret->fenced = true;
	ret->r = reterr_set(
		&ret->err, -EROFS,
		"another owner writes to this place: store %s on host %s, says its object "
		"\"owner\". This store uploads nothing more and is read-only",
		uuid_format(&owner->owner, uuid), owner->host);
}

void upload_check_owner(struct upload_io *io, struct upload_plan *plan, bool claiming,
			struct upload_result *ret)
{
	struct manifest owner;
	int r = read_owner(io->store, &owner, &ret->err);
	bool none = r == -ENOENT;
	if (r < 0 && !none) {
		ret->r = r;
		return;
	}
	if (!none && uuid_equal(&owner.owner, &plan->store) && owner.session == plan->session)
		return;
	bool gives_way = none ||
			 (claiming && (plan->take_over || uuid_equal(&owner.owner, &plan->store)));
	if (!gives_way) {
		refuse(&owner, ret);
		return;
	}
	r = write_owner(io->store, plan, &ret->err);
	/* Whoever wrote at the same time reads the same: one of us. */
	if (r == 0)
		r = read_owner(io->store, &owner, &ret->err);
	ret->r = r;
	if (r == 0 && owner.session != plan->session)
		refuse(&owner, ret);
}
