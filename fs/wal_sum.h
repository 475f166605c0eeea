/* wal/<uuid>.sum: the sums of a segment's durable bytes, fixed when it is opened. */
#ifndef PROTOFS_FS_WAL_SUM_H
#define PROTOFS_FS_WAL_SUM_H

#include "fs/segment_file.h"

struct wal_sums;
MUST_CHECK int wal_sums_new(struct wal_sums **ret);
void wal_sums_free(struct wal_sums *sums); /* accepts NULL; none is open */

/* Attributes of the .sum of a segment; ENTRY's id is set. */
void wal_sum_attr(struct call *call, const struct engine_segment_info *info, struct entry *entry);

extern const struct view view_wal_sum;

#endif
