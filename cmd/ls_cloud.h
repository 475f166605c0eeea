/* `protofs ls WHERE cloud`: the objects of a store's cloud. */
#ifndef PROTOFS_CMD_LS_CLOUD_H
#define PROTOFS_CMD_LS_CLOUD_H

#include "base/attr.h"

struct print;

/* Prints them in the order of their keys; returns an exit code, and has logged what went wrong. */
MUST_CHECK int ls_cloud(const char *where, struct print *print);

#endif
