/* What /proc says about the callers of the mount. */
#ifndef PROTOFS_FS_PROCESS_H
#define PROTOFS_FS_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/attr.h"

/* The thread group of the thread TID. -ESRCH: it is gone, or not visible from here. */
MUST_CHECK int process_of_thread(pid_t tid, pid_t *ret);

/* Whether TID is being killed (SIGKILL is pending). False if it cannot be seen. */
bool process_is_dying(pid_t tid);

#endif
