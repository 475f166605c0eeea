#include "fs/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"
#include "fs/cloud_status.h"
#include "fs/json_writer.h"
#include "fs/size_text.h"
#include "fs/utc.h"

/* ---- For people ----------------------------------------------------------------------------- */

enum { DURATION_TEXT_SIZE = 32 };

static const char *duration_format(uint64_t seconds, char text[static DURATION_TEXT_SIZE])
{
	if (seconds < 60)
		(void)snprintf(text, DURATION_TEXT_SIZE, "%" PRIu64 " s", seconds);
	else if (seconds < 3600)
		(void)snprintf(text, DURATION_TEXT_SIZE, "%" PRIu64 " min %" PRIu64 " s",
			       seconds / 60, seconds % 60);
	else if (seconds < 86400)
		(void)snprintf(text, DURATION_TEXT_SIZE, "%" PRIu64 " h %" PRIu64 " min",
			       seconds / 3600, seconds / 60 % 60);
	else
		(void)snprintf(text, DURATION_TEXT_SIZE, "%" PRIu64 " d %" PRIu64 " h",
			       seconds / 86400, seconds / 3600 % 24);
	return text;
}

static uint64_t seconds_since(uint64_t then_ns, uint64_t now_ns)
{
	return now_ns > then_ns ? (now_ns - then_ns) / 1000000000 : 0; /* the clock may go back */
}

MUST_CHECK static int text_disk(const struct engine_stats *stats,
				const struct status_growth *growth, struct buf *out)
{
	char size[SIZE_TEXT_SIZE], total[SIZE_TEXT_SIZE];
	double days;

	if (stats->disk_total == 0)
		return 0;
	int r = buf_printf(out, "disk       %s free of %s", size_text(stats->disk_available, size),
			   size_text(stats->disk_total, total));
	if (r < 0)
		return r;
	if (!status_days_left(stats, growth, &days))
		return buf_append_text(out, growth->interval_ms > 0 ? ": the store does not grow\n"
								    : "\n");
	if (days > 3650)
		return buf_append_text(out, ": full in more than ten years at today's rate\n");
	return buf_printf(out,
			  days < 2 ? ": FULL IN %.1f DAYS at today's rate (%s in %.0f h)\n"
				   : ": full in %.0f days at today's rate (%s in %.0f h)\n",
			  days, size_text(growth->bytes, size),
			  (double)growth->interval_ms / 3600000);
}

MUST_CHECK static int text_state(const struct engine_stats *stats, uint64_t now_ns, struct buf *out)
{
	char uuid[UUID_TEXT_LENGTH + 1], time[UTC_TEXT_SIZE], since[DURATION_TEXT_SIZE];

	int r = buf_printf(out, "store      %s, node %" PRIu32 "\n",
			   uuid_format(&stats->store, uuid), stats->node);
	if (r < 0)
		return r;
	r = stats->read_only
		    ? buf_printf(out, "state      READ-ONLY: %s\n", stats->read_only_reason)
		    : buf_append_text(out, stats->damaged
						   ? "state      DAMAGED: run `protofs fsck`\n"
						   : "state      read-write\n");
	if (r < 0)
		return r;
	return buf_printf(out, "opened     %s (%s ago)%s\n", utc_format(stats->opened_ns, time),
			  duration_format(seconds_since(stats->opened_ns, now_ns), since),
			  stats->recovered ? ", after a crash: recovered" : "");
}

int status_as_text(const struct engine_stats *stats, const struct status_growth *growth,
		   const struct cloud_status *cloud, uint64_t now_ns, struct buf *out)
{
	char a[SIZE_TEXT_SIZE], b[SIZE_TEXT_SIZE];

	int r = text_state(stats, now_ns, out);
	if (r == 0)
		r = buf_printf(out, "segments   %" PRIu64 ", %s, %" PRIu64 " open parts\n",
			       stats->segments, size_text(stats->bytes_stored, a),
			       stats->open_parts);
	if (r == 0 && stats->bytes_remote)
		r = buf_printf(out, "elsewhere  %s are in the cloud only\n",
			       size_text(stats->bytes_remote, a));
	if (r == 0 && stats->roots_last == 0)
		r = buf_append_text(out, "roots      none\n");
	else if (r == 0)
		r = buf_printf(out, "roots      %" PRIu64 ", kept from %" PRIu64 "\n",
			       stats->roots_last, stats->roots_first);
	if (r == 0)
		r = buf_printf(out, "pending    %s not durable yet\n",
			       size_text(stats->bytes_pending, a));
	if (r == 0)
		r = buf_printf(out,
			       "since then %" PRIu64 " appends of %s, %" PRIu64
			       " commits for %" PRIu64 " waiters, %" PRIu64 " roots\n",
			       stats->appends, size_text(stats->bytes_appended, a), stats->commits,
			       stats->commit_waiters, stats->roots_published);
	if (r == 0)
		r = buf_printf(out, "memory     %s of cache, %s of buffers\n",
			       size_text(stats->cache_bytes, a), size_text(stats->buffer_bytes, b));
	if (r == 0)
		r = buf_printf(out, "commits by %s, blocks of %s\n", stats->disk_path,
			       size_text(stats->block_size, a));
	if (r == 0)
		r = text_disk(stats, growth, out);
	if (r == 0 && cloud)
		r = cloud_status_as_summary(cloud, out);
	if (r == 0)
		r = buf_printf(out, "errors     %" PRIu64 "%s\n", stats->errors,
			       stats->errors > 0 ? " (see .ctl/errors)" : "");
	return r;
}

/* ---- Numbers: JSON and Prometheus say the same ---------------------------------------------- */

enum number_kind { GAUGE, COUNTER };

struct number {
	const char *name;
	enum number_kind kind;
	const char *help;
	uint64_t value;
};

enum { NUMBERS = 27 };

static void numbers_of(const struct engine_stats *s, struct number ret[static NUMBERS])
{
	const struct number numbers[NUMBERS] = {
		{"block_size", GAUGE, "Bytes of a block.", s->block_size},
		{"segments", GAUGE, "Segments in the store.", s->segments},
		{"open_parts", GAUGE, "Parts that are not sealed.", s->open_parts},
		{"bytes_stored", GAUGE, "Bytes of all segments.", s->bytes_stored},
		{"bytes_pending", GAUGE, "Bytes accepted and not yet durable.", s->bytes_pending},
		{"appends", COUNTER, "Appends.", s->appends},
		{"bytes_appended", COUNTER, "Bytes appended.", s->bytes_appended},
		{"commits", COUNTER, "Group commits that reached the disk.", s->commits},
		{"commit_waiters", COUNTER, "Callers that commits served.", s->commit_waiters},
		{"roots_published", COUNTER, "Roots published.", s->roots_published},
		{"roots_first", GAUGE, "The oldest kept root.", s->roots_first},
		{"roots_last", GAUGE, "The newest root.", s->roots_last},
		{"parts_sealed", COUNTER, "Parts sealed.", s->parts_sealed},
		{"parts_poisoned", COUNTER, "Parts given up after a disk error.",
		 s->parts_poisoned},
		{"cache_hits", COUNTER, "Reads that the cache answered.", s->cache_hits},
		{"cache_misses", COUNTER, "Reads that went to the disk.", s->cache_misses},
		{"cache_bytes", GAUGE, "Bytes of the cache.", s->cache_bytes},
		{"buffer_bytes", GAUGE, "Memory of bytes that are not durable.", s->buffer_bytes},
		{"errors", COUNTER, "Errors.", s->errors},
		{"disk_total_bytes", GAUGE, "Size of the disk.", s->disk_total},
		{"disk_available_bytes", GAUGE, "What is free of it.", s->disk_available},
		{"read_only", GAUGE, "1 if nothing can be written.", s->read_only},
		{"damaged", GAUGE, "1 if fsck has work to do.", s->damaged},
		{"clone", GAUGE, "1 if it is another store's and was not taken over.", s->clone},
		{"copied", GAUGE, "1 if its directory is not the one it was made in.", s->copied},
		{"bytes_remote", GAUGE, "Bytes that are in the cloud only.", s->bytes_remote},
		{"parts_evicted", COUNTER, "Parts given up, as the cloud has them.",
		 s->parts_evicted},
	};
	memcpy(ret, numbers, sizeof(numbers));
}

static bool is_flag(const struct number *number)
{
	static const char *const flags[] = {"read_only", "damaged", "clone", "copied"};
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (strcmp(number->name, flags[i]) == 0)
			return true;
	return false;
}

MUST_CHECK static int json_identity(struct json_writer *w, const struct engine_stats *stats,
				    uint64_t now_ns)
{
	char uuid[UUID_TEXT_LENGTH + 1], time[UTC_TEXT_SIZE];

	int r = json_name_string(w, "store", uuid_format(&stats->store, uuid));
	if (r == 0)
		r = json_name_uint(w, "node", stats->node);
	if (r == 0)
		r = json_name_string(w, "disk_path", stats->disk_path);
	if (r == 0)
		r = json_name_string(w, "opened", utc_format(stats->opened_ns, time));
	if (r == 0)
		r = json_name_uint(w, "open_seconds", seconds_since(stats->opened_ns, now_ns));
	return r < 0 ? r : json_name_bool(w, "recovered", stats->recovered);
}

int status_as_json(const struct engine_stats *stats, const struct status_growth *growth,
		   const struct cloud_status *cloud, uint64_t now_ns, struct buf *out)
{
	struct json_writer w = {.out = out, .pretty = true};
	struct number numbers[NUMBERS];
	char text[32] = "null";
	double days;

	numbers_of(stats, numbers);
	int r = json_open(&w, JSON_MAP);
	if (r == 0)
		r = json_identity(&w, stats, now_ns);
	for (size_t i = 0; r == 0 && i < NUMBERS; i++)
		r = is_flag(&numbers[i])
			    ? json_name_bool(&w, numbers[i].name, numbers[i].value != 0)
			    : json_name_uint(&w, numbers[i].name, numbers[i].value);
	if (r == 0)
		r = json_name_string(&w, "read_only_reason", stats->read_only_reason);
	if (status_days_left(stats, growth, &days))
		(void)snprintf(text, sizeof(text), "%.1f", days);
	if (r == 0)
		r = json_key(&w, "disk_full_days");
	if (r == 0)
		r = json_text(&w, text);
	if (r == 0)
		r = cloud_status_as_json(cloud, &w);
	if (r == 0)
		r = json_close(&w, JSON_MAP);
	return r < 0 ? r : buf_append_text(out, "\n");
}

int status_as_metrics(const struct engine_stats *stats, const struct status_growth *growth,
		      const struct cloud_status *cloud, struct buf *out)
{
	struct number numbers[NUMBERS];
	double days;
	int r = 0;

	numbers_of(stats, numbers);
	for (size_t i = 0; r == 0 && i < NUMBERS; i++) {
		const struct number *n = &numbers[i];
		const char *suffix = n->kind == COUNTER ? "_total" : "";
		r = buf_printf(
			out,
			"# HELP protofs_%s%s %s\n# TYPE protofs_%s%s %s\nprotofs_%s%s %" PRIu64
			"\n",
			n->name, suffix, n->help, n->name, suffix,
			n->kind == COUNTER ? "counter" : "gauge", n->name, suffix, n->value);
	}
	if (r == 0 && status_days_left(stats, growth, &days))
		r = buf_printf(out,
			       "# HELP protofs_disk_full_days Days until the disk is full at "
			       "today's rate.\n# TYPE protofs_disk_full_days gauge\n"
			       "protofs_disk_full_days %.1f\n",
			       days);
	if (r == 0 && cloud)
		r = cloud_status_as_metrics(cloud, out);
	return r;
}
