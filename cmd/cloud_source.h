/* A store's segments as the uploader sees them: struct segment_source on an engine. */
#ifndef PROTOFS_CMD_CLOUD_SOURCE_H
#define PROTOFS_CMD_CLOUD_SOURCE_H

#include <protofs/segment_source.h>

struct engine;

struct cloud_source {
	struct segment_source source; /* what the uploader gets */
	struct engine *engine;
};

/* ENGINE is borrowed for as long as RET is used. Nothing to release. */
void cloud_source_init(struct cloud_source *ret, struct engine *engine);

#endif
