#include "fs/cloud_status.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fs/json_writer.h"
#include "fs/size_text.h"

static const char *const state_names[CLOUD_STATES] = {
	[CLOUD_IDLE] = "idle",       [CLOUD_BUSY] = "busy",           [CLOUD_WAITING] = "waiting",
	[CLOUD_PAUSED] = "paused",   [CLOUD_FENCED] = "fenced",       [CLOUD_FAILED] = "failed",
	[CLOUD_READING] = "reading", [CLOUD_UNMOUNTED] = "unmounted",
};

static const char *const state_texts[CLOUD_STATES] = {
	[CLOUD_IDLE] = "idle: all is there",
	[CLOUD_BUSY] = "busy: uploading",
	[CLOUD_WAITING] =
		"WAITING: it cannot be reached; this mount goes on, and so will the upload",
	[CLOUD_PAUSED] = "PAUSED: it refuses; this mount goes on",
	[CLOUD_FENCED] = "FENCED: another owner writes there; this store is read-only",
	[CLOUD_FAILED] = "FAILED: what is here cannot be uploaded",
	[CLOUD_READING] = "reading only: nothing is uploaded from a read-only mount",
	[CLOUD_UNMOUNTED] = "not mounted: nothing is uploaded",
};

static const char *const request_names[BLOCK_REQUESTS] = {
	[BLOCK_REQUEST_PUT] = "put",       [BLOCK_REQUEST_GET] = "get",
	[BLOCK_REQUEST_HEAD] = "head",     [BLOCK_REQUEST_LIST] = "list",
	[BLOCK_REQUEST_DELETE] = "delete",
};

const char *cloud_state_name(enum cloud_state state)
{
	return state < CLOUD_STATES ? state_names[state] : "?";
}

/* Whether anybody knows how much is not there yet. */
static bool is_measured(const struct cloud_status *status)
{
	return status->state != CLOUD_READING && status->state != CLOUD_UNMOUNTED;
}

/* ---- For people ----------------------------------------------------------------------------- */

/* Of reads, 0 to 1; 0 while there was none. */
static double hit_ratio(const struct cloud_status *status)
{
	uint64_t reads = status->cache_hits + status->cache_misses;
	return reads ? (double)status->cache_hits / (double)reads : 0;
}

MUST_CHECK static int text_behind(const struct cloud_status *status, struct buf *out)
{
	char size[SIZE_TEXT_SIZE];
	if (!is_measured(status))
		return 0;
	return buf_printf(out, "behind     %s, %.1f s\n", size_text(status->bytes_behind, size),
			  (double)status->ms_behind / 1000);
}

MUST_CHECK static int text_uploaded(const struct cloud_status *status, struct buf *out)
{
	char size[SIZE_TEXT_SIZE];

	if (!is_measured(status))
		return 0;
	int r = buf_printf(out,
			   "uploaded   %s in %" PRIu64 " blocks and %" PRIu64 " deltas, %" PRIu64
			   " manifests, since the mount\n",
			   size_text(status->bytes_uploaded, size), status->blocks_uploaded,
			   status->deltas_uploaded, status->manifests);
	if (r == 0)
		r = buf_printf(out, "transfers  %" PRIu64 " now\n", status->in_flight);
	if (r < 0)
		return r;
	if (status->manifest == 0)
		return buf_append_text(out, "newest     no manifest\n");
	r = buf_printf(out, "newest     manifest %" PRIu64, status->manifest);
	if (r < 0)
		return r;
	return status->root_seq ? buf_printf(out, ", root %" PRIu64 "\n", status->root_seq)
				: buf_append_text(out, ", no root\n");
}

MUST_CHECK static int text_requests(const struct cloud_status *status, struct buf *out)
{
	const struct block_store_status *place = &status->place;
	char sent[SIZE_TEXT_SIZE], received[SIZE_TEXT_SIZE];

	int r = buf_append_text(out, "requests  ");
	for (size_t i = 0; r == 0 && i < BLOCK_REQUESTS; i++)
		r = buf_printf(out, "%s %" PRIu64 " %s", i ? "," : "", place->requests[i],
			       request_names[i]);
	if (r < 0)
		return r;
	return buf_printf(out,
			  "; %" PRIu64 " retries, %" PRIu64 " failures; %s sent, %s received\n",
			  place->retries, place->failures, size_text(place->bytes_sent, sent),
			  size_text(place->bytes_received, received));
}

MUST_CHECK static int text_cache(const struct cloud_status *status, struct buf *out)
{
	char bytes[SIZE_TEXT_SIZE], size_max[SIZE_TEXT_SIZE];
	return buf_printf(out,
			  "cache      %.1f %% of %" PRIu64 " reads; %s of %s in %" PRIu64
			  " blocks; %" PRIu64 " read ahead, %" PRIu64 " evicted, %" PRIu64
			  " damaged\n",
			  100 * hit_ratio(status), status->cache_hits + status->cache_misses,
			  size_text(status->cache_bytes, bytes),
			  size_text(status->cache_size_max, size_max), status->cache_blocks,
			  status->cache_read_ahead, status->cache_evictions, status->cache_damaged);
}

/* What is wrong now, the upload's trouble first. NULL: nothing. */
static const struct reterr *trouble(const struct cloud_status *status)
{
	if (status->error.code)
		return &status->error;
	return status->place.last_error.code ? &status->place.last_error : NULL;
}

MUST_CHECK static int text_trouble(const struct cloud_status *status, struct buf *out)
{
	const struct reterr *error = trouble(status);
	const char *name = error ? strerrorname_np(-error->code) : NULL;

	if (!error)
		return buf_append_text(out, "none\n");
	int r = buf_printf(out, "%s: %s", name ? name : "error", error->text);
	if (r == 0 && status->retry_ms)
		r = buf_printf(out, "; next attempt in %.1f s", (double)status->retry_ms / 1000);
	return r < 0 ? r : buf_append_text(out, "\n");
}

int cloud_status_as_text(const struct cloud_status *status, struct buf *out)
{
	int r = buf_printf(out, "cloud      %s (%s)\nstate      %s\n", status->url,
			   status->place.place ? status->place.place : "?",
			   status->state < CLOUD_STATES ? state_texts[status->state] : "?");
	if (r == 0)
		r = text_behind(status, out);
	if (r == 0)
		r = text_uploaded(status, out);
	if (r == 0)
		r = buf_printf(out, "fsync      waits for %s\n",
			       strcmp(status->durability, "cloud") == 0 ? "the cloud"
									: "the local disk");
	if (r == 0)
		r = buf_printf(out, "writers    a second one is %s\n",
			       status->conditional
				       ? "refused by the place itself"
				       : "noticed before each round, but not refused by the place");
	if (r == 0)
		r = text_requests(status, out);
	if (r == 0)
		r = text_cache(status, out);
	if (r == 0)
		r = buf_append_text(out, "error      ");
	return r < 0 ? r : text_trouble(status, out);
}

int cloud_status_as_summary(const struct cloud_status *status, struct buf *out)
{
	char size[SIZE_TEXT_SIZE];

	int r = buf_printf(out, "cloud      %s, %s", status->url, cloud_state_name(status->state));
	if (r == 0 && is_measured(status))
		r = buf_printf(out, ", behind by %s and %.1f s",
			       size_text(status->bytes_behind, size),
			       (double)status->ms_behind / 1000);
	return r < 0 ? r : buf_append_text(out, trouble(status) ? " (see .ctl/upload)\n" : "\n");
}

int cloud_status_as_error(const struct cloud_status *status, struct buf *out)
{
	if (!trouble(status))
		return 0;
	int r = buf_printf(out, "now, cloud %s: ", cloud_state_name(status->state));
	return r < 0 ? r : text_trouble(status, out);
}

/* ---- Numbers: JSON and Prometheus say the same ---------------------------------------------- */

struct number {
	const char *name;
	bool counter;
	const char *help;
	uint64_t value;
};

enum { NUMBERS = 20 };

static void numbers_of(const struct cloud_status *s, struct number ret[static NUMBERS])
{
	const struct number numbers[NUMBERS] = {
		{"bytes_behind", false, "Bytes durable here and not yet there.", s->bytes_behind},
		{"bytes_uploaded", true, "Bytes of blocks and deltas uploaded.", s->bytes_uploaded},
		{"blocks_uploaded", true, "Blocks uploaded.", s->blocks_uploaded},
		{"deltas_uploaded", true, "Deltas uploaded.", s->deltas_uploaded},
		{"manifests", true, "Manifests uploaded.", s->manifests},
		{"manifest", false, "Number of the newest manifest.", s->manifest},
		{"root_seq", false, "The newest root that is there.", s->root_seq},
		{"in_flight", false, "Transfers now.", s->in_flight},
		{"bytes_sent", true, "Bytes of bodies sent.", s->place.bytes_sent},
		{"bytes_received", true, "Bytes of bodies received.", s->place.bytes_received},
		{"retries", true, "Attempts after the first.", s->place.retries},
		{"failures", true, "Attempts that failed.", s->place.failures},
		{"cache_hits", true, "Reads that the cache of blocks answered.", s->cache_hits},
		{"cache_misses", true, "Reads that went to the place.", s->cache_misses},
		{"cache_evictions", true, "Blocks that left the cache.", s->cache_evictions},
		{"cache_damaged", true, "Blocks of the cache that were damaged.", s->cache_damaged},
		{"cache_blocks", false, "Blocks in the cache.", s->cache_blocks},
		{"cache_bytes", false, "Bytes of the cache.", s->cache_bytes},
		{"cache_size_max", false, "What the cache may take.", s->cache_size_max},
		{"cache_read_ahead", true, "Blocks fetched before they were asked for.",
		 s->cache_read_ahead},
	};
	memcpy(ret, numbers, sizeof(numbers));
}

/* JSON numbers with a fraction, which the writer takes as text. */
MUST_CHECK static int json_name_seconds(struct json_writer *w, const char *name, uint64_t ms)
{
	char text[32];
	(void)snprintf(text, sizeof(text), "%" PRIu64 ".%03u", ms / 1000, (unsigned)(ms % 1000));
	int r = json_key(w, name);
	return r < 0 ? r : json_text(w, text);
}

MUST_CHECK static int json_requests(const struct cloud_status *status, struct json_writer *w)
{
	int r = json_key(w, "requests");
	if (r == 0)
		r = json_open(w, JSON_MAP);
	for (size_t i = 0; r == 0 && i < BLOCK_REQUESTS; i++)
		r = json_name_uint(w, request_names[i], status->place.requests[i]);
	return r < 0 ? r : json_close(w, JSON_MAP);
}

MUST_CHECK static int json_error(const struct cloud_status *status, struct json_writer *w)
{
	const struct reterr *error = trouble(status);
	const char *name = error ? strerrorname_np(-error->code) : NULL;

	int r = json_key(w, "error");
	if (r < 0 || !error)
		return r < 0 ? r : json_text(w, "null");
	r = json_open(w, JSON_MAP);
	if (r == 0)
		r = json_name_string(w, "code", name ? name : "");
	if (r == 0)
		r = json_name_string(w, "text", error->text);
	return r < 0 ? r : json_close(w, JSON_MAP);
}

int cloud_status_as_json(const struct cloud_status *status, struct json_writer *w)
{
	struct number numbers[NUMBERS];

	int r = json_key(w, "cloud");
	if (r < 0 || !status)
		return r < 0 ? r : json_text(w, "null");
	numbers_of(status, numbers);
	r = json_open(w, JSON_MAP);
	if (r == 0)
		r = json_name_string(w, "url", status->url);
	if (r == 0)
		r = json_name_string(w, "place", status->place.place ? status->place.place : "");
	if (r == 0)
		r = json_name_string(w, "state", cloud_state_name(status->state));
	if (r == 0)
		r = json_name_string(w, "durability", status->durability);
	if (r == 0)
		r = json_name_bool(w, "conditional", status->conditional);
	if (r == 0)
		r = json_name_seconds(w, "seconds_behind", status->ms_behind);
	if (r == 0)
		r = json_name_seconds(w, "retry_seconds", status->retry_ms);
	for (size_t i = 0; r == 0 && i < NUMBERS; i++)
		r = json_name_uint(w, numbers[i].name, numbers[i].value);
	if (r == 0)
		r = json_requests(status, w);
	if (r == 0)
		r = json_error(status, w);
	return r < 0 ? r : json_close(w, JSON_MAP);
}

/* ---- Prometheus ----------------------------------------------------------------------------- */

MUST_CHECK static int metric_head(const char *name, bool counter, const char *help, struct buf *out)
{
	const char *suffix = counter ? "_total" : "";
	return buf_printf(out, "# HELP protofs_cloud_%s%s %s\n# TYPE protofs_cloud_%s%s %s\n", name,
			  suffix, help, name, suffix, counter ? "counter" : "gauge");
}

MUST_CHECK static int metric_seconds(const struct cloud_status *status, struct buf *out)
{
	int r = metric_head("seconds_behind", false, "Age of the oldest byte that is not there.",
			    out);
	return r < 0 ? r
		     : buf_printf(out, "protofs_cloud_seconds_behind %.3f\n",
				  (double)status->ms_behind / 1000);
}

int cloud_status_as_metrics(const struct cloud_status *status, struct buf *out)
{
	struct number numbers[NUMBERS];

	numbers_of(status, numbers);
	int r = metric_seconds(status, out);
	for (size_t i = 0; r == 0 && i < NUMBERS; i++) {
		const struct number *n = &numbers[i];
		r = metric_head(n->name, n->counter, n->help, out);
		if (r == 0)
			r = buf_printf(out, "protofs_cloud_%s%s %" PRIu64 "\n", n->name,
				       n->counter ? "_total" : "", n->value);
	}
	if (r == 0)
		r = metric_head("requests", true, "Requests by kind: they cost money.", out);
	for (size_t i = 0; r == 0 && i < BLOCK_REQUESTS; i++)
		r = buf_printf(out, "protofs_cloud_requests_total{kind=\"%s\"} %" PRIu64 "\n",
			       request_names[i], status->place.requests[i]);
	if (r == 0)
		r = metric_head("state", false, "1 for the state that the upload is in.", out);
	for (size_t i = 0; r == 0 && i < CLOUD_STATES; i++)
		r = buf_printf(out, "protofs_cloud_state{state=\"%s\"} %d\n", state_names[i],
			       status->state == i);
	return r;
}
