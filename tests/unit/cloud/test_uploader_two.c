/*
 * Two writers of one place, by seed: a copied store directory, a clone that takes over, a stranger.
 * Requests fail, take effect without an answer, or much later; writers are killed and start again.
 * Nothing is overwritten, the manifests are one chain, every restore point on the way is whole, and
 * in the end one of the two has stopped.
 */
#include "tests/unit/cloud/upload_driver.h"

/* FORK: a copy whose clients go on with a segment of both. WEAK: the place refuses no second put. */
enum kind { COPY, TAKE_OVER, STRANGER, FORK, WEAK, KINDS };

struct side {
	struct source_model source;
	struct block_store *net;
	struct writer writer;
	struct uuid store;
	bool alive, take_over, appends_foreign;
	uint32_t log;
	/* Of lives that are over. */
	uint64_t confirmed[4096];
	struct hash confirmed_hash[4096];
	size_t confirmed_count;
};

static struct world {
	uint64_t random, seed, sessions;
	enum kind kind;
	struct watch_store *place;
	struct side sides[2];
	unsigned depth;
	unsigned restored;
} world;

static uint64_t chance(uint64_t n)
{
	return next_random(&world.random) % n;
}

static void side_step(struct side *side)
{
	if (side->alive && !side->writer.busy)
		(void)writer_step(&side->writer, &world.random);
}

/* In the middle of one's request the other goes on. */
static void interleave(void *arg, enum block_request kind, const char *key, bool before)
{
	struct side *other = &world.sides[arg == &world.sides[0]];
	(void)kind;
	(void)key;
	(void)before;
	if (world.depth > 0 || chance(4) > 0)
		return;
	world.depth++;
	for (uint64_t steps = chance(4); steps > 0; steps--)
		side_step(other);
	world.depth--;
}

static void side_connect(struct side *side, unsigned trouble)
{
	struct faulty_options options = {
		.seed = world.random,
		.before = trouble,
		.after = trouble,
		.late = trouble,
		.step = interleave,
		.step_arg = side,
	};
	/* There, what happens between a look and a put cannot be mended; between rounds it can. */
	if (world.kind == WEAK)
		options = (struct faulty_options){
			.seed = world.random, .before = trouble, .unconditional = true};
	if (!side->net)
		ck_assert_int_eq(faulty_store_new(&world.place->base, &options, &side->net), 0);
	else
		faulty_store_set(side->net, &options);
}

static void side_start(struct side *side)
{
	struct source_model *m = &side->source;
	/* A start ends what the last run wrote, and begins anew. */
	for (unsigned i = 0; i < m->count; i++)
		if (!m->segments[i].info.foreign)
			m->segments[i].info.final = true;
	struct uuid uuid = source_model_uuid(1000 * world.seed + ++world.sessions);
	side->log = source_model_add(m, &uuid, 77 * world.seed + world.sessions, false);
	writer_start(&side->writer, m, side->net, side->store, world.seed << 16 | world.sessions,
		     side->take_over);
	side->alive = true;
}

static void side_kill(struct side *side)
{
	struct writer *w = &side->writer;
	for (size_t i = 0; i < w->confirmed_count; i++) {
		ck_assert(side->confirmed_count < ARRAY_SIZE(side->confirmed));
		side->confirmed[side->confirmed_count] = w->confirmed[i];
		side->confirmed_hash[side->confirmed_count++] = w->confirmed_hash[i];
	}
	writer_kill(w);
	side->alive = false;
}

static void side_write(struct side *side)
{
	struct source_model *m = &side->source;
	uint64_t size = chance(8) == 0 ? BLOCK + chance(BLOCK) : 1 + chance(3000);
	uint32_t number = side->log;
	if (m->count > 200)
		return;
	if (side->appends_foreign && chance(2) == 0)
		number = 1;
	source_model_append(m, number, size);
	if (chance(3) == 0 && m->segments[side->log - 1].info.durable > 0)
		source_model_publish(m, side->log);
	upload_plan_changed(side->writer.plan, now_ms);
}

/* ---- What must hold -------------------------------------------------------------------------- */

/* The model that knows most of a segment: what the other one knows is a prefix, but in forks. */
static const struct source_model *model_of_segment(const struct uuid *uuid)
{
	const struct source_model_segment *s[2] = {
		source_model_find(&world.sides[0].source, uuid),
		source_model_find(&world.sides[1].source, uuid),
	};
	ck_assert(s[0] || s[1]);
	if (!s[0] || !s[1])
		return &world.sides[s[0] == NULL].source;
	return &world.sides[s[1]->info.durable > s[0]->info.durable].source;
}

static uint64_t restored_length(const struct restore_point *point, const struct uuid *uuid)
{
	for (size_t i = 0; i < point->segment_count; i++)
		if (uuid_equal(&point->segments[i].uuid, uuid))
			return point->segments[i].length;
	return 0;
}

/* Somebody published this root, and all that was durable then is there. */
static void check_barrier(const struct restore_point *point)
{
	const struct source_model_barrier *barrier = NULL;
	for (unsigned i = 0; i < 2; i++) {
		const struct source_model *m = &world.sides[i].source;
		for (unsigned j = 0; j < m->barrier_count; j++)
			if (m->barriers[j]->root.seq == point->root.seq &&
			    m->barriers[j]->root.offset == point->root.offset &&
			    uuid_equal(&m->barriers[j]->root.segment, &point->root.segment))
				barrier = m->barriers[j];
	}
	if (point->root.seq == 0)
		return;
	ck_assert_ptr_nonnull(barrier);
	for (unsigned i = 0; i < barrier->count; i++)
		ck_assert_uint_ge(restored_length(point, &barrier->uuids[i]), barrier->lengths[i]);
}

static void check_restore(void)
{
	struct restore_point point;
	struct reterr err = {0};
	int r = restore_point_find(&world.place->base, false, &err, &point);
	if (r == -ENOENT)
		return;
	/* Two copies whose clients wrote to the same foreign segment: told, never mixed. */
	if (r == -EBADMSG && world.kind == FORK)
		return;
	ck_assert_msg(r == 0, "seed %llu: %s", (unsigned long long)world.seed, err.text);
	check_barrier(&point);
	size_t shared = point.segment_count;
	for (size_t i = 0; i < point.segment_count; i++)
		if (uuid_equal(&point.segments[i].uuid,
			       &world.sides[0].source.segments[0].info.uuid))
			shared = i;
	for (size_t i = 0; i < point.segment_count; i++) {
		const struct restore_segment *s = &point.segments[i];
		const struct source_model *m = model_of_segment(&s->uuid);
		/* Of the segment that both went on with, the place has one or the other. */
		if (world.kind != FORK || i != shared)
			check_bytes(&world.place->base, m, &s->uuid, s->length);
	}
	world.restored++;
	restore_point_done(&point);
}

static void check_confirmed(const struct side *side)
{
	for (size_t i = 0; i < side->confirmed_count; i++) {
		struct manifest manifest;
		struct hash hash;
		struct reterr err = {0};
		int r = manifest_get(&world.place->base, side->confirmed[i], &err, &manifest, &hash,
				     NULL);
		ck_assert_msg(r == 0, "%s", err.text);
		ck_assert(hash_equal(&hash, &side->confirmed_hash[i]));
		manifest_done(&manifest);
	}
}

/* ---- The second side ------------------------------------------------------------------------- */

static void copy_store(struct side *from, struct side *to)
{
	source_model_copy(&from->source, &to->source);
	to->store = from->store;
	if (world.kind != FORK)
		return;
	struct source_model_segment *s = &to->source.segments[0];
	s->fork_at = (s->info.durable + 7) / 8 * 8;
	s->fork_salt = s->salt + 1;
	to->appends_foreign = true;
}

/* An empty store that knows what a restore found. */
static bool clone_store(struct side *to)
{
	struct restore_point point;
	if (restore_point_find(&world.place->base, true, NULL, &point) < 0)
		return false;
	for (size_t i = 0; i < point.segment_count; i++) {
		const struct restore_segment *s = &point.segments[i];
		const struct source_model_segment *original =
			source_model_find(&world.sides[0].source, &s->uuid);
		ck_assert_ptr_nonnull(original);
		uint32_t number =
			source_model_add(&to->source, &s->uuid, 0, original->info.foreign);
		struct source_model_segment *copy = &to->source.segments[number - 1];
		copy->salt = original->salt;
		copy->info.durable = s->length;
		copy->info.final = copy->info.inherited = true;
	}
	to->source.root = point.root;
	to->store = source_model_uuid(2);
	to->take_over = true;
	restore_point_done(&point);
	return true;
}

static bool second_side(void)
{
	struct side *side = &world.sides[1];
	if (world.kind == TAKE_OVER && !clone_store(side))
		return false;
	if (world.kind == COPY || world.kind == FORK || world.kind == WEAK)
		copy_store(&world.sides[0], side);
	if (world.kind == STRANGER)
		side->store = source_model_uuid(3);
	side_connect(side, 30);
	side_start(side);
	return true;
}

/* ---- One world ------------------------------------------------------------------------------- */

static void act(struct side *side)
{
	if (!side->alive) {
		if (side->source.count > 0 && chance(4) == 0 && side->net)
			side_start(side);
		return;
	}
	uint64_t what = chance(100);
	if (what < 4 && !writer_fenced(&side->writer))
		side_write(side);
	else if (what == 4 && chance(4) == 0)
		side_kill(side);
	else
		side_step(side);
}

/* Faults over; both go on with something new to say. */
static void finish(void)
{
	world.depth = 1; /* no interleaving */
	for (unsigned i = 0; i < 2; i++) {
		struct side *side = &world.sides[i];
		side_connect(side, 0);
		(void)faulty_store_settle(side->net, chance(2) == 0);
		if (!side->alive)
			side_start(side);
	}
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < 2; i++) {
			struct side *side = &world.sides[i];
			if (!writer_fenced(&side->writer)) {
				side_write(side);
				source_model_append(&side->source, side->log, 1);
				source_model_publish(&side->source, side->log);
				upload_plan_changed(side->writer.plan, now_ms);
			}
			now_ms += 60000;
			writer_settle(&side->writer, &world.random);
		}
}

static void judge(void)
{
	bool fenced[2] = {writer_fenced(&world.sides[0].writer),
			  writer_fenced(&world.sides[1].writer)};
	ck_assert_msg(fenced[0] || fenced[1], "seed %llu: both go on",
		      (unsigned long long)world.seed);
	if (world.kind != FORK && world.kind != WEAK)
		ck_assert_msg(!fenced[0] || !fenced[1], "seed %llu: both stopped: %s | %s",
			      (unsigned long long)world.seed,
			      world.sides[0].writer.plan->error.text,
			      world.sides[1].writer.plan->error.text);
	for (unsigned i = 0; i < 2; i++)
		if (fenced[i])
			ck_assert_int_eq(world.sides[i].writer.plan->error.code, -EROFS);
	check_restore();
	for (unsigned i = 0; i < 2; i++) {
		side_kill(&world.sides[i]);
		check_confirmed(&world.sides[i]);
	}
}

static void run_world(uint64_t seed, enum kind kind)
{
	memset(&world, 0, sizeof(world));
	world.seed = seed;
	world.random = seed;
	world.kind = kind;
	world.place = watch_new();
	now_ms = 1000000;
	for (unsigned i = 0; i < 2; i++)
		source_model_init(&world.sides[i].source, 2 * BLOCK);
	struct side *first = &world.sides[0];
	first->store = source_model_uuid(1);
	struct uuid foreign = source_model_uuid(seed + 5000000);
	(void)source_model_add(&first->source, &foreign, seed, true);
	source_model_append(&first->source, 1, 8 * (1 + chance(2000)));
	first->appends_foreign = true;
	side_connect(first, 30);
	side_start(first);

	uint64_t second_at = 50 + chance(300);
	bool second = false;
	for (uint64_t i = 0; i < 700; i++) {
		if (i >= second_at && !second)
			second = second_side();
		act(&world.sides[second && chance(2)]);
		if (chance(3) == 0)
			now_ms += chance(2000);
		if (chance(200) == 0)
			check_restore();
	}
	if (second) {
		finish();
		judge();
	}
	for (unsigned i = 0; i < 2; i++) {
		if (world.sides[i].alive)
			side_kill(&world.sides[i]);
		block_store_free(world.sides[i].net);
		source_model_done(&world.sides[i].source);
	}
	block_store_free(&world.place->base);
}

static uint64_t seeds(void)
{
	const char *text = getenv("UPLOADER_SEEDS");
	return text ? strtoull(text, NULL, 10) : 250;
}

static uint64_t first_seed(void)
{
	const char *text = getenv("UPLOADER_SEED");
	return text ? strtoull(text, NULL, 10) : 1;
}

START_TEST(test_two)
{
	for (uint64_t seed = first_seed(); seed < first_seed() + seeds(); seed++)
		run_world(seed, (enum kind)_i);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("two uploaders");
	TCase *tcase = tcase_create("two");
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, test_two, 0, KINDS);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
