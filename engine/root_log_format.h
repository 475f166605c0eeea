/*
 * The root log's bytes: the codecs and the names of its files. Nothing here does I/O.
 */
#ifndef PROTOFS_ENGINE_ROOT_LOG_FORMAT_H
#define PROTOFS_ENGINE_ROOT_LOG_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/hash.h"
#include "base/slice.h"
#include "engine/root_log.h"

#define ROOT_LOG_KEPT_PATH ROOT_LOG_DIR "/kept"
#define ROOT_LOG_SPARE_PATH ROOT_LOG_DIR "/spare"

enum {
	ROOT_LOG_VERSION = 1,
	ROOT_LOG_RECORD_SIZE = 1024,
	ROOT_LOG_BLOCK_RECORDS = DISK_BLOCK_SIZE / ROOT_LOG_RECORD_SIZE,
	ROOT_LOG_FILE_RECORDS = 65536,
	ROOT_LOG_FILE_SIZE = ROOT_LOG_FILE_RECORDS * ROOT_LOG_RECORD_SIZE, /* 64 MiB */
	ROOT_LOG_NAME_LENGTH = 20,
	ROOT_LOG_PATH_SIZE = sizeof(ROOT_LOG_DIR) + 1 + ROOT_LOG_NAME_LENGTH,
	ROOT_LOG_KEPT_SIZE = 64,
};

/* No seq is larger, so that sums of seqs cannot overflow. */
#define ROOT_LOG_SEQ_MAX ((uint64_t)1 << 62)

/* PREVIOUS is the hash in the record before, all zero for seq 1. Returns RECORD's own hash. */
struct hash root_log_encode(const struct root_record *record, const struct hash *previous,
			    uint8_t bytes[static ROOT_LOG_RECORD_SIZE]);

/* A placeholder for a record that is lost; STANDS_FOR is the hash that the next record names. */
void root_log_encode_lost(uint64_t seq, uint64_t time_ns, const struct hash *previous,
			  const struct hash *stands_for,
			  uint8_t bytes[static ROOT_LOG_RECORD_SIZE]);

/* A record as it was read. */
struct root_log_entry {
	struct root_record record;
	struct hash previous; /* that it names */
	struct hash self;     /* that the next one names */
	bool lost;            /* only a placeholder, made by repair */
};
/* 0; -ENODATA short; -ENOENT all zero: never written, or cut; -EBADMSG. */
MUST_CHECK int root_log_decode(struct slice in, struct root_log_entry *ret);

/* The file "kept". */
struct root_log_kept {
	uint64_t first;        /* records below it are given up */
	uint64_t acknowledged; /* records up to it were durable when the file was written */
};
void root_log_encode_kept(const struct root_log_kept *kept,
			  uint8_t bytes[static ROOT_LOG_KEPT_SIZE]);
/* 0; -ENODATA short; -EBADMSG. */
MUST_CHECK int root_log_decode_kept(struct slice in, struct root_log_kept *ret);

/* The path of the file that begins with seq FIRST; returns PATH. */
char *root_log_path(uint64_t first, char path[static ROOT_LOG_PATH_SIZE]);
/* The seq that NAME (without directory) stands for. -EINVAL if it is none in its only spelling. */
MUST_CHECK int root_log_parse_name(const char *name, uint64_t *ret);

#endif
