/* Reads an open part back: which of its bytes were committed. */
#ifndef PROTOFS_ENGINE_PART_SCAN_H
#define PROTOFS_ENGINE_PART_SCAN_H

#include <stdbool.h>

#include "engine/disk.h"
#include "engine/part_format.h"

struct part_scan {
	/* in */
	struct disk_file *file;
	struct part_geometry geometry;
	struct uuid segment;
	uint64_t start;
	uint64_t limit; /* where the next part starts: entries from there on are ignored; UINT64_MAX none */
	/*
	 * Told of the valid bytes in order, in pieces; a negative return ends the scan with it. May be NULL.
	 */
	int (*bytes)(void *arg, const void *data, size_t size);
	void *arg;
	/* out */
	uint64_t length;    /* valid bytes from the part's start */
	uint32_t entries;   /* valid ones */
	uint32_t epoch;     /* of the last valid one */
	uint64_t last_from; /* where in the part the last valid one begins */
	bool torn;          /* an unacknowledged entry or its data lies behind the valid ones */
	bool damaged;       /* the first invalid entry was acknowledged: a later one exists */
	uint64_t later_end; /* when damaged: bytes of the part that later entries speak of */
	bool copy_damaged;  /* an entry was valid in one copy only, with another one behind it */
};

/* 0 also when torn or damaged; -errno of the disk; -ENOMEM. */
MUST_CHECK int part_scan(struct part_scan *scan);

#endif
