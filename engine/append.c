/*
 * Bytes in. The fast path copies under the segment's lock; whatever needs the disk first (a new
 * part, space, memory) takes the APPENDING flag, which keeps the end of the stream for one appender
 * while the lock is dropped.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/core.h"

/* ---- Parts come and go ---------------------------------------------------------------------- */

/* The catalogue knows of the part already: from now on bytes can go there. */
static int adopt_new_part(struct engine_segment *segment, struct wal *wal)
{
	struct part *part;
	int r = part_new(wal->start, UINT64_MAX, wal, &part);
	if (r < 0) {
		wal_free(wal);
		return r;
	}
	segment_lock(segment);
	r = segment_push_part(segment, part);
	if (r == 0) {
		segment->wal = wal;
		segment->state = ENGINE_SEGMENT_OPEN;
		segment->registered = true;
		segment->epoch_raised = true;
		(void)pthread_cond_broadcast(&segment->changed); /* it is open now: see evict.c */
	}
	segment_unlock(segment);
	if (r < 0)
		part_unref(part);
	return r;
}

static uint64_t newest_root_seq(struct engine *e)
{
	uint64_t first, last;
	engine_root_range(e, &first, &last);
	return last;
}

/* Owns APPENDING, no lock held: begins a new part at the segment's end. */
static int begin_part(struct engine_segment *segment, struct reterr *err)
{
	struct engine *e = segment->engine;
	struct wal *wal;
	uint8_t *head;

	int r = segment_load_parts(segment, err);
	if (r == 0)
		r = segment_load_frames(segment, err);
	if (r == 0 && !segment->registered) /* only the owner of APPENDING sets it */
		r = segment_clear_way(segment, err);
	if (r < 0)
		return r;
	uint64_t born_root = newest_root_seq(e);

	segment_lock(segment);
	uint64_t start = segment->length;
	if (!segment->registered) {
		segment->created_ns = e->clock->wall_ns(e->clock);
		segment->modified_ns = segment->created_ns;
		segment->born_root = born_root;
	}
	/* Durable with the catalogue's record, which comes before the first entry. */
	if (!segment->epoch_raised)
		segment->epoch++;
	uint32_t epoch = segment->epoch;
	segment_unlock(segment);

	/*
	 * The record comes before the file: recovery then knows where to look for what a crash
	 * leaves of it. A record without a file means nothing.
	 */
	r = segment_read_head(segment, start, &head, err);
	if (r == 0)
		r = segment_record(segment, CATALOGUE_OPEN, err);
	const struct wal_origin origin = {.geometry = &e->geometry,
					  .segment = &segment->uuid,
					  .start = start,
					  .epoch = epoch,
					  .head = head};
	if (r == 0)
		r = wal_open(e->disk, e->pool, &origin, err, &wal);
	free(head);
	if (r == 0)
		r = adopt_new_part(segment, wal);
	if (r < 0)
		return r;
	segment_list_open(segment);
	background_seal(e); /* there may be too many open ones now */
	background_relieve(e);
	return 0;
}

/*
 * L, owns APPENDING: the last part never held a byte, and becomes nothing. Sealed, it would leave a
 * table that hides what the next part of the same start holds.
 */
static void drop_empty_part(struct engine_segment *segment)
{
	char path[DISK_PATH_MAX];
	struct part *part = segment->parts[--segment->part_count];

	segment_unlock(segment);
	part_path(PART_DATA, &segment->uuid, part->start, path);
	/* If it stays, the next part or recovery takes it away. */
	(void)!disk_unlink(segment->engine->disk, path);
	part_unref(part);
	segment_lock(segment);
}

int segment_end_part(struct engine_segment *segment, struct reterr *err)
{
	int r = segment_commit(segment, segment->length, true, err);
	if (r < 0)
		return r;
	struct wal *wal = segment->wal;
	while (wal && (segment->committing || wal_ahead_busy(wal)))
		(void)pthread_cond_wait(&segment->changed, &segment->lock);
	if (!wal)
		return 0;
	struct part *part = segment->parts[segment->part_count - 1];
	part->end = segment->length;
	segment->wal = NULL;
	wal_shrink(wal);
	if (part->start == part->end)
		drop_empty_part(segment);
	(void)pthread_cond_broadcast(&segment->changed);
	return 0;
}

/* ---- Room ----------------------------------------------------------------------------------- */

/*
 * Without locks: whether the store may take more of the disk. Most appends have no ERR: what is in
 * the way is reported, once until there is room again.
 */
static int check_disk_max(struct engine_segment *segment, struct reterr *err)
{
	struct engine *e = segment->engine;
	struct reterr why = {0};
	if (segment->restoring) /* set and read by the owner of APPENDING alone */
		return 0;
	uint64_t used = e->options.disk_max ? engine_disk_used(e) : 0;

	if (used <= e->options.disk_max ||
	    (e->options.wait_for_room && e->options.wait_for_room(e->options.room_arg) == 0)) {
		atomic_store(&e->disk_max_told, false);
		return 0;
	}
	int r = reterr_set(&why, -ENOSPC,
			   "the store takes %" PRIu64 " bytes of disk, and may take %" PRIu64
			   ": what is not in the cloud yet cannot leave",
			   used, e->options.disk_max);
	if (!atomic_exchange(&e->disk_max_told, true))
		engine_report(e, &why);
	return reterr_set(err, r, "%s", why.text);
}

/* L, owns APPENDING: one step towards room for SIZE bytes. Drops the lock. */
static int make_room_step(struct engine_segment *segment, uint64_t size, struct reterr *err)
{
	struct engine *e = segment->engine;
	struct wal *wal = segment->wal;
	int r;

	if (!wal) {
		segment_unlock(segment);
		r = check_disk_max(segment, err);
		if (r == 0)
			r = begin_part(segment, err);
		segment_lock(segment);
		return r;
	}
	if (segment->poisoned)
		return segment_commit(segment, segment->length, true, err);
	if (!wal_has_room(wal, size)) {
		r = segment_end_part(segment, err);
		background_seal(e);
		return r;
	}
	if (wal->accepted + size - wal->durable > WAL_PENDING_MAX)
		return segment_commit(segment, wal->start + wal->durable + 1, true, err);

	struct wal_reservation space = wal_reservation_for(wal, size);
	if (space.data > wal->reserved || space.table > wal->table_reserved) {
		segment_unlock(segment);
		r = check_disk_max(segment, err);
		if (r < 0) {
			segment_lock(segment);
			return r;
		}
		r = wal_reserve(wal, &space);
		segment_lock(segment);
		if (r < 0)
			return reterr_set(err, r, "no space for %" PRIu64 " more bytes: %s", size,
					  strerror(-r));
		wal_reserved(wal, &space);
		return 0;
	}
	r = wal_buffer(wal, size);
	if (r != -EAGAIN)
		return r;
	segment_unlock(segment);
	background_flush(e);
	pool_wait(e->pool, 100);
	segment_lock(segment);
	return 0;
}

/* L: whether SIZE bytes can be accepted without dropping the lock. */
static bool fits_now(const struct engine_segment *segment, uint64_t size)
{
	return segment->wal && !segment->poisoned && wal_fits(segment->wal, size);
}

/* L, owns APPENDING. SIZE at most APPEND_PIECE_MAX. */
static int make_room(struct engine_segment *segment, uint64_t size, struct reterr *err)
{
	for (;;) {
		if (segment->failed)
			return reterr_set(err, -EIO, "the disk failed");
		if (fits_now(segment, size))
			return 0;
		int r = make_room_step(segment, size, err);
		if (r < 0)
			return r;
	}
}

/* L: waits until no thread keeps the end of the stream for itself. */
static void await_end(struct engine_segment *segment)
{
	while (segment->appending)
		(void)pthread_cond_wait(&segment->changed, &segment->lock);
}

static void give_appending(struct engine_segment *segment)
{
	segment->appending = false;
	(void)pthread_cond_broadcast(&segment->changed);
}

/* ---- Acceptance ----------------------------------------------------------------------------- */

static uint64_t iov_total(const struct iovec *iov, int iov_count)
{
	uint64_t total = 0;
	for (int i = 0; i < iov_count; i++)
		total += iov[i].iov_len;
	return total;
}

enum wanted { WANT_WRITER = 1, WANT_FLUSHER = 2 };

/* L: after bytes were accepted: lengths and times. Returns which threads should know. */
static unsigned note_accepted(struct engine_segment *segment, uint64_t size)
{
	struct engine *e = segment->engine;
	struct wal *wal = segment->wal;
	uint64_t pending = wal->accepted - wal->durable;

	segment->length += size;
	segment->modified_ns = e->clock->wall_ns(e->clock);
	unsigned wanted = 0;
	if (pending / WAL_AHEAD_MIN != (pending - size) / WAL_AHEAD_MIN)
		wanted |= WANT_WRITER;
	if (pending >= FLUSH_SIZE && pending - size < FLUSH_SIZE)
		wanted |= WANT_FLUSHER;
	return wanted;
}

/* No lock held. */
static void wake_after(struct engine *e, uint64_t size, unsigned wanted)
{
	atomic_fetch_add_explicit(&e->appends, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&e->bytes_appended, size, memory_order_relaxed);
	if (wanted & WANT_WRITER)
		background_write(e);
	if (wanted & WANT_FLUSHER || atomic_load_explicit(&e->dangling_wakes, memory_order_relaxed))
		background_flush(e);
	else if (!atomic_load(&e->dirty))
		background_dirty(e);
}

static void on_frame(void *arg, uint64_t offset, uint64_t size)
{
	(void)size;
	wal_note_frame(arg, offset);
}

/* L: accepts bytes that fit, whatever frames are in them. */
static void accept_bytes(struct engine_segment *segment, const void *data, size_t size)
{
	wal_accept(segment->wal, data, size);
	frame_scan_feed(&segment->frames, data, size, on_frame, segment->wal);
}

/* ---- Foreign segments ----------------------------------------------------------------------- */

static int check_foreign(const struct engine_segment *segment, uint64_t size)
{
	if (segment->state == ENGINE_SEGMENT_REMOVED)
		return -ENOENT;
	if (segment->class != ENGINE_CLASS_FOREIGN || segment->inherited ||
	    segment->state == ENGINE_SEGMENT_DAMAGED)
		return -EROFS;
	if (segment->failed)
		return -EIO;
	return size > ENGINE_FOREIGN_LENGTH_MAX - segment->length ? -EFBIG : 0;
}

/* L: one piece, all or nothing. */
static int append_piece(struct engine_segment *segment, const struct iovec *iov, int iov_count,
			uint64_t size, unsigned *wanted)
{
	if (!fits_now(segment, size)) {
		int r = make_room(segment, size, NULL);
		if (r < 0)
			return r;
	}
	for (int i = 0; i < iov_count; i++)
		accept_bytes(segment, iov[i].iov_base, iov[i].iov_len);
	*wanted |= note_accepted(segment, size);
	return 0;
}

int engine_segment_append(struct engine *e, struct engine_segment *segment, const struct iovec *iov,
			  int iov_count, uint64_t *ret_offset)
{
	uint64_t size = iov_total(iov, iov_count);
	unsigned wanted = 0;

	int r = engine_check_writable(e, NULL);
	if (r < 0)
		return r;
	if (size > APPEND_PIECE_MAX && iov_count > 1)
		return -EINVAL;

	segment_lock(segment);
	await_end(segment);
	r = check_foreign(segment, size);
	uint64_t offset = segment->length;
	/*
	 * The flag costs a broadcast to all who wait for a commit: only who drops the lock takes
	 * it.
	 */
	bool alone = size > APPEND_PIECE_MAX || !fits_now(segment, size);
	segment->appending = alone;
	if (r == 0 && size && size <= APPEND_PIECE_MAX)
		r = append_piece(segment, iov, iov_count, size, &wanted);
	for (uint64_t done = 0; r == 0 && size > APPEND_PIECE_MAX && done < size;) {
		uint64_t left = size - done;
		struct iovec piece = {.iov_base = (uint8_t *)iov[0].iov_base + done,
				      .iov_len = left < APPEND_PIECE_MAX ? (size_t)left
									 : APPEND_PIECE_MAX};
		r = append_piece(segment, &piece, 1, piece.iov_len, &wanted);
		done += piece.iov_len;
	}
	if (alone)
		give_appending(segment);
	segment_unlock(segment);
	if (r < 0)
		return r;
	if (size)
		wake_after(e, size, wanted);
	if (ret_offset)
		*ret_offset = offset;
	return 0;
}

int segment_append_owned(struct engine_segment *segment, const void *data, size_t size)
{
	/* struct iovec has no const; nobody writes through it. */
	union {
		const void *in;
		void *out;
	} address = {.in = data};
	struct iovec iov = {.iov_base = address.out, .iov_len = size};
	unsigned wanted = 0;

	segment_lock(segment);
	await_end(segment);
	segment->appending = true;
	int r = append_piece(segment, &iov, 1, size, &wanted);
	give_appending(segment);
	segment_unlock(segment);
	if (r == 0)
		wake_after(segment->engine, size, wanted);
	return r;
}

/* ---- Our own segments ----------------------------------------------------------------------- */

static int new_own_segment(struct engine *e, enum engine_class class, struct engine_segment **ret)
{
	struct uuid uuid;
	int r = uuid_random(&uuid);
	return r < 0 ? r : segment_add(e, &uuid, 0, class, ret);
}

/* The segment where atoms of CLASS go; OLD, if not NULL, is one that will not do any more. */
static int current_segment(struct engine *e, enum engine_class class, struct engine_segment *old,
			   struct engine_segment **ret)
{
	int r = 0;
	struct engine_segment *segment = atomic_load(&e->current[class]);

	if (!segment || segment == old) {
		(void)pthread_mutex_lock(&e->roll_lock);
		segment = atomic_load(&e->current[class]);
		if (!segment || segment == old) {
			r = new_own_segment(e, class, &segment);
			if (r == 0)
				atomic_store(&e->current[class], segment);
		}
		(void)pthread_mutex_unlock(&e->roll_lock);
	}
	*ret = segment;
	return r;
}

/* L: whether an atom of SIZE bytes, header included, still goes here. */
static bool takes_atom(struct engine_segment *segment, uint64_t size)
{
	uint64_t max = segment->engine->options.segment_size_max;

	if (segment->ended || segment->failed || segment->state == ENGINE_SEGMENT_REMOVED)
		return false;
	if (segment->length == 0)
		return true;
	if (segment->length >= max || size > max - segment->length) {
		segment->ended = true;
		return false;
	}
	return true;
}

/* Locks the segment that takes an atom of SIZE bytes, with nobody else at its end. */
static int lock_current(struct engine *e, enum engine_class class, uint64_t size,
			struct engine_segment **ret)
{
	struct engine_segment *old = NULL;

	for (;;) {
		struct engine_segment *segment;
		int r = current_segment(e, class, old, &segment);
		if (r < 0)
			return r;
		segment_lock(segment);
		await_end(segment);
		if (takes_atom(segment, size)) {
			*ret = segment;
			return 0;
		}
		bool failed = segment->failed;
		segment_unlock(segment);
		if (failed)
			return -EIO;
		old = segment;
	}
}

void engine_roll(struct engine *e, enum engine_class class)
{
	invariant(class == ENGINE_CLASS_LOG || class == ENGINE_CLASS_META);
	struct engine_segment *segment = atomic_load(&e->current[class]);

	if (!segment)
		return;
	segment_lock(segment);
	if (segment->length > 0)
		segment->ended = true;
	segment_unlock(segment);
}

static int check_append(struct engine *e, enum engine_class class, uint8_t format, uint64_t size)
{
	if (class != ENGINE_CLASS_LOG && class != ENGINE_CLASS_META)
		return -EINVAL;
	if (format > ENGINE_FORMAT_MSGPACK && format < ENGINE_FORMAT_OURS_MIN)
		return -EINVAL;
	if (size > ENGINE_FRAME_PAYLOAD_MAX)
		return -EFBIG;
	return engine_check_writable(e, NULL);
}

static int append_small(struct engine *e, enum engine_class class, uint8_t format,
			const struct iovec *iov, int iov_count, uint64_t payload_size,
			struct engine_pointer *ret)
{
	uint64_t size = ENGINE_FRAME_HEADER_SIZE + payload_size;
	uint8_t header[ENGINE_FRAME_HEADER_SIZE];
	struct engine_segment *segment;
	int r = lock_current(e, class, size, &segment);

	if (r < 0)
		return r;
	if (!fits_now(segment, size)) {
		segment->appending = true;
		r = make_room(segment, size, NULL);
		give_appending(segment);
		if (r < 0) {
			segment_unlock(segment);
			return r;
		}
	}

	uint64_t offset = segment->length;
	struct wal *wal = segment->wal;
	frame_header_store(header, payload_size, format);
	wal_note_frame(wal, offset);
	wal_accept(wal, header, sizeof(header));
	for (int i = 0; i < iov_count; i++)
		wal_accept(wal, iov[i].iov_base, iov[i].iov_len);
	frame_scan_whole(&segment->frames, payload_size);
	unsigned wanted = note_accepted(segment, size);
	struct uuid uuid = segment->uuid;
	segment_unlock(segment);

	wake_after(e, size, wanted);
	*ret = (struct engine_pointer){.segment = uuid, .offset = offset};
	return 0;
}

/* L, owns APPENDING: header and payload of a large atom, piece by piece. */
static int append_pieces(struct engine_segment *segment, uint8_t format, uint64_t size,
			 engine_source_fn *read, void *arg)
{
	struct engine *e = segment->engine;
	uint8_t header[ENGINE_FRAME_HEADER_SIZE];
	uint8_t *piece = malloc(POOL_CHUNK_SIZE);
	unsigned wanted = 0;

	if (!piece)
		return -ENOMEM;
	frame_header_store(header, size, format);
	struct iovec iov = {.iov_base = header, .iov_len = sizeof(header)};
	int r = append_piece(segment, &iov, 1, sizeof(header), &wanted);

	for (uint64_t done = 0; r == 0 && done < size;) {
		uint64_t left = size - done;
		size_t n = left < POOL_CHUNK_SIZE ? (size_t)left : POOL_CHUNK_SIZE;
		segment_unlock(segment);
		if (wanted & WANT_WRITER)
			background_write(e);
		if (wanted & WANT_FLUSHER)
			background_flush(e);
		wanted = 0;
		r = read(arg, piece, n, done);
		segment_lock(segment);
		iov = (struct iovec){.iov_base = piece, .iov_len = n};
		if (r == 0)
			r = append_piece(segment, &iov, 1, n, &wanted);
		done += n;
	}
	free(piece);
	return r;
}

static int check_space(struct engine *e, uint64_t size)
{
	struct disk_space space;
	int r = e->disk->ops->space(e->disk, &space);
	if (r < 0)
		return r;
	return size > space.available ? -ENOSPC : 0;
}

int engine_append_from(struct engine *e, enum engine_class class, uint8_t format, uint64_t size,
		       engine_source_fn *read, void *arg, struct engine_pointer *ret)
{
	struct engine_segment *segment;
	int r = check_append(e, class, format, size);

	if (r == 0)
		r = check_space(e, size);
	if (r == 0)
		r = lock_current(e, class, ENGINE_FRAME_HEADER_SIZE + size, &segment);
	if (r < 0)
		return r;

	segment->appending = true;
	uint64_t offset = segment->length;
	r = append_pieces(segment, format, size, read, arg);
	/* A frame that will never be whole ends its segment: nothing can follow it. */
	if (r < 0 && segment->length > offset)
		segment->ended = true;
	give_appending(segment);
	struct uuid uuid = segment->uuid;
	segment_unlock(segment);
	if (r < 0)
		return r;
	wake_after(e, ENGINE_FRAME_HEADER_SIZE + size, 0);
	*ret = (struct engine_pointer){.segment = uuid, .offset = offset};
	return 0;
}

struct iov_source {
	const struct iovec *iov;
	int iov_count;
	int at;
	size_t inside;
};

static int read_iov(void *arg, void *data, size_t size, uint64_t offset)
{
	struct iov_source *source = arg;
	uint8_t *to = data;

	(void)offset; /* pieces are asked for in order */
	while (size) {
		invariant(source->at < source->iov_count);
		const struct iovec *iov = &source->iov[source->at];
		size_t piece = iov->iov_len - source->inside;
		if (piece > size)
			piece = size;
		memcpy(to, (const uint8_t *)iov->iov_base + source->inside, piece);
		to += piece;
		size -= piece;
		source->inside += piece;
		if (source->inside == iov->iov_len) {
			source->at++;
			source->inside = 0;
		}
	}
	return 0;
}

int engine_append(struct engine *e, enum engine_class class, uint8_t format,
		  const struct iovec *iov, int iov_count, struct engine_pointer *ret)
{
	uint64_t size = iov_total(iov, iov_count);
	int r = check_append(e, class, format, size);

	if (r < 0)
		return r;
	if (size + ENGINE_FRAME_HEADER_SIZE <= APPEND_PIECE_MAX)
		return append_small(e, class, format, iov, iov_count, size, ret);
	struct iov_source source = {.iov = iov, .iov_count = iov_count};
	return engine_append_from(e, class, format, size, read_iov, &source, ret);
}
