/*
 * Memory for secrets: pages of their own that no core dump holds and, where the limit of locked memory
 * allows, that are not swapped out. Wiped when they are freed.
 */
#ifndef PROTOFS_CLOUD_S3_SECRET_H
#define PROTOFS_CLOUD_S3_SECRET_H

#include <stddef.h>

/* Zeroed; NULL without memory. */
void *s3_secret_alloc(size_t size);
/* SIZE as it was allocated; accepts NULL. */
void s3_secret_free(void *data, size_t size);
/* Overwrites what calls that have returned left on this thread's stack. */
void s3_secret_wipe_stack(void);

#endif
