/* Sizes for people: "1.5 MiB". */
#ifndef PROTOFS_FS_SIZE_TEXT_H
#define PROTOFS_FS_SIZE_TEXT_H

#include <stdint.h>

enum { SIZE_TEXT_SIZE = 32 };

/* Returns TEXT. */
const char *size_text(uint64_t bytes, char text[static SIZE_TEXT_SIZE]);

#endif
