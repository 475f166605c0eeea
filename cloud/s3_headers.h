/*
 * What an S3 reply's header says, as far as we want to know it. Lines come as the transport hands them
 * over, from whoever answers: hostile input. A line that makes no sense is passed over; what needs it
 * then misses it.
 */
#ifndef PROTOFS_CLOUD_S3_HEADERS_H
#define PROTOFS_CLOUD_S3_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protofs/block_store.h>

#include "base/hash.h"

enum {
	S3_REGION_SIZE = 40,
	S3_REQUEST_ID_SIZE = 96,
	S3_LOCATION_SIZE = 128,
	S3_RETRY_AFTER_MAX_S = 300, /* longer wishes are this long */
};

struct s3_headers {
	unsigned status; /* 0: no status line yet */
	bool has_length, chunked, has_range;
	uint64_t length;                  /* Content-Length */
	uint64_t range_first, range_last; /* Content-Range */
	uint64_t range_total;             /* UINT64_MAX: not said */
	uint64_t date_s;                  /* since 1970; 0: not said, as below */
	uint64_t modified_s;
	uint64_t retry_after_s; /* Retry-After as a number */
	uint64_t retry_at_s;    /* or as a date */
	bool has_hash;          /* x-amz-meta-xxh3 */
	struct hash hash;
	uint64_t first_frame;        /* x-amz-meta-first-frame, or BLOCK_NO_FRAME */
	char etag[BLOCK_ETAG_SIZE];  /* without quotes */
	bool etag_opaque;            /* encrypted so that the ETag is no sum of the bytes */
	char region[S3_REGION_SIZE]; /* x-amz-bucket-region, if it can be one */
	char request_id[S3_REQUEST_ID_SIZE];
	char location[S3_LOCATION_SIZE]; /* where a redirect points, to be shown */
};

void s3_headers_init(struct s3_headers *headers);

/*
 * One line, with or without its line end. A status line begins anew: what came before belonged to an
 * interim reply.
 */
void s3_headers_line(struct s3_headers *headers, const char *line, size_t size);

/* What Retry-After asks for, from now on; 0 nothing. NOW_S counts if the reply has no date. */
uint64_t s3_headers_retry_after_ms(const struct s3_headers *headers, uint64_t now_s);

/* Whether the ETag is the MD5 of the bytes, in hex, as far as the header tells. */
bool s3_headers_etag_is_md5(const struct s3_headers *headers);

/* Lower-case letters, digits and dashes, not too long: what may become part of a host name. */
bool s3_region_valid(const char *region);

#endif
